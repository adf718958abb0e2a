import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsd_jax import theory


def _simulated(spectrum, n, t, replicates):
    """Score errors, gains and divergences of plug-in laws of samples, by dense NumPy."""
    rng = np.random.default_rng(n)
    m2, s2 = np.exp(-t), -np.expm1(-t)
    truth = m2 * spectrum + s2
    errors, gains, divergences = [], [], []
    for _ in range(replicates):
        x = rng.standard_normal((n, spectrum.size)) * spectrum**0.5
        model = m2 * x.T @ x / n + s2 * np.eye(spectrum.size)
        resolvent = np.linalg.inv(model)
        off = resolvent - np.diag(1 / truth)
        errors.append(np.sum(off * (off * truth)))
        gains.append(1 - s2 * np.diag(resolvent))
        excess = np.linalg.slogdet(model)[1] - np.sum(np.log(truth))
        divergences.append((np.sum(np.diag(resolvent) * truth) - spectrum.size + excess) / 2)
    return np.array(errors), np.array(gains), np.array(divergences)


@pytest.mark.result("Deterministic equivalents (any spectrum)")
@pytest.mark.parametrize(("n", "t"), [(10, 0.1), (60, 0.1), (200, 1.0)])
def test_a_decaying_spectrum_against_simulation(n, t):
    spectrum = 4 * np.arange(1, 61.0) ** -1.3
    errors, gains, _ = _simulated(spectrum, n, t, 300)
    found = theory.deterministic_equivalent(spectrum=spectrum, n_ta=n, time=t)
    spread = 4 * errors.std() / 300**0.5
    order = errors.mean() / found.degrees_of_freedom
    assert abs(found.score_error - errors.mean()) < spread + order
    spread = 4 * gains.std(axis=0) / 300**0.5
    assert np.all(np.abs(found.gains - gains.mean(axis=0)) < spread + 0.2 / n**0.5)
    # The same numbers without the equivalent are far off.
    naive = np.exp(-t) * spectrum / (np.exp(-t) * spectrum - np.expm1(-t))
    assert np.max(np.abs(naive - gains.mean(axis=0))) > 2 * np.max(
        np.abs(found.gains - gains.mean(axis=0))
    )


@pytest.mark.result("Deterministic equivalents (any spectrum)")
@pytest.mark.parametrize("t", [0.1, 1.0])
@pytest.mark.parametrize(("d", "n"), [(24, 10), (24, 48), (100, 150), (24, 10**8)])
def test_isotropic_against_the_exact_expectation(d, n, t):
    found = theory.deterministic_equivalent(spectrum=[1.0], counts=[d], n_ta=n, time=t)
    exact = theory.expected_score_error(
        latent_dim=d, n_ta=n, latent_variance=1.0, time=t, estimator="scratch"
    )
    assert abs(found.score_error / exact - 1) < 3 / d
    repeated = theory.deterministic_equivalent(spectrum=np.ones(d), n_ta=n, time=t)
    assert np.isclose(repeated.score_error, found.score_error, rtol=1e-9)


def test_limits():
    spectrum, t = np.array([2.0, 0.5, 0.0]), 0.5
    many = theory.deterministic_equivalent(spectrum=spectrum, n_ta=10**12, time=t)
    assert np.isclose(many.noise, -np.expm1(-t), rtol=1e-11)
    assert many.score_error < 1e-11
    # Directions without variance cost nothing, however many they are.
    counts = [1, 1, 10**6]
    more = theory.deterministic_equivalent(spectrum=spectrum, counts=counts, n_ta=7, time=t)
    one = theory.deterministic_equivalent(spectrum=spectrum, n_ta=7, time=t)
    assert np.isclose(more.score_error, one.score_error)
    # kappa solves its equation.
    share = np.exp(-t) * spectrum / (np.exp(-t) * spectrum + one.noise)
    assert np.isclose(one.noise, -np.expm1(-t) + one.noise * share.sum() / 7)
    assert np.isclose(one.degrees_of_freedom, share.sum())


