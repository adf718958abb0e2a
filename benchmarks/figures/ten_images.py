"""Held-out loss against the number of target images, and the images themselves."""

from pathlib import Path

import numpy as np

from benchmarks.figures import canvas, store
from benchmarks.records import Record

STYLES = {
    "few-shot": ("tab:blue", "o-"),
    "few-shot, no completion": ("tab:cyan", "v--"),
    "few-shot, source mean": ("tab:purple", "s--"),
    "rank-d, integrated": ("tab:green", "^:"),
    "source as is": ("gray", "x-"),
    "source as is, target mean": ("black", "+-"),
    "target only": ("tab:red", "D-"),
    "rehearsal": ("tab:orange", "P-"),
    "rehearsal, any mean": ("gold", "X-"),
    "ridge to the source": ("tab:brown", "<-"),
}


def draw(rows: list[Record], folder: Path) -> list[Path]:
    """The curves, then one sheet of images a data set."""
    losses = [r for r in rows if r["metric"] == "heldout_loss" and r["value"] is not None]
    names = list(dict.fromkeys(r["data"] for r in losses))
    if not names:
        return []
    figure, axes = canvas(1, len(names), figsize=(5.5 * len(names), 4.4))
    for axis, name in zip(axes[0], names, strict=True):
        for method, (color, style) in STYLES.items():
            line = [r for r in losses if r["data"] == name and r["method"] == method]
            axis.errorbar(
                [r["n_ta"] for r in line],
                [r["value"] for r in line],
                yerr=[2 * r["stderr"] for r in line],
                fmt=style,
                color=color,
                label=method,
                capsize=2,
                mfc="none",
            )
        ticks = sorted({r["n_ta"] for r in losses})
        axis.set(
            xscale="log",
            xlabel=r"target images $n_{ta}$",
            title=name,
            ylabel="held-out loss, integrated over t (+- 2 s.e.)",
        )
        axis.set_xticks(ticks, [str(t) for t in ticks])
        axis.minorticks_off()
    axes[0, -1].legend(fontsize=8)
    paths = [store(figure, folder / "ten-images.png")]
    return paths + [
        _sheet(folder, name) for name in names if (folder / f"ten-images-{name}.npz").exists()
    ]


def _sheet(folder: Path, name: str) -> Path:
    with np.load(folder / f"ten-images-{name}.npz") as archive:
        titles = [str(title) for title in archive["names"]]
        images = [archive[f"row_{i}"] for i in range(len(titles))]
    columns = len(images[0])
    figure, axes = canvas(len(titles), columns, figsize=(columns * 0.9, len(titles) * 1.15))
    for line, title, row in zip(axes, titles, images, strict=True):
        for axis, image in zip(line, row, strict=True):
            axis.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.axis("off")
        label = line[0].text(0, 1.06, title, transform=line[0].transAxes, fontsize=8)
        label.set_in_layout(False)
    figure.suptitle(f"{name}: samples with the same noise, and the nearest of the targets")
    return store(figure, folder / f"ten-images-{name}.png")
