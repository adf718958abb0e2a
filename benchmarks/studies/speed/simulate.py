"""How many replicates a second, against the random numbers they need and against drawing data."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import fsd_jax as fsd
from benchmarks import drawing, text
from benchmarks.records import Record, record
from benchmarks.study import Settings, Study, Work
from benchmarks.table import Missing, Table
from benchmarks.timing import Timing, interleave
from fsd_jax import simulate, theory

LATENT_DIM, AMBIENT, N_TA, N_S, TIME, VARIANCE = 16, 256, 100, 10_000, 1.0, 1.0
SIZES = (10**2, 10**4, 10**6, 10**9, 10**12)
FLOOR = "random numbers alone (floor)"
DIRECT = 2048
"""Replicates of one call of the direct JAX route."""


def settings(size: str) -> Settings:
    """Blocks of replicates in one call, and about how many seconds to time."""
    place = ("quick", "default", "full").index(size)
    return {"blocks": (32, 128, 512)[place], "seconds": (1.0, 4.0, 30.0)[place]}


def compute(settings: Settings, work: Work) -> Iterator[Record]:
    """Throughput, its share of the floor, and means with their exact values."""
    blocks = settings["blocks"]
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
    work.tell("timing")
    timings = interleave(
        {name: method for name, (_, method) in methods.items()},
        seconds=settings["seconds"],
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
            "isotropic, d = 16",
            seconds,
            method=name,
            metric="time_per_replicate",
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
        "means",
        float(values.mean()),
        method="fsd_jax",
        metric="subspace_error",
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


def draw(table: Table) -> Any:
    """Times of one replicate over the floor's, and means beside their exact values."""
    figure, axes = drawing.canvas(1, 2, figsize=(11.5, 4.4), width_ratios=(1.3, 1))
    rows = sorted(table.present(metric="time_per_replicate"), key=lambda r: -r["value"])
    rivals = [r["value"] for r in rows if not r["method"].startswith(("fsd_jax", FLOOR))]
    unit = min(rivals, default=1.0)
    for i, row in enumerate(rows):
        own = row["method"].startswith("fsd_jax")
        axes[0, 0].barh(i, row["value"] / unit, color="#1f6fb4" if own else "#8c8c8c")
    axes[0, 0].axvline(1.0, color="black", lw=0.8, ls="--")
    axes[0, 0].set_yticks(range(len(rows)), [r["method"] for r in rows], fontsize=7)
    axes[0, 0].set(
        xscale="log",
        xlabel="time of a replicate / that of the fastest rival",
        title=f"{1e6 * unit:.3g} microseconds is 1",
    )
    means = table.present(metric="subspace_error")
    drawing.points(axes[0, 1], means, "n_ta", 1, label="mean, 2 s.e.")
    drawing.curve(axes[0, 1], means, "n_ta", "exact", 0, label="exact")
    drawing.log_axes(axes[0, 1], "n_ta", drawing.ERROR, f"$n_s$ = {N_S:,}, d = {LATENT_DIM}")
    axes[0, 1].legend()
    return figure


def finding(table: Table) -> str:
    """Replicates a second beside the fastest rival, and how far means are from exact ones."""
    times = {r["method"]: r for r in table.select(metric="time_per_replicate")}
    own = times[_ours(N_TA)]
    rivals = {n: r for n, r in times.items() if not n.startswith(("fsd_jax", FLOOR))}
    if not rivals:
        raise Missing("times of rivals")
    name = min(rivals, key=lambda n: rivals[n]["value"])
    worst = max(abs(r["sigmas"]) for r in table.select(metric="subspace_error"))
    rate = 1 / own["value"]
    error = rate * (own["stderr"] or 0) / own["value"]
    return (
        f"{rate:.3g} +- {error:.1g} replicates a second without data, "
        f"{rivals[name]['value'] / own['value']:.3g} times as many as {name}; their means lie "
        f"within {worst:.1f} standard errors of the exact values."
    )


def lines(table: Table) -> text.Lines:
    """One line a method, then one a mean."""
    found = [
        {
            "method": r["method"],
            "replicates a second": f"{1 / r['value']:.3g}",
            "times the floor": f"{r['value'] / r['floor']:.3g}",
        }
        for r in table.present(metric="time_per_replicate")
    ]
    return found + [
        {
            "method": f"mean error, n_ta = {r['n_ta']:.0e}",
            "mean": text.number(r),
            "exact": f"{r['exact']:.4g}",
        }
        for r in table.present(metric="subspace_error")
    ]


STUDY = Study(
    name="simulate",
    summary="replicates per second without data, against NumPy, scikit-learn, JAX, the RNG floor",
    settings=settings,
    compute=compute,
    pictures={"simulate": draw},
    lines=lines,
    finding=finding,
    usual=True,
    timed=True,
    measured=(
        *("replicates_per_second", "slower_than_ours", "share_of_floor", "first_order", "sigmas"),
    ),
)
