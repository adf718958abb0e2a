"""Does tuning everything memorise? Samples of both models along training time."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fsd_jax as fsd
from benchmarks import table
from benchmarks.context import Context
from benchmarks.records import Record, record
from fsd_jax import latent_net, sampler
from fsd_jax.image import metrics
from fsd_jax.latent_net._descent import denoising_losses

SUMMARY = "f_mem, nearest distances and held-out loss of networks along training time"
DIM, AMBIENT, N_S, N_TA = 8, 32, 4096, 10
DELTA, T = 1e-3, 10.0
SOLVER_STEPS = 100
DTYPE = "float32"


def run(context: Context) -> Iterator[Record]:
    """Yield the measures after each number of steps, for the same draws of worlds and noise."""
    steps = context.pick(
        (0, 100),
        (0, 100, 300, 1000, 3000, 10_000),
        (0, 100, 300, 1000, 3000, 10_000, 30_000, 100_000),
    )
    size = context.pick(200, 1000, 4000)
    pre = latent_net.Recipe(steps=context.pick(300, 5000, 20_000), batch_size=128)
    for world in range(context.pick(1, 3, 10)):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(context.seed), world), 7)
        law = latent_net.random_mixture(keys[0], DIM, dtype=DTYPE)
        problem = fsd.LinearProblem.with_latent(keys[1], law, ambient_dim=AMBIENT)
        source = problem.sample_source(keys[2], N_S)
        target, fresh = problem.sample_target(keys[3], N_TA), problem.sample_target(keys[4], size)
        model = latent_net.pretrain(keys[5], source, latent_dim=DIM, recipe=pre)
        yield from _measures("truth", 0, world, fresh, target, None, context.seed)
        few = latent_net.finetune(keys[6], model, target, recipe=replace(pre, steps=2000))
        yield from _of_model("V only", 2000, world, few, problem, target, keys[6], size, context)
        for number in steps:
            context.tell(f"memorisation: world {world}, {number} steps")
            tuned = few
            if number:
                recipe = replace(pre, steps=number, checks=1, held_out=0.0)
                tuned = latent_net.finetune(keys[6], few, target, mode="everything", recipe=recipe)
            yield from _of_model(
                "everything", number, world, tuned, problem, target, keys[6], size, context
            )


def _of_model(
    method: str,
    steps: int,
    world: int,
    model: latent_net.NetModel,
    problem: fsd.LinearProblem,
    target: jax.Array,
    key: jax.Array,
    size: int,
    context: Context,
) -> Iterator[Record]:
    times = fsd.geometric_grid(DELTA, T, SOLVER_STEPS)
    drawn = sampler.sample(
        key,
        model.score,
        times=times.astype(DTYPE),
        n=size,
        shape=AMBIENT,
        method="ei_sde",
        denoise=True,
    )
    fresh = problem.sample_target(jax.random.fold_in(key, 1), size)
    clock, noise = jax.random.split(jax.random.fold_in(key, 2))
    t = DELTA * jnp.exp(np.log(T / DELTA) * jax.random.uniform(clock, (size,), DTYPE))
    xi = jax.random.normal(noise, (size, DIM), DTYPE)
    losses = denoising_losses(model.score.decoder, model.score.net, fresh, t, xi)
    yield from _measures(method, steps, world, drawn, target, losses, context.seed)


def _measures(
    method: str,
    steps: int,
    world: int,
    drawn: jax.Array,
    target: jax.Array,
    losses: jax.Array | None,
    seed: int,
) -> Iterator[Record]:
    samples, train = np.asarray(drawn), np.asarray(target)
    found = {
        "f_mem": metrics.memorised_fraction(samples, train, seed=seed),
        "nearest_distance": metrics.nearest_distance(samples, train, seed=seed),
    }
    if losses is not None:
        found["heldout_loss"] = metrics.mean_of(np.asarray(losses, float), seed=seed)
    own: dict[str, Any] = dict(d=DIM, D=AMBIENT, n_s=N_S, n_ta=N_TA, world=world, steps=steps)
    for metric, estimate in found.items():
        yield record(
            "memorisation",
            "Gaussian mixture",
            method,
            metric,
            estimate.value,
            stderr=estimate.stderr,
            **own,
        )


def lines(rows: list[Record]) -> table.Lines:
    """Means over worlds: a line for each method and number of steps, a column a metric."""
    kinds = dict.fromkeys((r["method"], r["steps"], r["metric"]) for r in rows)
    lines: dict[tuple[str, int], dict[str, str]] = {}
    for method, steps, metric in kinds:
        values = np.array(
            [
                r["value"]
                for r in rows
                if (r["method"], r["steps"], r["metric"]) == (method, steps, metric)
            ]
        )
        line = lines.setdefault((method, steps), {"method": method, "steps": str(steps)})
        error = values.std(ddof=1) / values.size**0.5 if values.size > 1 else 0.0
        line[metric] = f"{values.mean():.3g} +-{error:.1g}"
    return list(lines.values())
