"""The paper's lemmas on pre-training, coverings and concentration, as numbers."""

import math

from fsd_jax import _checks
from fsd_jax.theory._bounds import (
    FormulaValue,
    confidence,
    interval,
    log_exponent,
    number,
    samples,
)


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
) -> FormulaValue:
    """Bound on the target's score error, integrated over ``[delta, T]``, with the right decoder.

        d/delta eps^2 + (T - delta) (d + C_Z) d^2 beta^2/(delta^2 c_0) n_s^(-(2-2 alpha)/(d+5)) log

    with ``alpha = alpha(n_s)`` (`log_exponent`) and ``log = log(1/failure)``: what the frozen
    network costs when ``V = A_ta``. Its condition is ``eps <= n_s^(-(1 - alpha)/(d + 5))``. It
    bounds the integral, where Theorem 4.3 bounds the average.

    Implements: Lemma B.1; "The paper's bounds as numbers".

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
    d, n_s = samples("latent_dim", latent_dim), _checks.dimension("n_s", n_s, low=3, high=math.inf)
    alpha = log_exponent(n_s, d)
    eps, rate = number("accuracy", accuracy), number("beta", beta)
    energy = number("second_moment", second_moment)
    early, length = interval(delta, T)
    coefficient = length * (d + energy) * (d * rate / early) ** 2
    coefficient /= number("least_eigenvalue", least_eigenvalue)
    exponent = (1 - alpha) / (d + 5)
    source = coefficient * math.exp(-2 * exponent * math.log(n_s)) * confidence(failure)
    network = d / early * eps**2
    largest = math.exp(-exponent * math.log(n_s))
    words = "holds" if eps <= largest else "fails"
    return FormulaValue(
        value=network + source,
        terms={"network": network, "source": source},
        valid=eps <= largest,
        reason=f"eps <= n_s^(-(1-alpha)/(d+5)) = {largest:.3g} {words}: eps = {eps:.3g}",
        hidden=("an absolute constant", "logarithms"),
    )


def lemma_d_3(
    *, latent_dim: int, ambient_dim: int, n_s: int, delta: float = 1e-3, failure: float = 0.05
) -> FormulaValue:
    """Bound on the pre-trained score error for a Gaussian latent, averaged over ``[delta, T]``.

        (1/delta) sqrt((d^2 + D d) log(D d n_s) max(d^2, D) log(1/failure)/n_s)

    The exact error of pre-training's minimiser falls like ``1/n_s``, twice as fast in the exponent
    (R4, `expected_score_error`).

    Implements: Lemma D.3; "The paper's bounds as numbers".

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
    d = samples("latent_dim", latent_dim)
    D = samples("ambient_dim", ambient_dim, low=d)
    n = samples("n_s", n_s)
    spread = (d**2 + D * d) * math.log(D * d * n) * max(d**2, D) * confidence(failure)
    value = (spread / n) ** 0.5 / number("delta", delta)
    return FormulaValue(
        value=value,
        terms={"source": value},
        valid=True,
        reason="no condition on the sizes is stated",
        hidden=("an absolute constant",),
    )


def lemma_b_2(
    *,
    latent_dim: int,
    ambient_dim: int,
    accuracy: float,
    radius: float,
    output_bound: float,
    lipschitz: float,
    delta: float = 1e-3,
) -> FormulaValue:
    """Bound on the logarithm of the covering number of the fine-tuned class, with constant one.

        2 D d log(1 + 6 K gamma sqrt(d) (3R + sqrt(D log D))/(delta iota))

    It counts the ``D d`` entries of a decoder, twice. An isotropic linear ``f`` sees only the
    subspace, a point of a manifold of dimension ``d (D - d)``, and the logarithm grows with
    ``log(1/iota)`` at that rate.

    Implements: Lemma B.2; "The paper's bounds as numbers".

    Args:
        latent_dim: ``d``.
        ambient_dim: ``D``.
        accuracy: ``iota``, the radius of the covering balls.
        radius: ``R``; data are bounded by ``3R + sqrt(D log D)``.
        output_bound: ``K >= |f|``.
        lipschitz: ``gamma``, the Lipschitz constant of ``f`` in its first argument.
        delta: early stopping time.

    Returns:
        The bound, in one term ``entries``.

    Raises:
        ValueError: values out of range.

    Example:
        >>> from fsd_jax import theory
        >>> size = dict(latent_dim=1, ambient_dim=2, radius=1.0, output_bound=1.0, lipschitz=1.0)
        >>> round(theory.lemma_b_2(accuracy=0.1, delta=1.0, **size).value, 1)
        22.1
    """
    d = samples("latent_dim", latent_dim)
    D = samples("ambient_dim", ambient_dim, low=d)
    reach = 3 * number("radius", radius) + (D * math.log(D)) ** 0.5
    scale = 6 * number("output_bound", output_bound) * number("lipschitz", lipschitz)
    resolution = number("delta", delta) * number("accuracy", accuracy)
    value = 2 * D * d * math.log1p(scale * d**0.5 * reach / resolution)
    return FormulaValue(
        value=value,
        terms={"entries": value},
        valid=True,
        reason="no condition on the sizes is stated",
        hidden=("an absolute constant",),
    )


