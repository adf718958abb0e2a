"""``python -m benchmarks sweep``: errors over a grid, durably, from the command line.

A value is ``10``, a list ``4,8,16``, or a range ``4:4096:log2`` (times 2) or ``1:9:lin5``.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import text
from benchmarks.console import folder, positive, seed
from benchmarks.ending import INTERRUPTED, tidy_up_first
from fsd_jax import sweep, theory
from fsd_jax.sweep._results import MANIFEST, config_hash, read_manifest
from fsd_jax.sweep._run import BATCH_SIZE

DEFAULTS: dict[str, Any] = {
    "n_s": [None],
    "D": [None],
    "latent_variance": [1.0],
    "tau": [0.0],
    "method": ["rank"],
    "metric": ["subspace_error"],
    "replicates": 1000,
    "seed": 0,
}
REQUIRED = ("n_ta", "d", "t")
AXES = ("n_ta", "n_s", "d", "t", "D", "latent_variance", "tau")
CELL = (*AXES, "method", "metric")
SHORT = {"latent_variance": "lambda^2"}


def main(given: Sequence[str], parser: argparse.ArgumentParser, root: Path) -> int:
    """Run or resume a sweep; returns the exit status."""
    options = _add_options(parser).parse_args(given)
    start = time.perf_counter()
    try:
        plan, out, resume = _prepare(options, root)
        devices = options.devices or len(jax.devices())
        print(
            f"{len(plan.cells)} cells in {len(plan.groups)} groups of shared draws, "
            f"{plan.replicates} replicates each; {plan.compilations} compilations; "
            f"devices: {devices}",
            flush=True,
        )
        path = _run(plan, out, resume, options)
        if path is None:
            return INTERRUPTED
        rows = sweep.read_results(out)
    except BrokenPipeError:
        # An OSError, but no mistake: nobody reads what is printed.
        raise
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return _report(rows, path, time.perf_counter() - start)


def _run(plan: sweep.Plan, out: Path, resume: bool, options: argparse.Namespace) -> Path | None:
    """The path of the results, None after an interruption."""
    bar, close = _bar(plan)
    tidy_up_first()
    try:
        return sweep.run(
            plan,
            out,
            batch_size=options.batch_size,
            devices=options.devices,
            resume=resume,
            progress=bar,
        )
    except KeyboardInterrupt:
        close()
        advice = f"go on with: python -m benchmarks sweep --resume {shlex.quote(str(out))}"
        print(f"benchmarks: stopped; {advice}", file=sys.stderr)
        return None
    finally:
        close()


def _report(rows: list[dict[str, Any]], path: Path, seconds: float) -> int:
    """Print the results; the exit status says whether every cell could be drawn."""
    failed = [row for row in rows if row["status"].startswith("failed")]
    if len(failed) < len(rows):
        print(f"\n{text.render(_lines(rows))}\n")
    print(f"sweep: {seconds:.1f} s\nresults: {path}")
    if len(failed) < len(rows):
        print(finding(rows))
    if not failed:
        return 0
    sys.stdout.flush()
    cell = list(failed[0].items())[: list(failed[0]).index("mean")]
    where = ", ".join(f"{name} = {_text(value)}" for name, value in cell if value is not None)
    print(
        f"benchmarks: {len(failed)} of {len(rows)} cells {failed[0]['status']} (first: {where})",
        file=sys.stderr,
    )
    return 1


def _add_options(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    for name, words in (
        ("--n-ta", "target samples"),
        ("--n-s", "source samples; inf is a perfect source (default)"),
        ("--d", "latent dimensions"),
        ("--t", "times of the SDE"),
        ("--D", "ambient dimensions, with --tau"),
        ("--latent-variance", "lambda^2 (default 1)"),
        ("--tau", "standard deviations of residual noise (default 0)"),
    ):
        parser.add_argument(name, metavar="SPEC", help=words)
    parser.add_argument("--method", metavar="M,..", help="rank, integrated, orthonormal")
    parser.add_argument(
        "--metric", metavar="M,..", help="subspace_error, score_error, loss_gap, kl"
    )
    for name, kind, words in (
        ("--replicates", positive, "of each cell (default 1000)"),
        ("--seed", seed, "base seed (default 0)"),
        ("--devices", positive, "use N devices (default: all)"),
    ):
        parser.add_argument(name, type=kind, metavar="N", help=words)
    parser.add_argument(
        "--batch-size",
        type=positive,
        default=BATCH_SIZE,
        metavar="N",
        help="replicates between two journal entries",
    )
    parser.add_argument("--out", type=folder, metavar="DIR", help="default: results/sweep-HASH")
    parser.add_argument("--resume", type=folder, metavar="DIR", help="start or go on in DIR")
    return parser


def _prepare(options: argparse.Namespace, root: Path) -> tuple[sweep.Plan, Path, bool]:
    """The plan, its folder, and whether the folder may hold it already."""
    if options.out and options.resume:
        raise ValueError("--out starts a new sweep and --resume goes on with one; give one of them")
    asked = _asked(options)
    held: dict[str, Any] = {}
    if options.resume and (manifest := read_manifest(options.resume)):
        held = dict(manifest["configuration"])
        held.pop("dtype", None)
    settings = {**DEFAULTS, **held, **asked}
    missing = [name for name in REQUIRED if name not in settings]
    if missing:
        flags = ", ".join("--" + name.replace("_", "-") for name in missing)
        where = f" ({options.resume / MANIFEST} does not exist)" if options.resume else ""
        raise ValueError(f"{flags} must be given{where}")
    plan = sweep.plan_errors(**settings)
    if options.resume or options.out:
        return plan, options.resume or options.out, bool(options.resume)
    return plan, root / "results" / f"sweep-{config_hash(plan)}", True


def _asked(options: argparse.Namespace) -> dict[str, Any]:
    """What the command line says, parsed."""
    asked: dict[str, Any] = {}
    for name in ("n_ta", "n_s", "d", "t", "D", "latent_variance", "tau"):
        given = getattr(options, name)
        if given is not None:
            flag = "--" + name.replace("_", "-")
            whole = name in ("n_ta", "n_s", "d", "D")
            asked[name] = sweep.parse_spec(flag, given, whole=whole, infinite=name == "n_s")
    for name in ("method", "metric"):
        if getattr(options, name) is not None:
            asked[name] = list(dict.fromkeys(getattr(options, name).split(",")))
    for name in ("replicates", "seed"):
        if getattr(options, name) is not None:
            asked[name] = getattr(options, name)
    return asked


def _bar(plan: sweep.Plan) -> tuple[Callable[[int, int], None], Callable[[], None]]:
    """A progress bar with the time left, on terminals only."""
    try:
        from tqdm import tqdm
    except ImportError:
        raise ValueError("sweep needs tqdm: pip install 'fsd-jax[sweep]'") from None
    bar = tqdm(total=plan.blocks, unit="block", disable=None, file=sys.stderr)

    def advance(done: int, _: int) -> None:
        bar.update(done - bar.n)

    return advance, bar.close


def _lines(rows: list[dict[str, Any]]) -> text.Lines:
    """The rows as people read them; a file holds every digit."""
    return [
        {SHORT.get(name, name): _text(row[name]) for name in CELL}
        | {"mean": text.short({**row, "value": row["mean"]}), "status": row["status"]}
        for row in rows
    ]


def finding(rows: list[dict[str, Any]]) -> str:
    """How the mean changes along the first swept axis, at the first value of every other."""
    good = [row for row in rows if row["status"] == "ok"]
    first = good[0]
    for axis in AXES:
        others = [name for name in CELL if name != axis]
        line = [row for row in good if all(row[name] == first[name] for name in others)]
        line = [row for row in line if row[axis] is not None]
        if len(line) > 1:
            break
    else:
        line, axis = [first], ""
    ends = [text.number({**row, "value": row["mean"], "unit": ""}) for row in (line[0], line[-1])]
    what = f"{first['metric']} of {first['method']}"
    named = [n for n in ("n_ta", "n_s", "d", "t") if n != axis and first[n] is not None]
    held = ", ".join(f"{name} = {_text(first[name])}" for name in named)
    if not axis:
        return f"Mean {what} at {held}: {ends[0]} over {first['replicates']} replicates."
    said = (
        f"Mean {what} at {held}: {ends[0]} for {axis} = {_text(line[0][axis])}, {ends[1]} for "
        f"{axis} = {_text(line[-1][axis])}"
    )
    if all(row["mean"] > 0 and row["stderr"] and row[axis] > 0 for row in line):
        x, value, stderr = (np.array([row[n] for row in line]) for n in (axis, "mean", "stderr"))
        slope = theory.loglog_slope(x, value, stderr)
        said += f"; slope in log-log {slope.value:.3g} [{slope.low:.3g}, {slope.high:.3g}]"
    return said + "."


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.5g}" if isinstance(value, float) else str(value)
