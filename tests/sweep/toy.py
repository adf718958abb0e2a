"""A sweep that costs nothing, in this process and in others: ``python -m tests.sweep.toy OUT``."""

import json
import resource
import sys
import time
from dataclasses import dataclass

import jax
import numpy as np

from fsd_jax import sweep


@dataclass(frozen=True)
class Toy:
    """Normal draws, one row for each cell."""

    rows: int = 2
    block: int = 8

    def __call__(self, key, scale):
        return scale * jax.random.normal(key, (self.rows, self.block))


def plan(*, replicates=400, seed=0, scale=1.0, groups=3, program=Toy()):
    """Groups of two cells each."""
    return sweep.plan(
        {"n": range(groups), "side": ["left", "right"]},
        lambda n: (program, [np.float32(scale)]),
        rows=["side"],
        identity=lambda point: f"toy {point['n']}",
        replicates=replicates,
        seed=seed,
    )


def main(out, options):
    """Run slowly, a line for each batch; `bytes` is the most that a file may have."""
    if "bytes" in options:
        resource.setrlimit(resource.RLIMIT_FSIZE, (options["bytes"], options["bytes"]))

    def tell(done, total):
        sys.stdout.write(f"{done} of {total}\n")
        sys.stdout.flush()
        time.sleep(options.get("pause", 0))

    sweep.run(plan(), out, batch_size=8, resume=True, progress=tell)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
