"""How command lines end: quietly, with the status that a shell expects, and with all they began."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from benchmarks import ending

ROOT = pathlib.Path(ending.__file__).resolve().parent.parent
SLEEPERS = '''
"""Processes that hold this one's output open for a minute."""
import sys, time
from benchmarks import processes
from benchmarks.ending import end, tidy_up_first

def sleep(name, tell):
    print("begun", flush=True)
    time.sleep(60)

def main():
    tidy_up_first()
    return len(list(processes.run(sleep, [(1,), (2,), (3,)], extra="", tell=str, jobs=2)))

if __name__ == "__main__":
    end("sleepers", main)
'''


def _start(*command):
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.fixture(autouse=True)
def interruptible():
    """Programs that a test starts can be interrupted, even where the tests run in the background.

    A shell starts what runs in the background with SIGINT ignored, and children inherit that.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def sleepers(tmp_path):
    """A command line with two processes at work."""
    script = tmp_path / "sleepers.py"
    script.write_text(SLEEPERS)
    with _start(str(script)) as process:
        assert [process.stdout.readline() for _ in range(2)] == ["begun\n"] * 2
        yield process
        process.kill()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_outlives_the_command_line(sleepers, end):
    sleepers.send_signal(end)
    # The output ends when nobody holds it any more: neither this process nor those it began.
    assert sleepers.communicate(timeout=5)[0] == ""
    assert sleepers.returncode == -end


def test_an_interruption_is_quiet_and_does_not_wait_for_the_work(sleepers):
    os.killpg(sleepers.pid, signal.SIGINT)  # As a terminal does it.
    assert sleepers.communicate(timeout=5) == ("", "sleepers: interrupted\n")
    assert sleepers.returncode == 130


CHILD = "import sys, time; from benchmarks.ending import end_with; end_with(int(sys.argv[1])); "
CHILD += "print('begun', flush=True); time.sleep(60)"


def test_a_program_that_a_benchmark_starts_ends_with_it():
    code = f"import os, subprocess, sys; child = [sys.executable, '-c', {CHILD!r}]; "
    code += "subprocess.run([*child, str(os.getpid())])"
    with _start("-c", code) as process:
        assert process.stdout.readline() == "begun\n"
        process.kill()
        assert process.communicate(timeout=5)[0] == ""


SWEEP = ["benchmarks", "sweep", "--n-ta", "4", "--d", "2", "--t", "1", "--replicates", "9"]


@pytest.mark.parametrize(
    "command",
    [
        ["benchmarks", "--list"],
        ["benchmarks", "--help"],
        ["benchmarks", *SWEEP[1:], "--resume"],
        ["paper_figures", "--list"],
    ],
    ids=["list", "help", "sweep", "figures"],
)
def test_output_that_nobody_reads_ends_quietly(command, tmp_path):
    more = [str(tmp_path / "out")] if command[-1] == "--resume" else []
    with _start("-m", *command, *more) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
        # Where output is not buffered, argparse itself passes over what it cannot write.
        assert process.wait(60) in ({0, 141} if "--help" in command else {141})


CTRL_C = "os.kill(os.getpid(), signal.SIGINT)"


def _end(body):
    code = f"from benchmarks.ending import *\ndef main():\n    {body}\nend('it', main)"
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("body", "status", "out", "err"),
    [
        ("print(1); return 0", 0, "1\n", ""),
        ("return 1", 1, "", ""),
        ("raise SystemExit(2)", 2, "", ""),
        ("print(1); raise KeyboardInterrupt", 130, "1\n", "it: interrupted\n"),
        ("print(1); return 130", 130, "1\n", ""),
        (f"try:\n        {CTRL_C}\n    except BaseException: pass", 130, "", "it: interrupted\n"),
        (
            f"tidy_up_first()\n    try: {CTRL_C}\n    finally: print(1)",
            130,
            "1\n",
            "it: interrupted\n",
        ),
        (
            f"tidy_up_first()\n    try: {CTRL_C}\n    except BaseException: {CTRL_C}",
            130,
            "",
            "it: interrupted\n",
        ),
    ],
)
def test_the_status_is_passed_on(body, status, out, err):
    done = _end(body)
    assert (done.returncode, done.stdout, done.stderr) == (status, out, err)


def test_a_mistake_in_the_program_keeps_its_traceback():
    done = _end("raise ZeroDivisionError")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_nothing_is_loaded_before_an_interruption_is_quiet():
    code = "import sys, benchmarks.__main__, paper_figures.__main__; print('jax' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
