"""Section 5.1: the rank-d gains between PCA and the plug-in ratio; orthonormal decoders are PCA."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fsd_jax as fsd
from benchmarks import drawing, text
from benchmarks.judging import EXACT, Statement, Verdict, judged
from benchmarks.records import Record, record
from benchmarks.study import Settings, Study, Work
from benchmarks.table import Table

LIMITS = ("t -> 0: gains one", "t -> inf: gains c/lambda^2")


def settings(size: str) -> Settings:
    """One sample, many times."""
    quick = size == "quick"
    return {
        "D": 20,
        "d": 3,
        "n_ta": 30,
        "tau": 0.4,
        "latent_variance": 1.0,
        "t": [float(f"{t:.4g}") for t in np.geomspace(1e-4, 20, 25)],
        "trained_t": [0.01, 0.1, 1.0, 4.0] if quick else [0.001, 0.01, 0.1, 0.3, 1.0, 4.0, 8.0],
        "steps": 150,
    }


def compute(settings: Settings, work: Work) -> Iterator[Record]:
    """Gains by the library and by the dense formula; trained orthonormal decoders against PCA."""
    s, key = settings, jax.random.key(work.seed)
    work.tell("gains")
    problem = fsd.LinearProblem.random(
        key,
        ambient_dim=s["D"],
        latent_dim=s["d"],
        latent_variance=s["latent_variance"],
        residual_variance=s["tau"] ** 2,
    )
    x = problem.sample_target(jax.random.fold_in(key, 1), s["n_ta"])
    moment = fsd.SecondMoment.from_samples(x, route="svd")
    lam2 = s["latent_variance"] + s["tau"] ** 2
    c, u = (a[..., ::-1] for a in np.linalg.eigh(np.asarray(x.T @ x) / s["n_ta"]))
    C, pca = np.asarray(x.T @ x) / s["n_ta"], u[:, : s["d"]] @ u[:, : s["d"]].T
    fit = jax.vmap(
        lambda t: (
            fsd.rank_minimizer(
                moment, latent_variance=lam2, latent_dim=s["d"], time=t, throw=False
            ).gains
        )
    )
    gains = np.asarray(fit(jnp.asarray(s["t"])))
    for t, own in zip(s["t"], gains, strict=True):
        yield from _gains(s, t, own, C, c, lam2)
    limits = np.asarray(fit(jnp.asarray([1e-9, 40.0])))
    yield record(
        "limit", float(np.max(np.abs(limits[0] - 1))), exact=0.0, limit="t -> 0: gains one"
    )
    off = float(np.max(np.abs(limits[1] - c[: s["d"]] / lam2)))
    yield record("limit", off, exact=0.0, limit="t -> inf: gains c/lambda^2")
    yield from _integrated(s, moment, lam2)
    work.tell("orthonormal")
    decoders = [
        fsd.train(
            jax.random.key(work.seed + 1),
            moment,
            latent_variance=lam2,
            latent_dim=s["d"],
            time=t,
            steps=s["steps"],
            constraint="orthonormal",
        ).decoder
        for t in s["trained_t"]
    ]
    ours = fsd.orthonormal_minimizer(moment, latent_dim=s["d"]).decoder
    yield record("closed form to PCA", float(np.sum((np.asarray(ours @ ours.T) - pca) ** 2)))
    for t, V in zip(s["trained_t"], map(np.asarray, decoders), strict=True):
        yield record("trained to PCA", float(np.sum((V @ V.T - pca) ** 2)), t=t)


def _gains(
    s: Settings, t: float, own: np.ndarray, C: np.ndarray, c: np.ndarray, lam2: float
) -> Iterator[Record]:
    """Each gain beside an eigenvalue of the paper's dense formula, and the distance to PCA."""
    signal, noise = np.exp(-t), -np.expm1(-t)
    dense = (signal * lam2 + noise) / lam2 * np.linalg.solve(signal * C + noise * np.eye(len(C)), C)
    exact = np.linalg.eigvalsh((dense + dense.T) / 2)[::-1]
    for i in range(s["d"]):
        yield record(
            "gain",
            float(own[i]),
            exact=float(exact[i]),
            i=i + 1,
            t=t,
            eigenvalue=float(c[i]),
            limit=float(c[i] / lam2),
        )
    yield record(
        "rank-d to PCA",
        float(np.sum((own - 1) ** 2)),
        exact=float(np.sum((exact[: s["d"]] - 1) ** 2)),
        t=t,
    )


def _integrated(s: Settings, moment: fsd.SecondMoment, lam2: float) -> Iterator[Record]:
    times, weights = fsd.VP().quadrature()
    found = fsd.rank_minimizer(
        moment, latent_variance=lam2, latent_dim=s["d"], times=times, weights=weights
    )
    for i, gain in enumerate(np.asarray(found.gains)):
        yield record("integrated gain", float(gain), i=i + 1)


