"""Is the closed form the minimum? An independent optimiser on the same loss finds the same.

Lemma 5.1's study shows one problem along the optimisers' steps; this one counts problems: several
sizes, with noise, on images, at one t and integrated over t.
"""

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
from benchmarks import data, drawing, text
from benchmarks.records import Record, record
from benchmarks.study import Settings, Study, Work, side_by_side
from benchmarks.table import Table
from fsd_jax.image.task import ImageTask

PROMISED_GAP = 1e-9
CHUNK = 150
"""Steps after which the optimiser is looked at."""
ROUNDING = 1e-16
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


def settings(size: str) -> Settings:
    """Problems and the optimiser's limits.

    Each further pair of D and d costs a compilation of some ten seconds; boots have D = 784.
    """
    sizes = (5, 10, 50, 500)
    grid: dict[str, list[tuple[int, int, int]]] = {
        "quick": [],
        "default": [(64, 16, n) for n in sizes],
        "full": list(itertools.product((64, 784), (4, 16, 24), sizes)),
    }
    return {
        "grid": grid[size],
        "taus": [0.0, 0.2],
        "images": ["digits"] if size == "quick" else ["digits", "fashion-boots"],
        "image_n_ta": [10, 100, 500] if size == "full" else [10],
        "image_d": IMAGE_DIM,
        "times": [0.05, 0.5, 2.0],
        "target_gap": 5e-10,
        "promised_gap": PROMISED_GAP,
        "restarts": 2,
        "most_steps": 3600,
    }


def compute(settings: Settings, work: Work) -> Iterator[Record]:
    """The relative loss gap and projector distance of every problem."""
    yield from side_by_side(partial(_solve_all, settings), _groups(settings, work))
    if data.fashion_boots() is None:
        why = "skipped: data set not installed"
        yield record("fashion-boots", None, method="lbfgs", metric="loss_gap", status=why)


def _groups(s: Settings, work: Work) -> list[list[Callable[[], Cell]]]:
    """Cells by (D, d): those of a group share a compilation, so they follow one another."""
    groups: dict[tuple[int, int], list[Callable[[], Cell]]] = {}
    for ambient, d, n in s["grid"]:
        groups.setdefault((ambient, d), []).append(partial(_simulated, s, work, ambient, d, n))
    for task in (data.digits(), data.fashion_boots()):
        if task is None or task.name not in s["images"]:
            continue
        shape = (task.target[0].size, s["image_d"])
        for n in s["image_n_ta"]:
            groups.setdefault(shape, []).append(partial(_images, work, task, shape[1], n))
    return list(groups.values())


def _solve_all(s: Settings, cells: list[Callable[[], Cell]]) -> Iterator[Record]:
    for make in cells:
        yield from _solve(s, make())


def _simulated(s: Settings, work: Work, ambient: int, d: int, n: int) -> Cell:
    work.tell(f"D={ambient} d={d} n_ta={n}")
    samples = []
    for tau in s["taus"]:
        problem = fsd.LinearProblem.random(
            jax.random.key(work.seed),
            ambient_dim=ambient,
            latent_dim=d,
            latent_variance=1.0,
            residual_variance=tau**2,
        )
        samples.append(problem.sample_target(jax.random.key(work.seed + 1), n))
    extra = [{"tau": tau} for tau in s["taus"]]
    return Cell(name="simulated", x=jnp.stack(samples), d=d, variance=1.0, extra=extra)


def _images(work: Work, task: ImageTask, d: int, n: int) -> Cell:
    work.tell(f"{task.name} n_ta={n}")
    flat = task.pool.reshape(len(task.pool), -1)
    x = jnp.asarray(flat[None, : min(n, len(flat))], jnp.float64)
    variance = float(jnp.mean(fsd.SecondMoment.from_samples(x[0]).values[:d]))
    return Cell(name=task.name, x=x, d=d, variance=variance, extra=[{}])


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


def _solve(s: Settings, cell: Cell) -> Iterator[Record]:
    """All objectives on all sample sets in one batch of optimisers."""
    x, d, variance, extra = cell.x, cell.d, cell.variance, cell.extra
    nodes, quadrature = fsd.VP().quadrature()
    # A single time is written with the quadrature's length and one non-zero weight, so that the
    # optimiser compiles once for all objectives.
    single = jnp.zeros_like(quadrature).at[0].set(1.0)
    times = jnp.stack([jnp.full_like(nodes, t) for t in s["times"]] + [nodes])
    weights = jnp.stack([single for _ in s["times"]] + [quadrature])
    moments = _moments(x)
    over_times = jax.vmap(partial(_closed, variance=variance, d=d), in_axes=(None, 0, 0))
    best = jax.vmap(over_times, in_axes=(0, None, None))(moments, times, weights)
    sets, n, ambient = x.shape
    shape = (len(times), s["restarts"], ambient, d)
    start = jax.random.normal(jax.random.key(7), shape, x.dtype) / ambient**0.5
    for i in range(sets):
        moment = jax.tree.map(lambda leaf, i=i: leaf[i], moments)
        found, gaps, steps = _race(s, moment, times, weights, jnp.asarray(variance), start)
        distance = jax.vmap(_projector_distance)(best.decoder[i], found)
        for j in range(len(times)):
            where = {
                "n_ta": n,
                "d": d,
                "D": ambient,
                "t": s["times"][j] if j < len(s["times"]) else None,
                "objective": "one t" if j < len(s["times"]) else "integrated",
                "steps": steps,
                "closed_form": fsd.describe(best.status[i, j]),
                "status": "ok" if gaps[j] <= s["promised_gap"] else "not_converged",
                **extra[i],
            }
            for metric, value, unit in (
                ("loss_gap", gaps[j], "relative"),
                ("projector_distance", distance[j], "Frobenius"),
            ):
                yield record(
                    cell.name, float(value), method="lbfgs", metric=metric, unit=unit, **where
                )


