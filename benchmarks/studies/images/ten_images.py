"""What does it do for ten images? Held-out loss of every estimator on real targets."""

from collections.abc import Iterator
from functools import partial

import jax
import numpy as np

import fsd_jax as fsd
from benchmarks import data
from benchmarks.context import Context, side_by_side
from benchmarks.records import Record, record
from fsd_jax.image import closed_form
from fsd_jax.image.autoencoder import train_autoencoder
from fsd_jax.image.task import ImageTask

SUMMARY = "few-shot, source as is and target only on 5 to 100 real images, with a picture"
SIZES = (5, 10, 20, 50, 100)
LATENT_DIM = 16
SHOWN = 10
EMBEDDING = 32
EMBEDDED = "-embedding"
PULLS = (0.01, 0.1, 1.0, 10.0)


def run(context: Context) -> Iterator[Record]:
    """Yield the held-out loss of every estimator for every number of target images."""
    tasks = [task for task in (data.digits(), data.fashion_boots()) if task is not None]
    tasks = tasks[: context.pick(1, 2, 2)]
    if context.size == "full":
        tasks += [_embedded(context, task) for task in tasks]
        control = data.fashion_shirts()
        tasks += [] if control is None else [control]
    yield from side_by_side(partial(_compare, context), tasks)
    if data.fashion_boots() is None:
        yield record(
            "ten-images",
            "fashion-boots",
            "all",
            "heldout_loss",
            None,
            status="skipped: data set not installed",
        )


def _embedded(context: Context, task: ImageTask) -> ImageTask:
    """The task in the embedding of an autoencoder that saw nothing but the source."""
    context.tell(f"ten-images {task.name}: autoencoder")
    trained = train_autoencoder(jax.random.key(context.seed), task.source, dim=EMBEDDING)
    encode = lambda images: np.asarray(trained.encode(images))[:, :, None, None]
    return ImageTask(
        name=f"{task.name}{EMBEDDED}",
        source=encode(task.source),
        target=encode(task.target),
        heldout=encode(task.heldout),
    )


def _compare(context: Context, task: ImageTask) -> Iterator[Record]:
    pretrained = fsd.pretrain(task.source, latent_dim=LATENT_DIM)
    flat = task.source.reshape(len(task.source), -1)
    moment = fsd.SecondMoment.from_samples(flat, rank=2 * LATENT_DIM, centre=True)
    # Each draw splits anew, so that the error bars hold the choice of held-out images too.
    pool = task.pool
    held = min(len(pool) - max(SIZES), context.pick(78, 500, 2000))
    draws = context.pick(5, 20, 20)
    # By default garments of one size: each size costs a dozen compilations.
    every = context.size == "full" or (context.size == "default" and task.name == "digits")
    for n in SIZES if every else (SHOWN,):
        context.tell(f"ten-images {task.name} n_ta={n}")
        # A stream for each size: its numbers do not depend on which other sizes are run.
        rng = np.random.default_rng((context.seed, n))
        losses: dict[str, list[float]] = {}
        for _ in range(draws):
            order = rng.permutation(len(pool))
            shots, rest = pool[order[:n]], pool[order[n : n + held]]
            for name, model in _estimators(pretrained, shots).items():
                losses.setdefault(name, []).append(float(model.loss(rest)))
            if n == SHOWN and context.size == "full":
                for name, score in _towards_source(pretrained, moment, shots).items():
                    losses.setdefault(name, []).append(_loss(score, rest))
        yield from _summaries(task, losses, n, held, draws)
    if not task.name.endswith(EMBEDDED):
        _pictures(context, task, pretrained, pool[rng.permutation(len(pool))[:SHOWN]])


def _estimators(pretrained: fsd.PretrainedModel, shots: np.ndarray) -> dict[str, fsd.FewShotModel]:
    """Every way to use the shots; the names go into the records."""
    return {
        "few-shot": fsd.finetune(pretrained, shots),
        "few-shot, no completion": fsd.finetune(pretrained, shots, complete="none"),
        "few-shot, source mean": fsd.finetune(pretrained, shots, mean="source"),
        "rank-d, integrated": fsd.finetune(pretrained, shots, constraint="rank"),
        "source as is": fsd.source_as_is(pretrained, shots, mean="source"),
        "source as is, target mean": fsd.source_as_is(pretrained, shots),
        "target only": fsd.target_only(shots, latent_dim=pretrained.latent_dim),
    }


