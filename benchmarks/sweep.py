"""``python -m benchmarks sweep``: errors over a grid, durably, from the command line.

A value is ``10``, a list ``4,8,16``, or a range ``4:4096:log2`` (times 2) or ``1:9:lin5``.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from fsd_jax import sweep
from fsd_jax.sweep.table import MANIFEST, config_hash, read_manifest

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
SHOWN = 40


def main(given: Sequence[str], parser: argparse.ArgumentParser, root: Path) -> int:
    """Run or resume a sweep; returns the exit status."""
    options = _add_options(parser).parse_args(given)
    try:
        plan, folder, resume = _prepare(options, root)
        devices = options.devices or len(jax.devices())
        print(
            f"{len(plan.cells)} cells in {len(plan.groups)} groups of shared draws, "
            f"{plan.replicates} replicates each; {plan.compilations} compilations; "
            f"devices: {devices}"
        )
        start = time.perf_counter()
        bar, close = _bar(plan)
        try:
            path = sweep.run(
                plan,
                folder,
                batch_size=options.batch_size,
                devices=options.devices,
                resume=resume,
                progress=bar,
            )
        finally:
            close()
    except (ValueError, OSError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print(
            f"\nstopped; go on with: python -m benchmarks sweep --resume {folder}", file=sys.stderr
        )
        return 130
    print(f"\n{_table(sweep.read_results(folder))}\n")
    print(f"sweep: {time.perf_counter() - start:.1f} s\nresults: {path}")
    return 0


def _add_options(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    for name, text in (
        ("--n-ta", "target samples"),
        ("--n-s", "source samples; inf is a perfect source (default)"),
        ("--d", "latent dimensions"),
        ("--t", "times of the SDE"),
        ("--D", "ambient dimensions, with --tau"),
        ("--latent-variance", "lambda^2 (default 1)"),
        ("--tau", "standard deviations of residual noise (default 0)"),
    ):
        parser.add_argument(name, metavar="SPEC", help=text)
    parser.add_argument("--method", metavar="M,..", help="rank, integrated, orthonormal")
    parser.add_argument(
        "--metric", metavar="M,..", help="subspace_error, score_error, loss_gap, kl"
    )
    parser.add_argument("--replicates", metavar="N", help="of each cell (default 1000)")
    parser.add_argument("--seed", metavar="N", help="base seed (default 0)")
    parser.add_argument(
        "--batch-size",
        type=int,
        default=65_536,
        metavar="N",
        help="replicates between two journal entries",
    )
    parser.add_argument("--devices", type=int, metavar="N", help="use N devices (default: all)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: results/sweep-HASH")
    parser.add_argument("--resume", type=Path, metavar="DIR", help="start or go on in DIR")
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
        text = getattr(options, name)
        if text is not None:
            flag = "--" + name.replace("_", "-")
            whole = name in ("n_ta", "n_s", "d", "D")
            asked[name] = sweep.parse_spec(flag, text, whole=whole, infinite=name == "n_s")
    for name in ("method", "metric"):
        if getattr(options, name) is not None:
            asked[name] = list(dict.fromkeys(getattr(options, name).split(",")))
    for name in ("replicates", "seed"):
        text = getattr(options, name)
        if text is not None:
            asked[name] = _integer(f"--{name}", text)
    return asked


def _integer(flag: str, text: str) -> int:
    try:
        value = float(text)
        if value == int(value):
            return int(value)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"{flag} must be an integer, got {text!r}")


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


def _table(rows: list[dict[str, Any]]) -> str:
    """The rows as text, without the columns that never change."""
    names = [
        name
        for name in rows[0]
        if name in ("mean", "stderr") or len({json.dumps(row[name]) for row in rows}) > 1
    ]
    lines = [names, *([_text(row[name]) for name in names] for row in rows[:SHOWN])]
    widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
    text = "\n".join(
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )
    more = len(rows) - SHOWN
    return text + (f"\n  ... and {more} more" if more > 0 else "")


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.5g}" if isinstance(value, float) else str(value)
