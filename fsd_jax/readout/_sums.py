"""Weighted sums of features and targets, group by group, in float64 on the host."""

import os
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from jax.typing import ArrayLike

from fsd_jax import _checks, _npz

ROWS_AT_ONCE = 2**22
"""Numbers converted to float64 at a time: 32 MiB."""


class Group(NamedTuple):
    """What is known of one group: its rows while they are few, then only their sums.

    Attributes:
        rows: ``(m, p + q)`` rows ``sqrt(w) (h, y)``, or None.
        gram: ``(p + q, p + q)`` their sum of squares and products, or None.
    """

    rows: np.ndarray | None = None
    gram: np.ndarray | None = None

    def squares(self, width: int) -> np.ndarray:
        """The sums of squares and products, ``(p + q, p + q)``."""
        if self.gram is not None:
            return self.gram
        if self.rows is None:
            return np.zeros((width, width))
        return self.rows.T @ self.rows

    def plus(self, other: "Group", width: int) -> "Group":
        """Both together."""
        if other.rows is None and other.gram is None:
            return self
        if self.gram is None and other.gram is None:
            held = [part for part in (self.rows, other.rows) if part is not None]
            if sum(len(part) for part in held) <= width // 2:
                return Group(rows=np.concatenate(held))
        return Group(gram=self.squares(width) + other.squares(width))


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Readout:
    """Sums over data, from which a linear read-out ``h'W`` is fitted: they can be added and merged.

    ``H = sum w h h'``, ``R = sum w h y'``, ``q = sum w |y|^2``: weighted sums, never means. A
    group's rows may come in several batches. Everything is float64 on the host; a group takes
    ``(p + q)^2`` numbers, or its rows while these are fewer than half of ``p + q``.

    Attributes:
        features: ``p``.
        outputs: ``q``.
        members: one `Group` a group.
        count: ``(groups,)`` rows added.
    """

    features: int
    outputs: int
    members: tuple[Group, ...]
    count: np.ndarray

    @classmethod
    def empty(cls, *, features: int, outputs: int, groups: int) -> "Readout":
        """No data yet.

        Args:
            features: ``p``; add a feature that is one for a bias.
            outputs: ``q``.
            groups: how many groups there will be.

        Raises:
            ValueError: sizes that are no positive integers, or too large for this machine.
        """
        p = _checks.dimension("features", features)
        q = _checks.dimension("outputs", outputs)
        n = _checks.dimension("groups", groups)
        needed, there = 8 * (n + 3) * (p + q) ** 2, _memory()
        if there is not None and needed > there:
            raise ValueError(
                f"features={p} with groups={n} needs {needed / 2**30:.1f} GiB and this machine has "
                f"{there / 2**30:.1f}: choose fewer features (a projection of them), or fewer "
                "groups (several samples each)"
            )
        return cls(features=p, outputs=q, members=(Group(),) * n, count=np.zeros(n, np.int64))

    def __repr__(self) -> str:
        seen = int(np.sum(self.count > 0))
        return (
            f"Readout(features={self.features}, outputs={self.outputs}, "
            f"groups={seen} of {len(self.members)}, rows={int(self.count.sum())})"
        )

    @property
    def groups(self) -> int:
        """How many groups there are, with rows or not."""
        return len(self.members)

    def add(
        self,
        features: ArrayLike,
        targets: ArrayLike,
        group: ArrayLike,
        weight: ArrayLike | None = None,
    ) -> "Readout":
        """The sums with some more rows; this one is left as it is.

        Args:
            features: ``(m, p)``.
            targets: ``(m, q)``.
            group: ``(m,)`` integers from 0, or one for all rows.
            weight: ``(m,)`` or one for all rows, not negative; None is one.

        Raises:
            ValueError: wrong shapes, NaN or infinite entries, unknown groups.
        """
        h = _matrix("features", features, self.features)
        y = _matrix("targets", targets, self.outputs)
        if len(h) != len(y):
            raise ValueError(f"features has {len(h)} rows and targets {len(y)}; give one a row")
        labels, w = _labels(group, len(h), self.groups), _weights(weight, len(h))
        members, count = list(self.members), self.count.copy()
        step = max(1, ROWS_AT_ONCE // self.width)
        for g in np.unique(labels):
            here = np.flatnonzero(labels == g)
            count[g] += len(here)
            for start in range(0, len(here), step):
                some = here[start : start + step]
                rows = np.concatenate([h[some], y[some]], axis=1, dtype=np.float64)
                rows *= np.sqrt(w[some])[:, None]
                members[g] = members[g].plus(self._group(rows), self.width)
        return replace(self, members=tuple(members), count=count)

    def merge(self, other: "Readout") -> "Readout":
        """The sums of both, for batches that were added on different devices or processes.

        Raises:
            ValueError: not the same features, outputs and groups.
        """
        _checks.instance("other", other, Readout)
        sizes = [(r.features, r.outputs, r.groups) for r in (self, other)]
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"other must have the same (features, outputs, groups) {sizes[0]}, got {sizes[1]}"
            )
        pairs = zip(self.members, other.members, strict=True)
        members = tuple(one.plus(two, self.width) for one, two in pairs)
        return replace(self, members=members, count=self.count + other.count)

    def without(self, group: int) -> "Readout":
        """The sums of all other groups; that group is one without rows."""
        g = _checks.dimension("group", group, low=0, high=self.groups - 1)
        members, count = list(self.members), self.count.copy()
        members[g], count[g] = Group(), 0
        return replace(self, members=tuple(members), count=count)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Store the sums as npz, atomically, for a pass that is to go on later (`load`)."""
        arrays = {"sizes": np.array([self.features, self.outputs]), "count": self.count}
        for g, member in enumerate(self.members):
            held = {kind: a for kind, a in member._asdict().items() if a is not None}
            arrays |= {f"{kind}_{g}": a for kind, a in held.items()}
        _npz.write_arrays(_checks.path("path", path), arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Readout":
        """Sums that `save` stored.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not such a file, or a damaged one.
        """
        path = _checks.path("path", path)
        arrays = _npz.read_arrays(path)
        try:
            p, q = (int(size) for size in arrays["sizes"])
            count = arrays["count"]
            members = tuple(
                Group(rows=arrays.get(f"rows_{g}"), gram=arrays.get(f"gram_{g}"))
                for g in range(len(count))
            )
            found = cls(features=p, outputs=q, members=members, count=count)
            shapes = {m.squares(p + q).shape for m in members}
            if shapes != {(p + q, p + q)} or not np.all(np.isfinite(found.total)):
                raise ValueError("its sums have the wrong shape, or are not finite")
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{str(path)!r} does not hold a Readout ({error})") from None
        return found

    @property
    def width(self) -> int:
        """``p + q``."""
        return self.features + self.outputs

    @cached_property
    def total(self) -> np.ndarray:
        """``(p + q, p + q)`` sums over all groups."""
        return np.sum([g.squares(self.width) for g in self.members], axis=0)

    @property
    def H(self) -> np.ndarray:
        """``(p, p)``, over all groups."""
        return self.total[: self.features, : self.features]

    @property
    def R(self) -> np.ndarray:
        """``(p, q)``, over all groups."""
        return self.total[: self.features, self.features :]

    @property
    def q(self) -> float:
        """``sum w |y|^2``, over all groups."""
        return float(np.trace(self.total[self.features :, self.features :]))

    def _group(self, rows: np.ndarray) -> Group:
        if len(rows) <= self.width // 2:
            return Group(rows=rows)
        return Group(gram=rows.T @ rows)


def _matrix(name: str, value: Any, columns: int) -> np.ndarray:
    given = _checks.array(name, value)
    if _checks.is_traced(given):
        raise ValueError(f"{name} is traced, and sums are kept on the host: add them outside jit")
    array = np.asarray(given)
    if array.ndim != 2 or array.shape[1] != columns:
        raise ValueError(f"{name} must have shape (m, {columns}), got {array.shape}")
    if not np.all(np.isfinite(array)):
        row = int(np.argmin(np.isfinite(array).all(axis=1)))
        raise ValueError(f"{name} has NaN or infinite entries (first: row {row})")
    return array


def _labels(group: Any, rows: int, groups: int) -> np.ndarray:
    array = np.asarray(group)
    if array.dtype.kind not in "iu" or array.shape not in ((), (rows,)):
        raise ValueError(
            f"group must be one integer or {rows} of them, got shape {array.shape} and dtype "
            f"{array.dtype}"
        )
    if array.size and not 0 <= int(array.min()) <= int(array.max()) < groups:
        raise ValueError(
            f"group must be from 0 to {groups - 1}, got {int(array.min())} to {int(array.max())}"
        )
    return np.broadcast_to(array, (rows,))


def _weights(weight: Any, rows: int) -> np.ndarray:
    if weight is None:
        return np.ones(rows)
    array = np.asarray(_checks.array("weight", weight)).astype(np.float64)
    if array.shape not in ((), (rows,)):
        raise ValueError(f"weight must be one number or {rows} of them, got shape {array.shape}")
    if not np.all(np.isfinite(array) & (array >= 0)):
        raise ValueError("weight must be finite and not negative; leave out rows by weight 0")
    return np.broadcast_to(array, (rows,))


def _memory() -> int | None:
    """Bytes of this machine, where it tells."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
