"""Choosing a member of the family by its exact leave-one-out loss, on the host.

The loss of a few samples is rough, so it is joined by a prior: the source as it is, mixed with the
samples as if it were some more of them. The prior's strength follows from how far the loss of one
sample scatters about its mean, which is the one thing that turns losses into evidence.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fsd_jax._process import Process
from fsd_jax.fewshot.family import Family, Few, leave_one_out
from fsd_jax.fewshot.source import PretrainedModel

BLOCKS = 256
"""Directions whose variances differ by less than one such part of the spectrum's range in
logarithms share one variance: some 4% where it spans four decades."""

SHAPES = 6
"""The source's spectrum is scaled by a curve of so many hat functions of the log variance."""

RIDGE, NU, KAPPA = 0.1, 30.0, 1.5
"""The prior's centre: the ridge in geometric mean variances, the source's covariance worth 30
samples and its mean worth one and a half."""

SCATTER = {"ridge": 3.0, "nu": 3.0, "kappa": 2.0, "level": 1.0, "bend": 0.7}
"""Standard deviations of the prior, in logarithms: `bend` is between neighbouring hats."""

TAILS = 4.5
"""Real losses scatter so many times more than a Gaussian law's: .8 to 3.4 times on digits and
tables, 11 times on one. Of 1 to 12 this one was never far from the best on ten sets."""

FEW = 3.0
"""The refits of n samples share all but one, so that their mean is rougher than n losses suggest;
the prior counts ``1 + 3/n`` times, found on the same sets."""

MOST_SAMPLES = 128
"""More samples choose no better and cost their number's cube."""

NODES = 32
"""Times that the search uses; the loss that is told uses those of the model."""

Levels = tuple[np.ndarray, np.ndarray, np.ndarray]
"""``m_t^2``, ``sigma_t^2`` and weights over time."""


class Blocks(NamedTuple):
    """The source's directions by variance.

    Attributes:
        starts: ``(b,)`` the first direction of each block.
        variance: ``(B,)``, one more than `starts` where there are other directions.
        sizes: ``(B,)``.
    """

    starts: np.ndarray
    variance: np.ndarray
    sizes: np.ndarray

    def each(self, values: np.ndarray, d: int) -> np.ndarray:
        """Values of blocks as those of the d directions."""
        counts = np.diff(np.append(self.starts, d))
        return np.repeat(values[: len(self.starts)], counts)


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What `adapt` chose; in words by `str`.

    The model's covariance is ``(1 - target_share) s Sigma_s + target_share S_t + ridge``, where
    ``S_t`` is the target's second moment about the chosen mean (its divisor the number of samples)
    and ``s`` a curve over the source's spectrum.

    Attributes:
        source: where the source's spectrum comes from.
        target_share: weight of the target's second moment.
        mean_share: the mean is this part of the way from the source's mean to the target's.
        ridge: variance added in every direction.
        scales: ``s`` from the source's weakest directions to its strongest.
        point: the family's coordinates: ``log`` of the ridge, of the samples that the source's
            covariance and mean are worth, and of the curve.
        loss: exact leave-one-out loss at these choices (NaN for a single picture).
        units: number of different pictures or groups that chose.
        notes: sentences.
    """

    source: str
    target_share: float
    mean_share: float
    ridge: float
    scales: tuple[float, ...]
    point: tuple[float, ...]
    loss: float
    units: int
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        low, high = min(self.scales), max(self.scales)
        words = [
            f"covariance: {1 - self.target_share:.0%} source, scaled by {low:.3g} to {high:.3g}, "
            f"{self.target_share:.0%} target, ridge {self.ridge:.3g}",
            f"mean: {self.mean_share:.0%} of the way from the source's to the target's",
            f"source: {self.source}",
            f"leave-one-out loss {self.loss:.6g} over {self.units}",
        ]
        return "\n".join([*words, *self.notes])


def blocks_of(source: PretrainedModel) -> Blocks:
    """Blocks of nearly equal variance, in descending order; the last one is the residual."""
    values = np.asarray(source.latent_variance, np.float64)
    ambient, d = source.basis.shape
    rest = float(source.residual_variance)
    floor = 1e-8 * float(values.max())
    values, rest = np.maximum(values, floor), max(rest, floor)
    depth = np.log(values[0] / values)
    width = max(float(depth[-1]) / BLOCKS, 1e-9)
    starts = np.flatnonzero(np.diff(np.floor(depth / width), prepend=-1))
    sizes = np.diff(np.append(starts, d)).astype(float)
    variance = np.add.reduceat(values, starts) / sizes
    if ambient > d:
        variance, sizes = np.append(variance, rest), np.append(sizes, ambient - d)
    return Blocks(starts, variance, sizes)


def family_of(blocks: Blocks) -> Family:
    """The family of a source: hat functions, evenly spaced in the log variance."""
    x = np.log(blocks.variance)
    low, high = float(x.min()), float(x.max())
    if high - low < 0.5:
        return Family(variance=blocks.variance, shapes=np.ones((len(x), 1)))
    knots = np.linspace(low, high, SHAPES)
    hats = np.maximum(0, 1 - np.abs(x[:, None] - knots) / (knots[1] - knots[0]))
    return Family(variance=blocks.variance, shapes=hats)


def levels(process: Process, nodes: int) -> Levels:
    """``m_t^2``, ``sigma_t^2`` and weights of the integrated loss."""
    times, weights = process.quadrature(nodes=nodes)
    signal, noise = process.host_variances(np.asarray(times, np.float64))
    return signal, noise, np.asarray(weights, np.float64)


def few_of(
    source: PretrainedModel,
    blocks: Blocks,
    y: np.ndarray,
    units: np.ndarray,
    over: Levels,
) -> Few:
    """Gram matrices of samples `y`, ``(n, D)`` in float64 from the source's mean, in each block."""
    ambient, d = source.basis.shape
    z = y @ np.asarray(source.basis, np.float64)
    ends = np.append(blocks.starts[1:], d)
    parts = [z[:, a:b] @ z[:, a:b].T for a, b in zip(blocks.starts, ends, strict=True)]
    if ambient > d:
        parts.append(y @ y.T - z @ z.T)
    signal, noise, weights = over
    return Few(
        grams=np.stack(parts), sizes=blocks.sizes, units=units,
        signal=signal, noise=noise, weights=weights,
    )  # fmt: skip


