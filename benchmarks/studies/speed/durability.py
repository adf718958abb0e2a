"""What does it cost that a sweep survives a kill, and does it?"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import numpy as np

from benchmarks import drawing
from benchmarks.records import Record, record
from benchmarks.study import Settings, Study, Work
from benchmarks.table import Table
from benchmarks.timing import interleave, peak_extra_bytes
from fsd_jax import simulate, sweep

ROOT = Path(__file__).resolve().parents[3]
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


def settings(size: str) -> Settings:
    """Replicates of each cell, seconds of timing, and how often the sweep is killed."""
    place = ("quick", "default", "full").index(size)
    return {
        "replicates": (2**14, 2**16, 2**20)[place],
        "seconds": (1.0, 3.0, 20.0)[place],
        "kills": (0, 1, 10)[place],
    }


def compute(settings: Settings, work: Work) -> Iterator[Record]:
    """The overhead, the memory and the outcome of kills."""
    replicates = settings["replicates"]
    with TemporaryDirectory() as folder:
        work.tell("overhead")
        yield from _overhead(replicates, Path(folder), settings["seconds"])
        if settings["kills"]:
            yield from _memory(replicates, Path(folder))
            work.tell("kills")
            yield _kills(replicates, Path(folder), settings["kills"], work.seed)


def _plan(replicates: int) -> sweep.Plan:
    return sweep.plan_errors(
        n_ta=N_TA, d=[LATENT_DIM], t=[1.0], replicates=replicates, dtype=np.float32
    )


def _overhead(replicates: int, folder: Path, seconds: float) -> Iterator[Record]:
    """The same draws as bare simulator calls, and as sweeps with few and many journal entries."""
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
        seconds=seconds,
    )
    floor = timings["simulator alone"].median
    for name, timing in timings.items():
        yield record(
            "overhead",
            timing.median,
            method=name,
            metric="time",
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
                "memory",
                extra,
                method="sweep",
                metric="peak_extra_bytes",
                unit="B",
                replicates=count,
                batch_size=batch_size,
                data_bytes=4 * count * len(N_TA),
            )


def _kills(replicates: int, folder: Path, kills: int, seed: int) -> Record:
    """SIGKILL at random moments; the end must be that of an uninterrupted run, byte for byte."""
    rng = np.random.default_rng(seed)
    asked = f"--n-ta {','.join(map(str, N_TA))} --d {LATENT_DIM} --t 1 --replicates {replicates}"
    child = [sys.executable, "-c", CHILD, str(os.getpid())]
    command = [*child, "sweep", *asked.split(), "--batch-size", "8192"]
    whole, broken = folder / "whole", folder / "broken"
    start = time.perf_counter()
    _finish([*command, "--resume", str(whole)])
    alone = time.perf_counter() - start
    killed, spent = 0, 0.0
    for _ in range(kills):
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
        "kills",
        spent,
        method="sweep",
        metric="time",
        unit="s",
        floor=alone,
        kills=killed,
        status="ok" if same else "results differ",
        replicates=replicates,
    )


def _finish(command: list[str]) -> None:
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


def draw(table: Table) -> Any:
    """Times over that of the simulator alone, and memory beside the data's size."""
    figure, axes = drawing.canvas(1, 2, figsize=(10.5, 3.6))
    for i, row in enumerate(table.present(data="overhead")):
        error = 2 * (row["stderr"] or 0) / row["floor"]
        axes[0, 0].barh(i, row["value"] / row["floor"], xerr=error, color="#8c8c8c", height=0.6)
        axes[0, 0].text(0.02, i, row["method"], va="center", fontsize=8)
    axes[0, 0].set(yticks=[], xlabel="time / that of the simulator alone (2 s.e.)")
    axes[0, 0].set_title("A sweep's journal")
    for i, row in enumerate(table.present(data="memory")):
        words = f"{row['replicates']} replicates, {row['batch_size']} a batch"
        axes[0, 1].barh(i, row["value"] / 2**20, color="#8c8c8c", height=0.6)
        axes[0, 1].text(0.02, i, words, va="center", fontsize=8)
    axes[0, 1].set(yticks=[], xlabel="MiB that a warm sweep adds")
    axes[0, 1].set_title("Memory" if table.present(data="memory") else "Memory: not at this size")
    return figure


def finding(table: Table) -> str:
    """What the journal costs, and whether killed sweeps end as others do."""
    rows = table.select(data="overhead")
    worst = max(rows, key=lambda r: r["value"])
    ratio = worst["value"] / worst["floor"]
    error = (worst["stderr"] or 0) / worst["floor"]
    said = (
        f"A durable sweep ({worst['method']}) takes {ratio:.2f} +- {error:.2f} times the bare draws"
    )
    for row in (r for r in table.rows if r["data"] == "kills"):
        same = "the same bytes as" if row["status"] == "ok" else "other bytes than"
        said += (
            f"; killed {row['kills']} times and resumed it ends with {same} an uninterrupted one, "
            f"after {row['value'] / row['floor']:.2f} times as long"
        )
    return said + "."


STUDY = Study(
    name="durability",
    summary="a sweep killed and resumed, the overhead of its journal, its memory",
    settings=settings,
    compute=compute,
    pictures={"durability": draw},
    finding=finding,
    usual=True,
    # It starts processes that compile anew, so a quick run has it only if it is named.
    quick=False,
    timed=True,
    measured=("data_bytes",),
)
