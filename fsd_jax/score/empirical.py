"""Scores that are not linear: of a sample's own law, and of a latent law seen through a decoder."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from fsd_jax import _checks, _linalg
from fsd_jax.process import VP


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True, repr=False)
class EmpiricalScore:
    """The exact score of n samples diffused: what training everything on them tends to.

    The law of the samples is a mixture of deltas, at time t one of Gaussians ``N(m x_i, s2 I)``,
    and the best denoiser is their weighted mean:

        s(x, t) = (m sum_i w_i x_i - x)/s2,   w = softmax_i( -|x - m x_i|^2/(2 s2) ).

    No network has a lower denoising loss on these samples, and its reverse process ends on them.

    Build one with `from_samples`. Points are kept centred: the products in the weights then lose
    the fewest digits, and float32 serves as ``t -> 0``.

    Implements: the minimiser of Section 3.2's loss over all functions, for the empirical law.

    Attributes:
        points: ``(n, D)`` samples minus their mean.
        mean: ``(D,)``.
        process: forward process.
        chunk: rows of ``x`` worked on at once; bounds memory at ``chunk n`` numbers.
    """

    points: Float[Array, "n D"]
    mean: Float[Array, " D"]
    process: VP
    chunk: int = field(default=1024, metadata={"static": True})

    def __repr__(self) -> str:
        n, ambient = self.points.shape
        return f"EmpiricalScore(n={n}, D={ambient}, {self.points.dtype})"

    @classmethod
    def from_samples(
        cls, x: ArrayLike, *, process: VP = VP(), chunk: int = 1024
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
        _checks.dimension("chunk", chunk)
        mean = jnp.mean(array, axis=0)
        return cls(points=array - mean, mean=mean, process=process, chunk=chunk)

    def __call__(self, x: Float[Array, "*batch D"], t: ArrayLike) -> Float[Array, "*batch D"]:
        """The score at `x` for one time ``t > 0``, or for times of the batch's shape."""
        t = jnp.asarray(t, self.points.dtype)
        times = jnp.broadcast_to(t, x.shape[:-1]).reshape(-1, 1)
        y = x.reshape(-1, x.shape[-1]) - self.process.signal(times) * self.mean
        if y.shape[0] <= self.chunk:
            return self._rows(y, times).reshape(x.shape)
        each = lambda row: self._rows(row[0][None], row[1][None])[0]
        return jax.lax.map(each, (y, times), batch_size=self.chunk).reshape(x.shape)

    def denoise(self, x: Float[Array, "*batch D"], t: ArrayLike) -> Float[Array, "*batch D"]:
        """Tweedie's estimate of the clean sample: the weighted mean of the points."""
        return _tweedie(self, x, t)

    def _rows(self, y: Float[Array, "b D"], t: Float[Array, "b 1"]) -> Float[Array, "b D"]:
        signal, noise = self.process.signal(t), self.process.noise_variance(t)
        # The term |y|^2 is common to all points and is left out.
        overlap = _linalg.matmul(y, self.points.T)
        size = jnp.sum(self.points**2, axis=1)
        weights = jax.nn.softmax((signal * overlap - 0.5 * signal**2 * size) / noise, axis=-1)
        return (signal * _linalg.matmul(weights, self.points) - y) / noise


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
    latent: Callable[[Array, Array], Array] | Any
    residual_variance: Float[Array, ""]
    mean: Float[Array, " D"]
    process: VP

    def __repr__(self) -> str:
        ambient, d = self.decoder.shape
        return f"DecodedScore(D={ambient}, d={d}, {self.latent!r})"

    def __call__(self, x: Float[Array, "*batch D"], t: ArrayLike) -> Float[Array, "*batch D"]:
        """The score at `x` for one time ``t > 0``, or for times of the batch's shape."""
        t = jnp.asarray(t, self.decoder.dtype)
        times = jnp.broadcast_to(t, x.shape[:-1])[..., None]
        y = x - self.process.signal(times) * self.mean
        z = _linalg.matmul(y, self.decoder)
        left = self.process.signal_variance(times) * self.residual_variance
        q = -1 / (left + self.process.noise_variance(times))
        inside = self.latent(z, t) - q * z
        return _linalg.matmul(inside, self.decoder.T) + q * y

    def denoise(self, x: Float[Array, "*batch D"], t: ArrayLike) -> Float[Array, "*batch D"]:
        """Tweedie's estimate of the clean sample."""
        return _tweedie(self, x, t)


def _tweedie(
    score: EmpiricalScore | DecodedScore, x: Float[Array, "*batch D"], t: ArrayLike
) -> Float[Array, "*batch D"]:
    t = jnp.asarray(t, x.dtype)
    t = t[..., None] if t.ndim else t
    flat = t[..., 0] if t.ndim else t
    return (x + score.process.noise_variance(t) * score(x, flat)) / score.process.signal(t)
