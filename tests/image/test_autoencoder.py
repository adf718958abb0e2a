"""The autoencoder reaches what principal components reach, and more on curved data."""

import jax
import numpy as np
import pytest

import fsd_jax as fsd
from fsd_jax.image.autoencoder import train_autoencoder


@pytest.mark.slow
def test_a_circle_needs_one_nonlinear_or_two_linear_directions():
    rng = np.random.default_rng(0)
    frame = np.linalg.qr(rng.normal(size=(12, 4)))[0]

    def draw(n):
        a = rng.uniform(0.2, 2.9, n)
        curve = np.stack([np.cos(a), np.sin(a), np.cos(2 * a), np.sin(2 * a)], axis=1)
        return (3 * curve @ frame.T + 1).astype(np.float32).reshape(n, 3, 4)

    x, fresh = draw(800), draw(200)
    trained = train_autoencoder(
        jax.random.key(0), x, dim=2, hidden=32, steps=800, learning_rate=5e-3
    )
    z = trained.encode(fresh)
    error = np.mean(np.sum((trained.decode(z) - fresh.reshape(200, -1)) ** 2, axis=1))
    moment = fsd.SecondMoment.from_samples(x.reshape(800, -1), rank=2, centre=True)
    left = float(moment.total - moment.values.sum())
    assert error < 0.5 * left
    own = np.asarray(trained.encode(x))
    np.testing.assert_allclose(own.mean(axis=0), 0, atol=1e-4)
    assert np.mean(own**2) == pytest.approx(1, rel=1e-4)
    assert trained.losses[-1] < 0.1 * trained.losses[0]


def test_bad_input():
    x = np.ones((5, 4), np.float32)
    with pytest.raises(ValueError, match="dim"):
        train_autoencoder(jax.random.key(0), x, dim=0)
    with pytest.raises(ValueError, match="learning_rate"):
        train_autoencoder(jax.random.key(0), x, dim=1, learning_rate=-1.0)
    with pytest.raises(ValueError, match="x_source"):
        train_autoencoder(jax.random.key(0), x[0], dim=1)


def test_kinds_and_sizes_are_checked():
    rng = np.random.default_rng(0)
    x = rng.random((6, 2, 2)).astype(np.float32)
    train = lambda **given: train_autoencoder(
        **({"key": jax.random.key(0), "x_source": x, "dim": np.int64(1), "steps": 1} | given)
    )
    for word, given in {
        "key": {"key": 0},
        "floating": {"x_source": (255 * x).astype(np.uint8)},
        "NaN": {"x_source": np.full_like(x, np.nan)},
        "again and again": {"x_source": np.ones_like(x)},
        "steps": {"steps": True},
    }.items():
        with pytest.raises(ValueError, match=word):
            train(**given)
    trained = train(hidden=2)
    assert trained.decode(trained.encode(x)).shape == (6, 4)
    with pytest.raises(ValueError, match="x has 2 entries"):
        trained.encode(x[:, 0])
    with pytest.raises(ValueError, match="z has 2 entries"):
        trained.decode(np.ones((3, 2), np.float32))
