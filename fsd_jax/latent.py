"""Laws of the latent ``Z`` in ``R^d``: sampling, second moment, exact diffused score."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from fsd_jax import _checks
from fsd_jax.process import VP


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class GaussianLatent:
    """``Z ~ N(0, diag(variance))``: isotropic in Section 5, diagonal in Appendix C.

    Attributes:
        variance: ``(d,)``, the paper's ``lambda_k^2``.
    """

    variance: Float[Array, " d"]

    @classmethod
    def create(cls, latent_dim: int, variance: ArrayLike) -> "GaussianLatent":
        """A Gaussian latent with a scalar (isotropic) or ``(d,)`` variance.

        Raises:
            ValueError: for a variance that is not positive or has the wrong shape.
        """
        latent_dim = _checks.dimension("latent_dim", latent_dim)
        values, _ = _checks.variances("latent_variance", variance, latent_dim, float)
        return cls(variance=jnp.asarray(values, float))

    @property
    def latent_dim(self) -> int:
        """``d``."""
        return self.variance.shape[-1]

    def sample(self, key: Key[Array, ""], n: int) -> Float[Array, "n d"]:
        """``n`` independent draws of ``Z``."""
        noise = jax.random.normal(key, (n, self.latent_dim), self.variance.dtype)
        return noise * jnp.sqrt(self.variance)

    def second_moment(self) -> Float[Array, "d d"]:
        """``E[Z Z']``."""
        return jnp.diag(self.variance)

    def score(
        self, z: Float[Array, "*batch d"], t: ArrayLike, process: VP = VP()
    ) -> Float[Array, "*batch d"]:
        """Exact score of ``m_t Z + sigma_t N(0, I)``: ``-z/(m_t^2 lambda^2 + sigma_t^2)``."""
        t = jnp.asarray(t, z.dtype)[..., None]
        return -z / (process.signal_variance(t) * self.variance + process.noise_variance(t))