def scatter(blocks: Blocks, over: Levels) -> float:
    """Variance of a sample's slope over the mean curvature, both in ``log s`` at the source.

    Its loss is ``sum_k A(v_k) e_k + B(v_k)`` with ``e_k`` the energy in direction k; for a Gaussian
    law ``Var e_k = 2 v_k^2``. One for a log-likelihood, some .2 for this loss.
    """
    signal, noise, weights = (each[:, None] for each in over)
    v = blocks.variance
    p = 1 / (signal * v + noise)
    slope = np.sum(-2 * weights * signal**2 * p**3, axis=0)
    bend = np.sum(6 * weights * signal**3 * p**4, axis=0)
    spread = weights * signal**2 * p**3 * (2 * noise * p - 4 * signal * v * p)
    curvature = blocks.sizes @ (bend * v**3 + np.sum(spread, axis=0) * v**2)
    return TAILS * 2 * float(blocks.sizes @ (slope * v**2) ** 2) / float(curvature)


class Prior(NamedTuple):
    """A quadratic prior on the family's coordinates, and where the search may go."""

    centre: np.ndarray
    precision: np.ndarray
    bounds: Sequence[tuple[float, float]]
    strength: float


def prior_of(family: Family, blocks: Blocks, over: Levels, *, mean: bool) -> Prior:
    """The prior of a source; without a `mean` of its own the mean is the target's."""
    shapes = family.shapes.shape[1]
    size = 3 + shapes
    precision = np.zeros((size, size))
    for i, name in enumerate(("ridge", "nu", "kappa")):
        precision[i, i] = SCATTER[name] ** -2
    step = np.diff(np.eye(shapes), axis=0)
    precision[3:, 3:] = (shapes * SCATTER["level"]) ** -2 + step.T @ step / SCATTER["bend"] ** 2
    top = float(blocks.variance.max())
    typical = float(np.average(np.log(blocks.variance), weights=blocks.sizes))
    kappa = math.log(KAPPA) if mean else -30.0
    centre = np.array([typical + math.log(RIDGE), math.log(NU), kappa, *np.zeros(shapes)])
    bounds = [(math.log(1e-9 * top), math.log(top)), (-7.0, 14.0)]
    bounds += [(-7.0, 9.0) if mean else (kappa, kappa), *[(-5.0, 5.0)] * shapes]
    return Prior(centre, precision, bounds, scatter(blocks, over))


def choose(
    family: Family, few: Few, prior: Prior, *, near: Sequence[float] | None = None
) -> np.ndarray:
    """The point of least leave-one-out loss plus ``(1 + 3/units) strength/(2 units) |step|^2``.

    From two starts, one near the target's own covariance and one near the source's, because the
    loss may have a valley at each; or from the point that most of the samples chose, `near`.
    """
    from scipy.optimize import minimize

    _, unit, counts = np.unique(few.units, return_inverse=True, return_counts=True)
    if len(counts) < 2:
        return prior.centre
    share = 1 / (counts[unit] * len(counts))
    pull = prior.strength / len(counts) * (1 + FEW / len(counts))

    def objective(point: np.ndarray) -> tuple[float, np.ndarray]:
        losses, slope = leave_one_out(family, few, point)
        step = prior.precision @ (point - prior.centre)
        cost = pull * float((point - prior.centre) @ step) / 2
        return float(share @ losses) + cost, slope + pull * step

    starts = [prior.centre.copy() for _ in range(2)] if near is None else [np.array(near)]
    if near is None:
        starts[0][1], starts[1][1] = math.log(5.0), math.log(1e4)
    found = []
    for start in starts:
        options = {"ftol": 1e-7, "maxiter": 200}
        found.append(
            minimize(
                objective, start, jac=True, method="L-BFGS-B", bounds=prior.bounds, options=options
            )
        )
    return np.asarray(min(found, key=lambda result: float(result.fun)).x)


def without(few: Few, rows: np.ndarray) -> Few:
    """The samples that `rows` keeps."""
    return Few(
        grams=few.grams[:, rows][:, :, rows], sizes=few.sizes, units=few.units[rows],
        signal=few.signal, noise=few.noise, weights=few.weights,
    )  # fmt: skip
