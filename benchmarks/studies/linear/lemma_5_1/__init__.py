"""Lemma 5.1: the closed form against optimisers, the loss around it, the formula under noise."""

import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fsd_jax as fsd
from benchmarks import text
from benchmarks.records import Record, record
from benchmarks.studies.linear.lemma_5_1 import drawing, judging
from benchmarks.study import Settings, Study, Work, mean
from benchmarks.table import Table

NOISED = ("raw less truncated", "raw formula", "truncated to rank d")


def settings(size: str) -> Settings:
    """Sizes of the problems."""
    quick = size == "quick"
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


def compute(settings: Settings, work: Work) -> Iterator[Record]:
    """Trajectories, the loss on a plane, critical points, the formula under noise and printed."""
    for part in (_trajectories, _plane, _critical, _raw, _population, _unattained):
        work.tell(f"{part.__name__.strip('_')}")
        yield from part(settings, work.seed)


def _problem(s: Settings, seed: int, tau: float, n_ta: int | None = None) -> fsd.SecondMoment:
    key = jax.random.key(seed)
    problem = fsd.LinearProblem.random(
        key,
        ambient_dim=s["D"],
        latent_dim=s["d"],
        latent_variance=s["latent_variance"],
        residual_variance=tau**2,
    )
    x = problem.sample_target(jax.random.fold_in(key, 1), n_ta or s["n_ta"])
    return fsd.SecondMoment.from_samples(x, route="svd")


def _fit(s: Settings) -> dict[str, Any]:
    return {"latent_variance": s["latent_variance"], "time": s["t"]}


def _trajectories(s: Settings, seed: int) -> Iterator[Record]:
    """Relative loss gap to the closed form, over random starts."""
    keys = jax.random.split(jax.random.key(seed + 1), s["starts"])
    for tau, optimizer in itertools.product(s["taus"], s["steps"]):
        moment, steps = _problem(s, seed, tau), s["steps"][optimizer]
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
            yield record(
                "trajectory",
                float(np.median(own)),
                low=float(own.min()),
                high=float(own.max()),
                optimizer=optimizer,
                tau=tau,
                step=int(step),
                starts=s["starts"],
            )
        yield record(
            "final gap",
            float(gaps[:, -1].max()),
            low=float(gaps[:, -1].min()),
            high=float(gaps[:, -1].max()),
            optimizer=optimizer,
            tau=tau,
        )


def _plane(s: Settings, _seed: int) -> Iterator[Record]:
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
        yield record(
            "plane", float(loss), exact=float(exact), first=float(V[0, 0]), second=float(V[1, 0])
        )
    yield record("plane minimum", lowest, exact=min(float(np.min(losses)), np.inf))


def _critical(s: Settings, _seed: int) -> Iterator[Record]:
    """Every choice of two eigenvectors: gradient, and directions of descent."""
    c = jnp.asarray(s["spectrum"])
    moment = fsd.SecondMoment.from_covariance(jnp.diag(c))
    for chosen in itertools.combinations(range(len(c)), 2):
        V = fsd.landscape.critical_decoder(moment, chosen, **_fit(s))
        found = fsd.landscape.measure(V, moment, **_fit(s))
        predicted = fsd.landscape.predicted_spectrum(moment, chosen, **_fit(s))
        name: dict[str, Any] = {"chosen": " ".join(str(i + 1) for i in chosen)}
        yield record("gradient", float(found.gradient_norm), exact=0.0, **name)
        yield record(
            "descents", found.negative, exact=int(np.sum(np.asarray(predicted) < 0)), **name
        )


def _raw(s: Settings, seed: int) -> Iterator[Record]:
    """Distances to the truth of the raw formula and of its truncation, as noise grows."""
    keys = jax.random.split(jax.random.key(seed + 2), s["replicates"])

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

    for tau in s["noise"]:
        found = np.asarray(distances(jnp.asarray(tau**2)))
        for values, name in zip(found.T, NOISED, strict=True):
            yield record(name, **mean(values), tau=tau, replicates=len(values))


def _population(s: Settings, seed: int) -> Iterator[Record]:
    """``|| VV' - AA' ||_F^2`` at the population's C: the printed formula, and with its factor."""
    A = np.linalg.qr(np.random.default_rng(seed).normal(size=(s["D"], s["d"])))[0]
    lam2, identity = s["latent_variance"] * 2.0, np.eye(s["D"])
    C = lam2 * A @ A.T
    for t in s["times"]:
        signal, noise = (float(v) for v in fsd.VP().host_variances(np.asarray(t)))
        scale = (signal * lam2 + noise) / lam2
        moment = fsd.SecondMoment.from_covariance(jnp.asarray(C))
        ours = fsd.rank_minimizer(moment, latent_variance=lam2, latent_dim=s["d"], time=t)
        for name, factor in (("as printed", 1.0), ("with its factor", signal)):
            P = scale * np.linalg.solve(factor * C + noise * identity, C)
            yield record("population", float(np.sum((P - A @ A.T) ** 2)), formula=name, t=t)
        error = float(fsd.subspace_error(ours.decoder, jnp.asarray(A)))
        yield record("population", error, formula="rank_minimizer", t=t)


def _unattained(s: Settings, seed: int) -> Iterator[Record]:
    """Fewer samples than directions: decoders of rank d come as close as one likes."""
    moment = _problem(s, seed, 0.0, n_ta=s["d"] - 1)
    best = fsd.rank_minimizer(moment, latent_dim=s["d"], **_fit(s))
    lowest = float(fsd.expected_loss(best.decoder, moment, **_fit(s)))
    yield record("rank found", int(best.rank), exact=s["d"] - 1)
    off = np.linalg.svd(np.asarray(moment.basis), full_matrices=True)[0][:, -1]
    for size in (1.0, 0.3, 0.1, 0.03, 0.01):
        V = best.decoder.at[:, -1].set(size * jnp.asarray(off))
        loss = float(fsd.expected_loss(V, moment, **_fit(s)))
        yield record(
            "gap at rank d",
            (loss - lowest) / lowest,
            size=size,
            rank=int(np.linalg.matrix_rank(np.asarray(V))),
        )


def lines(table: Table) -> text.Lines:
    """Where optimisers end, and what noise does to the formula."""
    found: text.Lines = [
        {
            "what": f"worst end of {drawing.NAMES[r['optimizer']]}, tau = {r['tau']:g}",
            "value": f"{r['value']:.2g}",
            "unit": "loss above the closed form's, relative",
        }
        for r in table.present(data="final gap")
    ]
    for name in NOISED:
        for r in table.present(data=name):
            if r["tau"] in (0.0, 0.3, 1.0):
                what = f"{name}, tau = {r['tau']:g}"
                unit = "squared Frobenius distance"
                found.append({"what": what, "value": text.short(r), "unit": unit})
    return found


STUDY = Study(
    name="lemma-5.1",
    figure="lemma-5.1",
    summary="closed form against L-BFGS and Adam, the loss around it, raw formula against "
    "truncation",
    settings=settings,
    compute=compute,
    pictures={"lemma-5.1": drawing.draw},
    lines=lines,
    finding=judging.finding,
    statements=judging.STATEMENTS,
    long=True,
)