def draw(table: Table) -> Any:
    """Gains on the left, distances to PCA on the right."""
    figure, axes = drawing.canvas(1, 2, figsize=(11, 4.4))
    axis = axes[0, 0]
    for place in range(table.settings["d"]):
        rows = table.present(data="gain", i=place + 1)
        if not rows:
            continue
        label = f"$p_{place + 1}$, $c_{place + 1}$ = {rows[0]['eigenvalue']:.2f}"
        drawing.points(axis, rows, "t", place, line=True, label=label, markevery=4)
        look = drawing.STYLES[place]
        mark = {"marker": look["marker"], "color": look["color"], "clip_on": False}
        axis.plot(60, rows[0]["limit"], **mark)
        for held in table.present(data="integrated gain", i=place + 1):
            axis.plot(4e-5, held["value"], mfc="none", ms=8, **mark)
    axis.axhline(1, color="0.5", lw=0.8)
    drawing.log_axes(
        axis,
        "t",
        r"gains $p_i$: $VV^\top = \sum_i p_i u_i u_i^\top$",
        "Rank-d minimiser: PCA as $t \\to 0$, $c_i/\\lambda^2$ as $t \\to \\infty$\n"
        "(filled, right: the limit; large hollow, left: integrated over t)",
        up="linear",
    )
    axis.legend(loc="lower left", bbox_to_anchor=(0, 0.15))
    axis = axes[0, 1]
    curves = {"rank-d to PCA": "rank-d closed form", "trained to PCA": "orthonormal, trained"}
    for place, (name, label) in enumerate(curves.items()):
        rows = drawing.at_least(table.present(data=name), 1e-33)
        drawing.points(axis, rows, "t", place, label=label, line=True)
    for held in table.present(data="closed form to PCA"):
        axis.axhline(
            max(held["value"], 1e-33), label="orthonormal, closed form", color="#1f6fb4", ls=":"
        )
    drawing.log_axes(
        axis,
        "t",
        r"$\Vert VV^\top - P_{PCA}\Vert_F^2$",
        "Orthonormal decoders are PCA at every $t$;\nrank-d ones only as $t \\to 0$",
    )
    axis.legend(loc="center left")
    return figure


def _ends(table: Table) -> list[float]:
    """The gains' distances from their limits."""
    return [table.one(data="limit", limit=name)["value"] for name in LIMITS]


def _to_pca(table: Table) -> float:
    """The largest distance of an orthonormal decoder from PCA, trained or by closed form."""
    rows = [*table.select(data="trained to PCA"), table.one(data="closed form to PCA")]
    return max(r["value"] for r in rows)


def _apart(table: Table) -> Record:
    """The distance of the rank-d minimiser from PCA at the latest time."""
    return max(table.select(data="rank-d to PCA"), key=lambda r: r["t"])


def lines(table: Table) -> text.Lines:
    """Distances to PCA at some times."""
    rows = table.present(data="rank-d to PCA")[::4] + table.present(data="trained to PCA")
    rows.sort(key=lambda r: r["t"])
    return text.pivot(rows, ("t",), lambda row: row["data"], text.short)


def finding(table: Table) -> str:
    """How far orthonormal and rank-d decoders are from PCA."""
    apart = _apart(table)
    return (
        f"Orthonormal decoders are at most {_to_pca(table):.0e} from PCA (squared distance of "
        f"projectors) at {len(table.select(data='trained to PCA'))} times; the rank-d minimiser is "
        f"{_ends(table)[0]:.0e} from it as t -> 0 and {apart['value']:.3g} at t = "
        f"{apart['t']:g}. Exact arithmetic, no sampling error."
    )


def is_pca(table: Table) -> Verdict:
    """Printed: PCA at t = 0. Sharper if orthonormal decoders are PCA at every t."""
    start, far = _ends(table)[0], _to_pca(table)
    off = max(abs(r["value"] - r["exact"]) for r in table.select(data="gain"))
    words = (
        f"as t -> 0 the rank-d gains are one up to {start:.0e}; orthonormal decoders, by closed "
        f"form and trained at {len(table.select(data='trained to PCA'))} times, are PCA up to "
        f"{far:.0e} in || . ||_F^2 at every t"
    )
    every = far < EXACT
    ours = off < EXACT and every
    return judged((far, 0.0, far), words, exact=0.0, printed=start < 1e-6, ours=ours, beyond=every)


def late_gains(table: Table) -> Verdict:
    """Confirmed if rank-d decoders leave PCA as t grows and end at the eigenvalues' ratio."""
    end, apart = _ends(table)[1], _apart(table)
    words = (
        f"at t = {apart['t']:g} the rank-d minimiser is {apart['value']:.3g} from PCA, and its "
        f"gains are c_i/lambda^2 up to {end:.0e}: they carry the sample's spectrum"
    )
    return judged(apart, words, ours=end < 1e-6 and apart["value"] > 1e-3)


CLOSED = "tests/minimizer/test_closed_form.py::"
STUDY = Study(
    name="pca",
    figure="pca",
    summary="R1's gains from t -> 0 (PCA) to t -> inf, and orthonormal decoders at every t",
    settings=settings,
    compute=compute,
    pictures={"pca": draw},
    lines=lines,
    finding=finding,
    statements=(
        Statement(
            name="Section 5.1, PCA",
            place="5.1 PCA",
            says="At t = 0 the objective is that of PCA",
            function="fsd_jax.orthonormal_minimizer",
            test=CLOSED + "test_orthonormal_is_pca",
            rule=is_pca,
        ),
        Statement(
            name="Section 5.1, beyond PCA",
            place="5.1 PCA",
            says="At t > 0 few-shot models differ from PCA",
            function="fsd_jax.rank_minimizer",
            test=CLOSED + "test_large_times_give_the_ratio_of_variances",
            rule=late_gains,
        ),
    ),
)
