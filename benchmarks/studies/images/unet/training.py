"""Section 6 with a U-Net: all of it tuned, or its rim only, measured along the way."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

import fsd_jax as fsd
from benchmarks import records, table
from benchmarks.cases.images import SHOTS, SHOWN, Setting, measure, setting_of
from benchmarks.context import Context
from benchmarks.records import Record, record
from fsd_jax._files import write_atomically
from fsd_jax.image import closed_form, data, metrics
from fsd_jax.image.finetune import SETS, Progress, UNetRecipe, train_unet
from fsd_jax.image.task import ImageTask
from fsd_jax.image.unet import PAPER, UNetScore, UNetSize, new_unet_score

SUMMARY = "a U-Net on drawn images: everything, encoder and decoder, or its rim tuned, step by step"
DRAWS: dict[str, Callable[..., ImageTask]] = {"avatars": data.avatars, "critters": data.critters}
DATA = tuple(DRAWS)
RIVALS = ("everything", "encoder_decoder")
"""The two that the paper compares."""
METRICS = (
    "f_mem",
    "target_share",
    "nearest_distance",
    "nearest_feature_distance",
    "diversity",
    "frechet",
    "kernel_distance",
    "heldout_loss",
)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Sizes of one run.

    Attributes:
        data: sets that are drawn.
        side: of an image.
        source: images; `heldout` more of the target.
        network: its size.
        pretrain: recipe on the source.
        finetune: recipe on the target.
        marks: steps at which fine-tuning is measured.
        draws: of the ten target images; the first is tuned by all `SETS`, others by `RIVALS`.
        samples: images that are generated at each mark, in `steps` steps.
        held: held-out images of the denoising loss.
    """

    data: tuple[str, ...]
    side: int
    source: int
    heldout: int
    network: UNetSize
    pretrain: UNetRecipe
    finetune: UNetRecipe
    marks: tuple[int, ...]
    draws: int
    samples: int
    steps: int
    held: int


QUICK = Scale(
    data=("avatars",),
    side=16,
    source=100,
    heldout=200,
    network=UNetSize(multipliers=(1, 2), attention=(False, True), blocks=1),
    pretrain=UNetRecipe(steps=20),
    finetune=UNetRecipe(steps=20, batch_size=2),
    marks=(10, 20),
    draws=1,
    samples=36,
    steps=5,
    held=4,
)
CPU = Scale(
    data=DATA,
    side=28,
    source=2000,
    heldout=1000,
    network=UNetSize(),
    pretrain=UNetRecipe(steps=3000, learning_rate=2e-3, ema=0.998, times="log"),
    finetune=UNetRecipe(steps=4000, batch_size=2, learning_rate=1e-3, ema=0.995, times="log"),
    marks=(200, 600, 2000, 4000),
    draws=3,
    samples=64,
    steps=50,
    held=40,
)
"""Rates above the paper's and times uniform in ``log t``, for pre-training has 20 times fewer
steps. Running means of the weights, for at such rates the last weights draw worse. The paper's 400
epochs are 2000 steps."""
FULL = Scale(
    data=DATA,
    side=64,
    source=6400,
    heldout=1000,
    network=PAPER,
    pretrain=UNetRecipe(steps=64_000),
    finetune=UNetRecipe(steps=2000, batch_size=2),
    marks=(200, 600, 2000),
    draws=3,
    samples=256,
    steps=100,
    held=200,
)
"""Section 6: 200 epochs of 6400 images by 20, then 400 epochs of 10 images by 2."""


def run(context: Context) -> Iterator[Record]:
    """Yield every measure of every set of tuned blocks at every mark."""
    scale = context.pick(QUICK, CPU, FULL)
    for name in context.data or scale.data:
        try:
            task = DRAWS[name](
                size=scale.side, source=scale.source, shots=SHOTS, heldout=scale.heldout
            )
        except ImportError as error:
            yield record("unet", name, "all", "f_mem", None, status=f"skipped: {error}")
            continue
        setting = setting_of(task, samples=scale.samples, steps=scale.steps, seed=context.seed)
        yield from _study(context, scale, setting)


@dataclass(frozen=True, kw_only=True)
class Draw:
    """One draw of the target images: its number and key, the ten, and others of the target."""

    number: int
    key: jax.Array
    shots: np.ndarray
    held: np.ndarray


def _study(context: Context, scale: Scale, setting: Setting) -> Iterator[Record]:
    """Every draw's records; a run that was killed finds those of its finished draws."""
    key = jax.random.key(setting.seed)
    source = _pretrained(context, scale, setting, jax.random.fold_in(key, 0))
    digest = hashlib.sha256(repr((scale, setting.seed)).encode()).hexdigest()[:8]
    for number in range(scale.draws):
        kept = f"unet-{setting.name}-{digest}-draw-{number + 1}.jsonl"
        if (context.out / kept).exists():
            context.tell(f"unet {setting.name}: {kept} is there already")
        else:
            rows = list(_draw(context, scale, setting, number, source, key))
            records.write(context.out, rows, seed=context.seed, size=context.size, name=kept)
        yield from records.read(context.out / kept)


