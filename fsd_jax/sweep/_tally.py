"""Running statistics of the values of a group's cells, in float64 on the host."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

PERCENTS = (5, 50, 95)
"""Quantiles of the rows."""


@dataclass(kw_only=True)
class Tally:
    """Running statistics of a group's rows, in float64.

    Attributes:
        blocks: blocks merged.
        count: replicates merged.
        mean: ``(rows,)``.
        squares: ``(rows,)`` sums of squared deviations from the mean.
        bad: ``(rows,)`` replicates that were not finite.
        quantiles: ``(rows, Q)`` the blocks' sample quantiles, averaged.
    """

    blocks: int
    count: int
    mean: np.ndarray
    squares: np.ndarray
    bad: np.ndarray
    quantiles: np.ndarray

    @classmethod
    def empty(cls, rows: int) -> "Tally":
        """Nothing merged yet."""
        zeros = np.zeros(rows)
        return cls(
            blocks=0,
            count=0,
            mean=zeros,
            squares=zeros,
            bad=zeros,
            quantiles=np.zeros((rows, len(PERCENTS))),
        )

    def add(self, values: np.ndarray) -> None:
        """Merge a block's ``(rows, replicates)`` values (Chan et al., 1983)."""
        live = values.shape[1]
        total, wide = self.count + live, values.astype(np.float64)
        # The sample quantile that is one of the values: the inverse of the empirical distribution.
        places = [(live * percent + 99) // 100 - 1 for percent in PERCENTS]
        quantiles = np.partition(wide, places, axis=1)[:, places]
        with np.errstate(invalid="ignore", over="ignore"):
            mean = wide.mean(axis=1)
            squares = ((wide - mean[:, None]) ** 2).sum(axis=1)
            step = mean - self.mean
            self.mean = self.mean + step * (live / total)
            self.squares = self.squares + squares + step**2 * (self.count * live / total)
            self.quantiles = self.quantiles + (quantiles - self.quantiles) * (live / total)
        self.bad = self.bad + (~np.isfinite(wide)).sum(axis=1)
        self.blocks, self.count = self.blocks + 1, total

    def to_json(self) -> dict[str, Any]:
        """As JSON values, which keep every digit."""
        arrays = {name: getattr(self, name).tolist() for name in _ARRAYS}
        return {"blocks": self.blocks, "count": self.count, **arrays}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "Tally":
        """Back from `to_json`."""
        arrays = {name: np.asarray(entry[name], float) for name in _ARRAYS}
        return cls(blocks=entry["blocks"], count=entry["count"], **arrays)


_ARRAYS = ("mean", "squares", "bad", "quantiles")
