"""A sweep's folder: whose it is, what it is of, and what becomes of damage."""

import json
import logging
import os
import random
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np
import pytest

from fsd_jax import _files, sweep
from fsd_jax.sweep._results import config_hash
from tests.sweep.toy import Toy, plan

ROOT = Path(__file__).parents[2]
PLAN = plan()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished sweep's folder: name and content of each file. The journal has many lines."""
    folder = tmp_path_factory.mktemp("toy")
    sweep.run(PLAN, folder, batch_size=64)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _restore(folder, files):
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _resumed(folder):
    return sweep.run(PLAN, folder, batch_size=64, resume=True).read_bytes()


def test_what_a_folder_holds(finished):
    assert sorted(finished) == ["journal.jsonl", "manifest.json", "results.jsonl"]
    lines = finished["journal.jsonl"].splitlines()
    assert len(lines) == 3 * 7  # 50 blocks, 8 a batch
    assert all(len(json.loads(line)["crc"]) == 8 for line in lines)
    manifest = json.loads(finished["manifest.json"])
    assert manifest["settings"] == {"generator": "threefry2x32", "x64": False}
    assert manifest["hash"] == config_hash(PLAN)


# Damage


def test_flipped_bits_of_a_journal_leave_the_same_bytes(finished, tmp_path, caplog):
    """Whatever the damage, each group goes on from its last whole line, or from the start."""
    chance, journal = random.Random(0), finished["journal.jsonl"]
    caplog.set_level(logging.CRITICAL, "fsd_jax")
    _restore(tmp_path, finished)
    for _ in range(300):
        damaged = bytearray(journal)
        damaged[chance.randrange(len(journal))] ^= 1 << chance.randrange(8)
        (tmp_path / "journal.jsonl").write_bytes(bytes(damaged))
        (tmp_path / "results.jsonl").unlink()
        assert _resumed(tmp_path) == finished["results.jsonl"]


DAMAGE = {
    "a NUL line": lambda lines: [*lines[:4], b"\0\0\0\0\n", *lines[4:]],
    "a NUL line at the end": lambda lines: [*lines[:9], bytes(300) + b"\n"],
    "no UTF-8": lambda lines: [b"\xff\xfe{}\n", *lines[:12]],
    "no dictionary": lambda lines: [*lines[:12], b"[1, 2]\n", b"3\n", b"\n"],
    "endless": lambda lines: [*lines[:5], b"[" * 100_000 + b"\n"],
    "another's line": lambda lines: [*lines[:12], b'{"group": 0, "blocks": 50, "count": 400}\n'],
    "without checksums": lambda lines: [line[: line.index(b', "crc"')] + b"}\n" for line in lines],
    "every line": lambda lines: [line[1:] for line in lines],
    "a torn end": lambda lines: [*lines[:10], lines[10][:-7]],
    "two in one": lambda lines: [*lines[:5], lines[5][:-1], *lines[6:]],
    "empty": lambda lines: [],
}


@pytest.mark.parametrize("name", DAMAGE)
def test_bad_lines_are_passed_over(finished, tmp_path, name, caplog):
    _restore(tmp_path, finished)
    journal = tmp_path / "journal.jsonl"
    journal.write_bytes(b"".join(DAMAGE[name](journal.read_bytes().splitlines(keepends=True))))
    (tmp_path / "results.jsonl").unlink()
    assert _resumed(tmp_path) == finished["results.jsonl"]
    told = [record.getMessage() for record in caplog.records]
    assert all("journal.jsonl, line " in line and "passed over" in line for line in told)
    assert bool(told) == (name not in ("a torn end", "empty"))


def test_a_line_of_another_configuration_is_no_line(finished, tmp_path):
    """Its checksum covers the configuration."""
    _restore(tmp_path, finished)
    other = tmp_path / "other"
    sweep.run(plan(seed=1), other, batch_size=64)
    (tmp_path / "journal.jsonl").write_bytes((other / "journal.jsonl").read_bytes())
    assert _resumed(tmp_path) == finished["results.jsonl"]


