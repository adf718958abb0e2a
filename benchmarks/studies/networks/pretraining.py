"""When does tuning V alone stop paying? Poor pre-training, and a target with another latent."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fsd_jax as fsd
from benchmarks import drawing, text
from benchmarks.records import Record, record
from benchmarks.study import Settings, Study, Work, mean
from benchmarks.table import Table
from fsd_jax import latent_net
from fsd_jax.latent_net._descent import denoising_losses

DIM, AMBIENT, N_TA = 2, 16, 32
DTYPE = "float32"
TUNING = latent_net.Recipe(steps=1500, batch_size=64, checks=15)
SOURCES = {
    "under-fitted": (4096, 50, 0.2),
    "good": (4096, 5000, 0.2),
    "over-fitted": (32, 20_000, 0.0),
}
"""Source samples, steps, and held-out share of each kind of pre-training."""
SHOWN = ("fewshot", "scratch", "pre-trained, on its source")


def settings(size: str) -> Settings:
    """Sizes; a kind of source is its samples, its steps and its held-out share."""
    quick, full = size == "quick", size == "full"
    some, all_ = [0.0, 0.1, 0.2, 0.5, 1.0], [0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0]
    return {
        "worlds": 2 if quick else 20 if full else 6,
        "shifts": [0.0, 1.0] if quick else all_ if full else some,
        "sources": {
            kind: [n_s, min(steps, 300) if quick else steps, held]
            for kind, (n_s, steps, held) in SOURCES.items()
        },
        "d": DIM,
        "D": AMBIENT,
        "n_ta": N_TA,
    }


def compute(settings: Settings, work: Work) -> Iterator[Record]:
    """Errors of few-shot and scratch models in the same worlds."""
    worlds = settings["worlds"]
    for kind, (n_s, steps, held_out) in settings["sources"].items():
        moved = settings["shifts"] if kind == "good" else [0.0]
        recipe = latent_net.Recipe(
            steps=steps, batch_size=64, checks=min(20, steps), held_out=held_out
        )
        found = []
        for world in range(worlds):
            work.tell(f"{kind}, world {world}")
            key = jax.random.fold_in(jax.random.key(work.seed), world)
            found.append(_world(key, n_s, recipe, moved))
        own: dict[str, Any] = {
            "n_s": n_s,
            "n_ta": N_TA,
            "d": DIM,
            "D": AMBIENT,
            "steps": steps,
            "worlds": worlds,
        }
        for shift in moved:
            for method, metric in found[0][shift]:
                value = mean(one[shift][method, metric] for one in found)
                yield record(
                    f"{kind} source", method=method, metric=metric, shift=shift, **value, **own
                )


def _world(
    key: jax.Array, n_s: int, recipe: latent_net.Recipe, shifts: list[float]
) -> dict[float, dict[tuple[str, str], float]]:
    """What one world gives for each shift of the latent's component means."""
    keys = jax.random.split(key, 7)
    law = latent_net.random_mixture(keys[0], DIM, dtype=DTYPE)
    problem = fsd.LinearProblem.with_latent(keys[1], law, ambient_dim=AMBIENT)
    source = problem.sample_source(keys[2], n_s)
    model = latent_net.pretrain(keys[3], source, latent_dim=DIM, widths=(64, 64), recipe=recipe)
    off = jax.random.normal(keys[6], law.means.shape, DTYPE)
    results = {}
    for shift in shifts:
        moved = replace(problem, latent=replace(law, means=law.means + shift * off))
        target = moved.sample_target(keys[4], N_TA)
        found: dict[tuple[str, str], float] = {}
        for method, mode in (("fewshot", "rotation"), ("scratch", "scratch")):
            tuned = latent_net.finetune(keys[5], model, target, mode=mode, recipe=TUNING)
            found[method, "score_error"] = _error(keys[5], tuned.score, moved)
            if method == "fewshot":
                found[method, "gradient_norm"] = _gradient(keys[5], model, target)
                found[method, "steps_to_gap"] = _steps_to_gap(tuned)
        as_is = replace(moved, A_ta=moved.A_s)
        found["pre-trained, on its source", "score_error"] = _error(
            keys[5], model.score, replace(as_is, latent=law)
        )
        results[shift] = found
    return results


