"""Folders of the user's own: which files are pictures, what their numbers mean, what is kept."""

import contextlib
import os
import shutil
import sys

import numpy as np
import pytest
from PIL import Image, features

from fsd_jax.image import _decode, _folders, _listing, _store, data

RNG = np.random.default_rng(0)


@pytest.fixture
def own(tmp_path):
    """Grey pictures; source: a, b, class/c; target: one."""
    top = tmp_path / "own"
    for i, name in enumerate(
        ("source/a.png", "source/b.PNG", "source/class/c.png", "target/t.png")
    ):
        _save(top / name, np.full((8, 8), 10 + i, np.uint8))
    return top


def _save(path, pixels, **kwargs):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(path, **kwargs)
    return path


@pytest.fixture
def read(own, tmp_path):
    def load(**kwargs):
        kwargs = {"size": 8, "channels": 1, "cache": tmp_path / "cache"} | kwargs
        return data.folder(own, **kwargs)

    return load


def _levels(task):
    return [round(float(x) * 255) for x in task.source.mean(axis=(1, 2, 3))]


# --- which files ---


def test_only_pictures_are_read(own, read):
    (own / "source" / "a.txt").write_text("a cat")
    for name in ("a.json", "a.caption", "a.npz", "Thumbs.db", "no_suffix", "list.csv"):
        (own / "source" / name).write_bytes(b"\x00")
    _save(own / "source" / ".hidden.png", np.zeros((8, 8), np.uint8))
    _save(own / "source" / ".ipynb_checkpoints" / "a-checkpoint.png", np.zeros((8, 8), np.uint8))
    os.mkfifo(own / "source" / "pipe.png")
    assert _levels(read()) == [10, 11, 12]


def test_links_are_followed_once(own, read, tmp_path):
    _save(tmp_path / "elsewhere" / "d.png", np.full((8, 8), 30, np.uint8))
    (own / "source" / "linked").symlink_to(tmp_path / "elsewhere")
    (own / "source" / "again").symlink_to(own / "source" / "class")
    (own / "source" / "loop").symlink_to(own / "source")
    (own / "source" / "up").symlink_to(own)
    (tmp_path / "elsewhere" / "back").symlink_to(own / "source")
    assert _levels(read()) == [10, 11, 12, 30]
    (own / "source" / "z.png").symlink_to(tmp_path / "nothing.png")
    with pytest.raises(ValueError, match=r"z\.png"):
        read()
    assert read(on_error="skip").skipped == (str(own / "source" / "z.png"),)


def test_suffixes_and_validity(own, read):
    _save(own / "source" / "d.bmp", np.full((8, 8), 40, np.uint8))
    shutil.copy(own / "source" / "a.png", own / "source" / "e.picture")
    assert _levels(read()) == [10, 11, 12, 40]
    assert _levels(read(suffixes=["png"])) == [10, 11, 12]
    assert _levels(read(suffixes=(".PNG", "picture"))) == [10, 11, 12, 10]
    assert _levels(read(valid=lambda path: path.stem in "bt")) == [11]
    with pytest.raises(FileNotFoundError, match="source"):
        read(suffixes=".tif")
    with pytest.raises(ValueError, match="not both"):
        read(suffixes=["png"], valid=bool)


def test_a_photograph_without_a_reader_is_not_left_out_in_silence(own, read):
    (own / "source" / "phone.HEIC").write_bytes(b"\x00\x00\x00\x18ftypheic")
    with pytest.raises(ValueError, match=r"phone\.HEIC.*does not know its format"):
        read()


