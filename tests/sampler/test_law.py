"""The exact law of discretised samplers: against dense algebra, the continuous limit, and rates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

import fsd_jax as fsd
from fsd_jax import sampler
from fsd_jax.sampler._grid import METHODS, Steps, coefficients, steps_of
from fsd_jax.sampler._law import law_of_steps
from tests import reference

D = 6
PROCESS = fsd.VP.linear(0.5, 2.0, horizon=2.0)


def _score(process=PROCESS):
    """Latent variances and a mixing that do not commute, a mean partly outside the span."""
    rng = np.random.default_rng(0)
    V = np.linalg.qr(rng.normal(size=(D, 3)))[0] @ (np.eye(3) + 0.2 * rng.normal(size=(3, 3)))
    return fsd.LinearScore.from_decoder(
        jnp.asarray(V, float), latent_variance=[2.0, 0.7, 0.1], residual_variance=0.2,
        mean=rng.normal(size=D), process=process,
    )  # fmt: skip


def _dense_score(score, process=PROCESS):
    """The same score by dense NumPy matrices."""
    V, U, mean = (np.asarray(a, np.float64) for a in (score.decoder, score.basis, score.mean))
    lam2, tau2 = np.asarray(score.latent_variance, np.float64), float(score.residual_variance)

    def at(y, t):
        b = float(process.host_integrated_rate(t))
        M = reference.score_matrix(V, lam2, tau2, b, U)
        return M @ (y - np.exp(-b / 2) * mean)

    return at


def _initial():
    rng = np.random.default_rng(1)
    return fsd.ThinGaussian(
        mean=jnp.asarray(rng.normal(size=D), float),
        basis=jnp.asarray(reference.random_orthonormal(rng, D, 2), float),
        variance=jnp.asarray([1.5, 0.6], float), residual_variance=jnp.asarray(0.9, float),
    )  # fmt: skip


def _exact(tau2=0.1, process=fsd.VP()):
    """A Gaussian law with a mean, and its own score."""
    rng = np.random.default_rng(2)
    law = fsd.ThinGaussian(
        mean=jnp.asarray(rng.normal(size=D), float),
        basis=jnp.asarray(reference.random_orthonormal(rng, D, 2), float),
        variance=jnp.asarray([2.0 + tau2, 0.5 + tau2], float),
        residual_variance=jnp.asarray(tau2, float),
    )
    score = fsd.LinearScore(
        basis=law.basis, mixing=jnp.eye(2), latent_variance=law.variance,
        residual_variance=law.residual_variance, mean=law.mean, process=process,
    )  # fmt: skip
    return law, score


@pytest.mark.result("R16")
@pytest.mark.parametrize("method", METHODS[:4])
@pytest.mark.usefixtures("x64")
def test_law_against_dense_algebra(method):
    score, initial = _score(), _initial()
    matrices = [np.asarray(score.core(t)[0]) for t in (0.1, 1.0)]
    assert np.linalg.norm(matrices[0] @ matrices[1] - matrices[1] @ matrices[0]) > 0.1
    times = np.asarray(fsd.geometric_grid(0.05, 3.0, 24))
    mean, S = reference.reverse_law(
        method, _dense_score(score), np.asarray(initial.mean),
        reference.thin_covariance(initial), times, PROCESS.host_integrated_rate,
    )  # fmt: skip
    found = sampler.generated_law(score, times=times, method=method, initial=initial)
    np.testing.assert_allclose(found.mean, mean, atol=1e-11)
    np.testing.assert_allclose(reference.thin_covariance(found), S, atol=1e-11)
    # Tweedie's estimate is one more affine step.
    shift = np.asarray(score.denoise(jnp.zeros(D), times[0]))
    M = np.asarray(score.denoise(jnp.eye(D), times[0])).T - shift[:, None]
    clean = sampler.denoised_law(score, found, times[0])
    np.testing.assert_allclose(clean.mean, M @ mean + shift, atol=1e-11)
    np.testing.assert_allclose(reference.thin_covariance(clean), M @ S @ M.T, atol=1e-11)
    if method == "heun_ode":
        again = sampler.generated_law(
            score, times=times, method=method, initial=initial, denoise=True
        )
        np.testing.assert_allclose(again.mean, clean.mean, atol=1e-12)
        np.testing.assert_allclose(
            reference.thin_covariance(again), reference.thin_covariance(clean), atol=1e-12
        )


@pytest.mark.usefixtures("x64")
def test_undetermined_directions_belong_to_the_residual():
    """A zero column of the basis leaves no trace, whatever variance it is paired with."""
    _, score = _exact()
    thin = fsd.LinearScore(**(vars(score) | {
        "basis": score.basis.at[:, 1].set(0.0), "mixing": jnp.diag(jnp.array([1.0, 0.0])),
    }))  # fmt: skip
    times = fsd.geometric_grid(0.05, 3.0, 24)
    for found in (
        sampler.generated_law(thin, times=times),
        sampler.continuous_law(thin, delta=0.05, T=3.0),
    ):
        values, vectors = reference.eigenpairs(reference.thin_covariance(found))
        np.testing.assert_allclose(values[1:], float(found.residual_variance), rtol=1e-12)
        assert abs(vectors[:, 0] @ np.asarray(thin.basis[:, 0])) == pytest.approx(1, abs=1e-12)


def test_float32_serves():
    score = _score()
    times = np.geomspace(0.05, 3.0, 25)
    found = sampler.generated_law(score, times=times, initial=_initial())
    assert found.variance.dtype == jnp.float32
    mean, S = reference.reverse_law(
        "ei_sde", _dense_score(score), np.asarray(_initial().mean),
        reference.thin_covariance(_initial()), times, PROCESS.host_integrated_rate,
    )  # fmt: skip
    np.testing.assert_allclose(found.mean, mean, atol=1e-4)
    np.testing.assert_allclose(reference.thin_covariance(found), S, atol=1e-4)


# --- the continuous limit ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sde", "ode"])
@pytest.mark.parametrize("tau2", [0.0, 0.1])
@pytest.mark.usefixtures("x64")
def test_the_right_score_and_start_give_the_right_law(kind, tau2):
    law, score = _exact(tau2, PROCESS)
    found = sampler.continuous_law(
        score, delta=1e-3, T=10.0, kind=kind, initial=law.diffuse(10.0, PROCESS)
    )
    assert float(fsd.gaussian_kl(law.diffuse(1e-3, PROCESS), found)) < 1e-13


@pytest.mark.result("R16")
@pytest.mark.parametrize("kind", ["sde", "ode"])
@pytest.mark.usefixtures("x64")
def test_continuous_law_against_an_ode_solver(kind):
    """Gains other than one, which belong to no Gaussian; a start across the basis; a schedule."""
    score = _score()
    score = fsd.LinearScore(**(vars(score) | {"mixing": jnp.diag(jnp.array([1.1, 0.8, 0.0]))}))
    initial = _initial()

    V, U = np.asarray(score.decoder), np.asarray(score.basis)
    lam2, mu = np.asarray(score.latent_variance), np.asarray(score.mean)

    def slope(b, y):
        # Backwards in B, whose level fixes both variances whatever the schedule.
        S = reference.score_matrix(V, lam2, 0.2, b, U)
        A = np.eye(D) / 2 + S if kind == "sde" else (np.eye(D) + S) / 2
        c = (1.0 if kind == "sde" else 0.5) * np.exp(-b / 2) * S @ mu
        mean, C = y[:D], y[D:].reshape(D, D)
        noise = np.eye(D) if kind == "sde" else 0
        return -np.concatenate([A @ mean - c, (A @ C + C @ A.T + noise).ravel()])

    levels = PROCESS.host_integrated_rate([0.05, 2.5])
    start = np.concatenate([np.asarray(initial.mean), reference.thin_covariance(initial).ravel()])
    solved = scipy.integrate.solve_ivp(
        slope, (levels[1], levels[0]), start, rtol=1e-10, atol=1e-12, method="DOP853"
    ).y[:, -1]
    found = sampler.continuous_law(score, delta=0.05, T=2.5, kind=kind, initial=initial)
    np.testing.assert_allclose(found.mean, solved[:D], atol=1e-8)
    np.testing.assert_allclose(
        reference.thin_covariance(found), solved[D:].reshape(D, D), atol=1e-8
    )


@pytest.mark.usefixtures("x64")
def test_the_sde_forgets_its_start_and_the_ode_does_not():
    """From N(0, I) a variance keeps exp(-2T) of its error (SDE), exp(-T) (ODE); a mean the roots.

    Hence KL exponents of -2 and -1 for laws with a mean: the mean's error squared.
    """
    law, score = _exact()
    horizons = np.array([4.0, 6.0, 8.0])
    for kind, exponent in (("sde", -2.0), ("ode", -1.0)):
        kl = [
            float(
                fsd.gaussian_kl(
                    law.diffuse(0.01), sampler.continuous_law(score, delta=0.01, T=T, kind=kind)
                )
            )
            for T in horizons
        ]
        slope = np.diff(np.log(kl)) / np.diff(horizons)
        np.testing.assert_allclose(slope, exponent, atol=0.06)


@pytest.mark.parametrize(("kind", "times"), [("sde", 2), ("ode", 1)])
@pytest.mark.usefixtures("x64")
def test_along_a_gain_that_is_not_one_the_variance_depends_on_delta(kind, times):
    _, score = _exact(0.0)
    deltas, gains = np.array([1e-6, 1e-5]), np.array([1.2, 0.9])
    score = fsd.LinearScore(**(vars(score) | {
        "mixing": jnp.diag(jnp.sqrt(gains)), "latent_variance": jnp.ones(2),
    }))  # fmt: skip
    laws = [sampler.continuous_law(score, delta=delta, T=10.0, kind=kind) for delta in deltas]
    along = [np.diag(score.basis.T @ reference.thin_covariance(law) @ score.basis) for law in laws]
    slopes = np.log(along[1] / along[0]) / np.log(10)
    np.testing.assert_allclose(slopes, times * (1 - gains), atol=0.02)


# --- rates ---------------------------------------------------------------------------------------

SIZES = np.array([64, 128, 256])


def _padded(times):
    """Steps of size zero change nothing, so grids of several lengths share a compilation."""
    steps = steps_of(times, float, fsd.VP())
    pad = int(SIZES.max()) - len(steps.size)
    start, size = steps.start[0], jnp.zeros(pad)
    first = Steps(jnp.full(pad, start), jnp.full(pad, start), size)
    return Steps(*(jnp.concatenate(pair) for pair in zip(first, steps, strict=True)))


@pytest.mark.parametrize(
    ("method", "order"), [("ei_sde", 1), ("em_sde", 1), ("ei_ode", 1), ("heun_ode", 2)]
)
@pytest.mark.usefixtures("x64")
def test_order_of_convergence_in_law(method, order):
    """The exact score, started from the exact law: only the steps are wrong."""
    law, score = _exact()
    truth, errors = law.diffuse(1e-3), []
    for K in SIZES:
        found = law_of_steps(
            score, _padded(fsd.geometric_grid(1e-3, 10.0, int(K))), law.diffuse(10.0),
            method=method, denoise=False,
        )  # fmt: skip
        errors.append((float(fsd.bures_w2(truth, found)) ** 0.5,
                       float(fsd.gaussian_kl(truth, found))))  # fmt: skip
    # The next order bends the curve by a few per cent at these sizes.
    slopes = np.polyfit(np.log(SIZES), np.log(np.array(errors)), 1)[0]
    np.testing.assert_allclose(slopes, [-order, -2 * order], rtol=0.06)


def test_steps_that_never_enlarge_an_error():
    """A score's slope is at least ``-1/s2``, so ``M >= -1`` for h up to B and 2 log(1 + sqrt 2)."""
    levels = np.geomspace(1e-3, 20, 40)
    for share in (0.01, 0.3, 1.0):
        h = share * np.minimum(levels, 2 * np.log(1 + 2**0.5))
        step = coefficients("ei_sde", jnp.asarray(h))
        assert np.all(step.keep + step.push / np.expm1(-levels) >= -1 - 1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s, t: sampler.generated_law(s, times=t, method="euler"), "method must be one of"),
        (lambda s, t: sampler.generated_law(np.tanh, times=t), "score must be a LinearScore"),
        (lambda s, t: sampler.generated_law(s, times=t[:1]), "at least two times"),
        (lambda s, t: sampler.generated_law(s, times=t[::-1]), "must increase"),
        (lambda s, t: sampler.generated_law(s, times=[0.0, 1.0]), "times must be positive"),
        (lambda s, t: sampler.continuous_law(s, delta=0.1, T=1.0), "diagonal mixing"),
        (lambda s, t: sampler.continuous_law(_exact()[1], delta=1.0, T=0.1), "below T"),
        (lambda s, t: sampler.continuous_law(_exact()[1], delta=0.0, T=1.0), "delta must be"),
        (lambda s, t: sampler.continuous_law(s, delta=0.1, T=1.0, kind="pde"), "kind must be"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call(_score(), np.array([0.1, 0.5, 1.0]))


def test_under_a_trace_a_bad_end_is_not_a_number():
    score = _exact()[1]
    found = jax.vmap(lambda T: sampler.continuous_law(score, delta=0.1, T=T).residual_variance)(
        jnp.array([0.05, 2.0])
    )
    assert list(np.isnan(found)) == [True, False]
