"""The family that `adapt` chooses from, and its exact leave-one-out loss with its gradient.

All is in float64 on the host and in coordinates of the target samples: the source's directions are
taken together in blocks of one variance, of which only the Gram matrices of the samples are needed.
So nothing here depends on ``D``, nothing is compiled, and a refit is a change of rank two.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fsd_jax import _linalg


class Member(NamedTuple):
    """Where a member of the family lies for `m` samples: ``Sigma = U diag(base) U' + b S_t``.

    Attributes:
        base: ``(B,)`` the variance of each block.
        b: weight of the samples' second moment about the mean.
        a: the mean is ``source + a (average - source)``.
    """

    base: np.ndarray
    b: float
    a: float


@dataclass(frozen=True, kw_only=True)
class Family:
    """Covariances ``(nu s(v) v + m S_t)/(nu + m) + c``, means ``(kappa source + m average)/(...)``.

    ``v`` is the variance of a source direction, ``log s`` a combination of `shapes`, ``S_t`` the
    samples' second moment about the chosen mean, its divisor being their number ``m``. A point
    is ``(log c, log nu, log kappa, weights of the shapes)``.

    Attributes:
        variance: ``(B,)`` variances of the source's blocks.
        shapes: ``(B, J)``.
    """

    variance: np.ndarray
    shapes: np.ndarray

    def member(self, point: np.ndarray, m: int) -> Member:
        """The member at a point for `m` samples."""
        ridge, nu, kappa = np.exp(point[:3])
        scaled = self.variance * np.exp(self.shapes @ point[3:])
        return Member(scaled * (nu / (nu + m)) + ridge, float(m / (nu + m)), float(m / (m + kappa)))

    def pull_back(
        self, point: np.ndarray, m: int, base: np.ndarray, b: float, a: float
    ) -> np.ndarray:
        """The gradient at a point from that in ``(base, b, a)``."""
        ridge, nu, kappa = np.exp(point[:3])
        scaled = self.variance * np.exp(self.shapes @ point[3:])
        share = nu / (nu + m)
        moved = share * (1 - share) * (base @ scaled - b)
        back = -a * kappa * m / (m + kappa) ** 2
        few = [base.sum() * ridge, moved, back]
        return np.concatenate([few, (base * scaled * share) @ self.shapes])


@dataclass(frozen=True, kw_only=True)
class Few:
    """Target samples as the leave-one-out sees them.

    Attributes:
        grams: ``(B, n, n)`` Gram matrices of the samples, from the source's mean, in each block.
        sizes: ``(B,)`` numbers of directions.
        units: ``(n,)`` labels; rows with the same one are left out together.
        signal: ``(K,)`` ``m_t^2``.
        noise: ``(K,)`` ``sigma_t^2``.
        weights: ``(K,)`` weights over time.
    """

    grams: np.ndarray
    sizes: np.ndarray
    units: np.ndarray
    signal: np.ndarray
    noise: np.ndarray
    weights: np.ndarray


def leave_one_out(
    family: Family, few: Few, point: np.ndarray, *, gradient: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Loss of each sample under the refit without its unit, and the gradient of their mean.

    With ``A = m^2 (base + (b/m) X X') + s2`` for all samples about the source's mean, leaving unit
    ``u`` out and moving the mean changes ``A`` by ``X U Delta U' X'``, ``U = [e_u, 1]``. So ``f_j =
    U' X' A^-j X U`` for j = 1, 2, 3 and traces are all that a refit needs. The mean weighs units
    equally.

    Returns:
        ``(n,)`` losses and the gradient (zeros unless asked for).
    """
    n = len(few.units)
    _, unit, counts = np.unique(few.units, return_inverse=True, return_counts=True)
    losses, slope = np.empty(n), np.zeros(len(point))
    for size in np.unique(counts):
        held = [np.flatnonzero(unit == u) for u in np.flatnonzero(counts == size)]
        rows = np.stack(held)
        losses[rows.ravel()], part = _of_size(family, few, point, rows, len(counts), gradient)
        slope += part
    return losses, slope


class _Whole(NamedTuple):
    """What all refits of one size share, a leading axis of times each.

    ``A = signal (base + (b/m) X X') + noise`` holds every sample about the source's mean.

    Attributes:
        p: ``(K, B)`` inverse of ``signal base + noise``.
        beta: ``signal b/m``.
        inverse: ``N = (1 + beta G_1)^-1`` with ``G_j = X' diag(p^j) X``.
        grams: ``G_1, G_2, G_3``.
        middle: ``G_3 - beta G_2 N G_2``.
        forms: ``F_j = X' A^-j X``: ``N G_1``, ``N G_2 N``, ``N middle N``.
        traces: of ``N G_2``, ``N G_3`` and ``N G_2 N G_2``.
        first: ``tr A^-1``.
        second: ``tr A^-2``.
    """

    p: np.ndarray
    beta: np.ndarray
    inverse: np.ndarray
    grams: tuple[np.ndarray, np.ndarray, np.ndarray]
    middle: np.ndarray
    forms: tuple[np.ndarray, np.ndarray, np.ndarray]
    traces: tuple[np.ndarray, np.ndarray, np.ndarray]
    first: np.ndarray
    second: np.ndarray


