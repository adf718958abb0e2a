"""Results depend on the plan alone; interruptions, devices and batches leave no trace."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from fsd_jax import simulate, sweep, theory
from fsd_jax.sweep._run import _compiled, stream

ROOT = Path(__file__).parents[2]
SETTING = {
    "n_ta": [1, 3, 4, 1000],
    "n_s": [50, None],
    "d": [3],
    "t": [0.1, 1.0],
    "method": ["rank", "orthonormal"],
    "metric": ["subspace_error", "kl"],
    "replicates": 3000,
}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The results of one uninterrupted run on one device."""
    return sweep.run(simulate.plan_errors(**SETTING), tmp_path_factory.mktemp("reference"))


def test_rows_are_complete_and_right(reference):
    rows = sweep.read_results(reference.parent)
    assert len(rows) == 4 * 2 * 2 * 2 * 2
    for row in rows:
        assert row["status"] == "ok"
        assert (row["replicates"], row["seed"], row["D"]) == (3000, 0, None)
        assert row["q05"] <= row["q50"] <= row["q95"]
        if (row["method"], row["metric"]) == ("rank", "subspace_error"):
            exact = theory.expected_subspace_error(
                latent_dim=3, n_ta=row["n_ta"], n_s=row["n_s"], latent_variance=1.0, time=row["t"]
            )
            assert abs(row["mean"] - exact) < 4.5 * row["stderr"]


@pytest.mark.parametrize("batch_size", [1, 1024, 2500])
def test_batch_size_changes_no_bit(reference, tmp_path, batch_size):
    again = sweep.run(simulate.plan_errors(**SETTING), tmp_path, batch_size=batch_size)
    assert again.read_bytes() == reference.read_bytes()


def test_order_and_company_change_no_number(reference, tmp_path):
    fewer = SETTING | {"n_ta": [1000, 3]}
    found = sweep.read_results(sweep.run(simulate.plan_errors(**fewer), tmp_path).parent)
    rows = sweep.read_results(reference.parent)
    for row in found:
        assert row in rows


def test_statistics_are_those_of_the_values(tmp_path):
    @dataclass(frozen=True)
    class Ramp:
        block: int = 100

        def __call__(self, key, scale):
            # Values known without randomness: 0, 1, ..., 99 in every block.
            return scale * jnp.arange(100.0)[None, :]

    cells = [{"name": "ramp"}]
    group = sweep.Group(identity="ramp", cells=(0,), program=Ramp(), arguments=(np.float32(2.0),))
    plan = sweep.Plan(axes={}, cells=cells, groups=[group], seed=0, replicates=250, dtype="float32")
    (row,) = sweep.read_results(sweep.run(plan, tmp_path, batch_size=100).parent)
    values = 2.0 * np.concatenate([np.arange(100), np.arange(100), np.arange(50)])
    assert row["mean"] == pytest.approx(values.mean(), rel=1e-6)
    assert row["stderr"] == pytest.approx(values.std(ddof=1) / 250**0.5, rel=1e-6)
    blocks = (2 * np.arange(100.0), 2 * np.arange(100.0), 2 * np.arange(50.0))
    for percent in (5, 50, 95):
        each = [np.quantile(b, percent / 100, method="inverted_cdf") for b in blocks]
        wanted = np.average(each, weights=[100, 100, 50])
        assert row[f"q{percent:02d}"] == pytest.approx(wanted, rel=1e-6)


