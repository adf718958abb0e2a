"""Loss gaps of the optimiser above the closed form."""

from pathlib import Path

from benchmarks.figures import canvas, store
from benchmarks.records import Record, select

ROUNDING = 1e-16


def draw(rows: list[Record], folder: Path) -> list[Path]:
    """One point a problem: |relative gap| against n_ta; all must lie below 1e-9."""
    gaps = [r for r in select(rows, metric="loss_gap") if r["value"] is not None]
    if not gaps:
        return []
    figure, axes = canvas(figsize=(7, 4.2))
    axis = axes[0, 0]
    for marker, objective in zip("o^", ("one t", "integrated"), strict=True):
        chosen = select(gaps, objective=objective)
        axis.loglog(
            [r["n_ta"] * (1.06 if objective == "integrated" else 0.94) for r in chosen],
            [max(abs(r["value"]), ROUNDING) for r in chosen],
            marker,
            mfc="none",
            color="black" if marker == "o" else "tab:blue",
            ls="",
            label=f"{objective} ({len(chosen)} problems)",
        )
    axis.axhline(1e-9, color="gray", ls="--", label="promised: 1e-9")
    axis.set(
        xlabel=r"target samples $n_{ta}$",
        ylabel="|loss of L-BFGS - loss of closed form| / loss",
        title="Multi-start L-BFGS finds the closed form's loss (float64)",
    )
    axis.legend()
    return [store(figure, folder / "agreement.png")]
