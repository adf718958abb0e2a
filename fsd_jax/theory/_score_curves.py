"""Expected errors of the score and of the law, as functions of the sample sizes."""

from dataclasses import dataclass

import numpy as np
from jax.typing import ArrayLike

from fsd_jax import _checks, _process
from fsd_jax._process import VP, Process
from fsd_jax.theory._bounds import number
from fsd_jax.theory._equivalents import plug_in_divergence, plug_in_score_error
from fsd_jax.theory._expansions import spiked_subspace_error
from fsd_jax.theory._sizes import draws, shares, sizes
from fsd_jax.theory._wishart import MOST_SAMPLES, Centred, centred_mean, log_tail

ESTIMATORS = ("scratch", "orthonormal")


def expected_score_error(
    *,
    n_ta: int,
    latent_dim: int | None = None,
    latent_variance: float | None = None,
    n_s: int | None = None,
    time: ArrayLike | None = None,
    times: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    estimator: str | None = None,
    spectrum: ArrayLike | None = None,
    residual_variance: float = 0.0,
    ambient_dim: int | None = None,
    process: Process = VP(),
) -> float:
    """``E || s - grad log q_t ||^2``: exact for an isotropic latent without residual noise.

    A direction whose variance is taken to be ``c`` instead of ``lambda^2`` contributes

        F(c) = sum_k w_k m^4 (c - lambda^2)^2 / ((m^2 c + s2)^2 (m^2 lambda^2 + s2)).

    Training from scratch takes the eigenvalues of the target's second moment, in whose basis the
    truth is isotropic: ``E sum_i F(lambda^2 s_i)`` over a Wishart mean's eigenvalues. The
    orthonormal few-shot model finds ``min(d, n_ta)`` directions exactly and gives them the source's
    variance, ``lambda^2 chi^2/(d n_s)``; those that the target does not show contribute ``F(0)``.

    With ``spectrum=`` the world is any Gaussian with mean zero and the estimator is training from
    scratch with the uncentred second moment: two terms for large dimensions and samples, within
    two per cent from about ``D = 12``, ``n_ta = 20`` and ``t = .1`` on, and up to a tenth off at
    tiny ``t``. With ``residual_variance=`` training from scratch is the same, and the orthonormal
    model with the true gains costs

        (a/(r (a + r)))^2 (r + a/2) E || UU' - AA' ||^2,   a = m^2 lambda^2, r = m^2 tau^2 + s2,

    from the spiked limit, see `spiked_subspace_error` for its range.

    Implements: R8 (both sides of the few-shot gain), by R19's expectation; R20 (spectrum);
    "Residual noise in the curves".

    Args:
        n_ta: number of target samples.
        latent_dim: ``d``; left out with a spectrum.
        latent_variance: ``lambda^2``; left out with a spectrum.
        n_s: number of source samples; None is a perfect source. Training from scratch ignores it,
            and with residual noise the orthonormal curve knows a perfect one only.
        time: a single ``t``, or
        times: ``(K,)`` times with
        weights: ``(K,)`` weights, ``1/K`` each by default.
        estimator: ``"scratch"``, or ``"orthonormal"`` (without completion; one variance for all
            directions, as `pretrain` fits it with ``isotropic=True``). None is ``"scratch"`` with a
            spectrum and ``"orthonormal"`` without.
        spectrum: ``(D,)`` eigenvalues of Cov X, residual noise included, not negative.
        residual_variance: ``tau^2``, with `ambient_dim`.
        ambient_dim: ``D``; needed with residual noise only.
        process: forward process.

    Returns:
        The expected error.

    Raises:
        ValueError: values out of range, an unknown estimator, or arguments that are missing or do
            not go together.

    Example:
        >>> from fsd_jax import theory
        >>> size = dict(latent_dim=8, n_ta=8, latent_variance=1.0, time=0.5)
        >>> f"{theory.expected_score_error(**size, estimator='scratch'):.2f}"
        '5.58'
        >>> f"{theory.expected_score_error(**size, n_s=10_000):.2e}"
        '7.36e-05'
        >>> spectrum = [2.0] * 9 + [0.1] * 20
        >>> round(theory.expected_score_error(spectrum=spectrum, n_ta=30, time=0.5), 2)
        4.43
    """
    t, w, _ = _checks.times_and_weights(time, times, weights, np.float64)
    _process.check(process)
    world = _world(
        n_ta, latent_dim, latent_variance, n_s, estimator, spectrum, residual_variance, ambient_dim
    )
    if world.spectrum is not None:
        each = [plug_in_score_error(world.spectrum, world.n, float(u), process) for u in t]
        return float(w @ np.array(each))
    gain, rest, level = shares(world.variance, t, process)
    if world.residual > 0:
        a, r = _levels(world, t, process)
        return float(w @ ((a / (r * (a + r))) ** 2 * (r + a / 2))) * world.off()

    def error(s: np.ndarray, deviation: np.ndarray) -> np.ndarray:
        off = gain * deviation[:, None] / (rest + gain * s[:, None])
        return (off**2 / level) @ w

    return _expected(error, world)


