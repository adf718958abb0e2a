"""What does it do for ten images? Held-out loss of every estimator on real targets."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import numpy as np

import fsd_jax as fsd
from benchmarks import data, drawing, pictures, text
from benchmarks.records import Record, record
from benchmarks.study import Settings, Study, Work, mean, side_by_side
from benchmarks.table import Missing, Table
from fsd_jax.fewshot.rehearsal import SOURCE_SHARES
from fsd_jax.image import closed_form
from fsd_jax.image.autoencoder import train_autoencoder
from fsd_jax.image.task import ImageTask

SIZES = (5, 10, 20, 50, 100)
LATENT_DIM = 16
SHOWN = 10
EMBEDDING = 32
EMBEDDED = "-embedding"
PULLS = (0.01, 0.1, 1.0, 10.0)
LOADERS = {
    "digits": data.digits,
    "fashion-boots": data.fashion_boots,
    "fashion-shirts": data.fashion_shirts,
}
"""The last is the control."""
ADAPTED = "adapt"
MOST_ADAPTED = 20
"""Its choice among more takes seconds a draw."""
PICTURED = ("few-shot", "source as is, target mean", "target only")
RIVAL = "source as is, target mean"


def settings(size: str) -> Settings:
    """By default garments have one size only: each size costs a dozen compilations."""
    quick, full = size == "quick", size == "full"
    every, one = list(SIZES), [SHOWN]
    sizes = {
        "digits": one if quick else every,
        "fashion-boots": every if full else one,
        "fashion-shirts": every,
    }
    names = list(sizes)[: 1 if quick else 3 if full else 2]
    return {
        "n_ta": {name: sizes[name] for name in names},
        "d": LATENT_DIM,
        "draws": 5 if quick else 20,
        "heldout": 78 if quick else 2000 if full else 500,
        "embedded": full,
        "towards_source": full,
    }


def compute(settings: Settings, work: Work) -> Iterator[Record]:
    """The held-out loss of every estimator for every number of target images."""
    found = {name: LOADERS[name]() for name in settings["n_ta"]}
    tasks = {name: task for name, task in found.items() if task is not None}
    if settings["embedded"]:
        kept = [task for name, task in tasks.items() if name != "fashion-shirts"]
        tasks |= {f"{task.name}{EMBEDDED}": _embedded(work, task) for task in kept}
    yield from side_by_side(partial(_compare, settings, work), tasks.items())
    lost = "skipped: data set not installed"
    for name in found.keys() - tasks.keys():
        yield record(name, None, method="all", metric="heldout_loss", status=lost)


def _embedded(work: Work, task: ImageTask) -> ImageTask:
    """The task in the embedding of an autoencoder that saw nothing but the source."""
    work.tell(f"{task.name}: autoencoder")
    trained = train_autoencoder(jax.random.key(work.seed), task.source, dim=EMBEDDING)
    encode = lambda images: np.asarray(trained.encode(images))[:, :, None, None]
    return ImageTask(
        name=f"{task.name}{EMBEDDED}",
        source=encode(task.source),
        target=encode(task.target),
        heldout=encode(task.heldout),
    )


def _compare(s: Settings, work: Work, named: tuple[str, ImageTask]) -> Iterator[Record]:
    name, task = named
    pretrained = fsd.pretrain(task.source, latent_dim=LATENT_DIM)
    whole = fsd.pretrain(task.source)
    flat = task.source.reshape(len(task.source), -1)
    moment = fsd.SecondMoment.from_samples(flat, rank=2 * LATENT_DIM, centre=True)
    # Each draw splits anew, so that the error bars hold the choice of held-out images too.
    pool = task.pool
    held = min(len(pool) - max(SIZES), s["heldout"])
    for n in s["n_ta"][name.removesuffix(EMBEDDED)]:
        work.tell(f"{name} n_ta={n}")
        # A stream for each size: its numbers do not depend on which other sizes are run.
        rng = np.random.default_rng((work.seed, n))
        losses: dict[str, list[float]] = {}
        for _ in range(s["draws"]):
            order = rng.permutation(len(pool))
            shots, rest = pool[order[:n]], pool[order[n : n + held]]
            for method, model in _estimators(pretrained, shots).items():
                losses.setdefault(method, []).append(float(model.loss(rest)))
            if n <= MOST_ADAPTED:
                adapted = fsd.adapt(whole, shots)
                losses.setdefault(ADAPTED, []).append(float(adapted.loss(rest)))
            if n == SHOWN and s["towards_source"]:
                for method, score in _towards_source(pretrained, moment, shots).items():
                    losses.setdefault(method, []).append(_loss(score, rest))
        yield from _summaries(name, task, losses, n_ta=n, heldout=held, draws=s["draws"])
    if not name.endswith(EMBEDDED):
        chosen = pool[rng.permutation(len(pool))[:SHOWN]]
        yield from pictures.rows(name, _pictured(work.seed, pretrained, chosen))


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
    q, a, losses = fsd.choose_rehearsal(pretrained, moment, shots)
    best = SOURCE_SHARES[int(np.argmin(losses[:, -1]))]
    rehearse = partial(fsd.rehearse, pretrained, moment, shots)
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
    name: str, task: ImageTask, losses: dict[str, list[float]], **own: Any
) -> Iterator[Record]:
    reference = np.array(losses[RIVAL])
    for method, each in losses.items():
        values = np.array(each)
        gain = mean(reference - values)
        yield record(
            name,
            method=method,
            metric="heldout_loss",
            **mean(values),
            unit="integrated loss",
            d=LATENT_DIM,
            D=task.target[0].size,
            n_s=len(task.source),
            **own,
            gain=gain["value"],
            gain_stderr=gain["stderr"],
        )


def _pictured(
    seed: int, pretrained: fsd.PretrainedModel, shots: np.ndarray
) -> dict[str, np.ndarray]:
    """Targets, samples (the same noise for each model) and nearest training images."""
    models = _estimators(pretrained, shots)
    rows: dict[str, np.ndarray] = {"targets": shots}
    for name in PICTURED:
        drawn = np.asarray(models[name].sample(jax.random.key(seed), SHOWN))
        rows[name] = drawn
        distance = np.sum((drawn[:, None] - shots[None]) ** 2, axis=(2, 3, 4))
        rows[f"nearest target to: {name}"] = shots[np.argmin(distance, axis=1)]
    return rows


def _losses(table: Table) -> list[Record]:
    return table.present(metric="heldout_loss")


def draw(table: Table) -> Any:
    """Held-out loss against the number of target images, a panel a data set."""
    rows = _losses(table)
    names = list(dict.fromkeys(r["data"] for r in rows))
    methods = list(dict.fromkeys(r["method"] for r in rows))
    figure, axes = drawing.canvas(1, max(len(names), 1), figsize=(5.5 * len(names) + 1, 5))
    for axis, name in zip(axes[0], names, strict=False):
        ticks = sorted({r["n_ta"] for r in rows if r["data"] == name})
        for place, method in enumerate(methods):
            own = [r for r in rows if (r["data"], r["method"]) == (name, method)]
            if len(ticks) == 1:
                own = drawing.apart(own, "n_ta", place, len(methods))
            drawing.points(axis, own, "n_ta", place, line=True, label=method)
        drawing.log_axes(
            axis, "n_ta", "held-out loss, integrated over t (2 s.e.)", name, up="linear"
        )
        axis.set_xticks(ticks, [str(t) for t in ticks])
        axis.minorticks_off()
    drawing.legend_below(figure, axes, 3)
    return figure


def _sheet(table: Table, data: str) -> Any:
    nearest = {name: f"nearest target to: {name}" for name in PICTURED}
    shown = ["targets", *(n for pair in nearest.items() for n in pair)]
    title = f"{data}: samples from the same noise, and the nearest of the targets"
    return pictures.sheet(table, data, {name: name for name in shown}, lambda _: "", title)


def finding(table: Table) -> str:
    """Few-shot beside the target alone and beside the source as it is, for ten images."""
    said = []
    for name in dict.fromkeys(r["data"] for r in _losses(table)):
        few, alone, source = (
            table.one(data=name, method=method, metric="heldout_loss", n_ta=SHOWN)
            for method in ("few-shot", "target only", RIVAL)
        )
        change = 1 - few["value"] / alone["value"]
        said.append(
            f"{name}: the held-out loss of few-shot is {_with_error(few)}, of the target alone "
            f"{_with_error(alone)} ({abs(change):.0%} {'less' if change > 0 else 'more'} with "
            f"few-shot), of the source at the target's mean {_with_error(source)}"
        )
        for best in table.present(data=name, method=ADAPTED, metric="heldout_loss", n_ta=SHOWN):
            said[-1] += f"; what adapt chooses has {_with_error(best)}"
    if not said:
        raise Missing("no data set is there")
    return f"{SHOWN} target images. " + "; ".join(said) + "."


def _with_error(row: Record) -> str:
    return f"{row['value']:.3g} +- {row['stderr']:.1g}"


def lines(table: Table) -> text.Lines:
    """One line a data set and estimator, one column a number of target images."""
    lost = [text.line(r) for r in table.rows if r["value"] is None]
    rows = sorted(_losses(table), key=lambda r: r["n_ta"])
    rows.sort(key=lambda r: r["data"])
    return text.pivot(rows, ("data", "method"), lambda r: f"n_ta = {r['n_ta']}", text.short) + lost


STUDY = Study(
    name="ten-images",
    summary="few-shot, source as is and target only on 5 to 100 real images, with a picture",
    settings=settings,
    compute=compute,
    pictures={"ten-images": draw}
    | {f"ten-images-{name}": partial(_sheet, data=name) for name in LOADERS},
    lines=lines,
    finding=finding,
    usual=True,
    long=True,
    measured=("gain", "gain_stderr"),
)
