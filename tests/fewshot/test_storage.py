"""Save and load: nothing is lost, nothing is run, and a failed write leaves the old file."""

import dataclasses
import json
import os
import pickle
import random
import tracemalloc
import zipfile

import jax
import numpy as np
import pytest

import fsd_jax as fsd
from fsd_jax import _npz as storage_format

D, d = 12, 3


def _data(dtype, n=20, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 3, 4)).astype(dtype)


def _models(dtype):
    source = fsd.pretrain(_data(dtype), latent_dim=d)
    shots = _data(dtype, 6, seed=1)
    models = {
        "source": fsd.pretrain(_data(dtype), latent_dim=d, process=fsd.VP.linear(0.1, 3.0)),
        "few-shot": fsd.finetune(source, shots),
    }
    if dtype == np.float32:
        models["alone"] = fsd.target_only(shots, latent_dim=d)
        models["as is"] = fsd.source_as_is(source, shots, mean="source")
        models["rank"] = fsd.finetune(
            source, shots, constraint="rank", mean=None, complete="none", times=(0.1, 1.0)
        )
    return models


@pytest.fixture(scope="module")
def model():
    return fsd.pretrain(_data(np.float32), latent_dim=d)


def _same(a, b):
    leaves, tree = jax.tree.flatten(a)
    others, other_tree = jax.tree.flatten(b)
    assert tree == other_tree  # the static fields: recipe, shape, process
    for leaf, other in zip(leaves, others, strict=True):
        assert isinstance(other, jax.Array)
        assert leaf.dtype == other.dtype
        assert leaf.shape == other.shape
        assert np.asarray(leaf).tobytes() == np.asarray(other).tobytes()


