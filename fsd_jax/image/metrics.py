"""Measures of generated samples, each with a bootstrap error; ``(n, ...)`` arrays, on the host.

Samples may be of any real dtype: integers are widened, never rescaled, and all sums are in float64.
Intervals of shares are Wilson's, the others are basic bootstrap intervals. Both speak of the
generated (and held-out) samples, and say nothing about the choice of the few target images, over
which a study must average.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from fsd_jax import _checks, _linalg, _neighbours
from fsd_jax._process import Process
from fsd_jax._rows import BLOCK, Rows, common, rows, same_width, samples_of
from fsd_jax._scores import Score, as_pytree, drawn_losses, process_of
from fsd_jax.image._bootstrap import DRAWS, Estimate, bootstrap, mean_of, share_of
from fsd_jax.image._features import Features

__all__ = [
    "Estimate",
    "Features",
    "denoising_losses",
    "diversity",
    "frechet_distance",
    "kernel_distance",
    "mean_of",
    "memorised_fraction",
    "nearest_distance",
    "nearest_distances",
    "share_of",
]

FREE_BOOTSTRAP = 256
"""Features up to which `frechet_distance` draws its bootstrap unasked."""
MOST_IN_KERNEL = 1e40
"""Features whose sixth powers, summed over all pairs, float64 can hold."""


def nearest_distances(samples: ArrayLike, train: ArrayLike) -> np.ndarray:
    """``(n, 2)`` distances of each sample to its nearest and second-nearest training point.

    Equal training points are one. Blocks of samples and training points are compared one after
    the other, so that little more memory is used than what the arguments take.

    Args:
        samples: ``(n, ...)``.
        train: ``(m, ...)``, two different ones at least.

    Raises:
        ValueError: bad or too few samples.
    """
    return _nearest(samples, train, 2)


def _nearest(samples: ArrayLike, train: ArrayLike, count: int) -> np.ndarray:
    x, y = rows("samples", samples), rows("train", train, least=count)
    same_width(samples=x, train=y)
    different = y.distinct()
    if len(different) < count:
        raise ValueError(
            f"train has {len(different)} row that is not a repetition and needs at least {count}"
        )
    return _neighbours.nearest(x, different, count)[0]


def memorised_fraction(
    samples: ArrayLike,
    train: ArrayLike,
    *,
    threshold: float = 1 / 3,
    seed: int = 0,
    draws: int = DRAWS,
) -> Estimate:
    """``f_mem``: share of samples whose two nearest training points differ in distance.

    A sample counts as memorised if the nearest is closer than `threshold` times the second.
    Equal training points are one: copies of a picture that occurs twice are copies.

    Args:
        samples: ``(n, ...)``.
        train: ``(m, ...)``, two different ones at least.
        threshold: of the ratio.
        seed: of the bootstrap.
        draws: bootstrap replicates; 0 leaves the bootstrap out.

    Raises:
        ValueError: bad or too few samples; NaN and infinite ones are neither new nor memorised.
    """
    limit, _ = _checks.positive("threshold", threshold, np.float64, ndim=(0,))
    near = nearest_distances(samples, train)
    return share_of(near[:, 0] < np.float64(limit) * near[:, 1], seed=seed, draws=draws)


def nearest_distance(
    samples: ArrayLike, train: ArrayLike, *, seed: int = 0, draws: int = DRAWS
) -> Estimate:
    """Mean distance of the samples to their nearest training points.

    Args:
        samples: ``(n, ...)``.
        train: ``(m, ...)``.
        seed: of the bootstrap.
        draws: bootstrap replicates; 0 leaves the bootstrap out.
    """
    return mean_of(_nearest(samples, train, 1)[:, 0], seed=seed, draws=draws)


def diversity(samples: ArrayLike, *, seed: int = 0, draws: int = DRAWS) -> Estimate:
    """Mean distance between two different samples.

    Args:
        samples: ``(n, ...)``.
        seed: of the bootstrap.
        draws: bootstrap replicates; 0 leaves the bootstrap out.
    """
    (x,) = common(rows("samples", samples, least=2))
    unit = 2.0**x.exponent

    def statistic(w: np.ndarray) -> np.ndarray:
        total = _neighbours.pair_sums(w, x, w, x, _neighbours.distances)
        return unit * total / _ordered_pairs(w)

    return bootstrap(statistic, (len(x),), seed, draws)


def frechet_distance(
    x: ArrayLike, y: ArrayLike, *, seed: int = 0, draws: int | None = None
) -> Estimate:
    """Frechet distance of two sets of features: that of Gaussians with their means and covariances.

    ``|mu_x - mu_y|^2 + tr(C_x + C_y - 2 (C_x^(1/2) C_y C_x^(1/2))^(1/2))``. It is biased upwards
    by about the number of features over the number of samples: compare it with what two sets of
    real samples of the same sizes give.

    The second term is computed as ``|A - B U|_F^2`` with ``C_x = AA'``, ``C_y = BB'`` from
    triangular factors of the samples and the rotation ``U`` that brings them nearest: a sum of
    squares, which does not cancel where the two sets are alike.

    Args:
        x: ``(n, k)`` features of generated samples.
        y: ``(m, k)`` features of real ones.
        seed: of the bootstrap.
        draws: bootstrap replicates, each as much work as the estimate; 0 leaves the bootstrap
            out, None is 200 for up to 256 features and 0 for more.

    Raises:
        ValueError: unless both sets have more samples than twice the features, for then a
            covariance is nearly singular.
    """
    a, b = rows("x", x, features=True), rows("y", y, features=True)
    same_width(x=a, y=b)
    for name, each in (("x", a), ("y", b)):
        if len(each) <= 2 * each.width:
            raise ValueError(
                f"{name} has {len(each)} samples of {each.width} features: their covariance "
                "would be (nearly) singular; use fewer features or more samples"
            )
    a, b = common(a, b)

    def one(w: np.ndarray, v: np.ndarray) -> float:
        (mu, r), (nu, s) = _mean_and_factor(a, w), _mean_and_factor(b, v)
        return float(np.sum((mu - nu) ** 2)) + _linalg.host_bures(r, s)

    def statistic(w: np.ndarray, v: np.ndarray) -> np.ndarray:
        found = [one(*pair) for pair in zip(w, v, strict=True)]
        with np.errstate(over="ignore", under="ignore"):
            return np.ldexp(found, 2 * a.exponent)

    if draws is None:
        draws = DRAWS if a.width <= FREE_BOOTSTRAP else 0
    return bootstrap(statistic, (len(a), len(b)), seed, draws)


def _mean_and_factor(x: Rows, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean, and triangular ``R`` with ``R'R`` the covariance, of samples counted `w` times."""
    n = np.sum(w)
    parts = list(x.slices(2 * BLOCK))
    mean = np.sum([w[part] @ x.block(part) for part in parts], axis=0) / n
    factor = np.zeros((0, x.width))
    for part in parts:
        rest = (x.block(part) - mean) * np.sqrt(w[part])[:, None]
        factor = _linalg.host_triangle(np.concatenate([factor, rest]))
    return mean, factor / np.sqrt(n - 1)


