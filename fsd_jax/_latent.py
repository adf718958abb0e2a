"""Laws of the latent ``Z`` in ``R^d``: sampling, second moment, exact diffused score."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from fsd_jax import _checks, _linalg, _normal, _points, _process
from fsd_jax._process import VP, Process


@runtime_checkable
class Latent(Protocol):
    """What a law of the latent has to offer."""

    @property
    def latent_dim(self) -> int:
        """``d``."""

    def sample(self, key: Key[Array, ""], n: int) -> Float[Array, "n d"]:
        """``n`` independent draws of ``Z``."""

    def second_moment(self) -> Float[Array, "d d"]:
        """``E[Z Z']``."""

    def score_at(
        self, z: Float[Array, "*batch d"], signal: ArrayLike, variance: ArrayLike
    ) -> Float[Array, "*batch d"]:
        """Exact score of ``signal Z + N(0, variance I)``, levels being of the batch's shape."""

    def score(
        self, z: Float[Array, "*batch d"], t: ArrayLike, process: Process = VP()
    ) -> Float[Array, "*batch d"]:
        """Exact score of ``m_t Z + sigma_t N(0, I)``."""


class _Law:
    """What all laws do alike."""

    def score(
        self: Latent, z: Float[Array, "*batch d"], t: ArrayLike, process: Process = VP()
    ) -> Float[Array, "*batch d"]:
        """Exact score of ``m_t Z + sigma_t N(0, I)``, ``grad log q_t^LD`` in the paper.

        Args:
            z: points.
            t: one time, or times of the batch's shape.
            process: forward process.

        Returns:
            The scores.

        Raises:
            ValueError: points of another size, times that do not fit or are not positive (NaN for
                traced ones); ``t = 0`` is allowed for laws with a smooth density.
        """
        _process.check(process)
        dtype = jax.tree.leaves(self)[0].dtype
        # A density that is smooth itself has a score without noise.
        zero = not isinstance(self, UniformLatent)
        z, t = _points.at_points("z", z, t, dim=self.latent_dim, dtype=dtype, zero=zero)
        return self.score_at(z, process.signal(t), process.noise_variance(t))


def _variances(variance: ArrayLike, latent_dim: int) -> Float[Array, " d"]:
    dtype = _points.default_dtype()
    values, bad = _checks.variances("latent_variance", variance, latent_dim, dtype)
    return jnp.asarray(values) + _points.nan_if(bad, dtype)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class GaussianLatent(_Law):
    """``Z ~ N(0, diag(variance))``: isotropic in Section 5, diagonal in Appendix C.

    Implements: "Model and process".

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
        values = _variances(variance, latent_dim)
        return cls(variance=values)

    @property
    def latent_dim(self) -> int:
        """``d``."""
        return self.variance.shape[-1]

    def sample(self, key: Key[Array, ""], n: int) -> Float[Array, "n d"]:
        """``n`` independent draws of ``Z``."""
        key, n = _points.draw(key, n)
        noise = jax.random.normal(key, (n, self.latent_dim), self.variance.dtype)
        return noise * jnp.sqrt(self.variance)

    def second_moment(self) -> Float[Array, "d d"]:
        """``E[Z Z']``."""
        return jnp.diag(self.variance)

    def score_at(
        self, z: Float[Array, "*batch d"], signal: ArrayLike, variance: ArrayLike
    ) -> Float[Array, "*batch d"]:
        """``-z/(signal^2 lambda^2 + variance)``."""
        dtype = self.variance.dtype
        z, m, v = _points.levels_at(self.latent_dim, z, signal, variance, dtype, zero=True)
        return -z / (m[..., None] ** 2 * self.variance + v[..., None])


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True, repr=False)
class GaussianMixture(_Law):
    """``Z ~ sum_k w_k N(mu_k, Sigma_k)``: positive, smooth, sub-Gaussian, as Assumption 4.1 asks.

    Attributes:
        weights: ``(K,)``, summing to one.
        means: ``(K, d)``.
        bases: ``(K, d, d)`` eigenvectors of the components' covariances, in columns.
        variances: ``(K, d)`` eigenvalues, positive.
    """

    weights: Float[Array, " K"]
    means: Float[Array, "K d"]
    bases: Float[Array, "K d d"]
    variances: Float[Array, "K d"]

    def __repr__(self) -> str:
        components, d = self.means.shape
        return f"GaussianMixture(K={components}, d={d}, {self.means.dtype})"

    @classmethod
    def create(
        cls, weights: ArrayLike, means: ArrayLike, covariances: ArrayLike
    ) -> "GaussianMixture":
        """A mixture from its moments.

        Args:
            weights: ``(K,)`` positive numbers; they are normalised to sum to one.
            means: ``(K, d)``.
            covariances: ``(K, d, d)`` symmetric positive definite, or ``(K,)`` variances of
                isotropic components.

        Raises:
            ValueError: shapes that do not match, weights or covariances that are not positive.

        Example:
            >>> import fsd_jax as fsd
            >>> fsd.GaussianMixture.create([0.5, 0.5], [[-2.0], [2.0]], [0.1, 0.2])
            GaussianMixture(K=2, d=1, float32)
        """
        dtype = _points.default_dtype()
        w, _ = _checks.positive("weights", weights, dtype, ndim=(1,))
        mu = np.asarray(_checks.array("means", means), np.float64)
        if mu.ndim != 2 or mu.shape[0] != w.shape[0] or not np.all(np.isfinite(mu)):
            raise ValueError(
                f"means must be finite and of shape ({w.shape[0]}, d), one row for each weight, "
                f"got shape {mu.shape}"
            )
        d = mu.shape[1]
        cov = np.asarray(_checks.array("covariances", covariances), np.float64)
        if cov.shape == w.shape:
            cov = cov[:, None, None] * np.eye(d)
        if cov.shape != (w.shape[0], d, d) or not _symmetric(cov):
            raise ValueError(
                f"covariances must be {w.shape[0]} symmetric matrices {d} x {d}, or as many "
                f"variances, got shape {cov.shape}"
            )
        spectrum, bases = _linalg.host_eigh(cov)
        # In the dtype that is used, which may round to zero what is positive in double precision.
        if not np.all(spectrum > _checks.smallest(dtype)):
            raise ValueError(
                f"covariances must be positive definite in {dtype}, got smallest eigenvalue "
                f"{spectrum.min():.3g}; the score is not Lipschitz otherwise"
            )
        parts = {"weights": w / w.sum(), "means": mu, "bases": bases, "variances": spectrum}
        return cls(**{name: jnp.asarray(value, dtype) for name, value in parts.items()})

    @property
    def latent_dim(self) -> int:
        """``d``."""
        return self.means.shape[-1]

    def sample(self, key: Key[Array, ""], n: int) -> Float[Array, "n d"]:
        """``n`` independent draws of ``Z``."""
        key, n = _points.draw(key, n)
        pick, noise = jax.random.split(key)
        component = jax.random.categorical(pick, jnp.log(self.weights), shape=(n,))
        xi = jax.random.normal(noise, (n, self.latent_dim), self.means.dtype)
        scaled = xi * jnp.sqrt(self.variances)[component]
        return self.means[component] + _linalg.einsum("nj,nij->ni", scaled, self.bases[component])

    def second_moment(self) -> Float[Array, "d d"]:
        """``E[Z Z'] = sum_k w_k (Sigma_k + mu_k mu_k')``."""
        weighted = self.bases * (self.weights[:, None] * self.variances)[:, None, :]
        within = _linalg.einsum("kij,klj->il", weighted, self.bases)
        return within + _linalg.matmul(self.means.T * self.weights, self.means)

    def score_at(
        self, z: Float[Array, "*batch d"], signal: ArrayLike, variance: ArrayLike
    ) -> Float[Array, "*batch d"]:
        """Posterior mean of the components' scores ``-(m^2 Sigma_k + v)^-1 (z - m mu_k)``."""
        dtype = self.means.dtype
        z, m, v = _points.levels_at(self.latent_dim, z, signal, variance, dtype, zero=True)
        m, v = m[..., None, None], v[..., None, None]
        off = _linalg.einsum("...ki,kij->...kj", z[..., None, :] - m * self.means, self.bases)
        spread = m**2 * self.variances + v
        logits = jnp.log(self.weights) - 0.5 * jnp.sum(off**2 / spread + jnp.log(spread), axis=-1)
        pull = jax.nn.softmax(logits, axis=-1)[..., None] * off / spread
        return -_linalg.einsum("...kj,kij->...i", pull, self.bases)


def _symmetric(a: np.ndarray) -> bool:
    gap = np.abs(a - np.swapaxes(a, -1, -2))
    return bool(np.all(gap <= 1e-6 * np.max(np.abs(a), axis=(-1, -2), keepdims=True)))


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class UniformLatent(_Law):
    """Independent coordinates, uniform on ``[-half_width, half_width]``.

    Sub-Gaussian, but neither positive everywhere nor smooth: it breaks Assumption 4.1, and the
    Lipschitz constant of Assumption 4.2 grows like ``1/t``. A law to see what the assumptions buy.

    Attributes:
        half_width: ``(d,)``.
    """

    half_width: Float[Array, " d"]

    @classmethod
    def create(cls, latent_dim: int, variance: ArrayLike) -> "UniformLatent":
        """A uniform law with a scalar or ``(d,)`` variance, ``half_width^2/3``.

        Raises:
            ValueError: for a variance that is not positive or has the wrong shape.
        """
        latent_dim = _checks.dimension("latent_dim", latent_dim)
        values = _variances(variance, latent_dim)
        return cls(half_width=jnp.sqrt(3 * values))

    @property
    def latent_dim(self) -> int:
        """``d``."""
        return self.half_width.shape[-1]

    def sample(self, key: Key[Array, ""], n: int) -> Float[Array, "n d"]:
        """``n`` independent draws of ``Z``."""
        key, n = _points.draw(key, n)
        shape, dtype = (n, self.latent_dim), self.half_width.dtype
        return self.half_width * jax.random.uniform(key, shape, dtype, -1, 1)

    def second_moment(self) -> Float[Array, "d d"]:
        """``E[Z Z']``."""
        return jnp.diag(self.half_width**2 / 3)

    def score_at(
        self, z: Float[Array, "*batch d"], signal: ArrayLike, variance: ArrayLike
    ) -> Float[Array, "*batch d"]:
        """``(phi(u) - phi(l))/(sigma (Phi(u) - Phi(l)))``, ``u, l = (z +- m half_width)/sigma``.

        The fraction is the mean of a standard normal between l and u; see `_normal.truncated_mean`.
        """
        z, m, v = _points.levels_at(self.latent_dim, z, signal, variance, self.half_width.dtype)
        sigma, m = jnp.sqrt(v)[..., None], m[..., None]
        # The law is even; `jnp.abs` would have no slope at zero.
        sign = jnp.where(z < 0, -1, 1).astype(z.dtype)
        return -sign * _normal.truncated_mean(sign * z / sigma, m * self.half_width / sigma) / sigma


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class LatentConstants:
    """What Assumptions 4.1 and 4.2 ask of a latent, as numbers.

    Attributes:
        c_0: least eigenvalue of ``E[Z Z']``; has to be positive.
        C_Z: ``E |Z|^2``.
        lipschitz: ``(K,)`` largest slope of the diffused score met at each time; ``beta`` is at
            least their maximum.
    """

    c_0: Float[Array, ""]
    C_Z: Float[Array, ""]
    lipschitz: Float[Array, " K"]


def latent_constants(
    key: Key[Array, ""], latent: Latent, *, times: ArrayLike, n: int = 1000, process: Process = VP()
) -> LatentConstants:
    """The constants of Assumptions 4.1 and 4.2; ``beta`` from below, at sampled points.

    The slope is the spectral norm of the score's Jacobian, by differentiation, at `n` draws of the
    diffused law. A constant that grows as ``t -> 0`` means that no ``beta`` exists.

    Implements: Assumptions 4.1 and 4.2.

    Args:
        key: random key.
        latent: law of ``Z``.
        times: ``(K,)`` values of the SDE's ``t``.
        n: points at each time.
        process: forward process.

    Returns:
        The constants.

    Raises:
        ValueError: no key, law or process, times that are not positive, or no points.

    Example:
        >>> import jax, fsd_jax as fsd
        >>> latent = fsd.GaussianLatent.create(2, [4.0, 0.25])
        >>> found = fsd.latent_constants(jax.random.key(0), latent, times=[1e-3, 10.0])
        >>> f"{found.c_0:.2f} {found.C_Z:.2f} {found.lipschitz[0]:.2f}"  # 1/0.25 at most
        '0.25 4.25 3.99'
    """
    key, n = _points.draw(key, n)
    _checks.instance("latent", latent, Latent, "GaussianLatent.create(...) is one")
    _process.check(process, times=times)
    moment = latent.second_moment()
    given, bad = _checks.positive("times", times, moment.dtype, ndim=(1,))
    t = jnp.asarray(given) + _points.nan_if(bad, moment.dtype)
    inner, outer = jax.random.split(key)
    z, xi = latent.sample(inner, n), jax.random.normal(outer, (n, latent.latent_dim), moment.dtype)

    def steepest(time: Array) -> Array:
        points = process.signal(time) * z + jnp.sqrt(process.noise_variance(time)) * xi
        slopes = jax.vmap(jax.jacfwd(lambda y: latent.score(y, time, process)))(points)
        return jnp.max(jnp.abs(_linalg.eigenvalues(slopes)))

    return LatentConstants(
        c_0=jnp.min(_linalg.eigenvalues(moment)),
        C_Z=jnp.trace(moment),
        lipschitz=jax.lax.map(steepest, t),
    )
