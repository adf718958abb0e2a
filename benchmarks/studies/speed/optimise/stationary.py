"""Where descent slows down or could stop: null directions, and the Hessian at stationary points."""

import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fsd_jax as fsd
from benchmarks.records import Record, record
from benchmarks.studies.speed.optimise.race import LATENT_DIM, TIME, VARIANCE, problem_of
from fsd_jax import landscape

SMALL_DIM = 4
"""Of the problems whose whole Hessian is looked at."""


def sublinear(seed: int, steps: int) -> Record:
    """R17: below d samples the gap of gradient descent is ``(d-n)/(64 kappa eta^2 k^2)``."""
    n, rate = 10, 0.2
    problem = problem_of(seed, 64, n)
    moment = fsd.SecondMoment.from_samples(problem.x[:n])
    outcome = fsd.train(
        jax.random.key(2),
        moment,
        latent_variance=VARIANCE,
        latent_dim=LATENT_DIM,
        time=TIME,
        optimizer="gd",
        learning_rate=rate,
        steps=steps,
    )
    signal, noise = fsd.VP().host_variances(TIME)
    gain = signal * VARIANCE / (signal * VARIANCE + noise)
    # In the loss's own units, kappa = g^2/s2; the rate is in units of b c_1, b = g m^2/s2^2.
    unit = float(gain * signal / noise**2 * moment.values[0])
    kappa, eta = gain**2 / noise, rate / unit
    loss = float(outcome.losses[-1] / (1 + outcome.gap))
    predicted = (LATENT_DIM - n) / (64 * kappa * eta**2 * steps**2) / loss
    return record(
        "null directions",
        float(outcome.gap),
        method="gradient descent",
        metric="loss_gap",
        unit="relative",
        D=64,
        d=LATENT_DIM,
        n_ta=n,
        steps=steps,
        learning_rate=rate,
        exact=float(predicted),
    )


def stationary(size: str) -> Iterator[tuple[int, str, str]]:
    """Samples, constraint, and which stationary point of the loss to look at."""
    if size == "quick":
        yield 100, "rank", "minimum"
        return
    if size == "default":
        yield from ((3, "rank", "minimum"), (100, "rank", "minimum"), (100, "rank", "saddle"))
        return
    for n, constraint in itertools.product((3, 100), ("rank", "orthonormal")):
        if n >= SMALL_DIM:
            yield n, constraint, "minimum"
            yield n, constraint, "saddle"
        elif constraint == "rank":
            # Below d samples the orthonormal minimum is not one point.
            yield n, constraint, "minimum"


def hessian(seed: int, point: tuple[int, str, str]) -> Iterator[Record]:
    """The Hessian's spectrum at a stationary point, by differentiation and by formula."""
    n, constraint, name = point
    ambient, d = 16, SMALL_DIM
    x = jax.random.normal(jax.random.key(seed + n), (n, ambient))
    moment = fsd.SecondMoment.from_samples(x * jnp.linspace(2, 0.5, ambient))
    options: dict[str, Any] = {
        "latent_variance": VARIANCE,
        "time": TIME,
        "constraint": constraint,
    }
    chosen = [*range(d - 1), d + 1] if name == "saddle" else list(range(min(d, n)))
    # The closed form's missing columns are zero: flat directions (R17).
    decoder = jnp.pad(
        landscape.critical_decoder(moment, chosen, **options), ((0, 0), (0, d - len(chosen)))
    )
    around = landscape.measure(decoder, moment, **options)
    off = None
    if len(chosen) == d:
        predicted = landscape.predicted_spectrum(moment, chosen, **options)
        off = float(jnp.max(jnp.abs(around.eigenvalues - predicted)) / jnp.max(predicted))
    yield record(
        f"landscape, {constraint}",
        around.condition_number,
        method=name,
        metric="condition_number",
        D=ambient,
        d=d,
        n_ta=n,
        status="ok" if np.isfinite(around.condition_number) else "infinite",
        negative=around.negative,
        flat=int(jnp.sum(jnp.abs(around.eigenvalues) < 1e-9)),
        smallest=float(around.eigenvalues[0]),
        largest=float(around.eigenvalues[-1]),
        off_formula=off,
    )
