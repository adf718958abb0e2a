"""The world of Assumption 3.1: ``X = mean + A Z + tau xi``, the law of ``Z`` being shared."""

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from fsd_jax import _checks, _linalg, _points, _process
from fsd_jax._latent import GaussianLatent, Latent
from fsd_jax._process import VP, Process


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True, repr=False)
class ThinGaussian:
    """``N(mean, B diag(variance) B' + residual_variance (I - BB'))`` without a ``D x D`` array.

    Attributes:
        mean: ``(D,)``.
        basis: ``(D, k)``, orthonormal columns ``B`` (zero columns are allowed and mean nothing).
        variance: ``(k,)``, total variance along each column.
        residual_variance: variance along every other direction.
    """

    mean: Float[Array, " D"]
    basis: Float[Array, "D k"]
    variance: Float[Array, " k"]
    residual_variance: Float[Array, ""]

    def __repr__(self) -> str:
        ambient, k = self.basis.shape
        return f"ThinGaussian(D={ambient}, k={k}, {self.basis.dtype})"

    @property
    def trace(self) -> Float[Array, ""]:
        """Trace of the covariance."""
        alive = jnp.sum(self.basis**2, axis=0) > 0.5
        inside = jnp.sum(jnp.where(alive, self.variance, 0))
        return (
            inside
            + (self.basis.shape[0] - jnp.sum(alive, dtype=inside.dtype)) * self.residual_variance
        )

    def diffuse(self, t: ArrayLike, process: Process = VP()) -> "ThinGaussian":
        """The law of ``m_t X + sigma_t N(0, I)``.

        Args:
            t: one time, not negative.
            process: forward process.

        Raises:
            ValueError: a time out of range (NaN for a traced one), or no process.
        """
        _process.check(process)
        t = jnp.asarray(_checks.time("t", t, self.mean.dtype, zero=True))
        if t.ndim:
            raise ValueError(f"t must be one time, got shape {t.shape}; use jax.vmap for several")
        signal = process.signal_variance(t)
        noise = process.noise_variance(t)
        return ThinGaussian(
            mean=process.signal(t) * self.mean,
            basis=self.basis,
            variance=signal * self.variance + noise,
            residual_variance=signal * self.residual_variance + noise,
        )

    def score(self, x: Float[Array, "*batch D"]) -> Float[Array, "*batch D"]:
        """``grad log`` density: minus the inverse covariance times ``x - mean``.

        Raises:
            ValueError: points of another size.
        """
        x = _points.vectors("x", x, dim=self.mean.shape[-1], dtype=self.mean.dtype)
        y = x - self.mean
        inside = -1 / self.variance + 1 / self.residual_variance
        projected = _linalg.matmul(y, self.basis) * inside
        return _linalg.matmul(projected, self.basis.T) - y / self.residual_variance

    def sample(self, key: Key[Array, ""], n: int) -> Float[Array, "n D"]:
        """``n`` independent draws.

        Raises:
            ValueError: no key, or no positive number of draws.
        """
        key, n = _points.draw(key, n)
        inner, outer = jax.random.split(key)
        ambient, k = self.basis.shape
        z = jax.random.normal(inner, (n, k), self.basis.dtype) * jnp.sqrt(self.variance)
        xi = jax.random.normal(outer, (n, ambient), self.basis.dtype)
        xi = xi * jnp.sqrt(self.residual_variance)
        xi = xi - _linalg.matmul(_linalg.matmul(xi, self.basis), self.basis.T)
        return self.mean + _linalg.matmul(z, self.basis.T) + xi


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True, repr=False)
class LinearProblem:
    """A source and a target that share the law of the latent.

    ``X_s = mean_s + A_s Z + tau xi`` and ``X_ta = mean_ta + A_ta Z + tau xi``, with ``xi``
    full-dimensional and standard normal.

    Implements: Assumption 3.1; with ``residual_variance = tau^2 > 0``, R12's extension; "Model and
    process".

    Attributes:
        A_s: ``(D, d)``, orthonormal columns.
        A_ta: ``(D, d)``, orthonormal columns.
        latent: law of ``Z``.
        residual_variance: ``tau^2``.
        mean_s: ``(D,)`` source mean.
        mean_ta: ``(D,)`` target mean.
    """

    A_s: Float[Array, "D d"]
    A_ta: Float[Array, "D d"]
    latent: Latent
    residual_variance: Float[Array, ""]
    mean_s: Float[Array, " D"]
    mean_ta: Float[Array, " D"]

    def __repr__(self) -> str:
        ambient, d = self.A_ta.shape
        return f"LinearProblem(D={ambient}, d={d}, {self.A_ta.dtype})"

    @classmethod
    def random(
        cls,
        key: Key[Array, ""],
        *,
        ambient_dim: int,
        latent_dim: int,
        latent_variance: ArrayLike,
        residual_variance: ArrayLike = 0.0,
        mean_scale: float = 0.0,
    ) -> "LinearProblem":
        """Independent uniformly random subspaces for source and target.

        Args:
            key: random key.
            ambient_dim: ``D``.
            latent_dim: ``d``, at most ``D``.
            latent_variance: ``lambda^2``, a scalar or ``(d,)``.
            residual_variance: ``tau^2``.
            mean_scale: standard deviation of each entry of the two means.

        Raises:
            ValueError: dimensions or variances out of range.

        Example:
            >>> import jax, fsd_jax as fsd
            >>> problem = fsd.LinearProblem.random(
            ...     jax.random.key(0), ambient_dim=40, latent_dim=8, latent_variance=1.0
            ... )
            >>> problem.sample_target(jax.random.key(1), 10).shape
            (10, 40)
        """
        ambient_dim = _checks.dimension("ambient_dim", ambient_dim)
        _checks.dimension("latent_dim", latent_dim, high=ambient_dim, top=" = ambient_dim")
        return cls.with_latent(
            key,
            GaussianLatent.create(latent_dim, latent_variance),
            ambient_dim=ambient_dim,
            residual_variance=residual_variance,
            mean_scale=mean_scale,
        )

    @classmethod
    def with_latent(
        cls,
        key: Key[Array, ""],
        latent: Latent,
        *,
        ambient_dim: int,
        residual_variance: ArrayLike = 0.0,
        mean_scale: float = 0.0,
    ) -> "LinearProblem":
        """Independent uniformly random subspaces around a latent of any law.

        Args:
            key: random key.
            latent: law of ``Z``, for example a `GaussianMixture`.
            ambient_dim: ``D``, at least the latent's dimension.
            residual_variance: ``tau^2``.
            mean_scale: standard deviation of each entry of the two means.

        Raises:
            ValueError: dimensions or variances out of range.

        Example:
            >>> import jax, fsd_jax as fsd
            >>> latent = fsd.UniformLatent.create(3, 1.0)
            >>> fsd.LinearProblem.with_latent(jax.random.key(0), latent, ambient_dim=20)
            LinearProblem(D=20, d=3, float32)
        """
        key = _checks.key("key", key)
        _checks.instance("latent", latent, Latent, "GaussianLatent.create(...) is one")
        ambient_dim = _checks.dimension("ambient_dim", ambient_dim, low=latent.latent_dim)
        dtype = latent.second_moment().dtype
        residual, bad = _checks.positive(
            "residual_variance", residual_variance, dtype, ndim=(0,), zero=True
        )
        scale, worse = _checks.positive("mean_scale", mean_scale, dtype, ndim=(0,), zero=True)
        residual = residual + _points.nan_if(bad | worse, dtype)
        keys = jax.random.split(key, 4)
        shape = (ambient_dim, latent.latent_dim)
        # Together, because decompositions side by side under `vmap` may hang, see `_linalg.after`.
        free = jnp.stack([jax.random.normal(k, shape, dtype) for k in keys[:2]])
        A_s, A_ta = _linalg.orthonormal_columns(free)
        mean_s, mean_ta = (
            jnp.asarray(scale) * jax.random.normal(k, (ambient_dim,), dtype) for k in keys[2:]
        )
        return cls(
            A_s=A_s,
            A_ta=A_ta,
            latent=latent,
            residual_variance=jnp.asarray(residual),
            mean_s=mean_s,
            mean_ta=mean_ta,
        )

    @property
    def source_law(self) -> ThinGaussian:
        """Exact law of the source, for a Gaussian latent."""
        return self._law(self.A_s, self.mean_s)

    @property
    def target_law(self) -> ThinGaussian:
        """Exact law of the target: covariance ``A diag(lambda^2 + tau^2) A' + tau^2 (I - AA')``."""
        return self._law(self.A_ta, self.mean_ta)

    def sample_source(self, key: Key[Array, ""], n: int) -> Float[Array, "n D"]:
        """``n`` source samples."""
        return self._sample(key, n, self.A_s, self.mean_s)

    def sample_target(self, key: Key[Array, ""], n: int) -> Float[Array, "n D"]:
        """``n`` target samples."""
        return self._sample(key, n, self.A_ta, self.mean_ta)

    def target_score(
        self, x: Float[Array, "*batch D"], t: ArrayLike, process: Process = VP()
    ) -> Float[Array, "*batch D"]:
        """Exact ``grad log q_t`` of the diffused target at `x`, for one time ``t > 0``.

        ``A grad log q_t^LD(A'y) - (I - AA')y/v``, ``y = x - m_t mean``, with the variance
        ``v = m_t^2 tau^2 + sigma_t^2`` of what is not latent.

        Implements: Section 3.1's decomposition of the score, with R12's residual; "Model and
        process".

        Raises:
            ValueError: points of another size, a time that is not positive, or no process.
        """
        _process.check(process)
        dim, dtype = self.A_ta.shape[0], self.A_ta.dtype
        x, t = _points.at_points("x", x, t, dim=dim, dtype=dtype)
        if t.ndim:
            raise ValueError(f"t must be one time, got shape {t.shape}; use jax.vmap for several")
        signal, noise = process.signal(t), process.noise_variance(t)
        v = signal**2 * self.residual_variance + noise
        y = x - signal * self.mean_ta
        inside = _linalg.matmul(y, self.A_ta)
        pull = self.latent.score_at(inside, signal, v) + inside / v
        return _linalg.matmul(pull, self.A_ta.T) - y / v

    def _sample(
        self, key: Key[Array, ""], n: int, basis: Float[Array, "D d"], mean: Float[Array, " D"]
    ) -> Float[Array, "n D"]:
        key, n = _points.draw(key, n)
        inner, outer = jax.random.split(key)
        xi = jax.random.normal(outer, (n, basis.shape[0]), basis.dtype)
        z = self.latent.sample(inner, n)
        return mean + _linalg.matmul(z, basis.T) + jnp.sqrt(self.residual_variance) * xi

    def _law(self, basis: Float[Array, "D d"], mean: Float[Array, " D"]) -> ThinGaussian:
        if not isinstance(self.latent, GaussianLatent):
            raise ValueError(
                f"the exact law needs a Gaussian latent, got {type(self.latent).__name__}; "
                "use samples and target_score, which serve any latent"
            )
        return ThinGaussian(
            mean=mean,
            basis=basis,
            variance=self.latent.variance + self.residual_variance,
            residual_variance=self.residual_variance,
        )


