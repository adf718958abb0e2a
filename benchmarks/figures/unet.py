"""A U-Net along fine-tuning: what it draws from the same noise, and every measure against steps."""

from pathlib import Path
from typing import Any

from benchmarks.figures import canvas, rows_of_pictures, store
from benchmarks.figures.images import sheet
from benchmarks.records import Record, select

TITLES = {
    "targets": "the ten target images",
    "source": "source as is",
    "everything": "everything tuned",
    "encoder_decoder": "encoder and decoder tuned (first 4 blocks down, last 4 up)",
    "outermost": "outermost blocks tuned (first 1 down, last 1 up)",
    "real": "other images of the target",
    "closed_form": "closed form: linear encoder and decoder",
    "exact_everything": "exact optimum of everything tuned",
}
PANELS = {
    "f_mem": "share that copies a target image",
    "target_share": "share with the target feature",
    "nearest_distance": "distance to the nearest of the ten",
    "heldout_loss": "held-out denoising loss",
}
LOOKS = {
    "everything": {"color": "#000000", "marker": "o", "ls": "-"},
    "encoder_decoder": {"color": "#b5462a", "marker": "s", "ls": "--"},
    "outermost": {"color": "#1f6fb4", "marker": "^", "ls": "-."},
}
LEVELS = {
    "source": (0, (1, 1)),
    "real": (0, (3, 1, 1, 1)),
    "closed_form": (0, (7, 3)),
    "exact_everything": (0, (5, 1, 1, 1, 1, 1)),
}


def draw(rows: list[Record], folder: Path) -> list[Path]:
    """A sheet of pictures and a page of curves for each data set of these records."""
    pictures = []
    for name in dict.fromkeys(row["data"] for row in rows):
        own = [row for row in select(rows, data=name) if row["value"] is not None]
        if own:
            pictures.append(_curves(folder, name, own))
        if (folder / f"unet-{name}.npz").exists():
            pictures.append(_sheet(folder, name, own))
    return pictures


def _sheet(folder: Path, name: str, rows: list[Record]) -> Path:
    stored = rows_of_pictures(folder / f"unet-{name}.npz")
    images = {entry: row / 255 for entry, row in stored.items()}
    figure = sheet(images, TITLES, rows, ("target share", "copies"))
    figure.suptitle(f"{name}, U-Net at the end of fine-tuning: the same noise in every row")
    return store(figure, folder / f"unet-{name}.png")


def _curves(folder: Path, name: str, rows: list[Record]) -> Path:
    figure, axes = canvas(2, 2, figsize=(9.5, 6.5))
    along_steps(axes, rows)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.suptitle(f"{name}: a U-Net tuned to ten images (bars: two standard errors)")
    return store(figure, folder / f"unet-{name}-steps.png")


def along_steps(axes: Any, rows: list[Record]) -> None:
    """Each measure against the steps, a line a draw of the target images, moved to be seen."""
    steps = sorted({r["step"] for r in rows if r["step"]})
    for axis, (metric, title) in zip(axes.ravel(), PANELS.items(), strict=True):
        for method, look in LOOKS.items():
            own = select(rows, metric=metric, method=method)
            for draw in dict.fromkeys(r["draw"] for r in own):
                points = select(own, draw=draw)
                axis.errorbar(
                    [r["step"] * (1 + draw / 12) for r in points],
                    [r["value"] for r in points],
                    yerr=[2 * (r["stderr"] or 0) for r in points],
                    capsize=2,
                    mfc="none",
                    label="_" if draw else TITLES[method],
                    **look,
                )
        for method, dash in LEVELS.items():
            for r in select(rows, metric=metric, method=method, draw=0):
                axis.axhline(r["value"], ls=dash, color="0.45", lw=1.2, label=TITLES[method])
        axis.set(xscale="log", xlabel="fine-tuning steps", title=title)
        axis.set_xticks(steps, [str(step) for step in steps])
        axis.minorticks_off()
    axes.ravel()[-1].set_yscale("log")
