"""Classifier-free guidance of linear scores: its exact law, its terms, and where it has none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fsd_jax as fsd
from fsd_jax import _checks, sampler
from tests import reference

D = 5


def _scores(process=fsd.VP(), dtype=float):
    rng = np.random.default_rng(4)
    for variance in ([1.0, 0.3], [2.0, 1.5]):
        yield fsd.LinearScore.from_decoder(
            jnp.asarray(reference.random_orthonormal(rng, D, 2), dtype), latent_variance=variance,
            residual_variance=0.2, mean=jnp.asarray(rng.normal(size=D), dtype), process=process,
        )  # fmt: skip


def _dense(score, w_score, t):
    U, K, q = np.asarray(score.basis), *map(np.asarray, score.core(t))
    S = U @ K @ U.T + q * np.eye(D)
    return w_score * S, w_score * S @ np.asarray(score.mean)


@pytest.mark.result("R16")
@pytest.mark.result("Guidance")
@pytest.mark.parametrize(
    ("process", "method", "ends"),
    [
        (fsd.VP(), "ei_sde", (0.05, 4.0)),
        (fsd.VP(), "heun_ode", (0.05, 4.0)),
        (fsd.Flow(), "ddim_ode", (0.05, 0.95)),
    ],
)
@pytest.mark.usefixtures("x64")
def test_the_law_is_that_of_the_affine_steps(process, method, ends):
    target, source = _scores(process)
    w, times = 1.7, np.geomspace(*ends, 9)
    # Subspaces that differ: a direction of the source alone is narrow without it.
    with pytest.warns(_checks.DataWarning, match="not positive definite"):
        found = sampler.guided_law(target, source, weight=w, times=times, method=method)

    def score(y, t):
        parts = [_dense(target, w, t), _dense(source, 1 - w, t)]
        signal = float(process.host_variances(t)[0]) ** 0.5
        return sum(S @ y - signal * u for S, u in parts)

    if method == "ddim_ode":
        level = lambda t: [float(v) ** 0.5 for v in process.host_variances(t)]
        mean, S = np.zeros(D), np.eye(D)
        for t, s in zip(times[:0:-1], times[-2::-1], strict=True):
            (a, sigma), (b, rho) = level(t), level(s)

            def step(y, t=t, a=a, b=b, sigma=sigma, rho=rho):
                eps = -sigma * score(y, t)
                return b * (y - sigma * eps) / a + rho * eps

            shift = step(np.zeros(D))
            M = np.stack([step(e) - shift for e in np.eye(D)], axis=1)
            mean, S = M @ mean + shift, M @ S @ M.T
    else:
        mean, S = reference.reverse_law(
            method, score, np.zeros(D), np.eye(D), times, process.host_integrated_rate
        )
    np.testing.assert_allclose(found.law.mean, mean, atol=1e-10)
    np.testing.assert_allclose(reference.thin_covariance(found.law), S, atol=1e-10)
    plain = sampler.generated_law(target, times=times, method=method)
    np.testing.assert_allclose(found.mean_shift, mean - plain.mean, atol=1e-10)
    # The directions are uncorrelated under both laws, and have the ratios.
    u, P = np.asarray(found.directions), reference.thin_covariance(plain)
    with_, without = u.T @ S @ u, u.T @ P @ u
    np.testing.assert_allclose(with_, np.diag(np.diag(with_)), atol=1e-9)
    np.testing.assert_allclose(without, np.diag(np.diag(without)), atol=1e-9)
    np.testing.assert_allclose(np.diag(with_) / np.diag(without), found.ratios, rtol=1e-9)
    precision = [
        np.linalg.eigvalsh(-_dense(target, w, t)[0] - _dense(source, 1 - w, t)[0])[0] for t in times
    ]
    np.testing.assert_allclose(found.least_precision, precision, rtol=1e-9)


@pytest.mark.usefixtures("x64")
def test_weights_one_and_zero_are_the_models():
    target, source = _scores()
    times = np.geomspace(0.05, 4.0, 9)
    one, none = (sampler.guided_law(target, source, weight=w, times=times) for w in (1.0, 0.0))
    assert not len(one.widened)
    assert not len(one.narrowed)
    np.testing.assert_allclose(one.mean_shift, 0, atol=1e-12)
    law = sampler.generated_law(source, times=times)
    assert float(fsd.bures_w2(none.law, law)) < 1e-20
    many = jax.vmap(lambda w: sampler.guided_law(target, source, weight=w, times=times).ratios)
    np.testing.assert_allclose(many(jnp.array([1.0, 0.0]))[1], none.ratios, rtol=1e-9)


@pytest.mark.usefixtures("x64")
def test_it_says_where_no_density_has_the_score():
    """One direction, ``P = 1/(m^2 v + s2)``: with a narrow source P_w turns negative early."""
    wide, narrow = (
        fsd.LinearScore.from_decoder(np.eye(3, 1), latent_variance=v, residual_variance=0.5)
        for v in (4.0, 0.25)
    )
    times = np.geomspace(0.01, 4.0, 50)
    with pytest.warns(_checks.DataWarning, match="is not positive definite at") as told:
        found = sampler.guided_law(wide, narrow, weight=2.0, times=times)
    m2 = np.exp(-times)
    combined = 2 / (m2 * 4 + 1 - m2) - 1 / (m2 * 0.25 + 1 - m2)
    outside = 1 / (m2 * 0.5 + 1 - m2)
    np.testing.assert_allclose(found.least_precision, np.minimum(combined, outside), rtol=1e-9)
    last = times[combined <= 0].max()
    assert f"to {last:.3g}:" in str(told[0].message)
    assert not found.definite
    assert "definite=False" in repr(found)
    # Guidance away from the narrow model widens what is wide already.
    assert list(found.widened) == [0]
    assert float(found.residual_ratio) == pytest.approx(1)
    quiet = sampler.guided_law(narrow, wide, weight=2.0, times=times)
    assert quiet.definite
    assert list(quiet.narrowed) == [len(quiet.ratios) - 1]


def test_samples_have_the_law():
    target, source = _scores(dtype=np.float32)
    times, n = np.geomspace(0.05, 4.0, 9), 4000
    with pytest.warns(_checks.DataWarning, match="not positive definite"):
        found = sampler.guided_law(target, source, weight=1.5, times=times).law
    score = sampler.GuidedScore(target=target, source=source, weight=1.5)
    x = np.asarray(sampler.sample(jax.random.key(0), score, times=times, n=n, shape=D))
    S = reference.thin_covariance(found)
    size = np.diag(S)
    assert np.max(np.abs(x.mean(axis=0) - found.mean) / np.sqrt(size / n)) < 4.5
    spread = (np.cov(x.T) - S) / np.sqrt((np.outer(size, size) + S**2) / n)
    assert np.max(np.abs(spread)) < 4.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": np.tanh}, "source must be a LinearScore"),
        ({"weight": np.nan}, "weight must be a finite number"),
        ({"method": "euler"}, "method must be one of"),
        ({"source": next(_scores(fsd.VE()))}, "must have the same process"),
    ],
)
def test_wrong_arguments_are_refused(change, message):
    target, source = _scores()
    given = dict(target=target, source=source, weight=2.0, times=[0.1, 1.0]) | change
    with pytest.raises(ValueError, match=message):
        sampler.guided_law(given.pop("target"), given.pop("source"), **given)
