"""Time of each method on each problem."""

from pathlib import Path

from benchmarks.figures import canvas, store
from benchmarks.records import Record


def draw(rows: list[Record], folder: Path) -> list[Path]:
    """Bars in seconds; hollow where a method is less accurate than asked."""
    timed = [r for r in rows if r["metric"] == "time" and r["value"] is not None]
    names = list(dict.fromkeys(r["data"] for r in timed))
    if not names:
        return []
    figure, axes = canvas(len(names), 1, figsize=(8, 1.2 + 2.4 * len(names)))
    for axis, name in zip(axes[:, 0], names, strict=True):
        chosen = sorted((r for r in timed if r["data"] == name), key=lambda r: -r["value"])
        for i, row in enumerate(chosen):
            own = row["method"] == "fsd_jax"
            accurate = row["status"] == "ok"
            color = "tab:blue" if own else "gray"
            axis.barh(i, row["value"], color=color if accurate else "none", edgecolor=color)
        axis.set_yticks(range(len(chosen)), [r["method"] for r in chosen], fontsize=7)
        axis.set(xscale="log", title=f"{name}, d = {chosen[0]['d']}", xlabel="seconds")
    figure.suptitle(
        "Moment + minimiser (hollow: top eigenvalues off by more than 1e-5,\n"
        "or projector by more than 1e-3)",
        fontsize=10,
    )
    return [store(figure, folder / "solve.png")]
