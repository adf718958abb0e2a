"""Lemma 5.1: the closed form against optimisers, the loss around it, the formula under noise."""

import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fsd_jax as fsd
from paper_figures import style
from paper_figures.table import Row, Table, row
from paper_figures.work import SEED, Work

SUMMARY = "closed form against L-BFGS and Adam, the loss around it, raw formula against truncation"
LONG = True
OPTIMIZERS = ("lbfgs", "adam")


def settings(quick: bool) -> dict[str, Any]:
    """Sizes of the problems."""
    return {
        "D": 20,
        "d": 3,
        "n_ta": 30,
        "t": 0.5,
        "latent_variance": 1.0,
        "starts": 4 if quick else 16,
        "steps": {"lbfgs": 60, "adam": 800 if quick else 2000},
        "taus": [0.0, 0.3],
        "noise": [0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0],
        "replicates": 64 if quick else 512,
        "grid": 41,
        "spectrum": [2.0, 1.5, 1.0, 0.6] if quick else [2.0, 1.5, 1.0, 0.6, 0.3],
        "times": [0.01, 0.1, 0.5, 1.0, 2.0, 5.0],
    }


def compute(settings: dict[str, Any], work: Work) -> Iterator[Row]:
    """Trajectories, the loss on a plane, critical points, the formula under noise and printed."""
    for part in (_trajectories, _plane, _critical, _raw, _population, _unattained):
        work.tell(f"lemma-5.1 {part.__name__.strip('_')}")
        yield from part(settings)


def _problem(s: dict[str, Any], tau: float, n_ta: int | None = None) -> fsd.SecondMoment:
    key = jax.random.key(SEED)
    problem = fsd.LinearProblem.random(
        key,
        ambient_dim=s["D"],
        latent_dim=s["d"],
        latent_variance=s["latent_variance"],
        residual_variance=tau**2,
    )
    x = problem.sample_target(jax.random.fold_in(key, 1), n_ta or s["n_ta"])
    return fsd.SecondMoment.from_samples(x, route="svd")


def _fit(s: dict[str, Any]) -> dict[str, Any]:
    return {"latent_variance": s["latent_variance"], "time": s["t"]}


def _trajectories(s: dict[str, Any]) -> Iterator[Row]:
    """Relative loss gap to the closed form, over random starts."""
    keys = jax.random.split(jax.random.key(SEED + 1), s["starts"])
    for tau, optimizer in itertools.product(s["taus"], OPTIMIZERS):
        moment, steps = _problem(s, tau), s["steps"][optimizer]
        # A loop: one compilation without a batch is cheaper than all the runs together.
        gaps = np.array(
            [
                fsd.train(
                    key, moment, latent_dim=s["d"], optimizer=optimizer, steps=steps, **_fit(s)
                ).gaps
                for key in keys
            ]
        )
        shown = np.unique(np.geomspace(1, steps, 40).astype(int))
        for step in shown:
            own = gaps[:, step]
            yield row(
                "trajectory",
                float(np.median(own)),
                low=float(own.min()),
                high=float(own.max()),
                optimizer=optimizer,
                tau=tau,
                step=int(step),
                starts=s["starts"],
            )
        yield row(
            "final gap",
            float(gaps[:, -1].max()),
            low=float(gaps[:, -1].min()),
            high=float(gaps[:, -1].max()),
            optimizer=optimizer,
            tau=tau,
        )


def _plane(s: dict[str, Any]) -> Iterator[Row]:
    """The loss for d = 1 on the plane of two eigenvectors, beside its formula."""
    c = np.array([1.6, 0.7])
    moment = fsd.SecondMoment.from_covariance(jnp.diag(jnp.asarray(c)))
    signal, noise = (float(v) for v in fsd.VP().host_variances(np.asarray(s["t"])))
    g = signal * s["latent_variance"] / (signal * s["latent_variance"] + noise)
    axis = np.linspace(-1.6, 1.6, s["grid"])
    points = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2, 1)
    losses = jax.vmap(lambda V: fsd.expected_loss(V, moment, **_fit(s)))(jnp.asarray(points))
    best = fsd.rank_minimizer(moment, latent_dim=1, **_fit(s))
    lowest = float(fsd.expected_loss(best.decoder, moment, **_fit(s)))
    for V, loss in zip(points, np.asarray(losses), strict=True):
        P = V @ V.T
        # Section 5's objective, from the paper's own line, with its factor and its constant.
        exact = g**2 * np.trace(P @ (signal * np.diag(c) + noise * np.eye(2)) @ P)
        exact -= 2 * signal * g * np.trace(P @ np.diag(c))
        exact = (exact + signal * c.sum()) / noise**2
        yield row(
            "plane", float(loss), exact=float(exact), first=float(V[0, 0]), second=float(V[1, 0])
        )
    yield row("plane minimum", lowest, exact=min(float(np.min(losses)), np.inf))