def _race(
    s: Settings,
    moment: fsd.SecondMoment,
    times: Array,
    weights: Array,
    variance: Array,
    decoder: Array,
) -> tuple[Array, np.ndarray, int]:
    """The best restart's decoder and gap for each objective, and the steps that were needed."""
    steps = 0
    while True:
        outcome = _improve(moment, times, weights, variance, decoder)
        decoder, steps = outcome.decoder, steps + CHUNK
        gaps = np.asarray(jnp.min(outcome.gap, axis=1))
        if np.all(gaps <= s["target_gap"]) or steps >= s["most_steps"]:
            break
    winner = jnp.argmin(outcome.gap, axis=1)
    return decoder[jnp.arange(len(winner)), winner], gaps, steps


def _projector_distance(a: Array, b: Array) -> Array:
    """``|AA' - BB'|_F`` without D x D arrays or cancellation."""
    both = jnp.concatenate([a, b], axis=1)
    sign = jnp.concatenate([jnp.ones(a.shape[1]), -jnp.ones(b.shape[1])])
    r = jnp.linalg.qr(both, mode="r")
    return jnp.linalg.norm((r * sign) @ r.T)


def _gaps(table: Table) -> list[Record]:
    """Every problem's gap that was measured, converged or not."""
    return [r for r in table.rows if r["metric"] == "loss_gap" and r["value"] is not None]


def draw(table: Table) -> Any:
    """One point a problem: |relative gap| against n_ta; all must lie below the promise."""
    figure, axes = drawing.canvas(figsize=(7, 4.2))
    axis, gaps = axes[0, 0], drawing.at_least(_gaps(table), ROUNDING)
    for place, (objective, shift) in enumerate({"one t": 0.94, "integrated": 1.06}.items()):
        own = [r | {"n_ta": r["n_ta"] * shift} for r in gaps if r["objective"] == objective]
        if own:
            label = f"{objective} ({len(own)} problems)"
            drawing.points(axis, own, "n_ta", 2 * place, label=label)
    axis.axhline(PROMISED_GAP, color="gray", ls="--", label=f"promised: {PROMISED_GAP:g}")
    title = "Multi-start L-BFGS finds the closed form's loss (float64)"
    words = "|loss of L-BFGS - loss of closed form|/loss"
    drawing.log_axes(axis, "n_ta", words, title)
    axis.legend()
    return figure


def lines(table: Table) -> text.Lines:
    """The worst of each kind of problem."""
    keys = ("data", "objective", "D", "d", "n_ta")
    cells: dict[tuple[Any, ...], list[Record]] = {}
    for r in table.rows:
        if r["value"] is not None:
            cells.setdefault(tuple(r[key] for key in keys), []).append(r)
    found: text.Lines = []
    for names, own in cells.items():
        line = {key: str(name) for key, name in zip(keys, names, strict=True)}
        line["problems"] = str(sum(r["metric"] == "loss_gap" for r in own))
        for metric in ("loss_gap", "projector_distance"):
            worst = max((r["value"] for r in own if r["metric"] == metric), key=abs)
            line[f"worst {metric}"] = f"{worst:.2g}"
        line["steps"] = str(max(r["steps"] for r in own))
        line["status"] = "+".join(dict.fromkeys(r["status"] for r in own))
        found.append(line)
    return found


def finding(table: Table) -> str:
    """How many problems L-BFGS solves as the closed form does."""
    gaps = _gaps(table)
    if not gaps:
        return "No problem was solved, so nothing is known."
    good = sum(abs(r["value"]) <= PROMISED_GAP for r in gaps)
    low, high = min(r["value"] for r in gaps), max(r["value"] for r in gaps)
    return (
        f"L-BFGS ends within {PROMISED_GAP:g} of the closed form's loss in {good} of {len(gaps)} "
        f"problems; relative gaps, without chance in them, run from {low:.0e} to {high:.0e}."
    )


STUDY = Study(
    name="agreement",
    summary="closed form against multi-start L-BFGS in float64: loss gap, projector distance",
    settings=settings,
    compute=compute,
    pictures={"agreement": draw},
    lines=lines,
    finding=finding,
    usual=True,
    measured=("steps", "closed_form"),
)
