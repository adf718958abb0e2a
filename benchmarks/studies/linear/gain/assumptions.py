"""What each assumption is worth: nine estimators where one assumption is changed at a time.

Second moments are drawn from their exact law (Bartlett), so a million source samples cost no more
than a hundred; every cell and replicate goes through one compiled program.
"""

import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import fsd_jax as fsd
from benchmarks.records import Record, record
from benchmarks.studies.linear.linear_rates import BASE
from benchmarks.study import Settings, Work, mean
from fsd_jax import theory
from fsd_jax.fewshot.fit import complete
from fsd_jax.simulate import bartlett_factor

D = 40
LATENT_DIM, TIME = BASE["d"], BASE["t"]
NODES = 12
"""Quadrature nodes in log t; 64 change no error by more than a thousandth."""
SPREAD = 4.0
AT_T, INTEGRATED = "score_error", "integrated_score_error"
SCRATCH, SCRATCH_D = "scratch, full plug-in", "scratch, rank d"
RANK_T, RANK_INT = "rank-d, fitted at t", "rank-d, integrated"
ORTHONORMAL = "orthonormal, not completed"
COMPLETED = "orthonormal, completed"
PAIRED = "orthonormal, completed, paired variances"
SOURCE = "source as is"
SOURCE_EACH = "source as is, own variances"
METHODS = (
    SCRATCH,
    SCRATCH_D,
    RANK_T,
    RANK_INT,
    ORTHONORMAL,
    COMPLETED,
    PAIRED,
    SOURCE,
    SOURCE_EACH,
)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line of the figure: everything but ``n_ta``.

    Attributes:
        n_s: source samples.
        diagonal: latent variances from 4 to 1/4 instead of 1.
        tau: standard deviation of the residual noise.
        model: whether estimators may model that noise with a residual gain.
        angle: principal angle between the subspaces in radians, None for unrelated ones.
    """

    n_s: int = 10_000
    diagonal: bool = False
    tau: float = 0.0
    model: bool = True
    angle: float | None = None

    @property
    def name(self) -> str:
        latent = "diagonal" if self.diagonal else "isotropic"
        noise = f"tau {self.tau:g}, {'' if self.model else 'not '}modelled" if self.tau else "exact"
        angle = "unrelated" if self.angle is None else f"angle {self.angle:g}"
        return f"{latent}, {noise}, n_s {self.n_s:.0e}, {angle}".replace("e+0", "e")

    @property
    def variances(self) -> np.ndarray:
        if not self.diagonal:
            return np.ones(LATENT_DIM)
        return np.geomspace(SPREAD, 1 / SPREAD, LATENT_DIM)


def settings(size: str) -> Settings:
    """The curves and their points."""
    powers = [2**k for k in range(13)]
    return {
        "curves": [asdict(curve) for curve in _curves(size)],
        "curve_n_ta": [2, 8, 64] if size == "quick" else powers,
        "curve_replicates": {"quick": 16, "default": 40, "full": 400}[size],
        "nodes": NODES,
        "spread": SPREAD,
    }


def compute(s: Settings, work: Work) -> Iterator[Record]:
    """Mean and standard error of both score errors for every estimator in every cell."""
    # The same streams in every cell: comparisons between cells are paired.
    keys = jax.random.split(jax.random.key(work.seed), s["curve_replicates"])
    for curve in (Curve(**given) for given in s["curves"]):
        for n in s["curve_n_ta"]:
            work.tell(f"{curve.name} n_ta={n}")
            errors = {k: np.asarray(v) for k, v in _cell(keys, n, *_arrays(curve)).items()}
            yield from _summaries(curve, n, errors)


def _curves(size: str) -> list[Curve]:
    base = Curve()
    if size == "quick":
        return [base]
    if size == "full":
        product = itertools.product(
            (100, 10_000, 1_000_000),
            (False, True),
            ((0.0, True), (0.2, True), (0.2, False)),
            (None, 0.0, 0.1, 0.3, 1.0),
        )
        return [
            Curve(n_s=n, diagonal=diagonal, tau=tau, model=model, angle=angle)
            for n, diagonal, (tau, model), angle in product
        ]
    return [
        base,
        *(replace(base, n_s=n) for n in (100, 1_000_000)),
        *(replace(base, angle=angle) for angle in (0.0, 0.1, 0.3, 1.0)),
        replace(base, diagonal=True),
        *(replace(base, tau=0.2, model=model) for model in (True, False)),
    ]


def _arrays(curve: Curve) -> tuple[Array, ...]:
    unrelated = curve.angle is None
    values = (curve.n_s, curve.variances, curve.tau**2, curve.model, curve.angle or 0.0, unrelated)
    return tuple(jnp.asarray(value) for value in values)


@jax.jit
def _cell(keys: Array, n_ta: Array, *curve: Array) -> dict[str, Array]:
    """``(replicates, 2)`` errors, at `TIME` and integrated, for each method."""
    # One replicate after another: XLA's CPU thread pool can hang on several independent batches of
    # LAPACK calls in one program.
    return jax.lax.map(lambda key: _replicate(key, n_ta, *curve), keys)


def _replicate(
    key: Array,
    n_ta: Array,
    n_s: Array,
    variances: Array,
    tau2: Array,
    model: Array,
    angle: Array,
    unrelated: Array,
) -> dict[str, Array]:
    source_key, target_key, frame_key = jax.random.split(key, 3)
    frame = jnp.where(unrelated, jax.random.orthogonal(frame_key, D), _turned(angle))
    problem = fsd.LinearProblem(
        A_s=jnp.eye(D, LATENT_DIM),
        A_ta=frame[:, :LATENT_DIM],
        latent=fsd.GaussianLatent(variance=variances),
        residual_variance=tau2,
        mean_s=jnp.zeros(D),
        mean_ta=jnp.zeros(D),
    )
    spectrum = jnp.pad(variances, (0, D - LATENT_DIM)) + tau2
    source = _moment(source_key, n_s, spectrum, jnp.eye(D))
    target = _moment(target_key, n_ta, spectrum, frame)
    nodes, weights = fsd.VP().quadrature(nodes=NODES)
    scores = _estimators(source, target, model, nodes, weights)

    def errors(score: fsd.LinearScore) -> Array:
        whole = fsd.score_error(score, problem, times=nodes, weights=weights)
        return jnp.stack([fsd.score_error(score, problem, time=TIME), whole])

    return {name: errors(score) for name, score in scores.items()}


def _turned(angle: Array) -> Array:
    """A frame whose first d directions make this angle with the first d axes."""
    i = jnp.arange(LATENT_DIM)
    j = i + LATENT_DIM
    frame = jnp.eye(D).at[i, i].set(jnp.cos(angle)).at[j, j].set(jnp.cos(angle))
    return frame.at[j, i].set(jnp.sin(angle)).at[i, j].set(-jnp.sin(angle))


def _moment(key: Array, n: Array, spectrum: Array, frame: Array) -> fsd.SecondMoment:
    """Second moment of n samples, from D rows that stand for them."""
    rows = bartlett_factor(key, n, D) * jnp.sqrt(D / n)
    return fsd.SecondMoment.from_samples(
        (rows * jnp.sqrt(spectrum)) @ frame.T, route="svd", throw=False
    )


def _estimators(
    source: fsd.SecondMoment, target: fsd.SecondMoment, model: Array, nodes: Array, weights: Array
) -> dict[str, fsd.LinearScore]:
    d = LATENT_DIM
    fit = partial(fsd.pretrain, source, latent_dim=d, throw=False)
    one, each = fit(isotropic=True), fit()
    tau2 = jnp.where(model, one.residual_variance, 0)
    lam2 = one.latent_variance[0]
    score = partial(fsd.LinearScore.from_minimizer, residual_variance=tau2)
    rank_d = partial(fsd.rank_minimizer, target, latent_variance=lam2, latent_dim=d, throw=False)
    found = fsd.orthonormal_minimizer(target, latent_dim=d, throw=False)
    filled = complete(found, one.basis, one.latent_variance)
    as_is = replace(found, basis=one.basis, gains=jnp.ones(d))
    discarded = jnp.clip(target.total - jnp.sum(target.values[:d]), 0) / (D - d)
    return {
        SCRATCH: _plug_in(target, D, jnp.zeros(())),
        SCRATCH_D: _plug_in(target, d, jnp.where(model, discarded, 0)),
        RANK_T: score(rank_d(time=TIME), latent_variance=lam2),
        RANK_INT: score(rank_d(times=nodes, weights=weights), latent_variance=lam2),
        ORTHONORMAL: score(found, latent_variance=lam2),
        COMPLETED: score(filled, latent_variance=lam2),
        PAIRED: score(filled, latent_variance=each.latent_variance),
        SOURCE: score(as_is, latent_variance=lam2),
        SOURCE_EACH: score(as_is, latent_variance=each.latent_variance),
    }


def _plug_in(target: fsd.SecondMoment, k: int, residual: Array) -> fsd.LinearScore:
    """The score of the target's own top k eigenpairs."""
    values = target.values[:k]
    alive = values > 0
    found = fsd.Minimizer(
        basis=target.basis[:, :k],
        gains=alive.astype(values.dtype),
        rank=jnp.sum(alive).astype(jnp.int32),
        status=target.status,
    )
    return fsd.LinearScore.from_minimizer(
        found, latent_variance=jnp.where(alive, values, 1.0), residual_variance=residual
    )


