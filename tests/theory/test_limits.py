import numpy as np
import pytest

from fsd_jax import theory


def _risk(precision, noised):
    """``E |(K - K*) x|^2`` for symmetric scores and a dense covariance."""
    off = precision - np.linalg.inv(noised)
    return np.trace(off @ noised @ off)


def _levels(t, variance):
    return np.exp(-t) * variance, -np.expm1(-t)


@pytest.mark.result("The best possible without a source")
@pytest.mark.parametrize(
    ("D", "d", "n", "t", "exact", "rtol"),
    [(40, 8, 5, 0.5, 5.757, 1e-4), (40, 24, 10, 0.1, 124.15, 1e-4)],
)
def test_minimax_against_the_bayes_risk(D, d, n, t, exact, rtol):
    size = dict(latent_dim=d, n_ta=n, latent_variance=1.0, time=t)
    found = theory.minimax_score_error(ambient_dim=D, **size)
    np.testing.assert_allclose(found, exact, rtol=rtol)
    # The mean risk of k I on what is not seen is quadratic in k; a dense one at its least value.
    a, s2 = _levels(t, 1.0)
    rest = np.diag(np.concatenate([np.full(d - n, a + s2), np.full(D - d, s2)]))
    risks = [_risk(k * np.eye(D - n), rest) for k in (0.0, 1.0, 2.0)]
    curve = np.polyfit((0.0, 1.0, 2.0), risks, 2)
    np.testing.assert_allclose(np.polyval(curve, -curve[1] / (2 * curve[0])), found, rtol=1e-9)
    # No matrix does better on average over turned worlds: the mean risk is convex and invariant.
    rng = np.random.default_rng(0)
    best = np.eye(D - n) * (-curve[1] / (2 * curve[0]))
    other = best + 0.1 * rng.standard_normal((D - n, D - n))
    turned = []
    for _ in range(40):
        Q = np.linalg.qr(rng.standard_normal((D - n, D - n)))[0]
        off = other - Q @ np.linalg.inv(rest) @ Q.T
        turned.append(np.trace(off @ (Q @ rest @ Q.T) @ off.T))
    assert np.mean(turned) > found
    left_out = theory.expected_score_error(**size)
    assert found < left_out
    # In a huge space nothing is gained, and a whole space has nothing to find.
    far = theory.minimax_score_error(ambient_dim=10**12, **size)
    np.testing.assert_allclose(far, left_out, rtol=1e-9)
    assert theory.minimax_score_error(ambient_dim=d, **size) == 0


def _completed(angles, n, t, variance, completed, D, replicates):
    """Dense errors of completed models, their subspaces drawn."""
    rng, d = np.random.default_rng(0), len(angles)
    a, s2 = _levels(t, variance)
    A, N = np.eye(D)[:, :d], np.eye(D)[:, d : 2 * d]
    source = A * np.cos(angles) + N * np.sin(angles)
    noised = a * A @ A.T + s2 * np.eye(D)
    errors = []
    for _ in range(replicates):
        U = A @ np.linalg.qr(rng.standard_normal((d, n)))[0]
        null = np.linalg.svd(U.T @ source)[2][n:].T
        B, b = source @ null, np.exp(-t) * completed
        precision = (np.eye(D) - U @ U.T * a / (a + s2) - B @ B.T * b / (b + s2)) / s2
        errors.append(_risk(precision, noised))
    return np.array(errors)


