"""Rivals of the closed form: what they may choose, their compiled programs, their times."""

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import fsd_jax as fsd
from benchmarks.records import Record, record
from benchmarks.timing import BRIEF, Timing, interleave

LATENT_DIM, TIME, TAU, ANGLE = 24, 0.5, 0.2, 0.3
VARIANCE = 1.0 + TAU**2
TOLERANCES = (1e-2, 1e-4, 1e-6)
ROWS = 100
"""Smaller sample sets are padded to this, so that all share a rival's compilation."""
ADAM_RATES, GD_RATES, NOISED_RATES = (0.1, 0.3, 1.0), (0.1, 0.2, 0.24), (0.01, 0.03, 0.1)
CLOSED, DATA = "closed form", "simulated"


@dataclass(frozen=True, kw_only=True)
class Rival:
    """An optimiser with the settings among which it may choose."""

    name: str
    options: tuple[tuple[str, str], ...]
    rates: tuple[float, ...] = (1.0,)
    horizons: tuple[int, ...] = (300,)
    warm: bool = False
    stochastic: bool = False


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Padded target samples, how many are real, the source's basis and a random start."""

    x: Array
    n: int
    source: Array
    random: Array

    @property
    def mask(self) -> Array:
        return jnp.arange(len(self.x)) < self.n


def rivals_at(size: str, ambient: int, n: int) -> list[Rival]:
    """Fair ones: full-batch and stochastic, free and on the Stiefel manifold, cold and warm.

    By default all of them meet on the largest problem only: each costs a compilation.
    """
    lbfgs, adam = ("optimizer", "lbfgs"), ("optimizer", "adam")
    stiefel = ("constraint", "orthonormal")
    rivals = [
        Rival(name="L-BFGS", options=(lbfgs,)),
        Rival(name="Adam", options=(adam,), rates=ADAM_RATES, horizons=(250, 1000)),
        Rival(
            name="gradient descent",
            options=(("optimizer", "gd"),),
            rates=GD_RATES,
            horizons=(1000,),
        ),
        Rival(
            name="Adam, noised batches",
            options=(adam,),
            rates=NOISED_RATES,
            horizons=(500,),
            stochastic=True,
        ),
        Rival(name="L-BFGS, Stiefel (polar)", options=(lbfgs, stiefel), horizons=(100,)),
        Rival(name="L-BFGS, warm from the source", options=(lbfgs,), warm=True),
    ]
    if size == "quick" or (size == "default" and ambient == 64):
        return rivals[:1]
    if size == "default" and n < ROWS:
        return rivals[:2]
    if size == "full":
        rivals.append(
            Rival(
                name="Adam, Stiefel (QR)",
                rates=ADAM_RATES,
                horizons=(250, 1000),
                options=(adam, stiefel, ("retraction", "qr")),
            )
        )
    return rivals


def problem_of(seed: int, ambient: int, n: int) -> Problem:
    world = fsd.LinearProblem.random(
        jax.random.key(seed),
        ambient_dim=ambient,
        latent_dim=LATENT_DIM,
        latent_variance=1.0,
        residual_variance=TAU**2,
    )
    x = world.sample_target(jax.random.key(seed + 1), n)
    # A source subspace at a known angle: what a warm start would have.
    source = jnp.cos(ANGLE) * world.A_ta + jnp.sin(ANGLE) * world.A_s
    random = jax.random.normal(jax.random.key(seed + 2), source.shape) / ambient**0.5
    return Problem(x=jnp.pad(x, ((0, ROWS - n), (0, 0))), n=n, source=source, random=random)


def closed_form(x: Array) -> Array:
    moment = fsd.SecondMoment.from_samples(x, rank=min(LATENT_DIM, *x.shape))
    return fsd.rank_minimizer(
        moment, latent_variance=VARIANCE, latent_dim=LATENT_DIM, time=TIME
    ).basis


def time_of(method: Any) -> Timing:
    return interleave({"it": method}, seconds=0.5, most=20, brief=BRIEF)["it"]


def race(rival: Rival, problem: Problem, ambient: int) -> Iterator[Record]:
    """The quickest setting for each tolerance; the tuning runs are the timed ones."""
    best: dict[float, tuple[float, int, float, int]] = {}
    compiling = 0.0
    start = problem.source if rival.warm else problem.random
    for horizon in rival.horizons:
        train, seconds = program_of(rival.options, rival.stochastic, horizon, ambient)
        compiling = max(compiling, seconds)
        took, gaps = [], {}
        for rate in rival.rates if len(rival.rates) > 1 else rival.rates * 2:
            begin = time.perf_counter()
            gaps[rate] = np.asarray(train(problem.x, problem.mask, start, jnp.asarray(rate)))
            took.append(time.perf_counter() - begin)
        each = float(np.median(took)) / horizon
        for tolerance, (rate, gap) in itertools.product(TOLERANCES, gaps.items()):
            if np.any(gap <= tolerance):
                steps = int(np.argmax(gap <= tolerance))
                choice = (each * steps, steps, rate, horizon)
                best[tolerance] = min(best.get(tolerance, choice), choice)
    for tolerance in TOLERANCES:
        own: dict[str, Any] = {"steps": None, "status": f"not within {rival.horizons[-1]} steps"}
        value = np.nan
        if tolerance in best:
            value, steps, rate, horizon = best[tolerance]
            own = {"steps": steps, "learning_rate": rate, "horizon": horizon}
        yield timed(rival.name, value, compiling, ambient, problem.n, tolerance=tolerance, **own)


@cache
def program_of(
    options: tuple[tuple[str, str], ...], stochastic: bool, horizon: int, ambient: int
) -> tuple[Callable[..., Array], float]:
    """A rival compiled, from samples, a start and a rate to the gaps on the way; and in how long.

    Programs are compiled side by side, which makes each take somewhat longer than alone.
    Kept, because rivals that differ in their start only, and all n_ta, share it.
    """

    def train(x: Array, mask: Array, start: Array, rate: Array) -> Array:
        moment = fsd.SecondMoment.from_samples(x, mask=mask, route="svd", throw=False)
        extra: dict[str, Any] = dict(options)
        if stochastic:
            extra |= {"samples": x, "mask": mask}
        return fsd.train(
            jax.random.key(2),
            moment,
            latent_variance=VARIANCE,
            latent_dim=LATENT_DIM,
            time=TIME,
            steps=horizon,
            learning_rate=rate,
            initial=start,
            **extra,
        ).gaps

    of = partial(jax.ShapeDtypeStruct, dtype=jnp.float64)
    mask = jax.ShapeDtypeStruct((ROWS,), bool)
    begin = time.perf_counter()
    lowered = jax.jit(train).lower(of((ROWS, ambient)), mask, of((ambient, LATENT_DIM)), of(()))
    program = lowered.compile()
    return program, time.perf_counter() - begin


def timed(name: str, value: float, compiling: float, ambient: int, n: int, **extra: Any) -> Record:
    """Seconds that a method needs to a gap; its compilation is the record's cost."""
    return record(
        DATA,
        value,
        method=name,
        metric="time_to_gap",
        unit="s",
        seconds=compiling,
        D=ambient,
        d=LATENT_DIM,
        n_ta=n,
        **{"tolerance": None, **extra},
    )
