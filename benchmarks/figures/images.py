"""Target images, and what each method makes of the same noise; one sheet a data set."""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import canvas, rows_of_pictures, store
from benchmarks.records import Record, select

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


def draw(rows: list[Record], folder: Path) -> list[Path]:
    """One sheet for each data set of these records."""
    return [
        _sheet(folder, name, select(rows, data=name))
        for name in dict.fromkeys(row["data"] for row in rows)
        if (folder / f"images-{name}.npz").exists()
    ]


def _sheet(folder: Path, name: str, rows: list[Record]) -> Path:
    images = rows_of_pictures(folder / f"images-{name}.npz")
    figure = sheet(images, TITLES, rows, ("target share", "memorised"))
    figure.suptitle(f"{name}: samples with the same noise in every row")
    return store(figure, folder / f"images-{name}.png")


def sheet(
    images: dict[str, Any], titles: dict[str, str], rows: list[Record], labels: tuple[str, str]
) -> Any:
    """A row of pictures for each title, with the target share and ``f_mem`` of its last records."""
    shown = [entry for entry in titles if entry in images]
    columns = len(images["targets"])
    figure, axes = canvas(len(shown), columns, figsize=(columns * 0.9, len(shown) * 1.15))
    for line, entry in zip(axes, shown, strict=True):
        words = titles[entry]
        measured = {r["metric"]: r for r in select(rows, method=entry)}
        if measured:
            share, memory = measured["target_share"], measured["f_mem"]
            words += f": {labels[0]} {share['value']:.2f}, {labels[1]} {memory['value']:.2f}"
        strip(line, images[entry], words)
    return figure


def strip(line: Any, images: np.ndarray, words: str) -> None:
    """One row of pictures with its words above."""
    for axis, image in zip(line, np.clip(images, 0, 1), strict=True):
        axis.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axis.axis("off")
    label = line[0].text(0, 1.06, words, transform=line[0].transAxes, fontsize=8)
    label.set_in_layout(False)