def _summaries(curve: Curve, n: int, errors: dict[str, np.ndarray]) -> Iterator[Record]:
    nodes, weights = fsd.VP().quadrature(nodes=NODES)
    whens: dict[str, dict[str, Any]] = {
        AT_T: {"time": TIME},
        INTEGRATED: {"times": nodes, "weights": weights},
    }
    for name, (column, (metric, when)) in itertools.product(METHODS, enumerate(whens.items())):
        values = errors[name][:, column]
        exact = _exact(curve, n, name, when) if metric == AT_T or name != RANK_T else None
        yield record(
            curve.name,
            **mean(values),
            method=name,
            metric=metric,
            exact=exact,
            n_ta=n,
            n_s=curve.n_s,
            d=LATENT_DIM,
            D=D,
            t=TIME if metric == AT_T else None,
            latent="diagonal" if curve.diagonal else "isotropic",
            tau=curve.tau,
            residual_model=curve.model,
            angle=curve.angle,
            replicates=len(values),
        )


def _exact(curve: Curve, n: int, name: str, when: dict[str, Any]) -> float | None:
    """The expectation, where theory knows it."""
    if curve.diagonal or curve.tau:
        return None
    estimator = {
        SCRATCH: "scratch",
        SCRATCH_D: "scratch",
        RANK_T: "scratch",
        ORTHONORMAL: "orthonormal",
    }.get(name)
    if name == COMPLETED and n >= LATENT_DIM:
        estimator = "orthonormal"
    if estimator is None:
        return None
    return theory.expected_score_error(
        latent_dim=LATENT_DIM,
        n_ta=n,
        latent_variance=1.0,
        n_s=curve.n_s,
        estimator=estimator,
        **when,
    )
