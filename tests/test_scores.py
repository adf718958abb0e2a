"""Conversions between predictions, and scores from any of them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fsd_jax as fsd
from fsd_jax._scores import PREDICTIONS

PATHS = [
    fsd.VP.linear(0.3, 2.0), fsd.VE(), fsd.Flow(),
    fsd.GaussianPath(signal=lambda t: 1 / (1 + t), noise_variance=lambda t: t**3),
]  # fmt: skip
X = np.random.default_rng(0).normal(size=(5, 3))
VARIANCE, MEAN = np.array([4.0, 0.5, 1.0]), np.array([1.0, 0.0, -2.0])


def _truth(process, t):
    """All four of a Gaussian by conditional expectation, the velocity by the path's differences."""
    alpha, sigma = (float(v) ** 0.5 for v in process.host_variances(t))
    total = alpha**2 * VARIANCE + sigma**2
    y = X - alpha * MEAN
    clean = MEAN + alpha * VARIANCE / total * y
    noise = sigma / total * y
    d = 1e-6
    level = lambda t: np.array([float(v) ** 0.5 for v in process.host_variances(t)])
    slopes = (level(t + d) - level(t - d)) / (2 * d)
    return {
        "score": -y / total, "clean": clean, "noise": noise,
        "velocity": slopes[0] * clean + slopes[1] * noise,
    }  # fmt: skip


@pytest.mark.result("Any Gaussian path")
@pytest.mark.parametrize("process", PATHS)
@pytest.mark.usefixtures("x64")
def test_every_prediction_from_every_other(process):
    truth = _truth(process, 0.4)
    law = lambda x: -0.5 * jnp.sum((x - process.signal(0.4) * MEAN) ** 2 / (
        process.signal_variance(0.4) * VARIANCE + process.noise_variance(0.4)))  # fmt: skip
    np.testing.assert_allclose(jax.vmap(jax.grad(law))(X), truth["score"], rtol=1e-12)
    for given, wanted in itertools.product(PREDICTIONS, PREDICTIONS):
        found = fsd.convert(truth[given], X, 0.4, given=given, wanted=wanted, process=process)
        np.testing.assert_allclose(found, truth[wanted], rtol=1e-6, atol=1e-8)


@pytest.mark.usefixtures("x64")
def test_times_of_a_batch_and_under_a_trace():
    t, flow = np.linspace(0.1, 0.9, 5), fsd.Flow()
    call = lambda t: fsd.convert(X, X, t, given="velocity", wanted="score", process=flow)
    rows = np.stack([np.asarray(call(u))[i] for i, u in enumerate(t)])
    np.testing.assert_allclose(call(t), rows, rtol=1e-12)
    np.testing.assert_allclose(jax.jit(call)(t), rows, rtol=1e-12)
    assert np.all(np.isnan(jax.jit(call)(jnp.asarray(1.5))))


@pytest.mark.usefixtures("x64")
def test_limits_at_the_ends_of_the_path():
    flow = fsd.Flow()
    clean = np.ones_like(X)
    at = lambda v, t, given, wanted, p=flow: fsd.convert(
        v, X, t, given=given, wanted=wanted, process=p
    )
    # At pure noise x is the noise, and the velocity still knows the image.
    np.testing.assert_allclose(at(X - clean, 1.0, "velocity", "clean"), clean)
    np.testing.assert_allclose(at(clean, 1.0, "clean", "noise"), X)
    # At the data x is the image.
    np.testing.assert_allclose(at(X, 0.0, "score", "clean"), X)
    np.testing.assert_allclose(at(clean, 0.0, "velocity", "noise"), clean + X)
    np.testing.assert_allclose(at(clean, 0.0, "noise", "velocity"), clean - X)
    for args in [
        (clean, 1.0, "noise", "clean"), (clean, 1.0, "score", "velocity"),
        (clean, 0.0, "clean", "noise"), (clean, 0.0, "noise", "score"),
        (clean, 0.0, "velocity", "score"), (clean, 0.0, "velocity", "clean", fsd.VP()),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match="t must be inside the path where the"):
            at(*args)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"given": "v"}, "given must be one of"),
        ({"wanted": None}, None),
        ({"process": "flow"}, "process must be a VP, VE, Flow or GaussianPath"),
        ({"t": -1.0}, "t must be not negative"),
        ({"t": 1.5}, "t must be at most 1"),
        ({"t": [0.1, 0.2]}, "t must be one time or fit the batch"),
        ({"prediction": X[:2]}, "prediction must have the shape of x"),
    ],
)
def test_wrong_arguments_are_refused(change, message):
    given = dict(
        prediction=X, x=X, t=0.3, given="score", wanted="noise", process=fsd.Flow()
    ) | change  # fmt: skip
    with pytest.raises(ValueError, match=message or "wanted must be one of"):
        fsd.convert(given.pop("prediction"), given.pop("x"), given.pop("t"), **given)


