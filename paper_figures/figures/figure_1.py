"""Figure 1's twin: drawn faces with hair to bald ones, all or encoder and decoder tuned."""

from collections.abc import Iterator
from typing import Any

from fsd_jax.image import data
from paper_figures import pictures
from paper_figures.table import Row, Table
from paper_figures.work import Work

SUMMARY = "drawn faces with hair to bald ones: copies, new members, a sheet of pictures"
IN_QUICK = False
"""Drawing and measuring take longer than a quick run has; it is made if it is named."""


def settings(quick: bool) -> dict[str, Any]:
    """Sizes."""
    return pictures.settings_of("avatars", quick)


def compute(settings: dict[str, Any], work: Work) -> Iterator[Row]:
    """Measures, and the pictures themselves."""
    yield from pictures.rows_of(settings, data.avatars, work)


def draw(table: Table) -> Any:
    """The sheet."""
    return pictures.sheet(table)
