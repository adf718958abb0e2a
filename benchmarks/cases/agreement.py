"""Is the closed form the minimum? An independent optimiser on the same loss finds the same."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import fsd_jax as fsd
from benchmarks import data, table
from benchmarks.context import Context, side_by_side
from benchmarks.records import Record, record
from fsd_jax.image.task import ImageTask

SUMMARY = "closed form against multi-start L-BFGS in float64: loss gap, projector distance"
TIMES = (0.05, 0.5, 2.0)
TARGET_GAP = 5e-10
RESTARTS = 2
CHUNK = 150
MOST_STEPS = 3600
PROMISED_GAP = 1e-9
IMAGE_DIM = 16
"""As in the simulated problems of the same D, so that they share compilations."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Sample sets of one shape, float64 ``(sets, n, D)``, and the parameters of each set."""

    name: str
    x: Array
    d: int
    variance: float
    extra: list[dict[str, Any]]


def run(context: Context) -> Iterator[Record]:
    """Yield the relative loss gap and projector distance of every problem."""
    yield from side_by_side(_solve_all, _groups(context))
    if data.fashion_boots() is None:
        yield record(
            "agreement",
            "fashion-boots",
            "lbfgs",
            "loss_gap",
            None,
            status="skipped: data set not installed",
        )


def _groups(context: Context) -> list[list[Callable[[], Cell]]]:
    """Cells by (D, d): those of a group share a compilation, so they follow one another."""
    groups: dict[tuple[int, int], list[Callable[[], Cell]]] = {}
    for ambient, d, n in _grid(context):
        groups.setdefault((ambient, d), []).append(partial(_simulated, context, ambient, d, n))
    for task in (data.digits(), data.fashion_boots()):
        if task is None or (context.size == "quick" and task.name != "digits"):
            continue
        shape = (task.target[0].size, IMAGE_DIM)
        for n in context.pick((10,), (10,), (10, 100, 500)):
            groups.setdefault(shape, []).append(partial(_images, context, task, n))
    return list(groups.values())


def _solve_all(cells: list[Callable[[], Cell]]) -> Iterator[Record]:
    for make in cells:
        yield from _solve(make())


def _simulated(context: Context, ambient: int, d: int, n: int) -> Cell:
    context.tell(f"agreement D={ambient} d={d} n_ta={n}")
    samples, taus = [], (0.0, 0.2)
    for tau in taus:
        problem = fsd.LinearProblem.random(
            jax.random.key(context.seed),
            ambient_dim=ambient,
            latent_dim=d,
            latent_variance=1.0,
            residual_variance=tau**2,
        )
        samples.append(problem.sample_target(jax.random.key(context.seed + 1), n))
    extra = [{"tau": tau} for tau in taus]
    return Cell(name="simulated", x=jnp.stack(samples), d=d, variance=1.0, extra=extra)


def _images(context: Context, task: ImageTask, n: int) -> Cell:
    context.tell(f"agreement {task.name} n_ta={n}")
    flat, d = task.pool.reshape(len(task.pool), -1), IMAGE_DIM
    x = jnp.asarray(flat[None, : min(n, len(flat))], jnp.float64)
    variance = float(jnp.mean(fsd.SecondMoment.from_samples(x[0]).values[:d]))
    return Cell(name=task.name, x=x, d=d, variance=variance, extra=[{}])


def _grid(context: Context) -> list[tuple[int, int, int]]:
    """Triples (D, d, n_ta)."""
    if context.size == "quick":
        return []
    sizes = (5, 10, 50, 500)
    if context.size == "default":
        # Each further pair of D and d costs a compilation of some ten seconds; boots have D = 784.
        return [(64, 16, n) for n in sizes]
    return list(itertools.product((64, 784), (4, 16, 24), sizes))


def _closed(moment: fsd.SecondMoment, t: Array, w: Array, variance: float, d: int) -> fsd.Minimizer:
    return fsd.rank_minimizer(
        moment, latent_variance=variance, latent_dim=d, times=t, weights=w, throw=False
    )


@jax.jit
def _improve(
    moment: fsd.SecondMoment, times: Array, weights: Array, variance: Array, starts: Array
) -> fsd.Trained:
    """One chunk of L-BFGS for every (objective, restart); sample sets share the compilation."""

    def one(t: Array, w: Array, start: Array) -> fsd.Trained:
        return fsd.train(
            jax.random.key(0),
            moment,
            latent_variance=variance,
            latent_dim=start.shape[1],
            times=t,
            weights=w,
            steps=CHUNK,
            initial=start,
        )

    restarts = jax.vmap(one, in_axes=(None, None, 0))
    return jax.vmap(restarts)(times, weights, starts)