def lemma_d_1(
    *,
    n: int,
    bound: float,
    log_cover: float,
    accuracy: float,
    slack: float,
    side: str = "above",
    failure: float = 0.05,
) -> FormulaValue:
    """How far means and expectations of functions into ``[0, B]`` may differ, uniformly.

    With probability ``1 - failure``, for every function of the class,

        mean - (1 + a) E <= (1 + 3/a) B/(3n) (log N + log(1/failure)) + (2 + a) tau     (above)
        E - (1 + a) mean <= (1 + 6/a) B/(3n) (log N + log(1/failure)) + (2 + a) tau     (below)

    Implements: Lemma D.1; "The paper's bounds as numbers".

    Args:
        n: number of samples.
        bound: ``B``.
        log_cover: ``log N``, of the class's covering number at `accuracy` in the sup norm.
        accuracy: ``tau``; zero for a finite class that covers itself.
        slack: ``a``, in ``(0, 1]``.
        side: ``"above"`` or ``"below"``, see the formulas.
        failure: the probability ``delta_1`` with which the bound may fail.

    Returns:
        The terms ``class`` and ``cover`` and their sum.

    Raises:
        ValueError: values out of range or an unknown side.

    Example:
        >>> from fsd_jax import theory
        >>> deviation = theory.lemma_d_1(n=100, bound=1.0, log_cover=0.0, accuracy=0.0, slack=1.0)
        >>> round(deviation.value, 3)
        0.04
    """
    _checks.choice("side", side, ("above", "below"))
    size = samples("n", n)
    share = number("slack", slack)
    if not share <= 1:
        raise ValueError(f"slack must be in (0, 1], got {slack!r}")
    cover, tau = (
        float(_checks.positive(name, value, float, ndim=(0,), zero=True)[0])
        for name, value in [("log_cover", log_cover), ("accuracy", accuracy)]
    )
    factor = 1 + (3 if side == "above" else 6) / share
    main = factor * number("bound", bound) / (3 * size) * (cover + confidence(failure))
    return FormulaValue(
        value=main + (2 + share) * tau,
        terms={"class": main, "cover": (2 + share) * tau},
        valid=True,
        reason="no condition on the sizes is stated",
    )


def lemma_d_2(
    *, latent_dim: int, n: int, subgaussian: float = 1.0, failure: float = 0.05
) -> FormulaValue:
    """Bound on ``|| (1/n) sum a_i a_i' - I ||`` for whitened vectors: ``2 rho^2 sqrt(x)``.

    Here ``x = (d + log(1/failure))/n``. Stated for every ``n``, but the proof's Bernstein
    inequality has ``min(eps^2, eps)`` in its exponent, and for ``x > 1`` the deviation grows like
    ``x``: at ``n = 1`` it is ``|a|^2 - 1``, for normal vectors about ``d``. The factor 2 is too
    small too: normal vectors deviate by ``2 sqrt(d/n) + d/n`` when ``d`` is large, which is more
    for ``n`` below about ``d^3/log(1/failure)^2``.

    Implements: Lemma D.2 (which needs ``x <= 1`` and a larger constant); "The paper's bounds as
    numbers".

    Args:
        latent_dim: ``d``.
        n: number of vectors.
        subgaussian: ``rho^2``; one for normal vectors.
        failure: the probability ``delta_1`` with which the bound may fail.

    Returns:
        The bound, in one term ``deviation``; not valid for ``x > 1``.

    Raises:
        ValueError: values out of range.

    Example:
        >>> from fsd_jax import theory
        >>> one = theory.lemma_d_2(latent_dim=16, n=1)
        >>> round(one.value, 2), one.valid  # while |a|^2 - 1 is 15 on average
        (8.72, False)
    """
    d, size = samples("latent_dim", latent_dim), samples("n", n)
    x = (d + confidence(failure)) / size
    value = 2 * number("subgaussian", subgaussian) * x**0.5
    return FormulaValue(
        value=value,
        terms={"deviation": value},
        valid=x <= 1,
        reason=f"(d + log(1/failure))/n = {x:.3g}: the square root {'is' if x <= 1 else 'is not'} "
        "the larger of Bernstein's two rates",
        hidden=("an absolute constant",),
    )
