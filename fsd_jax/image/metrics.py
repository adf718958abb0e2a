"""Measures of generated samples, each with a bootstrap error; plain ``(n, D)`` arrays, on the host.

Intervals of shares are Wilson's, the others are basic bootstrap intervals. Both speak of the
generated (and held-out) samples, and say nothing about the choice of the few target images, over
which a study must average.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from fsd_jax import _checks, _linalg
from fsd_jax.moments import SecondMoment
from fsd_jax.process import VP

DRAWS = 200
"""Bootstrap replicates."""
Z_95 = 1.959963984540054
"""Normal quantile of a two-sided 95% interval."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number, its bootstrap standard error, and a 95% interval around it.

    Attributes:
        value: the estimate.
        stderr: standard deviation of its replicates.
        low: lower end.
        high: upper end.
    """

    value: float
    stderr: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Features:
    """Leading principal components of a reference set, scaled to unit mean square together.

    Attributes:
        mean: ``(D,)``.
        basis: ``(D, k)``.
        scale: one number, so that distances keep their proportions.
    """

    mean: np.ndarray
    basis: np.ndarray
    scale: float

    @classmethod
    def fit(cls, reference: np.ndarray | SecondMoment, rank: int) -> "Features":
        """Features of a reference set, for example the source.

        Args:
            reference: ``(n, ...)`` samples, or their second moment about their mean.
            rank: ``k``.

        Raises:
            ValueError: a rank above what the reference has.
        """
        if isinstance(reference, SecondMoment):
            moment, most = reference, reference.values.shape[0]
            if moment.mean is None:
                raise ValueError("reference must be centred; build it with centre=True")
        else:
            flat, _ = _checks.samples("reference", reference, rows=2, images=True)
            most = min(flat.shape)
        rank = _checks.dimension("rank", rank, high=most, top=" = directions of the reference")
        if not isinstance(reference, SecondMoment):
            moment = SecondMoment.from_samples(flat, rank=rank, centre=True)
        return cls(
            mean=np.asarray(moment.mean),
            basis=np.asarray(moment.basis)[:, :rank],
            scale=float(np.sqrt(np.mean(np.asarray(moment.values)[:rank]))),
        )

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """``(n, k)`` coordinates of ``(n, ...)`` samples, in float64."""
        return ((_flat(x) - self.mean) @ self.basis).astype(np.float64) / self.scale


def nearest_distances(samples: np.ndarray, train: np.ndarray) -> np.ndarray:
    """``(n, 2)`` distances of each sample to its nearest and second-nearest training point."""
    if len(train) < 2:
        raise ValueError(f"train has {len(train)} row and needs at least 2")
    a, b = _flat(samples), _flat(train)
    centre = b.mean(axis=0)
    squared = _squared_distances(a - centre, b - centre)
    two = np.argpartition(squared, 1, axis=1)[:, :2]
    # The Gram form loses the digits of small distances, so the two winners are measured directly.
    exact = [np.sqrt(np.sum((a - b[two[:, i]]) ** 2, axis=1)) for i in range(2)]
    return np.sort(np.stack(exact, axis=1), axis=1)


def memorised_fraction(
    samples: np.ndarray, train: np.ndarray, *, threshold: float = 1 / 3, seed: int = 0
) -> Estimate:
    """``f_mem``: share of samples whose two nearest training points differ in distance.

    A sample counts as memorised if the nearest is closer than `threshold` times the second.

    Args:
        samples: ``(n, ...)``.
        train: ``(m, ...)``.
        threshold: of the ratio.
        seed: of the bootstrap.
    """
    near = nearest_distances(samples, train)
    return share_of(near[:, 0] < threshold * near[:, 1], seed=seed)


def nearest_distance(samples: np.ndarray, train: np.ndarray, *, seed: int = 0) -> Estimate:
    """Mean distance of the samples to their nearest training points."""
    return mean_of(nearest_distances(samples, train)[:, 0], seed=seed)


def diversity(samples: np.ndarray, *, seed: int = 0) -> Estimate:
    """Mean distance between two different samples."""
    flat = _flat(samples).astype(np.float64)
    _at_least("samples", flat, 2)
    flat = flat - flat.mean(axis=0)
    distances = np.sqrt(np.clip(_squared_distances(flat, flat), 0, None))
    np.fill_diagonal(distances, 0)

    def statistic(w: np.ndarray) -> np.ndarray:
        return _pairs(w, distances, w) / (np.sum(w, axis=1) ** 2 - np.sum(w**2, axis=1))

    return _bootstrap(statistic, (len(flat),), seed)


def frechet_distance(x: np.ndarray, y: np.ndarray, *, seed: int = 0) -> Estimate:
    """Frechet distance of two sets of features: that of Gaussians with their means and covariances.

    ``|mu_x - mu_y|^2 + tr(C_x + C_y - 2 (C_x^(1/2) C_y C_x^(1/2))^(1/2))``. It is biased upwards
    by about the number of features over the number of samples: compare it with what two sets of
    real samples of the same sizes give.

    Args:
        x: ``(n, k)`` features of generated samples.
        y: ``(m, k)`` features of real ones.
        seed: of the bootstrap.

    Raises:
        ValueError: unless both sets have more samples than twice the features, for then a
            covariance is nearly singular.
    """
    for name, value in (("x", x), ("y", y)):
        if len(value) <= 2 * value.shape[1]:
            raise ValueError(
                f"{name} has {len(value)} samples of {value.shape[1]} features: their covariance "
                "would be (nearly) singular; use fewer features or more samples"
            )

    def statistic(w: np.ndarray, v: np.ndarray) -> np.ndarray:
        (mu, C), (nu, K) = _moments(w, x), _moments(v, y)
        spread = np.trace(C + K, axis1=1, axis2=2) - 2 * _linalg.host_fidelity(C, K)
        return np.sum((mu - nu) ** 2, axis=1) + np.clip(spread, 0, None)

    return _bootstrap(statistic, (len(x), len(y)), seed)


def kernel_distance(x: np.ndarray, y: np.ndarray, *, seed: int = 0) -> Estimate:
    """Squared maximum mean discrepancy with the kernel ``(x'y/k + 1)^3``, unbiased (KID).

    Args:
        x: ``(n, k)`` features of generated samples.
        y: ``(m, k)`` features of real ones.
        seed: of the bootstrap.
    """
    _at_least("x", x, 2)
    _at_least("y", y, 2)
    kernel = lambda a, b: (a @ b.T / a.shape[1] + 1) ** 3
    inside_x, inside_y, across = kernel(x, x), kernel(y, y), kernel(x, y)
    np.fill_diagonal(inside_x, 0)
    np.fill_diagonal(inside_y, 0)

    def within(w: np.ndarray, gram: np.ndarray) -> np.ndarray:
        # A sample drawn twice is no pair of samples.
        return _pairs(w, gram, w) / (np.sum(w, axis=1) ** 2 - np.sum(w**2, axis=1))

    def statistic(w: np.ndarray, v: np.ndarray) -> np.ndarray:
        mixed = _pairs(w, across, v) / (np.sum(w, axis=1) * np.sum(v, axis=1))
        return within(w, inside_x) + within(v, inside_y) - 2 * mixed

    return _bootstrap(statistic, (len(x), len(y)), seed)


def denoising_losses(
    key: Key[Array, ""],
    score: Callable[[Array, Array], Array],
    x: np.ndarray,
    *,
    times: ArrayLike,
    draws: int = 1,
    process: VP = VP(),
) -> np.ndarray:
    """Section 3.2's loss of any score, for each sample and time, the noise being drawn.

    The same key gives the same noise for every score, so differences between scores are paired.
    A product with weights over time gives the integrated loss.

    Args:
        key: random key.
        score: a score that is a pytree, such as `LinearScore` or `EmpiricalScore`.
        x: ``(n, ...)`` clean samples.
        times: ``(K,)``.
        draws: noise draws for each sample and time.
        process: forward process.

    Returns:
        ``(n, K)`` losses.
    """
    flat, _ = _checks.samples("x", x, images=True)
    draws = _checks.dimension("draws", draws)
    t, _, _ = _checks.times_and_weights(None, times, None, flat.dtype)
    return np.asarray(_losses(key, score, flat, jnp.asarray(t), process, draws=draws))


@partial(jax.jit, static_argnames=("draws",))
def _losses(
    key: Key[Array, ""],
    score: Callable[[Array, Array], Array],
    x: Float[Array, "n D"],
    times: Float[Array, " K"],
    process: VP,
    *,
    draws: int,
) -> Float[Array, "n K"]:
    def at(item: tuple[Array, Array]) -> Array:
        number, t = item
        noise = jax.random.normal(jax.random.fold_in(key, number), x.shape, x.dtype)
        spread = process.noise_variance(t)
        diffused = process.signal(t) * x + jnp.sqrt(spread) * noise
        return jnp.sum((score(diffused, t) + noise / jnp.sqrt(spread)) ** 2, axis=1)

    numbers = jnp.arange(draws * times.shape[0])
    losses = jax.lax.map(at, (numbers, jnp.tile(times, draws)))
    return jnp.mean(losses.reshape(draws, times.shape[0], -1), axis=0).T


def mean_of(values: np.ndarray, *, seed: int = 0) -> Estimate:
    """The mean of ``(n,)`` numbers, one a sample."""
    _at_least("values", values, 1)
    data = np.asarray(values, np.float64)
    return _bootstrap(lambda w: w @ data / np.sum(w, axis=1), (len(data),), seed)


def share_of(hits: np.ndarray, *, seed: int = 0) -> Estimate:
    """The share of ``(n,)`` yes-or-no answers, with Wilson's score interval.

    It stays within 0 and 1 and keeps a width where all answers are the same, of which a bootstrap
    makes a point.
    """
    found = mean_of(hits, seed=seed)
    n, z = len(hits), Z_95
    centre = (found.value + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(found.value * (1 - found.value) / n + (z / (2 * n)) ** 2) / (1 + z**2 / n)
    # Where all agree, rounding may leave the end beside the share.
    low, high = min(centre - half, found.value), max(centre + half, found.value)
    return replace(found, low=max(float(low), 0.0), high=min(float(high), 1.0))


def _bootstrap(statistic: Callable[..., np.ndarray], sizes: tuple[int, ...], seed: int) -> Estimate:
    """A statistic of counts ``(draws, n)`` for each set: once with ones, then resampled."""
    rng = np.random.default_rng(seed)
    value = statistic(*[np.ones((1, n)) for n in sizes])[0]
    replicates = statistic(*[rng.multinomial(n, np.full(n, 1 / n), DRAWS) * 1.0 for n in sizes])
    # The basic interval: reflected about the estimate, which undoes the bootstrap's own bias.
    ends = 2 * value - np.quantile(replicates, [0.975, 0.025])
    spread = float(np.std(replicates, ddof=1))
    return Estimate(value=float(value), stderr=spread, low=float(ends[0]), high=float(ends[1]))


def _moments(w: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted means ``(draws, k)`` and covariances ``(draws, k, k)``."""
    share = w / np.sum(w, axis=1, keepdims=True)
    mean = share @ x
    k = x.shape[1]
    products = (x[:, :, None] * x[:, None, :]).reshape(len(x), k * k)
    second = (share @ products).reshape(-1, k, k)
    n = np.sum(w, axis=1)[:, None, None]
    return mean, (second - mean[:, :, None] * mean[:, None, :]) * n / (n - 1)


def _pairs(w: np.ndarray, matrix: np.ndarray, v: np.ndarray) -> np.ndarray:
    """``w' matrix v`` for each replicate."""
    return np.sum((w @ matrix) * v, axis=1)


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.sum(a**2, axis=1)[:, None] + np.sum(b**2, axis=1) - 2 * a @ b.T


def _flat(x: np.ndarray) -> np.ndarray:
    array = np.asarray(x)
    if array.ndim < 2:
        raise ValueError(f"samples must have shape (n, ...), got {array.shape}")
    return array.reshape(len(array), -1)


def _at_least(name: str, x: np.ndarray, rows: int) -> None:
    if len(x) < rows:
        raise ValueError(f"{name} has {len(x)} rows and needs at least {rows}")