def test_classes_are_the_folders_of_the_source(own, read):
    with pytest.raises(ValueError, match=r"a\.png.*lies in no class"):
        read(labels=True)
    for name in ("a.png", "b.PNG"):
        (own / "source" / "ant").mkdir(exist_ok=True)
        (own / "source" / name).rename(own / "source" / "ant" / name)
    task = read(labels=True)
    assert task.source_labels.tolist() == ["ant", "ant", "class"]
    assert read().source_labels is None
    assert read(labels=True, shots=1).source_labels.tolist() == ["ant", "ant", "class"]
    (own / "source" / "ant" / "b.PNG").write_bytes(b"broken")
    assert read(labels=True, on_error="skip").source_labels.tolist() == ["ant", "class"]
    (own / "source" / "bee").mkdir()
    with pytest.raises(FileNotFoundError, match="bee"):
        read(labels=True)


# --- what the numbers mean ---


def _value(path, **kwargs):
    """The picture in [0, 1]."""
    chosen = {"size": 8, "channels": 3, "fit": "crop", "background": "white"} | kwargs
    look = _decode.Look.checked(**chosen)
    return _folders._unit(_decode.decoded(path, _decode.sha256(path), look))


RAMP = np.linspace(0, 1, 64).reshape(8, 8)
DEEP = {
    "png16": ("a.png", (65535 * RAMP).astype(np.uint16)),
    "tiff16": ("a.tif", (65535 * RAMP).astype(np.uint16)),
    "tiff32": ("a.tif", (65535 * RAMP).astype(np.int32)),
    "float": ("a.tif", RAMP.astype(np.float32)),
}


@pytest.mark.parametrize("kind", DEEP)
@pytest.mark.parametrize("channels", [1, 3])
def test_deep_pictures_are_scaled_by_their_mode(kind, channels, tmp_path):
    name, pixels = DEEP[kind]
    found = _value(_save(tmp_path / name, pixels), channels=channels)
    assert found.dtype == np.float32
    assert found.shape == (8, 8, channels)
    # Half a step of 16 bits, and Lanczos at its own size changes nothing but rounding.
    np.testing.assert_allclose(found, np.repeat(RAMP[..., None], channels, 2), atol=1.1 / 65535)


def test_pgm_of_16_bits(tmp_path):
    values = (65535 * RAMP).astype(">u2")
    (tmp_path / "a.pgm").write_bytes(b"P5\n8 8\n65535\n" + values.tobytes())
    found = _value(tmp_path / "a.pgm", channels=1)[..., 0]
    np.testing.assert_allclose(found, RAMP, atol=1.1 / 65535)


@pytest.mark.parametrize(
    "pixels",
    [
        (1.5 * RAMP).astype(np.float32),
        (RAMP - 0.1).astype(np.float32),
        np.full((8, 8), np.nan, np.float32),
        (70_000 * RAMP).astype(np.int32),
    ],
)
def test_numbers_without_a_range_are_an_error(pixels, tmp_path):
    with pytest.raises(ValueError, match="has white at"):
        _value(_save(tmp_path / "a.tif", pixels))


def test_shallow_and_deep_pictures_together(own, read):
    _save(own / "source" / "d.png", (65535 * RAMP).astype(np.uint16))
    task = read()
    assert task.source.dtype == task.target.dtype == np.float32
    assert np.array_equal(task.source[0], np.full((8, 8, 1), np.float32(10) / 255))
    np.testing.assert_allclose(task.source[3, ..., 0], RAMP, atol=1.1 / 65535)
    assert read().checksum == task.checksum


CORNER = np.zeros((8, 8, 4), np.uint8)
CORNER[4:] = (0, 0, 255, 255)
CORNER[:4] = (255, 0, 0, 0)


def _palette():
    picture = Image.new("P", (8, 8), 0)
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.paste(1, (0, 4, 8, 8))
    return picture


def _half():
    pixels = CORNER.copy()
    pixels[:4, :, 3] = 128
    return Image.fromarray(pixels)