def test_flipped_bits_of_a_manifest_are_an_error_or_mean_nothing(finished, tmp_path):
    chance, manifest, refused = random.Random(0), finished["manifest.json"], 0
    _restore(tmp_path, finished)
    for _ in range(60):
        damaged = bytearray(manifest)
        damaged[chance.randrange(len(manifest))] ^= 1 << chance.randrange(8)
        (tmp_path / "manifest.json").write_bytes(bytes(damaged))
        try:
            assert _resumed(tmp_path) == finished["results.jsonl"]
        except ValueError:
            refused += 1
    assert refused > 20


@pytest.mark.parametrize("content", [b"", b"\0" * 9, b"[1]", b"{}", b"[" * 100_000])
def test_a_manifest_that_is_none(finished, tmp_path, content):
    _restore(tmp_path, finished | {"manifest.json": content})
    with pytest.raises(ValueError, match=r"cannot read '.*manifest\.json'"):
        _resumed(tmp_path)
    assert (tmp_path / "journal.jsonl").read_bytes() == finished["journal.jsonl"]


@pytest.mark.parametrize("line", [b"\0\0\0", b"3", b"{", b"\xff", b"[" * 100_000])
def test_a_bad_row_of_results_names_file_and_line(finished, tmp_path, line):
    _restore(tmp_path, finished)
    rows = finished["results.jsonl"].splitlines()
    (tmp_path / "results.jsonl").write_bytes(b"\n".join([*rows[:2], line, *rows[3:]]))
    with pytest.raises(ValueError, match=r"results\.jsonl', line 3, is no row of results"):
        sweep.read_results(tmp_path)
    assert _resumed(tmp_path) == finished["results.jsonl"]


# Whose folder


KNOWN = ("manifest.json", "journal.jsonl", "results.jsonl")


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("held", [KNOWN[1:], KNOWN[1:2], KNOWN[2:]], ids="+".join)
def test_without_a_manifest_nothing_is_touched(finished, tmp_path, held, resume):
    _restore(tmp_path, {name: finished[name] for name in held})
    with pytest.raises(ValueError, match=f"holds {' and '.join(sorted(held, reverse=True))} "):
        sweep.run(PLAN, tmp_path, resume=resume)
    for name in held:
        assert (tmp_path / name).read_bytes() == finished[name]
    assert {path.name for path in tmp_path.iterdir()} <= {*held, "journal.jsonl"}


@pytest.mark.parametrize("held", [KNOWN, KNOWN[:1]], ids="+".join)
def test_with_a_manifest_it_must_be_resumed(finished, tmp_path, held):
    _restore(tmp_path, {name: finished[name] for name in held})
    with pytest.raises(ValueError, match="holds a sweep already; resume it"):
        sweep.run(PLAN, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        name: finished[name] for name in held
    }
    assert _resumed(tmp_path) == finished["results.jsonl"]


def test_rows_of_something_else_are_kept(finished, tmp_path):
    """A benchmark's records under the same name, in a folder that has a sweep too."""
    foreign = b'{"case": "agreement", "value": 1.0}\n'
    _restore(tmp_path, finished | {"results.jsonl": finished["results.jsonl"] + foreign})
    with pytest.raises(ValueError, match="rows that are not of this sweep"):
        _resumed(tmp_path)
    assert (tmp_path / "results.jsonl").read_bytes().endswith(foreign)


def test_a_folder_of_another_release_is_refused(finished, tmp_path):
    manifest = json.loads(finished["manifest.json"])
    for name in ("format", "settings", "work"):
        del manifest[name]
    _restore(tmp_path, finished | {"manifest.json": json.dumps(manifest).encode()})
    with pytest.raises(ValueError, match="of another release"):
        _resumed(tmp_path)
    assert len(sweep.to_grid(tmp_path)["n"]) == 3


def test_two_runs_at_once_into_one_folder(finished, tmp_path):
    """The second is refused, be it of the same or of another configuration, resumed or not."""
    told = []

    def second(*_):
        for other, resume in ((PLAN, True), (plan(seed=1), True), (PLAN, False)):
            with pytest.raises(ValueError, match=r"another run is writing|holds a sweep") as caught:
                sweep.run(other, tmp_path, resume=resume)
            told.append(str(caught.value))

    sweep.run(PLAN, tmp_path, batch_size=400, progress=second)
    assert "another run is writing to" in told[0]
    assert "another run is writing to" in told[1]
    assert (tmp_path / "results.jsonl").read_bytes() == finished["results.jsonl"]
    assert _resumed(tmp_path) == finished["results.jsonl"]


