import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fsd_jax as fsd
from fsd_jax import Status

TIMES = np.array([0.2, 1.0])


def _moment(dtype=np.float32, n=12, ambient=6, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, ambient)) * np.array([3, 2, 1, 0.5, 0.3, 0.2])[:ambient]
    return fsd.SecondMoment.from_samples(x.astype(dtype))


def _status(result):
    return Status(int(result.status))


@pytest.mark.parametrize("when", [dict(time=0.5), dict(times=TIMES)])
def test_lbfgs_converges_in_either_precision(when, dtype):
    moment = _moment(dtype)
    result = fsd.train(
        jax.random.key(0), moment, latent_variance=1.0, latent_dim=2, steps=150, **when
    )
    assert result.decoder.dtype == result.losses.dtype == dtype
    assert result.losses.shape == (151,)
    assert _status(result) == Status.OK
    assert abs(float(result.gap)) < np.finfo(dtype).eps ** 0.5
    exact = fsd.expected_loss(result.decoder, moment, latent_variance=1.0, **when)
    np.testing.assert_allclose(result.losses[-1], exact, rtol=50 * np.finfo(dtype).eps)


def test_adam_converges():
    result = fsd.train(
        jax.random.key(0), _moment(), latent_variance=1.0, latent_dim=2, time=0.5,
        optimizer="adam", steps=1500,
    )  # fmt: skip
    assert _status(result) == Status.OK
    assert float(result.losses[-1]) < float(result.losses[0])


@pytest.mark.usefixtures("x64")
def test_float32_training_works_in_x64_mode():
    for optimizer in ("adam", "lbfgs"):
        result = fsd.train(
            jax.random.key(0), _moment(), latent_variance=1.0, latent_dim=2, time=0.5,
            optimizer=optimizer, steps=3,
        )  # fmt: skip
        assert result.decoder.dtype == jnp.float32


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_orthonormal_constraint(optimizer):
    moment = _moment()
    result = fsd.train(
        jax.random.key(0), moment, latent_variance=1.0, latent_dim=2, time=0.5,
        optimizer=optimizer, constraint="orthonormal", steps=100 if optimizer == "lbfgs" else 1500,
    )  # fmt: skip
    np.testing.assert_allclose(result.decoder.T @ result.decoder, np.eye(2), atol=1e-5)
    assert abs(float(result.gap)) < 1e-3
    best = fsd.orthonormal_minimizer(moment, latent_dim=2)
    assert float(fsd.subspace_error(result.decoder, best.basis)) < 1e-2


@pytest.mark.usefixtures("x64")
def test_diagonal_latent_orthonormal_reaches_brockett():
    result = fsd.train(
        jax.random.key(1), _moment(np.float64), latent_variance=[0.5, 3.0], latent_dim=2,
        time=0.5, constraint="orthonormal", steps=300,
    )  # fmt: skip
    assert float(result.gap) > -1e-12
    assert abs(float(result.gap)) < 1e-8


def test_vmaps_over_keys():
    moment = _moment()
    keys = jax.random.split(jax.random.key(0), 3)
    run = lambda key: fsd.train(key, moment, latent_variance=1.0, latent_dim=2, time=0.5, steps=60)
    batch = jax.vmap(run)(keys)
    assert batch.decoder.shape == (3, 6, 2)
    assert batch.gap.shape == batch.status.shape == (3,)
    assert "batch=(3,)" in repr(batch)
    assert not np.allclose(batch.losses[0, 0], batch.losses[1, 0])
    assert np.all(np.abs(np.asarray(batch.gap)) < 1e-3)


def test_too_few_steps_are_reported():
    result = fsd.train(
        jax.random.key(0), _moment(), latent_variance=1.0, latent_dim=2, time=0.5, steps=1
    )
    assert Status.NOT_CONVERGED in _status(result)
    assert float(result.gap) > 0
    again = fsd.train(
        jax.random.key(0), _moment(), latent_variance=1.0, latent_dim=2, time=0.5, steps=1
    )
    np.testing.assert_array_equal(again.losses, result.losses)


def test_an_extreme_time_is_finite_in_float32():
    for time in (1e-6, 20.0):
        result = fsd.train(
            jax.random.key(0), _moment(), latent_variance=1.0, latent_dim=2, time=time, steps=5
        )
        assert np.all(np.isfinite(result.losses))
        assert np.isfinite(result.gap)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (dict(optimizer="sgd"), "optimizer"),
        (dict(constraint="none"), "constraint"),
        (dict(steps=0), "steps"),
        (dict(steps=1.5), "steps"),
        (dict(latent_dim=7), "latent_dim"),
        (dict(latent_dim=True), "latent_dim"),
        (dict(latent_variance=0.0), "latent_variance"),
        (dict(learning_rate=-1.0), "learning_rate"),
        (dict(time=0.0), "time"),
        (dict(time=None), "time"),
    ],
)
def test_errors_name_the_argument(change, name):
    arguments = dict(latent_variance=1.0, latent_dim=2, time=0.5) | change
    with pytest.raises(ValueError, match=name):
        fsd.train(jax.random.key(0), _moment(), **arguments)
