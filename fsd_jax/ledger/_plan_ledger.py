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
from fsd_jax._linear_model import LinearProblem
from fsd_jax._process import geometric_grid
from fsd_jax.fewshot.source import pretrain
from fsd_jax.fewshot.tune import finetune
from fsd_jax.ledger._account import account
from fsd_jax.ledger._ledger import INGREDIENTS, METRICS
from fsd_jax.sampler._grid import METHODS
from fsd_jax.sweep import Plan, plan
from fsd_jax.sweep._plan import MOST_SIZE, axis, number, size, word

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
                world,
                ambient_dim=self.ambient_dim,
                latent_dim=self.latent_dim,
                latent_variance=latent_variance,
                residual_variance=residual_variance,
            )
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
        >>> from fsd_jax import ledger
        >>> plan = ledger.plan_ledger(n_ta=[4, 8], n_s=[100], d=[2], D=[10], tau=[0.1, 0.3])
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
    _checks.choice("sampler", sampler, METHODS)
    delta, T = number(DTYPE)("delta", delta), number(DTYPE)("T", T)
    block = _checks.dimension("block", block)
    wanted = tuple(itertools.product(names["metric"], names["ingredient"]))
    times = {n: np.asarray(geometric_grid(delta, T, n)).tolist() for n in sizes["steps"]}

    def make(*, latent_variance: float, tau: float, **each: int) -> tuple[Any, list[Any]]:
        program = Accounts(
            n_ta=each["n_ta"],
            n_s=each["n_s"],
            latent_dim=each["d"],
            ambient_dim=each["D"],
            times=tuple(times[each["steps"]]),
            sampler=sampler,
            wanted=wanted,
            block=block,
        )
        return program, [np.asarray(latent_variance, DTYPE), np.asarray(tau**2, DTYPE)]

    return plan(
        sizes | levels | names,
        make,
        rows=tuple(names),
        identity=lambda point: f"ledger {sorted((name, point[name]) for name in sizes)}",
        settings={"sampler": sampler, "delta": delta, "T": T},
        replicates=replicates,
        seed=seed,
        dtype=DTYPE,
    )


def _check(sizes: dict[str, Any], levels: dict[str, Any]) -> None:
    """What the axes must be together."""
    most = max(sizes["d"])
    for name in ("n_s", "D"):
        if min(sizes[name]) < most:
            raise ValueError(f"{name} must be at least d = {most}, got {min(sizes[name])}")
    for value in levels["tau"]:
        _checks.positive("tau**2", value * value, DTYPE, ndim=(0,), zero=True)
