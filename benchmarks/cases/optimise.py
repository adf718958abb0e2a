"""How long do gradient-trained rivals take to get where the closed form starts?

Every rival sees the same exact loss (or noised batches of the same samples), with its learning rate
and its horizon chosen among several; the time is that of the steps it needed, compiled. The closed
form's time includes the moment.
"""

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
from benchmarks import table
from benchmarks.context import Context, side_by_side
from benchmarks.records import Record, record
from benchmarks.timing import BRIEF, Timing, interleave
from fsd_jax import landscape

SUMMARY = "steps and time of Adam, L-BFGS and gradient descent to the closed form; the landscape"
LATENT_DIM, TIME, TAU, ANGLE = 24, 0.5, 0.2, 0.3
SMALL_DIM = 4
"""Of the problems whose whole Hessian is looked at."""
VARIANCE = 1.0 + TAU**2
TOLERANCES = (1e-2, 1e-4, 1e-6)
ROWS = 100
"""Smaller sample sets are padded to this, so that all share a rival's compilation."""
ADAM_RATES, GD_RATES, NOISED_RATES = (0.1, 0.3, 1.0), (0.1, 0.2, 0.24), (0.01, 0.03, 0.1)


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


def run(context: Context) -> Iterator[Record]:
    """Yield time and steps to each gap, the sublinear regime, and the landscape."""
    dims = context.pick((64,), (64, 784), (64, 784, 12288))
    most = {ambient: _rivals(context.size, ambient, ROWS) for ambient in dims}
    context.tell("optimise: compiling")
    wanted = {
        (rival.options, rival.stochastic, horizon, ambient)
        for ambient, rivals in most.items()
        for rival in rivals
        for horizon in rival.horizons
    }
    list(side_by_side(lambda each: [_program(*each)], sorted(wanted)))
    for ambient in dims:
        for n in context.pick((10,), (10, LATENT_DIM, 100), (10, LATENT_DIM, 100)):
            problem = _problem(context.seed, ambient, n)
            rivals = _rivals(context.size, ambient, n)
            context.tell(f"optimise D={ambient} n_ta={n}: closed form")
            closed = _time(partial(_closed_form, problem.x[:n]))
            yield _timed(
                "closed form",
                closed.median,
                closed.first - closed.median,
                ambient,
                n,
                steps=0,
                stderr=closed.spread,
            )
            fastest = np.inf
            for rival in rivals:
                context.tell(f"optimise D={ambient} n_ta={n}: {rival.name}")
                rows = list(_race(rival, problem, ambient))
                yield from rows
                fastest = min(
                    [
                        fastest,
                        *(
                            r["value"]
                            for r in rows
                            if r["value"] is not None and r["tolerance"] == TOLERANCES[-1]
                        ),
                    ]
                )
            yield record(
                "optimise",
                "simulated",
                "closed form",
                "speedup",
                fastest / closed.median,
                unit="x fastest rival",
                D=ambient,
                d=LATENT_DIM,
                n_ta=n,
                tolerance=TOLERANCES[-1],
            )
    yield _sublinear(context)
    yield from side_by_side(partial(_landscape, context.seed), _stationary(context.size))


def _rivals(size: str, ambient: int, n: int) -> list[Rival]:
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


def _problem(seed: int, ambient: int, n: int) -> Problem:
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


def _closed_form(x: Array) -> Array:
    moment = fsd.SecondMoment.from_samples(x, rank=min(LATENT_DIM, *x.shape))
    return fsd.rank_minimizer(
        moment, latent_variance=VARIANCE, latent_dim=LATENT_DIM, time=TIME
    ).basis


def _time(method: Any) -> Timing:
    return interleave({"it": method}, seconds=0.5, most=20, brief=BRIEF)["it"]


def _race(rival: Rival, problem: Problem, ambient: int) -> Iterator[Record]:
    """The quickest setting for each tolerance; the tuning runs are the timed ones."""
    best: dict[float, tuple[float, int, float, int]] = {}
    compiling = 0.0
    start = problem.source if rival.warm else problem.random
    for horizon in rival.horizons:
        train, seconds = _program(rival.options, rival.stochastic, horizon, ambient)
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
        yield _timed(rival.name, value, compiling, ambient, problem.n, tolerance=tolerance, **own)


