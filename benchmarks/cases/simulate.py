"""How many replicates a second, against the random numbers they need and against drawing data."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import fsd_jax as fsd
from benchmarks.context import Context
from benchmarks.records import Record, record
from benchmarks.timing import Timing, interleave
from fsd_jax import simulate, theory

SUMMARY = "replicates per second without data, against NumPy, scikit-learn, JAX and the RNG floor"
LATENT_DIM, AMBIENT, N_TA, N_S, TIME, VARIANCE = 16, 256, 100, 10_000, 1.0, 1.0
SIZES = (10**2, 10**4, 10**6, 10**9, 10**12)
FLOOR = "random numbers alone (floor)"
DIRECT = 2048
"""Replicates of one call of the direct JAX route."""


def run(context: Context) -> Iterator[Record]:
    """Yield throughput, its share of the floor, and means with their exact values."""
    blocks = context.pick(32, 128, 512)
    replicates = blocks * simulate.BLOCK
    # BLAS first: its idle threads spin for a while and would slow a brief method that follows.
    methods: dict[str, tuple[int, Callable[[], Any]]] = {
        "NumPy on data": (1, lambda: _on_data(_numpy_gram)),
        "scikit-learn on data": (1, lambda: _on_data(_scikit_pca)),
        "direct JAX, latent samples": (DIRECT, partial(_direct, replicates=DIRECT)),
        FLOOR: (replicates, partial(_floor, blocks=blocks)),
    }
    for n in SIZES:
        methods[_ours(n)] = (replicates, partial(_without_data, n=n, replicates=replicates))
    context.tell("simulate")
    timings = interleave(
        {name: method for name, (_, method) in methods.items()},
        seconds=context.pick(1.0, 4.0, 30.0),
    )
    yield from _rates(methods, timings)
    for n in SIZES:
        yield _mean(n, np.asarray(timings[_ours(n)].result, np.float64)[:, 0])


def _ours(n: int) -> str:
    return f"fsd_jax, n_ta = {n:.0e}"


def _rates(
    methods: dict[str, tuple[int, Callable[[], Any]]], timings: dict[str, Timing]
) -> Iterator[Record]:
    each = {name: timings[name].median / count for name, (count, _) in methods.items()}
    floor = each[FLOOR]
    base = each[_ours(N_TA)]
    for name, seconds in each.items():
        own: dict[str, Any] = {}
        if name.startswith("fsd_jax"):
            own["share_of_floor"] = floor / seconds
        yield record(
            "simulate",
            "isotropic, d = 16",
            name,
            "time_per_replicate",
            seconds,
            stderr=timings[name].spread / methods[name][0],
            unit="s",
            floor=floor,
            seconds=timings[name].first,
            d=LATENT_DIM,
            replicates_per_second=1 / seconds,
            slower_than_ours=seconds / base,
            **own,
        )


def _mean(n: int, values: np.ndarray) -> Record:
    exact = theory.expected_subspace_error(
        latent_dim=LATENT_DIM, n_ta=n, n_s=N_S, latent_variance=VARIANCE, time=TIME
    )
    signal, noise = fsd.VP().host_variances(TIME)
    factor = float(noise / (signal * VARIANCE + noise)) ** 2
    first_order = factor * (LATENT_DIM * (LATENT_DIM + 1) / n + 2 / N_S)
    stderr = float(values.std(ddof=1) / len(values) ** 0.5)
    return record(
        "simulate",
        "means",
        "fsd_jax",
        "subspace_error",
        float(values.mean()),
        stderr=stderr,
        n_ta=n,
        n_s=N_S,
        d=LATENT_DIM,
        t=TIME,
        exact=exact,
        first_order=first_order,
        sigmas=(float(values.mean()) - exact) / stderr,
    )


def _without_data(n: int, replicates: int) -> Array:
    return simulate.subspace_errors(
        jax.random.key(1),
        latent_dim=LATENT_DIM,
        n_ta=n,
        n_s=N_S,
        latent_variance=VARIANCE,
        times=jnp.asarray([TIME], jnp.float32),
        replicates=replicates,
        dtype=jnp.float32,
    )


@partial(jax.jit, static_argnames="blocks")
def _floor(blocks: int) -> Array:
    """A normal and a uniform for each of a replicate's 31 chi-squares, and nothing else."""

    def one(block: Array) -> Array:
        normal, uniform = jax.random.split(jax.random.fold_in(jax.random.key(0), block))
        shape = (2 * LATENT_DIM - 1, simulate.BLOCK)
        x = jax.random.normal(normal, shape, jnp.float32)
        return jnp.sum(x) + jnp.sum(jax.random.uniform(uniform, shape, jnp.float32))

    return jax.lax.map(one, jnp.arange(blocks))


@partial(jax.jit, static_argnames="replicates")
def _direct(replicates: int) -> Array:
    """Latent samples and eigenvalues: what one writes first in JAX."""
    keys = jax.random.split(jax.random.key(2), replicates)
    ratio = jnp.float32(np.expm1(TIME) / VARIANCE)

    def one(key: Array) -> Array:
        z = jax.random.normal(key, (N_TA, LATENT_DIM), jnp.float32)
        squares = jnp.sum(jax.random.normal(key, (64,), jnp.float32) ** 2) / 64
        s = jnp.linalg.eigvalsh(z.T @ z / N_TA)
        return jnp.sum((ratio * (s / squares - 1) / (s + ratio)) ** 2)

    return jax.lax.map(one, keys, batch_size=256)


def _on_data(solve: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]) -> float:
    """One replicate as one would write it: source, target, both spectra, the error."""
    rng = np.random.default_rng()
    A = np.linalg.qr(rng.standard_normal((AMBIENT, LATENT_DIM)))[0]
    source = rng.standard_normal((N_S, LATENT_DIM)) @ A.T
    target = rng.standard_normal((N_TA, LATENT_DIM)) @ A.T
    lam2 = solve(source)[0].mean()
    c, U = solve(target)
    signal, noise = np.exp(-TIME), -np.expm1(-TIME)
    p = (signal * lam2 + noise) / lam2 * c / (signal * c + noise)
    overlap = U.T @ A
    return float(p @ p - 2 * np.sum(p[:, None] * overlap**2) + LATENT_DIM)


def _numpy_gram(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.linalg.eigh(x.T @ x / len(x))
    return values[: -LATENT_DIM - 1 : -1], vectors[:, : -LATENT_DIM - 1 : -1]


def _scikit_pca(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.decomposition import PCA

    # PCA centres; at these sample sizes that changes the time by nothing.
    found = PCA(LATENT_DIM).fit(x)
    return found.explained_variance_, found.components_.T
