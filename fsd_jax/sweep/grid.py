"""What to sweep: cells in grid order, groups that share draws; all of it in its final form."""

import math
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key

from fsd_jax import _checks
from fsd_jax._files import plain

MOST_SEED = 2**32 - 1
"""A generator is seeded with 32 bits; what is above them would be dropped."""
MOST_SIZE = 2**31 - 1
"""Of samples and dimensions that become shapes or are counted in int32."""
MOST_CELLS = 10_000_000
_TAKEN = re.compile(r"mean|stderr|q\d\d|replicates|seed|status")
"""Names of the columns that a row gets beside its cell's."""


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
        seed: base seed, below ``2**32``.
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


def settled(plan: Plan) -> Plan:
    """The plan as it is run and recorded: plain numbers and words, each cell in one group.

    Raises:
        ValueError: what cannot be run or written down, before any work.
    """
    _checks.instance("plan", plan, Plan, "make one with plan_errors, or with Plan")
    axes = _named("axes", plan.axes)
    for name in ("replicates", "seed", "dtype"):
        if name in axes:
            raise ValueError(f"axes must not be called {name!r}, which every plan has")
    cells = [_named("cells", cell) for cell in plan.cells]
    for name in {name for cell in cells for name in cell}:
        if _TAKEN.fullmatch(name):
            raise ValueError(f"cells must not have a column {name!r}, which every row has")
    for number, group in enumerate(plan.groups):
        _checks.instance(f"groups[{number}]", group, Group, "make it with sweep.Group")
        _checks.dimension(f"groups[{number}].program.block", group.program.block)
    places = [place for group in plan.groups for place in group.cells]
    if sorted(places) != list(range(len(cells))) or not cells:
        raise ValueError(
            f"groups must hold the place of each of the {len(cells)} cells once and there must be "
            f"one, got places {sorted(places)[:8]}{' ...' if len(places) > 8 else ''}"
        )
    return replace(
        plan,
        axes=axes,
        cells=cells,
        seed=seed_of(plan.seed),
        dtype=str(plan.dtype),
        replicates=_checks.dimension("replicates", plan.replicates),
    )


def _named(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} must map names to values, got {_checks.named(value)}")
    return plain(name, value)


def seed_of(seed: Any) -> int:
    """A checked seed: different ones give different draws.

    Raises:
        ValueError: no integer, or out of range.
    """
    return _checks.dimension("seed", seed, low=0, high=MOST_SEED)


def axis(name: str, values: Any, admit: Callable[[str, Any], Any]) -> list[Any]:
    """The values of an axis, as `admit` returns them: the checked value is the one that is used.

    Args:
        name: the axis.
        values: a sequence or an array with one axis; NumPy's scalars become Python's.
        admit: from the axis' name and a value to the value in its final form.

    Raises:
        ValueError: no sequence of different values, or what `admit` refuses.
    """
    given = _listed(values)
    found = [admit(name, value) for value in given or ()]
    if not found or len(set(found)) < len(found):
        raise ValueError(f"{name} must be a sequence of different values, got {values!r:.200}")
    return found


def _listed(values: Any) -> list[Any] | None:
    if isinstance(values, (np.ndarray, jax.Array)) or hasattr(values, "__array__"):
        try:
            array = np.asarray(values)
        except Exception:  # An array-like may refuse with an exception of any kind.
            return None
        if array.ndim != 1 or np.ma.isMaskedArray(values):
            return None
        # Long double has no Python number of its own.
        return (array.astype(float) if array.dtype.char == "g" else array).tolist()
    if isinstance(values, Sequence) and not isinstance(values, (str, bytes)):
        return [_scalar(value) for value in values]
    return None


def _scalar(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray, jax.Array)) and np.ndim(value) == 0:
        return float(value) if value.dtype.char == "g" else value.item()
    return value


def number(dtype: DTypeLike, *, zero: bool = False) -> Callable[[str, Any], float]:
    """For `axis`: positive finite numbers in `dtype`; with `zero`, zero too."""

    def admit(name: str, value: Any) -> float:
        _checks.positive(name, value, dtype, ndim=(0,), zero=zero)
        return float(value)

    return admit


def size(high: float = math.inf, *, none: bool = False) -> Callable[[str, Any], int | None]:
    """For `axis`: integers from 1 to `high`; with `none`, None too."""

    def admit(name: str, value: Any) -> int | None:
        if value is None and none:
            return None
        return _checks.dimension(name, value, high=high)

    return admit


def word(options: Sequence[str]) -> Callable[[str, Any], str]:
    """For `axis`: one of some words."""

    def admit(name: str, value: Any) -> str:
        _checks.choice(name, value, tuple(options))
        return str(value)

    return admit


def check_number_of_cells(axes: Mapping[str, Sequence[Any]]) -> None:
    """Refuse a grid that would fill the memory before it is swept.

    Raises:
        ValueError: more than `MOST_CELLS`.
    """
    cells = math.prod(len(values) for values in axes.values())
    if cells > MOST_CELLS:
        raise ValueError(
            f"the grid has {cells} cells, and {MOST_CELLS} are the most; take fewer values of "
            + ", ".join(name for name, values in axes.items() if len(values) > 1)
        )
