"""The sweep over few-shot errors: which program draws a cell, and which cells share its draws."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key

from fsd_jax import _checks
from fsd_jax.simulate import replicate, sampled
from fsd_jax.simulate.inputs import METHODS, METRICS, Errors
from fsd_jax.sweep.grid import Group, Plan, check_axis


@dataclass(frozen=True, kw_only=True)
class WithoutNoise:
    """Blocks of `simulate.block_errors`: any sample sizes share the compilation."""

    latent_dim: int
    methods: tuple[str, ...]
    metrics: tuple[str, ...]

    @property
    def block(self) -> int:
        """Replicates of one call."""
        return replicate.BLOCK

    def __call__(
        self, key: Key[Array, ""], n_ta: Array, n_s: Array, times: Array, variance: Array
    ) -> Float[Array, "rows block"]:
        """All cells of a group from one set of draws."""
        found = replicate.block_errors(
            key, n_ta, n_s, times, variance,
            latent_dim=self.latent_dim, methods=self.methods, metrics=self.metrics,
        )  # fmt: skip
        return _rows(found)


@dataclass(frozen=True, kw_only=True)
class WithNoise:
    """Blocks of `simulate.sampled_errors`: sizes up to the next power of two share it."""

    latent_dim: int
    ambient_dim: int
    rows: int
    perfect_source: bool
    methods: tuple[str, ...]
    metrics: tuple[str, ...]

    @property
    def block(self) -> int:
        """Replicates of one call."""
        return sampled.SAMPLED_BLOCK

    def __call__(
        self, key: Key[Array, ""], n_ta: Array, n_s: Array, times: Array, variance: Array,
        tau: Array,
    ) -> Float[Array, "rows block"]:  # fmt: skip
        """All cells of a group from one set of draws."""
        variances = jnp.broadcast_to(variance[:, None], (len(variance), self.latent_dim))
        found = sampled.sampled_errors(
            key, n_ta, n_s, times, variances, tau**2,
            rows=self.rows, ambient_dim=self.ambient_dim, perfect_source=self.perfect_source,
            methods=self.methods, metrics=self.metrics,
        )  # fmt: skip
        return _rows(found)


def _rows(found: Errors) -> Float[Array, "rows block"]:
    """Points slowest, then methods and metrics: the grid's order within a group."""
    stacked = jnp.stack(list(found.values()), axis=1)
    return stacked.reshape(-1, stacked.shape[-1])


def plan_errors(
    *,
    n_ta: Sequence[int],
    n_s: Sequence[int | None] = (None,),
    d: Sequence[int],
    t: Sequence[float],
    D: Sequence[int | None] = (None,),
    latent_variance: Sequence[float] = (1.0,),
    tau: Sequence[float] = (0.0,),
    method: Sequence[str] = ("rank",),
    metric: Sequence[str] = ("subspace_error",),
    replicates: int = 1000,
    seed: int = 0,
    dtype: DTypeLike | None = None,
) -> Plan:
    """Plan a sweep of errors over a full grid; `sweep.run` does it.

    Cells that differ in ``t``, ``latent_variance``, ``method`` or ``metric`` only share their
    draws, so that differences between them are far more exact than each mean.

    Args:
        n_ta: numbers of target samples.
        n_s: numbers of source samples; None is a perfect source.
        d: latent dimensions.
        t: values of the SDE's ``t``.
        D: ambient dimensions; they matter only where ``tau > 0``.
        latent_variance: values of ``lambda^2``.
        tau: standard deviations of the residual noise.
        method: ``"rank"``, ``"integrated"``, ``"orthonormal"``, see `simulate.errors`.
        metric: ``"subspace_error"``, ``"score_error"``, ``"loss_gap"``, ``"kl"``.
        replicates: replicates of each cell.
        seed: base seed.
        dtype: of the draws, see `simulate.errors`; None is JAX's default.

    Returns:
        The plan.

    Raises:
        ValueError: values out of range, or noise without an ambient dimension above ``d``.

    Example:
        >>> from fsd_jax import sweep
        >>> plan = sweep.plan_errors(n_ta=[4, 8], d=[4], t=[0.1, 1.0], n_s=[100, None])
        >>> len(plan.cells), len(plan.groups), plan.compilations
        (8, 4, 1)
    """
    axes: dict[str, Sequence[Any]] = {
        "n_ta": n_ta, "n_s": n_s, "d": d, "D": D, "t": t, "latent_variance": latent_variance,
        "tau": tau, "method": method, "metric": metric,
    }  # fmt: skip
    _check(axes)
    replicates = _checks.dimension("replicates", replicates)
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    cells: list[dict[str, Any]] = []
    members: dict[tuple[Any, ...], list[int]] = {}
    for values in itertools.product(*axes.values()):
        cell = dict(zip(axes, values, strict=True))
        if cell["tau"] == 0:
            if cell["D"] != D[0]:
                continue
            cell["D"] = None
        shared = tuple(cell[name] for name in ("n_ta", "n_s", "d", "D", "tau"))
        members.setdefault(shared, []).append(len(cells))
        cells.append(cell)
    floating = jnp.zeros((), dtype).dtype
    points = np.asarray(list(itertools.product(t, latent_variance)), floating)
    groups = [
        _group(shared, tuple(places), points, tuple(method), tuple(metric))
        for shared, places in members.items()
    ]
    recorded = {name: list(values) for name, values in axes.items()}
    return Plan(
        axes=recorded,
        cells=cells,
        groups=groups,
        seed=seed,
        replicates=replicates,
        dtype=str(floating),
    )


def _check(axes: dict[str, Sequence[Any]]) -> None:
    for name, values in axes.items():
        check_axis(name, values)
        for value in values:
            if name in ("n_ta", "d") or (name in ("n_s", "D") and value is not None):
                _checks.dimension(name, value)
            elif name in ("t", "latent_variance", "tau"):
                _checks.positive(name, value, np.float64, ndim=(0,), zero=name == "tau")
    for value in axes["method"]:
        _checks.choice("method", value, METHODS)
    for value in axes["metric"]:
        _checks.choice("metric", value, METRICS)
    if any(value > 0 for value in axes["tau"]):
        for dim in axes["D"]:
            if dim is None or dim <= max(axes["d"]):
                raise ValueError(
                    f"tau > 0 needs ambient dimensions D above every d, got D = {dim}; without "
                    "noise no error depends on D"
                )


def _group(
    shared: tuple[Any, ...],
    places: tuple[int, ...],
    points: np.ndarray,
    methods: tuple[str, ...],
    metrics: tuple[str, ...],
) -> Group:
    n_ta, n_s, d, ambient, tau = shared
    dtype = points.dtype
    source = np.inf if n_s is None else n_s
    t, variance = points.T
    arguments = [np.asarray(n_ta, dtype), np.asarray(source, dtype), t, variance]
    identity = json.dumps(shared)
    if tau == 0:
        program: Any = WithoutNoise(latent_dim=d, methods=methods, metrics=metrics)
    else:
        program = WithNoise(
            latent_dim=d,
            ambient_dim=ambient,
            rows=sampled.padded_rows(n_ta, ambient),
            perfect_source=n_s is None,
            methods=methods,
            metrics=metrics,
        )
        arguments.append(np.asarray(tau, dtype))
    return Group(identity=identity, cells=places, program=program, arguments=tuple(arguments))