def kernel_distance(x: ArrayLike, y: ArrayLike, *, seed: int = 0, draws: int = DRAWS) -> Estimate:
    """Squared maximum mean discrepancy with the kernel ``(x'y/k + 1)^3``, unbiased (KID).

    Args:
        x: ``(n, k)`` features of generated samples.
        y: ``(m, k)`` features of real ones.
        seed: of the bootstrap.
        draws: bootstrap replicates; 0 leaves the bootstrap out.
    """
    a, b = rows("x", x, least=2, features=True), rows("y", y, least=2, features=True)
    same_width(x=a, y=b)
    if max(a.most, b.most) > MOST_IN_KERNEL:
        raise ValueError(f"x and y must stay below {MOST_IN_KERNEL:g}: rescale the features")

    def kernel(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        base = u @ v.T / u.shape[1] + 1
        return base * base * base

    def within(w: np.ndarray, z: Rows) -> np.ndarray:
        # A sample drawn twice is no pair of samples.
        return _neighbours.pair_sums(w, z, w, z, kernel) / _ordered_pairs(w)

    def statistic(w: np.ndarray, v: np.ndarray) -> np.ndarray:
        across = _neighbours.pair_sums(w, a, v, b, kernel)
        mixed = across / (np.sum(w, axis=1) * np.sum(v, axis=1))
        return within(w, a) + within(v, b) - 2 * mixed

    return bootstrap(statistic, (len(a), len(b)), seed, draws)


def _ordered_pairs(w: np.ndarray) -> np.ndarray:
    """How many ordered pairs of different samples the counts hold."""
    return np.sum(w, axis=1) ** 2 - np.sum(w**2, axis=1)


def denoising_losses(
    key: Key[Array, ""],
    score: Score,
    x: ArrayLike,
    *,
    times: ArrayLike,
    draws: int = 1,
    process: Process | None = None,
) -> np.ndarray:
    """Section 3.2's loss of any score, for each sample and time, the noise being drawn.

    The same key gives the same noise for every score, so differences between scores are paired.
    A product with weights over time gives the integrated loss.

    Args:
        key: random key.
        score: a score, such as `LinearScore` or `EmpiricalScore`, or a function of ``(x, t)``.
        x: ``(n, ...)`` clean samples.
        times: ``(K,)``.
        draws: noise draws for each sample and time.
        process: forward process; None takes the score's own if it has one, else ``VP()``.

    Returns:
        ``(n, K)`` losses.

    Raises:
        ValueError: bad arguments, another process than the score's, or a score that does not
            return one value for each entry.
    """
    key = _checks.key("key", key)
    traced = as_pytree(score)
    process = process_of(score, process)
    flat = samples_of("x", x)
    draws = _checks.dimension("draws", draws)
    t, _, _ = _checks.times_and_weights(None, times, None, flat.dtype)
    process.admit(times=times)
    return np.asarray(_losses(key, traced, flat, jnp.asarray(t), process, draws=draws))


@partial(jax.jit, static_argnames=("draws",))
def _losses(
    key: Key[Array, ""],
    score: Score,
    x: Float[Array, "n D"],
    times: Float[Array, " K"],
    process: Process,
    *,
    draws: int,
) -> Float[Array, "n K"]:
    def at(item: tuple[Array, Array]) -> Array:
        number, t = item
        noise = jax.random.normal(jax.random.fold_in(key, number), x.shape, x.dtype)
        return drawn_losses(score, x, noise, t, process)

    numbers = jnp.arange(draws * times.shape[0])
    losses = jax.lax.map(at, (numbers, jnp.tile(times, draws)))
    return jnp.mean(losses.reshape(draws, times.shape[0], -1), axis=0).T
