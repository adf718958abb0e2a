"""Subspace error against each parameter: Monte Carlo, exact curve, asymptotic curve, bound."""

from pathlib import Path
from typing import Any

from benchmarks.cases import linear_rates as case
from benchmarks.figures import canvas, store
from benchmarks.records import Record, select

LABELS = {
    "n_ta": r"target samples $n_{ta}$",
    "n_s": r"source samples $n_s$",
    "t": r"time $t$",
    "d": r"latent dimension $d$",
    "latent_variance": r"latent variance $\lambda^2$",
}


def draw(rows: list[Record], folder: Path) -> list[Path]:
    """One panel a parameter, the others held at their base values."""
    figure, axes = canvas(2, 4, figsize=(19, 8))
    panels = [panel for line in axes for panel in line]
    for panel, (axis, label) in zip(panels, LABELS.items(), strict=False):
        own = select(rows, data=f"against {axis}")
        if not own:
            continue
        x = [r[axis] for r in own]
        panel.errorbar(
            x,
            [r["value"] for r in own],
            yerr=[2 * r["stderr"] for r in own],
            fmt="o",
            ms=4,
            mfc="none",
            color="black",
            label="Monte Carlo, 2 s.e.",
        )
        panel.plot(x, [r["exact"] for r in own], "-", color="tab:blue", label="exact")
        panel.plot(x, [r["asymptotic"] for r in own], ":", color="tab:green", label="large d")
        panel.plot(
            x, [r["bound"] for r in own], "--", color="tab:red", label="Theorem 5.2, constant 1"
        )
        panel.plot(
            x,
            [r["bound_target_term"] for r in own],
            "-.",
            color="tab:orange",
            label=r"its $n_{ta}$ term",
        )
        held = ", ".join(
            f"{name} = {value:g}" for name, value in case.BASE.items() if name != axis
        ).replace("latent_variance", "lambda^2")
        panel.set(
            xscale="log",
            yscale="log",
            xlabel=label,
            title=held,
            ylabel=r"$E\,\|VV^\top - AA^\top\|_F^2$",
        )
        panel.title.set_fontsize(8)
        panel.legend(fontsize=7)
    alone = select(rows, data="n_s alone")
    if alone:
        panels[1].plot([r["n_s"] for r in alone], [r["exact"] for r in alone], "-", color="gray")
        panels[1].errorbar(
            [r["n_s"] for r in alone],
            [r["value"] for r in alone],
            yerr=[2 * r["stderr"] for r in alone],
            fmt="s",
            ms=4,
            mfc="none",
            color="gray",
            label=r"$n_{ta} = 10^9$: exact, Monte Carlo",
        )
        panels[1].legend(fontsize=7)
    panels[-1].axis("off")
    _noisy(panels[5], select(rows, data="noise, against t"), "t", "Noise: some t is best")
    _noisy(
        panels[6],
        select(rows, data="spiked, D = 100000"),
        "latent_variance",
        r"$D = 10^5$, $n_{ta} = 64$: lost below $\lambda^2/\tau^2 = 40$",
    )
    lines = []
    for r in select(rows, data="slopes"):
        lines.append(
            f"{r['metric'].replace('_', ' ')}: {r['value']:.3f} [{r['low']:.3f}, {r['high']:.3f}]\n"
            f"   exact {r['exact']:.3f}, the bound's {r['bound']:g}"
        )
    panels[-1].text(0, 0.5, "\n\n".join(lines), fontsize=10, va="center")
    return [store(figure, folder / "linear-rates.png")]


def _noisy(panel: Any, rows: list[Record], axis: str, title: str) -> None:
    if not rows:
        panel.axis("off")
        return
    x = [r[axis] for r in rows]
    panel.errorbar(
        x,
        [r["value"] for r in rows],
        yerr=[2 * r["stderr"] for r in rows],
        fmt="o-",
        ms=4,
        mfc="none",
        color="black",
        label="Monte Carlo, 2 s.e.",
    )
    curve = [(a, r["asymptotic"]) for a, r in zip(x, rows, strict=True) if r["asymptotic"]]
    if curve:
        panel.plot(*zip(*curve, strict=True), "--", color="tab:green", label="spiked covariance")
    panel.set(
        xscale="log", xlabel=LABELS[axis], title=title, ylabel=r"$E\,\|VV^\top - AA^\top\|_F^2$"
    )
    panel.legend(fontsize=7)
