"""What more samples would bring: the fitted law drawn from, adapted to, and judged exactly.

Only differences are simulated. Their level is the leave-one-out loss of the real samples, which
have tails that no Gaussian law has. All is on the host, in coordinates of the source's directions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fsd_jax import _checks, _linalg
from fsd_jax.fewshot import choice as choosing
from fsd_jax.fewshot import duplicates
from fsd_jax.fewshot.adapt import leave_out
from fsd_jax.fewshot.family import Family, Few, Member
from fsd_jax.fewshot.model import FewShotModel
from fsd_jax.fewshot.report import LEAST_UNITS, CurvePoint, limits

REPLICATES = 8
"""Laws and sets of samples that are drawn; seven degrees of freedom widen the interval by 15%."""

CHOOSERS = 32
"""Of a larger drawn set so many samples choose: the search costs their cube."""

FAR = 2
"""Beyond so many times the given number of samples the curve is extrapolation."""


def learning_curve(model: FewShotModel, sizes: Sequence[int]) -> tuple[CurvePoint, ...]:
    """What `FewShotModel.learning_curve` returns."""
    if model.choices is None or model.source is None:
        raise ValueError(
            "learning_curve needs a model that adapt chose, since it adapts anew to drawn samples; "
            f"got {model.name!r}: pass source and target to adapt"
        )
    if _checks.is_traced(model):
        raise ValueError("learning_curve adapts by values; call it outside jit, grad and vmap")
    wanted = _sizes(sizes)
    x = model.samples
    units = duplicates.concrete_labels(x, duplicates.scale_of(x, model.source))
    count = len(np.unique(units))
    if count < LEAST_UNITS:
        raise ValueError(
            f"learning_curve needs at least {LEAST_UNITS} different target samples, got {count}: "
            "fewer do not show how far the law is from them"
        )
    level, error = _level(model, units)
    changes = _changes(model, count, wanted)
    found = []
    for n, change in zip(wanted, changes.T, strict=True):
        # Two independent parts: of the level, and of the law and the draws.
        high = limits(0.0, error, count, left_out=True)[1]
        width = limits(0.0, float(np.std(change, ddof=1)), len(change), left_out=False)[1]
        step = float(np.hypot(high, width))
        middle = level + float(np.mean(change))
        found.append(
            CurvePoint(
                n=n,
                loss=middle,
                low=max(middle - step, 0.0),
                high=middle + step,
                extrapolated=n > FAR * count,
            )
        )
    return tuple(found)


def _sizes(sizes: Any) -> tuple[int, ...]:
    if np.ndim(sizes) != 1 or not len(sizes):
        raise ValueError(f"sizes must be a list of numbers of samples, got {_checks.named(sizes)}")
    return tuple(_checks.dimension("sizes", size) for size in sizes)


def _level(model: FewShotModel, units: np.ndarray) -> tuple[float, float]:
    """Mean leave-one-out loss, a unit counting once, and its standard error."""
    losses = leave_out(model, units)
    _, unit, counts = np.unique(units, return_inverse=True, return_counts=True)
    each = np.bincount(unit, weights=losses) / counts
    return float(np.mean(each)), float(np.std(each, ddof=1) / len(each) ** 0.5)


def _changes(model: FewShotModel, count: int, sizes: tuple[int, ...]) -> np.ndarray:
    """Expected loss at each size minus that of leaving one of `count` out, ``(R, sizes)``.

    Each replicate draws `count` samples from the fitted law, adapts to them, and takes what it
    finds for the truth: so the scatter holds how well the samples know their law.
    """
    setting = _Setting.of(model)
    fitted = setting.law(_coordinates(model), np.asarray(setting.near))
    most, found = max(*sizes, count - 1), []
    for replicate in range(REPLICATES):
        rng = np.random.default_rng([0, replicate])
        drawn = fitted.draw(rng, count)
        truth = setting.law(drawn, setting.choose(drawn))
        samples = truth.draw(rng, most)
        losses = {}
        for n in {count - 1, *sizes}:
            # The smaller sets are parts of the larger ones: what they share cancels.
            y = samples[:n]
            losses[n] = setting.expected(y, setting.choose(y), truth)
        found.append([losses[n] - losses[count - 1] for n in sizes])
    return np.asarray(found)


def _coordinates(model: FewShotModel) -> np.ndarray:
    """Target samples from the source's mean in D coordinates, the source's directions first.

    The others are turned so that the samples have few of them; nothing else depends on which.
    """
    source = model.source
    assert source is not None, "what adapt returns has a source"
    ambient, d = source.basis.shape
    y = np.asarray(model.samples, np.float64) - np.asarray(source.mean, np.float64)
    found = np.zeros((len(y), ambient))
    found[:, :d] = y @ np.asarray(source.basis, np.float64)
    room = min(len(y), ambient - d)
    if room:
        values, vectors = _linalg.host_eigh(y @ y.T - found[:, :d] @ found[:, :d].T)
        parts = vectors[:, ::-1] * np.sqrt(np.maximum(values[::-1], 0))
        found[:, d : d + room] = parts[:, :room]
    return found


@dataclass(frozen=True, kw_only=True)
class _Law:
    """``N(step, diag(base) + b/n about' about)`` in the source's coordinates.

    Attributes:
        base: ``(D,)``.
        blocks: ``(B,)`` the same by block.
        about: ``(n, D)`` the samples about the mean, times ``sqrt(b/n)``.
        step: ``(D,)``.
    """

    base: np.ndarray
    blocks: np.ndarray
    about: np.ndarray
    step: np.ndarray

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """``(n, D)`` samples."""
        round_part = rng.normal(size=(n, len(self.base))) * np.sqrt(self.base)
        return self.step + round_part + rng.normal(size=(n, len(self.about))) @ self.about


@dataclass(frozen=True, kw_only=True)
class _Setting:
    """What all replicates share: the source's family and its prior, and the times."""

    family: Family
    blocks: choosing.Blocks
    prior: choosing.Prior
    near: tuple[float, ...]
    search: choosing.Levels
    judged: choosing.Levels

    @classmethod
    def of(cls, model: FewShotModel) -> "_Setting":
        """That of a model."""
        source, choices = model.source, model.choices
        assert source is not None, "what adapt returns has a source"
        assert choices is not None, "what adapt returns has choices"
        blocks = choosing.blocks_of(source)
        family = choosing.family_of(blocks)
        over = choosing.levels(source.process, 64)
        # A source without a mean has its weight in the mean held at nothing.
        prior = choosing.prior_of(family, blocks, over, mean=choices.point[2] > -20)
        return cls(
            family=family,
            blocks=blocks,
            prior=prior,
            near=choices.point,
            search=choosing.levels(source.process, choosing.NODES),
            judged=over,
        )

    def choose(self, y: np.ndarray) -> np.ndarray:
        """The point that `adapt` would choose for samples in coordinates."""
        rows = y[:CHOOSERS]
        signal, noise, weights = self.search
        few = Few(
            grams=self.grams(rows), sizes=self.blocks.sizes, units=np.arange(len(rows)),
            signal=signal, noise=noise, weights=weights,
        )  # fmt: skip
        return choosing.choose(self.family, few, self.prior, near=self.near)

    def grams(self, y: np.ndarray) -> np.ndarray:
        """``(B, n, n)`` inner products in each block."""
        starts = np.cumsum(self.blocks.sizes)[:-1].astype(int)
        return np.stack([part @ part.T for part in np.split(y, starts, axis=1)])

    def law(self, y: np.ndarray, point: np.ndarray) -> _Law:
        """The law of a point and samples in coordinates."""
        member: Member = self.family.member(point, len(y))
        step = member.a * y.mean(axis=0)
        return _Law(
            base=np.repeat(member.base, self.blocks.sizes.astype(int)),
            blocks=member.base,
            about=(member.b / len(y)) ** 0.5 * (y - step),
            step=step,
        )

    def expected(self, y: np.ndarray, point: np.ndarray, truth: _Law) -> float:
        """Expected loss, under the true law, of what a point makes of samples `y`; exact."""
        found = self.law(y, point)
        rows = np.concatenate([found.about, truth.about, [truth.step - found.step]])
        return expected_loss(
            self.grams(rows), len(y), found.blocks, truth.blocks, self.blocks.sizes, self.judged
        )


def expected_loss(
    grams: np.ndarray,
    n: int,
    base: np.ndarray,
    true: np.ndarray,
    sizes: np.ndarray,
    levels: choosing.Levels,
) -> float:
    """Expected loss of ``N(., base + X'X)`` under ``N(. + delta, true + Y'Y)``, ``base`` by block.

    ``sum_t w [m2 (tr P^2 (true + Y'Y) + |P delta|^2) + |I - s2 P|^2/s2]`` with the precision
    ``P = (m2 (base + X'X) + s2)^-1 = p - m2 p X' N X p`` and ``N = (1 + m2 X p X')^-1``.

    Args:
        grams: ``(B, r, r)`` inner products, in each block, of the rows of X, Y and delta.
        n: rows of X.
        base: ``(B,)``.
        true: ``(B,)``.
        sizes: ``(B,)`` numbers of directions.
        levels: ``m2``, ``s2`` and w.
    """
    signal, noise, weights = levels
    p = 1 / (signal[:, None] * base + noise[:, None])
    r = grams.shape[1]
    flat = grams.reshape(len(base), -1)

    def mixed(weight: np.ndarray) -> np.ndarray:
        return (weight @ flat).reshape(-1, r, r)

    G1, G2 = mixed(p), mixed(p**2)
    T2, T3 = mixed(p**2 * true)[:, :n, :n], mixed(p**3 * true)[:, :n, :n]
    G3 = mixed(p**3)[:, :n, :n]
    m = signal[:, None, None]
    eye = np.broadcast_to(np.eye(n), (len(p), n, n))
    N = _linalg.host_solve(eye + m * G1[:, :n, :n], eye)
    NG2 = N @ G2[:, :n, :n]
    s = signal
    first = p @ sizes - s * _trace(NG2)
    second = p**2 @ sizes - 2 * s * _trace(N @ G3) + s**2 * _trace(NG2 @ NG2)
    inside = (p**2 * true) @ sizes - 2 * s * _trace(N @ T3) + s**2 * _trace(NG2 @ N @ T2)
    # |P z|^2 for the other rows z: what X p z takes away is N X p z.
    taken = N @ G1[:, :n, n:]
    rows = np.trace(G2[:, n:, n:], axis1=1, axis2=2)
    rows -= 2 * s * np.sum(G2[:, :n, n:] * taken, axis=(1, 2))
    rows += s**2 * np.sum(taken * (G2[:, :n, :n] @ taken), axis=(1, 2))
    spread = np.sum(sizes) / noise - 2 * first + noise * second
    return float(weights @ (s * (inside + rows) + spread))


def _trace(a: np.ndarray) -> np.ndarray:
    return np.trace(a, axis1=-2, axis2=-1)
