"""``adapt``: read, adapt, judge, draw, audit, write."""

import argparse
import dataclasses
import json
import sys
from functools import partial
from pathlib import Path
from typing import IO, Any

import jax
import numpy as np

from fsd_jax import _files
from fsd_jax._audit import audit as audit_of
from fsd_jax._provenance import provenance
from fsd_jax.command import _page, _read
from fsd_jax.fewshot.adapt import adapt
from fsd_jax.fewshot.storage import save

REPORT, PAGE, MODEL, SAMPLES = "report.json", "index.html", "model.npz", "samples"


def run(options: argparse.Namespace) -> str:
    """Do what the command line asks; returns what to print.

    Raises:
        ValueError, OSError, ImportError: a mistake, in one sentence.
    """
    for name, least in (("size", 1), ("samples", 1), ("seed", 0)):
        if getattr(options, name) < least:
            raise ValueError(f"--{name} must be at least {least}, got {getattr(options, name)}")
    out = _folder(options.out)
    paths = {name: getattr(options, name) for name in ("source", "target", "heldout")}
    sets = _read.read({n: p for n, p in paths.items() if p is not None}, options.size)
    _tell(f"adapting {len(sets.source)} source samples to {len(sets.target)} target samples")
    model = adapt(sets.source, sets.target)
    _tell("judging")
    report = model.report(sets.heldout if len(sets.heldout) else None)
    drawn = model.sample(jax.random.key(options.seed), options.samples)
    new = np.asarray(drawn, np.float32)
    audit = None
    if len(sets.heldout):
        audit = audit_of(new, sets.target, sets.heldout)
    answer = _answer(sets, model, report, audit)
    _write(out, answer, sets, model, new, audit)
    return f"{report.verdict}\n{_said(audit)}\nanswer: {out / PAGE}"


def _folder(out: Path) -> Path:
    """The output folder: new, empty, or one that an earlier run of this command wrote."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {str(out)!r} is a file; choose a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / REPORT).exists():
        raise ValueError(f"--out {str(out)!r} holds other files; choose an empty folder")
    out.mkdir(parents=True, exist_ok=True)
    _files.check_writable(out)
    return out


def _answer(sets: _read.Sets, model: Any, report: Any, audit: Any) -> dict[str, Any]:
    """What ``report.json`` says."""
    rows = {"model": report.model, "source": report.source, "target_only": report.target_only}
    audited = None
    if audit is not None:
        names = ("share", "low", "high", "p_value", "verdict")
        audited = {name: getattr(audit, name) for name in names}
    found = {
        "enough": report.enough,
        "verdict": report.verdict,
        "evaluation": report.evaluation,
        "losses": {name: dataclasses.asdict(row) for name, row in rows.items()},
        "audit": audited,
        "choices": dataclasses.asdict(model.choices),
        "notes": list(report.notes),
        "duplicates": str(report.duplicates),
        "sizes": {n: len(getattr(sets, n)) for n in ("source", "target", "heldout")},
        "shape": list(sets.target.shape[1:]),
        "skipped": list(sets.skipped),
        "made": provenance(),
    }
    return _plain(found)


def _plain(value: Any) -> Any:
    """JSON has no NaN: a number that is none is null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def _said(audit: Any) -> str:
    if audit is None:
        return "Copies cannot be judged without --heldout."
    return str(audit)


def _write(
    out: Path, answer: dict[str, Any], sets: _read.Sets, model: Any, new: np.ndarray, audit: Any
) -> None:
    if sets.pictures:
        (out / SAMPLES).mkdir(exist_ok=True)
        for old in (out / SAMPLES).glob("[0-9]*.png"):
            old.unlink()
        for i, picture in enumerate(new):
            png = _page.png(picture)
            _files.write_atomically(out / SAMPLES / f"{i:04d}.png", partial(_put, png))
    else:
        _files.write_atomically(out / "samples.npy", lambda file: np.save(file, new))
    save(out / MODEL, model)
    _files.write_text(out / PAGE, _page.page(answer, sets, new, audit))
    # Last, for it is what says that the folder is ours.
    _files.write_text(out / REPORT, json.dumps(answer, indent=1, allow_nan=False) + "\n")


def _put(content: bytes, file: IO[bytes]) -> None:
    file.write(content)


def _tell(line: str) -> None:
    if sys.stderr.isatty():
        print(f"{line} ...", file=sys.stderr, flush=True)