def expected_kl(
    *,
    n_ta: int,
    time: float,
    latent_dim: int | None = None,
    latent_variance: float | None = None,
    n_s: int | None = None,
    estimator: str | None = None,
    spectrum: ArrayLike | None = None,
    residual_variance: float = 0.0,
    ambient_dim: int | None = None,
    process: Process = VP(),
) -> float:
    """Mean Kullback-Leibler divergence at ``t`` from the truth to the model, in nats.

    Both are Gaussian. A direction whose variance is taken to be ``c`` contributes

        F(c) = (log(1 + y) - y/(1 + y))/2,   1 + y = (m^2 c + s2)/(m^2 lambda^2 + s2),

    and the estimators find the same variances as in `expected_score_error`, exactly without a
    spectrum and residual noise, where all limits are as there. With residual noise the orthonormal
    model with the true gains costs

        a^2/(4 r (a + r)) E || UU' - AA' ||^2,   a = m^2 lambda^2, r = m^2 tau^2 + s2.

    Implements: R8 and R19, for the divergence; R20 (spectrum); "Residual noise in the curves".

    Args:
        n_ta: number of target samples.
        time: the ``t`` at which the two laws are compared; early stopping is at a small one.
        latent_dim: ``d``; left out with a spectrum.
        latent_variance: ``lambda^2``; left out with a spectrum.
        n_s: number of source samples; None is a perfect source. Training from scratch ignores it,
            and with residual noise the orthonormal curve knows a perfect one only.
        estimator: as in `expected_score_error`.
        spectrum: ``(D,)`` eigenvalues of Cov X, residual noise included, not negative.
        residual_variance: ``tau^2``, with `ambient_dim`.
        ambient_dim: ``D``; needed with residual noise only.
        process: forward process.

    Returns:
        The expected divergence.

    Raises:
        ValueError: values out of range, an unknown estimator, or arguments that are missing or do
            not go together.

    Example:
        >>> from fsd_jax import theory
        >>> size = dict(latent_dim=8, n_ta=8, latent_variance=1.0, time=0.5)
        >>> f"{theory.expected_kl(**size, estimator='scratch'):.3f}"
        '0.904'
        >>> f"{theory.expected_kl(**size, n_s=10_000):.1e}"  # m^4/(2 n_s)
        '1.8e-05'
    """
    t = _checks.positive("time", time, np.float64, ndim=(0,))[0]
    _process.check(process)
    world = _world(
        n_ta, latent_dim, latent_variance, n_s, estimator, spectrum, residual_variance, ambient_dim
    )
    if world.spectrum is not None:
        return plug_in_divergence(world.spectrum, world.n, float(t), process)
    gain, rest, _ = shares(world.variance, t, process)
    if world.residual > 0:
        a, r = _levels(world, t, process)
        return float(a**2 / (4 * r * (a + r))) * world.off()

    def divergence(s: np.ndarray, deviation: np.ndarray) -> np.ndarray:
        y, whole = gain * deviation, rest + gain * s
        return (y**2 / whole + log_tail(y, 1, whole)) / 2

    return _expected(divergence, world)


