"""Replicates without data against the same estimators on data, over a grid of settings."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fsd_jax as fsd
from fsd_jax import simulate, theory
from fsd_jax.simulate._inputs import METHODS, METRICS

AMBIENT, ROWS, VARIANCE = 10, 40, 1.7
TIMES = (0.05, 0.5, 3.0)


@partial(jax.jit, static_argnames=("d", "draws"))
def _on_data(key, n, n_s, *, d, draws):
    """Errors of fits to drawn samples, ``(draws, methods, 2, times)``; n_s = 0 is perfect."""
    problem = fsd.LinearProblem.random(
        jax.random.key(0), ambient_dim=AMBIENT, latent_dim=d, latent_variance=VARIANCE
    )
    nodes, quadrature = fsd.VP().quadrature()

    def one(key):
        target, source = jax.random.split(key)
        x = problem.sample_target(target, ROWS)
        moment = fsd.SecondMoment.from_samples(
            x, rank=d, mask=jnp.arange(ROWS) < n, throw=False, route="svd"
        )
        energy = jnp.sum(problem.sample_source(source, ROWS) ** 2, axis=1)
        drawn = jnp.sum(jnp.where(jnp.arange(ROWS) < n_s, energy, 0)) / (d * jnp.maximum(n_s, 1))
        lam2 = jnp.where(n_s == 0, VARIANCE, drawn)
        fit = partial(fsd.rank_minimizer, moment, latent_variance=lam2, latent_dim=d, throw=False)

        def measure(found, t):
            score = fsd.LinearScore.from_minimizer(found, latent_variance=lam2)
            return jnp.stack(
                [
                    fsd.subspace_error(found.decoder, problem.A_ta),
                    fsd.score_error(score, problem, time=t),
                ]
            )

        integrated = fit(times=nodes, weights=quadrature)
        orthonormal = fsd.orthonormal_minimizer(moment, latent_dim=d, throw=False)
        return jnp.stack(
            [
                jnp.stack([measure(found, t) for t in TIMES], axis=-1)
                if found is not None
                else jnp.stack([measure(fit(time=t), t) for t in TIMES], axis=-1)
                for found in (None, integrated, orthonormal)
            ]
        )

    return jax.lax.map(one, jax.random.split(key, draws))


@pytest.mark.result("R3")
@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("d", [4])
def test_means_agree_with_the_data_route_over_a_grid(d):
    # 3 x 2 settings, each with 3 methods, 2 metrics and 3 times: 108 means.
    deviations = []
    for n in (1, 4, 30):
        for n_s in (0, 6):
            key = jax.random.key(1000 * n + n_s)
            data = np.asarray(_on_data(key, n, n_s, d=d, draws=250))
            for i, method in enumerate(METHODS):
                for j, metric in enumerate(METRICS[:2]):
                    ours = np.asarray(
                        simulate.errors(
                            key,
                            latent_dim=d,
                            n_ta=n,
                            n_s=n_s or None,
                            latent_variance=VARIANCE,
                            times=TIMES,
                            replicates=8192,
                            method=method,
                            metric=metric,
                        )
                    )
                    theirs = data[:, i, j]
                    error = np.sqrt(ours.var(0) / len(ours) + theirs.var(0) / len(theirs))
                    # Rounding alone separates the routes where the error is exactly zero.
                    error += 1e-12 + 1e-9 * np.abs(theirs.mean(0))
                    deviations.append((ours.mean(0) - theirs.mean(0)) / error)
    # Heavy tails (few samples, small t) make the normal band optimistic for a few of the means.
    assert np.mean(np.abs(deviations) < 4) > 0.995
    assert np.max(np.abs(deviations)) < 7


@pytest.mark.result("R19")
@pytest.mark.parametrize("n_ta", [2, 4, 50])
def test_means_equal_the_exact_curve(n_ta):
    errors = simulate.subspace_errors(
        jax.random.key(0),
        latent_dim=4,
        n_ta=n_ta,
        n_s=30,
        latent_variance=0.8,
        times=[0.1, 1.0],
        replicates=100_000,
    )
    for column, t in zip(np.asarray(errors, float).T, (0.1, 1.0), strict=True):
        exact = theory.expected_subspace_error(
            latent_dim=4, n_ta=n_ta, n_s=30, latent_variance=0.8, time=t
        )
        assert abs(column.mean() - exact) < 4 * column.std() / len(column) ** 0.5


def test_score_errors_equal_the_exact_curves():
    size = {"latent_dim": 4, "n_ta": 3, "latent_variance": 1.0}
    for method, estimator in (("rank", "scratch"), ("orthonormal", "orthonormal")):
        values = np.asarray(
            simulate.errors(
                jax.random.key(0), **size, n_s=50, times=[0.5], replicates=60_000, method=method
            ),
            float,
        )[:, 0]
        exact = theory.expected_score_error(**size, n_s=50, time=0.5, estimator=estimator)
        assert abs(values.mean() - exact) < 4 * values.std() / len(values) ** 0.5


@pytest.mark.oldest
def test_limits_in_time_and_growth_with_it():
    # R3: the error is max(d - n_ta, 0) as t -> 0, and grows with t in every replicate.
    draw = partial(
        simulate.subspace_errors,
        jax.random.key(0),
        latent_dim=4,
        n_s=None,
        latent_variance=2.0,
        times=[1e-7, 1e-2, 0.3, 2.0, 30.0],
        replicates=500,
    )
    for n_ta, floor in ((2, 2.0), (12, 0.0)):
        values = np.asarray(draw(n_ta=n_ta))
        np.testing.assert_allclose(values[:, 0], floor, atol=2e-3)
        assert np.all(np.diff(values, axis=1) > -1e-5 * values[:, 1:])
    # ... and tends to |S - I|^2, with mean d(d+1)/n.
    assert abs(values[:, -1].mean() - 20 / 12) < 5 * values[:, -1].std() / 500**0.5


@pytest.mark.usefixtures("x64")
def test_divergence_equals_that_of_the_models_gaussian():
    # d samples or more and a poor source: both metrics depend on the source's variance alone.
    t, variance = 0.4, 1.3
    draw = partial(
        simulate.errors,
        jax.random.key(4),
        latent_dim=1,
        n_ta=2,
        n_s=3,
        times=[t],
        latent_variance=variance,
        replicates=2000,
        method="orthonormal",
    )
    kl, error = (np.asarray(draw(metric=metric))[:, 0] for metric in ("kl", "score_error"))
    signal, noise = fsd.VP().host_variances(t)
    level = signal * variance + noise
    # |1/level - 1/model|, so the model's variance at t is one of two; its divergence follows.
    size = np.sqrt(error / level)
    models = 1 / np.stack([1 / level - size, 1 / level + size])
    models = np.where(models > 0, models, np.nan)
    ratio = level / models
    divergences = (ratio - 1 - np.log(ratio)) / 2
    assert np.all(np.nanmin(np.abs(divergences - kl), axis=0) < 1e-10)


def test_draws_do_not_depend_on_how_many_are_asked_for():
    draw = partial(
        simulate.subspace_errors,
        jax.random.key(3),
        latent_dim=2,
        n_ta=5,
        n_s=9,
        latent_variance=1.0,
        times=[1.0],
    )
    few, many = draw(replicates=10), draw(replicates=2500)
    assert few.shape == (10, 1)
    np.testing.assert_array_equal(few, many[:10])


def test_any_sample_size_shares_one_compilation():
    from fsd_jax.simulate import _replicate

    _replicate._map_blocks.clear_cache()
    for n_ta, n_s in ((1, None), (4, 7), (1000, None), (10**12, 10**9)):
        values = simulate.subspace_errors(
            jax.random.key(3),
            latent_dim=3,
            n_ta=n_ta,
            n_s=n_s,
            latent_variance=1.0,
            times=[1.0],
            replicates=5,
        )
        assert np.all(np.isfinite(values))
    assert _replicate._map_blocks._cache_size() == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_ta": 0}, "n_ta"),
        ({"n_s": 0}, "n_s"),
        ({"latent_dim": 2.5}, "latent_dim"),
        ({"times": [0.0]}, "times"),
        ({"latent_variance": -1.0}, "latent_variance"),
        ({"replicates": 0}, "replicates"),
        ({"method": "pca"}, "method"),
        ({"metric": "fid"}, "metric"),
    ],
)
def test_bad_settings_are_named(change, message):
    good = {
        "latent_dim": 2,
        "n_ta": 3,
        "n_s": None,
        "latent_variance": 1.0,
        "times": [1.0],
        "replicates": 2,
    }
    with pytest.raises(ValueError, match=message):
        simulate.errors(jax.random.key(0), **(good | change))
