"""Score error of trained networks against n_ta."""

from pathlib import Path
from typing import Any

from benchmarks.figures import canvas, store
from benchmarks.records import Record, select

STYLES = {
    "fewshot": ("tab:blue", "o", "-", "few-shot: network frozen, rotation tuned"),
    "full": ("tab:green", "^", "--", "everything tuned, from there"),
    "scratch": ("tab:red", "D", "-.", "from scratch"),
    "decoder": ("tab:gray", "s", ":", "network frozen, V by descent from the source's"),
}


def draw(rows: list[Record], folder: Path) -> list[Path]:
    """One panel: means over worlds, with two standard errors."""
    if not rows:
        return []
    figure, axes = canvas(figsize=(8, 6))
    curves(axes[0, 0], rows)
    first = rows[0]
    axes[0, 0].set_title(
        f"{first['data']}: d = {first['d']}, n_s = {first['n_s']}, "
        f"{first['replicates']} worlds, 2 s.e.",
        fontsize=10,
    )
    return [store(figure, folder / "section4.png")]


def curves(axis: Any, rows: list[Record]) -> None:
    """Each method's errors against n_ta, and where ``n_ta = d``."""
    for method, (color, marker, style, label) in STYLES.items():
        own = [r for r in select(rows, method=method) if r["value"] is not None]
        if own:
            error = [min(2 * (r["stderr"] or 0), 0.95 * r["value"]) for r in own]
            axis.errorbar(
                [r["n_ta"] for r in own],
                [r["value"] for r in own],
                yerr=error,
                color=color,
                marker=marker,
                ls=style,
                mfc="none",
                capsize=2,
                label=label,
            )
    axis.axvline(rows[0]["d"], color="black", lw=0.8, ls=":", label=r"$n_{ta} = d$")
    axis.set(
        xscale="log",
        yscale="log",
        xlabel=r"target samples $n_{ta}$",
        ylabel=r"mean of $\|s - \nabla\log q_t\|^2$ over $[\delta, T]$",
    )
    axis.legend(fontsize=8)