@pytest.mark.parametrize("kind", ["rgba", "palette", "palette bytes", "key", "webp", "gif"])
def test_transparency_is_laid_on_the_background(kind, tmp_path):
    """The hidden colour, red, never shows."""
    path = tmp_path / "a.png"
    if kind == "rgba":
        _save(path, CORNER)
    elif kind == "palette":
        _save(path, _palette(), transparency=0)
    elif kind == "palette bytes":
        _save(path, _palette(), transparency=bytes([0, 255]))
    elif kind == "key":
        _save(path, CORNER[..., :3], transparency=(255, 0, 0))
    elif kind == "gif":
        path = _save(tmp_path / "a.gif", _palette(), transparency=0)
    else:
        if not features.check("webp"):
            pytest.skip("Pillow without WebP")
        path = _save(tmp_path / "a.webp", CORNER, lossless=True)
    found = _value(path, background="#00ff00")
    # Lanczos at the picture's own size is exact but for the halves' common edge, which stays.
    assert np.array_equal(found[0, 0], [0, 1, 0])
    assert np.array_equal(found[7, 0], [0, 0, 1])
    assert np.array_equal(_value(path)[0, 0], [1, 1, 1])
    assert np.array_equal(_value(path, background=(0, 0, 0), channels=1)[0, 0], [0])


def test_half_transparent_pixels_are_mixed(tmp_path):
    found = _value(_save(tmp_path / "a.png", _half()), background="white")
    np.testing.assert_allclose(found[0, 0], [1, 127 / 255, 127 / 255], atol=1.1 / 255)


def test_grey_with_transparency(tmp_path):
    pixels = np.full((8, 8, 2), 200, np.uint8)
    pixels[:4, :, 1] = 0
    pixels[4:, :, 1] = 255
    found = _value(
        _save(tmp_path / "a.png", Image.fromarray(pixels, "LA")), background="black", channels=1
    )
    assert (found[0, 0, 0], found[7, 0, 0]) == (0, np.float32(200) / 255)
    deep = np.full((8, 8), 40_000, np.uint16)
    deep[:4] = 7
    path = _save(tmp_path / "b.png", Image.fromarray(deep), transparency=7)
    assert _value(path, channels=1)[0, 0, 0] == 1


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr"])
def test_other_modes(mode, tmp_path):
    ending = "tif" if mode in ("CMYK", "YCbCr") else "png"
    white = Image.new("RGB", (8, 8), "white").convert(mode)
    found = _value(_save(tmp_path / f"a.{ending}", white))
    np.testing.assert_allclose(found, 1, atol=1e-6)


def test_the_cameras_orientation_is_applied(tmp_path):
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, :4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    path = _save(tmp_path / "a.png", pixels, exif=exif)
    # Turned by 90 degrees to the right: what was left is on top.
    found = _value(path)
    assert (found[0, 4, 0], found[7, 4, 0]) == (1, 0)


def test_sizes_and_fits(tmp_path):
    pixels = np.zeros((10, 20, 3), np.uint8)
    pixels[:, 5:15] = 255
    path = _save(tmp_path / "a.png", pixels)
    assert np.array_equal(_value(path, size=10), np.ones((10, 10, 3)))
    padded = _value(path, size=np.int64(20), fit="pad", background=(0, 255, 0))
    assert padded.shape == (20, 20, 3)
    assert np.array_equal(padded[:5], np.broadcast_to(np.float32([0, 1, 0]), (5, 20, 3)))
    assert np.array_equal(padded[5:15], pixels / np.float32(255))
    for size in ((10, 20), [10, 20], np.array([10, 20])):
        assert np.array_equal(_value(path, size=size), pixels / np.float32(255))
    thin = _save(tmp_path / "thin.png", np.zeros((1, 3000), np.uint8))
    assert _value(thin, size=8, fit="pad", channels=np.int64(1)).shape == (8, 8, 1)
    deep = _save(tmp_path / "deep.tif", np.zeros((4, 8), np.float32))
    assert np.array_equal(_value(deep, fit="pad")[:2], np.ones((2, 8, 3)))


