"""The U-Net: its blocks, what its outputs mean, and training that is partial and resumes."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsd_jax.image import _network, closed_form
from fsd_jax.image.finetune import SETS, UNetRecipe, train_unet, tuned_leaves
from fsd_jax.image.unet import PAPER, PREDICTIONS, UNet, UNetSize, new_unet_score

TINY = UNetSize(channels=4, groups=2, multipliers=(1, 2), attention=(False, True), blocks=1)
EVALUATE = jax.jit(lambda score, x, t: score(x, t))
RECIPE = UNetRecipe(steps=4, batch_size=3, learning_rate=1e-2, ema=0.5)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((20, 4, 4, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def score(images):
    return new_unet_score(jax.random.key(0), images, size=TINY)


@pytest.fixture(scope="module")
def whole(score, images):
    """An uninterrupted run, and what its watcher saw."""
    seen = []
    found = train_unet(
        jax.random.key(1),
        score,
        images,
        recipe=RECIPE,
        which="encoder_decoder",
        every=1,
        watch=seen.append,
    )
    return found, seen


def _leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def test_blocks_are_numbered_as_in_the_paper():
    build = lambda key: UNet(key, colours=3, size=PAPER, dtype=np.dtype("float32"))
    net = jax.eval_shape(build, jax.random.key(0))
    assert (len(net.down), len(net.middle), len(net.up)) == (11, 2, 15)
    kinds = lambda blocks: [type(block).__name__ for block in blocks]
    assert kinds(net.down[:4]) == ["_Block", "_Block", "_Downsample", "_Block"]
    assert kinds(net.up[-4:]) == ["_Upsample", "_Block", "_Block", "_Block"]
    sides = jax.ShapeDtypeStruct((3, 64, 64), np.float32)
    out = jax.eval_shape(lambda net, x, t: net(x, t), net, sides, jnp.zeros((), np.float32))
    assert out.shape == (3, 64, 64)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_what_a_network_that_says_nothing_means(prediction, images):
    """No noise; the mean image; an isotropic Gaussian about it: three scores known by hand."""
    score = new_unet_score(jax.random.key(0), images, size=TINY, prediction=prediction)
    t, x = 0.7, images[:3].reshape(3, -1).astype(np.float64)
    m, noise = np.exp(-t / 2), 1 - np.exp(-t)
    flat = images.reshape(len(images), -1).astype(np.float64)
    centred, v = x - m * flat.mean(axis=0), flat.var(axis=0).mean()
    expected = {
        "epsilon": 0 * x,
        "x0": -centred / noise,
        "preconditioned": -centred / (m**2 * v + noise),
    }[prediction]
    found = EVALUATE(score, jnp.asarray(x, jnp.float32), t)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_weight_makes_the_networks_own_target_count_once(prediction, images):
    """``(s - b F)`` is known without F, so ``-eps/sigma`` minus it, over b, is F's target."""
    score = new_unet_score(jax.random.key(0), images, size=TINY, prediction=prediction)
    t, x0 = jnp.float32(0.7), jnp.asarray(images[0])
    eps = jax.random.normal(jax.random.key(3), x0.shape)
    m, sigma = score.process.signal(t), jnp.sqrt(score.process.noise_variance(t))
    offset, b = jax.jit(lambda score, x, t: score.one(x, t))(score, m * x0 + sigma * eps, t)
    target = (-eps / sigma - offset) / b
    mean = score.mean.reshape(score.shape)
    expected = {
        "epsilon": eps,
        "x0": x0 - mean,
        "preconditioned": (
            sigma * (x0 - mean) / jnp.sqrt(score.variance) - m * jnp.sqrt(score.variance) * eps
        )
        / jnp.sqrt(m**2 * score.variance + sigma**2),
    }[prediction]
    np.testing.assert_allclose(target, expected, rtol=1e-4, atol=1e-5)


def test_times_are_those_of_the_ddpm_schedule():
    share = jnp.linspace(0, 1, 50)
    steps = 100_000
    rates = np.linspace(0.1, 20, steps)
    summed = np.concatenate([[0], np.cumsum(rates) / steps])
    close = np.interp(share, np.linspace(0, 1, steps + 1), summed)
    np.testing.assert_allclose(_network.time_of_share(share), close, rtol=1e-4, atol=1e-5)
    again = _network.share_of_time(_network.time_of_share(share))
    np.testing.assert_allclose(again, share, rtol=1e-5, atol=1e-7)


