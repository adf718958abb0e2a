"""Reduced samples against samples of full size, with noise and with a diagonal latent."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fsd_jax as fsd
from fsd_jax import simulate, theory
from fsd_jax.simulate._sampled import padded_rows

AMBIENT, T = 12, 0.4
VARIANCES = np.array([2.0, 0.7, 0.7])
PAIRS = [
    ("rank", "subspace_error"),
    ("rank", "score_error"),
    ("orthonormal", "score_error"),
    ("orthonormal", "kl"),
]
METHODS, METRICS = ("rank", "orthonormal"), ("subspace_error", "score_error", "kl")


@partial(jax.jit, static_argnames=("n", "n_s", "draws"))
def _on_data(key, tau2, *, n, n_s, draws):
    d = len(VARIANCES)
    problem = fsd.LinearProblem.random(
        jax.random.key(0),
        ambient_dim=AMBIENT,
        latent_dim=d,
        latent_variance=VARIANCES,
        residual_variance=0.0,
    )
    problem = fsd.LinearProblem(**(vars(problem) | {"residual_variance": tau2}))
    process = fsd.VP()

    def one(key):
        target, source = jax.random.split(key)
        x = problem.sample_target(target, n)
        moment = fsd.SecondMoment.from_samples(x, rank=min(n, d + 1), throw=False, route="svd")
        c, rest = VARIANCES + tau2, tau2
        if n_s is not None:
            seen = fsd.SecondMoment.from_samples(problem.sample_source(source, n_s), throw=False)
            c, rest = seen.values[:d], jnp.sum(seen.values[d:]) / (AMBIENT - d)
        pooled = jnp.full(d, jnp.mean(c))
        fit = partial(
            fsd.rank_minimizer, moment, latent_variance=pooled[0], latent_dim=d, throw=False
        )
        orthonormal = fsd.orthonormal_minimizer(moment, latent_dim=d, throw=False)
        rank = fit(time=T)
        scores = [
            fsd.LinearScore.from_minimizer(rank, latent_variance=pooled),
            fsd.LinearScore.from_minimizer(orthonormal, latent_variance=c, residual_variance=rest),
        ]
        alive = jnp.sum(orthonormal.basis**2, axis=0) > 0.5
        model = fsd.ThinGaussian(
            mean=jnp.zeros(AMBIENT),
            basis=orthonormal.basis,
            variance=jnp.where(alive, c, rest),
            residual_variance=jnp.asarray(rest),
        )
        divergence = fsd.gaussian_kl(
            problem.target_law.diffuse(T, process), model.diffuse(T, process)
        )
        return jnp.stack(
            [
                fsd.subspace_error(rank.decoder, problem.A_ta),
                *(fsd.score_error(score, problem, time=T) for score in scores),
                divergence,
            ]
        )

    return jax.lax.map(one, jax.random.split(key, draws))


@pytest.mark.result("R13")
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("n", "n_s", "tau"), [(5, 40, 0.4), (30, None, 0.3)])
def test_reduced_samples_have_the_law_of_data(n, n_s, tau):
    theirs = np.asarray(_on_data(jax.random.key(1), tau**2, n=n, n_s=n_s, draws=1500))
    draw = jax.jit(
        partial(
            simulate.sampled_errors,
            rows=padded_rows(n, AMBIENT),
            ambient_dim=AMBIENT,
            perfect_source=n_s is None,
            isotropic=False,
            methods=METHODS,
            metrics=METRICS,
        )
    )
    blocks = [
        draw(
            jax.random.key(i),
            jnp.float64(n),
            jnp.float64(n_s or 1),
            jnp.array([T]),
            jnp.asarray(VARIANCES)[None],
            jnp.float64(tau**2),
        )
        for i in range(40)
    ]
    for j, pair in enumerate(PAIRS):
        ours = np.concatenate([np.asarray(block[pair])[0] for block in blocks])
        error = np.hypot(ours.std() / len(ours) ** 0.5, theirs[:, j].std() / len(theirs) ** 0.5)
        assert abs(ours.mean() - theirs[:, j].mean()) < 4.5 * error + 1e-12, pair


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_without_noise_it_agrees_with_the_spectra():
    d, n, n_s = 3, 5, 20
    draw = jax.jit(
        partial(
            simulate.sampled_errors,
            rows=8,
            ambient_dim=10,
            perfect_source=False,
            methods=("integrated", "orthonormal"),
            metrics=("score_error", "loss_gap"),
        )
    )
    blocks = [
        draw(
            jax.random.key(i),
            jnp.float64(n),
            jnp.float64(n_s),
            jnp.array([T]),
            jnp.ones((1, d)),
            jnp.float64(0.0),
        )
        for i in range(40)
    ]
    for pair in blocks[0]:
        ours = np.concatenate([np.asarray(block[pair])[0] for block in blocks])
        theirs = np.asarray(
            simulate.errors(
                jax.random.key(9),
                latent_dim=d,
                n_ta=n,
                n_s=n_s,
                latent_variance=1.0,
                times=[T],
                replicates=20_000,
                method=pair[0],
                metric=pair[1],
            )
        )
        error = np.hypot(ours.std() / len(ours) ** 0.5, theirs.std() / len(theirs) ** 0.5)
        assert abs(ours.mean() - theirs.mean()) < 4.5 * error + 1e-9, pair


def test_an_ambient_dimension_of_a_hundred_thousand_costs_nothing():
    # The spiked-covariance threshold: below it the subspace is lost, above it is found in part.
    draw = jax.jit(
        partial(
            simulate.sampled_errors,
            rows=128,
            ambient_dim=100_000,
            perfect_source=True,
            methods=("orthonormal",),
            metrics=("subspace_error",),
        )
    )
    pair = ("orthonormal", "subspace_error")
    threshold = (100_000 / 100) ** 0.5  # of lambda^2/tau^2, for n_ta = 100
    found = {
        ratio: float(
            jnp.mean(
                draw(
                    jax.random.key(0),
                    jnp.float32(100),
                    jnp.float32(1),
                    jnp.array([T]),
                    jnp.full((1, 2), ratio * threshold),
                    jnp.float32(1.0),
                )[pair]
            )
        )
        for ratio in (0.3, 100.0)
    }
    assert found[0.3] > 3.5  # of 4
    expected = theory.spiked_subspace_error(
        latent_dim=2,
        n_ta=100,
        ambient_dim=100_000,
        latent_variance=100 * threshold,
        residual_variance=1.0,
    )
    assert found[100.0] == pytest.approx(expected, rel=0.1)


def test_rows_are_padded_to_powers_of_two():
    assert [padded_rows(n, 100) for n in (1, 2, 3, 5, 64, 65, 10**6)] == [1, 2, 4, 8, 64, 100, 100]


def test_a_large_noisy_source_is_refused_with_advice():
    with pytest.raises(ValueError, match="perfect source"):
        simulate.sampled_errors(
            jax.random.key(0),
            jnp.float32(4),
            jnp.float32(10),
            jnp.ones(1),
            jnp.ones((1, 2)),
            jnp.float32(0.1),
            rows=4,
            ambient_dim=5000,
            perfect_source=False,
        )
