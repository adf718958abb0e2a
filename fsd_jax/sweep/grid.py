"""What to sweep: values written as specifications, cells in grid order, groups that share draws."""

import math
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Float, Key

Value = float | int | None
MOST_VALUES = 100_000
_RANGE = re.compile(r"(?P<kind>lin|log)(?P<number>\d+)")


def parse_spec(name: str, text: str, *, whole: bool = False, infinite: bool = False) -> list[Value]:
    """The values of a specification: ``10``, ``4,8,16``, ``4:4096:log2`` or ``1:9:lin5``.

    ``logB`` multiplies by B from the first value up to the last; ``linN`` takes N equally spaced
    values, ends included.

    Args:
        name: option's name, for messages.
        text: the specification.
        whole: the values must be integers (``1e4`` is one).
        infinite: ``inf`` is allowed and becomes None.

    Returns:
        The values, in the order written, without repetition.

    Raises:
        ValueError: not a specification, or a value out of range.
    """
    values: list[float] = []
    for part in text.split(","):
        values += _range(name, part) if ":" in part else [_number(name, part)]
    parsed = [_admit(name, value, whole, infinite) for value in values]
    return list(dict.fromkeys(parsed))


def _admit(name: str, value: float, whole: bool, infinite: bool) -> Value:
    if math.isinf(value) and infinite:
        return None
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value:g}")
    if not whole:
        return value
    if value != int(value) or value < 1:
        raise ValueError(f"{name} takes integers of at least 1, got {value:g}")
    return int(value)


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(
            f"{name} takes a number, a list 4,8,16 or a range 4:4096:log2 or 1:9:lin5, got {text!r}"
        ) from None


def _range(name: str, text: str) -> list[float]:
    parts = text.split(":")
    how = _RANGE.fullmatch(parts[-1])
    if len(parts) != 3 or how is None:
        raise ValueError(
            f"{name} takes ranges like 4:4096:log2 (times 2) or 1:9:lin5 (5 values), got {text!r}"
        )
    low, high, number = _number(name, parts[0]), _number(name, parts[1]), int(how["number"])
    if not low <= high:
        raise ValueError(f"{name}: a range goes up, got {text!r}")
    if how["kind"] == "lin":
        if not 1 <= number <= MOST_VALUES:
            raise ValueError(f"{name}: linN needs N from 1 to {MOST_VALUES}, got {text!r}")
        return [float(x) for x in np.linspace(low, high, number)]
    if number < 2 or low <= 0:
        raise ValueError(f"{name}: logB needs B of at least 2 and a positive start, got {text!r}")
    values = [low]
    # A last value that is off by rounding is still the last value.
    while values[-1] * number <= high * (1 + 1e-12):
        values.append(values[-1] * number)
    return values


@runtime_checkable
class Program(Protocol, Hashable):
    """What is compiled: from a key and arrays to the values of one block of replicates."""

    @property
    def block(self) -> int:
        """Replicates of one call."""

    def __call__(self, key: Key[Array, ""], *arguments: Array) -> Float[Array, "rows block"]:
        """One row of values for each cell of a group."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """Cells that share their draws.

    Attributes:
        identity: stable text from which the random stream follows.
        cells: places in the plan of the program's rows.
        program: what to run; groups with equal programs and shapes share a compilation.
        arguments: what to run it on.
    """

    identity: str
    cells: tuple[int, ...]
    program: Program
    arguments: tuple[np.ndarray, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """A whole sweep.

    Attributes:
        axes: what was asked for, for the manifest.
        cells: head of each row of results, in grid order.
        groups: the work.
        seed: base seed.
        replicates: replicates of every cell.
        dtype: of the draws, for the manifest.
    """

    axes: dict[str, Any]
    cells: Sequence[dict[str, Any]]
    groups: Sequence[Group]
    seed: int
    replicates: int
    dtype: str

    @property
    def compilations(self) -> int:
        """Number of programs that will be compiled."""
        return len(
            {(g.program, tuple((a.shape, a.dtype) for a in g.arguments)) for g in self.groups}
        )

    @property
    def blocks(self) -> int:
        """Number of blocks of the whole sweep."""
        return sum(-(-self.replicates // g.program.block) for g in self.groups)


def check_axis(name: str, values: Any) -> None:
    """Refuse what is not a sequence of different values.

    Raises:
        ValueError: naming the axis.
    """
    proper = isinstance(values, Sequence) and not isinstance(values, str) and len(values)
    if not proper or len(set(values)) < len(values):
        raise ValueError(f"{name} must be a sequence of different values, got {values!r}")
