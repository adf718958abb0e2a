"""``python -m paper_figures``: the command line is `paper_figures.command`, and this its end."""

from collections.abc import Sequence

from benchmarks.ending import end


def main(arguments: Sequence[str] | None = None) -> int:
    """Load the libraries and run the command line; returns the exit status."""
    from paper_figures import command

    return command.main(arguments)


if __name__ == "__main__":
    end("paper_figures", main)