def _check_real_data(spectrum, n, t, replicates):
    errors, _, divergences = _simulated(spectrum, n, t, replicates)
    for function, values in [
        (theory.expected_score_error, errors),
        (theory.expected_kl, divergences),
    ]:
        found = function(spectrum=spectrum, n_ta=n, time=t)
        spread = 4 * values.std() / replicates**0.5
        assert abs(found - values.mean()) < max(spread, 0.02 * values.mean())


SPECTRA = [
    (np.ones(24), 48, 1.0),
    (np.concatenate([np.full(8, 1.04), np.full(52, 0.04)]), 30, 0.5),
    (4 * np.arange(1, 31.0) ** -1.3, 20, 0.1),
]


@pytest.mark.result("R20")
@pytest.mark.parametrize(("spectrum", "n", "t"), SPECTRA)
def test_real_data_against_simulation(spectrum, n, t):
    _check_real_data(spectrum, n, t, 1500)
    # The first part alone is short.
    first = theory.deterministic_equivalent(spectrum=spectrum, n_ta=n, time=t).score_error
    assert first < 0.99 * theory.expected_score_error(spectrum=spectrum, n_ta=n, time=t)


@pytest.mark.slow  # the test above has three of them
@pytest.mark.parametrize("index", range(40))
def test_real_data_against_simulation_on_random_spectra(index):
    rng = np.random.default_rng([20, index])
    size = int(rng.integers(12, 60))
    spectrum = np.exp(rng.normal(0, rng.uniform(0, 2), size))
    n, t = int(np.exp(rng.uniform(np.log(20), np.log(200)))), float(np.exp(rng.uniform(-2.3, 1)))
    _check_real_data(spectrum, n, t, 3000)


@pytest.mark.result("R20")
@pytest.mark.parametrize(("d", "n", "rtol"), [(24, 10, 2e-3), (24, 48, 2e-3), (100, 150, 1e-4)])
def test_real_data_against_the_exact_expectation(d, n, rtol):
    exact = dict(latent_dim=d, latent_variance=1.0, estimator="scratch")
    for function in (theory.expected_score_error, theory.expected_kl):
        found = function(spectrum=np.ones(d), n_ta=n, time=1.0)
        np.testing.assert_allclose(found, function(**exact, n_ta=n, time=1.0), rtol=rtol)
    # For many samples both terms are exact, and no digits are lost.
    many = theory.expected_kl(spectrum=np.ones(d), n_ta=10**14, time=1.0)
    exactly = theory.expected_kl(**exact, n_ta=10**14, time=1.0)
    np.testing.assert_allclose(many, exactly, rtol=1e-8)


@pytest.mark.result("R20")
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("n", [4, 60])
def test_derivatives_against_automatic_ones(n):
    """The generating function, written down as it is and differentiated by JAX."""
    t, spectrum = 0.4, np.array([3.0, 1.0, 1.0, 0.2, 0.0])
    S, noise = jnp.asarray(np.exp(-t) * spectrum), -np.expm1(-t)

    def generating(s2, eps):
        def fixed(theta):
            return 1 / (1 + jnp.sum(S / (s2 + (eps + theta) * S)) / n)

        theta = jax.lax.fori_loop(0, 500, lambda _, theta: fixed(theta), s2 + 0 * eps)
        D = s2 + (eps + theta) * S
        gamma = theta**2 * jnp.sum((S / D) ** 2) / n
        first = jnp.sum(jnp.log(D)) - n * jnp.log(theta) - n * (1 - theta)
        return first + jnp.log(1 - gamma) / 2

    def all_of_it(x):
        forward = jax.jacfwd(lambda x: generating(*x))
        return generating(*x), forward(x), jax.jacfwd(forward)(x)

    value, (by_s, by_eps), ((ss, se), _) = jax.jit(all_of_it)(jnp.array([noise, 0.0]))
    score = -se - noise * ss - 2 * by_s + jnp.sum(1 / (S + noise))
    kl = (by_eps + noise * by_s - len(S) - jnp.sum(jnp.log(S + noise)) + value) / 2
    given = dict(spectrum=spectrum, n_ta=n, time=t)
    np.testing.assert_allclose(theory.expected_score_error(**given), score, rtol=1e-9)
    np.testing.assert_allclose(theory.expected_kl(**given), kl, rtol=1e-9)


