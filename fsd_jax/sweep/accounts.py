"""Sweeps over the ledger: what each ingredient costs, against every size."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from fsd_jax import _checks
from fsd_jax.fewshot.source import pretrain
from fsd_jax.fewshot.tune import finetune
from fsd_jax.ledger import INGREDIENTS, METRICS, account
from fsd_jax.linear_model import LinearProblem
from fsd_jax.process import geometric_grid
from fsd_jax.sampler.grid import METHODS
from fsd_jax.sweep.grid import (
    MOST_SIZE,
    Group,
    Plan,
    axis,
    check_number_of_cells,
    number,
    seed_of,
    size,
    word,
)

ROWS = ("total", *INGREDIENTS)
"""What a cell can hold: the whole of a metric, or one ingredient's cost alone."""
DTYPE = "float32"


@dataclass(frozen=True, kw_only=True)
class Accounts:
    """Blocks of replicates: worlds, samples of both sides, a model, its ledger."""

    n_ta: int
    n_s: int
    latent_dim: int
    ambient_dim: int
    times: tuple[float, ...]
    sampler: str
    wanted: tuple[tuple[str, str], ...]
    block: int

    def __call__(
        self, key: Key[Array, ""], latent_variance: Array, residual_variance: Array
    ) -> Float[Array, "rows block"]:
        """A row for each wanted metric and ingredient."""
        times = np.array(self.times)

        def replicate(key: Array) -> Float[Array, " rows"]:
            world, source, target = jax.random.split(key, 3)
            problem = LinearProblem.random(
                world, ambient_dim=self.ambient_dim, latent_dim=self.latent_dim,
                latent_variance=latent_variance, residual_variance=residual_variance,
            )  # fmt: skip
            pretrained = pretrain(
                problem.sample_source(source, self.n_s), latent_dim=self.latent_dim
            )
            model = finetune(pretrained, problem.sample_target(target, self.n_ta))
            ledger = account(model.linear, problem, times=times, method=self.sampler)
            # The order of the ingredients is the order of the rows.
            table = jnp.concatenate([ledger.total[:, None], ledger.alone], axis=1)
            places = [(METRICS.index(m), ROWS.index(name)) for m, name in self.wanted]
            return table[tuple(np.array(places).T)]

        return jax.lax.map(replicate, jax.random.split(key, self.block)).T


def plan_ledger(
    *,
    n_ta: Sequence[int],
    n_s: Sequence[int],
    d: Sequence[int],
    D: Sequence[int],
    latent_variance: Sequence[float] = (1.0,),
    tau: Sequence[float] = (0.3,),
    steps: Sequence[int] = (100,),
    metric: Sequence[str] = ("w2",),
    ingredient: Sequence[str] = ROWS,
    sampler: str = "ei_sde",
    delta: float = 1e-3,
    T: float = 10.0,
    replicates: int = 64,
    seed: int = 0,
    block: int = 16,
) -> Plan:
    """Plan a sweep of `fsd_jax.ledger.account` over few-shot models; `sweep.run` does it.

    Each replicate is a world of its own with source and target samples. Cells that differ only in
    metric or ingredient share them; so do, up to the shapes, those that differ in `latent_variance`
    or `tau`.

    Implements: R16 (splitting the error), against sizes.

    Args:
        n_ta: numbers of target samples.
        n_s: numbers of source samples.
        d: latent dimensions.
        D: ambient dimensions.
        latent_variance: ``lambda^2``.
        tau: standard deviations of the residual noise.
        steps: steps of the sampler, on a geometric grid.
        metric: of `fsd_jax.ledger.METRICS`.
        ingredient: of ``("total", *fsd_jax.ledger.INGREDIENTS)``; ingredients cost alone.
        sampler: one of `fsd_jax.sampler.METHODS`.
        delta: last time of the sampler.
        T: its first time.
        replicates: worlds for each cell.
        seed: base seed, from 0 to ``2**32 - 1``.
        block: worlds of one unit of work.

    Returns:
        The plan; each ``(n_ta, n_s, d, D, steps)`` is a compilation.

    Raises:
        ValueError: values out of range.

    Example:
        >>> from fsd_jax import sweep
        >>> plan = sweep.plan_ledger(n_ta=[4, 8], n_s=[100], d=[2], D=[10], tau=[0.1, 0.3])
        >>> len(plan.cells), plan.compilations
        (36, 2)
    """
    given: dict[str, Any] = dict(n_ta=n_ta, n_s=n_s, d=d, D=D, steps=steps)
    sizes = {name: axis(name, values, size(MOST_SIZE)) for name, values in given.items()}
    levels = {
        "latent_variance": axis("latent_variance", latent_variance, number(DTYPE)),
        "tau": axis("tau", tau, number(DTYPE, zero=True)),
    }
    names = {
        "metric": axis("metric", metric, word(METRICS)),
        "ingredient": axis("ingredient", ingredient, word(ROWS)),
    }
    _check(sizes, levels)
    check_number_of_cells(sizes | levels | names)
    _checks.choice("sampler", sampler, METHODS)
    delta, T = number(DTYPE)("delta", delta), number(DTYPE)("T", T)
    wanted = tuple(itertools.product(names["metric"], names["ingredient"]))
    cells: list[dict[str, Any]] = []
    groups: list[Group] = []
    for each in _product(sizes):
        program: Any = Accounts(
            n_ta=each["n_ta"], n_s=each["n_s"], latent_dim=each["d"], ambient_dim=each["D"],
            times=tuple(np.asarray(geometric_grid(delta, T, each["steps"])).tolist()),
            sampler=sampler, wanted=wanted, block=_checks.dimension("block", block),
        )  # fmt: skip
        for level in _product(levels):
            first = len(cells)
            cells += [each | level | {"metric": m, "ingredient": name} for m, name in wanted]
            groups.append(Group(
                identity=f"ledger {sorted(each.items())}",
                cells=tuple(range(first, len(cells))),
                program=program,
                arguments=(np.asarray(level["latent_variance"], DTYPE),
                           np.asarray(level["tau"] ** 2, DTYPE)),
            ))  # fmt: skip
    fixed = {"sampler": sampler, "delta": delta, "T": T}
    return Plan(
        axes=sizes | levels | names | fixed, cells=cells, groups=groups, seed=seed_of(seed),
        dtype=DTYPE, replicates=_checks.dimension("replicates", replicates),
    )  # fmt: skip


def _product(axes: dict[str, Any]) -> list[dict[str, Any]]:
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def _check(sizes: dict[str, Any], levels: dict[str, Any]) -> None:
    """What the axes must be together."""
    most = max(sizes["d"])
    for name in ("n_s", "D"):
        if min(sizes[name]) < most:
            raise ValueError(f"{name} must be at least d = {most}, got {min(sizes[name])}")
    for value in levels["tau"]:
        _checks.positive("tau**2", value * value, DTYPE, ndim=(0,), zero=True)
