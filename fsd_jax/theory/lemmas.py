"""The paper's bounds on what pre-training leaves, as numbers."""

import math

from fsd_jax import _checks
from fsd_jax.theory.bounds import Estimate, confidence, log_exponent, number


def lemma_b_1(
    *,
    latent_dim: int,
    n_s: int,
    accuracy: float,
    beta: float,
    second_moment: float,
    least_eigenvalue: float,
    delta: float = 1e-3,
    T: float = 10.0,
    failure: float = 0.05,
) -> Estimate:
    """Bound on the target's score error, integrated over ``[delta, T]``, with the right decoder.

        d/delta eps^2 + (T - delta) (d + C_Z) d^2 beta^2/(delta^2 c_0) n_s^(-(2-2 alpha)/(d+5)) log

    with ``alpha = alpha(n_s)`` (`log_exponent`) and ``log = log(1/failure)``: what the frozen
    network costs when ``V = A_ta``. Its condition is ``eps <= n_s^(-(1 - alpha)/(d + 5))``. It
    bounds the integral, where Theorem 4.3 bounds the average.

    Implements: Lemma B.1.

    Args:
        latent_dim: ``d``.
        n_s: number of source samples, at least 3.
        accuracy: ``eps``, the network's accuracy.
        beta: Lipschitz constant of the on-support score (Assumption 4.2).
        second_moment: ``C_Z >= E |Z|^2``.
        least_eigenvalue: ``c_0 <= lambda_min(E ZZ')``.
        delta: early stopping time.
        T: final time.
        failure: the probability ``delta_1`` with which the bound may fail.

    Returns:
        The terms ``network`` and ``source`` and their sum.

    Raises:
        ValueError: values out of range.

    Example:
        >>> from fsd_jax import theory
        >>> bound = theory.lemma_b_1(
        ...     latent_dim=2, n_s=10**6, accuracy=1e-3, beta=1.0, second_moment=2.0,
        ...     least_eigenvalue=1.0,
        ... )
        >>> bound.valid, round(bound.terms["network"], 4)
        (True, 0.002)
    """
    d, alpha = _checks.dimension("latent_dim", latent_dim), log_exponent(n_s, latent_dim)
    eps, rate = number("accuracy", accuracy), number("beta", beta)
    early, energy = number("delta", delta), number("second_moment", second_moment)
    length = number("T - delta", T - delta)
    coefficient = length * (d + energy) * (d * rate / early) ** 2
    coefficient /= number("least_eigenvalue", least_eigenvalue)
    exponent = (1 - alpha) / (d + 5)
    source = coefficient * math.exp(-2 * exponent * math.log(n_s)) * confidence(failure)
    network = d / early * eps**2
    largest = math.exp(-exponent * math.log(n_s))
    words = "holds" if eps <= largest else "fails"
    return Estimate(
        value=network + source,
        terms={"network": network, "source": source},
        valid=eps <= largest,
        reason=f"eps <= n_s^(-(1-alpha)/(d+5)) = {largest:.3g} {words}: eps = {eps:.3g}",
        hidden=("an absolute constant", "logarithms"),
    )


def lemma_d_3(
    *, latent_dim: int, ambient_dim: int, n_s: int, delta: float = 1e-3, failure: float = 0.05
) -> Estimate:
    """Bound on the pre-trained score error for a Gaussian latent, averaged over ``[delta, T]``.

        (1/delta) sqrt((d^2 + D d) log(D d n_s) max(d^2, D) log(1/failure)/n_s)

    The exact error of pre-training's minimiser falls like ``1/n_s``, twice as fast in the exponent
    (R4, `expected_score_error`).

    Implements: Lemma D.3.

    Args:
        latent_dim: ``d``.
        ambient_dim: ``D``.
        n_s: number of source samples.
        delta: early stopping time.
        failure: the probability ``delta_1`` with which the bound may fail.

    Returns:
        The bound, in one term ``source``.

    Raises:
        ValueError: values out of range.

    Example:
        >>> from fsd_jax import theory
        >>> bound = theory.lemma_d_3(latent_dim=4, ambient_dim=40, n_s=10**6)
        >>> f"{bound.value:.0f}"
        '631'
    """
    d = _checks.dimension("latent_dim", latent_dim)
    D = _checks.dimension("ambient_dim", ambient_dim, low=d)
    n = _checks.dimension("n_s", n_s)
    spread = (d**2 + D * d) * math.log(D * d * n) * max(d**2, D) * confidence(failure)
    value = (spread / n) ** 0.5 / number("delta", delta)
    return Estimate(
        value=value,
        terms={"source": value},
        valid=True,
        reason="no condition on the sizes is stated",
        hidden=("an absolute constant",),
    )
