"""Durable results: what a sweep is, a manifest, one JSON line a cell; as tables and grids."""

import contextlib
import hashlib
import json
import math
import re
from collections.abc import Mapping
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fsd_jax import _checks
from fsd_jax._files import plain, write_new, write_text
from fsd_jax._provenance import provenance, randomness
from fsd_jax.sweep._plan import Plan
from fsd_jax.sweep._tally import PERCENTS, Tally

RESULTS, MANIFEST = "results.jsonl", "manifest.json"
FORMAT = 2
"""Of the folder. The journals of format 1 had no checksums."""


def configuration(plan: Plan) -> dict[str, Any]:
    """What was asked for, as JSON gives it back."""
    asked = {"replicates": plan.replicates, "seed": plan.seed, "dtype": str(plan.dtype)}
    return plain("axes", {**plan.axes, **plan.settings, **asked})


def identity(plan: Plan) -> dict[str, Any]:
    """All that the numbers depend on: what was asked for, JAX's settings, and the work itself."""
    return {
        "configuration": configuration(plan),
        "settings": randomness(),
        "work": _work(plan),
    }


def config_hash(plan: Plan) -> str:
    """Twelve hex digits that name a configuration."""
    return hash_of(identity(plan))


def hash_of(held: Mapping[str, Any]) -> str:
    """Twelve hex digits of an `identity`, or of a manifest that holds one."""
    text = json.dumps({name: held[name] for name in _IDENTITY}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


_IDENTITY = ("configuration", "settings", "work")


def _work(plan: Plan) -> str:
    """A digest of cells, programs and arguments, which a plan of your own does not name."""
    cells = json.dumps(list(plan.cells), default=partial(plain, "cells"))
    total = hashlib.sha256(cells.encode())
    for group in plan.groups:
        # An address in memory says nothing about what is there.
        program = re.sub(r" at 0x[0-9a-f]+", "", repr(group.program))
        kind = type(group.program).__qualname__
        places = list(map(int, group.cells))
        total.update(json.dumps([group.identity, places, kind, program]).encode())
        for argument in group.arguments:
            keys = jnp.issubdtype(argument.dtype, jax.dtypes.prng_key)
            array = np.asarray(jax.random.key_data(argument) if keys else argument)
            total.update(f"{array.dtype.str} {array.shape}".encode())
            total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()[:16]


def read_manifest(folder: str | PathLike[str]) -> dict[str, Any] | None:
    """The manifest of a sweep's folder, or None where there is none.

    Raises:
        ValueError: a manifest that cannot be read, or is damaged.
    """
    path = _checks.path("folder", folder) / MANIFEST
    try:
        held = json.loads(path.read_bytes())
        if not isinstance(held["configuration"], dict):
            raise ValueError("its configuration is no dictionary")
        if "format" in held and hash_of(held) != held["hash"]:
            raise ValueError("its hash does not match its content")
    except FileNotFoundError:
        return None
    except Exception as error:  # Whatever a parser thinks of damaged bytes.
        words = f"{type(error).__name__}: {error}"
        raise ValueError(f"cannot read {str(path)!r}: {words}") from None
    return held


def write_manifest(plan: Plan, found: Mapping[str, Any], folder: Path) -> None:
    """Begin a sweep, whose `identity` is given, in a folder that has none.

    Raises:
        FileExistsError: it has one.
    """
    manifest = {
        "format": FORMAT,
        **found,
        "hash": hash_of(found),
        "cells": len(plan.cells),
        "compilations": plan.compilations,
        "provenance": provenance(),
    }
    write_new(folder / MANIFEST, json.dumps(manifest, indent=2) + "\n")


def compare(held: Mapping[str, Any], wanted: Mapping[str, Any], folder: Path) -> None:
    """Refuse to go on, with the sweep of a wanted `identity`, in the folder of another one.

    Raises:
        ValueError: naming what differs.
    """
    if held.get("format") != FORMAT:
        raise ValueError(
            f"{str(folder)!r} holds a sweep of another release (format {held.get('format', 1)}, "
            f"not {FORMAT}), whose journal this one cannot verify; choose another folder"
        )
    if hash_of(held) == hash_of(wanted):
        return
    for part in ("configuration", "settings"):
        ours, theirs = wanted[part], held[part]
        for name in [*ours, *(name for name in theirs if name not in ours)]:
            if theirs.get(name) != ours.get(name):
                raise ValueError(
                    f"{str(folder)!r} holds a sweep with {name} = {theirs.get(name)}, not "
                    f"{ours.get(name)}; give the same {name}, or choose another folder"
                )
    raise ValueError(
        f"{str(folder)!r} holds a sweep with other cells, programs or arguments of its groups; "
        "give the same plan, or choose another folder"
    )


def write_results(
    plan: Plan, folder: Path, tallies: Mapping[int, Tally], failed: Mapping[int, str]
) -> Path:
    """Replace ``results.jsonl``: a row for each cell, in grid order."""
    rows: dict[int, dict[str, Any]] = {}
    for index, group in enumerate(plan.groups):
        tally = tallies[index]
        for row, place in enumerate(group.cells):
            rows[place] = _row(plan, plan.cells[place], tally, row, failed.get(index))
    text = "".join(json.dumps(rows[place], allow_nan=False) + "\n" for place in sorted(rows))
    path = folder / RESULTS
    write_text(path, text)
    return path


def has_foreign_rows(plan: Plan, folder: Path) -> bool:
    """Whether ``results.jsonl`` has rows that are not of this plan; damaged ones are nobody's."""
    names = set(plan.cells[0]) | {"mean", "stderr"}
    with contextlib.suppress(FileNotFoundError):
        for line in (folder / RESULTS).read_bytes().splitlines():
            with contextlib.suppress(ValueError, RecursionError):
                row = json.loads(line)
                if isinstance(row, dict) and not names <= set(row):
                    return True
    return False


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
    path = _checks.path("folder", folder) / RESULTS
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise ValueError(
            f"{str(folder)!r} holds no finished sweep ({error}); run or resume it first"
        ) from None
    if not lines:
        raise ValueError(f"{str(path)!r} is empty; resume the sweep to write it again")
    return [_read_row(path, number, line) for number, line in enumerate(lines, 1)]


def _read_row(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError("it is no dictionary")
    except Exception as error:  # Whatever a parser thinks of damaged bytes.
        words = f"{type(error).__name__}: {error}"
        raise ValueError(
            f"{str(path)!r}, line {number}, is no row of results ({words}); "
            "resume the sweep to write it again"
        ) from None
    return row


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

    A perfect source is ``n_s = inf``; an ambient dimension that does not matter is 0. Dimensions
    are those columns of the rows that the plan lists values for, or all of a cell's columns if it
    lists none.

    Args:
        folder: the sweep's folder.

    Returns:
        An ``xarray.Dataset`` with ``mean``, ``stderr`` and the quantiles.

    Raises:
        ImportError: xarray is missing: ``pip install 'fsd-jax[sweep]'``.
        ValueError: no finished sweep in the folder, or one whose rows its axes do not tell apart.
    """
    try:
        import xarray  # noqa: F401
    except ImportError:
        raise ImportError("to_grid needs xarray: pip install 'fsd-jax[sweep]'") from None
    frame = load_results(folder)
    manifest = read_manifest(folder)
    if manifest is None:
        raise ValueError(f"{str(folder)!r} holds no {MANIFEST}; a sweep's folder has one")
    cell = list(frame)[: list(frame).index("mean")]
    asked = manifest["configuration"].items()
    listed = [name for name, values in asked if isinstance(values, list) and name in cell]
    axes = listed or cell
    if not axes or frame.duplicated(axes).any():
        raise ValueError(
            f"{str(folder)!r} holds several rows for one point of the axes {axes}; "
            "load_results gives them as a table"
        )
    if "n_s" in axes:
        frame["n_s"] = frame["n_s"].astype(float).fillna(np.inf)
    if "D" in axes and frame["D"].isna().any():
        frame["D"] = frame["D"].astype(float).fillna(0).astype(int)
    kept = [*axes, *(n for n in frame if n in ("mean", "stderr") or _QUANTILE.fullmatch(n))]
    return frame[kept].set_index(axes).to_xarray()


_QUANTILE = re.compile(r"q\d\d")
