"""Distances between Gaussian laws: their digits, their gradients, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fsd_jax as fsd
from fsd_jax import sampler
from fsd_jax.score._laws import divergence_excess
from tests import reference
from tests.conftest import _x64_context as x64_context

EPS = float(np.finfo(np.float32).eps)


def _law(basis, variance, residual, mean=None, dtype=np.float32):
    mean = np.zeros(len(basis)) if mean is None else mean
    return fsd.ThinGaussian(
        mean=jnp.asarray(mean, dtype), basis=jnp.asarray(basis, dtype),
        variance=jnp.asarray(variance, dtype), residual_variance=jnp.asarray(residual, dtype),
    )  # fmt: skip


def _pair(dtype=np.float64):
    rng = np.random.default_rng(0)
    bases = [reference.random_orthonormal(rng, 7, k) for k in (2, 3)]
    return (
        _law(bases[0], [2.0, 0.5], 0.3, rng.normal(size=7), dtype),
        _law(bases[1], [1.0, 0.7, 0.2], 0.4, rng.normal(size=7), dtype),
    )


def _dense(p, q):
    return (
        np.asarray(p.mean, np.float64), reference.thin_covariance(p),
        np.asarray(q.mean, np.float64), reference.thin_covariance(q),
    )  # fmt: skip


# --- digits in float32 ----------------------------------------------------------------------------


def test_kl_of_a_generated_law_in_ordinary_use():
    """Reports A.8: D = 40, d = 8, variances 30 to 1, six samples, the truth at 1e-3."""
    variance = np.geomspace(30, 1, 8)
    problem = jax.vmap(
        lambda key: fsd.LinearProblem.random(
            key, ambient_dim=40, latent_dim=8, latent_variance=variance
        )
    )(jax.random.split(jax.random.key(0), 40))

    def laws(problem, key):
        moment = fsd.SecondMoment.from_samples(problem.sample_target(key, 6))
        found = fsd.rank_minimizer(moment, latent_variance=variance, latent_dim=8, time=0.5)
        score = fsd.LinearScore.from_minimizer(found, latent_variance=variance)
        law = sampler.generated_law(score, times=np.geomspace(1e-3, 10, 101))
        return problem.target_law.diffuse(1e-3), law

    p, q = jax.vmap(laws)(problem, jax.random.split(jax.random.key(1), 40))
    found = np.asarray(jax.vmap(fsd.gaussian_kl)(p, q))
    assert np.all(np.isfinite(found))
    for i in range(0, 40, 8):
        ours, theirs = (jax.tree.map(lambda a, i=i: a[i], law) for law in (p, q))
        # A basis known to eps turns the largest variance against the smallest.
        exact = reference.kl(*_dense(ours, theirs))
        np.testing.assert_allclose(found[i], exact, rtol=1e-5)
        assert 1e3 < exact < 1e5


@pytest.mark.parametrize("residual", [0.0, 1e-8, 1e-5, 1e-3, 1.0])
def test_w2_of_nearby_laws(residual):
    """Reports A.8: D = 784, eight variances 100 against 100.1: 2.0e-4, where it was 0."""
    basis = reference.random_orthonormal(np.random.default_rng(0), 784, 8)
    p, q = (_law(basis, np.full(8, v), residual) for v in (100.0, 100.1))
    exact = 8 * (10 - np.sqrt(np.float64(np.float32(100.1)))) ** 2
    assert exact == pytest.approx(2.0e-4, rel=1e-2)
    # The roots are 10 to eps, and differ by 5e-3.
    np.testing.assert_allclose(fsd.bures_w2(p, q), exact, rtol=8 * 10 * EPS / 5e-3)


@pytest.mark.parametrize("ambient", [30, 8])
def test_both_distances_keep_their_digits(ambient):
    """Wide spectra, from far apart to a ten thousandth: against float64 on the same numbers."""
    rng, k = np.random.default_rng(1), 8
    for residual, angle in ((1e-6, 1e-4), (1e-3, 1e-2), (0.5, 1e-4), (1e-3, 0.5)):
        basis = reference.random_orthonormal(rng, ambient, k)
        turned = np.linalg.qr(basis + angle * rng.normal(size=(ambient, k)))[0]
        variance = np.geomspace(30, 1, k)
        moved = variance * (1 + angle * rng.uniform(size=k))
        p = _law(basis, variance, residual)
        q = _law(turned, moved, residual * (1 + angle))
        kl, w2 = float(fsd.gaussian_kl(p, q)), float(fsd.bures_w2(p, q))
        with x64_context():
            wide = [
                jax.tree.map(lambda a: jnp.asarray(np.asarray(a, np.float64)), law)
                for law in (p, q)
            ]
            exact_kl, exact_w2 = float(fsd.gaussian_kl(*wide)), float(fsd.bures_w2(*wide))
        # Bases turned by eps: eps^2 times the ratio of variances, and the cross term with the rest.
        floor = 50 * EPS**2 * k * ambient
        ratio = 30 / (residual if ambient > k else 1)
        for found, exact, unit in ((kl, exact_kl, ratio), (w2, exact_w2, 30)):
            limit = floor * unit + np.sqrt(floor * unit * exact) + 30 * EPS * exact
            assert abs(found - exact) < limit


@pytest.mark.usefixtures("x64")
def test_float64_against_dense():
    p, q = _pair()
    np.testing.assert_allclose(fsd.gaussian_kl(p, q), reference.kl(*_dense(p, q)), rtol=1e-12)
    np.testing.assert_allclose(fsd.bures_w2(p, q), reference.w2_squared(*_dense(p, q)), rtol=1e-10)


def test_a_law_has_no_distance_to_itself():
    basis = reference.random_orthonormal(np.random.default_rng(2), 40, 8)
    law = _law(basis, np.geomspace(30, 1, 8), 1e-3)
    assert float(fsd.gaussian_kl(law, law)) < EPS**2 * 30 / 1e-3 * 40
    assert float(fsd.bures_w2(law, law)) < EPS**2 * 30 * 8 * 40


def test_excess_of_a_ratio_keeps_its_digits():
    ratio = np.float32([1 + 1e-3, 1 - 1e-3, 1.3, 0.7, 1.5, 0.1, 50.0])
    x = ratio.astype(np.float64) - 1
    exact = np.where(np.abs(x) < 1e-2, x**2 / 2 - x**3 / 3 + x**4 / 4 - x**5 / 5, x - np.log1p(x))
    np.testing.assert_allclose(divergence_excess(jnp.asarray(ratio)), exact, rtol=1e-6)


def test_a_singular_law_is_infinitely_far_in_kl():
    basis = np.eye(5, 2)
    flat, full = _law(basis, [1.0, 2.0], 0.0), _law(basis, [1.0, 2.0], 0.5)
    assert np.isinf(fsd.gaussian_kl(full, flat))
    assert np.isinf(fsd.gaussian_kl(flat, full))
    # Where the basis is all there is, no residual counts.
    square = _law(np.eye(5), np.ones(5), 0.0)
    np.testing.assert_allclose(
        fsd.gaussian_kl(full, square), reference.kl(*_dense(full, square)), rtol=1e-6
    )


def test_zero_columns_are_directions_of_the_residual():
    basis = np.eye(6, 3)
    basis[:, 1] = 0
    law = _law(basis, [2.0, 99.0, 0.5], 0.3)
    same = _law(np.eye(6)[:, [0, 2]], [2.0, 0.5], 0.3)
    other = _law(np.eye(6)[:, ::-1][:, :2], [1.0, 0.7], 0.4)
    for distance in (fsd.gaussian_kl, fsd.bures_w2):
        np.testing.assert_allclose(distance(law, same), 0, atol=1e-12)
        np.testing.assert_allclose(distance(law, other), distance(same, other), rtol=1e-5)
        np.testing.assert_allclose(distance(other, law), distance(other, same), rtol=1e-5)


# --- gradients ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("distance", [fsd.gaussian_kl, fsd.bures_w2])
def test_gradients_against_differences(distance):
    """By every field; a basis is moved within the orthonormal ones, by a rotation."""
    p, q = _pair()
    rng = np.random.default_rng(3)
    spin = rng.normal(size=(7, 7))
    spin = jnp.asarray(spin - spin.T)

    def moved(h, which):
        turn = jax.scipy.linalg.expm(h * spin)
        law = (p, q)[which]
        changed = dataclasses.replace(
            law, mean=law.mean + h * spin[0], basis=turn @ law.basis,
            variance=law.variance * (1 + h * spin[1, : len(law.variance)]),
            residual_variance=law.residual_variance * (1 + h),
        )  # fmt: skip
        return distance(changed, q) if which == 0 else distance(p, changed)

    for which in (0, 1):
        found = float(jax.grad(moved)(0.0, which))
        h = 1e-4
        wide = float(moved(2 * h, which) - moved(-2 * h, which)) / (4 * h)
        near = float(moved(h, which) - moved(-h, which)) / (2 * h)
        # Richardson: the error of the fourth order is about h^4.
        np.testing.assert_allclose(found, (4 * near - wide) / 3, rtol=1e-8)


@pytest.mark.parametrize("distance", [fsd.gaussian_kl, fsd.bures_w2])
@pytest.mark.parametrize("variance", [[2.0, 2.0, 0.5], [1.0, 1.0, 1.0]])
def test_gradients_where_the_laws_coincide(distance, variance):
    """Also with repeated eigenvalues, and with the residual's: nothing but rounding."""
    basis = reference.random_orthonormal(np.random.default_rng(4), 6, 3)
    law = _law(basis, variance, 1.0)
    for gradient in jax.grad(distance, (0, 1))(law, law):
        for leaf in jax.tree.leaves(gradient):
            np.testing.assert_allclose(leaf, 0, atol=100 * EPS)


