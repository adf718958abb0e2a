"""The headline: expected score error against n_ta, and the cost of each assumption."""

from pathlib import Path
from typing import Any

from benchmarks.cases import gain as case
from benchmarks.figures import canvas, store
from benchmarks.records import Record, select

STYLES = {
    case.SCRATCH: ("tab:red", "D", "-"),
    case.RANK_T: ("tab:olive", "^", ":"),
    case.RANK_INT: ("tab:green", "v", "--"),
    case.ORTHONORMAL: ("tab:cyan", "s", "--"),
    case.COMPLETED: ("tab:blue", "o", "-"),
    case.PAIRED: ("tab:purple", "P", "-."),
    case.SOURCE: ("black", "x", "-"),
}


def draw(rows: list[Record], folder: Path) -> list[Path]:
    """Six panels: the regimes, n_s, angles, noise, a diagonal latent, the integrated error."""
    if not rows:
        return []
    figure, axes = canvas(2, 3, figsize=(16, 9))
    base = {"latent": "isotropic", "tau": 0.0, "angle": None, "n_s": 10_000}
    _methods(
        axes[0, 0],
        select(rows, metric=case.AT_T, **base),
        STYLES,
        f"Three regimes (isotropic, exact, t = {case.TIME})",
    )
    own = dict(metric=case.AT_T, method=case.COMPLETED)
    _curves(
        axes[0, 1],
        select(rows, latent="isotropic", tau=0.0, angle=None, **own),
        "n_s",
        "Orthonormal, completed: source samples",
        rows,
    )
    _curves(
        axes[0, 2],
        select(rows, latent="isotropic", tau=0.0, n_s=10_000, **own),
        "angle",
        "Completed from a source at an angle (rad)",
        rows,
    )
    noisy = select(rows, metric=case.AT_T, latent="isotropic", tau=0.2, angle=None, n_s=10_000)
    for model, style in ((True, "-"), (False, ":")):
        for method in (case.SCRATCH_D, case.COMPLETED):
            color = "tab:red" if method == case.SCRATCH_D else "tab:blue"
            label = f"{method}, noise {'' if model else 'not '}modelled"
            _line(
                axes[1, 0],
                select(noisy, residual_model=model, method=method),
                color,
                "o",
                style,
                label,
            )
    _finish(axes[1, 0], r"Residual noise, $\tau$ = 0.2")
    diagonal = {"latent": "diagonal", "tau": 0.0, "angle": None, "n_s": 10_000}
    _methods(
        axes[1, 1],
        select(rows, metric=case.AT_T, **diagonal),
        STYLES,
        "Diagonal latent, variances 4 to 1/4",
    )
    _methods(
        axes[1, 2],
        select(rows, metric=case.INTEGRATED, **base),
        STYLES,
        "Integrated over t in [0.001, 10]",
    )
    return [store(figure, folder / "gain.png")]


def _methods(axis: Any, rows: list[Record], styles: dict, title: str) -> None:
    for method, (color, marker, style) in styles.items():
        _line(axis, select(rows, method=method), color, marker, style, method)
    _finish(axis, title)


def _curves(axis: Any, rows: list[Record], name: str, title: str, everything: list[Record]) -> None:
    values = list(dict.fromkeys(r[name] for r in rows))
    for value, marker in zip(values, "osv^DPX", strict=False):
        label = "unrelated" if value is None else f"{value:g}"
        _line(axis, select(rows, **{name: value}), None, marker, "-", label)
    scratch = select(
        everything,
        metric=case.AT_T,
        method=case.SCRATCH,
        latent="isotropic",
        tau=0.0,
        angle=None,
        n_s=10_000,
    )
    _line(axis, scratch, "tab:red", "D", "--", case.SCRATCH)
    _finish(axis, title)


def _line(axis: Any, rows: list[Record], color: Any, marker: str, style: str, label: str) -> None:
    rows = [r for r in rows if r["value"]]
    if not rows:
        return
    drawn = axis.errorbar(
        [r["n_ta"] for r in rows],
        [r["value"] for r in rows],
        yerr=[2 * r["stderr"] for r in rows],
        color=color,
        marker=marker,
        ls=style,
        ms=4,
        mfc="none",
        lw=1,
        label=label,
    )
    exact = [r for r in rows if r["exact"] is not None]
    axis.plot(
        [r["n_ta"] for r in exact],
        [r["exact"] for r in exact],
        ".",
        ms=3,
        color=drawn[0].get_color(),
    )


def _finish(axis: Any, title: str) -> None:
    axis.axvline(case.LATENT_DIM, color="gray", lw=0.8)
    axis.set(
        xscale="log",
        yscale="log",
        title=title,
        xlabel=r"target samples $n_{ta}$ (line: d)",
        ylabel="expected score error",
    )
    if axis.get_legend_handles_labels()[0]:
        # A quick run leaves panels empty.
        axis.legend(fontsize=7, framealpha=0.5)