def test_a_run_that_failed_leaves_the_folder_free(finished, tmp_path):
    def stop(*_):
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        sweep.run(PLAN, tmp_path, batch_size=64, progress=stop)
    assert _resumed(tmp_path) == finished["results.jsonl"]


def test_an_unwritable_folder_is_found_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("")
    work = dict(progress=lambda *_: pytest.fail("worked"))
    with pytest.raises(OSError, match="a"):
        sweep.run(PLAN, tmp_path / "a" / "b", **work)
    with pytest.raises(OSError, match="a"):
        sweep.run(PLAN, tmp_path / "a", **work)

    def full(_):
        raise OSError("read-only file system")

    monkeypatch.setattr(_files, "check_writable", full)
    with pytest.raises(OSError, match="read-only"):
        sweep.run(PLAN, tmp_path / "c", **work)


# Of what


@pytest.mark.parametrize(
    ("switch", "value", "told"),
    [
        ("jax_default_prng_impl", "rbg", "generator = threefry2x32, not rbg"),
        ("jax_enable_x64", True, "x64 = False, not True"),
        ("jax_random_seed_offset", 3, "generator = threefry2x32, not threefry2x32, jax_random_"),
        ("jax_default_matmul_precision", "bfloat16", "matmul_precision = None, not bfloat16"),
    ],
)
def test_settings_are_part_of_a_sweep(finished, tmp_path, switch, value, told):
    _restore(tmp_path, finished)
    before, name = getattr(jax.config, switch), config_hash(PLAN)
    jax.config.update(switch, value)
    try:
        assert config_hash(PLAN) != name
        with pytest.raises(ValueError, match=f"holds a sweep with {told}"):
            _resumed(tmp_path)
    finally:
        jax.config.update(switch, before)
    assert _resumed(tmp_path) == finished["results.jsonl"]


@dataclass(frozen=True)
class Other(Toy):
    """Another program with the same fields."""


GROUPS = PLAN.groups
CHANGED = {
    "arguments": plan(scale=2.0),
    "their dtype": replace(
        PLAN, groups=[replace(group, arguments=(np.float64(1),)) for group in GROUPS]
    ),
    "program": plan(program=Other()),
    "block": plan(program=Toy(block=16)),
    "identity": replace(
        PLAN, groups=[replace(group, identity=group.identity + "'") for group in GROUPS]
    ),
    "order": replace(PLAN, groups=GROUPS[::-1]),
    "cells": replace(PLAN, cells=[cell | {"more": 1} for cell in PLAN.cells]),
}


@pytest.mark.parametrize("name", CHANGED)
def test_the_work_is_part_of_a_sweep(finished, tmp_path, name):
    _restore(tmp_path, finished)
    with pytest.raises(ValueError, match="with other cells, programs or arguments"):
        sweep.run(CHANGED[name], tmp_path, resume=True)
    assert (tmp_path / "journal.jsonl").read_bytes() == finished["journal.jsonl"]


# Ends


def _process(folder, **options):
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "tests.sweep.toy", str(folder), json.dumps(options)]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_killed_and_starved_it_resumes_with_the_same_bytes(finished, tmp_path):
    first = _process(tmp_path, pause=0.01)
    for _ in range(5):
        first.stdout.readline()
    # A second process at once is refused.
    with pytest.raises(ValueError, match="another run is writing to"):
        _resumed(tmp_path)
    first.send_signal(signal.SIGTERM)
    first.communicate()
    assert first.returncode == -signal.SIGTERM
    second = _process(tmp_path, pause=0.01)
    for _ in range(30):
        second.stdout.readline()
    second.kill()
    second.communicate()
    size = (tmp_path / "journal.jsonl").stat().st_size
    # The limit falls within a line: its beginning is written.
    starved = _process(tmp_path, bytes=size + 2000)
    _, errors = starved.communicate()
    assert starved.returncode == 1
    assert "OSError" in errors
    assert (tmp_path / "journal.jsonl").stat().st_size == size + 2000
    assert not (tmp_path / "results.jsonl").exists()
    assert _resumed(tmp_path) == finished["results.jsonl"]
    assert {path.name for path in tmp_path.iterdir()} == set(finished)
