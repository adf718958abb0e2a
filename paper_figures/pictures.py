"""Figures 1 and 2: the same computation and the same sheet on two data sets."""

import base64
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

import fsd_jax as fsd
from benchmarks.cases.images import LATENT_DIM, SHOTS, measure, setting_of
from benchmarks.figures.images import TITLES, strip
from fsd_jax.image import closed_form
from fsd_jax.image.task import ImageTask
from paper_figures import style
from paper_figures.table import Row, Table, row
from paper_figures.work import SEED, Work

METHODS = ("everything", "encoder_decoder_empirical", "encoder_decoder")
SHOWN = ("targets", *METHODS)


def settings_of(data: str, quick: bool) -> dict[str, Any]:
    """Sizes, those of the benchmark `images`, whose drawings are kept; one draw of the target."""
    return {
        "data": data,
        "size": 28 if quick else 32,
        "source": 300 if quick else 1000,
        "heldout": 240 if quick else 500,
        "shots": SHOTS,
        "d": LATENT_DIM,
        "samples": 64 if quick else 400,
        "steps": 40 if quick else 100,
    }


def rows_of(s: dict[str, Any], load: Callable[..., ImageTask], work: Work) -> Iterator[Row]:
    """Measures with their bootstrap intervals, and the pictures of the first samples.

    Raises:
        ImportError: the extra that draws the images is missing.
    """

    def tell(done: int, total: int) -> None:
        work.tell(f"{s['data']}: drawing {done} of {total}")

    task = load(
        size=s["size"], source=s["source"], shots=s["shots"], heldout=s["heldout"], progress=tell
    )
    work.tell(f"{s['data']}: measuring")
    setting = setting_of(task, samples=s["samples"], steps=s["steps"], seed=SEED)
    shots, held = setting.pool[: s["shots"]], setting.pool[s["shots"] :]
    tuned = fsd.finetune(setting.pretrained, shots).linear
    scores: dict[str, Any] = {
        "everything": fsd.EmpiricalScore.from_samples(shots),
        "encoder_decoder_empirical": closed_form.with_source_latents(
            tuned, setting.pretrained, setting.source
        ),
        "encoder_decoder": tuned,
    }
    found = {
        name: closed_form.generate(
            jax.random.key(SEED), score, s["samples"], shape=shots.shape[1:], steps=s["steps"]
        )
        for name, score in scores.items()
    }
    half = len(held) // 2
    found |= {"real": held[:half], "source": setting.source[: s["samples"]]}
    for name, images in found.items():
        for metric, value in measure(setting, images, shots, held[half:]).items():
            yield row(
                metric,
                value.value,
                stderr=value.stderr,
                low=value.low,
                high=value.high,
                method=name,
            )
    for name in SHOWN:
        images = shots if name == "targets" else found[name][: s["shots"]]
        yield row("pictures", len(images), note=_packed(images), method=name)


def _packed(images: np.ndarray) -> str:
    return base64.b64encode(np.round(255 * np.clip(images, 0, 1)).astype(np.uint8)).decode()


def _unpacked(text: str, size: int) -> np.ndarray:
    flat = np.frombuffer(base64.b64decode(text), np.uint8)
    return flat.reshape(-1, size, size, 3) / 255


def sheet(table: Table) -> Any:
    """Target images, and what each method makes of the same noise."""
    s = table.settings
    kept = {r["method"]: r for r in table.present(series="pictures")}
    shown = [name for name in SHOWN if name in kept]
    figure, axes = style.canvas(
        max(len(shown), 1), s["shots"], figsize=(s["shots"] * 0.9, 1.2 * len(SHOWN))
    )
    for line, name in zip(axes, shown, strict=False):
        words = TITLES[name]
        for metric, label in (("target_share", "of the target"), ("f_mem", "copies")):
            for r in table.present(series=metric, method=name):
                words += f"; {label} {r['value']:.2f} [{r['low']:.2f}, {r['high']:.2f}]"
        strip(line, _unpacked(kept[name]["note"], s["size"]), words)
    return figure
