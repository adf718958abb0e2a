"""Theorem 5.2's picture: one panel a parameter, the others held."""

from typing import Any

from benchmarks import drawing
from benchmarks.records import Record
from benchmarks.table import Table

PANELS = ("n_ta", "n_s", "t", "latent_variance", "d", "D")
SHORT = {
    "n_ta": r"$n_{ta}$",
    "n_s": r"$n_s$",
    "d": "$d$",
    "t": "$t$",
    "latent_variance": r"$\lambda^2$",
}


def draw(table: Table) -> Any:
    """Six panels."""
    figure, axes = drawing.canvas(2, 3, figsize=(13.5, 8.4))
    panels = dict(zip(PANELS, axes.flat, strict=True))
    for name in ("n_ta", "n_s", "latent_variance", "d", "D"):
        _panel(panels[name], table.present(data=f"against {name}"), name)
    _alone(panels["n_ta"], table.present(data="n_ta alone"), "n_ta", r"$n_s = \infty$")
    _alone(panels["n_s"], table.present(data="n_s alone, d 8"), "n_s", r"$n_{ta} = 10^9$")
    axis = panels["t"]
    for place, variance in enumerate(table.settings["variances"]):
        rows = table.present(data=f"against t, lambda^2 {variance:g}")
        drawing.points(axis, rows, "t", place, label=rf"$\lambda^2$ = {variance:g}")
        drawing.curve(axis, rows, "t", "exact", place)
    for name, axis in panels.items():
        title = ", ".join(
            f"{SHORT[k]} = {v:g}"
            for k, v in table.settings["base"].items()
            if k != name and (name, k) != ("t", "latent_variance")
        )
        drawing.log_axes(
            axis, name, drawing.ERROR, title + (", no bound drawn" if name == "t" else "")
        )
        if name in ("d", "D"):
            axis.set_xticks(table.settings[name], [str(v) for v in table.settings[name]])
            axis.minorticks_off()
    corners: dict[str, Any] = {"n_ta": (0.36, 0.44), "n_s": (0.4, 0.5), "t": "lower right"}
    for name, corner in corners.items():
        panels[name].legend(fontsize=7, loc=corner)
    drawing.legend_below(figure, panels["D"], 4)
    return figure


def _panel(axis: Any, rows: list[Record], name: str) -> None:
    # Labelled once, in the panel whose legend stands for all.
    words = ("Monte Carlo, 2 s.e.", "exact", "expansion for large d", "Theorem 5.2, constant one")
    labels = words if name == "D" else (None,) * 4
    drawing.points(axis, rows, name, 0, label=labels[0])
    # One value alone has no line.
    dot = {"marker": "_"} if len(rows) == 1 else {}
    fields = ("exact", "asymptotic", "bound")
    for field, style, label in zip(fields, (0, 3, 1), labels[1:], strict=True):
        drawing.curve(axis, rows, name, field, style, label=label, **dot)


def _alone(axis: Any, rows: list[Record], name: str, words: str) -> None:
    drawing.points(axis, rows, name, 2, label=words)
    drawing.curve(axis, rows, name, "exact", 2)
    if name == "n_ta":
        drawing.curve(axis, rows, name, "bound", 4, label=r"Theorem 5.2's $n_{ta}$ term")
