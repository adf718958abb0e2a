"""What the data said about a result: a status inside a batch, an exception at the front door."""

import enum
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike


class Status(enum.IntFlag):
    """What the data said about a result; a batch carries one integer for each member.

    The flags in `ERRORS` make front-door functions raise when they see concrete values; all the
    others describe a result that is usable as it stands.
    """

    OK = 0
    NON_FINITE = 1
    """The input has NaN or infinite entries (or squares that overflow): the result is NaN."""
    BAD_VALUE = 2
    """A traced time, weight or variance was out of range: the result is NaN."""
    INDEFINITE = 1024
    """A covariance matrix has an eigenvalue below zero by more than rounding."""
    RANK_DEFICIENT = 4
    """The data determine fewer than ``latent_dim`` directions; the others are zero or completed."""
    NO_GAP = 8
    """Eigenvalues d and d+1 coincide to rounding: the subspace is one of many minimisers."""
    ROUTE_UNSAFE = 16
    """The route squares away digits that this cut needs; use ``route="svd"`` or float64."""
    NOT_CONVERGED = 32
    """An iteration stopped at its step limit before reaching its tolerance."""
    STATIONARY = 64
    """A stationary point that is not certified as the global minimum (diagonal latent)."""
    NOT_IDENTIFIED = 128
    """The loss fixes ``V G V'`` but not ``VV'`` (diagonal latent at a single time)."""
    TRUNCATED = 256
    """A stream was compressed and dropped more energy than the cut can afford."""
    ASYMMETRIC = 2048
    """A matrix given as a covariance is not symmetric; its symmetric half is used."""
    UNDERFLOW = 4096
    """An eigenvalue of a direction that counts is too small for its dtype, and zero: rescale."""
    DOWNCAST = 512
    """float64 input was computed in float32 because JAX's x64 mode is off."""


ERRORS = Status.NON_FINITE | Status.BAD_VALUE | Status.INDEFINITE | Status.ASYMMETRIC

_ERROR_BITS = int(ERRORS)

_ADVICE = {
    Status.NON_FINITE: "has NaN or infinite entries, or entries whose squares overflow its dtype; "
    "remove or rescale them",
    Status.INDEFINITE: "is indefinite (an eigenvalue is negative beyond rounding); a second moment "
    "is positive semi-definite, so check how it was estimated or project it",
    Status.BAD_VALUE: "has a time, weight or variance outside its range (times and variances must "
    "be positive and finite, and not so small that the dtype rounds them to zero)",
    Status.ASYMMETRIC: "must be symmetric, and differs from its transpose by more than rounding; "
    "pass (C + C.T)/2",
}


def describe(status: ArrayLike) -> str:
    """Words for a status: ``"ok"``, ``"rank_deficient|no_gap"``, or counts for a batch.

    Args:
        status: integer status, scalar or batched.

    Returns:
        One short line.
    """
    if is_traced(status):
        return "traced"
    try:
        codes = np.asarray(status)
    except Exception:  # An array-like may refuse with an exception of any kind.
        codes = np.asarray(None)
    if codes.dtype.kind not in "iu":
        raise ValueError(f"status must be an integer or an array of them, got {status!r:.60}")
    if codes.ndim:
        return f"{int(np.sum(codes == 0))} of {codes.size} ok"
    flags = Status(int(codes))
    return "|".join(flag.name.lower() for flag in Status if flag in flags and flag.name) or "ok"


def one_line(name: str, batch: Sequence[int], *facts: str, status: ArrayLike) -> str:
    """The `repr` of a result: its name, the batch's shape if any, facts, and the status."""
    words = [f"batch={tuple(batch)}"] if batch else []
    return f"{name}({', '.join([*words, *facts, 'status=' + describe(status)])})"


def is_traced(*values: Any) -> bool:
    """Whether any array in `values` is being traced, so that its numbers cannot be looked at."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values))


def settle(status: ArrayLike, *, name: str, throw: bool) -> None:
    """Raise on the flags in `ERRORS` if `throw` and the status is concrete (one host sync)."""
    if not throw or is_traced(status):
        return
    codes = np.asarray(status)
    if not np.any(codes & _ERROR_BITS):
        return
    found = Status(int(np.bitwise_or.reduce(codes.ravel())))
    for flag, advice in _ADVICE.items():
        if flag in found:
            where = ""
            if codes.ndim:
                bad = np.flatnonzero(codes.ravel() & int(flag))
                where = f" in {bad.size} of {codes.size} batch members (first: {bad[0]})"
            raise ValueError(f"{name}{where} {advice}. Pass throw=False to get a status instead.")


def flag(condition: ArrayLike, status: Status) -> jax.Array:
    """`status` as int32 where `condition` holds, else 0."""
    return jnp.where(condition, jnp.int32(int(status)), jnp.int32(0))
