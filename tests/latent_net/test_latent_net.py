"""Networks, their training and their errors, against exact scores and exact Gaussian models."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fsd_jax as fsd
from fsd_jax import latent_net
from fsd_jax.latent_net._descent import denoising_losses

RECIPE = latent_net.Recipe(steps=1500, checks=6, delta=0.01, T=5.0)
WIDTHS = (32, 32)
D, N_S, N_TA = 12, 2000, 16


def _latent():
    return fsd.GaussianMixture.create(
        [0.3, 0.5, 0.2], [[-1.5, 0.3], [1.0, 0.6], [0.5, -1.2]], [0.05, 0.1, 0.05]
    )


@pytest.fixture(scope="module")
def world():
    problem = fsd.LinearProblem.with_latent(jax.random.key(0), _latent(), ambient_dim=D)
    source = problem.sample_source(jax.random.key(1), N_S)
    model = latent_net.pretrain(
        jax.random.key(2), source, latent_dim=2, widths=WIDTHS, recipe=RECIPE
    )
    return problem, source, model, problem.sample_target(jax.random.key(3), N_TA)


@pytest.fixture(scope="module")
def times():
    return dict(zip(("times", "weights"), fsd.VP().quadrature(0.01, 5, 8), strict=True))


def _error(score, problem, times):
    return latent_net.net_score_error(jax.random.key(9), score, problem, n=500, **times)


def test_training_beats_the_gaussian_it_starts_from(world, times):
    problem, _, model, _ = world
    source = replace(problem, A_ta=problem.A_s)
    fresh = latent_net.ReLUNet.create(
        jax.random.key(5), latent_dim=2, widths=WIDTHS, variance=model.score.net.variance
    )
    gaussian = latent_net.NetScore(decoder=model.score.decoder, net=fresh)
    trained, start = _error(model.score, source, times), _error(gaussian, source, times)
    assert trained.value + 5 * trained.stderr < 0.3 * start.value
    assert model.status == 0
    assert model.diverged_at == -1
    assert int(model.best_step) > 0
    assert float(model.validation[-1]) < float(model.validation[0])
    # The decoder stays within the samples' span, which is the subspace.
    assert fsd.subspace_error(model.score.decoder, problem.A_s) < 1e-6


@pytest.mark.result("Networks (Section 4)")
def test_few_shot_takes_the_network_along(world, times):
    problem, _, model, target = world
    tune = partial(latent_net.finetune, jax.random.key(4), x_target=target, recipe=RECIPE)
    found = {mode: tune(model, mode=mode) for mode in ("rotation", "scratch", "decoder")}
    found["everything"] = tune(found["rotation"], mode="everything")
    errors = {mode: _error(f.score, problem, times) for mode, f in found.items()}
    few, scratch = errors["rotation"], errors["scratch"]
    assert few.value + 5 * few.stderr < scratch.value - 5 * scratch.stderr
    assert errors["everything"].value < scratch.value
    # Those that start in the closed form's subspace stay there.
    for mode in ("rotation", "scratch", "everything"):
        assert fsd.subspace_error(found[mode].score.decoder, problem.A_ta) < 1e-6
        assert errors[mode].off_support < 1e-6
    # Frozen means identical.
    for mode in ("rotation", "decoder"):
        before, after = (jax.tree.leaves(m.score.net) for m in (model, found[mode]))
        assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    gram = found["decoder"].score.decoder.T @ found["decoder"].score.decoder
    np.testing.assert_allclose(gram, np.eye(2), atol=1e-5)


def test_padding_changes_nothing(world):
    _, _, model, target = world
    padded = jnp.concatenate([target[:8], jnp.full((8, D), jnp.nan)])
    # Rows beyond the count may hold anything.
    kwargs = dict(mode="scratch", recipe=replace(RECIPE, steps=12))
    whole = latent_net.finetune(jax.random.key(6), model, target, count=8, **kwargs)
    again = latent_net.finetune(jax.random.key(6), model, padded, count=8, **kwargs)
    np.testing.assert_array_equal(whole.score.decoder, again.score.decoder)


@pytest.mark.slow
def test_members_of_an_ensemble_are_members_alone(world):
    _, source, _, _ = world
    keys = jax.random.split(jax.random.key(7), 2)
    short = replace(RECIPE, steps=12, checks=2)

    def train(key, count):
        return latent_net.pretrain(
            key, source, latent_dim=2, count=count, widths=WIDTHS, recipe=short
        )

    counts = jnp.array([100, N_S])
    both = jax.vmap(train)(keys, counts)
    alone = train(keys[0], counts[0])
    for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(both), strict=True):
        np.testing.assert_allclose(a, b[0], rtol=2e-3, atol=2e-4)
    assert both.status.shape == (2,)
    assert "2 of 2 ok" in repr(both)


@pytest.mark.usefixtures("x64")
def test_precision_follows_the_samples():
    def everything(key):
        law = latent_net.random_mixture(key, 2, dtype="float32")
        problem = fsd.LinearProblem.with_latent(key, law, ambient_dim=4)
        x = problem.sample_source(key, 20)
        model = latent_net.pretrain(key, x, latent_dim=2, widths=(3,), recipe=RECIPE)
        few = latent_net.finetune(key, model, x, recipe=RECIPE)
        error = latent_net.net_score_error(key, few.score, problem, times=[0.1], n=5)
        return few.score, few.training, error

    for leaf in jax.tree.leaves(jax.eval_shape(everything, jax.random.key(0))):
        assert leaf.dtype == np.float32


@pytest.mark.result("Networks (Section 4)")
@pytest.mark.usefixtures("x64")
def test_losses_integrate_out_what_is_outside_the_subspace():
    # Against Section 3.2's loss with all D noises, times s2, by its mean over many draws.
    problem = fsd.LinearProblem.with_latent(jax.random.key(0), _latent(), ambient_dim=5)
    net = latent_net.ReLUNet.create(jax.random.key(1), latent_dim=2, widths=(8,), form="paper")
    x = problem.sample_source(jax.random.key(2), 1)
    score = latent_net.NetScore(decoder=problem.A_ta, net=net)
    n, t = 40_000, jnp.array(0.4)
    eps = jax.random.normal(jax.random.key(3), (n, 5))
    m, s2 = fsd.VP().signal(t), fsd.VP().noise_variance(t)
    noised = m * x + jnp.sqrt(s2) * eps
    full = s2 * jnp.sum((score(noised, t) + eps / jnp.sqrt(s2)) ** 2, axis=1)
    reduced = denoising_losses(
        problem.A_ta, net, jnp.broadcast_to(x, (n, 5)), jnp.full(n, t), eps @ problem.A_ta
    )
    np.testing.assert_allclose(reduced, full, rtol=1e-10)


@pytest.mark.result("Networks (Section 4)")
@pytest.mark.usefixtures("x64")
def test_the_error_of_a_gaussian_model_is_the_exact_one():
    # An untrained preconditioned network is the linear score of an isotropic Gaussian.
    variance, times = 1.4, jnp.array([0.05, 0.5, 2.0])
    problem = fsd.LinearProblem.random(
        jax.random.key(0), ambient_dim=7, latent_dim=3, latent_variance=2.0
    )
    net = latent_net.ReLUNet.create(jax.random.key(1), latent_dim=3, variance=variance)
    free = problem.A_ta + 0.1 * jax.random.normal(jax.random.key(2), (7, 3))
    V = fsd._linalg.polar_factor(free)
    found = latent_net.net_score_error(
        jax.random.key(3), latent_net.NetScore(decoder=V, net=net), problem, times=times, n=20_000
    )
    linear = fsd.LinearScore.from_decoder(V, latent_variance=variance)
    exact = fsd.score_error(linear, problem, times=times)
    assert abs(found.value - exact) < 4 * found.stderr
    np.testing.assert_allclose(found.on_support + found.off_support, found.value, rtol=1e-12)
    x = problem.sample_target(jax.random.key(4), 5)
    model = latent_net.NetScore(decoder=V, net=net)
    np.testing.assert_allclose(model(x, 0.3), linear(x, 0.3), rtol=1e-9)
    each = jnp.array([0.1, 0.2, 0.3, 0.4, 0.5])
    rows = jnp.stack([model(x[i], each[i]) for i in range(5)])
    np.testing.assert_allclose(model(x, each), rows, rtol=1e-9)


def test_forms_and_bounds():
    key, z = jax.random.key(0), jax.random.normal(jax.random.key(1), (4, 2))
    plain = latent_net.ReLUNet.create(
        key, latent_dim=2, widths=(5, 6), form="paper", output_bound=0.1
    )
    assert plain.parameters == 4 * 5 + 6 * 6 + 7 * 2
    assert float(jnp.max(jnp.abs(plain(z, 0.3)))) <= 0.1001
    assert "widths=[5, 6, 2]" in repr(plain)
    recipe = latent_net.Recipe(
        steps=20, checks=2, weight_bound=0.01, average=0.5, weighting="paper", delta=0.1
    )
    x = jax.random.normal(key, (30, 3))
    bounded = latent_net.pretrain(key, x, latent_dim=2, widths=(4,), form="paper", recipe=recipe)
    if int(bounded.best_step):
        layers = jax.tree.leaves(bounded.score.net.layers)
        assert max(float(jnp.max(jnp.abs(w))) for w in layers) <= 0.0101


def test_divergence_is_a_status_with_its_step(world):
    _, source, _, _ = world
    wild = replace(RECIPE, steps=40, checks=2, learning_rate=1e12)
    model = latent_net.pretrain(
        jax.random.key(0), source, latent_dim=2, widths=(4,), form="paper", recipe=wild
    )
    assert int(model.diverged_at) >= 0
    assert "not_converged" in repr(model)
    assert f"diverged_at={int(model.diverged_at)}" in repr(model)
    # The last good parameters are kept.
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(model.score))


BAD = [
    (dict(x_source=np.ones((4, 3)) * np.nan), "x_source has NaN"),
    (dict(x_source=np.ones(3)), "x_source must have shape"),
    (dict(latent_dim=4), "latent_dim must be at most 3"),
    (dict(count=9), "count must be from 1 to the 8 rows"),
    (dict(form="plain"), "form must be one of"),
    (dict(widths=(0,)), "widths must be at least 1"),
    (dict(widths=(10**7, 10**7)), "GiB"),
    (dict(output_bound=-1.0), "output_bound must be positive"),
    (dict(recipe=latent_net.Recipe(steps=0)), "steps must be at least 1"),
    (dict(recipe=latent_net.Recipe(checks=5, steps=3)), "checks must be at most"),
    (dict(recipe=latent_net.Recipe(weighting="none")), "weighting must be one of"),
    (dict(recipe=latent_net.Recipe(delta=2.0, T=1.0)), "0 < delta < T"),
    (dict(recipe=latent_net.Recipe(learning_rate=0.0)), "learning_rate must be positive"),
    (dict(recipe=latent_net.Recipe(held_out=1.0)), "held_out must be in"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_bad_input_to_pretrain(change, message):
    given = dict(x_source=np.ones((8, 3), np.float32), latent_dim=2) | change
    with pytest.raises(ValueError, match=message):
        latent_net.pretrain(jax.random.key(0), given.pop("x_source"), **given)


def test_bad_input_to_finetune(world):
    problem, _, model, target = world
    with pytest.raises(ValueError, match="mode must be one of"):
        latent_net.finetune(jax.random.key(0), model, target, mode="lora")
    with pytest.raises(ValueError, match="x_target must have D = 12 columns"):
        latent_net.finetune(jax.random.key(0), model, target[:, :4])
    other = replace(model.score, decoder=jnp.ones((3, 2)))
    with pytest.raises(ValueError, match="same D, got 3 and 12"):
        latent_net.net_score_error(jax.random.key(0), other, problem, times=[1.0])
