"""The loss of every group under weights fitted to the others, for a whole path of strengths."""

from collections.abc import Iterator

import numpy as np
from jax.typing import ArrayLike

from fsd_jax import _linalg
from fsd_jax.readout._solve import Pencil, Problem, checked_strengths
from fsd_jax.readout._sums import Group, Readout

STEADY = 1e-6
"""A left-out group that carries all but so little of a direction is fitted without downdating."""


def leave_one_out(
    sums: Readout,
    *,
    prior: ArrayLike,
    strengths: ArrayLike,
    metric: ArrayLike | Readout | None = None,
) -> np.ndarray:
    """Each group's weighted sum of squared residuals under weights fitted to the other groups.

    Exact, without refitting: one factorisation of ``(H - H_g, M)`` serves a group at every
    strength. A group of fewer rows than half of ``p + q`` shares the factorisation of ``(H, M)``
    and costs a system of its rows' number at each strength: with ``F`` its rows, ``e`` their
    residuals under all the data and ``S = F (H + mu M)^+ F'``, the left-out ones are
    ``(I - S)^-1 e``.

    Args:
        sums: of the data, with at least two groups that have rows.
        prior: see `solve`.
        strengths: ``(k,)``, from 0 to infinity.
        metric: see `solve`.

    Returns:
        ``(k, groups)`` sums over a group's rows and outputs; divide by its weights for a mean. A
        group without rows has 0.

    Raises:
        ValueError: as `solve`, and fewer than two groups with rows.
    """
    mus = checked_strengths(strengths)
    problem = Problem.of(sums, prior, metric)
    if np.sum(sums.count > 0) < 2:
        raise ValueError(
            f"leave_one_out needs two groups with rows, got {int(np.sum(sums.count > 0))} of "
            f"{sums.groups}; give each sample its own group"
        )
    p = sums.features
    # Targets as the prior leaves them, so that squares of what it explains do not cancel.
    turn = np.block(
        [[np.eye(p), -problem.prior], [np.zeros((sums.outputs, p)), np.eye(sums.outputs)]]
    )
    members = {g: _shifted(m, turn) for g, m in enumerate(sums.members) if sums.count[g]}
    few = {g: m.rows for g, m in members.items() if m.rows is not None}
    many = [(g, m.gram) for g, m in members.items() if m.gram is not None]
    together = np.zeros((sums.width, sums.width))
    for rows in few.values():
        together += rows.T @ rows
    losses = np.zeros((len(mus), sums.groups))
    for g, gram, rest in _without_each(many, together):
        losses[:, g] = _many_rows(gram, rest, problem, mus)
    if few:
        total = sum((gram for _, gram in many), start=together)
        pencil = Pencil.of(total[:p, :p], problem.metric)
        for g, rows in few.items():
            losses[:, g] = _few_rows(rows, total, pencil, problem, mus)
    return losses


def _without_each(
    members: list[tuple[int, np.ndarray]], outside: np.ndarray
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Each group, its sums, and those of all others: added up, since a difference would cancel."""
    if len(members) <= 1:
        yield from ((g, gram, outside) for g, gram in members)
        return
    half = len(members) // 2
    for here, there in ((members[:half], members[half:]), (members[half:], members[:half])):
        yield from _without_each(here, sum((gram for _, gram in there), start=outside))


def _shifted(member: Group, turn: np.ndarray) -> Group:
    if member.rows is not None:
        return Group(rows=member.rows @ turn)
    return member if member.gram is None else Group(gram=turn.T @ member.gram @ turn)


def _many_rows(gram: np.ndarray, rest: np.ndarray, problem: Problem, mus: np.ndarray) -> np.ndarray:
    """``(k,)`` losses of a group, from a factorisation of the rest."""
    p = len(problem.metric)
    H, R = rest[:p, :p], rest[:p, p:]
    finite = (mus > 0) & np.isfinite(mus)
    pencil = Pencil.of(H, problem.metric) if finite.any() else None
    found = np.empty(len(mus))
    for i, mu in enumerate(mus):
        if pencil is not None and finite[i]:
            shift = pencil.solve(R, mu)
        else:
            shift = problem.shift(H, R, mu)
        ends = np.concatenate([shift, -np.eye(shift.shape[1])])
        found[i] = max(0.0, float(np.sum(ends * (gram @ ends))))
    return found


def _few_rows(
    rows: np.ndarray, total: np.ndarray, pencil: Pencil, problem: Problem, mus: np.ndarray
) -> np.ndarray:
    """``(k,)`` losses of a group, by downdating the fit to all the data."""
    p = len(problem.metric)
    F, y = rows[:, :p] @ pencil.basis, rows[:, p:]
    ahead = pencil.basis.T @ total[:p, p:]
    found = np.empty(len(mus))
    for i, mu in enumerate(mus):
        if np.isinf(mu):
            found[i] = np.sum(y**2)
            continue
        weight = pencil.inverse(mu)
        kept = np.eye(len(rows)) - (F * weight) @ F.T
        values, vectors = _linalg.host_eigh((kept + kept.T) / 2)
        if mu == 0 or values[0] < STEADY:
            gram = rows.T @ rows
            found[i] = _many_rows(gram, total - gram, problem, mus[i : i + 1])[0]
            continue
        residual = y - F @ (weight[:, None] * ahead)
        found[i] = np.sum((vectors.T @ residual / values[:, None]) ** 2)
    return found
