import numpy as np
import pytest

from fsd_jax import theory


def _simulated(spectrum, n, t, replicates):
    """Score errors and gains of plug-in denoisers of samples, by dense NumPy."""
    rng = np.random.default_rng(n)
    m2, s2 = np.exp(-t), -np.expm1(-t)
    truth = m2 * spectrum + s2
    errors, gains = [], []
    for _ in range(replicates):
        x = rng.standard_normal((n, spectrum.size)) * spectrum**0.5
        resolvent = np.linalg.inv(m2 * x.T @ x / n + s2 * np.eye(spectrum.size))
        off = resolvent - np.diag(1 / truth)
        errors.append(np.sum(off * (off * truth)))
        gains.append(1 - s2 * np.diag(resolvent))
    return np.array(errors), np.array(gains)


@pytest.mark.result("Deterministic equivalents (any spectrum)")
@pytest.mark.parametrize(("n", "t"), [(10, 0.1), (60, 0.1), (200, 1.0)])
def test_a_decaying_spectrum_against_simulation(n, t):
    spectrum = 4 * np.arange(1, 61.0) ** -1.3
    errors, gains = _simulated(spectrum, n, t, 300)
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
