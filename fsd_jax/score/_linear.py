"""Linear scores ``s(x, t) = (W_t y - y)/sigma_t^2``, ``y = x - m_t mean``, with a thin ``W_t``."""

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from fsd_jax import _checks, _linalg, _points, _process
from fsd_jax._process import VP, Process
from fsd_jax._scores import tweedie
from fsd_jax.minimizer._closed_form import Minimizer


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True, repr=False)
class LinearScore:
    """``W_t = U R diag(g(t)) R' U' + g_perp(t) (I - UU')``, the decoder being ``V = U R``.

    ``g_k = m^2 l_k/(m^2 l_k + s2)`` with ``l_k`` the variance the frozen ``f`` uses; the residual
    gain is ``g_perp = m^2 tau2/(m^2 tau2 + s2)`` (zero in the paper's class).

    Implements: Section 5's score class; R12 for the residual gain; "Model and process".

    Attributes:
        basis: ``(D, k)`` orthonormal (or zero) columns ``U``.
        mixing: ``(k, d)`` matrix ``R``; diagonal for a closed-form minimiser.
        latent_variance: ``(d,)``.
        residual_variance: ``tau2``, a scalar.
        mean: ``(D,)`` mean of the clean law.
        process: forward process.
    """

    basis: Float[Array, "D k"]
    mixing: Float[Array, "k d"]
    latent_variance: Float[Array, " d"]
    residual_variance: Float[Array, ""]
    mean: Float[Array, " D"]
    process: Process

    def __repr__(self) -> str:
        ambient, k = self.basis.shape[-2:]
        return f"LinearScore(D={ambient}, d={k}, {self.basis.dtype})"

    @classmethod
    def from_minimizer(
        cls,
        minimizer: Minimizer,
        *,
        latent_variance: ArrayLike,
        residual_variance: ArrayLike = 0.0,
        mean: ArrayLike | None = None,
        process: Process = VP(),
    ) -> "LinearScore":
        """The score of a closed-form decoder.

        Args:
            minimizer: basis and gains.
            latent_variance: variance the frozen ``f`` uses (R12: ``c_k``), scalar or ``(d,)``.
            residual_variance: ``tau2`` of the residual gain; 0 is the paper's class.
            mean: ``(D,)`` mean of the clean law; None is zero.
            process: forward process.

        Raises:
            ValueError: values out of range, what is no `Minimizer` or no process.
        """
        _checks.instance("minimizer", minimizer, Minimizer, "rank_minimizer(...) returns one")
        return cls._build(
            minimizer.basis,
            jnp.diag(jnp.sqrt(minimizer.gains)),
            latent_variance,
            residual_variance,
            mean,
            process,
        )

    @classmethod
    def from_decoder(
        cls,
        decoder: ArrayLike,
        *,
        latent_variance: ArrayLike,
        residual_variance: ArrayLike = 0.0,
        mean: ArrayLike | None = None,
        process: Process = VP(),
    ) -> "LinearScore":
        """The score of any ``(D, d)`` decoder, for example a trained one.

        Args:
            decoder: ``(D, d)``, at most as many columns as rows.
            latent_variance: as in `from_minimizer`.
            residual_variance: as in `from_minimizer`.
            mean: as in `from_minimizer`.
            process: as in `from_minimizer`.

        Raises:
            ValueError: values out of range, or a decoder that is none.
        """
        V, _ = _checks.floating("decoder", decoder, ndim=(2,))
        if not 0 < V.shape[1] <= V.shape[0]:
            raise ValueError(
                f"decoder must have shape (D, d) with 0 < d <= D, got {tuple(V.shape)}"
            )
        _points.finite("decoder", V)
        basis, mixing = _linalg.qr(V)
        # Columns that are orthonormal to rounding stay as they are: what they lack, over s2, would
        # pass for an error of the score.
        eye = jnp.eye(V.shape[1], dtype=V.dtype)
        defect = jnp.max(jnp.abs(_linalg.matmul(V.T, V) - eye))
        exact = defect <= 8 * _linalg.eps_of(V.dtype)
        basis, mixing = jnp.where(exact, V, basis), jnp.where(exact, eye, mixing)
        return cls._build(basis, mixing, latent_variance, residual_variance, mean, process)

    @classmethod
    def _build(
        cls,
        basis: Float[Array, "D k"],
        mixing: Float[Array, "k d"],
        latent_variance: ArrayLike,
        residual_variance: ArrayLike,
        mean: ArrayLike | None,
        process: Process,
    ) -> "LinearScore":
        _process.check(process)
        dtype = basis.dtype
        lam2, bad = _checks.variances("latent_variance", latent_variance, mixing.shape[1], dtype)
        tau2, worse = _checks.positive(
            "residual_variance", residual_variance, dtype, ndim=(0,), zero=True
        )
        dim = basis.shape[0]
        given = np.zeros(dim, dtype) if mean is None else mean
        return cls(
            basis=basis,
            mixing=mixing,
            latent_variance=jnp.asarray(lam2 + _points.nan_if(bad, dtype)),
            residual_variance=jnp.asarray(tau2 + _points.nan_if(worse, dtype)),
            mean=_points.vector("mean", given, dim=dim, dtype=dtype),
            process=process,
        )

    @property
    def decoder(self) -> Float[Array, "D d"]:
        """``V = U R``."""
        return _linalg.matmul(self.basis, self.mixing)

    @property
    def latent(self) -> "LinearScore":
        """The same score in coordinates of the basis ``U``: `latent` at ``z`` is ``U's(Uz, t)``."""
        return LinearScore(
            basis=jnp.eye(self.basis.shape[1], dtype=self.basis.dtype),
            mixing=self.mixing,
            latent_variance=self.latent_variance,
            residual_variance=self.residual_variance,
            mean=_linalg.matmul(self.basis.T, self.mean),
            process=self.process,
        )

    def gains(self, t: ArrayLike) -> Float[Array, "*times d"]:
        """``g_k(t)`` of the frozen ``f``."""
        signal, noise = self._levels(t)
        scaled = signal[..., None] * self.latent_variance
        return scaled / (scaled + noise[..., None])

    def residual_gain(self, t: ArrayLike) -> Float[Array, "*times"]:
        """``g_perp(t)``."""
        signal, noise = self._levels(t)
        return signal * self.residual_variance / (signal * self.residual_variance + noise)

    def precision(self, t: ArrayLike) -> tuple[Float[Array, "k k"], Float[Array, ""]]:
        """``(P, p)`` with ``s(x, t) = -U P U'y - p (y - UU'y)``, for one time.

        For a Gaussian's score these are inverse variances. Accurate as ``t -> 0``, where
        ``(1 - g)/s2 = 1/(m^2 l + s2)`` stays finite.
        """
        signal, noise = self._levels(t)
        inside = _linalg.matmul(
            self.mixing / (signal * self.latent_variance + noise), self.mixing.T
        )
        eye = jnp.eye(self.mixing.shape[0], dtype=self.basis.dtype)
        defect = eye - _linalg.matmul(self.mixing, self.mixing.T)
        return inside + defect / noise, 1 / (signal * self.residual_variance + noise)

    def core(self, t: ArrayLike) -> tuple[Float[Array, "k k"], Float[Array, ""]]:
        """``(K, q)`` with ``s(x, t) = U K U' y + q y``: the score's matrix at one time."""
        inner, outer = self.precision(t)
        return outer * jnp.eye(inner.shape[0], dtype=inner.dtype) - inner, -outer

    def __call__(self, x: Float[Array, "*batch D"], t: ArrayLike) -> Float[Array, "*batch D"]:
        """The score at `x` for one time ``t > 0``, or for times of the batch's shape.

        Raises:
            ValueError: points of another size, times that do not fit or are not positive (NaN for
                traced ones).
        """
        dim, dtype = self.basis.shape[0], self.basis.dtype
        x, t = _points.at_points("x", x, t, dim=dim, dtype=dtype)
        return self._value(x, t)

    def _value(self, x: Float[Array, "*batch D"], t: Float[Array, "*times"]) -> Array:
        if t.ndim:
            flat = x.reshape(-1, x.shape[-1])
            times = jnp.broadcast_to(t, x.shape[:-1]).reshape(-1)
            return jax.vmap(self._at)(flat, times).reshape(x.shape)
        return self._at(x, t)

    def _at(self, x: Float[Array, "*batch D"], t: Float[Array, ""]) -> Float[Array, "*batch D"]:
        core, q = self.core(t)
        y = x - self.process.signal(t) * self.mean
        inside = _linalg.matmul(_linalg.matmul(y, self.basis), core)
        return _linalg.matmul(inside, self.basis.T) + q * y

    def denoise(self, x: Float[Array, "*batch D"], t: ArrayLike) -> Float[Array, "*batch D"]:
        """Tweedie's estimate of the clean sample: ``(x + sigma_t^2 s(x, t))/m_t``."""
        x, t = _points.at_points("x", x, t, dim=self.basis.shape[0], dtype=self.basis.dtype)
        return tweedie(self.process, self._value(x, t), x, t)

    def losses(
        self,
        x: Float[Array, "n D"],
        times: Float[Array, " K"],
        weights: Float[Array, " K"],
    ) -> Float[Array, " n"]:
        """Section 3.2's loss of each clean sample, the noise integrated out exactly.

        ``m^2 |(I - W)(x - mean)|^2/s2^2 + |W|_F^2/s2`` at each time, summed with `weights`.

        Implements: "The loss, noise integrated out".
        """
        ambient, dtype = self.basis.shape[0], self.basis.dtype
        x = _points.vectors("x", x, dim=ambient, dtype=dtype)
        t, w, bad = _checks.times_and_weights(None, times, weights, dtype)
        self.process.admit(times=times)
        y = x - self.mean
        inside = _linalg.matmul(y, self.basis)
        outside = jnp.sum((y - _linalg.matmul(inside, self.basis.T)) ** 2, axis=1)
        # A zero column of the basis is no direction: its share belongs to the complement.
        alive = jnp.sum(self.basis**2, axis=0) > 0.5
        rest = ambient - jnp.sum(alive, dtype=dtype)

        def at(t: Array, w: Array) -> Array:
            signal, noise = self._levels(t)
            inner, outer = self.precision(t)
            # (I - W)/s2 is `inner` in the span and `outer` beside it.
            inner = jnp.where(alive[:, None] & alive, inner, 0)
            bias = jnp.sum(_linalg.matmul(inside, inner) ** 2, axis=1) + outer**2 * outside
            within = jnp.diag(alive.astype(inner.dtype)) - noise * inner
            left = signal * self.residual_variance * outer
            spread = jnp.sum(within**2) + rest * left**2
            return w * (signal * bias + spread / noise)

        total = jnp.sum(jax.vmap(at)(jnp.asarray(t), jnp.asarray(w)), axis=0)
        return total + _points.nan_if(bad, dtype)

    def _levels(self, t: ArrayLike) -> tuple[Array, Array]:
        t = jnp.asarray(_checks.time("t", t, self.basis.dtype))
        return self.process.signal_variance(t), self.process.noise_variance(t)


