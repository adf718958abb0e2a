"""The command line: ``python -m fsd_jax adapt``, a folder of pictures in, an answer out."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["main"]

INTERRUPTED = 130
"""As a shell has it for a program that Ctrl-C ended."""
ADAPT = """Adapt a Gaussian diffusion model of many source pictures to a few target pictures, in
closed form, and say whether the few are enough. Writes index.html (the answer), report.json,
samples/ and model.npz."""


class _Parser(argparse.ArgumentParser):
    """One line of advice instead of a usage dump."""

    def error(self, message: str) -> None:  # type: ignore[override]
        line = " ".join(message.split())
        self.exit(2, f"fsd_jax: error: {line}; see python -m fsd_jax adapt --help\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, 2 for a mistake, 130 interrupted."""
    parser = _Parser(prog="fsd-jax", description=__doc__, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(dest="command", required=True)
    _add_adapt(commands)
    given = parser.parse_args(arguments)
    from fsd_jax.command import _adapt

    try:
        print(_adapt.run(given))
    except KeyboardInterrupt:
        print("fsd_jax: interrupted", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, OSError, ImportError) as error:
        parser.error(str(error))
    return 0


def _version() -> str:
    from fsd_jax._version import __version__

    return f"fsd_jax {__version__}"


def _add_adapt(commands: "argparse._SubParsersAction[_Parser]") -> argparse.ArgumentParser:
    made = commands.add_parser("adapt", help="adapt to a few pictures", description=ADAPT)
    kinds = "folder of pictures, or a .npy or .npz file of (n, ...) numbers"
    made.add_argument(
        "--source", type=Path, required=True, metavar="DIR", help=f"the many: {kinds}"
    )
    made.add_argument("--target", type=Path, required=True, metavar="DIR", help="the few")
    made.add_argument(
        "--heldout", type=Path, metavar="DIR", help="more of the target's kind, to judge by"
    )
    made.add_argument(
        "--size", type=int, default=64, metavar="N", help="side of the pictures (default 64)"
    )
    made.add_argument(
        "--samples", type=int, default=64, metavar="N", help="samples to draw (default 64)"
    )
    made.add_argument("--seed", type=int, default=0, metavar="N", help="of the samples (default 0)")
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="an empty folder")
    return made
