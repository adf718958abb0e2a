"""One module a case: ``draw(records, folder)`` reads records and writes PNG files."""

import os
from pathlib import Path
from typing import Any

import numpy as np


def canvas(rows: int = 1, columns: int = 1, **options: Any) -> tuple[Any, Any]:
    """A figure and its axes, on the file-only backend."""
    os.environ.setdefault("MPLBACKEND", "agg")
    from matplotlib import pyplot

    return pyplot.subplots(rows, columns, squeeze=False, layout="constrained", **options)


def store(figure: Any, path: Path) -> Path:
    """Write a PNG and close the figure."""
    from matplotlib import pyplot

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
    return path


def rows_of_pictures(path: Path) -> dict[str, Any]:
    """Named rows of images, as the cases keep them."""
    with np.load(path) as archive:
        return {str(name): archive[f"row_{i}"] for i, name in enumerate(archive["names"])}
