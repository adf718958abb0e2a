"""The same sweep on one, two and four devices; here they share the processor's cores."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.context import Context
from benchmarks.records import Record, record

SUMMARY = "one sweep on 1, 2 and 4 fake devices: time, and the results' bytes"
ROOT = Path(__file__).resolve().parents[2]
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
print(json.dumps({"first": first, "again": once("timed", replicates)}))
"""


def run(context: Context) -> Iterator[Record]:
    """Yield times and whether the results agree to the last byte."""
    replicates = context.pick(2**16, 2**18, 2**22)
    hashes: dict[int, str] = {}
    alone = None
    for devices in (1, 2, 4):
        context.tell(f"scaling: {devices} devices")
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
            content = (Path(folder) / "timed" / "results.jsonl").read_bytes()
        hashes[devices] = hashlib.sha256(content).hexdigest()[:12]
        alone = alone or seconds["again"]
        yield record(
            "scaling",
            "two cells, d = 8",
            f"{devices} fake devices",
            "time",
            seconds["again"],
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