def _towards_source(
    pretrained: fsd.PretrainedModel, moment: fsd.SecondMoment, shots: np.ndarray
) -> dict[str, fsd.LinearScore]:
    """Estimators that mix source and target, by as much as leave-one-out says."""
    q, a, losses = closed_form.choose_rehearsal(pretrained, moment, shots)
    best = closed_form.SOURCE_SHARES[int(np.argmin(losses[:, -1]))]
    rehearse = partial(closed_form.rehearse, pretrained, moment, shots)
    x = shots.reshape(len(shots), -1)
    without = [np.delete(x, i, axis=0) for i in range(len(x))]
    trials = {
        pull: np.mean(
            [_loss(_ridge(pretrained, rest, pull), x[i][None]) for i, rest in enumerate(without)]
        )
        for pull in PULLS
    }
    return {
        "rehearsal": rehearse(source_share=best),
        "rehearsal, any mean": rehearse(source_share=q, mean_share=a),
        "ridge to the source": _ridge(pretrained, x, min(trials, key=lambda pull: trials[pull])),
    }


def _ridge(pretrained: fsd.PretrainedModel, x: np.ndarray, pull: float) -> fsd.LinearScore:
    """The integrated ridge, `pull` being its strength beside the loss's own curvature."""
    mean = x.mean(axis=0)
    variance = float(np.mean(pretrained.latent_variance))
    times, weights = map(np.asarray, fsd.VP().quadrature())
    signal, noise = np.exp(-times), -np.expm1(-times)
    total = signal * variance + noise
    curvature = np.sum(weights * (signal * variance / total) ** 2 * total / noise**2)
    found = fsd.ridge_minimizer(
        fsd.SecondMoment.from_samples(x - mean),
        pretrained.basis,
        strength=pull * curvature,
        latent_variance=variance,
        latent_dim=LATENT_DIM,
        times=times,
        weights=weights,
    )
    return fsd.LinearScore.from_minimizer(
        found,
        latent_variance=variance,
        residual_variance=pretrained.residual_variance,
        mean=mean,
    )


def _loss(score: fsd.LinearScore, x: np.ndarray) -> float:
    """Integrated loss, as `FewShotModel.loss` has it."""
    times, weights = fsd.VP().quadrature()
    each = closed_form.heldout_losses(jax.random.key(0), score, x, times=times)
    return float(np.mean(each @ np.asarray(weights)))


def _summaries(
    task: ImageTask, losses: dict[str, list[float]], n: int, held: int, draws: int
) -> Iterator[Record]:
    reference = np.array(losses["source as is, target mean"])
    for name, each in losses.items():
        values = np.array(each)
        gain = reference - values
        yield record(
            "ten-images",
            task.name,
            name,
            "heldout_loss",
            float(values.mean()),
            stderr=float(values.std(ddof=1) / draws**0.5),
            unit="integrated loss",
            n_ta=n,
            d=LATENT_DIM,
            D=task.target[0].size,
            n_s=len(task.source),
            draws=draws,
            heldout=held,
            gain=float(gain.mean()),
            gain_stderr=float(gain.std(ddof=1) / draws**0.5),
        )


def _pictures(
    context: Context, task: ImageTask, pretrained: fsd.PretrainedModel, shots: np.ndarray
) -> None:
    """Store targets, samples (the same noise for each model) and nearest training images."""
    key = jax.random.key(context.seed)
    models = _estimators(pretrained, shots)
    rows: dict[str, np.ndarray] = {"targets": shots}
    for name in ("few-shot", "source as is, target mean", "target only"):
        drawn = np.asarray(models[name].sample(key, SHOWN))
        rows[name] = drawn
        distance = np.sum((drawn[:, None] - shots[None]) ** 2, axis=(2, 3, 4))
        rows[f"nearest target to: {name}"] = shots[np.argmin(distance, axis=1)]
    context.out.mkdir(parents=True, exist_ok=True)
    fsd_rows = {f"row_{i}": row for i, row in enumerate(rows.values())}
    path = context.out / f"ten-images-{task.name}.npz"
    np.savez(path, names=np.array(list(rows)), **fsd_rows)  # type: ignore[arg-type]
