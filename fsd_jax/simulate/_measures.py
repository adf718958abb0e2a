"""Every error of every estimator as a function of the target's spectrum and the source's variance.

Isotropic latent, no residual noise. Everything is written in units of ``lambda^2``: the target's
second moment has eigenvalues ``s_i = 1 + e_i``, the source's estimate is ``l = 1 + eps``, and
``r = sigma_t^2/(m_t^2 lambda^2)``. All errors are sums over ``e_i`` of functions that vanish at a
perfect fit, so they keep their digits however large the samples are; and no small ratio is one
less another, so they keep them however small or large ``r`` is.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from fsd_jax._process import Process
from fsd_jax.simulate._chi_square import ChiSquares, log1p_tail
from fsd_jax.simulate._spectra import WishartSpectra


class Measures:
    """Draws and parameters; a method for each estimator and metric, in the units above.

    In each direction the noised truth has the variance ``level = m^2 lambda^2 + s2``, of which
    ``gain = 1/(1 + r)`` is signal and ``rest = r/(1 + r)`` is noise. Both are kept, because neither
    is one less the other in float32: ``r`` goes from 1e-12 to 1e15 in ordinary use.
    """

    def __init__(
        self,
        spectra: WishartSpectra,
        source: ChiSquares,
        n_ta: Float[Array, ""],
        variance: Float[Array, "K 1"],
        times: Float[Array, "K 1"],
        process: Process,
    ) -> None:
        self.spectra, self.variance, self.process = spectra, variance, process
        self.eps, self.lam2 = source
        signal, noise = process.signal_variance(times), process.noise_variance(times)
        self.level = signal * variance + noise
        self.gain, self.rest = signal * variance / self.level, noise / self.level
        self.signal_share = signal / self.level
        d = spectra.diagonal.shape[0]
        self.found = jnp.minimum(d, n_ta)
        self.lost = d - self.found

    def of(self, method: str, metric: str) -> Float[Array, "K replicates"]:
        """One method by one metric."""
        found = getattr(self, f"_{method}_{metric}")()
        return jnp.broadcast_to(found, (len(self.level), *self.eps.shape))

    def _rank_subspace_error(self) -> Array:
        return self._subspace_error(self.gain, self.rest)

    def _rank_score_error(self) -> Array:
        # V G V' is the plug-in denoiser, whatever the source said.
        a = self.gain / jnp.sqrt(self.level)
        return self.spectra.squares(a, jnp.zeros_like(a), self.gain, self.rest)[0]

    def _rank_loss_gap(self) -> Array:
        # The population's decoder has no score error.
        return self._rank_score_error()

    def _rank_kl(self) -> Array:
        return self.spectra.divergences(self.gain, self.rest) / 2

    def _integrated_subspace_error(self) -> Array:
        return self._subspace_error(*self._integrated()[:2])

    def _integrated_score_error(self) -> Array:
        gain, rest, off = self._integrated()
        scale = self.gain / self.rest / jnp.sqrt(self.level)
        return self.spectra.squares(scale * rest, scale * off, gain, rest)[0]

    def _integrated_loss_gap(self) -> Array:
        gain, rest, off = self._integrated()
        scale = self.gain / self.rest / jnp.sqrt(self.level)
        # The gains are off by ``off + change``, the population's by `off`: the difference of the
        # squares, with what cancels taken out.
        change = scale * rest * (1 + off)
        squares, trace = self.spectra.squares(change, jnp.zeros_like(change), gain, rest)
        return squares + 2 * scale * off * trace

    def _integrated_kl(self) -> Array:
        return jnp.full((), jnp.nan, self.eps.dtype)

    def _orthonormal_subspace_error(self) -> Array:
        return jnp.where(jnp.isnan(self.level), self.level, self.lost)

    def _orthonormal_score_error(self) -> Array:
        off = self.gain * self.eps / (self.rest + self.gain * self.lam2)
        unseen = self.gain / self.rest
        return (self.found * off**2 + self.lost * unseen**2) / self.level

    def _orthonormal_loss_gap(self) -> Array:
        # The population's decoder spans the true subspace and has the same gains. The score errors
        # of a direction that is lost and of one that is not, subtracted on paper.
        model = self.rest + self.gain * self.lam2
        both = self.rest * (1 - self.eps) + self.gain * self.lam2
        share = self.gain / (self.rest * model)
        return self.lost * (share * self.lam2) * (share * both) / self.level

    def _orthonormal_kl(self) -> Array:
        seen = _divergence(self.gain * self.eps, self.rest + self.gain * self.lam2)
        unseen = _divergence(-self.gain, self.rest)
        return (self.found * seen + self.lost * unseen) / 2

    def _subspace_error(self, gain: Array, rest: Array) -> Array:
        """``sum (p_i - 1)^2``, ``p_i - 1 = r (s_i/l - 1)/(s_i + r)``."""
        return self.spectra.squares(rest, -rest * (self.eps / self.lam2), gain, rest)[0]

    def _integrated(self) -> tuple[Array, Array, Array]:
        """R2's minimiser is that of R1 at one ratio ``rho`` in place of ``r``.

        By R2 ``p_i = (b/a) s_i/(s_i + e/a)``, and with ``g_k = l/(l + r_k)`` the sums a, b and e
        give ``b/a = 1 + rho/l`` and ``e/a = rho``, where rho is the mean of ``r_k`` with weights
        ``w_k m_k^2/(s2_k (l + r_k))^2``. So nothing is subtracted.

        Returns:
            ``1/(1 + rho)``, ``rho/(1 + rho)``, and how far the population's gain at ``t`` is from
            the true one, as a share of that: ``eps (rest - gain rho)/((1 + rho)(rest + gain l))``.
        """
        times, weights = self.process.quadrature()
        times = times.astype(self.eps.dtype)[:, None, None]
        excess = jnp.expm1(self.process.integrated_rate(times))
        inverse = jnp.exp(-self.process.log_signal_variance(times))
        # Both in units where lambda^2 is not divided by, and relative to the first node.
        lam2 = self.variance * self.lam2
        weight = (weights.astype(self.eps.dtype)[:, None, None] * inverse / excess**2) * (
            (lam2 + excess[0]) / (lam2 + excess)
        ) ** 2
        mean = jnp.sum(weight * excess, axis=0) / jnp.sum(weight, axis=0)
        gain, rest = self.variance / (self.variance + mean), mean / (self.variance + mean)
        model = self.rest + self.gain * self.lam2
        off = gain * self.eps * (self.rest - self.signal_share * mean) / model
        return gain, rest, off


def _divergence(y: Array, whole: Array) -> Array:
    """``log(1 + y) - y/(1 + y)``, twice a Gaussian KL, with ``whole = 1 + y``."""
    return y**2 / whole + log1p_tail(y, 1, whole)
