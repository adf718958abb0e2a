"""Theorem 4.3: ReLU networks, pre-trained and tuned to n_ta samples, and the latent's constants."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

import fsd_jax as fsd
from fsd_jax import sweep
from fsd_jax.latent_net import Recipe, plan_section4, random_mixture
from paper_figures import style
from paper_figures.table import Row, Table, row
from paper_figures.work import SEED, Work

SUMMARY = "ReLU networks against n_ta: few-shot, everything tuned, from scratch; the claimed rates"
LONG = True
IN_QUICK = False
"""Half a minute of training even when small, so a quick run has it only if it is named."""
METHODS = {
    "fewshot": "few-shot: network frozen",
    "full": "everything tuned, from there",
    "scratch": "from scratch",
}
COMPONENT_VARIANCE = 0.1


def settings(quick: bool) -> dict[str, Any]:
    """Worlds are drawn anew in each replicate."""
    return {
        "d": [2] if quick else [2, 4],
        "n_s": 1024 if quick else 4096,
        "n_ta": [1, 4, 32, 512] if quick else [2, 4, 8, 32, 128, 512],
        "replicates": 8,
        "widths": [32, 32] if quick else [64, 64],
        "pretraining": 1000 if quick else 3000,
        "finetuning": 400 if quick else 800,
        "batch_size": 64,
        "checks": 8,
        "times": [1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0],
        "points": 1000,
        "draws": 20_000,
    }


def compute(settings: dict[str, Any], work: Work) -> Iterator[Row]:
    """A durable sweep, and the constants of Assumptions 4.1 and 4.2 in a world like its own."""
    s = settings
    pretraining, finetuning = (
        Recipe(steps=s[name], batch_size=s["batch_size"], checks=s["checks"])
        for name in ("pretraining", "finetuning")
    )
    plan = plan_section4(
        n_ta=s["n_ta"],
        n_s=[s["n_s"]],
        d=s["d"],
        method=tuple(METHODS),
        metric=("score_error",),
        replicates=s["replicates"],
        block=4,
        seed=SEED,
        widths=tuple(s["widths"]),
        pretraining=pretraining,
        finetuning=finetuning,
    )
    work.tell("theorem-4.3 training")
    out = work.folder / "section-4"
    tell = lambda done, total: work.tell(f"theorem-4.3 {done}/{total} blocks of worlds")
    sweep.run(plan, out, batch_size=1, resume=True, progress=tell)
    for found in sweep.read_results(out):
        cell = {name: found[name] for name in ("method", "n_ta", "n_s", "d", "D", "replicates")}
        yield row(
            "against n_ta", found["mean"], stderr=found["stderr"], status=found["status"], **cell
        )
    for d in s["d"]:
        work.tell(f"theorem-4.3 constants, d = {d}")
        yield from _constants(s, d)


def _constants(s: dict[str, Any], d: int) -> Iterator[Row]:
    law, inner, outer = jax.random.split(jax.random.key(SEED), 3)
    latent = random_mixture(law, d)
    found = fsd.latent_constants(inner, latent, times=s["times"], n=s["points"])
    z = np.asarray(latent.sample(outer, s["draws"]))
    energy = np.sum(z**2, axis=1)
    yield row(
        "C_Z",
        float(energy.mean()),
        stderr=float(energy.std(ddof=1) / len(energy) ** 0.5),
        exact=float(found.C_Z),
        d=d,
    )
    _, vectors = np.linalg.eigh(np.asarray(latent.second_moment()))
    least = (z @ vectors[:, 0]) ** 2
    yield row(
        "c_0",
        float(least.mean()),
        stderr=float(least.std(ddof=1) / len(least) ** 0.5),
        exact=float(found.c_0),
        d=d,
    )
    # The Jacobian is -1/v and the covariance of the components' means over v^2, at most a quarter
    # of their squared spread in any direction; later times only blur it.
    means = np.asarray(latent.means)
    spread = float(np.max(np.sum((means[:, None] - means) ** 2, axis=-1)))
    bound = max(1 / COMPONENT_VARIANCE, 1.0, spread / 4 / COMPONENT_VARIANCE**2)
    for t, slope in zip(s["times"], np.asarray(found.lipschitz), strict=True):
        yield row("Lipschitz", float(slope), bound=bound, d=d, t=t)


def draw(table: Table) -> Any:
    """A panel for each d, and the Lipschitz constants."""
    s = table.settings
    figure, axes = style.canvas(1, len(s["d"]) + 1, figsize=(5.2 * (len(s["d"]) + 1), 4.6))
    for axis, d in zip(axes[0], s["d"], strict=False):
        for place, (method, name) in enumerate(METHODS.items()):
            rows = table.present(series="against n_ta", method=method, d=d)
            # A bar that reaches zero has no end on a logarithmic scale.
            shown = [r | {"stderr": min(r["stderr"] or 0, 0.45 * r["value"])} for r in rows]
            style.points(axis, shown, "n_ta", place, line=True, label=name)
        for method, power, words in (("fewshot", -0.5, "-1/2"), ("scratch", -2 / d, "-2/d")):
            rows = [
                r
                for r in table.present(series="against n_ta", method=method, d=d)
                if r["n_ta"] >= d
            ]
            if rows:
                n = np.array([r["n_ta"] for r in rows], float)
                axis.plot(
                    n,
                    rows[0]["value"] * (n / n[0]) ** power,
                    color="0.5",
                    lw=1,
                    ls="--" if method == "fewshot" else ":",
                    label=f"slope {words}, as claimed",
                )
        axis.axvline(d, color="0.6", lw=0.8)
        style.log_axes(
            axis,
            "n_ta",
            "score error, average over t",
            f"d = {d}, $n_s$ = {s['n_s']}, {s['replicates']} worlds, 2 s.e.\n"
            r"(line: $n_{ta} = d$)",
        )
        axis.legend(fontsize=7)
    axis = axes[0, -1]
    for place, d in enumerate(s["d"]):
        rows = table.present(series="Lipschitz", d=d)
        style.points(axis, rows, "t", place, line=True, label=f"d = {d}: largest slope found")
        style.curve(axis, rows, "t", "bound", place, lw=0.9, label=f"d = {d}: bound at every t")
    style.log_axes(
        axis,
        "t",
        "slope of the on-support score",
        "Assumption 4.2 in such a world: Lipschitz at every t",
    )
    axis.legend(fontsize=7)
    return figure
