"""Section 5.1: the rank-d gains between PCA and the plug-in ratio; orthonormal decoders are PCA."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fsd_jax as fsd
from paper_figures import style
from paper_figures.table import Row, Table, row
from paper_figures.work import SEED, Work

SUMMARY = "R1's gains from t -> 0 (PCA) to t -> inf, and orthonormal decoders at every t"


def settings(quick: bool) -> dict[str, Any]:
    """One sample, many times."""
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


def compute(settings: dict[str, Any], work: Work) -> Iterator[Row]:
    """Gains by the library and by the dense formula; trained orthonormal decoders against PCA."""
    s, key = settings, jax.random.key(SEED)
    work.tell("pca gains")
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
    yield row("limit", float(np.max(np.abs(limits[0] - 1))), exact=0.0, limit="t -> 0: gains one")
    off = float(np.max(np.abs(limits[1] - c[: s["d"]] / lam2)))
    yield row("limit", off, exact=0.0, limit="t -> inf: gains c/lambda^2")
    yield from _integrated(s, moment, lam2)
    work.tell("pca orthonormal")
    decoders = [
        fsd.train(
            jax.random.key(SEED + 1),
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
    yield row("closed form to PCA", float(np.sum((np.asarray(ours @ ours.T) - pca) ** 2)))
    for t, V in zip(s["trained_t"], map(np.asarray, decoders), strict=True):
        yield row("trained to PCA", float(np.sum((V @ V.T - pca) ** 2)), t=t)


def _gains(
    s: dict[str, Any], t: float, own: np.ndarray, C: np.ndarray, c: np.ndarray, lam2: float
) -> Iterator[Row]:
    """Each gain beside an eigenvalue of the paper's dense formula, and the distance to PCA."""
    signal, noise = np.exp(-t), -np.expm1(-t)
    dense = (signal * lam2 + noise) / lam2 * np.linalg.solve(signal * C + noise * np.eye(len(C)), C)
    exact = np.linalg.eigvalsh((dense + dense.T) / 2)[::-1]
    for i in range(s["d"]):
        yield row(
            "gain",
            float(own[i]),
            exact=float(exact[i]),
            i=i + 1,
            t=t,
            eigenvalue=float(c[i]),
            limit=float(c[i] / lam2),
        )
    yield row(
        "rank-d to PCA",
        float(np.sum((own - 1) ** 2)),
        exact=float(np.sum((exact[: s["d"]] - 1) ** 2)),
        t=t,
    )


def _integrated(s: dict[str, Any], moment: fsd.SecondMoment, lam2: float) -> Iterator[Row]:
    times, weights = fsd.VP().quadrature()
    found = fsd.rank_minimizer(
        moment, latent_variance=lam2, latent_dim=s["d"], times=times, weights=weights
    )
    for i, gain in enumerate(np.asarray(found.gains)):
        yield row("integrated gain", float(gain), i=i + 1)


def draw(table: Table) -> Any:
    """Gains on the left, distances to PCA on the right."""
    figure, axes = style.canvas(1, 2, figsize=(11, 4.4))
    axis = axes[0, 0]
    for place in range(table.settings["d"]):
        rows = table.present(series="gain", i=place + 1)
        if not rows:
            continue
        look = style.STYLES[place]
        axis.plot(
            [r["t"] for r in rows],
            [r["value"] for r in rows],
            color=look["color"],
            ls=look["ls"],
            marker=look["marker"],
            mfc="none",
            markevery=4,
            label=f"$p_{place + 1}$, $c_{place + 1}$ = {rows[0]['eigenvalue']:.2f}",
        )
        axis.plot(60, rows[0]["limit"], marker=look["marker"], color=look["color"], clip_on=False)
        for held in table.present(series="integrated gain", i=place + 1):
            axis.plot(
                4e-5,
                held["value"],
                marker=look["marker"],
                color=look["color"],
                clip_on=False,
                mfc="none",
                ms=8,
            )
    axis.axhline(1, color="0.5", lw=0.8)
    style.log_axes(
        axis,
        "t",
        r"gains $p_i$: $VV^\top = \sum_i p_i u_i u_i^\top$",
        "Rank-d minimiser: PCA as $t \\to 0$, $c_i/\\lambda^2$ as $t \\to \\infty$\n"
        "(filled, right: the limit; large hollow, left: integrated over t)",
        up="linear",
    )
    axis.legend(loc="lower left", bbox_to_anchor=(0, 0.15))
    axis = axes[0, 1]
    rank = [{**r, "value": max(r["value"], 1e-33)} for r in table.present(series="rank-d to PCA")]
    style.points(axis, rank, "t", 0, label="rank-d closed form", line=True)
    trained = [
        {**r, "value": max(r["value"], 1e-33)} for r in table.present(series="trained to PCA")
    ]
    style.points(axis, trained, "t", 1, label="orthonormal, trained (L-BFGS)", line=True)
    for held in table.present(series="closed form to PCA"):
        axis.axhline(
            max(held["value"], 1e-33), label="orthonormal, closed form", color="#1f6fb4", ls=":"
        )
    style.log_axes(
        axis,
        "t",
        r"$\Vert VV^\top - P_{PCA}\Vert_F^2$",
        "Orthonormal decoders are PCA at every $t$;\nrank-d ones only as $t \\to 0$",
    )
    axis.legend(loc="center left")
    return figure
