"""Deterministic equivalents: the plug-in denoiser on average, for a covariance of any spectrum."""

from dataclasses import dataclass

import numpy as np
from jax.typing import ArrayLike

from fsd_jax import _checks, _process
from fsd_jax._process import VP, Process
from fsd_jax.theory._wishart import MOST_SAMPLES, log_tail

STEPS = 200
"""Newton's iteration is monotone and needs about ten; this is only a fence."""


@dataclass(frozen=True, kw_only=True)
class DeterministicEquivalent:
    """What training from scratch does on average, direction by direction.

    Attributes:
        noise: ``kappa``, the noise variance that the estimate behaves as if it had seen, at least
            ``sigma_t^2``.
        gains: ``(k,)`` mean gains ``m^2 c/(m^2 c + kappa)``; the exact ones have ``sigma_t^2``.
        degrees_of_freedom: sum of the gains with their multiplicities.
        score_error: mean of ``|| s - grad log q_t ||^2`` of the plug-in score.
    """

    noise: float
    gains: np.ndarray
    degrees_of_freedom: float
    score_error: float


def deterministic_equivalent(
    *,
    spectrum: ArrayLike,
    n_ta: int,
    time: float,
    counts: ArrayLike | None = None,
    process: Process = VP(),
) -> DeterministicEquivalent:
    """Mean gains and score error of the plug-in denoiser of `n_ta` samples, for large dimensions.

    With ``S = m^2 Cov X`` and ``Chat`` the samples' second moment,

        E m^2 Chat (m^2 Chat + s2)^-1 ~ S (S + kappa)^-1,
        kappa = s2 + (kappa/n) tr S (S + kappa)^-1:

    too few samples act like more noise. The plug-in score's mean error is

        (kappa^2/s2^2 - 1) tr S(S+kappa)^-2/(1 - gam) - (kappa/s2) tr (S+kappa)^-1 + tr (S+s2)^-1,
        gam = tr S^2 (S+kappa)^-2/n,

    from the resolvent's derivative and its companion with ``S`` between two resolvents. It leaves
    out what real data add at the next order, a share of about one over the degrees of freedom:
    ``d^2/n`` stands where ``d(d+1)/n`` is exact. `expected_score_error` with ``spectrum=`` has it.

    Implements: the deterministic equivalent of sample covariances, see docs/equations;
    "Deterministic equivalents (any spectrum)".

    Args:
        spectrum: ``(k,)`` eigenvalues of the clean covariance, not negative.
        n_ta: number of target samples.
        time: ``t``.
        counts: ``(k,)`` multiplicities, one each by default; ``tau^2`` has ``D - d``.
        process: forward process.

    Returns:
        The equivalent noise, gains and error.

    Raises:
        ValueError: values out of range, or counts that do not match.

    Example:
        >>> from fsd_jax import theory
        >>> few = theory.deterministic_equivalent(
        ...     spectrum=[1.04, 0.04], counts=[8, 12280], n_ta=100, time=0.5
        ... )
        >>> few.noise > 5 * 0.39  # s2 = .39: a hundred samples in 12288 dimensions are very noisy
        True
    """
    c, _ = _checks.positive("spectrum", spectrum, np.float64, ndim=(1,), zero=True)
    n = _checks.dimension("n_ta", n_ta, high=MOST_SAMPLES)
    t = _checks.positive("time", time, np.float64, ndim=(0,))[0]
    _process.check(process)
    many = np.ones(c.shape)
    if counts is not None:
        many = np.asarray(_checks.positive("counts", counts, np.float64, ndim=(1,), zero=True)[0])
    if many.shape != c.shape:
        raise ValueError(
            f"counts must be {c.shape[0]} numbers, one multiplicity for each eigenvalue, "
            f"got {many.shape[0]}"
        )
    signal, noise = process.host_variances(np.asarray(t))
    S, s2 = signal * np.asarray(c), float(noise)
    extra = _extra_noise(S, many, n, s2)
    kappa = s2 + extra
    gam = np.sum(many * (S / (S + kappa)) ** 2) / n
    # kappa^2/s2^2 - 1 and (kappa/s2)/(S + kappa) - 1/(S + s2), multiplied out: nothing cancels for
    # many samples.
    more = extra / s2 * (2 + extra / s2)
    excess = more * np.sum(many * S / (S + kappa) ** 2) / (1 - gam)
    bias = np.sum(many * S / (S + kappa) * extra / (s2 * (S + s2)))
    gains = S / (S + kappa)
    return DeterministicEquivalent(
        noise=kappa,
        gains=gains,
        degrees_of_freedom=float(np.sum(many * gains)),
        score_error=float(excess - bias),
    )


