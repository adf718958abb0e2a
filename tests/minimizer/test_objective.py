import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fsd_jax as fsd
from tests import reference

TIMES = np.array([0.1, 0.7, 2.0])
WEIGHTS = np.array([0.5, 0.3, 1.2])


def _setup(n=7, ambient=6, d=3, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, ambient)).astype(dtype)
    V = rng.normal(size=(ambient, d)).astype(dtype)
    return x, V, np.array([2.0, 1.0, 0.3][:d], dtype)


@pytest.mark.result("The loss, noise integrated out")
@pytest.mark.parametrize(("n", "ambient"), [(7, 6), (3, 8)])
@pytest.mark.parametrize("variance", ["isotropic", "diagonal"])
@pytest.mark.parametrize("when", ["time", "times"])
@pytest.mark.usefixtures("x64")
def test_against_dense_matrices(n, ambient, variance, when):
    x, V, lam2 = _setup(n, ambient)
    lam2 = 1.3 if variance == "isotropic" else lam2
    kwargs = dict(time=0.4) if when == "time" else dict(times=TIMES, weights=WEIGHTS)
    times, weights = (0.4, 1.0) if when == "time" else (TIMES, WEIGHTS)
    moment = fsd.SecondMoment.from_samples(x)
    found = fsd.expected_loss(V, moment, latent_variance=lam2, **kwargs)
    expected = reference.loss(V, reference.second_moment(x), lam2, times, weights)
    np.testing.assert_allclose(found, expected, rtol=1e-11)


def test_weights_default_to_the_mean():
    x, V, lam2 = _setup(dtype=np.float32)
    moment = fsd.SecondMoment.from_samples(x)
    both = fsd.expected_loss(V, moment, latent_variance=lam2, times=[0.3, 1.0])
    single = [fsd.expected_loss(V, moment, latent_variance=lam2, time=t) for t in (0.3, 1.0)]
    np.testing.assert_allclose(both, (single[0] + single[1]) / 2, rtol=1e-5)


def test_zero_decoder_in_float32():
    x, V, lam2 = _setup(dtype=np.float32)
    moment = fsd.SecondMoment.from_samples(x)
    found = fsd.expected_loss(0 * V, moment, latent_variance=lam2, time=0.5)
    m2, s2 = reference.levels(0.5)
    np.testing.assert_allclose(found, m2 * np.trace(reference.second_moment(x)) / s2**2, rtol=1e-5)


@pytest.mark.usefixtures("x64")
def test_a_truncated_moment_stands_for_its_residual_model():
    x, V, lam2 = _setup(n=9, ambient=6)
    moment = fsd.SecondMoment.from_samples(x, rank=2)
    U = np.asarray(moment.basis)
    C = (U * np.asarray(moment.values)) @ U.T + float(moment.residual) * (np.eye(6) - U @ U.T)
    np.testing.assert_allclose(
        fsd.expected_loss(V, moment, latent_variance=lam2, time=0.5),
        reference.loss(V, C, lam2, 0.5, 1.0),
        rtol=1e-11,
    )


@pytest.mark.result("The loss, noise integrated out")
@pytest.mark.parametrize("when", [dict(time=0.5), dict(times=TIMES, weights=WEIGHTS)])
@pytest.mark.parametrize("seed", [0, 1])
def test_within_four_standard_errors_of_monte_carlo(when, seed):
    x, V, lam2 = _setup(dtype=np.float32)
    score = fsd.LinearScore.from_decoder(V, latent_variance=lam2)
    mean, error = fsd.monte_carlo_loss(jax.random.key(seed), score, x, draws=400, **when)
    exact = fsd.expected_loss(V, fsd.SecondMoment.from_samples(x), latent_variance=lam2, **when)
    assert 0 < float(error) < 0.2 * float(exact)
    assert abs(float(mean - exact)) < 4 * float(error)


@pytest.mark.result("The loss, noise integrated out")
@pytest.mark.usefixtures("x64")
def test_equals_the_mean_of_the_sample_losses():
    x, V, lam2 = _setup()
    score = fsd.LinearScore.from_decoder(V, latent_variance=lam2)
    per_sample = score.losses(x, jnp.asarray(TIMES), jnp.asarray(WEIGHTS))
    assert per_sample.shape == (7,)
    exact = fsd.expected_loss(
        V, fsd.SecondMoment.from_samples(x), latent_variance=lam2, times=TIMES, weights=WEIGHTS
    )
    np.testing.assert_allclose(jnp.mean(per_sample), exact, rtol=1e-11)


@pytest.mark.usefixtures("x64")
def test_gradient_against_finite_differences():
    x, V, lam2 = _setup()
    moment = fsd.SecondMoment.from_samples(x)
    loss = lambda V: fsd.expected_loss(V, moment, latent_variance=lam2, times=TIMES)
    gradient = np.asarray(jax.grad(loss)(jnp.asarray(V)))
    direction = np.random.default_rng(1).normal(size=V.shape)
    step = 1e-5
    slope = float(loss(V + step * direction) - loss(V - step * direction)) / (2 * step)
    np.testing.assert_allclose(np.sum(gradient * direction), slope, rtol=1e-7)


def test_monte_carlo_takes_any_callable():
    x, _, _ = _setup(dtype=np.float32)
    problem = fsd.LinearProblem.random(
        jax.random.key(0), ambient_dim=6, latent_dim=2, latent_variance=1.0,
        residual_variance=0.1,
    )  # fmt: skip
    arguments = dict(time=0.5, draws=4)
    key = jax.random.key(1)
    bound = fsd.monte_carlo_loss(key, problem.target_score, x, **arguments)
    plain = fsd.monte_carlo_loss(key, lambda y, t: 1.0 * problem.target_score(y, t), x, **arguments)
    np.testing.assert_allclose(bound, plain, rtol=1e-5)


def test_monte_carlo_does_not_recompile_for_another_score():
    from fsd_jax.minimizer import _objective

    x, V, lam2 = _setup(dtype=np.float32)
    for scale in (1.0, 2.0):
        score = fsd.LinearScore.from_decoder(scale * V, latent_variance=lam2)
        fsd.monte_carlo_loss(jax.random.key(0), score, x, time=0.5, draws=3)
        if scale == 1.0:
            before = _objective._denoising_losses._cache_size()
    assert _objective._denoising_losses._cache_size() == before


@pytest.mark.parametrize("time", [1e-6, 60.0])
def test_extreme_times_are_finite_in_float32(time):
    x, V, lam2 = _setup(dtype=np.float32)
    moment = fsd.SecondMoment.from_samples(x)
    assert np.isfinite(fsd.expected_loss(V, moment, latent_variance=lam2, time=time))


def test_mismatched_spaces_are_refused():
    x, V, lam2 = _setup(dtype=np.float32)
    moment = fsd.SecondMoment.from_samples(x)
    with pytest.raises(ValueError, match="decoder"):
        fsd.expected_loss(V[:-1], moment, latent_variance=lam2, time=0.5)