@pytest.mark.result("R21")
@pytest.mark.parametrize(
    ("D", "d", "n", "theta", "t", "completed", "none", "best"),
    [
        (60, 10, 5, 0.3, 0.3, 4.4921, 40.849, 4.4697),
        (40, 8, 3, 1.2, 1.0, 2.401, 1.6935, 1.6506),
    ],
)
def test_equal_angles(D, d, n, theta, t, completed, none, best):
    angles = np.full(d, theta)
    size = dict(latent_dim=d, n_ta=n, latent_variance=1.0, time=t)
    given = dict(angles=angles, **size)
    np.testing.assert_allclose(theory.completed_score_error(**given), completed, rtol=2e-4)
    np.testing.assert_allclose(theory.expected_score_error(**size), none, rtol=2e-4)
    found = theory.completed_score_error(**given, completed_variance="best")
    np.testing.assert_allclose(found, best, rtol=2e-4)
    for variance in (1.0, 0.3, np.cos(theta) ** 2):
        drawn = _completed(angles, n, t, 1.0, variance, D, 2)
        found = theory.completed_score_error(**given, completed_variance=variance)
        np.testing.assert_allclose(drawn, found, rtol=1e-9)
    # It helps exactly below the threshold.
    a, s2 = _levels(t, 1.0)
    edge = np.arcsin(((a + s2) / (a + 2 * s2)) ** 0.5)
    at = theory.completed_score_error(angles=np.full(d, edge), **size)
    np.testing.assert_allclose(at, theory.expected_score_error(**size), rtol=1e-9)


@pytest.mark.result("R21")
@pytest.mark.parametrize(("d", "n"), [(10, 4), (6, 1), (16, 15)])
def test_unequal_angles_against_drawn_subspaces(d, n):
    angles, t = np.linspace(0.1, 1.3, d), 0.4
    drawn = _completed(angles, n, t, 1.5, 1.5, 2 * d, 400)
    size = dict(angles=angles, latent_dim=d, n_ta=n, latent_variance=1.5, time=t)
    found = theory.completed_score_error(**size)
    error = 4 * drawn.std() / len(drawn) ** 0.5
    assert abs(found - drawn.mean()) < error + 0.02 * drawn.mean()
    nearby = np.full(d, 0.7) + 1e-9 * np.arange(d)
    even, nearly = (
        theory.completed_score_error(**(size | dict(angles=x))) for x in (np.full(d, 0.7), nearby)
    )
    np.testing.assert_allclose(nearly, even, rtol=1e-6)


def test_the_ends():
    size = dict(latent_dim=3, n_ta=2, latent_variance=1.0, time=0.5)
    assert theory.completed_score_error(angles=np.zeros(3), **size) == pytest.approx(0, abs=1e-15)
    # What is orthogonal is best given no variance, which is leaving it out.
    right = dict(angles=np.full(3, np.pi / 2), **size)
    best = theory.completed_score_error(**right, completed_variance="best")
    np.testing.assert_allclose(best, theory.expected_score_error(**size), rtol=1e-12)
    few = theory.completed_score_error(
        angles=[0.1, np.pi / 2, np.pi / 2], **size, completed_variance="best"
    )
    np.testing.assert_allclose(few, best, rtol=1e-6)


@pytest.mark.parametrize(
    ("function", "change", "words"),
    [
        (theory.minimax_score_error, dict(n_ta=3), "n_ta must be below latent_dim"),
        (theory.minimax_score_error, dict(ambient_dim=2), "ambient_dim must be at least"),
        (theory.minimax_score_error, dict(process="VP"), "process"),
        (theory.completed_score_error, dict(n_ta=4), "n_ta must be below latent_dim"),
        (theory.completed_score_error, dict(angles=[0.1, 0.2]), "angles must be latent_dim = 3"),
        (theory.completed_score_error, dict(angles=[0.1, 0.2, 2.0]), "at most pi/2"),
        (theory.completed_score_error, dict(completed_variance="least"), "completed_variance"),
        (theory.completed_score_error, dict(completed_variance=-1.0), "completed_variance"),
    ],
)
def test_bad_input(function, change, words):
    size = dict(latent_dim=3, n_ta=2, latent_variance=1.0, time=0.5)
    size |= (
        dict(ambient_dim=9) if function is theory.minimax_score_error else dict(angles=[0.1] * 3)
    )
    with pytest.raises(ValueError, match=words):
        function(**(size | change))
