"""Samplers on any Gaussian path: by change of variables and by first principles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fsd_jax as fsd
from fsd_jax import sampler
from tests import reference

D = 4
VP = fsd.VP.linear(0.3, 2.0)
TIMES = {fsd.Flow(): (0.02, 0.98), fsd.VE(): (0.05, 8.0), VP: (0.05, 3.0)}


def _law():
    rng = np.random.default_rng(3)
    return fsd.ThinGaussian(
        mean=jnp.asarray(rng.normal(size=D)), variance=jnp.asarray([2.0, 0.5]),
        basis=jnp.asarray(reference.random_orthonormal(rng, D, 2)),
        residual_variance=jnp.asarray(0.1),
    )  # fmt: skip


def _score(process, law=None):
    """The exact score of a law, or one whose matrices at different times do not commute."""
    if law is not None:
        return fsd.LinearScore(
            basis=law.basis, mixing=jnp.eye(2, dtype=law.basis.dtype), mean=law.mean,
            latent_variance=law.variance, residual_variance=law.residual_variance, process=process,
        )  # fmt: skip
    rng = np.random.default_rng(0)
    V = np.linalg.qr(rng.normal(size=(D, 2)))[0] @ (np.eye(2) + 0.3 * rng.normal(size=(2, 2)))
    return fsd.LinearScore.from_decoder(
        V, latent_variance=[2.0, 0.3], residual_variance=0.2, mean=rng.normal(size=D),
        process=process,
    )  # fmt: skip


def _levels(process, t):
    alpha2, noise = (float(v) for v in process.host_variances(t))
    return alpha2**0.5, noise**0.5


def _drift(process, t):
    d = 1e-5
    ahead, back = _levels(process, t + d), _levels(process, t - d)
    return [(a - b) / (2 * d) for a, b in zip(ahead, back, strict=True)]


def _step(process, method, score, y, t, s, noise):
    """One step from what it freezes; the exponential integrators by the change of variables."""
    (a, sigma), (b, rho) = _levels(process, t), _levels(process, s)
    clean = lambda y, t, a, sigma: (y + sigma**2 * score(y, t)) / a
    if method in ("ddim_ode", "ddpm_sde"):
        x0 = clean(y, t, a, sigma)
        if method == "ddim_ode":
            return b * x0 + rho * (y - a * x0) / sigma
        # The law of x_s given x_t and x_0: a Gaussian's conditional.
        keep = a / b * rho**2 / sigma**2
        left = rho**2 - keep * a / b * rho**2
        return b * x0 + keep * (y - a * x0) + np.sqrt(left) * noise

    def velocity(y, t):
        a, sigma = _levels(process, t)
        x0 = clean(y, t, a, sigma)
        slopes = _drift(process, t)
        return slopes[0] * x0 + slopes[1] * (y - a * x0) / sigma

    if method.startswith("velocity"):
        ahead = y + (s - t) * velocity(y, t)
        if method == "velocity_ode":
            return ahead
        return y + (s - t) / 2 * (velocity(y, t) + velocity(ahead, s))
    c, e = np.hypot(a, sigma), np.hypot(b, rho)
    scaled = lambda y, u: float(process.scale(u)) * score(float(process.scale(u)) * y, u)
    h = float(process.host_integrated_rate(t) - process.host_integrated_rate(s))
    return e * reference.reverse_step(method, y / c, scaled, t, s, h, noise)


CASES = [(fsd.Flow(), m) for m in sampler.METHODS]
CASES += [(fsd.VE(), m) for m in ("ei_sde", "ddpm_sde", "velocity_heun_ode")]
CASES += [(VP, m) for m in sampler.METHODS[4:]]


@pytest.mark.result("R16")
@pytest.mark.result("Any Gaussian path")
@pytest.mark.parametrize(("process", "method"), CASES)
@pytest.mark.usefixtures("x64")
def test_law_of_the_steps(process, method):
    score = _score(process)
    times = np.geomspace(*TIMES[process], 7)
    matrices = {t: [np.asarray(a) for a in score.core(t)] for t in times}
    U, mu = np.asarray(score.basis), np.asarray(score.mean)

    def dense(y, t):
        K, q = matrices[t]
        return (U @ K @ U.T + q * np.eye(D)) @ (y - _levels(process, t)[0] * mu)

    start = {fsd.Flow(): 1.0, fsd.VE(): 64.0, VP: 1.0}[process]
    mean, S = np.zeros(D), start * np.eye(D)
    for t, s in zip(times[:0:-1], times[-2::-1], strict=True):
        step = lambda y, e, t=t, s=s: _step(process, method, dense, y, t, s, e)
        zero = np.zeros(D)
        shift = step(zero, zero)
        M = np.stack([step(e, zero) - shift for e in np.eye(D)], axis=1)
        N = np.stack([step(zero, e) - shift for e in np.eye(D)], axis=1)
        mean, S = M @ mean + shift, M @ S @ M.T + N @ N.T
    found = sampler.generated_law(score, times=times, method=method)
    tolerance = 1e-7 if method.startswith("velocity") else 1e-10
    np.testing.assert_allclose(found.mean, mean, atol=tolerance)
    np.testing.assert_allclose(reference.thin_covariance(found), S, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("process", [fsd.Flow(), fsd.VE()])
@pytest.mark.usefixtures("x64")
def test_the_limit_is_that_of_the_clock(process):
    """Exact score and start give the truth; VP at the clock gives the same law on its scale."""
    law, (delta, T) = _law(), TIMES[process]
    score = _score(process, law)
    for kind in ("sde", "ode"):
        ends = dict(delta=delta, T=T, kind=kind)
        found = sampler.continuous_law(score, **ends, initial=law.diffuse(T, process))
        assert float(fsd.bures_w2(found, law.diffuse(delta, process))) < 1e-20
        wide = sampler.continuous_law(score, **ends, denoise=True)
        low, high = process.host_integrated_rate([delta, T])
        c = float(process.scale(T)) ** 2
        noise = float(process.prior_variance(T)) / c
        start = fsd.ThinGaussian(
            mean=jnp.zeros(D), basis=law.basis, variance=noise * jnp.ones(2),
            residual_variance=jnp.asarray(noise),
        )  # fmt: skip
        same = sampler.continuous_law(
            _score(fsd.VP(), law), delta=low, T=high, kind=kind, initial=start, denoise=True
        )
        np.testing.assert_allclose(wide.mean, same.mean, atol=1e-12)
        np.testing.assert_allclose(
            reference.thin_covariance(wide), reference.thin_covariance(same), atol=1e-12
        )


@pytest.mark.usefixtures("x64")
def test_orders_of_convergence_on_the_flow():
    law, process = _law(), fsd.Flow()
    score, truth = _score(process, law), law.diffuse(0.02, process)
    for method, order in (("ddim_ode", 1), ("velocity_heun_ode", 2), ("ddpm_sde", 1)):
        errors = []
        for steps in (64, 128):
            times = process.host_time(
                np.geomspace(*process.host_integrated_rate([0.02, 0.98]), steps)
            )
            found = sampler.generated_law(
                score, times=times, method=method, initial=law.diffuse(0.98, process)
            )
            errors.append(float(fsd.bures_w2(found, truth)) ** 0.5)
        np.testing.assert_allclose(np.log2(errors[0] / errors[1]), order, rtol=0.1)


@pytest.mark.parametrize(
    ("process", "method"), [(fsd.Flow(), "velocity_heun_ode"), (fsd.VE(), "ddpm_sde")]
)
def test_samples_have_their_law(process, method):
    score, times = _score(process), np.geomspace(*TIMES[process], 9)
    n, options = 4000, dict(times=times, method=method)
    law = sampler.generated_law(score, **options, denoise=True)
    S, size = reference.thin_covariance(law), np.diag(reference.thin_covariance(law))
    latent = dict(basis=score.basis, residual_variance=0.2, mean=score.mean)
    for x in (
        sampler.sample(jax.random.key(1), score, n=n, **options, denoise=True),
        sampler.sample_latent(
            jax.random.key(2), score.latent, n=n, **latent, **options, denoise=True
        ),
    ):
        off = (np.mean(x, axis=0) - law.mean) / np.sqrt(size / n)
        assert np.max(np.abs(off)) < 4.5
        spread = (np.cov(np.asarray(x).T) - S) / np.sqrt((np.outer(size, size) + S**2) / n)
        assert np.max(np.abs(spread)) < 4.5


@pytest.mark.usefixtures("x64")
def test_a_gaussians_rectified_flow_is_straight():
    """Reflow: couple each noise with where its ODE ends; the new velocity transports in one step.

    For ``N(0, diag v)`` the flow maps ``xi`` to ``sqrt(v) xi`` and the coupling's straight path is
    ``x_t = ((1-t) sqrt(v) + t) xi``, whose velocity ``(1 - sqrt v) xi`` does not depend on time.
    """
    law = fsd.ThinGaussian(
        mean=jnp.zeros(2), basis=jnp.eye(2), variance=jnp.asarray([4.0, 0.25]),
        residual_variance=jnp.asarray(1.0),
    )  # fmt: skip
    flow, ends = fsd.Flow(), (1e-7, 1 - 1e-7)
    # The first flow, exactly: samples at the end are `along` times the noise.
    end = sampler.continuous_law(_score(flow, law), delta=ends[0], T=ends[1], kind="ode")
    np.testing.assert_allclose(np.sort(end.variance), [0.25, 4.0], rtol=1e-5)
    v = np.array([4.0, 0.25])
    xi = np.random.default_rng(0).normal(size=(200, 2))
    start, stop = xi, np.sqrt(v) * xi
    t = np.random.default_rng(1).uniform(size=(200, 1))
    between = (1 - t) * stop + t * start
    # The regression of the coupling's direction on the point between, which is exact: no residual.
    velocity = (1 - np.sqrt(v)) / ((1 - t) * np.sqrt(v) + t) * between
    np.testing.assert_allclose(velocity, start - stop, atol=1e-12)
    one_step = start - (1 - np.sqrt(v)) * start
    np.testing.assert_allclose(one_step, stop, atol=1e-12)
    # Before rectification one step of Euler's sends all noise to the mean, since x_1 = xi alone.
    once = sampler.generated_law(_score(flow, law), times=ends, method="velocity_ode")
    assert float(jnp.max(once.variance)) < 1e-5


def test_times_outside_the_path_are_refused():
    score = _score(fsd.Flow())
    with pytest.raises(ValueError, match="times must lie below 1, where"):
        sampler.generated_law(score, times=[0.1, 1.0])
    with pytest.raises(ValueError, match="T must lie below 1, where"):
        sampler.continuous_law(_score(fsd.Flow(), _law()), delta=0.1, T=2.0)
    back = fsd.GaussianPath(signal=lambda t: 1 + 0 * t, noise_variance=lambda t: t * (4 - t))
    with pytest.raises(ValueError, match="noise that grows against its signal"):
        sampler.sample(
            jax.random.key(0), lambda x, t: -x, times=[1.0, 3.0], n=2, shape=3, process=back
        )
