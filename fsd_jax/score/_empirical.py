"""Scores that are not linear: of a sample's own law, and of a latent law seen through a decoder."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from fsd_jax import _checks, _linalg, _points, _process
from fsd_jax._process import VP, Process
from fsd_jax._scores import Score, tweedie

TRUSTED = 0.01
"""Rounding of a logit by products that is let pass."""

NO_WEIGHT = 30.0
"""A logit this far below the largest has a weight of 1e-13."""

NEAREST = 16
"""Points that distances are taken to one by one where no more can matter."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True, repr=False)
class EmpiricalScore:
    """The exact score of n samples diffused: what training everything on them tends to.

    The law of the samples is a mixture of deltas, at time t one of Gaussians ``N(m x_i, s2 I)``,
    and the best denoiser is their weighted mean:

        s(x, t) = (m sum_i w_i x_i - x)/s2,   w = softmax_i( -|x - m x_i|^2/(2 s2) ).

    No network has a lower denoising loss on these samples, and its reverse process ends on them.

    Build one with `from_samples`. Points are kept centred: the products in the weights then lose
    the fewest digits. As ``t -> 0`` they lose too many to tell near duplicates apart; where that
    could move a weight by a hundredth, the distances are taken from the differences themselves: to
    the nearest points if these decide, else to all, one at a time.

    Implements: the minimiser of Section 3.2's loss over all functions, for the empirical law; R18.

    Attributes:
        points: ``(n, D)`` samples minus their mean.
        mean: ``(D,)``.
        process: forward process.
        chunk: rows of ``x`` worked on at once; bounds memory at ``chunk n`` numbers.
    """

    points: Float[Array, "n D"]
    mean: Float[Array, " D"]
    process: Process
    chunk: int = field(default=1024, metadata={"static": True})

    def __repr__(self) -> str:
        n, ambient = self.points.shape
        return f"EmpiricalScore(n={n}, D={ambient}, {self.points.dtype})"

    @classmethod
    def from_samples(
        cls, x: ArrayLike, *, process: Process = VP(), chunk: int = 1024
    ) -> "EmpiricalScore":
        """The score of these samples.

        Args:
            x: ``(n, ...)`` samples; trailing axes are flattened.
            process: forward process.
            chunk: rows worked on at once.

        Raises:
            ValueError: bad samples.

        Example:
            >>> import jax.numpy as jnp, fsd_jax as fsd
            >>> score = fsd.EmpiricalScore.from_samples(jnp.array([[-1.0], [1.0]]))
            >>> score(jnp.array([[0.0]]), 0.5).item()
            0.0
        """
        array, _ = _checks.samples("x", x, images=True)
        _points.finite("x", array)
        _process.check(process)
        chunk = _checks.dimension("chunk", chunk)
        mean = jnp.mean(array, axis=0)
        return cls(points=array - mean, mean=mean, process=process, chunk=chunk)

    def __call__(self, x: Float[Array, "*batch D"], t: ArrayLike) -> Float[Array, "*batch D"]:
        """The score at `x` for one time ``t > 0``, or for times of the batch's shape.

        Raises:
            ValueError: points of another size, times that do not fit or are not positive (NaN for
                traced ones).
        """
        dim, dtype = self.points.shape[1], self.points.dtype
        x, t = _points.at_points("x", x, t, dim=dim, dtype=dtype)
        times = jnp.broadcast_to(t, x.shape[:-1]).reshape(-1, 1)
        y = x.reshape(-1, dim) - self.process.signal(times) * self.mean
        rows = y.shape[0]
        if rows <= self.chunk:
            return self._rows(y, times).reshape(x.shape)
        # Whole chunks, the last one filled up: under `vmap` each row would take every branch below.
        parts = -(-rows // self.chunk)
        pad = ((0, parts * self.chunk - rows), (0, 0))
        y = jnp.pad(y, pad, mode="edge").reshape(parts, self.chunk, dim)
        times = jnp.pad(times, pad, mode="edge").reshape(parts, self.chunk, 1)
        found = jax.lax.map(lambda part: self._rows(*part), (y, times))
        return found.reshape(-1, dim)[:rows].reshape(x.shape)

    def denoise(self, x: Float[Array, "*batch D"], t: ArrayLike) -> Float[Array, "*batch D"]:
        """Tweedie's estimate of the clean sample: the weighted mean of the points."""
        return _tweedie(self, x, t)

    def _rows(self, y: Float[Array, "b D"], t: Float[Array, "b 1"]) -> Float[Array, "b D"]:
        signal, noise = self.process.signal(t), self.process.noise_variance(t)
        weights = jax.nn.softmax(self._logits(y, signal, noise), axis=-1)
        return (signal * _linalg.matmul(weights, self.points) - y) / noise

    def _logits(
        self, y: Float[Array, "b D"], signal: Float[Array, "b 1"], noise: Float[Array, "b 1"]
    ) -> Float[Array, "b n"]:
        """``-|y - m x_i|^2/(2 s2)``, up to what is common to all points."""
        overlap = _linalg.matmul(y, self.points.T)
        size = jnp.sum(self.points**2, axis=1)
        logits = (signal * overlap - 0.5 * signal**2 * size) / noise
        # How far rounding in these products may move a logit.
        largest = signal * jnp.sqrt(jnp.max(size))
        reach = jnp.sqrt(jnp.sum(y**2, axis=1, keepdims=True)) + largest
        error = 4 * _linalg.eps_of(y.dtype) * reach * largest / noise
        best = jnp.max(logits, axis=1, keepdims=True)
        # What lies further below than this has no weight, whatever the rounding.
        rivals = jnp.sum(logits >= best - 2 * error - NO_WEIGHT, axis=1)
        few = min(NEAREST, logits.shape[1])

        def exact(index: Int[Array, " b"]) -> Float[Array, " b"]:
            return -jnp.sum((y - signal * self.points[index]) ** 2, axis=1) / (2 * noise[:, 0])

        def nearest(_: None) -> Array:
            index = jax.lax.top_k(logits, few)[1]
            found = jax.lax.map(exact, index.T).T
            rows = jnp.arange(logits.shape[0])[:, None]
            return jnp.full_like(logits, -jnp.inf).at[rows, index].set(found)

        def everyone(_: None) -> Array:
            each = jnp.arange(logits.shape[1])
            return jax.lax.map(lambda i: exact(jnp.full(logits.shape[0], i)), each).T

        doubtful = jnp.any(error > TRUSTED)
        way = jnp.where(doubtful, jnp.where(jnp.max(rivals) <= few, 1, 2), 0)
        return jax.lax.switch(way, [lambda _: logits, nearest, everyone], None)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True, repr=False)