def _critical(s: dict[str, Any]) -> Iterator[Row]:
    """Every choice of two eigenvectors: gradient, and directions of descent."""
    c = jnp.asarray(s["spectrum"])
    moment = fsd.SecondMoment.from_covariance(jnp.diag(c))
    for chosen in itertools.combinations(range(len(c)), 2):
        V = fsd.landscape.critical_decoder(moment, chosen, **_fit(s))
        found = fsd.landscape.measure(V, moment, **_fit(s))
        predicted = fsd.landscape.predicted_spectrum(moment, chosen, **_fit(s))
        name: dict[str, Any] = {"chosen": " ".join(str(i + 1) for i in chosen)}
        yield row("gradient", float(found.gradient_norm), exact=0.0, **name)
        yield row("descents", found.negative, exact=int(np.sum(np.asarray(predicted) < 0)), **name)


def _raw(s: dict[str, Any]) -> Iterator[Row]:
    """Distances to the truth of the raw formula and of its truncation, as noise grows."""
    keys = jax.random.split(jax.random.key(SEED + 2), s["replicates"])

    @jax.jit
    def distances(tau2: jax.Array) -> jax.Array:
        return jax.lax.map(lambda key: one(key, tau2), keys)

    def one(key: jax.Array, tau2: jax.Array) -> jax.Array:
        z_key, noise_key = jax.random.split(key)
        truth = jnp.eye(s["D"], s["d"])
        x = jax.random.normal(z_key, (s["n_ta"], s["d"])) @ truth.T
        x = x + jnp.sqrt(tau2) * jax.random.normal(noise_key, (s["n_ta"], s["D"]))
        moment = fsd.SecondMoment.from_samples(x, route="svd", throw=False)
        variance = s["latent_variance"] + tau2
        kept = fsd.rank_minimizer(
            moment, latent_variance=variance, latent_dim=s["d"], time=s["t"], throw=False
        )
        p, u = fsd.paper_formula(moment, latent_variance=variance, time=s["t"]), moment.basis
        raw = (u * p.gains) @ u.T
        short = kept.decoder @ kept.decoder.T
        return jnp.array(
            [
                jnp.sum((raw - short) ** 2),
                fsd.subspace_error(p.decoder, truth),
                fsd.subspace_error(kept.decoder, truth),
            ]
        )

    names = ("raw less truncated", "raw formula", "truncated to rank d")
    for tau in s["noise"]:
        found = np.asarray(distances(jnp.asarray(tau**2)))
        for values, name in zip(found.T, names, strict=True):
            yield row(
                name,
                float(values.mean()),
                tau=tau,
                replicates=len(values),
                stderr=float(values.std(ddof=1) / len(values) ** 0.5),
            )


def _population(s: dict[str, Any]) -> Iterator[Row]:
    """``|| VV' - AA' ||_F^2`` at the population's C: the printed formula, and with its factor."""
    A = np.linalg.qr(np.random.default_rng(SEED).normal(size=(s["D"], s["d"])))[0]
    lam2, identity = s["latent_variance"] * 2.0, np.eye(s["D"])
    C = lam2 * A @ A.T
    for t in s["times"]:
        signal, noise = (float(v) for v in fsd.VP().host_variances(np.asarray(t)))
        scale = (signal * lam2 + noise) / lam2
        moment = fsd.SecondMoment.from_covariance(jnp.asarray(C))
        ours = fsd.rank_minimizer(moment, latent_variance=lam2, latent_dim=s["d"], time=t)
        for name, factor in (("as printed", 1.0), ("with its factor", signal)):
            P = scale * np.linalg.solve(factor * C + noise * identity, C)
            yield row("population", float(np.sum((P - A @ A.T) ** 2)), formula=name, t=t)
        error = float(fsd.subspace_error(ours.decoder, jnp.asarray(A)))
        yield row("population", error, formula="rank_minimizer", t=t)


def _unattained(s: dict[str, Any]) -> Iterator[Row]:
    """Fewer samples than directions: decoders of rank d come as close as one likes."""
    moment = _problem(s, 0.0, n_ta=s["d"] - 1)
    best = fsd.rank_minimizer(moment, latent_dim=s["d"], **_fit(s))
    lowest = float(fsd.expected_loss(best.decoder, moment, **_fit(s)))
    yield row("rank found", int(best.rank), exact=s["d"] - 1)
    off = np.linalg.svd(np.asarray(moment.basis), full_matrices=True)[0][:, -1]
    for size in (1.0, 0.3, 0.1, 0.03, 0.01):
        V = best.decoder.at[:, -1].set(size * jnp.asarray(off))
        loss = float(fsd.expected_loss(V, moment, **_fit(s)))
        yield row(
            "gap at rank d",
            (loss - lowest) / lowest,
            size=size,
            rank=int(np.linalg.matrix_rank(np.asarray(V))),
        )


def draw(table: Table) -> Any:
    """Four panels."""
    figure, axes = style.canvas(2, 2, figsize=(10, 8))
    _draw_trajectories(axes[0, 0], table)
    _draw_plane(axes[0, 1], table)
    _draw_raw(axes[1, 0], table)
    _draw_population(axes[1, 1], table)
    return figure


