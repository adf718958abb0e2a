import jax
import jax.numpy as jnp
import numpy as np
import optax
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


@pytest.mark.result("R7")
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


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("optimizer", "retraction"), [("adam", "polar"), ("gd", "qr"), ("lbfgs", "polar")]
)
def test_stiefel_descent_reaches_pca_from_either_start(optimizer, retraction):
    moment = _moment(np.float64)
    rng = np.random.default_rng(3)
    warm = np.linalg.qr(np.asarray(moment.basis[:, :2]) + 0.1 * rng.normal(size=(6, 2)))[0]
    for initial in (None, warm):
        result = fsd.train(
            jax.random.key(0), moment, latent_variance=1.0, latent_dim=2, time=0.5,
            optimizer=optimizer, constraint="orthonormal", retraction=retraction, initial=initial,
            steps=100 if optimizer == "lbfgs" else 2500,
        )  # fmt: skip
        np.testing.assert_allclose(result.decoder.T @ result.decoder, np.eye(2), atol=1e-12)
        assert abs(float(result.gap)) < 1e-8


@pytest.mark.usefixtures("x64")
def test_below_d_the_orthonormal_gap_counts_a_completion():
    moment = _moment(np.float64, n=2, ambient=6)
    result = fsd.train(
        jax.random.key(0), moment, latent_variance=1.0, latent_dim=3, time=0.5,
        constraint="orthonormal", steps=200,
    )  # fmt: skip
    assert abs(float(result.gap)) < 1e-10


@pytest.mark.result("R17")
@pytest.mark.usefixtures("x64")
def test_gradient_descent_on_null_directions_follows_its_formula():
    # R17: the gap falls like (d - n)/(64 kappa eta^2 k^2), kappa = e/(b c_1) in the loss's unit.
    rng = np.random.default_rng(0)
    n, d, time, rate, steps = 4, 8, 0.7, 0.1, 20_000
    moment = fsd.SecondMoment.from_samples(rng.normal(size=(n, 20)))
    run = fsd.train(
        jax.random.key(0), moment, latent_variance=1.0, latent_dim=d, time=time,
        optimizer="gd", learning_rate=rate, steps=steps,
    )  # fmt: skip
    signal, noise = np.exp(-time), -np.expm1(-time)
    kappa = noise / (signal + noise) / float(moment.values[0])
    unit = signal**2 / noise**2 / (signal + noise) * float(moment.values[0])
    best = float(run.losses[-1] / (1 + run.gaps[-1]))
    predicted = (d - n) / (64 * kappa * rate**2 * steps**2) * unit / best
    assert 0.9 < float(run.gap) / predicted < 1.0
    slope = np.log(run.gaps[-1] / run.gaps[steps // 2]) / np.log(2)
    assert abs(float(slope) + 2) < 0.02


@pytest.mark.parametrize(
    ("when", "latent_variance"), [(dict(time=0.5), 1.5), (dict(times=TIMES), [2.0, 0.5])]
)
@pytest.mark.usefixtures("x64")
def test_noised_gradients_are_unbiased(when, latent_variance):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(12, 6))
    mask = np.arange(12) < 9
    moment = fsd.SecondMoment.from_samples(x, mask=mask)
    start = rng.normal(size=(6, 2))
    common = dict(latent_variance=latent_variance, latent_dim=2, initial=start, steps=1, **when)
    plain = optax.sgd(1e-3)
    exact = fsd.train(jax.random.key(0), moment, optimizer=plain, **common).decoder - start

    def noisy(key):
        run = fsd.train(
            key, moment, optimizer=plain, samples=np.where(mask[:, None], x, np.nan), mask=mask,
            batch_size=64, **common,
        )  # fmt: skip
        return run.decoder - start

    draws = np.asarray(jax.vmap(noisy)(jax.random.split(jax.random.key(1), 400)))
    error = draws.std(axis=0, ddof=1) / 20
    z = (draws.mean(axis=0) - exact) / error
    assert np.max(np.abs(z)) < 4.5
    assert np.max(error / np.abs(exact).max()) < 0.1


def test_stochastic_training_approaches_the_closed_form_and_pads():
    rng = np.random.default_rng(2)
    x = (rng.normal(size=(40, 6)) * np.array([3, 2, 1, 0.5, 0.3, 0.2])).astype(np.float32)
    padded = np.concatenate([x, np.full((24, 6), np.nan, np.float32)])
    mask = np.arange(64) < 40

    def run(key, rate):
        moment = fsd.SecondMoment.from_samples(padded, mask=mask, throw=False)
        return fsd.train(
            key, moment, latent_variance=1.0, latent_dim=2, time=0.5, optimizer="adam",
            samples=padded, mask=mask, learning_rate=rate, steps=2000,
        ).gap  # fmt: skip

    keys = jax.random.split(jax.random.key(0), 2)
    rates = jnp.array([0.03, 0.3])
    gaps = jax.vmap(jax.vmap(run, in_axes=(None, 0)), in_axes=(0, None))(keys, rates)
    assert np.all(gaps > -1e-5)
    assert np.max(np.min(gaps, axis=1)) < 0.02


def test_a_diverged_run_says_at_which_step():
    result = fsd.train(
        jax.random.key(0), _moment(), latent_variance=1.0, latent_dim=2, time=0.5,
        optimizer="gd", learning_rate=3.0, steps=50,
    )  # fmt: skip
    step = int(result.diverged_at)
    assert 0 < step < 50
    assert np.all(np.isfinite(result.losses[:step]))
    assert not np.isfinite(result.losses[step])
    assert Status.NON_FINITE in _status(result)
    assert f"diverged_at={step}" in repr(result)
    calm = fsd.train(
        jax.random.key(0), _moment(), latent_variance=1.0, latent_dim=2, time=0.5, steps=5
    )
    assert int(calm.diverged_at) == -1


def test_one_bad_problem_leaves_the_others_alone():
    x = np.stack([np.asarray(np.random.default_rng(i).normal(size=(9, 6)), np.float32)
                  for i in range(3)])  # fmt: skip
    broken = x.copy()
    broken[1, 0, 0] = np.nan

    def run(x):
        moment = fsd.SecondMoment.from_samples(x, throw=False, route="svd")
        return fsd.train(
            jax.random.key(0), moment, latent_variance=1.0, latent_dim=2, time=0.5,
            optimizer="adam", steps=20,
        )  # fmt: skip

    good, bad = jax.jit(jax.vmap(run))(x), jax.jit(jax.vmap(run))(broken)
    for i in (0, 2):
        np.testing.assert_array_equal(good.losses[i], bad.losses[i])
    assert int(bad.diverged_at[1]) == 0
    assert np.all(np.asarray(bad.diverged_at)[[0, 2]] == -1)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (dict(optimizer="sgd"), "optimizer"),
        (dict(retraction="cayley"), "retraction"),
        (dict(samples=np.ones((3, 6), np.float32)), "lbfgs"),
        (dict(samples=np.ones((3, 5), np.float32), optimizer="adam"), "samples"),
        (dict(samples=np.ones((3, 6), np.float32), optimizer="adam", batch_size=0), "batch_size"),
        (dict(samples=np.ones((3, 6), np.float32), optimizer="adam", mask=[1, 0, 1]), "mask"),
        (dict(mask=np.ones(3, bool)), "mask"),
        (dict(optimizer=optax.sgd(0.1), learning_rate=0.1), "learning_rate"),
        (dict(initial=np.ones((6, 3), np.float32)), "initial"),
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
