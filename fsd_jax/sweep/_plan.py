"""What to sweep: cells in grid order, groups that share draws; all of it in its final form."""

import itertools
import json
import math
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
        axes: what is swept, for the manifest.
        cells: head of each row of results, in grid order.
        groups: the work.
        seed: base seed, below ``2**32``.
        replicates: replicates of every cell.
        dtype: of the draws, for the manifest.
        settings: what all cells share, for the manifest.
    """

    axes: dict[str, Any]
    cells: Sequence[dict[str, Any]]
    groups: Sequence[Group]
    seed: int
    replicates: int
    dtype: str
    settings: dict[str, Any] = field(default_factory=dict)

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


def plan(
    axes: Mapping[str, Sequence[Any]],
    make: Callable[..., tuple[Program, Sequence[Any]]],
    *,
    rows: Sequence[str] = (),
    cell: Callable[[dict[str, Any]], dict[str, Any] | None] = dict,
    identity: Callable[[dict[str, Any]], str] = json.dumps,
    settings: Mapping[str, Any] | None = None,
    replicates: int = 1000,
    seed: int = 0,
    dtype: DTypeLike = "float32",
) -> Plan:
    """Plan a sweep of your own function over a full grid; `run` does it.

    Args:
        axes: what is swept: values by name, the slowest first.
        make: called by name with a value of each axis that is not in `rows`; gives the `Program`
            for these cells, and the arrays that it is called with.
        rows: the axes whose values are rows of one program's result, in the order of `axes`. Their
            cells share their draws.
        cell: from a value for each axis to the cell's columns in the results, or to None where the
            grid has no such cell. What it changes is what `make` and `identity` see.
        identity: from the values that `make` gets to the text from which their random stream
            follows. Equal texts give equal draws.
        settings: what all cells share, for the manifest.
        replicates: replicates of each cell.
        seed: base seed, from 0 to ``2**32 - 1``.
        dtype: of the draws, for the manifest.

    Returns:
        The plan.

    Raises:
        ValueError: no such grid, more than ten million cells, or numbers out of range.

    Example:
        >>> import dataclasses, jax
        >>> from fsd_jax import sweep
        >>> @dataclasses.dataclass(frozen=True)
        ... class Largest:
        ...     n: int
        ...     block: int = 64
        ...
        ...     def __call__(self, key):
        ...         return jax.random.normal(key, (1, self.n, self.block)).max(axis=1)
        >>> plan = sweep.plan({"n": [10, 100]}, lambda n: (Largest(n), ()), replicates=128)
        >>> plan.cells, plan.compilations, plan.blocks
        ([{'n': 10}, {'n': 100}], 2, 4)
    """
    axes = {name: axis(name, values, _entry) for name, values in _given(axes).items()}
    check_number_of_cells(axes)
    for name in rows:
        _checks.choice("rows", name, tuple(axes))
    cells: list[dict[str, Any]] = []
    members: dict[tuple[Any, ...], tuple[dict[str, Any], list[int]]] = {}
    for values in itertools.product(*axes.values()):
        found = cell(dict(zip(axes, values, strict=True)))
        if found is None:
            continue
        point = {name: found[name] for name in axes if name not in rows}
        members.setdefault(tuple(point.values()), (point, []))[1].append(len(cells))
        cells.append(found)
    groups = []
    for point, places in members.values():
        program, arguments = make(**point)
        group = Group(
            identity=identity(point),
            cells=tuple(places),
            program=program,
            arguments=tuple(a if hasattr(a, "dtype") else np.asarray(a) for a in arguments),
        )
        groups.append(group)
    return Plan(
        axes=axes,
        cells=cells,
        groups=groups,
        seed=seed_of(seed),
        replicates=_checks.dimension("replicates", replicates),
        dtype=str(dtype),
        settings=dict(settings or {}),
    )


def _given(axes: Any) -> Mapping[str, Any]:
    _checks.instance("axes", axes, Mapping, "map each name to its values")
    if not axes:
        raise ValueError("axes must name at least one axis, got none")
    return axes


def _entry(name: str, value: Any) -> Any:
    found = plain(name, value)
    if isinstance(found, (list, dict)):
        raise ValueError(f"{name} must be a sequence of numbers or words, got {value!r:.200}")
    return found


def settled(plan: Plan) -> Plan:
    """The plan as it is run and recorded: plain numbers and words, each cell in one group.

    Raises:
        ValueError: what cannot be run or written down, before any work.
    """
    _checks.instance("plan", plan, Plan, "make one with sweep.plan")
    axes, settings = _named("axes", plan.axes), _named("settings", plan.settings)
    for given, names in {"axes": axes, "settings": settings}.items():
        for name in ("replicates", "seed", "dtype"):
            if name in names:
                raise ValueError(f"{given} must not be called {name!r}, which every plan has")
    if both := axes.keys() & settings.keys():
        raise ValueError(f"settings must not be called as an axis is, got {sorted(both)}")
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
        settings=settings,
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
