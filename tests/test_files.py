"""Files: old or new and never half, modes and links kept, nothing left behind, one writer."""

import os
import signal
import stat
import subprocess
import sys
import time

import pytest

from fsd_jax import _files


def _mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755])
def test_the_mode_of_a_file_is_kept(tmp_path, mode):
    path = tmp_path / "a"
    path.write_text("old")
    path.chmod(mode)
    _files.write_text(path, "new")
    assert (path.read_text(), _mode(path)) == ("new", mode)


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_new_file_has_the_mode_that_the_umask_gives(tmp_path, mask):
    before = os.umask(mask)
    try:
        _files.write_text(tmp_path / "a", "new")
        _files.write_new(tmp_path / "b", "new")
    finally:
        os.umask(before)
    assert _mode(tmp_path / "a") == _mode(tmp_path / "b") == 0o666 & ~mask


def test_what_is_being_written_is_as_private_as_what_it_replaces(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    path.chmod(0o600)
    seen = []

    def write(file):
        file.write(b"secret")
        seen.extend(_mode(entry) for entry in tmp_path.iterdir())

    _files.write_atomically(path, write)
    assert seen == [0o600, 0o600]


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / "data").mkdir()
    target, link, last = tmp_path / "data" / "a", tmp_path / "link", tmp_path / "last"
    target.write_text("old")
    target.chmod(0o600)
    link.symlink_to("data/a")
    last.symlink_to(link)
    _files.write_text(last, "new")
    assert link.is_symlink()
    assert last.is_symlink()
    assert (target.read_text(), _mode(target)) == ("new", 0o600)
    assert [entry.name for entry in (tmp_path / "data").iterdir()] == ["a"]


def test_a_link_to_nothing_makes_its_target_and_a_circle_is_an_error(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "a")
    _files.write_text(tmp_path / "link", "new")
    assert (tmp_path / "a").read_text() == "new"
    (tmp_path / "b").symlink_to("c")
    (tmp_path / "c").symlink_to("b")
    with pytest.raises(OSError, match="b"):
        _files.write_text(tmp_path / "b", "new")


def test_what_is_no_regular_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no regular file"):
        _files.write_text(tmp_path / "pipe", "new")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_new_file_must_be_new(tmp_path):
    _files.write_new(tmp_path / "a", "first")
    with pytest.raises(FileExistsError):
        _files.write_new(tmp_path / "a", "second")
    assert (tmp_path / "a").read_text() == "first"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_without_hard_links_too(tmp_path, monkeypatch):
    def unknown(*_):
        raise PermissionError("not here")

    monkeypatch.setattr(os, "link", unknown)
    test_a_new_file_must_be_new(tmp_path)


def test_a_probe_leaves_nothing_and_finds_what_cannot_be_written(tmp_path):
    _files.check_writable(tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError, match="none"):
        _files.check_writable(tmp_path / "none")
    (tmp_path / "a").write_text("")
    with pytest.raises(NotADirectoryError):
        _files.check_writable(tmp_path / "a")


WRITER = """
import sys, time
from fsd_jax import _files

def write(file):
    file.write(b"half of it")
    file.flush()
    print("writing", flush=True)
    time.sleep(60)

_files.write_atomically(sys.argv[1], write)
"""


def test_a_killed_writers_file_is_removed_by_the_next_and_a_live_ones_is_not(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    (tmp_path / ".fsd_jax-notes.tmp").write_text("a user's own")
    command = [sys.executable, "-c", WRITER, str(path)]
    writers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        for writer in writers:
            assert writer.stdout.readline() == "writing\n"
        assert len(list(tmp_path.iterdir())) == 4
        writers[0].kill()
        writers[0].wait()
        # Another file of the folder: the next save of anything cleans up.
        _files.write_text(tmp_path / "b", "new")
        assert len(list(tmp_path.iterdir())) == 4
        assert writers[1].poll() is None
        writers[1].send_signal(signal.SIGTERM)
        writers[1].wait()
        _files.write_text(path, "new")
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    assert path.read_text() == "new"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".fsd_jax-notes.tmp", "a", "b"]


def test_writers_who_clean_up_beside_each_other_lose_nothing(tmp_path):
    """Each takes the others' fresh files for stale ones now and then; nobody's write is lost."""
    code = (
        "import sys\nfrom fsd_jax import _files\n"
        "for i in range(60): _files.write_text(sys.argv[1], str(i))\n"
    )
    command = [sys.executable, "-c", code]
    start = time.monotonic()
    writers = [
        subprocess.Popen([*command, str(tmp_path / name)], stderr=subprocess.PIPE, text=True)
        for name in "ab"
    ]
    for writer in writers:
        _, errors = writer.communicate(timeout=60)
        assert writer.returncode == 0, errors
    assert time.monotonic() - start < 60
    assert [(tmp_path / name).read_text() for name in "ab"] == ["59", "59"]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_lock_is_gone_with_its_holder(tmp_path):
    path = tmp_path / "lock"
    code = (
        "import os, sys, time\nfrom fsd_jax import _files\n"
        "fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
        "print(_files.try_lock(fd), flush=True)\ntime.sleep(60)\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "True\n"
        handle = os.open(path, os.O_RDWR)
        assert not _files.try_lock(handle)
        holder.kill()
        holder.wait()
        assert _files.try_lock(handle)
        os.close(handle)
    finally:
        holder.kill()
        holder.communicate()