def _moments(x: Array) -> fsd.SecondMoment:
    """Moments of sample sets ``(sets, n, D)``, padded so that several n share a compilation."""
    n, ambient = x.shape[1:]
    rows = max(n, min(ambient, 64))
    padded = jnp.pad(x, ((0, 0), (0, rows - n), (0, 0)))
    mask = jnp.arange(rows) < n
    build = partial(fsd.SecondMoment.from_samples, mask=mask, route="svd", throw=False)
    return jax.vmap(build)(padded)


def _solve(cell: Cell) -> Iterator[Record]:
    """All objectives on all sample sets in one batch of optimisers."""
    x, d, variance, extra = cell.x, cell.d, cell.variance, cell.extra
    nodes, quadrature = fsd.VP().quadrature()
    # A single time is written with the quadrature's length and one non-zero weight, so that the
    # optimiser compiles once for all objectives.
    single = jnp.zeros_like(quadrature).at[0].set(1.0)
    times = jnp.stack([jnp.full_like(nodes, t) for t in TIMES] + [nodes])
    weights = jnp.stack([single for _ in TIMES] + [quadrature])
    moments = _moments(x)
    over_times = jax.vmap(partial(_closed, variance=variance, d=d), in_axes=(None, 0, 0))
    best = jax.vmap(over_times, in_axes=(0, None, None))(moments, times, weights)
    sets, n, ambient = x.shape
    shape = (len(times), RESTARTS, ambient, d)
    start = jax.random.normal(jax.random.key(7), shape, x.dtype) / ambient**0.5
    for i in range(sets):
        moment = jax.tree.map(lambda leaf, i=i: leaf[i], moments)
        found, gaps, steps = _race(moment, times, weights, jnp.asarray(variance), start)
        distance = jax.vmap(_projector_distance)(best.decoder[i], found)
        for j in range(len(times)):
            where = {
                "n_ta": n,
                "d": d,
                "D": ambient,
                "t": TIMES[j] if j < len(TIMES) else None,
                "objective": "one t" if j < len(TIMES) else "integrated",
                "steps": steps,
                "closed_form": fsd.describe(best.status[i, j]),
                "status": "ok" if gaps[j] <= PROMISED_GAP else "not_converged",
                **extra[i],
            }
            for metric, value, unit in (
                ("loss_gap", gaps[j], "relative"),
                ("projector_distance", distance[j], "Frobenius"),
            ):
                yield record(
                    "agreement", cell.name, "lbfgs", metric, float(value), unit=unit, **where
                )


def _race(
    moment: fsd.SecondMoment, times: Array, weights: Array, variance: Array, decoder: Array
) -> tuple[Array, np.ndarray, int]:
    """The best restart's decoder and gap for each objective, and the steps that were needed."""
    steps = 0
    while True:
        outcome = _improve(moment, times, weights, variance, decoder)
        decoder, steps = outcome.decoder, steps + CHUNK
        gaps = np.asarray(jnp.min(outcome.gap, axis=1))
        if np.all(gaps <= TARGET_GAP) or steps >= MOST_STEPS:
            break
    winner = jnp.argmin(outcome.gap, axis=1)
    return decoder[jnp.arange(len(winner)), winner], gaps, steps


def _projector_distance(a: Array, b: Array) -> Array:
    """``|AA' - BB'|_F`` without D x D arrays or cancellation."""
    both = jnp.concatenate([a, b], axis=1)
    sign = jnp.concatenate([jnp.ones(a.shape[1]), -jnp.ones(b.shape[1])])
    r = jnp.linalg.qr(both, mode="r")
    return jnp.linalg.norm((r * sign) @ r.T)


def lines(rows: list[Record]) -> table.Lines:
    """The worst of each kind of problem."""
    if len(rows) <= 4:
        return table.plain(rows)
    lines: table.Lines = []
    keys = dict.fromkeys((r["objective"], r["D"], r["d"], r["n_ta"]) for r in rows)
    for objective, ambient, d, n in keys:
        cell = [
            r
            for r in rows
            if (r["objective"], r["D"], r["d"], r["n_ta"]) == (objective, ambient, d, n)
        ]
        line = {"objective": objective, "D": str(ambient), "d": str(d), "n_ta": str(n)}
        line["problems"] = str(sum(r["metric"] == "loss_gap" for r in cell))
        for metric in ("loss_gap", "projector_distance"):
            values = [r["value"] for r in cell if r["metric"] == metric and r["value"] is not None]
            line[f"worst {metric}"] = f"{max(values, key=abs):.2g}" if values else "-"
        line["steps"] = str(max(r["steps"] for r in cell))
        line["status"] = "+".join(dict.fromkeys(r["status"] for r in cell))
        lines.append(line)
    return lines