def law_pair(**laws: ThinGaussian) -> tuple[ThinGaussian, ...]:
    """Laws on the same space in the widest of their dtypes; traced ones that are none become NaN.

    Raises:
        ValueError: what is no `ThinGaussian`, or fields that do not fit, of concrete laws also
            variances that are negative, entries that are not finite, bases not orthonormal.
    """
    checked = {name: checked_law(name, law) for name, law in laws.items()}
    sizes = {name: law.mean.shape[0] for name, law in checked.items()}
    if len(set(sizes.values())) > 1:
        words = ", ".join(f"{name} has D = {size}" for name, size in sizes.items())
        raise ValueError(f"the laws must live in the same space, got {words}")
    dtype = max((law.mean.dtype for law in checked.values()), key=lambda kind: kind.itemsize)
    return tuple(jax.tree.map(lambda a: a.astype(dtype), law) for law in checked.values())


def checked_law(name: str, law: ThinGaussian) -> ThinGaussian:
    """A law whose fields fit together and are what they should be; see `law_pair`."""
    _checks.instance(name, law, ThinGaussian, "problem.target_law and model.law are some")
    fields = {
        field: _checks.floating(f"{name}.{field}", getattr(law, field), ndim=(axes,))[0]
        for field, axes in (("mean", 1), ("basis", 2), ("variance", 1), ("residual_variance", 0))
    }
    ambient, k = fields["basis"].shape
    if fields["mean"].shape != (ambient,) or fields["variance"].shape != (k,):
        raise ValueError(
            f"{name} must have a mean (D,), a basis (D, k) and variances (k,), got shapes "
            + ", ".join(f"{field} {tuple(value.shape)}" for field, value in fields.items())
        )
    dtype = max((value.dtype for value in fields.values()), key=lambda kind: kind.itemsize)
    law = ThinGaussian(**{field: value.astype(dtype) for field, value in fields.items()})
    status = _checks.orthonormal(f"{name}.basis", law.basis) | _law_status(law)
    _checks.settle(status, name=name, throw=True)
    if not _checks.is_traced(status):
        return law
    poison = jnp.where(status == 0, 0, jnp.nan).astype(dtype)
    return dataclasses.replace(law, mean=law.mean + poison)


@jax.jit
def _law_status(law: ThinGaussian) -> Array:
    variances = jnp.append(law.variance, law.residual_variance)
    finite = jnp.all(jnp.isfinite(variances)) & jnp.all(jnp.isfinite(law.mean))
    bad = _checks.flag(jnp.any(variances < 0), _checks.Status.BAD_VALUE)
    return _checks.flag(~finite, _checks.Status.NON_FINITE) | bad
