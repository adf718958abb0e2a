"""Did a model copy? Distances to the training images, judged by those of real held-out ones.

A generated image that lies near a training image proves nothing: real images of the same kind lie
near each other, too. So the yardstick is the distance of *real held-out* images to the training
images. If the model draws new images of the same law, the two sets of distances are exchangeable,
whatever the law and whatever the features, and the p-value is exact.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array

from fsd_jax import _checks, _neighbours
from fsd_jax._rows import Rows, rows, same_width

LEAST_HELDOUT = 20
"""Fewer have no 5% quantile: the first of them would already lie above it."""
QUANTILE = 0.05
"""Real images nearer than this quantile of the held-out distances count as near."""
DRAWS = 9999
"""Permutations; the smallest p-value is one in ten thousand."""
NUMBERS_AT_ONCE = 2**20
SIGNIFICANT = 0.05


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Audit:
    """Whether generated images lie nearer to the training images than real ones do.

    Attributes:
        share: excess share of near images, ``max(0, (F - .05)/.95)`` with ``F`` the share of
            generated images nearer than the held-out 5% quantile; None if it cannot be judged.
        low: lower end of its 95% interval, in which both sets are random.
        high: upper end.
        p_value: of "generated images are no nearer than real ones", one-sided; None likewise.
        verdict: the answer in a sentence.
        distances: ``(generated,)`` distance of each generated image to its nearest training image.
        nearest: ``(generated,)`` row of that training image.
        heldout_distances: ``(held-out that count,)``, sorted.
        repeated: held-out rows that do not count: they are training images, or repeat another.
    """

    share: float | None
    low: float | None
    high: float | None
    p_value: float | None
    verdict: str
    distances: np.ndarray
    nearest: np.ndarray
    heldout_distances: np.ndarray
    repeated: tuple[int, ...]

    def __str__(self) -> str:
        return self.verdict

    def __repr__(self) -> str:
        return f"Audit(share={self.share}, p_value={self.p_value}, {self.verdict!r})"


def audit(
    generated: ArrayLike,
    train: ArrayLike,
    heldout: ArrayLike,
    *,
    features: Callable[[Any], ArrayLike] | None = None,
    key: Array | None = None,
) -> Audit:
    """Compare generated with real held-out images by their distances to the training images.

    Under "generated images are drawn like held-out ones" all orders of the pooled distances are
    equally likely: the p-value is by permutation, ties in random order (`p_value`). Equal training
    images are one. Held-out images that are training images, or repeat one another, do not count.

    Args:
        generated: ``(n, ...)`` samples of the model.
        train: ``(m, ...)`` the images that it was tuned on.
        heldout: ``(h, ...)`` real images of the same kind that it has not seen; below 20 that
            count, nothing is judged.
        features: from ``(k, ...)`` images to ``(k, p)`` features in which distances are taken;
            None compares entry by entry.
        key: of ties and permutations; the same one by default, so that an answer can be repeated.

    Returns:
        An `Audit`; ``print`` says its verdict.

    Raises:
        ValueError: arguments that are no samples, of different sizes, or with NaN entries.

    Example:
        >>> import numpy as np, fsd_jax as fsd
        >>> rng = np.random.default_rng(0)
        >>> train, real, new = (rng.normal(size=(n, 16)) for n in (10, 100, 64))
        >>> fsd.audit(new, train, real).p_value > 0.05
        True
        >>> new[:6] = train[:6]  # six copies among 64
        >>> fsd.audit(new, train, real).p_value < 0.05
        True
    """
    made, known, real = _measured(features, generated=generated, train=train, heldout=heldout)
    rng = np.random.default_rng(_seed(key))
    yardstick, repeated = _counted(known, real)
    distances, nearest = (found[:, 0] for found in _neighbours.nearest(made, known, 1))
    found: dict[str, Any] = dict.fromkeys(("share", "low", "high", "p_value"))
    if len(yardstick) < LEAST_HELDOUT:
        words = f"Cannot judge: {len(yardstick)} held-out images count"
        words += f", {len(repeated)} repeat others" if repeated else ""
        words += f"; {LEAST_HELDOUT} are needed."
    else:
        share, low, high = excess_share(distances, yardstick)
        p = p_value(distances, yardstick, rng)
        found = {"share": share, "low": low, "high": high, "p_value": p}
        words = _verdict(len(made), len(yardstick), **found)
    return Audit(
        **found,
        verdict=words,
        distances=distances,
        nearest=nearest,
        heldout_distances=yardstick,
        repeated=repeated,
    )


def _measured(features: Callable[[Any], ArrayLike] | None, **sets: Any) -> list[Rows]:
    """The three sets as rows, in the features asked for."""
    if features is not None:
        _checks.callback("features", features)
    given = {
        name: rows(name, value, least=2 if name != "heldout" else 1) for name, value in sets.items()
    }
    same_width(**given)
    if features is None:
        return list(given.values())
    found = {}
    for name, value in sets.items():
        answer = rows(f"features({name})", features(value), features=True)
        if len(answer) != len(given[name]):
            raise ValueError(
                f"features must return one row a sample, got {len(answer)} for the "
                f"{len(given[name])} of {name}"
            )
        found[name] = answer
    same_width(**found)
    return list(found.values())


def _seed(key: Array | None) -> list[int]:
    chosen = jax.random.key(0) if key is None else _checks.key("key", key)
    return [int(word) for word in np.asarray(jax.random.key_data(chosen)).ravel()]


def _counted(train: Rows, heldout: Rows) -> tuple[np.ndarray, tuple[int, ...]]:
    """The distances of the held-out rows that count, sorted, and the rows that do not count."""
    first = heldout.distinct()
    order = np.arange(len(heldout)) if first.order is None else first.order
    distances = _neighbours.nearest(first, train, 1)[0][:, 0]
    apart = distances > 0
    left = np.setdiff1d(np.arange(len(heldout)), order[apart])
    return np.sort(distances[apart]), tuple(int(row) for row in left)


def p_value(generated: np.ndarray, heldout: np.ndarray, rng: np.random.Generator) -> float:
    """One-sided permutation p-value of "generated distances are no smaller".

    Of the r smallest distances, a hypergeometric number should be generated ones. The statistic is
    the least tail probability over ``r`` up to half of all (Berk and Jones): it sees a few copies
    that are very near as well as many images that are a little too near. Its own law is found by
    permutation, so that looking at every r costs no error.

    Args:
        generated: ``(n,)`` distances.
        heldout: ``(h,)`` distances.
        rng: orders ties, and permutes.
    """
    from scipy.stats import hypergeom

    n, total = len(generated), len(generated) + len(heldout)
    most = max(1, total // 2)
    count = np.arange(n + 1)
    taken = np.arange(1, most + 1)[:, None]
    # P(at least as many), for every r and number of generated ones among them.
    tail = hypergeom.sf(count - 1, total, n, taken)
    row = np.arange(most)

    def least(is_generated: np.ndarray) -> np.ndarray:
        among = np.cumsum(is_generated[:, :most], axis=1)
        return tail[row, among].min(axis=1)

    pooled = np.concatenate([generated, heldout])
    order = np.lexsort((rng.random(total), pooled))
    observed = least((order < n)[None])[0]
    # The statistic at hand is one of those that could have come.
    below = 1
    step = max(1, NUMBERS_AT_ONCE // total)
    for start in range(0, DRAWS, step):
        draws = min(step, DRAWS - start)
        drawn = np.zeros((draws, total), bool)
        chosen = np.argpartition(rng.random((draws, total)), n - 1, axis=1)[:, :n]
        np.put_along_axis(drawn, chosen, True, axis=1)
        below += int(np.sum(least(drawn) <= observed * (1 + 1e-9)))
    return below / (DRAWS + 1)


def excess_share(generated: np.ndarray, heldout: np.ndarray) -> tuple[float, float, float]:
    """Share of generated distances below the held-out quantile, less what real ones have there.

    With ``F`` the share below and ``q`` the quantile's level, ``(F - q)/(1 - q)``. Its interval
    joins Wilson's for ``F`` with the exact one for the level that the order statistic really has
    (a beta law), by the method of variance estimates recovered.

    Args:
        generated: ``(n,)`` distances.
        heldout: ``(h,)`` sorted distances, 20 at least.

    Returns:
        The share, at least 0, and the ends of its 95% interval.
    """
    from scipy.stats import beta, binomtest

    # The k-th of h lies at the level k/(h + 1) on average: never above the one that is meant.
    k = int(QUANTILE * (len(heldout) + 1))
    level = k / (len(heldout) + 1)
    below = int(np.sum(generated < heldout[k - 1]))
    share = below / len(generated)
    wilson = binomtest(below, len(generated)).proportion_ci(method="wilson")
    ends = beta.ppf((0.025, 0.975), k, len(heldout) + 1 - k)
    low = share - level - np.hypot(share - wilson.low, ends[1] - level)
    high = share - level + np.hypot(wilson.high - share, level - ends[0])
    found = (max(0.0, float(value / (1 - level))) for value in (share - level, low, high))
    middle, low, high = found
    return middle, low, min(high, 1.0)


def _verdict(n: int, h: int, *, share: float, low: float, high: float, p_value: float) -> str:
    numbers = f"(p = {_p(p_value)}; {n} generated against {h} real images)"
    if p_value <= SIGNIFICANT:
        about = f"{100 * share:.0f}% [{100 * low:.0f}%, {100 * high:.0f}%]"
        return (
            "Copies: generated images lie nearer to the training images than real ones do "
            f"{numbers}; {about} of them in excess."
        )
    return (
        "No sign of copying: generated images lie no nearer to the training images than real ones "
        f"do {numbers}; up to {100 * high:.0f}% could still be copies."
    )


def _p(value: float) -> str:
    return "below .001" if value < 1e-3 else f"{value:.2g}".removeprefix("0")
