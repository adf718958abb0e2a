"""The minimiser of the ridge objective, for every strength from one factorisation."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jax.typing import ArrayLike

from fsd_jax import _checks, _linalg
from fsd_jax.readout._sums import Readout

EPS = float(np.finfo(np.float64).eps)


def solve(
    sums: Readout, *, prior: ArrayLike, strength: float, metric: ArrayLike | Readout | None = None
) -> np.ndarray:
    """Weights ``W`` that minimise ``sum w |h'W - y|^2 + strength tr (W - prior)' M (W - prior)``.

    ``W = prior + (H + strength M)^+ (R - H prior)``: with a pseudo-inverse, so that directions that
    neither the data nor the metric see stay where the prior has them.

    Implements: "The last layer of a network".

    Args:
        sums: of the data.
        prior: ``(p, q)``, for example the pre-trained layer.
        strength: from 0 (least squares) to infinity (the prior).
        metric: ``M``: None is the identity, else ``(p, p)`` positive semi-definite, or the
            `Readout` of the source, whose ``H`` keeps the weights where the source's loss is flat.

    Returns:
        ``(p, q)`` float64.

    Raises:
        ValueError: a prior or metric of another shape, a negative strength, sums without rows.
    """
    (mu,) = checked_strengths(np.asarray(strength)[None])
    if sums.count.sum() == 0:
        raise ValueError("sums has no rows yet; add some first")
    problem = Problem.of(sums, prior, metric)
    return problem.prior + problem.shift(sums.H, problem.residual(sums.H, sums.R), mu)


@dataclass(frozen=True, eq=False)
class Pencil:
    """``(A + mu M)^+`` for every ``mu > 0``, where both are positive semi-definite.

    Attributes:
        basis: ``(p, r)`` ``P`` with ``(A + mu M)^+ = P diag(1/(a + mu m)) P'``; its columns span
            the range of ``A + M``.
        a: ``(r,)``.
        m: ``(r,)``.
    """

    basis: np.ndarray
    a: np.ndarray
    m: np.ndarray

    @classmethod
    def of(cls, A: np.ndarray, M: np.ndarray) -> "Pencil":
        """Factor a pair: both are brought to one size, and their sum is whitened."""
        scale = _trace(A) / _trace(M) if _trace(A) > 0 and _trace(M) > 0 else 1.0
        values, vectors = _linalg.host_eigh(A + scale * M)
        whole = values > EPS * len(values) * max(values[-1], 0.0)
        white = vectors[:, whole] / np.sqrt(values[whole])
        # In these coordinates A and scale M add up to the identity.
        share, turn = _linalg.host_eigh(_symmetric(white.T @ M @ white) * scale)
        share = np.clip(share, 0.0, 1.0)
        return cls(basis=white @ turn, a=1 - share, m=share / scale)

    def inverse(self, mu: float) -> np.ndarray:
        """``(r,)`` ``1/(a + mu m)``."""
        total = self.a + mu * self.m
        return np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)

    def solve(self, right: np.ndarray, mu: float) -> np.ndarray:
        """``(A + mu M)^+ right``."""
        return self.basis @ (self.inverse(mu)[:, None] * (self.basis.T @ right))


@dataclass(frozen=True, eq=False)
class Problem:
    """A prior and a metric that fit some sums.

    Attributes:
        prior: ``(p, q)``.
        metric: ``(p, p)``.
    """

    prior: np.ndarray
    metric: np.ndarray

    @classmethod
    def of(cls, sums: Readout, prior: Any, metric: Any) -> "Problem":
        """Check them."""
        _checks.instance("sums", sums, Readout)
        p, q = sums.features, sums.outputs
        start = _host("prior", prior, (p, q))
        if metric is None:
            return cls(start, np.eye(p))
        if isinstance(metric, Readout):
            if metric.features != p:
                raise ValueError(f"metric must have features={p}, got {metric.features}")
            return cls(start, metric.H)
        M = _host("metric", metric, (p, p))
        size = np.max(np.abs(M), initial=0.0)
        if np.max(np.abs(M - M.T), initial=0.0) > 1e-8 * size:
            raise ValueError("metric must be symmetric; pass (M + M.T)/2")
        M = _symmetric(M)
        if _linalg.host_eigh(M)[0][0] < -1e-8 * size:
            raise ValueError("metric must be positive semi-definite; it has a negative eigenvalue")
        return cls(start, M)

    def residual(self, H: np.ndarray, R: np.ndarray) -> np.ndarray:
        """``R - H prior``: what the prior leaves to be explained."""
        return R - H @ self.prior

    def shift(self, H: np.ndarray, residual: np.ndarray, mu: float) -> np.ndarray:
        """``W - prior`` at one strength."""
        if np.isinf(mu):
            return np.zeros_like(residual)
        if mu == 0:
            return pseudo_inverse(H) @ residual
        return Pencil.of(H, self.metric).solve(residual, mu)


def pseudo_inverse(H: np.ndarray) -> np.ndarray:
    """Of a positive semi-definite matrix."""
    values, vectors = _linalg.host_eigh(H)
    whole = values > EPS * len(values) * max(values[-1], 0.0)
    kept = vectors[:, whole]
    return (kept / values[whole]) @ kept.T


def checked_strengths(strengths: Any) -> np.ndarray:
    """``(k,)`` numbers from 0 to infinity."""
    array = np.asarray(_checks.array("strengths", strengths)).astype(np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"strengths must have shape (k,), got {array.shape}")
    if not np.all(array >= 0):
        raise ValueError(f"strength must be from 0 to infinity, got {array[~(array >= 0)][0]}")
    return array


def _host(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    given = _checks.array(name, value)
    if _checks.is_traced(given):
        raise ValueError(f"{name} is traced, and the solve runs on the host: call it outside jit")
    array = np.asarray(given).astype(np.float64)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} has NaN or infinite entries")
    return array


def _symmetric(a: np.ndarray) -> np.ndarray:
    return (a + a.T) / 2


def _trace(a: np.ndarray) -> float:
    return float(np.trace(a))
