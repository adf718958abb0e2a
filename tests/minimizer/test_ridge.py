"""The ridge to the source: against gradient descent on the penalised loss, and its two limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import fsd_jax as fsd

AMBIENT, DIM = 9, 3
RNG = np.random.default_rng(1)
X = RNG.normal(size=(2, AMBIENT)) * np.linspace(2, 0.3, AMBIENT)
SOURCE = np.linalg.qr(RNG.normal(size=(AMBIENT, DIM)))[0]
TIMES = dict(times=np.array([0.1, 0.5]), weights=np.array([0.3, 0.7]))


def _ridge(x=X, dtype=np.float64, **kwargs):
    moment = fsd.SecondMoment.from_samples(x.astype(dtype))
    options = dict(strength=2.0, latent_variance=1.5, **TIMES) | kwargs
    return fsd.ridge_minimizer(moment, SOURCE.astype(dtype), **options)


def _penalised(decoder, strength=2.0):
    """Loss and penalty of a decoder, by the library's loss and a full projector."""
    moment = fsd.SecondMoment.from_samples(X)
    loss = fsd.expected_loss(decoder, moment, latent_variance=1.5, **TIMES)
    return loss + strength * jnp.sum((decoder @ decoder.T - SOURCE @ SOURCE.T) ** 2)


def _descend(columns):
    """L-BFGS on the penalised loss over decoders with this many columns."""
    slope = jax.jit(jax.value_and_grad(lambda v: _penalised(v.reshape(AMBIENT, columns))))
    start = np.random.default_rng(5).normal(size=AMBIENT * columns)
    found = scipy.optimize.minimize(
        slope, start, jac=True, method="L-BFGS-B", options=dict(maxiter=5000, ftol=1e-15)
    )
    return found.fun, found.x.reshape(AMBIENT, columns)


@pytest.mark.result("R18")
@pytest.mark.usefixtures("x64")
def test_descent_finds_nothing_better_and_the_same_decoder():
    found = _ridge()
    assert int(found.rank) == 2 + DIM
    best, V = _descend(2 + DIM)
    ours = _penalised(found.decoder)
    assert ours <= best + 1e-9 * abs(best)
    np.testing.assert_allclose(V @ V.T, found.decoder @ found.decoder.T, atol=1e-4)


@pytest.mark.usefixtures("x64")
def test_cut_to_rank_d_it_is_near_the_best_of_that_rank_and_not_below_it():
    cut = _ridge(latent_dim=DIM)
    best, _ = _descend(DIM)
    whole = _penalised(_ridge().decoder)
    ours = _penalised(cut.decoder)
    assert whole < best < ours
    assert ours - best < 0.25 * (best - whole)


@pytest.mark.usefixtures("x64")
def test_its_limits_are_the_minimiser_and_the_source():
    plain = fsd.rank_minimizer(
        fsd.SecondMoment.from_samples(X), latent_variance=1.5, latent_dim=DIM, **TIMES
    )
    weak, strong = _ridge(strength=0.0), _ridge(strength=1e9)
    outer = lambda m: m.decoder @ m.decoder.T
    np.testing.assert_allclose(outer(weak), outer(plain), atol=1e-10)
    np.testing.assert_allclose(outer(strong), SOURCE @ SOURCE.T, atol=1e-4)


def test_single_precision():
    single = _ridge(dtype=np.float32)
    with jax.enable_x64(True):
        double = _ridge()
        want = np.asarray(double.decoder @ double.decoder.T)
    np.testing.assert_allclose(single.decoder @ single.decoder.T, want, atol=2e-5)


@pytest.mark.result("R18")
@pytest.mark.usefixtures("x64")
def test_a_pooled_moment_is_the_weighted_sum():
    other = RNG.normal(size=(30, AMBIENT))
    target, source = map(fsd.SecondMoment.from_samples, (X, other))
    for share in (0.0, 0.3, 1.0):
        pooled = fsd.pooled_moment(target, source, source_share=share)
        want = (1 - share) * X.T @ X / 2 + share * other.T @ other / 30
        got = (pooled.basis * pooled.values) @ pooled.basis.T
        np.testing.assert_allclose(got, want, atol=1e-12)
        assert float(pooled.total) == pytest.approx(np.trace(want))
    # Its orthonormal minimiser minimises the loss on both sets together.
    found = fsd.orthonormal_minimizer(
        fsd.pooled_moment(target, source, source_share=0.3), latent_dim=DIM
    )
    _, vectors = np.linalg.eigh(0.7 * X.T @ X / 2 + 0.3 * other.T @ other / 30)
    want = vectors[:, -DIM:] @ vectors[:, -DIM:].T
    np.testing.assert_allclose(found.decoder @ found.decoder.T, want, atol=1e-10)


def test_bad_input():
    with pytest.raises(ValueError, match="strength"):
        _ridge(dtype=np.float32, strength=-1.0)
    with pytest.raises(ValueError, match="latent_dim"):
        _ridge(dtype=np.float32, latent_dim=6)
    moment = fsd.SecondMoment.from_samples(X.astype(np.float32))
    with pytest.raises(ValueError, match="source_basis"):
        fsd.ridge_minimizer(
            moment, np.eye(4, dtype=np.float32), strength=1.0, latent_variance=1.0, time=0.5
        )
    with pytest.raises(ValueError, match="source_share"):
        fsd.pooled_moment(moment, moment, source_share=1.5)
    small = fsd.SecondMoment.from_samples(X[:, :4].astype(np.float32))
    with pytest.raises(ValueError, match="same space"):
        fsd.pooled_moment(moment, small, source_share=0.5)