def test_flat_or_as_images_at_one_time_or_many(whole, images):
    score = whole[0].score
    many = partial(EVALUATE, score, images[:3])
    one = many(0.5)
    flat = EVALUATE(score, images[:3].reshape(3, -1), 0.5)
    np.testing.assert_allclose(flat.reshape(one.shape), one, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(many(jnp.full(3, 0.5)), one, rtol=1e-5, atol=1e-5)
    assert np.any(many(jnp.array([0.5, 1.0, 2.0])) != one)


@pytest.mark.parametrize("which", SETS)
def test_which_arrays_are_tuned(which, score):
    marks = tuned_leaves(score, which)
    on = {
        "everything": (True, True, True, True),
        "encoder_decoder": (False, False, True, True),
        "outermost": (False, False, False, True),
    }[which]
    parts = (marks.net.time, marks.net.middle, marks.net.down[1], marks.net.down[0])
    assert tuple(all(jax.tree.leaves(part)) for part in parts) == on
    assert tuple(any(jax.tree.leaves(part)) for part in parts) == on
    assert all(jax.tree.leaves((marks.net.stem, marks.net.norm, marks.net.head, marks.net.up[-1])))
    assert not any(jax.tree.leaves((marks.mean, marks.variance, marks.process)))


def test_frozen_arrays_keep_every_bit_and_tuned_ones_move(whole, score):
    marks = jax.tree.leaves(tuned_leaves(score, "encoder_decoder"))
    before, after = _leaves(score), _leaves(whole[0].score)
    same = [np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
    assert same == [not mark for mark in marks]
    assert sum(same) > 10


def test_running_mean_of_the_weights(whole, score, images):
    """Against weights of the same run without it."""
    plain = []
    recipe = UNetRecipe(steps=4, batch_size=3, learning_rate=1e-2)
    train_unet(
        jax.random.key(1),
        score,
        images,
        recipe=recipe,
        which="encoder_decoder",
        every=1,
        watch=plain.append,
    )
    mean = _leaves(score)
    for at, seen in zip(plain, whole[1], strict=True):
        assert at.loss == seen.loss
        mean = [(a + b) / 2 for a, b in zip(mean, _leaves(at.score), strict=True)]
        for a, b in zip(mean, _leaves(seen.score), strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-6, atol=1e-7)


def test_a_killed_run_goes_on_with_the_same_next_batch(whole, score, images, tmp_path):
    class Killed(Exception):
        pass

    def kill(progress):
        if progress.step == 2:
            raise Killed

    run = lambda **more: train_unet(
        jax.random.key(1),
        score,
        images,
        recipe=RECIPE,
        which="encoder_decoder",
        every=1,
        checkpoint=tmp_path / "unet",
        **more,
    )
    with pytest.raises(Killed):
        run(watch=kill)
    seen = []
    found = run(watch=seen.append)
    assert [progress.step for progress in seen] == [3, 4]
    np.testing.assert_array_equal(found.losses, whole[0].losses)
    for a, b in zip(_leaves(found.score), _leaves(whole[0].score), strict=True):
        np.testing.assert_array_equal(a, b)
    seen.clear()
    run(watch=seen.append)
    assert not seen
    with pytest.raises(ValueError, match="of a run with another key; move it"):
        train_unet(
            jax.random.key(2),
            score,
            images,
            recipe=RECIPE,
            which="encoder_decoder",
            checkpoint=tmp_path / "unet",
        )
    (tmp_path / "unet").write_bytes(b"half\x93")
    with pytest.raises(ValueError, match="is not a checkpoint"):
        run()


def test_divergence_keeps_the_last_good_weights_and_names_the_step(score, images):
    found = train_unet(
        jax.random.key(1), score, 1e20 * images, recipe=RECIPE, which="encoder_decoder", every=2
    )
    assert found.diverged_at == 0
    assert np.isnan(found.losses).all()
    for a, b in zip(_leaves(found.score), _leaves(score), strict=True):
        np.testing.assert_array_equal(a, b)
    assert "diverged_at=0" in repr(found)


def test_loss_falls_and_samples_come_out(score, images):
    two = np.tile(images[:2], (len(images) // 2, 1, 1, 1))  # The shape that is compiled already.
    recipe = replace(RECIPE, steps=200)
    found = train_unet(jax.random.key(1), score, two, recipe=recipe, which="encoder_decoder")
    # A network that says nothing has a loss near one by the choice of the weight.
    first, last = found.losses[:20], found.losses[-50:]
    assert 0.8 < first.mean() < 1.1
    error = (first.var() / len(first) + last.var() / len(last)) ** 0.5
    assert first.mean() - last.mean() > 4 * error
    drawn = closed_form.generate(
        jax.random.key(2), found.score, 3, shape=(4, 4, 2), steps=60, loop="host"
    )
    assert drawn.shape == (3, 4, 4, 2)
    assert np.isfinite(drawn).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: UNetSize(channels=4, groups=3), "groups must divide channels = 4, got 3"),
        (lambda x: UNetSize(multipliers=(1,)), "multipliers and attention must be of one length"),
        (lambda x: new_unet_score(jax.random.key(0), x[:, :3]), "multiples of 4"),
        (lambda x: new_unet_score(jax.random.key(0), x, prediction="v"), "prediction must be"),
        (lambda x: UNetRecipe(steps=0), "steps must be"),
        (lambda x: UNetRecipe(steps=1, ema=1.0), r"ema must be in \(0, 1\) or None, got 1.0"),
        (lambda x: UNetRecipe(steps=1, learning_rate=2.0), "learning_rate must be in"),
        (lambda x: tuned_leaves(None, "all"), "which must be"),
    ],
)
def test_bad_input(call, message, images):
    with pytest.raises(ValueError, match=message):
        call(images)


def test_images_of_another_shape(score, images):
    with pytest.raises(ValueError, match=r"x must have shape \(n, \*\(4, 4, 2\)\)"):
        train_unet(jax.random.key(0), score, images[:, :2], recipe=RECIPE)


@pytest.mark.usefixtures("x64")
def test_float64_stays_float64(images):
    x = images.astype(np.float64)
    score = jax.eval_shape(lambda key: new_unet_score(key, x, size=TINY), jax.random.key(0))
    kinds = {leaf.dtype for leaf in jax.tree.leaves((score.net, score.mean, score.variance))}
    assert kinds == {np.dtype("float64")}
    assert jax.eval_shape(EVALUATE, score, x, 0.5).dtype == np.float64
