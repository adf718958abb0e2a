"""Training, tuning and measuring the U-Nets: what needs the network's own libraries."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

import fsd_jax as fsd
from benchmarks import pictures, records
from benchmarks.records import Record, record
from benchmarks.studies.images.images.measuring import SHOTS, SHOWN, Setting, measure
from benchmarks.study import Settings, Work, estimated
from fsd_jax._files import write_text
from fsd_jax.image import closed_form, metrics
from fsd_jax.image.finetune import SETS, Progress, UNetRecipe, train_unet
from fsd_jax.image.unet import UNetScore, UNetSize, new_unet_score

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
WIDE = 512
"""Directions of a closed form that leaves out little of the source."""
EVERY = 100
"""Steps between checkpoints of pre-training."""


@dataclass(frozen=True, kw_only=True)
class Draw:
    """One draw of the target images: its number and key, the ten, and others of the target."""

    number: int
    key: jax.Array
    shots: np.ndarray
    held: np.ndarray


def along_draws(s: Settings, work: Work, setting: Setting) -> Iterator[Record]:
    """Every draw's records; a run that was killed finds those of its finished draws."""
    key = jax.random.key(setting.seed)
    source = _pretrained(s, work, setting, jax.random.fold_in(key, 0))
    for number in range(s["draws"]):
        kept = work.folder / f"{setting.name}-draw-{number + 1}.jsonl"
        if kept.exists():
            work.tell(f"{setting.name}: {kept.name} is there already")
        else:
            rows = _draw(s, work, setting, number, source, key)
            write_text(kept, "".join(json.dumps(row) + "\n" for row in rows))
        yield from records.read(kept)


def _draw(
    s: Settings, work: Work, setting: Setting, number: int, source: UNetScore, key: jax.Array
) -> Iterator[Record]:
    shots, held = setting.drawn(number)
    draw = Draw(number=number, key=jax.random.fold_in(key, 1 + number), shots=shots, held=held)
    n = min(s["samples"], len(draw.held) // 2)
    real = measure(setting, draw.held[:n], draw.shots, draw.held[n:])
    yield from _rows(setting, draw, "real", 0, n, real)
    shown = {"targets": draw.shots}
    for method, step, score in _scores(s, work, setting, draw, source):
        work.tell(f"{setting.name}, draw {number + 1}: {method} after {step} steps")
        cell = _cell(setting, draw, step, s["samples"])
        if score is None:
            lost = f"diverged at step {step}"
            yield record(setting.name, None, method=method, metric="f_mem", status=lost, **cell)
            continue
        drawn, found = _measured(s, setting, draw, score)
        if step in (0, s["finetune"]["steps"]):
            shown[method] = drawn[:SHOWN]
        yield from _rows(setting, draw, method, step, s["samples"], found)
    if number == 0:
        yield from pictures.rows(setting.name, shown)


def _rows(
    setting: Setting, draw: Draw, method: str, step: int, n: int, found: dict[str, metrics.Estimate]
) -> Iterator[Record]:
    for metric in METRICS:
        if metric in found:
            own = {"method": method, "metric": metric, **_cell(setting, draw, step, n)}
            yield record(setting.name, **estimated(found[metric]), **own)


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
    s: Settings, setting: Setting, draw: Draw, score: Any
) -> tuple[np.ndarray, dict[str, metrics.Estimate]]:
    """Images, all methods' from the same noise, and every measure."""
    drawn = closed_form.generate(
        jax.random.fold_in(draw.key, 0),
        score,
        s["samples"],
        shape=draw.shots.shape[1:],
        steps=s["steps"],
        loop="host" if isinstance(score, UNetScore) else "scan",
    )
    loss = _heldout(jax.random.fold_in(draw.key, 1), score, draw.held[: s["held"]])
    return drawn, measure(setting, drawn, draw.shots, draw.held) | {"heldout_loss": loss}


def _scores(
    s: Settings, work: Work, setting: Setting, draw: Draw, source: UNetScore
) -> Iterator[tuple[str, int, Any]]:
    """Name, steps and score of every method; no score where training diverged at that step."""
    yield "source", 0, source
    yield "closed_form", 0, fsd.finetune(setting.pretrained, draw.shots).linear
    yield "closed_form_wide", 0, _wide(setting, draw)
    yield "adapted", 0, fsd.adapt(setting.source, draw.shots).linear
    yield "exact_everything", 0, fsd.EmpiricalScore.from_samples(draw.shots)
    for number, which in enumerate(SETS if draw.number == 0 else RIVALS):
        marks: dict[int, UNetScore] = {}

        def watch(progress: Progress, which: str = which, marks: dict = marks) -> None:
            where = f"{setting.name}, draw {draw.number + 1}: {which}"
            work.tell(f"{where}, step {progress.step} of {progress.steps}")
            if progress.step in s["marks"]:
                marks[progress.step] = progress.score

        done = train_unet(
            jax.random.fold_in(draw.key, 2 + number),
            source,
            draw.shots,
            recipe=UNetRecipe(**s["finetune"]),
            which=which,
            every=s["marks"][0],
            watch=watch,
        )
        yield from ((which, step, score) for step, score in marks.items())
        if done.diverged_at is not None:
            yield which, done.diverged_at, None


def _wide(setting: Setting, draw: Draw) -> fsd.LinearScore:
    wide = min(WIDE, len(setting.source) - 1, draw.shots[0].size)
    return fsd.finetune(fsd.pretrain(setting.source, latent_dim=wide), draw.shots).linear


def _pretrained(s: Settings, work: Work, setting: Setting, key: jax.Array) -> UNetScore:
    """The source's network, from its checkpoint if that is there."""
    network: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in s["network"].items()
    }
    start = new_unet_score(jax.random.fold_in(key, 0), setting.source, size=UNetSize(**network))
    work.folder.mkdir(parents=True, exist_ok=True)

    def watch(progress: Progress) -> None:
        left = f"loss {progress.loss:.4f}, step {progress.step} of {progress.steps}"
        work.tell(f"{setting.name}: pre-training, {left}")

    return train_unet(
        jax.random.fold_in(key, 1),
        start,
        setting.source,
        recipe=UNetRecipe(**s["pretrain"]),
        every=EVERY,
        checkpoint=work.folder / f"{setting.name}.checkpoint",
        watch=watch,
    ).score


def _heldout(key: jax.Array, score: Any, held: np.ndarray) -> metrics.Estimate:
    """Held-out loss integrated over t, all methods with the same noise."""
    times, weights = map(np.asarray, fsd.VP().quadrature(nodes=8))
    each = [
        # One time a call: networks are slow inside loops.
        metrics.denoising_losses(jax.random.fold_in(key, i), score, held, times=np.array([t]))[:, 0]
        for i, t in enumerate(times)
    ]
    return metrics.mean_of(np.stack(each, axis=1) @ weights)