def _draw_trajectories(axis: Any, table: Table) -> None:
    names = {"lbfgs": "L-BFGS", "adam": "Adam"}
    for place, (tau, optimizer) in enumerate(itertools.product(table.settings["taus"], OPTIMIZERS)):
        rows = table.present(series="trajectory", optimizer=optimizer, tau=tau)
        look = style.STYLES[place]
        steps = [r["step"] for r in rows]
        middle = [max(abs(r["value"]), 1e-17) for r in rows]
        axis.plot(
            steps,
            middle,
            color=look["color"],
            ls=look["ls"],
            marker=look["marker"],
            mfc="none",
            markevery=4,
            label=rf"{names[optimizer]}, $\tau$ = {tau:g}",
        )
        axis.fill_between(
            steps,
            [max(abs(r["low"]), 1e-17) for r in rows],
            [max(abs(r["high"]), 1e-17) for r in rows],
            color=look["color"],
            alpha=0.12,
            lw=0,
        )
    starts = table.settings["starts"]
    style.log_axes(
        axis,
        "steps",
        "(loss - closed form's)/closed form's",
        f"Optimisers reach the closed form's loss\n(median and range of {starts} starts, float64)",
    )
    axis.legend(loc="lower left")


def _draw_plane(axis: Any, table: Table) -> None:
    rows = table.present(series="plane")
    across = sorted({r["first"] for r in rows})
    held = {(r["first"], r["second"]): r["value"] for r in rows}
    gap = np.array([[held.get((x, y), np.nan) for x in across] for y in across])
    low = table.present(series="plane minimum")
    gap = gap - (low[0]["value"] if low else np.nanmin(gap)) + 1e-6
    levels = np.array([0.01, 0.05, 0.2, 0.5, 1, 2, 5, 10, 20, 50])
    drawn = axis.contour(across, across, gap, levels=levels, cmap="Greys_r", linewidths=1)
    axis.clabel(drawn, fmt="%g", fontsize=7)
    signal, noise = (float(v) for v in fsd.VP().host_variances(np.asarray(table.settings["t"])))
    lam2 = table.settings["latent_variance"]
    for c, place, marker, name in (
        (1.6, 0, "*", "minima: top eigenvector"),
        (0.7, 1, "X", "saddles: the other one"),
    ):
        p = ((signal * lam2 + noise) / lam2) * c / (signal * c + noise)
        spot = np.zeros((2, 2))
        spot[:, place] = np.array([-1, 1]) * p**0.5
        axis.plot(
            *spot.T,
            marker,
            color="black" if place == 0 else "#b5462a",
            ms=10,
            ls="",
            mfc="none" if place else "black",
            label=name,
        )
    axis.plot(0, 0, "o", color="#1f6fb4", mfc="none", ms=7, label="maximum: V = 0")
    axis.set(
        xlabel="component of V on the eigenvector of c = 1.6",
        ylabel="component on that of c = 0.7",
        aspect="equal",
        title="Loss less its minimum, D = 2, d = 1:\nno minimum but the global one",
    )
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, fontsize=7)


def _draw_raw(axis: Any, table: Table) -> None:
    names = {
        "raw formula": "to the truth: raw formula",
        "truncated to rank d": "to the truth: truncated to rank d",
        "raw less truncated": "raw formula to its truncation",
    }
    for place, (name, label) in enumerate(names.items()):
        style.points(axis, table.present(series=name), "tau", place, line=True, label=label)
    s = table.settings
    axis.set(
        xlabel=r"residual noise $\tau$",
        ylabel=r"squared distance, $\Vert\cdot\Vert_F^2$",
        title=f"Noise: the raw formula has full rank\n(D = {s['D']}, d = {s['d']}, "
        rf"$n_{{ta}}$ = {s['n_ta']}, t = {s['t']}; 2 s.e.)",
    )
    axis.set_ylim(bottom=0)
    axis.legend()


def _draw_population(axis: Any, table: Table) -> None:
    for place, name in enumerate(("as printed", "with its factor", "rank_minimizer")):
        rows = [
            {**r, "value": max(r["value"], 1e-33)}
            for r in table.present(series="population", formula=name)
        ]
        look = style.STYLES[place]
        axis.plot(
            [r["t"] for r in rows],
            [r["value"] for r in rows],
            color=look["color"],
            ls=look["ls"],
            marker=look["marker"],
            mfc="none",
            label={
                "as printed": r"printed: $(C + \sigma_t^2 I)^{-1}C$",
                "with its factor": r"right: $(m_t^2C + \sigma_t^2 I)^{-1}C$",
            }.get(name, "rank_minimizer"),
        )
    style.log_axes(
        axis,
        "t",
        r"$\Vert VV^\top - AA^\top\Vert_F^2$",
        "At the population's C only the formula with\n"
        r"$m_t^2$ gives $AA^\top$ ($\lambda^2$ = 2)",
    )
    axis.legend(loc="center right")