class _Unit(NamedTuple):
    """What leaving each unit out changes: axes of times and units lead, the last are ``g + 1``.

    Attributes:
        f: ``f_j = U' F_j U``.
        D: ``Delta/beta``.
        R: ``(1 + Delta f_1)^-1``.
        T: ``R Delta``.
        Y: the left-out rows, about the refit's mean, are ``X U Q``; ``Y = R Q``.
        mean: the average's coordinates in ``U``, times the number of samples that are left.
    """

    f: tuple[np.ndarray, np.ndarray, np.ndarray]
    D: np.ndarray
    R: np.ndarray
    T: np.ndarray
    Y: np.ndarray
    mean: np.ndarray


def _of_size(
    family: Family, few: Few, point: np.ndarray, rows: np.ndarray, units: int, gradient: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Units of one size, ``(u, g)`` rows: the refits share their number of samples."""
    g = rows.shape[1]
    m = len(few.units) - g
    member = family.member(point, m)
    whole = _whole(few, member, m)
    unit = _unit(whole, member, rows, m)
    _, f2, f3 = unit.f
    Tf2 = unit.T @ f2
    noise = few.noise[:, None]
    trace = whole.first[:, None] - _trace(Tf2)
    square = whole.second[:, None] - 2 * _trace(unit.T @ f3) + _trace(Tf2 @ Tf2)
    spread = -2 * trace + noise * square + np.sum(few.sizes) / noise
    bias = few.signal[:, None, None] * np.sum(unit.Y * (f2 @ unit.Y), axis=2)
    losses = np.einsum("t,tui->ui", few.weights, bias + spread[:, :, None])
    if not gradient:
        return losses.ravel(), np.zeros(len(point))
    weights = few.weights / (units * g)
    forms, slope_beta, slope_a = _back_units(few, whole, unit, member, rows, weights)
    base, more = _back_whole(few, whole, forms, weights * rows.size)
    b = float((slope_beta + more) @ few.signal) / m
    return losses.ravel(), family.pull_back(point, m, base, b, slope_a)


def _whole(few: Few, member: Member, m: int) -> _Whole:
    n = len(few.units)
    p = 1 / (few.signal[:, None] * member.base + few.noise[:, None])
    flat = few.grams.reshape(len(member.base), -1)
    G1, G2, G3 = ((p**j @ flat).reshape(-1, n, n) for j in (1, 2, 3))
    beta = few.signal * (member.b / m)
    B, eye = beta[:, None, None], np.eye(n)
    N = _even(_linalg.host_solve(eye + B * G1, np.broadcast_to(eye, G1.shape)))
    NG2 = N @ G2
    middle = G3 - B * (G2 @ NG2)
    traces = (_trace(NG2), _trace(N @ G3), _trace(NG2 @ NG2))
    return _Whole(
        p=p, beta=beta, inverse=N, grams=(G1, G2, G3), middle=middle,
        forms=(N @ G1, NG2 @ N, N @ middle @ N), traces=traces,
        first=p @ few.sizes - beta * traces[0],
        second=p**2 @ few.sizes - 2 * beta * traces[1] + beta**2 * traces[2],
    )  # fmt: skip


def _unit(whole: _Whole, member: Member, rows: np.ndarray, m: int) -> _Unit:
    g = rows.shape[1]
    f = (
        _corner(whole.forms[0], rows),
        _corner(whole.forms[1], rows),
        _corner(whole.forms[2], rows),
    )
    mean = np.append(-np.ones(g), 1.0)
    D = -np.diag(np.append(np.ones(g), 0.0)) - _shift(member.a) / m * np.outer(mean, mean)
    delta = whole.beta[:, None, None, None] * D
    eye = np.eye(g + 1)
    R = _linalg.host_solve(eye + delta @ f[0], np.broadcast_to(eye, f[0].shape))
    Q = eye[:, :g] - (member.a / m) * mean[:, None]
    return _Unit(f=f, D=D, R=R, T=R @ delta, Y=R @ Q, mean=mean)


def _shift(a: float) -> float:
    """About a mean that has moved by ``a`` of the way the second moment loses this share of it."""
    return 2 * a - a * a


def _back_units(
    few: Few, whole: _Whole, unit: _Unit, member: Member, rows: np.ndarray, weights: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray, float]:
    """Gradients of the mean loss in ``F_j`` (through refits), ``beta`` and ``a``."""
    n, g = len(few.units), rows.shape[1]
    m = n - g
    (f1, f2, f3), R, T, Y = unit.f, unit.R, unit.T, unit.Y
    w, signal, noise = (v[:, None, None, None] for v in (weights, few.signal, few.noise))
    YY, Rt, Tf2 = Y @ Y.swapaxes(-1, -2), R.swapaxes(-1, -2), T @ f2
    to_T = 2 * w * g * (f2 - noise * f3 + noise * (f2 @ Tf2))
    to_f1 = -T @ to_T @ T - 2 * w * signal * _even(Tf2 @ YY)
    to_f2 = w * (signal * YY + 2 * g * (T + noise * (Tf2 @ T)))
    to_f3 = -2 * w * g * noise * T
    to_delta = Rt @ to_T @ R - 2 * w * signal * _even(Rt @ f2 @ YY @ f1)
    to_Q = 2 * w * signal * (Rt @ f2 @ Y)
    forms = [_spread(each, rows, n) for each in (to_f1, to_f2, to_f3)]
    to_beta = np.einsum("tuij,ij->t", to_delta, unit.D)
    to_shift = -np.einsum("tuij,i,j,t->", to_delta, unit.mean, unit.mean, whole.beta) / m
    to_a = to_shift * (2 - 2 * member.a) - np.einsum("tuij,i->", to_Q, unit.mean) / m
    return forms, to_beta, float(to_a)


def _back_whole(
    few: Few, whole: _Whole, forms: list[np.ndarray], weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients in ``base`` and ``beta`` from those in ``F_j`` and the traces' own weights."""
    G1, G2, G3 = whole.grams
    N, beta, middle = whole.inverse, whole.beta, whole.middle
    F1, F2, F3 = forms
    first, second = -2 * weights, weights * few.noise
    B, u, v = beta[:, None, None], first[:, None, None], second[:, None, None]
    NG2 = N @ G2
    GNG = G2 @ NG2
    X = N @ F3 @ N
    side = NG2 @ X
    to_N = 2 * _even(F2 @ NG2 + middle @ N @ F3) - B * (G2 @ X @ G2) - B * u * G2
    to_N += 2 * B * v * (B * GNG - G3)
    to_G3 = X - 2 * B * v * N
    to_G2 = N @ F2 @ N - 2 * B * _even(side) - B * u * N + 2 * B**2 * v * whole.forms[1]
    turned = N @ to_N @ N
    to_G1 = N @ F1 @ N - B * turned
    t1, t2, t3 = whole.traces
    to_beta = -first * t1 + 2 * second * (beta * t3 - t2) - _dot(X, GNG) - _dot(turned, G1)
    to_beta -= _dot(F1, whole.forms[0] @ whole.forms[0])
    flat = few.grams.reshape(len(few.sizes), -1)
    g1, g2, g3 = (each.reshape(len(beta), -1) @ flat.T for each in (to_G1, to_G2, to_G3))
    p = whole.p
    to_p = g1 + 2 * p * g2 + 3 * p**2 * g3
    to_p += few.sizes * (first[:, None] + 2 * p * second[:, None])
    return np.sum(-few.signal[:, None] * p**2 * to_p, axis=0), to_beta


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``tr ab`` for each time."""
    return np.einsum("tij,tji->t", a, b)


def _trace(a: np.ndarray) -> np.ndarray:
    return np.trace(a, axis1=-2, axis2=-1)


def _even(a: np.ndarray) -> np.ndarray:
    return (a + a.swapaxes(-1, -2)) / 2


def _corner(F: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """``U' F U`` for every unit, ``(K, u, g + 1, g + 1)``."""
    g = rows.shape[1]
    out = np.empty((len(F), len(rows), g + 1, g + 1))
    ones = F.sum(axis=2)
    out[..., :g, :g] = F[:, rows[:, :, None], rows[:, None, :]]
    out[..., :g, g] = out[..., g, :g] = ones[:, rows]
    out[..., g, g] = ones.sum(axis=1)[:, None]
    return out


def _spread(f: np.ndarray, rows: np.ndarray, n: int) -> np.ndarray:
    """The adjoint of `_corner`: the sum of ``U f U'`` over units."""
    g = rows.shape[1]
    out = np.zeros((len(f), n, n))
    out[:, rows[:, :, None], rows[:, None, :]] = f[..., :g, :g]
    edge = np.zeros((len(f), n))
    edge[:, rows] = f[..., :g, g]
    out += edge[:, :, None] + edge[:, None, :]
    return out + f[..., g, g].sum(axis=1)[:, None, None]
