"""R8: where the few-shot gain comes from, and the phase transition at n_ta = d."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from fsd_jax import theory
from paper_figures import style
from paper_figures.figures.theorem_5_2 import BASE
from paper_figures.table import Row, Table, row
from paper_figures.work import SEED, Work

SUMMARY = "expected score error against n_ta: scratch, rank-d, orthonormal; the transition at d"
AMBIENT = 40
SCRATCH, AS_IS, COMPLETED = "scratch, data", "source as is, data", "completed, data"
PARTIAL = "orthonormal, data"


def settings(quick: bool) -> dict[str, Any]:
    """Sizes; the sweep's program is that of Theorem 5.2's figure."""
    return {
        "replicates": 4096 if quick else 131_072,
        "n_ta": [1, 2, 4, 6, 7, 8, 9, 12, 16, 64, 256, 1024, 4096, 16384],
        "n_s": [100, 10_000],
        "data_n_ta": [2, 5, 8, 64] if quick else [1, 2, 4, 5, 6, 7, 8, 16, 64, 256],
        "data_replicates": 100 if quick else 300,
    }


def compute(settings: dict[str, Any], work: Work) -> Iterator[Row]:
    """Exact laws through sweeps; data for what has no exact law."""
    s = settings
    one = {name: [value] for name, value in BASE.items()}
    for n_s in s["n_s"]:
        plan = one | {"n_ta": s["n_ta"], "n_s": [n_s]}
        for found in work.sweep(f"sweep, n_s {n_s}", replicates=s["replicates"], **plan):
            if found["metric"] == "score_error":
                yield found | {"series": "sweep", "exact": _exact(found["method"], found)}
    for n_ta in s["data_n_ta"]:
        work.tell(f"few-shot-gain data, n_ta {n_ta}")
        yield from _from_data(n_ta, s["data_replicates"])


def _exact(method: str, cell: Row) -> float:
    # The rank-d minimiser at its own t is training from scratch, whatever the source (R8).
    return theory.expected_score_error(
        latent_dim=cell["d"],
        n_ta=cell["n_ta"],
        latent_variance=cell["latent_variance"],
        n_s=cell["n_s"],
        time=cell["t"],
        estimator="scratch" if method == "rank" else "orthonormal",
    )


def _from_data(n_ta: int, replicates: int) -> Iterator[Row]:
    """Estimators as dense matrices on drawn samples, in NumPy: nothing of this library in them."""
    draw = np.random.default_rng([SEED, n_ta])
    d, n_s = BASE["d"], BASE["n_s"]
    signal, noise = np.exp(-BASE["t"]), -np.expm1(-BASE["t"])
    errors: dict[str, list[float]] = {SCRATCH: [], PARTIAL: [], COMPLETED: [], AS_IS: []}
    for _ in range(replicates):
        A, A_s = (np.linalg.qr(draw.normal(size=(AMBIENT, d)))[0] for _ in range(2))
        x = draw.normal(size=(n_ta, d)) @ A.T
        lam2 = draw.chisquare(d * n_s) / (d * n_s)
        u, c = np.linalg.svd(x.T / n_ta**0.5, full_matrices=False)[:2]
        u, c = u[:, : min(d, n_ta)], c[: min(d, n_ta)] ** 2
        # The source's basis fills what the target does not show, projected off what it shows.
        rest = A_s - u @ (u.T @ A_s)
        filled = np.hstack([u, np.linalg.svd(rest)[0][:, : d - u.shape[1]]])
        g = signal * lam2 / (signal * lam2 + noise)
        truth = signal / (signal + noise) * A @ A.T
        S = signal * A @ A.T + noise * np.eye(AMBIENT)
        plug_in = u * (signal * c / (signal * c + noise)) @ u.T
        for name, W in (
            (SCRATCH, plug_in),
            (PARTIAL, g * u @ u.T),
            (COMPLETED, g * filled @ filled.T),
            (AS_IS, g * A_s @ A_s.T),
        ):
            off = W - truth
            errors[name].append(float(np.trace(off @ S @ off.T)) / noise**2)
    cell = {**BASE, "n_ta": n_ta, "D": AMBIENT, "replicates": replicates}
    method = {SCRATCH: "rank", PARTIAL: "orthonormal"}
    for name, values in errors.items():
        known = name in method or (name == COMPLETED and n_ta >= d)
        exact = _exact(method.get(name, "orthonormal"), cell) if known else None
        stderr = float(np.std(values, ddof=1) / replicates**0.5)
        yield row(name, float(np.mean(values)), stderr=stderr, exact=exact, **cell)


def draw(table: Table) -> Any:
    """The regimes on the left, the transition on the right."""
    figure, axes = style.canvas(1, 2, figsize=(12, 4.9))
    axis = axes[0, 0]
    own = {"series": "sweep", "n_s": BASE["n_s"]}
    names = {"rank": "scratch = rank-d at its own t", "orthonormal": "few-shot, orthonormal"}
    for place, (method, label) in enumerate(names.items()):
        rows = table.present(method=method, **own)
        style.points(axis, rows, "n_ta", place, label=f"{label}: Monte Carlo")
        style.curve(axis, rows, "n_ta", "exact", place, label=f"{label}: exact")
    low = table.present(series="sweep", n_s=100, method="orthonormal")
    style.points(axis, low, "n_ta", 2, label=r"few-shot, $n_s = 100$")
    style.curve(axis, low, "n_ta", "exact", 2)
    for place, name in ((3, COMPLETED), (4, AS_IS)):
        rows = table.present(series=name)
        label = {
            COMPLETED: "few-shot, completed from an unrelated source",
            AS_IS: "source as is, unrelated",
        }[name]
        style.points(axis, rows, "n_ta", place, label=label, line=True)
    axis.axvline(BASE["d"], color="0.5", lw=0.8)
    axis.text(BASE["d"] * 1.1, axis.get_ylim()[0] * 2.5, r"$n_{ta} = d$", color="0.35", fontsize=8)
    style.log_axes(
        axis,
        "n_ta",
        r"expected score error at $t$ = 0.5",
        r"Three regimes ($d$ = 8, $\lambda^2$ = 1, $n_s = 10^4$; 2 s.e.)",
    )
    axis.set_ylim(top=300)
    style.legend_below(figure, axis, 3)
    _draw_transition(axes[0, 1], table)
    return figure


def _draw_transition(axis: Any, table: Table) -> None:
    window = range(1, 17)
    for place, (method, label) in enumerate(
        (("rank", "scratch = rank-d at its own t"), ("orthonormal", "few-shot, orthonormal"))
    ):
        rows = [
            r
            for r in table.present(series="sweep", n_s=BASE["n_s"], method=method)
            if r["n_ta"] in window
        ]
        style.points(axis, rows, "n_ta", place, line=True, label=label)
    axis.axvline(BASE["d"], color="0.5", lw=0.8)
    style.log_axes(
        axis,
        "n_ta",
        r"expected score error at $t$ = 0.5",
        "The transition: at $n_{ta} = d$ the subspace is exact,\n"
        r"and the source's error is left",
        across="linear",
        up="linear",
    )
    axis.legend()
