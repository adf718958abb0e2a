"""Do networks transfer from MNIST's digits 1-9 to few zeros? Noise prediction on held-out ones."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fsd_jax as fsd
from benchmarks import table
from benchmarks.context import Context
from benchmarks.records import Record, record
from fsd_jax import DecodedScore, latent_net
from fsd_jax.image import closed_form, data, metrics

SUMMARY = "MNIST 1-9 to 0: networks fine-tuned and from scratch beside the linear closed form"
CASE, DATA = "digits", "mnist 1-9 -> 0"
LATENT_DIM = 24
WIDTHS = (128, 128)
DELTA, T = 0.1, 10.0
"""Below `DELTA` a network's loss is the energy outside of its subspace, divided by ``sigma^2``."""
PRETRAINING = latent_net.Recipe(steps=2000, learning_rate=1e-3, delta=DELTA, T=T)
FINETUNING = latent_net.Recipe(steps=600, delta=DELTA, T=T)
SHARES, MEAN_SHARES = (0.1, 0.5, 0.9), (0.0, 1.0)
"""Of the source and of the target's mean, for rehearsal to choose from."""
NODES = 12
SCRATCH = "scratch"
LINEAR = "linear: "
MSE, ALONE = "noise_mse", "noise_mse_as_is"
"""With the source's residual variance outside of the subspace, and networks without any."""

Score = Callable[[jax.Array, jax.Array], jax.Array]


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is known before the zeros come; pixels are centred at the source's mean.

    Attributes:
        network: pre-trained.
        linear: the linear model of the same data.
        moment: its second moment, with more directions than it uses.
    """

    network: latent_net.NetModel
    linear: fsd.PretrainedModel
    moment: fsd.SecondMoment


def run(context: Context) -> Iterator[Record]:
    """Yield each method's noise MSE on held-out zeros, and its ratio to scratch, draw by draw."""
    try:
        task = data.mnist()
    except ImportError as error:
        yield record(CASE, DATA, "all", MSE, None, status=f"skipped: {error}")
        return
    sizes = context.pick((10,), (10, 30, 100), (10, 20, 30, 50, 100))
    draws, held = context.pick(2, 4, 16), context.pick(100, 400, 400)
    pretraining = replace(PRETRAINING, steps=context.pick(200, 2000, 10_000))
    recipe = replace(FINETUNING, steps=context.pick(100, 600, 3000))
    flat = task.source.reshape(len(task.source), -1)
    centre = flat.mean(axis=0)
    zeros = task.pool.reshape(len(task.pool), -1) - centre
    context.tell("digits: pre-training")
    source = _source(context, flat - centre, pretraining)
    found: dict[int, list[dict[tuple[str, str], float]]] = {n: [] for n in sizes}
    for draw in range(draws):
        order = np.random.default_rng((context.seed, draw)).permutation(len(zeros))
        fresh = zeros[order[-held:]]
        key = jax.random.fold_in(jax.random.key(context.seed), draw)
        # The smaller sets are first parts of the larger ones; one shape is one compilation.
        shots = zeros[order[: max(sizes)]]
        for n in sizes:
            context.tell(f"digits: draw {draw + 1} of {draws}, {n} zeros")
            scores = _scores(key, source, shots, n, recipe)
            tau2 = source.linear.residual_variance
            found[n].append(measured(jax.random.fold_in(key, 1), scores, fresh, tau2))
    own = dict(
        d=LATENT_DIM,
        D=zeros.shape[1],
        n_s=len(flat),
        heldout=held,
        delta=DELTA,
        T=T,
        steps=recipe.steps,
        pretraining_steps=pretraining.steps,
    )
    for n in sizes:
        yield from _summaries(found[n], n_ta=n, draws=draws, **own)


def _source(context: Context, x: np.ndarray, recipe: latent_net.Recipe) -> Source:
    # What chooses the step comes first, and the digits come sorted.
    x = x[np.random.default_rng(context.seed).permutation(len(x))]
    key = jax.random.key(context.seed)
    return Source(
        network=latent_net.pretrain(key, x, latent_dim=LATENT_DIM, widths=WIDTHS, recipe=recipe),
        linear=fsd.pretrain(x, latent_dim=LATENT_DIM),
        moment=fsd.SecondMoment.from_samples(x, rank=2 * LATENT_DIM, centre=True),
    )


