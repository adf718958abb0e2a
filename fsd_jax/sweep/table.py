"""Durable results: a journal while a sweep runs, one JSON line a cell when it is done."""

import hashlib
import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from fsd_jax._files import write_text
from fsd_jax._provenance import provenance
from fsd_jax.sweep.grid import Plan

PERCENTS = (5, 50, 95)
"""Quantiles of the rows."""
RESULTS, MANIFEST, JOURNAL = "results.jsonl", "manifest.json", "journal.jsonl"
SYNC_EVERY = 1.0
"""Seconds between two forced writes to disk: a kill loses nothing, a power cut this much."""


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
        return cls(blocks=0, count=0, mean=zeros, squares=zeros, bad=zeros,
                   quantiles=np.zeros((rows, len(PERCENTS))))  # fmt: skip

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


def configuration(plan: Plan) -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        **plan.axes,
        "replicates": plan.replicates,
        "seed": plan.seed,
        "dtype": plan.dtype,
    }


def config_hash(plan: Plan) -> str:
    """Twelve hex digits that name a configuration."""
    text = json.dumps(configuration(plan), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def read_manifest(folder: str | PathLike[str]) -> dict[str, Any] | None:
    """The manifest of a sweep's folder, or None where there is none.

    Raises:
        ValueError: a manifest that cannot be read.
    """
    path = Path(folder) / MANIFEST
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read {str(path)!r}: {error}") from None


class Journal:
    """The tallies so far, each batch's on a line of its own; the last line may be torn.

    Attributes:
        tallies: by place of the group in the plan.
        writes: whether this process owns the folder; the others only read.
    """

    def __init__(self, plan: Plan, folder: Path, *, resume: bool, writes: bool) -> None:
        """Read what the folder holds, changing nothing.

        Raises:
            ValueError: it holds another sweep or, without `resume`, any sweep.
        """
        self.writes = writes
        self._plan, self._folder, self._path = plan, folder, folder / JOURNAL
        self._synced = time.monotonic()
        manifest = read_manifest(folder)
        self._starts = manifest is None
        self.tallies: dict[int, Tally] = {}
        if manifest is None:
            return
        if not resume:
            raise ValueError(
                f"{str(folder)!r} holds a sweep already; resume it, or choose another folder"
            )
        _compare(manifest["configuration"], configuration(plan), folder)
        self.tallies, self._whole = _read_journal(self._path)

    def begin(self) -> None:
        """Make the folder ready for `append`: a manifest, and a journal without a torn line."""
        if not self.writes:
            return
        if self._starts:
            self._folder.mkdir(parents=True, exist_ok=True)
            # A journal without a manifest belongs to nothing.
            self._path.unlink(missing_ok=True)
            _write_manifest(self._plan, self._folder)
        elif self._path.exists():
            os.truncate(self._path, self._whole)

    def append(self, index: int, tally: Tally) -> None:
        """Record a group's tally."""
        if not self.writes:
            return
        line = json.dumps({"group": index, **tally.to_json()}) + "\n"
        with open(self._path, "ab") as file:
            file.write(line.encode())
            file.flush()
            if time.monotonic() - self._synced > SYNC_EVERY:
                os.fsync(file.fileno())
                self._synced = time.monotonic()


def _read_journal(path: Path) -> tuple[dict[int, Tally], int]:
    """The last tally of each group, and the length of the part that is whole."""
    tallies: dict[int, Tally] = {}
    whole = 0
    if not path.exists():
        return tallies, whole
    with open(path, "rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            entry = json.loads(line)
            tallies[entry["group"]] = Tally.from_json(entry)
            whole += len(line)
    return tallies, whole


def _write_manifest(plan: Plan, folder: Path) -> None:
    manifest = {
        "configuration": configuration(plan),
        "hash": config_hash(plan),
        "cells": len(plan.cells),
        "compilations": plan.compilations,
        "provenance": provenance(),
    }
    text = json.dumps(manifest, indent=2) + "\n"
    write_text(folder / MANIFEST, text)


def _compare(held: Mapping[str, Any], wanted: Mapping[str, Any], folder: Path) -> None:
    for name in [*wanted, *(name for name in held if name not in wanted)]:
        if held.get(name) != wanted.get(name):
            raise ValueError(
                f"{str(folder)!r} holds a sweep with {name} = {held.get(name)}, not "
                f"{wanted.get(name)}; give the same {name}, or choose another folder"
            )


def write_results(plan: Plan, folder: Path, journal: Journal, failed: Mapping[int, str]) -> Path:
    """Replace ``results.jsonl``: a row for each cell, in grid order."""
    rows: dict[int, dict[str, Any]] = {}
    for index, group in enumerate(plan.groups):
        tally = journal.tallies[index]
        for row, place in enumerate(group.cells):
            rows[place] = _row(plan, plan.cells[place], tally, row, failed.get(index))
    text = "".join(json.dumps(rows[place], allow_nan=False) + "\n" for place in sorted(rows))
    path = folder / RESULTS
    if journal.writes:
        write_text(path, text)
    return path


def _row(
    plan: Plan, cell: Mapping[str, Any], tally: Tally, row: int, failed: str | None
) -> dict[str, Any]:
    status = failed or "ok"
    if not failed and tally.bad[row] > 0:
        all_bad = tally.bad[row] == tally.count
        status = "undefined" if all_bad else f"not finite in {int(tally.bad[row])} replicates"
    fine = status == "ok"
    stderr = math.sqrt(tally.squares[row] / max(tally.count - 1, 1) / max(tally.count, 1))
    return {
        **cell,
        "mean": float(tally.mean[row]) if fine else None,
        "stderr": stderr if fine and tally.count > 1 else None,
        **{
            f"q{percent:02d}": float(value) if fine else None
            for percent, value in zip(PERCENTS, tally.quantiles[row], strict=True)
        },
        "replicates": plan.replicates,
        "seed": plan.seed,
        "status": status,
    }


def read_results(folder: str | PathLike[str]) -> list[dict[str, Any]]:
    """The rows of a finished sweep.

    Raises:
        ValueError: no finished sweep in the folder.
    """
    path = Path(folder) / RESULTS
    try:
        return [json.loads(line) for line in path.read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{str(folder)!r} holds no finished sweep ({error}); run or resume it first"
        ) from None


def load_results(folder: str | PathLike[str]) -> Any:
    """The rows of a finished sweep as a pandas DataFrame, one line a cell.

    Args:
        folder: the sweep's folder.

    Returns:
        A ``pandas.DataFrame`` in grid order.

    Raises:
        ImportError: pandas is missing: ``pip install 'fsd-jax[sweep]'``.
        ValueError: no finished sweep in the folder.
    """
    try:
        import pandas
    except ImportError:
        raise ImportError("load_results needs pandas: pip install 'fsd-jax[sweep]'") from None
    return pandas.DataFrame(read_results(folder))


def to_grid(folder: str | PathLike[str]) -> Any:
    """A finished sweep over a full grid as an xarray Dataset, with the axes as dimensions.

    A perfect source is ``n_s = inf``; an ambient dimension that does not matter is 0.

    Args:
        folder: the sweep's folder.

    Returns:
        An ``xarray.Dataset`` with ``mean``, ``stderr`` and the quantiles.

    Raises:
        ImportError: xarray is missing: ``pip install 'fsd-jax[sweep]'``.
        ValueError: no finished sweep in the folder.
    """
    try:
        import xarray  # noqa: F401
    except ImportError:
        raise ImportError("to_grid needs xarray: pip install 'fsd-jax[sweep]'") from None
    frame = load_results(folder)
    manifest = read_manifest(folder)
    assert manifest is not None, "a finished sweep has a manifest"
    axes = [n for n in manifest["configuration"] if n not in ("replicates", "seed", "dtype")]
    frame["n_s"] = frame["n_s"].astype(float).fillna(np.inf)
    frame["D"] = frame["D"].fillna(0).astype(int)
    kept = [*axes, *(n for n in frame if n in ("mean", "stderr") or n.startswith("q"))]
    return frame[kept].set_index(axes).to_xarray()
