"""Processes of one run: an error on one is raised on all, and none is given something else."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fsd_jax import sweep
from fsd_jax.sweep import _together
from tests.sweep.toy import plan

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys, time, json
import jax
port, me, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
jax.distributed.initialize(f"127.0.0.1:{port}", 2, me)
from dataclasses import dataclass
from fsd_jax import sweep
from tests.sweep.toy import Toy, plan

def tell(name, call):
    start = time.monotonic()
    try:
        call()
        found = "ok"
    except BaseException as error:
        found = f"{type(error).__name__}: {error}"
    print(json.dumps([name, found, time.monotonic() - start]), flush=True)

def stop(done, total):
    raise MemoryError("enough")

def ctrl_c(done, total):
    raise KeyboardInterrupt

@dataclass(frozen=True)
class Lonely(Toy):
    def __call__(self, key, scale):
        if me == 1:
            raise RuntimeError("only here")
        return super().__call__(key, scale)

small = lambda **more: plan(replicates=64, **more)
one = lambda value, other: value if me == 1 else other
tell("seeds", lambda: sweep.run(small(seed=me), f"{out}/seeds"))
tell("plans", lambda: sweep.run(small(scale=1.0 + me), f"{out}/plans"))
tell("batches", lambda: sweep.run(small(), f"{out}/batches", batch_size=8 + me))
tell("options", lambda: sweep.run(small(), f"{out}/options", batch_size=one(0, 8)))
tell("callback", lambda: sweep.run(small(), f"{out}/callback", progress=one(stop, None)))
tell("interrupt", lambda: sweep.run(small(), f"{out}/interrupt", progress=one(ctrl_c, None)))
tell("folder", lambda: sweep.run(small(), f"{out}/taken"))
tell("group", lambda: sweep.run(small(program=Lonely()), f"{out}/group"))
tell("callback again", lambda: sweep.run(small(), f"{out}/callback", resume=True))
tell("good", lambda: sweep.run(plan(), f"{out}/good"))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What each of two processes was told, by scenario, and where."""
    out = tmp_path_factory.mktemp("two")
    (out / "taken").mkdir()
    (out / "taken" / "results.jsonl").write_text("{}\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, port, str(number), str(out)],
            cwd=ROOT,
            text=True,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for number in range(2)
    ]
    try:
        ends = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    found = []
    for process, (lines, errors) in zip(processes, ends, strict=True):
        assert process.returncode == 0, errors
        # The transport writes lines of its own.
        each = [json.loads(line) for line in lines.splitlines() if line.startswith('["')]
        assert all(seconds < 30 for _, _, seconds in each)
        found.append({name: words for name, words, _ in each})
    return found, out


OUTCOMES = {
    "seeds": ("ValueError: process 1 was given another seed than process 0",) * 2,
    "plans": ("ValueError: process 1 was given another plan, generator or precision",) * 2,
    "batches": ("ValueError: process 1 was given another batch_size than process 0",) * 2,
    "options": (
        "ValueError: process 1: ValueError: batch_size must be at least 1",
        "ValueError: batch_size must be at least 1",
    ),
    "callback": ("RuntimeError: process 1: MemoryError: enough", "MemoryError: enough"),
    "interrupt": ("RuntimeError: process 1 was interrupted", "KeyboardInterrupt"),
    "folder": ("ValueError: '", "ValueError: process 0: ValueError: '"),
    "group": ("ok", "ok"),
    "callback again": ("ok", "ok"),
    "good": ("ok", "ok"),
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_an_error_on_one_is_raised_on_all(told, name):
    for found, expected in zip(told[0], OUTCOMES[name], strict=True):
        assert found[name].startswith(expected)


def test_nothing_is_written_where_the_processes_disagree(told):
    _, out = told
    for name in ("seeds", "plans", "batches", "options"):
        assert not (out / name).exists()
    assert (out / "taken" / "results.jsonl").read_text() == "{}\n"
    assert not (out / "interrupt" / "results.jsonl").exists()


def test_a_group_that_fails_on_one_process_is_a_failed_group(told):
    rows = sweep.read_results(told[1] / "group")
    assert {row["status"] for row in rows} == {
        "failed: RuntimeError: process 1: RuntimeError: only here"
    }


def test_after_errors_the_bytes_are_those_of_one_process(told, tmp_path):
    _, out = told
    for name, replicates in (("callback", 64), ("good", 400)):
        alone = sweep.run(plan(replicates=replicates), tmp_path / name)
        assert (out / name / "results.jsonl").read_bytes() == alone.read_bytes()


def test_an_error_travels_as_bytes_of_one_length():
    for error in (ValueError("ä" * 5000), OSError(28, "no space"), KeyboardInterrupt(), None):
        packed = _together._packed(error)
        assert (packed.shape, packed.dtype) == ((1024,), np.uint8)
        code, kind, _ = _together._unpacked(packed)
        assert (code != 0) == (error is not None)
        assert kind == ("" if error is None else type(error).__name__)


def test_alone_an_error_is_the_callers_own():
    with pytest.raises(KeyboardInterrupt):
        _together.attempt(lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    error = RuntimeError("mine")

    def fail():
        raise error

    start = time.monotonic()
    assert _together.attempt(fail) is error
    with pytest.raises(RuntimeError, match="mine"):
        _together.together(fail)
    assert _together.together(lambda: 3) == 3
    assert time.monotonic() - start < 5