def test_round_trip_is_bit_equal(dtype, tmp_path):
    names = []
    for name, saved in _models(dtype).items():
        path = tmp_path / name
        fsd.save(path, saved)
        loaded = fsd.load(path)
        names.append(name)
        assert type(loaded) is type(saved)
        _same(saved, loaded)
        assert repr(loaded) == repr(saved)
        if isinstance(saved, fsd.FewShotModel):
            assert loaded.recipe == saved.recipe
            assert hash(loaded.recipe) == hash(saved.recipe)
            np.testing.assert_array_equal(
                loaded.losses(_data(dtype, 2)), saved.losses(_data(dtype, 2))
            )
        assert loaded.shape == (3, 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_a_loaded_source_is_as_good_as_new(model, tmp_path):
    fsd.save(tmp_path / "m", model)
    shots = _data(np.float32, 6, seed=1)
    _same(fsd.finetune(model, shots), fsd.finetune(fsd.load(tmp_path / "m"), shots))


def test_special_values_survive(model, tmp_path):
    odd = dataclasses.replace(
        model, mean=model.mean.at[:3].set(np.array([3e38, -0.0, 1e-38], np.float32))
    )
    fsd.save(tmp_path / "m", odd)
    _same(odd, fsd.load(tmp_path / "m"))


def test_numbers_that_are_not_finite_need_a_status_that_says_so(model, tmp_path):
    x = _data(np.float32)
    x[0, 0, 0] = np.nan
    bad = fsd.pretrain(x, latent_dim=d, throw=False)
    tuned = fsd.finetune(bad, _data(np.float32, 6, seed=1), throw=False)
    for number, each in enumerate((bad, tuned)):
        fsd.save(tmp_path / str(number), each)
        _same(each, fsd.load(tmp_path / str(number)))
    odd = dataclasses.replace(model, mean=model.mean.at[0].set(np.nan))
    with pytest.raises(ValueError, match="cannot be stored: mean has numbers that are not finite"):
        fsd.save(tmp_path / "m", odd)
    assert not (tmp_path / "m").exists()


def test_the_name_is_used_as_it_is(model, tmp_path):
    for name in ("plain", "model.npz", "ünï cøde.fsd"):
        fsd.save(str(tmp_path / name), model)
        assert (tmp_path / name).is_file()
        _same(model, fsd.load(str(tmp_path / name)))
    assert len(list(tmp_path.iterdir())) == 3


def test_a_relative_name(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fsd.save("m", model)
    _same(model, fsd.load("m"))


@pytest.mark.parametrize("wrong", [None, 3, {"a": 1}, np.zeros(3)])
def test_only_models_are_stored(wrong, tmp_path):
    with pytest.raises(ValueError, match="model must be a PretrainedModel or FewShotModel, got"):
        fsd.save(tmp_path / "m", wrong)
    assert not list(tmp_path.iterdir())


# Reading what is not such a file


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        fsd.load(tmp_path / "none")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file(model, tmp_path, share):
    path = tmp_path / "m"
    fsd.save(path, model)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"not a file written by fsd_jax.save, or it is damaged"):
        fsd.load(path)


def test_a_flipped_byte_is_found(model, tmp_path):
    path = tmp_path / "m"
    fsd.save(path, model)
    whole = bytearray(path.read_bytes())
    stored = np.asarray(model.basis).tobytes()
    at = bytes(whole).index(stored) + len(stored) // 2
    whole[at] ^= 1
    path.write_bytes(bytes(whole))
    with pytest.raises(ValueError, match="damaged"):
        fsd.load(path)


class _Trap:
    """Unpickling this would write a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def _npy(path):
    with path.open("wb") as file:
        np.save(file, np.arange(3))


def _npz(path, **arrays):
    with path.open("wb") as file:
        np.savez(file, **arrays)


WRONG = {
    "random": lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("no model\n"),
    "npy": _npy,
    "other npz": lambda path: _npz(path, a=np.arange(3)),
    "header no JSON": lambda path: _npz(path, header=np.array("{")),
    "header endless": lambda path: _npz(path, header=np.array(100_000 * "[")),
    "header a list": lambda path: _npz(path, header=np.array("[1]")),
    "header numbers": lambda path: _npz(path, header=np.arange(3)),
    "another format": lambda path: _npz(
        path, header=np.array(json.dumps({"format": "other", "version": 1, "body": None}))
    ),
    "no body": lambda path: _npz(
        path, header=np.array(json.dumps({"format": storage_format.FORMAT}))
    ),
    "pickle": lambda path: path.write_bytes(pickle.dumps({"a": 1})),
    "pickled array": lambda path: _npz(
        path, header=np.array([_Trap(path.parent / "trap")], object)
    ),
    "folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("name", WRONG)
def test_another_file(name, tmp_path):
    path = tmp_path / "m"
    WRONG[name](path)
    with pytest.raises(ValueError, match=r"not a file written by fsd_jax\.save") as caught:
        fsd.load(path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "trap").exists()


def _rewrite(path, change):
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    header = json.loads(str(arrays["header"][()]))
    change(header, arrays)
    arrays["header"] = np.array(json.dumps(header))
    _npz(path, **arrays)


def test_a_newer_version(model, tmp_path):
    path = tmp_path / "m"
    fsd.save(path, model)
    newer = storage_format.FORMAT_VERSION + 1
    _rewrite(path, lambda header, _: header.update(version=newer))
    with pytest.raises(ValueError, match=rf"format version {newer}, .*use a release that matches"):
        fsd.load(path)


BROKEN = {
    "unknown type": lambda header, _: header["body"].update(type="Model"),
    "array missing": lambda _, arrays: arrays.pop("array_0"),
    "field missing": lambda header, _: header["body"]["fields"].pop("basis"),
    "field unknown": lambda header, _: header["body"]["fields"].update(extra=1),
    "body empty": lambda header, _: header.update(body={}),
    "body missing": lambda header, _: header.pop("body"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_header_that_does_not_fit(model, tmp_path, name):
    path = tmp_path / "m"
    fsd.save(path, model)
    _rewrite(path, BROKEN[name])
    with pytest.raises(ValueError, match="file"):
        fsd.load(path)


def test_no_object_arrays_are_written(model, tmp_path):
    fsd.save(tmp_path / "m", model)
    with np.load(tmp_path / "m", allow_pickle=False) as archive:
        assert all(archive[name].dtype != object for name in archive.files)
        header = json.loads(str(archive["header"][()]))
    assert (header["format"], header["version"]) == ("fsd_jax", 2)


def _fields(header, *path):
    body = header["body"]
    for name in path:
        body = body["fields"][name]
    return body["fields"]


def _at(*path, change):
    """Change the array that a field holds."""

    def rewrite(header, arrays):
        *nest, name = path
        place = _fields(header, *nest)[name]["array"]
        arrays[place] = change(arrays[place])

    return rewrite


IMPOSSIBLE = {
    "negative variance": _at("source", "latent_variance", change=lambda v: -v),
    "negative residual": _at("source", "residual_variance", change=lambda v: v - 100),
    "NaN basis": _at("source", "basis", change=lambda v: v * np.nan),
    "infinite mean": _at("linear", "mean", change=lambda v: v + np.inf),
    "skew basis": _at("linear", "basis", change=lambda v: 2 * v),
    "fewer rows": _at("source", "basis", change=lambda v: v[:-1]),
    "longer mean": _at("source", "mean", change=lambda v: np.append(v, v)),
    "batched basis": _at("linear", "basis", change=lambda v: v[None]),
    "mixing that does not fit": _at("linear", "mixing", change=lambda v: v[:-1]),
    "half a sample": _at("source", "count", change=lambda v: v + np.float32(0.5)),
    "NaN samples": _at("samples", change=lambda v: v * np.nan),
    "no samples": _at("samples", change=lambda v: v[:0]),
    "other samples": _at("samples", change=lambda v: v[:, 1:]),
    "time zero": _at("times", change=lambda v: v * 0),
    "fewer weights": _at("weights", change=lambda v: v[1:]),
    "negative weights": _at("weights", change=lambda v: -v),
    "rank above d": _at("rank", change=lambda v: v + 7),
    "rank a fraction": _at("rank", change=lambda v: v + np.float32(0.5)),
    "rank beyond int32": _at("rank", change=lambda v: np.int64(2**32)),
    "unknown status": _at("status", change=lambda v: v + 2**20),
    "integer mean": _at("linear", "mean", change=lambda v: v.astype(np.int32)),
    "complex mean": _at("linear", "mean", change=lambda v: v.astype(np.complex64)),
    "process": lambda header, _: _fields(header, "linear", "process").update(
        knots={"tuple": [5]}, rates={"tuple": [-1]}
    ),
    "process of words": lambda header, _: _fields(header, "linear", "process").update(rates="fast"),
    "another method": lambda header, _: _fields(header, "recipe").update(method="magic"),
    "latent_dim a word": lambda header, _: _fields(header, "recipe").update(latent_dim="3"),
    "no source": lambda header, _: _fields(header).update(source=None),
    "no recipe": lambda header, _: _fields(header).update(recipe=None),
    "a source for a score": lambda header, _: _fields(header).update(
        linear=_fields(header)["source"]
    ),
    "another shape": lambda header, _: _fields(header).update(shape={"tuple": [3, 5]}),
    "a number for an array": lambda header, _: _fields(header, "source").update(mean=1.0),
    "a bare recipe": lambda header, _: header.update(body=_fields(header)["recipe"]),
    "a bare score": lambda header, _: header.update(body=_fields(header)["linear"]),
    "a list": lambda header, _: header.update(body={"tuple": [header["body"]]}),
    "nothing": lambda header, _: header.update(body=None),
}


@pytest.fixture(scope="module")
def tuned(model):
    return fsd.finetune(model, _data(np.float32, 6, seed=1))


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_a_model_that_cannot_be_is_refused(tuned, tmp_path, name):
    """The file is whole, so only the classes' own checks can tell."""
    path = tmp_path / "m"
    fsd.save(path, tuned)
    _rewrite(path, lambda *_: None)
    _same(tuned, fsd.load(path))
    _rewrite(path, IMPOSSIBLE[name])
    with pytest.raises(ValueError, match=r"'.*m' is not a file written by .*damaged \(") as caught:
        fsd.load(path)
    assert "\n" not in str(caught.value)


def test_an_older_file_is_read(tuned, tmp_path):
    """Version 1 had the number of samples as a floating number."""
    path = tmp_path / "m"
    fsd.save(path, tuned)

    def older(header, arrays):
        header.update(version=1)
        _at("source", "count", change=np.float32)(header, arrays)

    _rewrite(path, older)
    loaded = fsd.load(path)
    assert (loaded.source.count.dtype, int(loaded.source.count)) == (np.int32, 20)
    _same(loaded.linear, tuned.linear)


def test_a_file_written_in_float64_is_read_in_float32(tmp_path, dtype):
    path, x = tmp_path / "m", _data(dtype)
    fsd.save(path, fsd.pretrain(x, latent_dim=d))
    with jax.enable_x64(False) if hasattr(jax, "enable_x64") else _no_x64():
        loaded = fsd.load(path)
    assert loaded.basis.dtype == np.float32
    np.testing.assert_allclose(loaded.mean, x.reshape(20, -1).mean(axis=0), atol=1e-6)


def _no_x64():
    from jax import experimental

    return experimental.disable_x64()


def test_members_that_nothing_refers_to_are_not_unpacked(model, tmp_path):
    """Here 128 MB of zeros that take half a megabyte in the file."""
    path = tmp_path / "m"
    fsd.save(path, model)
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("bomb.npy", "w") as member,
    ):
        for _ in range(8):
            member.write(bytes(1 << 24))
    tracemalloc.start()
    _same(model, fsd.load(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 24


def _local(whole, name):
    """Where a member's local and central headers are."""
    central = whole.index(b"PK\x01\x02")
    while whole[central + 46 : central + 46 + len(name)] != name:
        central = whole.index(b"PK\x01\x02", central + 4)
    return int.from_bytes(whole[central + 42 : central + 46], "little"), central


@pytest.mark.parametrize(("local", "central"), [(6, 8), (8, 10)], ids=["encrypted", "compression"])
def test_a_zip_that_python_cannot_read(model, tmp_path, local, central):
    """RuntimeError for an encrypted member, NotImplementedError for an unknown compression."""
    path = tmp_path / "m"
    fsd.save(path, model)
    whole = bytearray(path.read_bytes())
    for start, place in zip(_local(whole, b"array_1.npy"), (local, central), strict=True):
        whole[start + place] |= 1 if local == 6 else 99
    path.write_bytes(bytes(whole))
    with pytest.raises(ValueError, match="damaged"):
        fsd.load(path)


def test_a_shorter_shape_is_found_by_the_checksum(model, tmp_path):
    """Fewer rows than there are: the checksum is compared only where a member ends."""
    path = tmp_path / "m"
    fsd.save(path, model)
    whole = path.read_bytes()
    assert whole.count(b"'shape': (3,)") == 1  # latent_variance
    path.write_bytes(whole.replace(b"'shape': (3,)", b"'shape': (2,)"))
    with pytest.raises(ValueError, match="damaged"):
        fsd.load(path)


def test_flipped_bits_end_in_the_same_model_or_one_error(tuned, tmp_path):
    path, chance = tmp_path / "m", random.Random(0)
    fsd.save(path, tuned)
    whole, refused = path.read_bytes(), 0
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        path.write_bytes(bytes(damaged))
        try:
            loaded = fsd.load(path)
        except ValueError:
            refused += 1
        else:
            _same(tuned, loaded)
    # What is left are bits without a meaning: times, attributes and padding.
    assert refused > 150


# Writing


def test_a_failed_write_leaves_the_old_file(model, tmp_path, monkeypatch):
    path = tmp_path / "m"
    fsd.save(path, model)
    before = path.read_bytes()

    def broken(file, **_):
        file.write(b"half of it")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", broken)
    with pytest.raises(OSError, match="disk full"):
        fsd.save(path, fsd.pretrain(_data(np.float32, seed=2), latent_dim=d))
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]


def test_an_interrupted_replacement_leaves_the_old_file(model, tmp_path, monkeypatch):
    path = tmp_path / "m"
    path.write_bytes(b"old")

    def broken(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(KeyboardInterrupt):
        fsd.save(path, model)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]


def test_a_missing_folder_is_an_os_error(model, tmp_path):
    with pytest.raises(OSError, match="none"):
        fsd.save(tmp_path / "none" / "m", model)


def test_a_folder_is_not_replaced(model, tmp_path):
    (tmp_path / "m").mkdir()
    with pytest.raises(OSError, match="m"):
        fsd.save(tmp_path / "m", model)
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]


def test_saving_again_replaces(model, tmp_path):
    other = fsd.pretrain(_data(np.float32, seed=3), latent_dim=d)
    fsd.save(tmp_path / "m", model)
    fsd.save(tmp_path / "m", other)
    _same(other, fsd.load(tmp_path / "m"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("path", [None, 0, 1, True, 1.5, b"x", []])
def test_a_path_is_a_path_and_no_open_file(path):
    model = fsd.pretrain(_data(np.float32), latent_dim=d)
    for call in (lambda: fsd.load(path), lambda: fsd.save(path, model)):
        with pytest.raises(ValueError, match="path must be a path"):
            call()
