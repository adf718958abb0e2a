"""Did a model copy: calibrated on fresh real images, and able to see a few planted copies."""

import jax
import numpy as np
import pytest
from scipy.stats import hypergeom
from sklearn.datasets import load_digits

import fsd_jax as fsd
from fsd_jax import _audit as room
from fsd_jax.image.metrics import Features

COPIES = 6
"""A tenth of 64."""


@pytest.fixture
def few_draws(monkeypatch):
    monkeypatch.setattr(room, "DRAWS", 999)


@pytest.mark.usefixtures("few_draws")
def test_fresh_images_are_rejected_at_the_stated_rate():
    rng = np.random.default_rng(3)
    found = [room.p_value(rng.gamma(3, size=64), rng.gamma(3, size=60), rng) for _ in range(1000)]
    # Three standard errors of a share of 5% are 2.1%.
    assert abs(np.mean(np.array(found) <= 0.05) - 0.05) < 0.021
    assert abs(np.mean(found) - 0.5) < 0.05


def test_the_p_value_is_that_of_all_orders():
    """Two of two generated below two real ones: by hand over the six orders."""
    rng = np.random.default_rng(0)
    found = room.p_value(np.array([1.0, 2.0]), np.array([3.0, 4.0]), rng)
    assert found == pytest.approx(hypergeom.pmf(2, 4, 2, 2), abs=4 * np.sqrt(5 / 36 / room.DRAWS))
    assert room.p_value(np.array([3.0, 4.0]), np.array([1.0, 2.0]), rng) == 1.0


@pytest.mark.usefixtures("few_draws")
def test_ties_are_no_evidence():
    rng = np.random.default_rng(0)
    found = [room.p_value(np.zeros(30), np.zeros(30), rng) for _ in range(200)]
    assert np.mean(np.array(found) <= 0.05) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


def test_the_interval_of_the_share_covers():
    rng = np.random.default_rng(1)
    inside = []
    for _ in range(400):
        generated, real = rng.gamma(3, size=64), np.sort(rng.gamma(3, size=100))
        generated[:COPIES] = 0
        _, low, high = room.excess_share(generated, real)
        inside.append(low <= COPIES / 64 <= high)
    assert np.mean(inside) > 0.95 - 3 * np.sqrt(0.05 * 0.95 / 400)


def _zeros(seed):
    images, labels = load_digits(return_X_y=True)
    zeros = np.random.default_rng(seed).permutation(images[labels == 0]) / 16
    cut = np.cumsum([10, 100, 64 - COPIES])
    return np.split(zeros.reshape(-1, 8, 8), cut)[:3]


@pytest.mark.parametrize("shown", [None, Features])
def test_copies_among_real_digits_are_seen_and_fresh_ones_are_not(shown):
    images, labels = load_digits(return_X_y=True)
    features = None if shown is None else Features.fit(images[labels != 0] / 16, 16)
    seen = fresh = 0
    for seed in range(10):
        train, real, new = _zeros(seed)
        fresh += fsd.audit(new, train, real, features=features).p_value <= 0.05
        noisy = train[:COPIES] + 0.01 * np.random.default_rng(seed).normal(size=(COPIES, 8, 8))
        found = fsd.audit(np.concatenate([noisy, new]), train, real, features=features)
        seen += found.p_value <= 0.05
        np.testing.assert_array_equal(found.nearest[:COPIES], np.arange(COPIES))
        assert found.verdict.startswith("Copies" if found.p_value <= 0.05 else "No sign")
    assert seen == 10
    assert fresh <= 3


def test_few_or_repeated_held_out_images_do_not_count():
    rng = np.random.default_rng(0)
    train, real, new = (rng.normal(size=(n, 4)) for n in (5, 25, 10))
    found = fsd.audit(new, train, real[:19])
    assert (found.share, found.low, found.high, found.p_value) == (None,) * 4
    assert found.verdict == "Cannot judge: 19 held-out images count; 20 are needed."
    held = np.concatenate([real[:20], real[:3], train[:2]])
    found = fsd.audit(new, train, held)
    assert found.repeated == (20, 21, 22, 23, 24)
    assert len(found.heldout_distances) == 20
    assert found.p_value is not None
    assert "19 held-out images count, 2 repeat others" in fsd.audit(new, train, held[4:]).verdict


def test_an_answer_can_be_repeated_and_depends_on_no_rescaling():
    rng = np.random.default_rng(0)
    sets = [rng.normal(size=(n, 3, 2)) for n in (30, 6, 40)]
    one = fsd.audit(*sets)
    for scale in (1e-30, 1e30):
        again = fsd.audit(*(scale * x for x in sets))
        assert (again.p_value, again.share) == (one.p_value, one.share)
    other = fsd.audit(*sets, key=jax.random.key(1))
    assert abs(other.p_value - one.p_value) < 5 * np.sqrt(0.25 / room.DRAWS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(train=np.ones((3, 5))), "same number of entries"),
        (dict(generated=np.full((3, 4), np.nan)), "generated has NaN or infinite"),
        (dict(heldout=np.ones(4)), "heldout must have shape"),
        (dict(features=3), "features must be"),
        (dict(features=lambda x: x[:1]), "one row a sample"),
        (dict(key=7), "key must be"),
    ],
)
def test_bad_input_is_named(change, message):
    good = dict(generated=np.ones((3, 4)), train=np.eye(4)[:2], heldout=np.ones((25, 4)))
    with pytest.raises(ValueError, match=message):
        fsd.audit(**(good | change))
