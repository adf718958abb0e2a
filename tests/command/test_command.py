"""``python -m fsd_jax adapt``: folders in, an answer out; a mistake costs one sentence."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import fsd_jax as fsd
from fsd_jax.command import main

FILES = {"index.html", "report.json", "model.npz", "samples"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Digits 1 to 9, ten zeros, and more zeros, as PNG files."""
    top = tmp_path_factory.mktemp("digits")
    images, labels = load_digits(return_X_y=True)
    pixels = np.round(images / 16 * 255).astype(np.uint8).reshape(-1, 8, 8)
    zeros, others = pixels[labels == 0], pixels[labels != 0][:200]
    for name, some in (("source", others), ("target", zeros[:10]), ("heldout", zeros[10:40])):
        (top / name).mkdir()
        for i, picture in enumerate(some):
            Image.fromarray(picture).save(top / name / f"{i:03d}.png")
    return top


def _arguments(top, out, *, heldout=True, suffix=""):
    names = ("source", "target", "heldout") if heldout else ("source", "target")
    chosen = [part for name in names for part in (f"--{name}", str(top / f"{name}{suffix}"))]
    return ["adapt", *chosen, "--size", "8", "--samples", "12", "--out", str(out)]


@pytest.fixture(scope="module")
def answered(folders):
    out = folders / "out"
    assert main(_arguments(folders, out)) == 0
    return out


def test_the_answer_is_a_page_numbers_pictures_and_a_model(answered, folders):
    assert {path.name for path in answered.iterdir()} == FILES
    assert len(list((answered / "samples").glob("*.png"))) == 12
    found = json.loads((answered / "report.json").read_text())
    assert found["enough"] in (True, False, None)
    assert found["sizes"] == {"source": 200, "target": 10, "heldout": 30}
    losses = {name: row["loss"] for name, row in found["losses"].items()}
    assert losses["model"] <= min(losses.values())
    assert found["audit"]["p_value"] > 0.01
    assert set(found["choices"]) >= {"target_share", "mean_share"}
    assert fsd.load(answered / "model.npz").shape == (8, 8, 3)
    page = (answered / "index.html").read_text()
    assert page.index(found["verdict"].split("(")[0].strip()[:20]) < page.index("The target")
    assert not re.search(r"(src|href)=\"(?!data:)|@import|url\(", page)
    # The same command again replaces its own answer, and gives the same.
    assert main(_arguments(folders, answered)) == 0
    assert json.loads((answered / "report.json").read_text())["losses"] == found["losses"]


def test_arrays_do_as_well(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name, n in (("source", 300), ("target", 8)):
        np.save(tmp_path / f"{name}.npy", rng.normal(size=(n, 5)))
    out = tmp_path / "out"
    assert main(_arguments(tmp_path, out, heldout=False, suffix=".npy")) == 0
    assert np.load(out / "samples.npy").shape == (12, 5)
    said = capsys.readouterr().out.splitlines()
    assert said[1] == "Copies cannot be judged without --heldout."
    assert said[2] == f"answer: {out / 'index.html'}"


def _refused(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("fsd_jax: error: ")
    return err


def test_mistakes(folders, tmp_path, capsys):
    good = _arguments(folders, tmp_path / "out")

    def changed(flag, value):
        arguments = list(good)
        arguments[arguments.index(flag) + 1] = str(value)
        return _refused(capsys, arguments)

    assert "does not exist" in changed("--source", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "holds no images" in changed("--target", tmp_path / "empty")
    assert "--size must be at least 1, got 0" in changed("--size", 0)
    assert "invalid int value" in changed("--samples", "many")
    (tmp_path / "file").write_text("x")
    assert "is a file; choose a folder" in changed("--out", tmp_path / "file")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").write_text("x")
    assert "holds other files" in changed("--out", tmp_path / "taken")
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY")
    assert "give folders of pictures or .npy" in changed("--target", tmp_path / "a.npy")
    arrays = [part for n in ("source", "target") for part in (f"--{n}", str(tmp_path / "a.npy"))]
    end = ["--out", str(tmp_path / "o")]
    assert "is no .npy or .npz file" in _refused(capsys, ["adapt", *arrays, *end])
    assert "required" in _refused(capsys, ["adapt", "--out", "x"])


def test_help_and_version_from_the_shell():
    run = [sys.executable, "-m", "fsd_jax"]
    done = subprocess.run([*run, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"fsd_jax {fsd.__version__}\n"
    done = subprocess.run([*run, "adapt", "--help"], capture_output=True, text=True, check=True)
    for option in ("--source", "--target", "--heldout", "--size", "--out"):
        assert option in done.stdout
