"""The same sweep on one, two and four devices; here they share the processor's cores."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks import drawing, text
from benchmarks.records import Record, record
from benchmarks.study import Settings, Study, Work
from benchmarks.table import Missing, Table

ROOT = Path(__file__).resolve().parents[3]
CHILD = """
import json, sys, time
from benchmarks.ending import end_with
end_with(int(sys.argv[3]))
from fsd_jax import sweep
replicates, out = int(sys.argv[1]), sys.argv[2]
def once(name, count):
    plan = sweep.plan_errors(n_ta=[4, 100], d=[8], t=[1.0], replicates=count)
    start = time.perf_counter()
    sweep.run(plan, f"{out}/{name}")
    return time.perf_counter() - start
first = once("warm", 8192)
again = [once(f"timed-{i}", replicates) for i in range(3)]
print(json.dumps({"first": first, "again": again}))
"""


def settings(size: str) -> Settings:
    """Replicates of each cell, and fake devices."""
    place = ("quick", "default", "full").index(size)
    return {"replicates": (2**16, 2**18, 2**22)[place], "devices": [1, 2, 4]}


def compute(settings: Settings, work: Work) -> Iterator[Record]:
    """Times, and whether the results agree to the last byte."""
    replicates = settings["replicates"]
    hashes: dict[int, str] = {}
    alone = None
    for devices in settings["devices"]:
        work.tell(f"{devices} devices")
        with TemporaryDirectory() as folder:
            done = subprocess.run(
                [sys.executable, "-c", CHILD, str(replicates), folder, str(os.getpid())],
                cwd=ROOT,
                check=True,
                capture_output=True,
                text=True,
                env=os.environ | _fake(devices),
            )
            seconds = json.loads(done.stdout.splitlines()[-1])
            content = (Path(folder) / "timed-0" / "results.jsonl").read_bytes()
        hashes[devices] = hashlib.sha256(content).hexdigest()[:12]
        median = float(np.median(seconds["again"]))
        spread = float(np.median(np.abs(np.array(seconds["again"]) - median)))
        alone = alone or median
        yield record(
            "two cells, d = 8",
            median,
            stderr=spread / len(seconds["again"]) ** 0.5,
            method=f"{devices} fake devices",
            metric="time",
            unit="s",
            seconds=seconds["first"],
            floor=alone,
            devices=devices,
            replicates=replicates,
            cores=os.cpu_count(),
            results_hash=hashes[devices],
            status="ok" if hashes[devices] == hashes[1] else "results differ",
        )


def _fake(devices: int) -> dict[str, str]:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    return {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}


def draw(table: Table) -> Any:
    """Times over that of one device."""
    figure, axes = drawing.canvas(figsize=(5.5, 3.6))
    rows = [
        r | {name: (r[name] or 0) / r["floor"] for name in ("value", "stderr")}
        for r in table.present()
    ]
    drawing.points(axes[0, 0], rows, "devices", line=True)
    cores = rows[0]["cores"] if rows else os.cpu_count()
    axes[0, 0].set(
        ylim=(0, None),
        xticks=table.settings["devices"],
        xlabel="fake devices",
        ylabel="time / that of one device",
        title=f"One sweep on {cores} cores",
    )
    return figure


def finding(table: Table) -> str:
    """The best speed-up, and whether all results agree."""
    rows = [r for r in table.rows if r["value"]]
    if len(rows) < 2:
        raise Missing("no time")
    best = min((r for r in rows if r["devices"] > 1), key=lambda r: r["value"])
    same = len({r["results_hash"] for r in rows}) == 1
    return (
        f"On {best['cores']} cores the same sweep takes {text.number(best)} on {best['devices']} "
        f"fake devices and {best['floor']:.3g} s on one, {best['value'] / best['floor']:.2f} times "
        f"as long; the results' bytes are {'the same' if same else 'not the same'} on all."
    )


STUDY = Study(
    name="scaling",
    summary="one sweep on 1, 2 and 4 fake devices: time, and the results' bytes",
    settings=settings,
    compute=compute,
    pictures={"scaling": draw},
    finding=finding,
    usual=True,
    # It starts processes that compile anew, so a quick run has it only if it is named.
    quick=False,
    timed=True,
    measured=("cores", "results_hash"),
)