def _draw(
    context: Context, scale: Scale, setting: Setting, number: int, source: UNetScore, key: jax.Array
) -> Iterator[Record]:
    shots, held = setting.drawn(number)
    draw = Draw(number=number, key=jax.random.fold_in(key, 1 + number), shots=shots, held=held)
    n = min(scale.samples, len(draw.held) // 2)
    real = measure(setting, draw.held[:n], draw.shots, draw.held[n:])
    yield from _rows(setting, draw, "real", 0, n, real)
    pictures = {"targets": draw.shots}
    for method, step, score in _scores(context, scale, setting, draw, source):
        context.tell(f"unet {setting.name}, draw {number + 1}: {method} after {step} steps")
        if score is None:
            yield record(
                "unet",
                setting.name,
                method,
                "f_mem",
                None,
                status=f"diverged at step {step}",
                **_cell(setting, draw, step, scale.samples),
            )
            continue
        drawn, found = _measured(scale, setting, draw, score)
        pictures[method if step in (0, scale.finetune.steps) else f"{method} {step}"] = drawn
        yield from _rows(setting, draw, method, step, scale.samples, found)
    if number == 0:
        _store(context.out / f"unet-{setting.name}.npz", pictures)


def _rows(
    setting: Setting, draw: Draw, method: str, step: int, n: int, found: dict[str, metrics.Estimate]
) -> Iterator[Record]:
    for metric in METRICS:
        if metric in found:
            value = found[metric]
            yield record(
                "unet",
                setting.name,
                method,
                metric,
                value.value,
                stderr=value.stderr,
                low=value.low,
                high=value.high,
                **_cell(setting, draw, step, n),
            )


def _cell(setting: Setting, draw: Draw, step: int, samples: int) -> dict[str, Any]:
    """Which cell of the study a record is."""
    return {
        "step": step,
        "draw": draw.number,
        "samples": samples,
        "n_ta": SHOTS,
        "n_s": len(setting.source),
        "D": draw.shots[0].size,
    }


def _measured(
    scale: Scale, setting: Setting, draw: Draw, score: Any
) -> tuple[np.ndarray, dict[str, metrics.Estimate]]:
    """Images, all methods' from the same noise, and every measure."""
    drawn = closed_form.generate(
        jax.random.fold_in(draw.key, 0),
        score,
        scale.samples,
        shape=draw.shots.shape[1:],
        steps=scale.steps,
        loop="host" if isinstance(score, UNetScore) else "scan",
    )
    loss = _heldout(jax.random.fold_in(draw.key, 1), score, draw.held[: scale.held])
    return drawn, measure(setting, drawn, draw.shots, draw.held) | {"heldout_loss": loss}


def _scores(
    context: Context, scale: Scale, setting: Setting, draw: Draw, source: UNetScore
) -> Iterator[tuple[str, int, Any]]:
    """Name, steps and score of every method; no score where training diverged at that step."""
    yield "source", 0, source
    yield "closed_form", 0, fsd.finetune(setting.pretrained, draw.shots).linear
    yield "exact_everything", 0, fsd.EmpiricalScore.from_samples(draw.shots)
    for number, which in enumerate(SETS if draw.number == 0 else RIVALS):
        marks: dict[int, UNetScore] = {}

        def watch(progress: Progress, which: str = which, marks: dict = marks) -> None:
            where = f"unet {setting.name}, draw {draw.number + 1}: {which}"
            context.tell(f"{where}, step {progress.step} of {progress.steps}")
            if progress.step in scale.marks:
                marks[progress.step] = progress.score

        done = train_unet(
            jax.random.fold_in(draw.key, 2 + number),
            source,
            draw.shots,
            recipe=scale.finetune,
            which=which,
            every=scale.marks[0],
            watch=watch,
        )
        yield from ((which, step, score) for step, score in marks.items())
        if done.diverged_at is not None:
            yield which, done.diverged_at, None


def _pretrained(context: Context, scale: Scale, setting: Setting, key: jax.Array) -> UNetScore:
    """The source's network, from its checkpoint if that is there."""
    start = new_unet_score(jax.random.fold_in(key, 0), setting.source, size=scale.network)
    context.out.mkdir(parents=True, exist_ok=True)
    sheet = context.out / f"unet-{setting.name}-pretraining.npz"

    def watch(progress: Progress) -> None:
        left = f"loss {progress.loss:.4f}, step {progress.step} of {progress.steps}"
        context.tell(f"unet {setting.name}: pre-training, {left}")
        if progress.step % (5 * EVERY) == 0:
            images = closed_form.generate(
                key, progress.score, SHOWN, shape=progress.score.shape, steps=25, loop="host"
            )
            _store(sheet, {f"after {progress.step} steps": images})

    return train_unet(
        jax.random.fold_in(key, 1),
        start,
        setting.source,
        recipe=scale.pretrain,
        every=EVERY,
        checkpoint=context.out / f"unet-{setting.name}-{context.size}.checkpoint",
        watch=watch,
    ).score


EVERY = 100
"""Steps between checkpoints of pre-training."""


def _heldout(key: jax.Array, score: Any, held: np.ndarray) -> metrics.Estimate:
    """Held-out loss integrated over t, all methods with the same noise."""
    times, weights = map(np.asarray, fsd.VP().quadrature(nodes=8))
    each = [
        # One time a call: networks are slow inside loops.
        metrics.denoising_losses(jax.random.fold_in(key, i), score, held, times=np.array([t]))[:, 0]
        for i, t in enumerate(times)
    ]
    return metrics.mean_of(np.stack(each, axis=1) @ weights)


def _store(path: Path, rows: dict[str, np.ndarray]) -> None:
    """Keep pictures, named, as bytes of colour."""
    arrays = {
        f"row_{i}": np.round(255 * np.clip(images[:SHOWN], 0, 1)).astype(np.uint8)
        for i, images in enumerate(rows.values())
    }
    names = np.array(list(rows))
    write_atomically(path, lambda file: np.savez_compressed(file, names=names, **arrays))


def lines(rows: list[Record]) -> table.Lines:
    """One line a draw, method and step, one column a measure."""
    if any(row["value"] is None for row in rows):
        return table.plain(rows)
    return table.pivot(
        rows, ("data", "draw", "method", "step"), lambda row: row["metric"], table.short
    )