def _error(key: jax.Array, score: latent_net.NetScore, problem: fsd.LinearProblem) -> float:
    times, weights = fsd.VP().quadrature(TUNING.delta, TUNING.T, 16)
    found = latent_net.net_score_error(key, score, problem, times=times, weights=weights, n=500)
    return float(found.value)


def _gradient(key: jax.Array, model: latent_net.NetModel, target: jax.Array) -> float:
    """Norm of the loss's gradient in V at the source's decoder, at one mid time."""
    xi = jax.random.normal(key, (4096, DIM), DTYPE)
    x = jnp.tile(target, (4096 // N_TA, 1))
    t = jnp.full(4096, 0.5, DTYPE)

    def loss(decoder: jax.Array) -> jax.Array:
        return jnp.mean(denoising_losses(decoder, model.score.net, x, t, xi))

    return float(jnp.linalg.norm(jax.grad(loss)(model.score.decoder)))


def _steps_to_gap(model: latent_net.NetModel) -> float:
    """Steps until the loss is within one per cent of its last value."""
    losses = np.asarray(model.validation)
    there = np.flatnonzero(losses <= 1.01 * losses[-1])
    return float((there[0] + 1) * TUNING.steps / (2 * losses.size))


def draw(table: Table) -> Any:
    """Errors against the latent's move after good pre-training, and beside it the other kinds."""
    figure, axes = drawing.canvas(1, 2, figsize=(10, 4.8), sharey=True)
    kinds = list(table.settings["sources"])
    for place, method in enumerate(SHOWN):
        rows = table.present(data="good source", metric="score_error", method=method)
        drawing.points(axes[0, 0], rows, "shift", place, line=True, label=method)
        rows = table.present(metric="score_error", method=method, shift=0.0)
        found = [r | {"kind": kinds.index(r["data"].removesuffix(" source"))} for r in rows]
        drawing.points(axes[0, 1], found, "kind", place, label=method)
    axes[0, 0].set_xscale("linear")
    title = f"Another latent, {table.settings['worlds']} worlds, 2 s.e."
    error = "score error, average over t"
    drawing.log_axes(
        axes[0, 0], "shift of the latent's component means", error, title, across="linear"
    )
    drawing.log_axes(axes[0, 1], "", "", "Kinds of pre-training, the same latent", across="linear")
    axes[0, 1].set_xticks(range(len(kinds)), kinds)
    axes[0, 1].set_xlim(-0.5, len(kinds) - 0.5)
    drawing.legend_below(figure, axes, 3)
    return figure


def finding(table: Table) -> str:
    """Few-shot beside scratch without a move, and the moves at which it is no better."""
    good = {"data": "good source", "metric": "score_error"}
    few, scratch = (
        {r["shift"]: r for r in table.select(method=name, **good)}
        for name in ("fewshot", "scratch")
    )
    lost = [shift for shift in few if few[shift]["value"] >= scratch[shift]["value"]]
    words = "is not below" if 0.0 in lost else "is below"
    ends = f"is not below at a move of {min(lost):g}" if lost else f"stays below up to {max(few):g}"
    return (
        f"With {N_TA} target samples few-shot's score error {text.number(few[0.0])} {words} "
        f"scratch's {text.number(scratch[0.0])}; as the latent's means move, it {ends}."
    )


def lines(table: Table) -> text.Lines:
    """A line for each source and shift, a column for each method and metric."""

    def heading(row: Record) -> str:
        return row["method"] if row["metric"] == "score_error" else row["metric"]

    return text.pivot(table.present(), ("data", "shift"), heading, text.short)


STUDY = Study(
    name="pretraining",
    summary="few-shot error after under-, well- and over-fitted pre-training, and latent shifts",
    settings=settings,
    compute=compute,
    pictures={"pretraining": draw},
    lines=lines,
    finding=finding,
    quick=False,
    long=True,
)
