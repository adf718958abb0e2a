"""When does tuning V alone stop paying? Poor pre-training, and a target with another latent."""

from collections.abc import Iterator
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

import fsd_jax as fsd
from benchmarks import table
from benchmarks.context import Context
from benchmarks.records import Record, record
from fsd_jax import latent_net
from fsd_jax.latent_net._descent import denoising_losses

SUMMARY = "few-shot error after under-, well- and over-fitted pre-training, and latent shifts"
DIM, AMBIENT, N_TA = 2, 16, 32
DTYPE = "float32"
TUNING = latent_net.Recipe(steps=1500, batch_size=64, checks=15)
SOURCES = {
    "under-fitted": (4096, 50, 0.2),
    "good": (4096, 5000, 0.2),
    "over-fitted": (32, 20_000, 0.0),
}
"""Source samples, steps, and held-out share of each kind of pre-training."""


def run(context: Context) -> Iterator[Record]:
    """Yield errors of few-shot and scratch models in the same worlds."""
    worlds = context.pick(2, 6, 20)
    shifts = context.pick(
        (0.0, 1.0), (0.0, 0.1, 0.2, 0.5, 1.0), (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
    )
    for kind, (n_s, steps, held_out) in SOURCES.items():
        moved = shifts if kind == "good" else (0.0,)
        short = context.pick(min(steps, 300), steps, steps)
        recipe = latent_net.Recipe(
            steps=short, batch_size=64, checks=min(20, short), held_out=held_out
        )
        found = []
        for world in range(worlds):
            context.tell(f"pretraining: {kind}, world {world}")
            key = jax.random.fold_in(jax.random.key(context.seed), world)
            found.append(_world(key, n_s, recipe, moved))
        for shift in moved:
            for method, metric in found[0][shift]:
                values = np.array([one[shift][method, metric] for one in found])
                yield record(
                    "pretraining",
                    f"{kind} source",
                    method,
                    metric,
                    values.mean(),
                    stderr=values.std(ddof=1) / worlds**0.5,
                    n_s=n_s,
                    n_ta=N_TA,
                    d=DIM,
                    D=AMBIENT,
                    shift=shift,
                    steps=short,
                    worlds=worlds,
                )


def _world(
    key: jax.Array, n_s: int, recipe: latent_net.Recipe, shifts: tuple[float, ...]
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


def lines(rows: list[Record]) -> table.Lines:
    """A line for each shift, a column for each method and metric."""

    def heading(row: Record) -> str:
        return row["method"] if row["metric"] == "score_error" else row["metric"]

    return table.pivot(rows, ("shift",), heading, table.short)