def _extra_noise(S: np.ndarray, counts: np.ndarray, n: int, s2: float) -> float:
    """``kappa - s2``, the root of a convex function, by Newton's method from above."""
    extra = np.sum(counts * S) / n
    for _ in range(STEPS):
        kappa = s2 + extra
        gain = S / (S + kappa)
        value = extra - kappa * np.sum(counts * gain) / n
        step = value / (1 - np.sum(counts * gain**2) / n)
        if step <= 4 * np.finfo(float).eps * extra:
            break
        extra -= step
    return float(extra)


def plug_in_score_error(spectrum: np.ndarray, n: int, t: float, process: Process) -> float:
    """`deterministic_equivalent`'s error and what real data add to it."""
    first = deterministic_equivalent(spectrum=spectrum, n_ta=n, time=t, process=process)
    return first.score_error + _real_part(spectrum, n, t, process)[1]


def plug_in_divergence(spectrum: np.ndarray, n: int, t: float, process: Process) -> float:
    """Mean divergence of the plug-in law from the truth, with what real data add to it.

    With ``theta = s2/kappa = 1 - eta`` and ``y = eta S/(S + s2)`` the first part is

        (1/2) sum [y^2/(1 - y) + (log(1 - y) + y)] - (n/2) (log(1 - eta) + eta),

    in which only terms of the second order are left.
    """
    S, s2, extra = _noised(spectrum, n, t, process)
    eta = np.asarray(extra / (s2 + extra))
    y = eta * S / (S + s2)
    whole = s2 / (s2 + extra) * (s2 + extra + S) / (S + s2)
    first = np.sum(y**2 / whole + log_tail(-y, 1, whole))
    first -= n * log_tail(-eta, 1, np.asarray(s2 / (s2 + extra)))
    return float(first) / 2 + _real_part(spectrum, n, t, process)[0]


def _noised(
    spectrum: np.ndarray, n: int, t: float, process: Process
) -> tuple[np.ndarray, float, float]:
    """``S = m^2 Cov X``, ``s2`` and ``kappa - s2``."""
    signal, noise = process.host_variances(np.asarray(t))
    S, s2 = signal * np.asarray(spectrum), float(noise)
    return S, s2, _extra_noise(S, np.ones(S.shape), n, s2)


def _real_part(spectrum: np.ndarray, n: int, t: float, process: Process) -> tuple[float, float]:
    """What real data add to the divergence, and to the score error.

    To ``E log det`` it is ``c = log(1 - gam)/2``; to the divergence ``M/2`` with
    ``M = c_eps + s2 c_s + c``, and to the score error ``-dM/ds2``. Everything is written in
    ``U_ab = (1/n) sum S^a/(S + kappa)^b``, whose derivative by ``kappa`` is ``-b U_{a,b+1}``, and
    ``dkappa/ds2 = 1/(1 - gam)``.
    """
    S, s2, extra = _noised(spectrum, n, t, process)
    kappa = s2 + extra
    theta = s2 / kappa

    def U(a: int, b: int) -> float:
        return float(np.sum((S / (S + kappa)) ** a * (S + kappa) ** (a - b))) / n

    gam, u12, slope = U(2, 2), U(1, 2), -2 * U(2, 3)
    # 1 - gam, which cancels for few samples and little noise.
    rest = theta + kappa * u12
    top = gam / theta + kappa * u12
    phi = top / rest
    top_slope = slope / theta - gam * u12 / theta**2 + u12 - 2 * kappa * U(1, 3)
    phi_slope = (top_slope + phi * slope) / rest
    # The change of gam along (s2, eps) = (s2, 1), and its derivative by kappa.
    inner = kappa * U(2, 3) + U(3, 3) * (1 / theta + phi)
    change = 2 * (phi * gam - inner)
    inner_slope = U(2, 3) - 3 * kappa * U(2, 4) - 3 * U(3, 4) * (1 / theta + phi)
    inner_slope += U(3, 3) * (phi_slope - u12 / theta**2)
    change_slope = 2 * (phi_slope * gam + phi * slope - inner_slope)
    M = (np.log1p(-gam) if gam < 0.5 else np.log(rest)) / 2 - change / rest / 2
    M_slope = -(change_slope + change * slope / rest + slope) / rest / 2
    return float(M) / 2, float(-M_slope / rest)