def checked_score(name: str, score: LinearScore) -> LinearScore:
    """A linear score whose fields fit together; the formulas that need it may rely on its basis.

    Raises:
        ValueError: what is no `LinearScore`, fields that do not fit, of concrete scores also a
            basis that is not orthonormal or numbers that are not finite. Traced ones become NaN.
    """
    _checks.instance(
        name, score, LinearScore,
        "pass model.linear, or LinearScore.from_decoder(...) for a trained decoder",
    )  # fmt: skip
    if np.ndim(score.basis) != 2:
        raise ValueError(
            f"{name} must be one score, got a basis of shape {np.shape(score.basis)}; "
            "use jax.vmap for a batch of scores"
        )
    (dim, k), d = score.basis.shape, np.shape(score.latent_variance)
    fits = {"mixing": (k, *d), "mean": (dim,), "residual_variance": ()}
    for field, shape in fits.items():
        if np.shape(getattr(score, field)) != shape:
            raise ValueError(
                f"{name}.{field} must have shape {shape}, got {np.shape(getattr(score, field))}"
            )
    status = _checks.orthonormal(f"{name}.basis", score.basis)
    _points.finite(name, score.mean, score.mixing, score.latent_variance, score.residual_variance)
    if not _checks.is_traced(status):
        return score
    return dataclasses.replace(score, mean=score.mean + _points.nan_if(status, score.mean.dtype))
