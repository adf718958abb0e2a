"""The sweep over few-shot errors: which program draws a cell, and which cells share its draws."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key

from fsd_jax import _checks
from fsd_jax.simulate import _replicate, _sampled
from fsd_jax.simulate._inputs import METHODS, METRICS, Errors, draw_dtype
from fsd_jax.sweep import Plan, plan
from fsd_jax.sweep._plan import axis, check_number_of_cells, number, size, word


@dataclass(frozen=True, kw_only=True)
class WithoutNoise:
    """Blocks of `simulate.block_errors`: any sample sizes share the compilation."""

    latent_dim: int
    methods: tuple[str, ...]
    metrics: tuple[str, ...]

    @property
    def block(self) -> int:
        """Replicates of one call."""
        return _replicate.BLOCK

    def __call__(
        self, key: Key[Array, ""], n_ta: Array, n_s: Array, times: Array, variance: Array
    ) -> Float[Array, "rows block"]:
        """All cells of a group from one set of draws."""
        found = _replicate.block_errors(
            key,
            n_ta,
            n_s,
            times,
            variance,
            latent_dim=self.latent_dim,
            methods=self.methods,
            metrics=self.metrics,
        )
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
        return _sampled.SAMPLED_BLOCK

    def __call__(
        self,
        key: Key[Array, ""],
        n_ta: Array,
        n_s: Array,
        times: Array,
        variance: Array,
        tau: Array,
    ) -> Float[Array, "rows block"]:
        """All cells of a group from one set of draws."""
        variances = jnp.broadcast_to(variance[:, None], (len(variance), self.latent_dim))
        found = _sampled.sampled_errors(
            key,
            n_ta,
            n_s,
            times,
            variances,
            tau**2,
            rows=self.rows,
            ambient_dim=self.ambient_dim,
            perfect_source=self.perfect_source,
            methods=self.methods,
            metrics=self.metrics,
        )
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
        seed: base seed, from 0 to ``2**32 - 1``.
        dtype: of the draws, see `simulate.errors`; None is JAX's default.

    Returns:
        The plan.

    Raises:
        ValueError: values out of range, or noise without an ambient dimension above ``d``.

    Example:
        >>> from fsd_jax import simulate
        >>> plan = simulate.plan_errors(n_ta=[4, 8], d=[4], t=[0.1, 1.0], n_s=[100, None])
        >>> len(plan.cells), len(plan.groups), plan.compilations
        (8, 4, 1)
    """
    floating = draw_dtype(dtype)
    positive, zero = number(floating), number(floating, zero=True)
    axes = {
        "n_ta": axis("n_ta", n_ta, size()),
        "n_s": axis("n_s", n_s, size(none=True)),
        "d": axis("d", d, size()),
        "D": axis("D", D, size(none=True)),
        "t": axis("t", t, positive),
        "latent_variance": axis("latent_variance", latent_variance, positive),
        "tau": axis("tau", tau, zero),
        "method": axis("method", method, word(METHODS)),
        "metric": axis("metric", metric, word(METRICS)),
    }
    _check(axes, floating)
    return plan(
        axes,
        _Builder(axes=axes, dtype=floating),
        rows=("t", "latent_variance", "method", "metric"),
        cell=partial(_cell, axes["D"][0]),
        identity=lambda point: json.dumps(list(point.values())),
        replicates=replicates,
        seed=seed,
        dtype=floating,
    )


def _cell(first: int | None, cell: dict[str, Any]) -> dict[str, Any] | None:
    """Without noise no error depends on the ambient dimension: one cell stands for all."""
    if cell["tau"] > 0:
        return cell
    return cell | {"D": None} if cell["D"] == first else None


def _check(axes: dict[str, Any], dtype: np.dtype) -> None:
    """What the axes must be together."""
    check_number_of_cells(axes)
    # The simulators compute with degrees of freedom, and need a little room above them.
    most, limit = max(axes["d"]), float(np.finfo(dtype).max) / 8
    for name in ("n_ta", "n_s"):
        for value in axes[name]:
            # Of integers Python compares all digits.
            if value is not None and most * value > limit:
                raise ValueError(
                    f"{name} times d must be at most {limit:.2g}, which {dtype} can hold, got "
                    f"more for d = {most}"
                )
    if any(value > 0 for value in axes["tau"]):
        for dim in axes["D"]:
            if dim is None or dim <= most:
                raise ValueError(
                    f"tau > 0 needs ambient dimensions D above every d, got D = {dim}; without "
                    "noise no error depends on D"
                )
        for value in axes["tau"]:
            _checks.positive("tau**2", value * value, dtype, ndim=(0,), zero=True)


@dataclass(frozen=True, kw_only=True)
class _Builder:
    """The program of a group of cells, and what it is called with."""

    axes: dict[str, Any]
    dtype: np.dtype

    def __call__(
        self, *, n_ta: int, n_s: int | None, d: int, D: int | None, tau: float
    ) -> tuple[Any, list[Any]]:
        points = list(itertools.product(self.axes["t"], self.axes["latent_variance"]))
        t, variance = np.asarray(points, self.dtype).T
        source = np.inf if n_s is None else n_s
        sizes = [np.asarray(n_ta, self.dtype), np.asarray(source, self.dtype)]
        methods, metrics = tuple(self.axes["method"]), tuple(self.axes["metric"])
        if tau == 0:
            quiet = WithoutNoise(latent_dim=d, methods=methods, metrics=metrics)
            return quiet, [*sizes, t, variance]
        # Noise needs a D, which the axes were checked for.
        ambient = _checks.dimension("D", D)
        noisy = WithNoise(
            latent_dim=d,
            ambient_dim=ambient,
            rows=_sampled.padded_rows(n_ta, ambient),
            perfect_source=n_s is None,
            methods=methods,
            metrics=metrics,
        )
        return noisy, [*sizes, t, variance, np.asarray(tau, self.dtype)]
