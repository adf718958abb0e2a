"""The three regimes of few-shot models, and what each assumption is worth."""

from typing import Any

from benchmarks import drawing
from benchmarks.records import Record
from benchmarks.studies.linear.gain import assumptions as a
from benchmarks.studies.linear.gain.judging import AS_IS, COMPLETED
from benchmarks.table import Table

Curve = tuple[list[Record], int, str]
"""Its points, its look and its label."""
ERROR = "expected score error at $t$ = 0.5"
SWEPT = {"rank": "scratch = rank-d at its own t", "orthonormal": "few-shot, orthonormal"}
LOOKS = {
    a.SCRATCH: 0,
    a.RANK_T: 6,
    a.RANK_INT: 3,
    a.ORTHONORMAL: 5,
    a.COMPLETED: 1,
    a.PAIRED: 4,
    a.SOURCE: 2,
}


def regimes(table: Table) -> Any:
    """The regimes on the left, the transition on the right."""
    figure, axes = drawing.canvas(1, 2, figsize=(12, 5.1))
    axis, base = axes[0, 0], table.settings["base"]
    own = {"data": "sweep", "n_s": base["n_s"]}
    for place, (method, label) in enumerate(SWEPT.items()):
        rows = table.present(method=method, **own)
        drawing.points(axis, rows, "n_ta", place, label=f"{label}: Monte Carlo")
        drawing.curve(axis, rows, "n_ta", "exact", place, label=f"{label}: exact")
    low = table.present(data="sweep", n_s=100, method="orthonormal")
    drawing.points(axis, low, "n_ta", 2, label=r"few-shot, $n_s = 100$")
    drawing.curve(axis, low, "n_ta", "exact", 2)
    others = {
        COMPLETED: "few-shot, completed from an unrelated source",
        AS_IS: "source as is, unrelated",
    }
    for place, (name, label) in enumerate(others.items(), start=3):
        drawing.points(axis, table.present(data=name), "n_ta", place, label=label, line=True)
    rows = table.present(data=a.Curve().name, method=a.RANK_INT, metric=a.AT_T)
    drawing.points(axis, rows, "n_ta", 5, label="rank-d, fitted over all t", line=True)
    _mark_d(axis, base["d"], 0.25)
    title = r"Three regimes ($d$ = 8, $\lambda^2$ = 1, $n_s = 10^4$; 2 s.e.)"
    drawing.log_axes(axis, "n_ta", ERROR, title)
    axis.set_ylim(top=300)
    drawing.legend_below(figure, axis, 3)
    axis = axes[0, 1]
    for place, (method, label) in enumerate(SWEPT.items()):
        rows = [r for r in table.present(method=method, **own) if r["n_ta"] <= 2 * base["d"]]
        drawing.points(axis, rows, "n_ta", place, line=True, label=label)
    _mark_d(axis, base["d"], 0.12)
    title = "The transition: at $n_{ta} = d$ the subspace is exact,\n"
    title += "and the source's error is left"
    drawing.log_axes(axis, "n_ta", ERROR, title, across="linear", up="linear")
    axis.legend()
    return figure


def _mark_d(axis: Any, d: int, height: float = 0.04) -> None:
    axis.axvline(d, color="0.5", lw=0.8)
    place = axis.get_xaxis_transform()
    axis.text(d * 1.1, height, "$n_{ta} = d$", color="0.35", fontsize=8, transform=place)


def assumptions(table: Table) -> Any:
    """A panel for each assumption that this run has changed; None if it changed none."""
    panels = [panel for panel in _panels(table) if panel[1]]
    if not panels:
        return None
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure, axes = drawing.canvas(lines, columns, figsize=(5.6 * columns, 5.2 * lines))
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    for axis, (title, curves) in zip(axes.flat, panels, strict=False):
        for rows, look, label in curves:
            drawing.points(axis, rows, "n_ta", look, line=True, label=label)
            drawing.curve(axis, rows, "n_ta", "exact", look, ls="", marker=".", ms=3)
        _mark_d(axis, a.LATENT_DIM)
        drawing.log_axes(axis, "n_ta", "expected score error", title)
        drawing.legend_under(axis, 2)
    return figure


def _panels(table: Table) -> list[tuple[str, list[Curve]]]:
    """Title and curves of each panel; no curves where the assumption was not changed."""
    rows = [r for r in table.present(d=a.LATENT_DIM) if r["method"] in a.METHODS]
    base = {"latent": "isotropic", "tau": 0.0, "angle": None, "n_s": 10_000, "metric": a.AT_T}
    noisy = _select(rows, **base | {"tau": 0.2})
    return [
        ("Completed, from so many source samples", _values(rows, base, "n_s")),
        ("Completed, from a source at an angle (rad)", _values(rows, base, "angle")),
        (
            r"Residual noise, $\tau$ = 0.2",
            [
                (_select(noisy, method=method, residual_model=model), look, f"{method}, {words}")
                for look, (model, words, method) in enumerate(
                    (model, words, method)
                    for model, words in ((True, "noise modelled"), (False, "not modelled"))
                    for method in (a.SCRATCH_D, a.COMPLETED)
                )
                if noisy
            ],
        ),
        (
            "Diagonal latent, variances 4 to 1/4",
            _methods(_select(rows, **base | {"latent": "diagonal"})),
        ),
        (
            "Integrated over t in [0.001, 10]",
            _methods(_select(rows, **base | {"metric": a.INTEGRATED})),
        ),
    ]


def _select(rows: list[Record], **wanted: Any) -> list[Record]:
    return [r for r in rows if all(r[name] == value for name, value in wanted.items())]


def _methods(rows: list[Record]) -> list[Curve]:
    return [(_select(rows, method=method), look, method) for method, look in LOOKS.items() if rows]


def _values(rows: list[Record], base: Record, name: str) -> list[Curve]:
    """Completed few-shot models for each value of one assumption, beside scratch."""
    others = {k: v for k, v in base.items() if k != name}
    own = _select(rows, method=a.COMPLETED, **others)
    values = dict.fromkeys(r[name] for r in own)
    if len(values) < 2:
        return []
    curves: list[Curve] = [(_select(rows, method=a.SCRATCH, **base), 0, a.SCRATCH)]
    for look, value in enumerate(values, start=1):
        label = "unrelated" if value is None else f"{value:g}"
        curves.append((_select(own, **{name: value}), look, label))
    return curves
