"""Where the few-shot gain comes from: the transition at n_ta = d, and what assumptions are worth.

Which estimator turns source data into few-shot accuracy, and which merely trains from scratch?
Exact laws through sweeps, the same estimators as dense matrices in NumPy, and nine estimators where
one assumption is changed at a time (`assumptions`).
"""

from collections.abc import Iterator

import numpy as np

from benchmarks import text
from benchmarks.records import Record, record
from benchmarks.studies.linear.gain import assumptions, drawing, judging
from benchmarks.studies.linear.gain.judging import AS_IS, COMPLETED, PARTIAL, SCRATCH
from benchmarks.studies.linear.linear_rates import BASE
from benchmarks.study import Settings, Study, Work, mean
from benchmarks.table import Table
from fsd_jax import theory


def settings(size: str) -> Settings:
    """Sizes; the sweep's program is that of Theorem 5.2's rates."""
    quick = size == "quick"
    return {
        "base": BASE,
        "D": assumptions.D,
        "replicates": {"quick": 4096, "default": 131_072, "full": 524_288}[size],
        "n_ta": [1, 2, 4, 6, 7, 8, 9, 12, 16, 64, 256, 1024, 4096, 16384],
        "n_s": [100, 10_000],
        "data_n_ta": [2, 5, 8, 64] if quick else [1, 2, 4, 5, 6, 7, 8, 16, 64, 256],
        "data_replicates": 100 if quick else 300,
    } | assumptions.settings(size)


def compute(settings: Settings, work: Work) -> Iterator[Record]:
    """Exact laws through sweeps; dense matrices on drawn data; one assumption at a time."""
    s = settings
    one = {name: [value] for name, value in s["base"].items()}
    for n_s in s["n_s"]:
        plan = one | {"n_ta": s["n_ta"], "n_s": [n_s]}
        for found in work.sweep(f"sweep, n_s {n_s}", replicates=s["replicates"], **plan):
            if found["metric"] == "score_error":
                yield found | {"data": "sweep", "exact": _exact(found["method"], found)}
    for n_ta in s["data_n_ta"]:
        work.tell(f"data, n_ta {n_ta}")
        yield from _from_data(s, n_ta, work.seed)
    yield from assumptions.compute(s, work)


def _exact(method: str, cell: Record) -> float:
    # The rank-d minimiser at its own t is training from scratch, whatever the source (R8).
    return theory.expected_score_error(
        latent_dim=cell["d"],
        n_ta=cell["n_ta"],
        latent_variance=cell["latent_variance"],
        n_s=cell["n_s"],
        time=cell["t"],
        estimator="scratch" if method == "rank" else "orthonormal",
    )


def _from_data(s: Settings, n_ta: int, seed: int) -> Iterator[Record]:
    """Estimators as dense matrices on drawn samples, in NumPy: nothing of this library in them."""
    draw = np.random.default_rng([seed, n_ta])
    d, n_s, t = (s["base"][name] for name in ("d", "n_s", "t"))
    D, signal, noise = s["D"], np.exp(-t), -np.expm1(-t)
    errors: dict[str, list[float]] = {SCRATCH: [], PARTIAL: [], COMPLETED: [], AS_IS: []}
    for _ in range(s["data_replicates"]):
        A, A_s = (np.linalg.qr(draw.normal(size=(D, d)))[0] for _ in range(2))
        x = draw.normal(size=(n_ta, d)) @ A.T
        lam2 = draw.chisquare(d * n_s) / (d * n_s)
        u, c = np.linalg.svd(x.T / n_ta**0.5, full_matrices=False)[:2]
        u, c = u[:, : min(d, n_ta)], c[: min(d, n_ta)] ** 2
        # The source's basis fills what the target does not show, projected off what it shows.
        rest = A_s - u @ (u.T @ A_s)
        filled = np.hstack([u, np.linalg.svd(rest)[0][:, : d - u.shape[1]]])
        g = signal * lam2 / (signal * lam2 + noise)
        truth = signal / (signal + noise) * A @ A.T
        S = signal * A @ A.T + noise * np.eye(D)
        plug_in = u * (signal * c / (signal * c + noise)) @ u.T
        for name, W in (
            (SCRATCH, plug_in),
            (PARTIAL, g * u @ u.T),
            (COMPLETED, g * filled @ filled.T),
            (AS_IS, g * A_s @ A_s.T),
        ):
            off = W - truth
            errors[name].append(float(np.trace(off @ S @ off.T)) / noise**2)
    cell = {**s["base"], "n_ta": n_ta, "D": D, "replicates": s["data_replicates"]}
    method = {SCRATCH: "rank", PARTIAL: "orthonormal"}
    for name, values in errors.items():
        known = name in method or (name == COMPLETED and n_ta >= d)
        exact = _exact(method.get(name, "orthonormal"), cell) if known else None
        yield record(name, **mean(values), exact=exact, **cell)


COLUMNS = {
    "rank": "scratch",
    "orthonormal": "few-shot",
    assumptions.RANK_INT: "rank-d, all t",
    assumptions.COMPLETED: "completed",
    assumptions.SOURCE: "source as is",
}


def lines(table: Table) -> text.Lines:
    """A column for each estimator, at one t and with the isotropic latent of the theory."""
    base = {"n_s": BASE["n_s"], "metric": assumptions.AT_T}
    rows = table.present(data="sweep", **base)
    rows += table.present(data=assumptions.Curve().name, **base)
    rows = [r for r in rows if r["method"] in COLUMNS]
    rows.sort(key=lambda r: r["n_ta"])
    return text.pivot(rows, ("n_ta",), lambda row: COLUMNS[row["method"]], text.short)


STUDY = Study(
    name="gain",
    figure="few-shot-gain",
    summary="expected score error against n_ta of scratch, few-shot and source; the transition "
    "at d; one assumption changed at a time",
    settings=settings,
    compute=compute,
    pictures={"few-shot-gain": drawing.regimes, "gain": drawing.assumptions},
    lines=lines,
    finding=judging.finding,
    statements=judging.STATEMENTS,
    usual=True,
)