@dataclass(frozen=True, kw_only=True)
class _World:
    """Checked arguments of a curve: a spectrum, or an isotropic latent."""

    n: int
    estimator: str
    spectrum: np.ndarray | None = None
    d: int = 0
    n_s: int | None = None
    variance: float = 1.0
    residual: float = 0.0
    ambient: int = 0

    def off(self) -> float:
        """The expected subspace error under noise."""
        return spiked_subspace_error(
            latent_dim=self.d,
            n_ta=self.n,
            ambient_dim=self.ambient,
            latent_variance=self.variance,
            residual_variance=self.residual,
        )


def _world(
    n_ta: int,
    latent_dim: int | None,
    latent_variance: float | None,
    n_s: int | None,
    estimator: str | None,
    spectrum: ArrayLike | None,
    residual_variance: float,
    ambient_dim: int | None,
) -> _World:
    """What the curves are asked for, or what is wrong with it."""
    tau2 = float(
        _checks.positive("residual_variance", residual_variance, np.float64, ndim=(0,), zero=True)[
            0
        ]
    )
    _checks.choice("estimator", estimator, (None, *ESTIMATORS))
    if spectrum is not None:
        latent = (latent_dim, latent_variance, ambient_dim)
        if any(given is not None for given in latent) or tau2 > 0:
            raise ValueError(
                "spectrum holds all variances of the world: leave out latent_dim, latent_variance, "
                "residual_variance and ambient_dim"
            )
        if estimator == "orthonormal":
            raise ValueError(
                "estimator must be 'scratch' with spectrum=, got 'orthonormal'; "
                "for that give latent_dim=, latent_variance= and residual_variance="
            )
        c = np.asarray(_checks.positive("spectrum", spectrum, np.float64, ndim=(1,), zero=True)[0])
        n = _checks.dimension("n_ta", n_ta, high=MOST_SAMPLES)
        return _World(n=n, estimator="scratch", spectrum=c)
    if latent_dim is None or latent_variance is None:
        raise ValueError("the curve needs latent_dim= and latent_variance=, or spectrum=")
    estimator = estimator or "orthonormal"
    d, n = sizes(latent_dim, n_ta, exact=estimator == "scratch" and tau2 == 0)
    variance = number("latent_variance", latent_variance)
    if n_s is not None:
        draws(d, n_s)
    if tau2 == 0:
        return _World(n=n, estimator=estimator, d=d, n_s=n_s, variance=variance)
    if ambient_dim is None:
        raise ValueError("residual_variance= needs ambient_dim=; give the dimension of the data")
    D = _checks.dimension("ambient_dim", ambient_dim, low=d)
    if estimator == "scratch":
        both = np.concatenate([np.full(d, variance + tau2), np.full(D - d, tau2)])
        return _World(n=n, estimator=estimator, spectrum=both)
    if n_s is not None:
        raise ValueError(
            "n_s must be None with residual_variance=: the orthonormal curve under noise takes "
            "the true gains; leave it out"
        )
    return _World(n=n, estimator=estimator, d=d, variance=variance, residual=tau2, ambient=D)


def _levels(world: _World, t: ArrayLike, process: Process) -> tuple[np.ndarray, np.ndarray]:
    """``m^2 lambda^2`` and ``m^2 tau^2 + s2``."""
    signal, noise = process.host_variances(np.asarray(t))
    return signal * world.variance, signal * world.residual + noise


def _expected(error: Centred, world: _World) -> float:
    """Expected sum over directions of an `error` that depends on ``s = c/lambda^2`` alone."""
    d, n = world.d, world.n
    if world.estimator == "scratch":
        return float(centred_mean(error, dim=d, n=n))
    found = min(d, n)
    each = np.zeros(())
    if world.n_s is not None:
        # One dimension: the mean of squares, that is chi-square over its degrees of freedom.
        each = centred_mean(error, dim=1, n=draws(d, world.n_s))
    return float(found * each + (d - found) * error(np.zeros(1), -np.ones(1))[0])
