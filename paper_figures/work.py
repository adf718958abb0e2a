"""What a figure's computation is given: a seed, sweeps that resume, progress."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fsd_jax import sweep
from fsd_jax.sweep._run import BATCH_SIZE
from paper_figures.table import Row, row

SEED = 0
PAIRS: dict[str, Any] = {
    "method": ["rank", "orthonormal"],
    "metric": ["subspace_error", "score_error"],
}
"""Figures that ask for all of these together share a compiled program."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """The surroundings of one computation.

    Attributes:
        folder: where sweeps keep their journals.
        tell: called with a short line at each step.
    """

    folder: Path
    tell: Callable[[str], None]

    def sweep(self, series: str, *, batch_size: int = BATCH_SIZE, **plan: Any) -> Iterator[Row]:
        """Rows of a sweep over few-shot errors, resumed from its journal where it has one.

        An interruption waits for the running batch, and loses it.
        """
        self.tell(series)
        asked = sweep.plan_errors(**PAIRS | plan, seed=SEED, dtype=np.float32)
        out = self.folder / series.replace(" ", "-").replace("^", "")
        sweep.run(asked, out, batch_size=batch_size, resume=True)
        for found in sweep.read_results(out):
            cell = {name: found[name] for name in CELL}
            yield row(series, found["mean"], stderr=found["stderr"], status=found["status"], **cell)


CELL = ("method", "metric", "n_ta", "n_s", "d", "D", "t", "latent_variance", "tau", "replicates")


def as_json(value: Any) -> Any:
    """Settings as they come back from a file, so that hashes agree."""
    return json.loads(json.dumps(value))
