"""Table 1: how many target samples the paper asks for, by its printed row and by its rules."""

import math
from typing import NamedTuple

from fsd_jax import _checks
from fsd_jax.theory._bounds import log_exponent, samples

RULES = ("printed", "four_over_d", "stated")


class Row(NamedTuple):
    """A data set of Table 1."""

    name: str
    n_s: int
    latent_dim: int
    printed: int


TABLE = (
    Row("CIFAR-10", 60_000, 25, 6),
    Row("CIFAR-100", 60_000, 22, 8),
    Row("CelebA", 200_000, 24, 8),
    Row("MS-COCO", 330_000, 37, 5),
    Row("ImageNet", 1_200_000, 43, 5),
)
"""Sample sizes and latent dimensions as the paper gives them."""


def table_one(rule: str = "printed") -> tuple[int | None, ...]:
    """Table 1's row of target samples by one of three rules.

    Args:
        rule: ``"printed"``, the paper's row; ``"four_over_d"`` and ``"stated"``, see
            `samples_by_rule`.

    Returns:
        Five values, in the order CIFAR-10, CIFAR-100, CelebA, MS-COCO, ImageNet; None where a rule
        gives no number.

    Raises:
        ValueError: an unknown rule.

    Implements: Table 1; "Planning".

    Example:
        >>> from fsd_jax import theory
        >>> theory.table_one(), theory.table_one("four_over_d")
        ((6, 8, 8, 5, 5), (6, 8, 8, 4, 4))
        >>> theory.table_one("stated")
        (None, None, None, None, None)
    """
    _checks.choice("rule", rule, RULES)
    if rule == "printed":
        return tuple(row.printed for row in TABLE)
    return tuple(
        samples_by_rule(n_s=row.n_s, latent_dim=row.latent_dim, rule=rule) for row in TABLE
    )


def samples_by_rule(*, n_s: int, latent_dim: int, rule: str = "four_over_d") -> int | None:
    """Target samples that the paper's bound asks for to match its pre-training term.

    ``"four_over_d"`` equates the summary's terms ``n_ta^(-1/2)`` and ``n_s^(-2/d)``:
    ``n_ta = ceil(n_s^(4/d))``. ``"stated"`` is the theorem's own condition,
    ``n_ta^((d+5)/(4(1 - alpha(n_s)))) >= n_s``; it gives nothing where ``alpha >= 1``. Both drop
    all constants, so neither says how large the errors are that it equates.

    Implements: Theorem 4.3's condition and Table 1's rule; "Planning".

    Args:
        n_s: number of source samples, at least 3.
        latent_dim: ``d``.
        rule: ``"four_over_d"`` or ``"stated"``.

    Returns:
        The number, or None.

    Raises:
        ValueError: values out of range or an unknown rule.

    Example:
        >>> from fsd_jax import theory
        >>> theory.samples_by_rule(n_s=60_000, latent_dim=22)
        8
        >>> theory.samples_by_rule(n_s=10**46, latent_dim=22, rule="stated")
        2
    """
    _checks.choice("rule", rule, RULES[1:])
    d = samples("latent_dim", latent_dim)
    log = math.log(_checks.dimension("n_s", n_s, low=3, high=math.inf))
    power = 4 / d
    if rule == "stated":
        alpha = log_exponent(n_s, d)
        if alpha >= 1:
            return None
        power = 4 * (1 - alpha) / (d + 5)
    if power * log > 700:
        raise ValueError(f"n_s = {n_s} at latent_dim = {d} asks for over 1e300 samples")
    # An exact power must not be rounded up to the next integer.
    return math.ceil(math.exp(power * log) * (1 - 1e-12))
