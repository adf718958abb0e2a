"""A Gaussian of few samples alone, shrunk towards a round one: the honest rival of any source.

Ledoit-Wolf and OAS in the coordinates of the samples: inner products are all they need, so nothing
here depends on ``D`` and no covariance is formed.
"""

from collections.abc import Callable

import numpy as np

from fsd_jax import _linalg
from fsd_jax.fewshot.choice import Levels


def ledoit_wolf(gram: np.ndarray, ambient: int) -> float:
    """Weight of the round covariance (Ledoit and Wolf 2004).

    ``min(b, d)/d`` with ``d = (|S|^2 - (tr S)^2/D)/D`` and ``b = (sum |x_i|^4/n - |S|^2)/(n D)``.

    Args:
        gram: ``(n, n)`` inner products of the samples about their mean.
        ambient: ``D``.
    """
    n = len(gram)
    square, trace = np.sum(gram**2) / n**2, np.trace(gram) / n
    spread = square - trace**2 / ambient
    error = (np.sum(np.diag(gram) ** 2) / n - square) / n
    return float(np.clip(error / spread, 0, 1)) if spread > 0 else 1.0


def oas(gram: np.ndarray, ambient: int) -> float:
    """Weight of the round covariance (Chen, Wiesel, Eldar and Hero 2010), as scikit-learn has it.

    ``(a + u^2)/((n + 1)(a - u^2/D))`` with ``a = |S|^2/D^2`` and ``u = tr S/D``.

    Args:
        gram: as in `ledoit_wolf`.
        ambient: as in `ledoit_wolf`.
    """
    n = len(gram)
    square, level = np.sum(gram**2) / (n * ambient) ** 2, np.trace(gram) / (n * ambient)
    spread = (n + 1) * (square - level**2 / ambient)
    return float(np.clip((square + level**2) / spread, 0, 1)) if spread > 0 else 1.0


RULES: dict[str, Callable[[np.ndarray, int], float]] = {"Ledoit-Wolf": ledoit_wolf, "OAS": oas}


def losses(
    inside: np.ndarray,
    cross: np.ndarray,
    sizes: np.ndarray,
    ambient: int,
    levels: Levels,
    rule: Callable[[np.ndarray, int], float],
) -> np.ndarray:
    """Loss of each evaluated sample under the shrunk Gaussian of the fitted ones.

    Args:
        inside: ``(n, n)`` inner products of the fitted samples, about any centre.
        cross: ``(m, n)`` those of the evaluated ones with them.
        sizes: ``(m,)`` squared norms of the evaluated ones.
        ambient: ``D``.
        levels: of the integrated loss.
        rule: gives the weight of the round covariance.
    """
    n = len(inside)
    middle = inside.mean(axis=1)
    gram = inside - middle[:, None] - middle + middle.mean()
    shift = cross.mean(axis=1)
    coordinates = cross - shift[:, None] - middle + middle.mean()
    energy = np.maximum(sizes - 2 * shift + middle.mean(), 0)
    share, level = rule(gram, ambient), np.trace(gram) / (n * ambient)
    values, vectors = _linalg.host_eigh(gram)
    real = values > 1e-12 * max(float(values[-1]), 1e-300)
    values = values[real]
    along = (coordinates @ vectors[:, real]) ** 2 / values
    outside = np.maximum(energy - along.sum(axis=1), 0)
    signal, noise, weights = (each[:, None] for each in levels)
    precision = 1 / (signal * ((1 - share) * values / n + share * level) + noise)
    rest = 1 / (signal * share * level + noise)
    bias = along @ np.sum(weights * signal * precision**2, axis=0)
    bias += outside * np.sum(weights * signal * rest**2)
    spread = np.sum((1 - noise * precision) ** 2, axis=1)
    spread += (ambient - len(values)) * (1 - noise * rest)[:, 0] ** 2
    return bias + np.sum(levels[2] * spread / levels[1])


def evaluated(
    fitted: np.ndarray, units: np.ndarray, held: np.ndarray | None, levels: Levels
) -> dict[str, np.ndarray]:
    """Losses by the name of the rule: of held-out rows, or of each row without its unit.

    Args:
        fitted: ``(n, D)`` target samples in float64, from any centre near them.
        units: ``(n,)`` labels; rows with the same one are left out together.
        held: ``(m, D)`` held-out ones from the same centre, or None.
        levels: of the integrated loss.
    """
    ambient = fitted.shape[1]
    names, unit = np.unique(units, return_inverse=True)
    share = (unit == np.arange(len(names))[:, None]) / np.bincount(unit)[:, None]
    # Rows of one unit are one picture: their mean counts, once.
    pictures = share @ fitted
    gram = pictures @ pictures.T
    if held is not None:
        cross, sizes = held @ pictures.T, np.sum(held**2, axis=1)
        return {
            name: losses(gram, cross, sizes, ambient, levels, rule) for name, rule in RULES.items()
        }
    cross, sizes = fitted @ pictures.T, np.sum(fitted**2, axis=1)
    found = {name: np.empty(len(units)) for name in RULES}
    for place in range(len(names)):
        out, rest = np.flatnonzero(unit == place), np.flatnonzero(np.arange(len(names)) != place)
        parts = gram[np.ix_(rest, rest)], cross[np.ix_(out, rest)], sizes[out]
        for name, rule in RULES.items():
            found[name][out] = losses(*parts, ambient, levels, rule)
    return found