@cache
def _program(
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


def _timed(name: str, value: float, compiling: float, ambient: int, n: int, **extra: Any) -> Record:
    return record(
        "optimise",
        "simulated",
        name,
        "time_to_gap",
        value,
        unit="s",
        seconds=compiling,
        D=ambient,
        d=LATENT_DIM,
        n_ta=n,
        **{"tolerance": None, **extra},
    )


def _sublinear(context: Context) -> Record:
    """R17: below d samples the gap of gradient descent is ``(d-n)/(64 kappa eta^2 k^2)``."""
    n, steps, rate = 10, context.pick(2000, 20_000, 20_000), 0.2
    problem = _problem(context.seed, 64, n)
    moment = fsd.SecondMoment.from_samples(problem.x[:n])
    outcome = fsd.train(
        jax.random.key(2),
        moment,
        latent_variance=VARIANCE,
        latent_dim=LATENT_DIM,
        time=TIME,
        optimizer="gd",
        learning_rate=rate,
        steps=steps,
    )
    signal, noise = fsd.VP().host_variances(TIME)
    gain = signal * VARIANCE / (signal * VARIANCE + noise)
    # In the loss's own units, kappa = g^2/s2; the rate is in units of b c_1, b = g m^2/s2^2.
    unit = float(gain * signal / noise**2 * moment.values[0])
    kappa, eta = gain**2 / noise, rate / unit
    loss = float(outcome.losses[-1] / (1 + outcome.gap))
    predicted = (LATENT_DIM - n) / (64 * kappa * eta**2 * steps**2) / loss
    return record(
        "optimise",
        "null directions",
        "gradient descent",
        "loss_gap",
        float(outcome.gap),
        unit="relative",
        D=64,
        d=LATENT_DIM,
        n_ta=n,
        steps=steps,
        learning_rate=rate,
        exact=float(predicted),
    )


def _stationary(size: str) -> Iterator[tuple[int, str, str]]:
    """Samples, constraint, and which stationary point of the loss to look at."""
    if size == "quick":
        yield 100, "rank", "minimum"
        return
    if size == "default":
        yield from ((3, "rank", "minimum"), (100, "rank", "minimum"), (100, "rank", "saddle"))
        return
    for n, constraint in itertools.product((3, 100), ("rank", "orthonormal")):
        if n >= SMALL_DIM:
            yield n, constraint, "minimum"
            yield n, constraint, "saddle"
        elif constraint == "rank":
            # Below d samples the orthonormal minimum is not one point.
            yield n, constraint, "minimum"


def _landscape(seed: int, point: tuple[int, str, str]) -> Iterator[Record]:
    """The Hessian's spectrum at a stationary point, by differentiation and by formula."""
    n, constraint, name = point
    ambient, d = 16, SMALL_DIM
    x = jax.random.normal(jax.random.key(seed + n), (n, ambient))
    moment = fsd.SecondMoment.from_samples(x * jnp.linspace(2, 0.5, ambient))
    options: dict[str, Any] = {
        "latent_variance": VARIANCE,
        "time": TIME,
        "constraint": constraint,
    }
    chosen = [*range(d - 1), d + 1] if name == "saddle" else list(range(min(d, n)))
    # The closed form's missing columns are zero: flat directions (R17).
    decoder = jnp.pad(
        landscape.critical_decoder(moment, chosen, **options), ((0, 0), (0, d - len(chosen)))
    )
    around = landscape.measure(decoder, moment, **options)
    off = None
    if len(chosen) == d:
        predicted = landscape.predicted_spectrum(moment, chosen, **options)
        off = float(jnp.max(jnp.abs(around.eigenvalues - predicted)) / jnp.max(predicted))
    yield record(
        "optimise",
        f"landscape, {constraint}",
        name,
        "condition_number",
        around.condition_number,
        D=ambient,
        d=d,
        n_ta=n,
        status="ok" if np.isfinite(around.condition_number) else "infinite",
        negative=around.negative,
        flat=int(jnp.sum(jnp.abs(around.eigenvalues) < 1e-9)),
        smallest=float(around.eigenvalues[0]),
        largest=float(around.eigenvalues[-1]),
        off_formula=off,
    )


def lines(rows: list[Record]) -> table.Lines:
    """The race: a column for each gap."""
    if not {row["metric"] for row in rows} <= {"time_to_gap", "speedup"}:
        return table.plain(rows)
    return table.pivot(rows, ("D", "n_ta", "method"), _heading, _entry)


def _heading(row: Record) -> str:
    if row["metric"] == "speedup":
        return "speed-up"
    return "solve" if row["tolerance"] is None else f"to {row['tolerance']:g}"


def _entry(row: Record) -> str:
    if row["value"] is None:
        return "-"
    if row["metric"] == "speedup":
        return f"{row['value']:.0f}x"
    steps = f" ({row['steps']} steps)" if row.get("steps") else ""
    return f"{1e3 * row['value']:.3g} ms{steps}"