def _scores(
    key: jax.Array, source: Source, shots: np.ndarray, n: int, recipe: latent_net.Recipe
) -> dict[str, Score]:
    """Every method's score after `n` zeros; the names go into the records."""

    def tuned(model: latent_net.NetModel, mode: str) -> latent_net.NetModel:
        return latent_net.finetune(key, model, shots, count=n, mode=mode, recipe=recipe)

    rotation = tuned(source.network, "rotation")
    alone = latent_net.pretrain(
        key, shots, count=n, latent_dim=min(LATENT_DIM, n), widths=WIDTHS, recipe=recipe
    )
    networks = {
        "source": source.network,
        "rotation": rotation,
        "everything": tuned(rotation, "everything"),
        "everything from the source": tuned(source.network, "everything"),
        SCRATCH: tuned(source.network, "scratch"),
        "target alone": alone,
    }
    linear, few = source.linear, shots[:n]
    lines = {
        "source": fsd.source_as_is(linear, few, mean="source").linear,
        "few-shot": fsd.finetune(linear, few).linear,
        "few-shot, source's mean": fsd.finetune(linear, few, mean="source").linear,
        "rehearsal": _rehearsal(key, source, few),
        "target only": fsd.target_only(few, latent_dim=LATENT_DIM).linear,
    }
    scores: dict[str, Score] = {name: model.score for name, model in networks.items()}
    return scores | {LINEAR + name: score for name, score in lines.items()}


def _rehearsal(key: jax.Array, source: Source, few: np.ndarray) -> fsd.LinearScore:
    """The shares that do best on the zeros that also tell networks when to stop."""
    held = max(int(FINETUNING.held_out * len(few)), 1)

    def fitted(x: np.ndarray, shares: tuple[float, float]) -> fsd.LinearScore:
        share, mean_share = shares
        return closed_form.rehearse(
            source.linear, source.moment, x, source_share=share, mean_share=mean_share
        )

    def loss(shares: tuple[float, float]) -> float:
        return noise_mse(key, fitted(few[held:], shares), few[:held])

    return fitted(few, min(itertools.product(SHARES, MEAN_SHARES), key=loss))


def measured(
    key: jax.Array, scores: dict[str, Score], x: np.ndarray, residual_variance: Any
) -> dict[tuple[str, str], float]:
    """Both measures of every score, on the same noise."""
    found = {}
    for name, score in scores.items():
        if isinstance(score, latent_net.NetScore):
            found[name, ALONE] = noise_mse(key, score, x)
            found[name, MSE] = noise_mse(key, completed(score, residual_variance), x)
        else:
            found[name, MSE] = noise_mse(key, score, x)
    return found


def noise_mse(key: jax.Array, score: Score, x: np.ndarray) -> float:
    """``sigma_t^2 |s + eps/sigma_t|^2/D`` over samples, and times uniform in ``log t``."""
    times = DELTA * (T / DELTA) ** ((np.arange(NODES) + 0.5) / NODES)
    losses = metrics.denoising_losses(key, score, x, times=times.astype(x.dtype))
    _, noise = fsd.VP().host_variances(times)
    return float(np.mean(losses * noise) / x.shape[1])


def completed(score: latent_net.NetScore, residual_variance: Any) -> DecodedScore:
    """A network's score with a Gaussian of this variance outside of its subspace."""
    ambient, d = score.decoder.shape
    dtype = score.decoder.dtype
    return DecodedScore(
        decoder=score.decoder,
        latent=latent_net.NetScore(decoder=jnp.eye(d, dtype=dtype), net=score.net),
        residual_variance=jnp.asarray(residual_variance, dtype),
        mean=jnp.zeros(ambient, dtype),
        process=score.net.process,
    )


def _summaries(found: list[dict[tuple[str, str], float]], **own: Any) -> Iterator[Record]:
    """Means over draws; differences and ratios to scratch are taken draw by draw."""
    for method, metric in found[0]:
        values = np.array([one[method, metric] for one in found])
        scratch = np.array([one[SCRATCH, metric] for one in found])
        gain, gain_error = _mean(scratch - values)
        value, error = _mean(values)
        yield record(
            CASE,
            DATA,
            method,
            metric,
            value,
            stderr=error,
            gain=gain,
            gain_stderr=gain_error,
            **own,
        )
        if method != SCRATCH:
            ratio, error = _mean(values / scratch)
            name = metric.replace(MSE, "ratio_to_scratch")
            yield record(CASE, DATA, method, name, ratio, stderr=error, **own)


def _mean(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5)


def lines(rows: list[Record]) -> table.Lines:
    """A row for each number of zeros and measure, a column for each method."""
    if any(row["value"] is None for row in rows):
        return table.plain(rows)
    return table.pivot(rows, ("n_ta", "metric"), lambda row: row["method"], table.short)
