"""Section 6 in closed form: tune everything, or encoder and decoder only? Pictures and measures.

`figure-1` and `figure-2` are this study with one draw of the target images, larger samples and the
paper's methods: a figure of the paper has its own table.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import numpy as np

from benchmarks import pictures, text
from benchmarks.records import Record, record
from benchmarks.studies.images.images.measuring import (
    LATENT_DIM,
    SHOTS,
    SHOWN,
    Chosen,
    Setting,
    losses,
    measure,
    scores,
    setting_of,
)
from benchmarks.study import Settings, Study, Work, estimated, mean
from benchmarks.table import Missing, Table
from fsd_jax.image import closed_form, data, metrics
from fsd_jax.image.task import ImageTask

DATA = ("avatars", "critters", "fashion-boots", "fashion-shirts")
TITLES = {
    "targets": "the ten target images",
    "everything": "everything tuned (exact optimum)",
    "encoder_decoder_empirical": "encoder and decoder only, the source's own latents",
    "encoder_decoder": "encoder and decoder only, Gaussian latents",
    "rehearsed": "with rehearsal of the source, target mean",
    "rehearsed_any_mean": "with rehearsal of the source, the mean that predicts best",
    "rank": "rank-d, integrated",
    "scratch": "target only",
    "source_target_mean": "source as is, target mean",
    "source": "source as is",
}
METHODS = tuple(TITLES)[1:]
RIVAL = "source_target_mean"
Found = dict[tuple[str, str], list[metrics.Estimate]]


def settings(size: str) -> Settings:
    """Sizes; every measure is the mean of several draws of the target images."""
    place = ("quick", "default", "full").index(size)
    return {
        "data": list(DATA[: (1, 2, 4)[place]]),
        "size": (28, 32, 64)[place],
        "source": (240, 1000, 6400)[place],
        "heldout": (200, 500, 1000)[place],
        "shots": SHOTS,
        "d": LATENT_DIM,
        "samples": (48, 100, 400)[place],
        "steps": (20, 60, 100)[place],
        "draws": (2, 4, 8)[place],
        "methods": list(METHODS),
    }


def compute(settings: Settings, work: Work) -> Iterator[Record]:
    """Every measure of every method, and pictures from the first draw."""
    for name in work.data or settings["data"]:
        try:
            task = _load(name, settings, work)
        except (ImportError, FileNotFoundError) as error:
            # A figure is of one data set: without it there is none.
            if settings["data"] == [name] and settings["draws"] == 1:
                raise
            yield record(name, None, method="all", metric="f_mem", status=f"skipped: {error}")
            continue
        work.tell(f"{name}: pre-training")
        setting = setting_of(
            task, samples=settings["samples"], steps=settings["steps"], seed=work.seed
        )
        yield from _real(setting)
        yield from _drawn(settings, work, setting)


def _load(name: str, s: Settings, work: Work) -> ImageTask:
    if name.startswith("fashion-"):
        return data.fashion(target=name.removeprefix("fashion-"))
    draw: Callable[..., ImageTask] = getattr(data, name)

    def tell(done: int, total: int) -> None:
        work.tell(f"{name}: drawing {done} of {total}")

    return draw(
        size=s["size"], source=s["source"], shots=SHOTS, heldout=s["heldout"], progress=tell
    )


def _drawn(s: Settings, work: Work, setting: Setting) -> Iterator[Record]:
    found: Found = {}
    chosen: list[Chosen] = []
    key = jax.random.key(setting.seed)
    for draw in range(s["draws"]):
        work.tell(f"{setting.name}: draw {draw + 1} of {s['draws']}")
        shots, held = setting.drawn(draw)
        rivals, shares = scores(setting, shots, s["methods"])
        chosen.append(shares)
        shown = {"targets": shots}
        for name, score in rivals.items():
            one = jax.random.fold_in(key, draw)
            drawn = closed_form.generate(
                one, score, setting.samples, shape=shots.shape[1:], steps=setting.steps
            )
            shown[name] = drawn[:SHOWN]
            for metric, value in (
                measure(setting, drawn, shots, held) | losses(one, score, held)
            ).items():
                found.setdefault((name, metric), []).append(value)
        if draw == 0:
            yield from pictures.rows(setting.name, shown)
    yield from _summaries(setting, found, chosen)


def _summaries(setting: Setting, found: Found, chosen: list[Chosen]) -> Iterator[Record]:
    """Means over draws; of one draw its bootstrap interval."""
    own: dict[str, Any] = {"draws": len(chosen), "n_ta": SHOTS, **_where(setting)}
    own["samples"] = setting.samples
    for (method, metric), each in found.items():
        if len(each) == 1:
            yield _one(setting, method, metric, each[0], **own)
            continue
        extra: dict[str, Any] = {}
        for name in chosen[0].get(method, ()):
            extra[name] = float(np.mean([c[method][name] for c in chosen]))
        values = np.array([estimate.value for estimate in each])
        over = mean(values - [estimate.value for estimate in found[RIVAL, metric]])
        yield record(
            setting.name,
            method=method,
            metric=metric,
            **mean(values),
            **own,
            bootstrap_stderr=float(np.mean([estimate.stderr for estimate in each])),
            over_source=over["value"],
            over_source_stderr=over["stderr"],
            **extra,
        )


def _one(setting: Setting, method: str, metric: str, found: metrics.Estimate, **own: Any) -> Record:
    return record(setting.name, method=method, metric=metric, **estimated(found), **own)


def _where(setting: Setting) -> dict[str, int]:
    return {"d": LATENT_DIM, "D": setting.pool[0].size, "n_s": len(setting.source)}


def _real(setting: Setting) -> Iterator[Record]:
    """What real images measure, and how often the classifier is right."""
    where = _where(setting)
    accuracy = setting.classifier.accuracy
    yield _one(setting, "real", "classifier_accuracy", accuracy, **where)
    half = min((len(setting.pool) - SHOTS) // 2, 200)
    shots, rest = setting.pool[:SHOTS], setting.pool[SHOTS + half : SHOTS + 2 * half]
    real = {"real": setting.pool[SHOTS : SHOTS + half], "real source": setting.source[:half]}
    for method, images in real.items():
        for metric, estimate in measure(setting, images, shots, rest).items():
            yield _one(setting, method, metric, estimate, samples=half, **where)


def sheet(name: str) -> Callable[[Table], Any]:
    """The picture of a data set: target images, and what each method makes of the same noise."""
    return partial(_sheet, data=name)


def _sheet(table: Table, data: str) -> Any:
    def words(method: str) -> str:
        said = ""
        for metric, label in (("target_share", "of the target"), ("f_mem", "copies")):
            for r in table.present(data=data, metric=metric, method=method):
                said += f"; {label} {_share(r)}"
        return said

    title = f"{data}: samples from the same noise in every row"
    return pictures.sheet(table, data, TITLES, words, title)


def _share(row: Record) -> str:
    """A share with its interval, or with its standard error where it is a mean over draws."""
    if row.get("low") is None:
        return f"{row['value']:.2f} +- {row['stderr'] or 0:.2f}"
    return f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"


def finding(table: Table) -> str:
    """Copies and members by both ways to tune, for each data set."""
    said = []
    for name in dict.fromkeys(r["data"] for r in table.present(metric="f_mem")):
        copied, new, members = (
            table.one(data=name, metric=metric, method=method)
            for metric, method in (
                ("f_mem", "everything"),
                ("f_mem", "encoder_decoder_empirical"),
                ("target_share", "encoder_decoder_empirical"),
            )
        )
        said.append(
            f"{name} {_share(copied)} with everything tuned, {_share(new)} with encoder and "
            f"decoder only (judged to be of the target: {_share(members)})"
        )
    if not said:
        raise Missing("no data set is there")
    return f"Share of images that copy one of {SHOTS} targets: {'; '.join(said)}."


def lines(table: Table) -> text.Lines:
    """One line a method, one column a measure; the others are in the file."""
    lost = [text.line(r) for r in table.rows if r["value"] is None]
    shown = ("f_mem", "target_share", "diversity", "heldout_loss")
    rows = [r for metric in shown for r in table.present(metric=metric)]
    return text.pivot(rows, ("data", "method"), lambda row: row["metric"], text.short) + lost


STUDY = Study(
    name="images",
    summary="everything tuned against encoder and decoder only, on drawn faces and on garments",
    settings=settings,
    compute=compute,
    pictures={f"images-{name}": sheet(name) for name in DATA},
    lines=lines,
    finding=finding,
    quick=False,
    long=True,
    data=DATA,
    measured=(
        *("bootstrap_stderr", "over_source", "over_source_stderr", "source_share", "mean_share"),
    ),
)
