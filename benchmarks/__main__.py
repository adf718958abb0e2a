"""``python -m benchmarks``: the command line is `benchmarks.command`, and this is how it ends."""

from collections.abc import Sequence

from benchmarks.ending import end


def main(arguments: Sequence[str] | None = None) -> int:
    """Load the libraries and run the command line; returns the exit status."""
    from benchmarks import command

    return command.main(arguments)


if __name__ == "__main__":
    end("benchmarks", main)