@pytest.mark.parametrize("given", PREDICTIONS)
@pytest.mark.usefixtures("x64")
def test_a_network_of_any_prediction_samples_alike(given):
    flow, times = fsd.Flow(), np.linspace(0.1, 0.9, 5)
    variance, mean = jnp.asarray(VARIANCE), jnp.asarray(MEAN)

    def score(x, t):
        return (flow.signal(t) * mean - x) / (flow.signal(t) ** 2 * variance + t**2)

    def network(x, t):
        return fsd.convert(score(x, t), x, t, given="score", wanted=given, process=flow)

    ours = fsd.PredictedScore(predict=network, given=given, process=flow)
    options = dict(times=times, n=4, shape=3, method="ddim_ode")
    found = fsd.sampler.sample(jax.random.key(0), ours, **options)
    plain = fsd.sampler.sample(jax.random.key(0), score, process=flow, **options)
    np.testing.assert_allclose(found, plain, rtol=1e-10)
    np.testing.assert_allclose(
        ours.denoise(X, 0.4), _truth(flow, 0.4)["clean"], rtol=1e-10, atol=1e-12
    )


# --- schedules -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("x64")
def test_schedules_are_those_of_their_sources():
    process, times, k = fsd.schedule("ddpm_linear", steps=999)
    beta = np.linspace(1e-4, 0.02, 1000)
    np.testing.assert_allclose(process.signal_variance(times), np.cumprod(1 - beta), rtol=1e-12)
    assert list(k) == list(range(1000))
    # Its limit for many levels: k/1000 on the linear rate from .1 to 20.
    limit = fsd.VP.linear(0.1, 20.0).integrated_rate(np.arange(1, 1001) / 1000)
    np.testing.assert_allclose(times[100:], limit[100:], rtol=0.02)
    process, times, k = fsd.schedule("ddpm_cosine", steps=10)
    f = lambda s: np.cos((s / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(
        process.signal_variance(times)[:-1], f(np.asarray(k)[:-1] + 1) / f(0), rtol=1e-10
    )
    # The last rate is clipped to .999.
    last = 0.001 * f(999) / f(0)
    np.testing.assert_allclose(process.signal_variance(times)[-1], last, rtol=1e-10)
    process, times, _ = fsd.schedule("edm", steps=17)
    i = np.arange(18)
    sigma = (80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    np.testing.assert_allclose(times, sigma[::-1], rtol=1e-12)
    process, times, labels = fsd.schedule("sd3", steps=28)
    even = np.linspace(0.001, 0.999, 29)
    np.testing.assert_allclose(times / (3 - 2 * times), even, rtol=1e-12)
    np.testing.assert_allclose(labels, 1000 * times)
    for name, steps in (("ddim", 3), ("edm", 0), ("ddpm_linear", 1000)):
        with pytest.raises(ValueError, match=r"name must be|steps must be"):
            fsd.schedule(name, steps=steps)


@pytest.mark.usefixtures("x64")
def test_edms_sampler_on_its_schedule_is_of_second_order():
    errors = []
    for steps in (68, 136):
        process, times, _ = fsd.schedule("edm", steps=steps)
        score = fsd.LinearScore.from_decoder(
            np.eye(3, 1), latent_variance=1.0, residual_variance=0.04, process=process
        )
        law = fsd.sampler.generated_law(score, times=times, method="velocity_heun_ode")
        S = np.asarray(law.basis * law.variance) @ np.asarray(law.basis).T
        # From N(0, T^2) the flow keeps (v + s^2)/(v + T^2) of the variance T^2.
        v = np.array([1.0, 0.04])
        errors.append(np.diag(S)[:2] / ((v + 0.002**2) * 80**2 / (v + 80**2)) - 1)
    np.testing.assert_allclose(np.log2(errors[0] / errors[1]), 2, atol=0.15)
    assert np.max(np.abs(errors[1])) < 0.005