def test_w2_of_coinciding_singular_laws_has_a_gradient():
    law = _law(np.eye(6, 2), [2.0, 1.0], 0.0)
    assert all(
        np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(jax.grad(fsd.bures_w2)(law, law))
    )


def test_second_derivatives():
    p, q = _pair(np.float32)
    along = lambda distance: lambda v: distance(dataclasses.replace(p, variance=v), q)
    assert np.all(np.isfinite(jax.hessian(along(fsd.gaussian_kl))(p.variance)))
    with pytest.raises(NotImplementedError, match="first derivatives only"):
        jax.hessian(along(fsd.bures_w2))(p.variance)


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("distance", [fsd.gaussian_kl, fsd.bures_w2])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": np.zeros(6, np.float32)}, "q must have a mean"),
        ({"basis": np.ones((7, 3), np.float32)}, "q.basis must have orthonormal columns"),
        ({"variance": np.float32([1, -1, 1])}, "q has a time, weight or variance outside"),
        ({"residual_variance": np.float32(np.nan)}, "q has NaN"),
        ({"mean": np.full(7, np.inf, np.float32)}, "q has NaN"),
    ],
)
def test_what_is_no_law_is_refused(distance, change, message):
    p, q = _pair(np.float32)
    with pytest.raises(ValueError, match=message):
        distance(p, dataclasses.replace(q, **change))


def test_laws_of_other_kinds_and_spaces_are_refused():
    p, q = _pair(np.float32)
    other = _law(np.eye(5, 2), [1.0, 1.0], 1.0)
    for distance in (fsd.gaussian_kl, fsd.bures_w2):
        with pytest.raises(ValueError, match="same space"):
            distance(p, other)
        with pytest.raises(ValueError, match="p must be a ThinGaussian"):
            distance(np.eye(7), q)
    poisoned = jax.vmap(lambda v: fsd.bures_w2(dataclasses.replace(p, variance=v), q))
    found = poisoned(jnp.asarray([[2.0, 0.5], [-1.0, 0.5]]))
    assert list(np.isnan(found)) == [False, True]
