"""How pictures look: lines that differ in marker and dash, not in colour alone; no LaTeX."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.records import Record
from benchmarks.table import Table, words
from fsd_jax._files import write_atomically

# Dark, middle and light, so that they differ in grey as well.
STYLES: tuple[dict[str, Any], ...] = (
    {"color": "#000000", "marker": "o", "ls": "-"},
    {"color": "#b5462a", "marker": "s", "ls": "--"},
    {"color": "#1f6fb4", "marker": "^", "ls": "-."},
    {"color": "#4f9e5c", "marker": "D", "ls": ":"},
    {"color": "#8a63b0", "marker": "v", "ls": (0, (5, 1, 1, 1, 1, 1))},
    {"color": "#8c8c8c", "marker": "x", "ls": (0, (7, 3))},
    {"color": "#b8860b", "marker": "P", "ls": (0, (1, 1))},
    {"color": "#c2558c", "marker": "<", "ls": (0, (5, 2, 1, 2))},
    {"color": "#3f8f8f", "marker": "X", "ls": (0, (3, 1))},
    {"color": "#6b4226", "marker": ">", "ls": (0, (9, 2, 2, 2))},
)
ERROR = r"$E\,\Vert VV^\top - AA^\top\Vert_F^2$"
LABELS = {
    "n_ta": r"target samples $n_{ta}$",
    "n_s": r"source samples $n_s$",
    "t": r"time $t$ (of the SDE)",
    "d": r"latent dimension $d$",
    "D": r"ambient dimension $D$",
    "latent_variance": r"latent variance $\lambda^2$",
}
LOST_SHOWN = 3


def canvas(rows: int = 1, columns: int = 1, **options: Any) -> tuple[Any, Any]:
    """A figure and its axes, on the file-only backend."""
    os.environ.setdefault("MPLBACKEND", "agg")
    from matplotlib import pyplot

    pyplot.rcParams.update(
        {
            "font.size": 9,
            "axes.titlesize": 9.5,
            "legend.fontsize": 8,
            "axes.grid": True,
            "grid.alpha": 0.25,
            "grid.linewidth": 0.5,
            "lines.linewidth": 1.3,
            "lines.markersize": 4.5,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.framealpha": 0.85,
            "legend.edgecolor": "0.8",
            "pdf.fonttype": 42,
        }
    )
    return pyplot.subplots(rows, columns, squeeze=False, layout="constrained", **options)


def points(
    axis: Any, rows: Sequence[Record], x: str, style: int = 0, *, line: bool = False, **options: Any
) -> None:
    """Measured values with two standard errors, hollow markers; joined only when asked.

    Without rows there is no entry in a legend either.
    """
    if not rows:
        return
    look = STYLES[style % len(STYLES)]
    hollow = {} if look["marker"] == "x" else {"mfc": "none"}
    bars = [2 * (r["stderr"] or 0) for r in rows]
    axis.errorbar(
        [r[x] for r in rows],
        [r["value"] for r in rows],
        yerr=bars if any(bars) else None,
        color=look["color"],
        marker=look["marker"],
        ls=look["ls"] if line else "",
        capsize=2,
        lw=1,
        **(hollow | options),
    )


def apart(rows: Sequence[Record], x: str, place: int, count: int) -> list[Record]:
    """The rows at their `place` among `count` lines side by side, where all have one `x` only."""
    return [row | {x: row[x] * 1.05 ** (place - count / 2)} for row in rows]


def at_least(rows: Sequence[Record], least: float) -> list[Record]:
    """The rows with what a logarithmic axis cannot show put at its lower end."""
    return [row | {"value": max(abs(row["value"]), least)} for row in rows]


def curve(
    axis: Any, rows: Sequence[Record], x: str, field: str, style: int = 0, **options: Any
) -> None:
    """A line through one field of the rows; a gap where there is no number."""
    if not rows:
        return
    look = STYLES[style % len(STYLES)]
    heights = [float("nan") if r.get(field) is None else r[field] for r in rows]
    given = {"color": look["color"], "ls": look["ls"]} | options
    axis.plot([r[x] for r in rows], heights, **given)


def log_axes(
    axis: Any, x: str, y: str, title: str, *, across: str = "log", up: str = "log"
) -> None:
    """Labels and scales."""
    axis.set(xscale=across, yscale=up, xlabel=LABELS.get(x, x), ylabel=y, title=title)


def legend_below(figure: Any, axes: Any, columns: int) -> None:
    """One legend for these panels, under all, where it hides nothing: each label of theirs once."""
    known: dict[str, Any] = {}
    for axis in np.ravel(axes):
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            known.setdefault(label, handle)
    if known:
        figure.legend(known.values(), known.keys(), loc="outside lower center", ncols=columns)


def legend_under(axis: Any, columns: int) -> None:
    """The legend of one panel, under it."""
    if axis.get_legend_handles_labels()[1]:
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=columns, fontsize=7)


def store(figure: Any, table: Table, folder: Path, name: str) -> list[Path]:
    """Name what is missing on the picture, write PNG and PDF, close the figure."""
    from matplotlib import pyplot

    lost = table.absent()
    if lost:
        named = "; ".join(words(cell) for cell in lost[:LOST_SHOWN])
        more = f" and {len(lost) - LOST_SHOWN} more" if len(lost) > LOST_SHOWN else ""
        figure.suptitle(f"MISSING: {named}{more}", fontsize=9, color="#b00000", fontweight="bold")
    paths = [folder / f"{name}.png", folder / f"{name}.pdf"]
    write_atomically(paths[0], lambda file: figure.savefig(file, format="png", dpi=150))
    # Without its date equal numbers give an equal file.
    undated = {"CreationDate": None}
    write_atomically(paths[1], lambda f: figure.savefig(f, format="pdf", metadata=undated))
    pyplot.close(figure)
    return paths


def text_table(
    axis: Any, header: Sequence[str], lines: Sequence[Sequence[str]], *, widths: Sequence[float]
) -> None:
    """A table as a picture."""
    axis.axis("off")
    drawn = axis.table(
        cellText=[list(line) for line in lines],
        colLabels=list(header),
        loc="center",
        cellLoc="center",
        colWidths=list(widths),
    )
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(8.5)
    drawn.scale(1, 1.45)
    for (line, column), cell in drawn.get_celld().items():
        cell.set_edgecolor("0.75")
        if line == 0:
            cell.set_text_props(fontweight="bold")
            cell.set_facecolor("0.92")
        if column == 0:
            cell.set_text_props(ha="left")
            cell.PAD = 0.03