class DecodedScore:
    """A latent score seen through an orthonormal decoder: encoder and decoder tuned, ``f`` frozen.

        s(x, t) = V s_latent(V'y, t) - (y - VV'y)/(m^2 tau2 + s2),   y = x - m mean.

    With the score of a Gaussian latent this is `LinearScore`; with an `EmpiricalScore` of the
    source's latents it is what a network that fits the source perfectly would do.

    Implements: Section 3.1's decomposition for any latent law; R12 for the residual.

    Attributes:
        decoder: ``(D, d)`` orthonormal columns.
        latent: callable ``(z, t)``, the score of the latent law.
        residual_variance: ``tau2``.
        mean: ``(D,)`` mean of the clean law.
        process: forward process.
    """

    decoder: Float[Array, "D d"]
    latent: Score | Any
    residual_variance: Float[Array, ""]
    mean: Float[Array, " D"]
    process: Process

    def __repr__(self) -> str:
        ambient, d = self.decoder.shape
        return f"DecodedScore(D={ambient}, d={d}, {self.latent!r})"

    def __call__(self, x: Float[Array, "*batch D"], t: ArrayLike) -> Float[Array, "*batch D"]:
        """The score at `x` for one time ``t > 0``, or for times of the batch's shape.

        Raises:
            ValueError: points of another size, times that do not fit or are not positive (NaN for
                traced ones), or a latent that is no function.
        """
        if not callable(self.latent):
            raise ValueError(f"latent must be a function, got {_checks.named(self.latent)}")
        dim, dtype = self.decoder.shape[0], self.decoder.dtype
        x, t = _points.at_points("x", x, t, dim=dim, dtype=dtype)
        times = jnp.broadcast_to(t, x.shape[:-1])[..., None]
        y = x - self.process.signal(times) * self.mean
        z = _linalg.matmul(y, self.decoder)
        left = self.process.signal_variance(times) * self.residual_variance
        q = -1 / (left + self.process.noise_variance(times))
        inner = self.latent(z, t)
        if jnp.shape(inner) != z.shape:
            raise ValueError(
                f"latent must return the shape of z, {z.shape}, got {jnp.shape(inner)}"
            )
        inside = inner.astype(z.dtype) - q * z
        return _linalg.matmul(inside, self.decoder.T) + q * y

    def denoise(self, x: Float[Array, "*batch D"], t: ArrayLike) -> Float[Array, "*batch D"]:
        """Tweedie's estimate of the clean sample."""
        return _tweedie(self, x, t)


def _tweedie(
    score: EmpiricalScore | DecodedScore, x: Float[Array, "*batch D"], t: ArrayLike
) -> Float[Array, "*batch D"]:
    mean = score.mean
    x, t = _points.at_points("x", x, t, dim=mean.shape[0], dtype=mean.dtype)
    return tweedie(score.process, score(x, t), x, t)
