"""What solves the same problem: ours, the floor, and what people would use today."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import scipy.linalg
import scipy.sparse.linalg
from jax import Array

import fsd_jax as fsd

OURS, FLOOR = "fsd_jax", "numpy gram (floor)"
Solution = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Data, the number of directions, and how long timing may take."""

    name: str
    x: np.ndarray
    d: int
    seconds: float


def _ours(x: Array, d: int) -> Solution:
    moment = fsd.SecondMoment.from_samples(x, rank=d)
    found = fsd.rank_minimizer(moment, latent_variance=1.0, latent_dim=d, time=0.5)
    return moment.values, jax.block_until_ready(found.basis)  # type: ignore[return-value]


def _numpy_gram(x: np.ndarray, d: int) -> Solution:
    """The floor: what any route through the smaller side must do, unchecked."""
    n, ambient = x.shape
    if n <= ambient:
        values, vectors = np.linalg.eigh(x @ x.T)
        top = slice(None, -d - 1, -1)
        return values[top] / n, x.T @ (vectors[:, top] / np.sqrt(np.maximum(values[top], 1e-30)))
    values, vectors = np.linalg.eigh(x.T @ x)
    return values[: -d - 1 : -1] / n, vectors[:, : -d - 1 : -1]


def _scipy_eigh(x: np.ndarray, d: int) -> Solution:
    n, ambient = x.shape
    side = min(n, ambient)
    gram = x @ x.T if n <= ambient else x.T @ x
    values, vectors = scipy.linalg.eigh(gram, subset_by_index=(side - d, side - 1))
    values, vectors = values[::-1], vectors[:, ::-1]
    if n <= ambient:
        vectors = x.T @ (vectors / np.sqrt(np.maximum(values, 1e-30)))
    return values / n, vectors


def _arpack(x: np.ndarray, d: int, tol: float) -> Solution:
    v0 = np.ones(min(x.shape), x.dtype)
    _, s, vt = scipy.sparse.linalg.svds(x, k=d, tol=tol, v0=v0)
    order = np.argsort(-s)
    return s[order] ** 2 / x.shape[0], vt[order].T


def _sklearn(x: np.ndarray, d: int, solver: str, **options: Any) -> Solution:
    from sklearn.decomposition import PCA

    pca = PCA(d, svd_solver=solver, random_state=0, **options).fit(x)
    return pca.explained_variance_ * (x.shape[0] - 1) / x.shape[0], pca.components_.T


def methods_for(problem: Problem) -> dict[str, tuple[Callable[[], Solution], bool]]:
    """Name -> (function, whether it centres). Peers with knobs appear at several settings."""
    x, d = problem.x, problem.d
    n, ambient = x.shape
    side = min(n, ambient)
    on_device = jax.device_put(x)
    methods: dict[str, tuple[Callable[[], Solution], bool]] = {
        OURS: (lambda: _ours(on_device, d), False),
        FLOOR: (lambda: _numpy_gram(x, d), False),
        "scipy eigh of gram": (lambda: _scipy_eigh(x, d), False),
        "scikit-learn full": (lambda: _sklearn(x, d, "full"), True),
    }
    if side > d + 1:
        methods["scipy svds (arpack) tol=0"] = (lambda: _arpack(x, d, 0.0), False)
        methods["scipy svds (arpack) tol=1e-4"] = (lambda: _arpack(x, d, 1e-4), False)
        methods["scikit-learn arpack"] = (lambda: _sklearn(x, d, "arpack"), True)
    if n >= ambient:
        methods["scikit-learn covariance_eigh"] = (
            lambda: _sklearn(x, d, "covariance_eigh"),
            True,
        )
    for power, extra in ((4, 10), (7, 10)):
        options = {"iterated_power": power, "n_oversamples": extra}
        methods[f"scikit-learn randomized q={power} p={extra}"] = (
            lambda options=options: _sklearn(x, d, "randomized", **options),  # type: ignore[misc]
            True,
        )
    return methods | _torch_methods(x, d)


def _torch_methods(x: np.ndarray, d: int) -> dict[str, tuple[Callable[[], Solution], bool]]:
    try:
        import torch
    except ImportError:
        return {}
    tensor = torch.from_numpy(x)

    def solve(q: int, steps: int) -> Solution:
        torch.manual_seed(0)
        _, s, v = torch.pca_lowrank(tensor, q=q, center=False, niter=steps)
        return (s[:d] ** 2 / x.shape[0]).numpy(), v[:, :d].numpy()

    sizes = sorted({min(q, *x.shape) for q in (d + 6, 2 * d)})
    return {
        f"torch pca_lowrank q={q} niter={steps}": (
            lambda q=q, steps=steps: solve(q, steps),  # type: ignore[misc]
            False,
        )
        for q, steps in itertools.product(sizes, (3, 5))
    }


def truth_of(x: np.ndarray, d: int, centred: bool) -> Solution:
    """float64 eigenpairs by the smaller side's Gram matrix, or ARPACK where that is too large."""
    wide = x.astype(np.float64)
    if centred:
        wide -= wide.mean(axis=0)
    if min(x.shape) > 2000:
        return _arpack(wide, d, 0.0)
    if x.shape[0] <= x.shape[1]:
        _, s, vt = scipy.linalg.svd(wide, full_matrices=False)
        return s[:d] ** 2 / x.shape[0], vt[:d].T
    return _scipy_eigh(wide, d)
