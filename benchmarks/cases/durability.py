"""What does it cost that a sweep survives a kill, and does it?"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import jax
import numpy as np

from benchmarks.context import Context
from benchmarks.records import Record, record
from benchmarks.timing import interleave, peak_extra_bytes
from fsd_jax import simulate, sweep

SUMMARY = "a sweep killed and resumed, the overhead of its journal, its memory"
ROOT = Path(__file__).resolve().parents[2]
N_TA = (4, 8, 16, 32)
LATENT_DIM = 8
CHILD = """
import sys
from benchmarks.ending import end_with
end_with(int(sys.argv.pop(1)))
from benchmarks.command import main
sys.exit(main())
"""
"""``python -m benchmarks`` that ends with the process whose number comes first."""


def run(context: Context) -> Iterator[Record]:
    """Yield the overhead, the memory and the outcome of kills."""
    replicates = context.pick(2**14, 2**16, 2**20)
    with TemporaryDirectory() as folder:
        yield from _overhead(replicates, Path(folder), context)
        if context.size == "quick":
            return
        yield from _memory(replicates, Path(folder))
        yield _kills(replicates, Path(folder), context)


def _plan(replicates: int) -> sweep.Plan:
    return sweep.plan_errors(
        n_ta=N_TA, d=[LATENT_DIM], t=[1.0], replicates=replicates, dtype=np.float32
    )


def _overhead(replicates: int, folder: Path, context: Context) -> Iterator[Record]:
    """The same draws as bare simulator calls, and as sweeps with few and many journal entries."""
    context.tell("durability: overhead")
    plan, runs = _plan(replicates), iter(range(10**6))

    def bare() -> list[float]:
        errors = (
            simulate.subspace_errors(
                jax.random.key(0),
                latent_dim=LATENT_DIM,
                n_ta=n,
                n_s=None,
                latent_variance=1.0,
                times=np.ones(1, np.float32),
                replicates=replicates,
                dtype=np.float32,
            )
            for n in N_TA
        )
        return [float(e.mean()) for e in errors]

    def durable(batch_size: int) -> Path:
        return sweep.run(plan, folder / str(next(runs)), batch_size=batch_size)

    timings = interleave(
        {
            "simulator alone": bare,
            "sweep, 65536 a batch": lambda: durable(65_536),
            "sweep, 8192 a batch": lambda: durable(8192),
        },
        seconds=context.pick(1.0, 3.0, 20.0),
    )
    floor = timings["simulator alone"].median
    for name, timing in timings.items():
        yield record(
            "durability",
            "overhead",
            name,
            "time",
            timing.median,
            stderr=timing.spread,
            unit="s",
            floor=floor,
            replicates=replicates,
            cells=len(N_TA),
            d=LATENT_DIM,
        )


def _memory(replicates: int, folder: Path) -> Iterator[Record]:
    """Resident memory that a warm sweep adds, for a tenth of the replicates and for all."""
    for count in (replicates // 8, replicates):
        for batch_size in (1024, replicates):
            plan = _plan(count)
            path = folder / f"memory-{count}-{batch_size}"
            sweep.run(plan, path / "warm", batch_size=batch_size)
            extra = peak_extra_bytes(
                lambda plan=plan, path=path, size=batch_size: sweep.run(  # type: ignore[misc]
                    plan, path / "cold", batch_size=size
                )
            )
            yield record(
                "durability",
                "memory",
                "sweep",
                "peak_extra_bytes",
                extra,
                unit="B",
                replicates=count,
                batch_size=batch_size,
                data_bytes=4 * count * len(N_TA),
            )


def _kills(replicates: int, folder: Path, context: Context) -> Record:
    """SIGKILL at random moments; the end must be that of an uninterrupted run, byte for byte."""
    context.tell("durability: kills")
    rng = np.random.default_rng(context.seed)
    command = [
        sys.executable,
        "-c",
        CHILD,
        str(os.getpid()),
        "sweep",
        "--n-ta",
        ",".join(map(str, N_TA)),
        "--d",
        str(LATENT_DIM),
        "--t",
        "1",
        "--replicates",
        str(replicates),
        "--batch-size",
        "8192",
    ]
    whole, broken = folder / "whole", folder / "broken"
    start = time.perf_counter()
    _finish([*command, "--resume", str(whole)])
    alone = time.perf_counter() - start
    killed, spent = 0, 0.0
    for _ in range(context.pick(0, 1, 10)):
        start = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--resume", str(broken)],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            process.wait(rng.uniform(0.5, 0.95) * alone)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            killed += 1
        spent += time.perf_counter() - start
    start = time.perf_counter()
    _finish([*command, "--resume", str(broken)])
    spent += time.perf_counter() - start
    same = (whole / "results.jsonl").read_bytes() == (broken / "results.jsonl").read_bytes()
    return record(
        "durability",
        "kills",
        "sweep",
        "time",
        spent,
        unit="s",
        floor=alone,
        kills=killed,
        status="ok" if same else "results differ",
        replicates=replicates,
    )


def _finish(command: list[str]) -> None:
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