def test_a_failed_group_and_bad_values_are_recorded(tmp_path):
    @dataclass(frozen=True)
    class Troubled:
        kind: str
        block: int = 8

        def __call__(self, key):
            if self.kind == "raises":
                raise RuntimeError("no luck")
            values = jnp.ones((1, 8))
            return {"fine": values, "nan": values * jnp.nan, "some": values.at[0, 3].set(jnp.inf)}[
                self.kind
            ]

    kinds = ("fine", "raises", "nan", "some")
    groups = [
        sweep.Group(identity=kind, cells=(i,), program=Troubled(kind), arguments=())
        for i, kind in enumerate(kinds)
    ]
    plan = sweep.Plan(
        axes={},
        cells=[{"kind": kind} for kind in kinds],
        groups=groups,
        seed=0,
        replicates=16,
        dtype="float32",
    )
    rows = sweep.read_results(sweep.run(plan, tmp_path).parent)
    assert [row["status"] for row in rows] == [
        "ok",
        "failed: RuntimeError: no luck",
        "undefined",
        "not finite in 2 replicates",
    ]
    assert [row["mean"] for row in rows] == [1.0, None, None, None]


def test_as_many_compilations_as_announced(tmp_path):
    plan = simulate.plan_errors(
        n_ta=[2, 7, 8],
        n_s=[None],
        d=[2],
        t=[1.0],
        D=[12],
        tau=[0.0, 0.2],
        replicates=10,
        method=["orthonormal"],
    )
    _compiled.cache_clear()
    sweep.run(plan, tmp_path)
    # One without noise; with it 2 and 7..8 rows differ.
    assert plan.compilations == 1 + 2
    assert _compiled.cache_info().currsize == plan.compilations


def test_resuming_a_finished_sweep_does_nothing(reference, tmp_path):
    plan = simulate.plan_errors(**SETTING)
    path = sweep.run(plan, tmp_path)
    calls = []
    sweep.run(plan, tmp_path, resume=True, progress=lambda *numbers: calls.append(numbers))
    assert calls == []
    assert path.read_bytes() == reference.read_bytes()


def test_an_error_of_the_callers_is_raised_and_no_failure_of_a_group(reference, tmp_path):
    plan = simulate.plan_errors(**SETTING)

    def stop(done, total):
        if done > total / 2:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        sweep.run(plan, tmp_path, progress=stop)
    assert not (tmp_path / "results.jsonl").exists()
    path = sweep.run(plan, tmp_path, resume=True)
    assert path.read_bytes() == reference.read_bytes()


@pytest.mark.parametrize("cut", [0, 100, 0.5, -1])
def test_a_journal_cut_anywhere_is_continued(reference, tmp_path, cut):
    plan = simulate.plan_errors(**SETTING)
    path = sweep.run(plan, tmp_path, batch_size=1024)
    journal = tmp_path / "journal.jsonl"
    whole = journal.read_bytes()
    cut = round(cut * len(whole)) if isinstance(cut, float) else cut
    journal.write_bytes(whole[:cut])
    path.unlink()
    sweep.run(plan, tmp_path, batch_size=1024, resume=True)
    assert path.read_bytes() == reference.read_bytes()
    assert journal.read_bytes() == whole


def test_another_configuration_is_refused_by_name(tmp_path):
    plan = simulate.plan_errors(n_ta=[2], d=[2], t=[1.0], replicates=10)
    sweep.run(plan, tmp_path)
    with pytest.raises(ValueError, match="holds a sweep already"):
        sweep.run(plan, tmp_path)
    other = simulate.plan_errors(n_ta=[2], d=[2], t=[2.0], replicates=10)
    with pytest.raises(ValueError, match=r"t = \[1.0\], not \[2.0\]"):
        sweep.run(other, tmp_path, resume=True)
    with pytest.raises(ValueError, match="replicates = 10, not 11"):
        sweep.run(replace(plan, replicates=11), tmp_path, resume=True)


def _command(*arguments, devices=1, **extra):
    # Results are equal bit for bit under the same compiler flags.
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"} | extra
    return {
        "args": [sys.executable, *arguments],
        "cwd": ROOT,
        "env": environment,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    }


SMALL = [
    "-m",
    "benchmarks",
    "sweep",
    "--n-ta",
    "1,3,4,1000",
    "--n-s",
    "50,inf",
    "--d",
    "3",
    "--t",
    "0.1,1",
    "--method",
    "rank,orthonormal",
    "--metric",
    "subspace_error,kl",
    "--replicates",
    "3000",
]


