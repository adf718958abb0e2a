"""Does a network adapted to few samples beat one trained on them? Theorem 4.3 on one machine."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

import fsd_jax as fsd
from benchmarks import drawing, text
from benchmarks.records import Record, record
from benchmarks.studies.networks.section4.judging import STATEMENTS, settled
from benchmarks.study import Settings, Study, Work
from benchmarks.table import Table
from fsd_jax import sweep
from fsd_jax.latent_net import Recipe, plan_section4, random_mixture

METHODS = {
    "fewshot": "few-shot: network frozen",
    "full": "everything tuned, from there",
    "scratch": "from scratch",
}
DATA = "Gaussian mixture, 4 components"
COMPONENT_VARIANCE = 0.1


def settings(size: str) -> Settings:
    """Worlds are drawn anew in each replicate."""
    quick, full = size == "quick", size == "full"
    most = [1, 2, 3, *(2**k for k in range(2, 13))]
    return {
        "d": [2] if quick else [2, 4],
        "n_s": [1024] if quick else [4096],
        "n_ta": [1, 4, 32, 512] if quick else most if full else [2, 4, 8, 16, 32, 128, 512, 2048],
        "replicates": 32 if full else 8,
        "block": 4,
        "widths": [32, 32] if quick else [64, 64],
        "pretraining": {"steps": 1000 if quick else 3000, "batch_size": 64, "checks": 8},
        "finetuning": {
            "steps": 400 if quick else 1500 if full else 800,
            "batch_size": 64,
            "checks": 8,
        },
        "times": [1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0],
        "points": 1000,
        "draws": 20_000,
    }


def compute(settings: Settings, work: Work) -> Iterator[Record]:
    """A durable sweep, and the constants of Assumptions 4.1 and 4.2 in a world like its own."""
    yield from trained(settings, work, settings["d"], ("score_error",), DATA)
    for d in settings["d"]:
        work.tell(f"constants, d = {d}")
        yield from _constants(settings, work, d)


def trained(
    s: Settings, work: Work, dims: list[int], metric: Sequence[str], data: str
) -> Iterator[Record]:
    """Mean errors of trained networks over worlds, resumed where a killed run stopped."""
    finetuning = Recipe(**s["finetuning"])
    plan = plan_section4(
        n_ta=s["n_ta"],
        n_s=s["n_s"],
        d=dims,
        method=tuple(METHODS),
        metric=metric,
        replicates=s["replicates"],
        block=s["block"],
        seed=work.seed,
        widths=tuple(s["widths"]),
        pretraining=Recipe(**s["pretraining"]),
        finetuning=finetuning,
    )

    def tell(done: int, total: int) -> None:
        work.tell(f"{data}: {done} of {total} blocks of worlds")

    # A few blocks between two journal entries: a block takes seconds.
    out = work.folder / f"d{'-'.join(map(str, dims))}"
    sweep.run(plan, out, batch_size=1, resume=True, progress=tell)
    for row in sweep.read_results(out):
        yield record(
            data,
            row["mean"],
            method=row["method"],
            metric=row["metric"],
            stderr=row["stderr"],
            status=row["status"],
            median=row["q50"],
            delta=finetuning.delta,
            T=finetuning.T,
            steps=finetuning.steps,
            widths=s["widths"],
            **{name: row[name] for name in ("n_ta", "n_s", "d", "D", "replicates")},
        )


def _constants(s: Settings, work: Work, d: int) -> Iterator[Record]:
    law, inner, outer = jax.random.split(jax.random.key(work.seed), 3)
    latent = random_mixture(law, d)
    found = fsd.latent_constants(inner, latent, times=s["times"], n=s["points"])
    z = np.asarray(latent.sample(outer, s["draws"]))
    _, vectors = np.linalg.eigh(np.asarray(latent.second_moment()))
    sampled = {"C_Z": np.sum(z**2, axis=1), "c_0": (z @ vectors[:, 0]) ** 2}
    for metric, values in sampled.items():
        stderr = float(values.std(ddof=1) / len(values) ** 0.5)
        exact = float(getattr(found, metric))
        yield record(
            "constants", float(values.mean()), metric=metric, stderr=stderr, exact=exact, d=d
        )
    # The Jacobian is -1/v and the covariance of the components' means over v^2, at most a quarter
    # of their squared spread in any direction; later times only blur it.
    means = np.asarray(latent.means)
    spread = float(np.max(np.sum((means[:, None] - means) ** 2, axis=-1)))
    bound = max(1 / COMPONENT_VARIANCE, 1.0, spread / 4 / COMPONENT_VARIANCE**2)
    for t, slope in zip(s["times"], np.asarray(found.lipschitz), strict=True):
        yield record("constants", float(slope), metric="Lipschitz", bound=bound, d=d, t=t)


def draw(table: Table) -> Any:
    """A panel for each d, and the Lipschitz constants."""
    dims = table.settings["d"]
    figure, axes = drawing.canvas(1, len(dims) + 1, figsize=(5 * (len(dims) + 1), 5))
    for axis, d in zip(axes[0], dims, strict=False):
        curves(axis, table.present(metric="score_error", d=d), d)
    axis = axes[0, -1]
    for place, d in enumerate(dims):
        rows = table.present(metric="Lipschitz", d=d)
        drawing.points(axis, rows, "t", place, line=True, label=f"d = {d}: largest slope found")
        drawing.curve(axis, rows, "t", "bound", place, lw=0.9, label=f"d = {d}: bound at every t")
    drawing.log_axes(
        axis,
        "t",
        "slope of the on-support score",
        "Assumption 4.2 in such a world: Lipschitz at every t",
    )
    drawing.legend_under(axis, 2)
    drawing.legend_below(figure, axes[0, :-1], 3)
    return figure


def curves(axis: Any, rows: list[Record], d: int) -> None:
    """Each method's errors against n_ta, the claimed slopes, and where ``n_ta = d``."""
    for place, (method, name) in enumerate(METHODS.items()):
        own = [r for r in rows if r["method"] == method]
        # A bar that reaches zero has no end on a logarithmic scale.
        shown = [r | {"stderr": min(r["stderr"] or 0, 0.45 * r["value"])} for r in own]
        drawing.points(axis, shown, "n_ta", place, line=True, label=name)
    claims = {"fewshot": (-0.5, "--", "-1/2"), "scratch": (-2 / d, ":", "-2/d")}
    for method, (power, dash, words) in claims.items():
        own = [r for r in rows if r["method"] == method and r["n_ta"] >= d]
        if own:
            n = np.array([r["n_ta"] for r in own], float)
            height = own[0]["value"] * (n / n[0]) ** power
            axis.plot(n, height, color="0.5", lw=1, ls=dash, label=f"slope {words}, as claimed")
    axis.axvline(d, color="0.6", lw=0.8, label=r"$n_{ta} = d$")
    title = f"d = {d}"
    if rows:
        title += f", $n_s$ = {rows[0]['n_s']}, {rows[0]['replicates']} worlds, 2 s.e."
    drawing.log_axes(axis, "n_ta", "score error, average over t", title)


def finding(table: Table) -> str:
    """Errors of the three methods where every direction has just been seen."""
    d = table.settings["d"][-1]
    few, full, scratch = (settled(table, method, d)[0] for method in METHODS)
    return (
        f"ReLU networks, d = {d}, {few['n_ta']} target samples: the score error of few-shot is "
        f"{text.number(few)}, of a network trained on them alone {text.number(scratch)} "
        f"({scratch['value'] / few['value']:.3g} times that), with everything tuned "
        f"{text.number(full)}."
    )


def lines(table: Table) -> text.Lines:
    """A row for each d and n_ta, a column for each method."""
    rows = table.present(metric="score_error")
    return text.pivot(rows, ("d", "n_ta"), lambda row: METHODS[row["method"]], text.short)


STUDY = Study(
    name="section4",
    figure="theorem-4.3",
    summary="ReLU networks against n_ta: few-shot, everything tuned, from scratch; claimed rates",
    settings=settings,
    compute=compute,
    pictures={"theorem-4.3": draw},
    lines=lines,
    finding=finding,
    # Half a minute of training even when small, so a quick run has it only if it is named.
    quick=False,
    long=True,
    measured=("median",),
    statements=STATEMENTS,
)