BAD_LOOKS = {
    "size": [
        {"size": 0},
        {"size": 8.0},
        {"size": True},
        {"size": (8,)},
        {"size": (8, 0)},
        {"size": "8"},
        {"size": None},
    ],
    "channels": [{"channels": True}, {"channels": 2}, {"channels": 1.0}, {"channels": "RGB"}],
    "fit": [{"fit": "stretch"}, {"fit": None}],
    "background": [
        {"background": "no colour"},
        {"background": (0, 0)},
        {"background": 7},
        {"background": (0, 0, 256)},
        {"background": (0.5, 0, 0)},
        {"background": "#00000000"},
        {"background": None},
        {"background": [1, [2], 3]},
    ],
    "labels": [{"labels": "no"}, {"labels": 1}],
    "seed": [{"seed": 1.5}, {"seed": -1}],
    "shots": [{"shots": 0}, {"shots": 2}, {"shots": 1.0}],
    "suffixes": [{"suffixes": []}, {"suffixes": [3]}, {"suffixes": 3}, {"suffixes": ["."]}],
    "valid": [{"valid": "png"}],
    "cache": [{"cache": 3}],
    "progress": [{"progress": 3}],
    "on_error": [{"on_error": "ignore"}, {"on_error": None}],
}


@pytest.mark.parametrize("name", BAD_LOOKS)
def test_bad_arguments_are_named(name, read):
    for bad in BAD_LOOKS[name]:
        with pytest.raises(ValueError, match=name):
            read(**bad)
    with pytest.raises(ValueError, match="path"):
        data.folder(3)


# --- what cannot be read ---


RAISED = [
    OSError,
    SyntaxError,
    ValueError,
    KeyError,
    IndexError,
    ZeroDivisionError,
    MemoryError,
    NotImplementedError,
    AttributeError,
    OverflowError,
    RuntimeError,
    AssertionError,
    ImportError,
]


