"""No figure: the table says it all."""

from pathlib import Path

from benchmarks.records import Record


def draw(_: list[Record], __: Path) -> list[Path]:
    """Nothing to draw."""
    return []
