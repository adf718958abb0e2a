"""Subspace error against each parameter: Monte Carlo, exact curve, asymptotic curve, bound."""

from pathlib import Path

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
    figure, axes = canvas(2, 3, figsize=(15, 8))
    panels = [panel for line in axes for panel in line]
    for panel, (axis, label) in zip(panels, LABELS.items(), strict=False):
        own = select(rows, data=f"against {axis}")
        if not own:
            continue
        x = [r[axis] for r in own]
        panel.errorbar(x, [r["value"] for r in own], yerr=[2 * r["stderr"] for r in own], fmt="o",
                       ms=4, mfc="none", color="black", label="Monte Carlo, 2 s.e.")  # fmt: skip
        panel.plot(x, [r["exact"] for r in own], "-", color="tab:blue", label="exact")
        panel.plot(x, [r["asymptotic"] for r in own], ":", color="tab:green", label="large d")
        panel.plot(x, [r["bound"] for r in own], "--", color="tab:red",
                   label="Theorem 5.2, constant 1")  # fmt: skip
        panel.plot(x, [r["bound_target_term"] for r in own], "-.", color="tab:orange",
                   label=r"its $n_{ta}$ term")  # fmt: skip
        held = ", ".join(
            f"{name} = {value:g}" for name, value in case.BASE.items() if name != axis
        ).replace("latent_variance", "lambda^2")
        panel.set(xscale="log", yscale="log", xlabel=label, title=held,
                  ylabel=r"$E\,\|VV^\top - AA^\top\|_F^2$")  # fmt: skip
        panel.title.set_fontsize(8)
        panel.legend(fontsize=7)
    for panel in panels[len(LABELS) :]:
        panel.axis("off")
    lines = []
    for r in select(rows, data="slopes"):
        lines.append(
            f"{r['metric'].replace('_', ' ')}: {r['value']:.3f} [{r['low']:.3f}, {r['high']:.3f}]\n"
            f"   exact {r['exact']:.3f}, the bound's {r['bound']:g}"
        )
    panels[-1].text(0, 0.5, "\n\n".join(lines), fontsize=10, va="center")
    return [store(figure, folder / "linear-rates.png")]