def test_a_decompression_bomb_is_named(own, read, monkeypatch):
    big = _save(own / "source" / "big.png", np.zeros((40, 40), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    with pytest.raises(ValueError, match=r"big\.png.*bomb"):
        read()
    assert read(on_error="skip").skipped == (str(big),)


@pytest.mark.parametrize("kind", RAISED)
def test_whatever_pillow_raises_is_named(own, read, kind, monkeypatch):
    exif_transpose = _decode._pillow("ImageOps").exif_transpose

    def broken(picture):
        if picture.size == (9, 9):
            raise kind("odd")
        return exif_transpose(picture)

    bad = _save(own / "source" / "b.PNG", np.zeros((9, 9), np.uint8))
    monkeypatch.setattr("PIL.ImageOps.exif_transpose", broken)
    with pytest.raises(ValueError, match=r"b\.PNG.*odd") as caught:
        read()
    assert type(caught.value) is ValueError
    task = read(on_error="skip")
    assert (task.skipped, _levels(task)) == ((str(bad),), [10, 12])


def test_damaged_files_are_named(own, read):
    """Cut and flipped files of several formats: read, or one clear error, nothing else."""
    pixels = RNG.integers(0, 256, (12, 12, 3), np.uint8)
    for ending in ("png", "jpg", "gif", "bmp", "tif", "ppm", "tga"):
        path = _save(own / "source" / f"x.{ending}", pixels)
        whole = path.read_bytes()
        for trial in range(12):
            damaged = bytearray(whole[: RNG.integers(len(whole))] if trial % 3 == 0 else whole)
            for place in RNG.integers(0, max(len(damaged), 1), 3):
                if damaged:
                    damaged[place] ^= 1 << int(RNG.integers(8))
            path.write_bytes(damaged)
            with contextlib.suppress(ValueError):
                read()
            # The others are read whatever this one is.
            assert _levels(read(on_error="skip"))[:3] == [10, 11, 12]
        path.unlink()


def test_a_folder_that_cannot_be_listed_is_named(own, read, monkeypatch):
    scandir = os.scandir

    def refuse(place):
        if os.path.basename(place) == "class":
            raise PermissionError(13, "Permission denied")
        return scandir(place)

    monkeypatch.setattr(_listing.os, "scandir", refuse)
    with pytest.raises(ValueError, match=r"source/class.*Permission"):
        read()
    assert read(on_error="skip").skipped == (str(own / "source" / "class"),)


def test_errors_of_the_users_functions_are_theirs(read):
    def stop(*_):
        raise KeyError("mine")

    for argument in ("progress", "valid"):
        with pytest.raises(KeyError, match="mine"):
            read(on_error="skip", **{argument: stop})


# --- what is kept ---


def test_a_replaced_file_of_the_same_size_and_time_is_read(own, read):
    path = own / "source" / "a.png"
    before, status = read(), path.stat()
    _save(path, np.full((8, 8), 99, np.uint8))
    assert path.stat().st_size == status.st_size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert _levels(read()) == [99, 11, 12]
    assert _levels(before) == [10, 11, 12]


def test_the_cache_follows_the_content_and_not_the_place(own, read, tmp_path, monkeypatch):
    task = read()
    own.rename(tmp_path / "moved")
    (tmp_path / "own").symlink_to(tmp_path / "moved")
    monkeypatch.setattr(_decode, "decoded", None)
    assert read().checksum == task.checksum
    for other in ({"size": 9}, {"channels": 3}, {"fit": "pad"}, {"background": "black"}):
        with pytest.raises(ValueError, match="can be read"):
            read(**other)
    (file,) = (tmp_path / "cache").iterdir()
    assert len(file.stem.removeprefix("folder-")) == 64


def test_skipped_pictures_are_not_kept(own, read, tmp_path):
    whole = (own / "source" / "a.png").read_bytes()
    (own / "source" / "a.png").write_bytes(whole[:30])
    for _ in range(2):
        assert len(read(on_error="skip").skipped) == 1
    assert not (tmp_path / "cache").exists()


def test_every_damage_of_the_cache_leads_to_the_picture(read, tmp_path, monkeypatch):
    task = read()
    (file,) = (tmp_path / "cache").iterdir()
    whole = file.read_bytes()
    rebuilt = []
    keep = _store.keep
    monkeypatch.setattr(_store, "keep", lambda *args: (rebuilt.append(1), keep(*args)))
    for trial in range(150):
        damaged = bytearray(whole)
        damaged[RNG.integers(len(whole))] ^= 1 << int(RNG.integers(8))
        file.write_bytes(damaged[: RNG.integers(len(whole))] if trial % 10 == 0 else damaged)
        assert read().checksum == task.checksum
    assert rebuilt


@pytest.mark.parametrize("kind", RAISED)
def test_whatever_the_parser_raises_the_cache_is_built_again(kind, tmp_path, monkeypatch, caplog):
    arrays = {"a": np.arange(3)}
    _store.keep("x", {}, arrays, tmp_path)

    def broken(*_, **__):
        raise kind("odd")

    monkeypatch.setattr(np, "load", broken)
    found = _store.cached("x", {}, lambda: {"a": np.arange(4)}, tmp_path)
    assert np.array_equal(found["a"], np.arange(4))
    assert "damaged" in caplog.text


def test_a_compression_method_nobody_knows(tmp_path, caplog):
    """NotImplementedError, of which the picture was the victim."""
    _store.keep("x", {}, {"a": np.arange(3)}, tmp_path)
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    for mark, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        start = content.find(mark)
        while start >= 0:
            content[start + place] = 99
            start = content.find(mark, start + 1)
    file.write_bytes(content)
    assert _store.stored("x", {}, tmp_path) is None
    assert "compression" in caplog.text
    found = _store.cached("x", {}, lambda: {"a": np.arange(3)}, tmp_path)
    assert np.array_equal(found["a"], np.arange(3))


def test_reading_needs_pillow(own, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"fsd-jax\[image\]"):
        data.folder(own)