@pytest.mark.parametrize("devices", [4])
def test_devices_change_no_bit(reference, tmp_path, devices):
    done = subprocess.run(**_command(*SMALL, "--out", str(tmp_path), devices=devices), check=False)
    assert done.returncode == 0, done.stderr
    assert f"devices: {devices}" in done.stdout
    assert (tmp_path / "results.jsonl").read_bytes() == reference.read_bytes()


def test_killed_at_any_moment_it_resumes_with_the_same_bytes(reference, tmp_path):
    chance = random.Random(0)
    arguments = [*SMALL, "--resume", str(tmp_path), "--batch-size", "1024"]
    journal, kills = tmp_path / "journal.jsonl", 0
    for _ in range(3):
        before = journal.stat().st_size if journal.exists() else 0
        process = subprocess.Popen(**_command(*arguments))
        # First as soon as there is a folder, then some time after the journal has grown.
        ready = journal if kills else tmp_path / "manifest.json"
        while process.poll() is None and not (
            ready.exists() and (ready.stat().st_size > before or not kills)
        ):
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.05))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate()
    done = subprocess.run(**_command(*arguments), check=False)
    assert done.returncode == 0, done.stderr
    assert kills >= 2
    assert (tmp_path / "results.jsonl").read_bytes() == reference.read_bytes()


TWO = """
import sys
import jax
jax.distributed.initialize(f"127.0.0.1:{sys.argv[1]}", 2, int(sys.argv[2]))
from fsd_jax import simulate, sweep
import json
plan = simulate.plan_errors(**json.loads(sys.argv[3]))
sweep.run(plan, sys.argv[4])
"""


def test_two_processes_agree_with_one(reference, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    processes = [
        subprocess.Popen(
            **_command(
                "-c",
                TWO,
                port,
                str(i),
                json.dumps(SETTING),
                str(tmp_path),
                JAX_CPU_COLLECTIVES_IMPLEMENTATION="gloo",
            )
        )
        for i in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert (tmp_path / "results.jsonl").read_bytes() == reference.read_bytes()


def test_memory_is_that_of_one_batch():
    # Loops over blocks keep one block's working memory; the batch's values come on top.
    group = simulate.plan_errors(n_ta=[20], d=[8], t=[0.1, 1.0]).groups[0]
    extra = []
    for capacity in (10, 100):
        lowered = _compiled(group.program, capacity).lower(
            stream(0, "x"), np.asarray([0, capacity]), *group.arguments
        )
        memory = lowered.compile().memory_analysis()
        values = capacity * 2 * 1024 * 4
        extra.append(memory.temp_size_in_bytes + memory.output_size_in_bytes - values)
    assert extra[1] < 1.2 * extra[0] + 4096


def test_frames_and_grids(reference, tmp_path):
    frame = sweep.load_results(reference.parent)
    assert len(frame) == 64
    assert set(frame["status"]) == {"ok"}
    data = sweep.to_grid(reference.parent)
    where = {"n_ta": 4, "n_s": np.inf, "t": 1.0, "method": "rank", "metric": "subspace_error"}
    picked = data["mean"].sel(where)
    exact = theory.expected_subspace_error(latent_dim=3, n_ta=4, latent_variance=1.0, time=1.0)
    assert float(picked.squeeze()) == pytest.approx(exact, rel=0.1)
    with pytest.raises(ValueError, match="no finished sweep"):
        sweep.load_results(tmp_path)


def test_draws_are_those_of_the_simulator(tmp_path):
    plan = simulate.plan_errors(n_ta=[5], d=[2], t=[1.0], replicates=1024)
    (row,) = sweep.read_results(sweep.run(plan, tmp_path).parent)
    direct = simulate.subspace_errors(
        stream(0, plan.groups[0].identity),
        latent_dim=2,
        n_ta=5,
        n_s=None,
        latent_variance=1.0,
        times=[1.0],
        replicates=1024,
    )
    assert row["mean"] == pytest.approx(float(jnp.mean(direct)), rel=1e-5)