def test_a_spectrum_over_times_and_what_does_not_go_with_it():
    given = dict(spectrum=[2.0, 0.5, 0.0], n_ta=7)
    each = [theory.expected_score_error(**given, time=t) for t in (0.1, 1.0)]
    both = theory.expected_score_error(**given, times=[0.1, 1.0], weights=[0.3, 0.9])
    np.testing.assert_allclose(both, 0.3 * each[0] + 0.9 * each[1])
    for change, words in [
        (dict(latent_dim=2), "leave out latent_dim"),
        (dict(residual_variance=0.1), "leave out latent_dim"),
        (dict(estimator="orthonormal"), "estimator must be 'scratch'"),
        (dict(spectrum=None), "latent_dim= and latent_variance="),
    ]:
        with pytest.raises(ValueError, match=words):
            theory.expected_kl(**(given | change), time=0.5)


@pytest.mark.result("Residual noise in the curves")
@pytest.mark.parametrize(("D", "d", "n", "t"), [(40, 8, 1000, 0.1), (200, 2, 100, 0.5)])
def test_residual_noise_against_drawn_data(D, d, n, t):
    rng, m2, s2, tau2, count = np.random.default_rng(D), np.exp(-t), -np.expm1(-t), 0.04, 60
    truth = np.concatenate([np.full(d, 1 + tau2), np.full(D - d, tau2)])
    noised = m2 * truth + s2
    errors, divergences = [], []
    for _ in range(count):
        x = rng.standard_normal((n, D)) * truth**0.5
        U = np.linalg.svd(x, full_matrices=False)[2][:d].T
        precision = np.eye(D) / (m2 * tau2 + s2)
        precision += (1 / (m2 * (1 + tau2) + s2) - 1 / (m2 * tau2 + s2)) * U @ U.T
        off = precision - np.diag(1 / noised)
        errors.append(np.sum(off * (off * noised)))
        # Equal determinants.
        divergences.append((np.sum(np.diag(precision) * noised) - D) / 2)
    size = dict(latent_dim=d, ambient_dim=D, n_ta=n, time=t)
    size |= dict(latent_variance=1.0, residual_variance=tau2)
    # The spiked limit is good to a few per cent.
    for function, values in [
        (theory.expected_score_error, errors),
        (theory.expected_kl, divergences),
    ]:
        spread = 4 * np.std(values) / count**0.5 + 0.03 * np.mean(values)
        assert abs(function(**size) - np.mean(values)) < spread
    both = theory.expected_kl(spectrum=truth, n_ta=n, time=t)
    assert theory.expected_kl(**size, estimator="scratch") == pytest.approx(both, rel=1e-12)
    for change, words in [
        (dict(ambient_dim=None), "needs ambient_dim="),
        (dict(n_s=10), "true gains"),
        (dict(n_ta=d), "n_ta must be above"),
        (dict(ambient_dim=1), "ambient_dim must be at least"),
    ]:
        with pytest.raises(ValueError, match=words):
            theory.expected_kl(**(size | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(spectrum=[-1.0]), "spectrum must be not negative"),
        (dict(counts=[1, 2]), "counts must be 1 numbers"),
        (dict(n_ta=0), "n_ta must be at least 1"),
        (dict(time=0.0), "time must be positive"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(ValueError, match=message):
        theory.deterministic_equivalent(**(dict(spectrum=[1.0], n_ta=5, time=1.0) | change))
