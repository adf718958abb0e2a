"""Section 6 in closed form: memorising when everything is tuned, novelty when little is."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fsd_jax as fsd
from fsd_jax.image import closed_form, metrics

AMBIENT, DIM, SHAPE = 24, 4, (4, 6)


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(0)

    def draw(n):
        basis = np.linalg.qr(rng.normal(size=(AMBIENT, DIM)))[0]
        noise = 0.15 * rng.normal(size=(n, AMBIENT))
        x = 0.3 * rng.normal(size=AMBIENT) + rng.normal(size=(n, DIM)) @ basis.T + noise
        return x.astype(np.float32).reshape(n, *SHAPE)

    source, target = draw(400), draw(6)
    return source, target, fsd.pretrain(source, latent_dim=DIM)


def _generate(score, n=200, steps=60, **kwargs):
    return closed_form.generate(jax.random.key(5), score, n, shape=SHAPE, steps=steps, **kwargs)


def test_everything_tuned_copies_and_encoder_and_decoder_do_not(world):
    source, target, pretrained = world
    everything = _generate(fsd.EmpiricalScore.from_samples(target))
    assert metrics.memorised_fraction(everything, target).value == 1
    # Each of the six is met about equally often: chi-square with 5 degrees, .999 quantile.
    nearest = np.sum((everything[:, None] - target) ** 2, axis=(2, 3)).argmin(axis=1)
    counts = np.bincount(nearest, minlength=6)
    assert np.sum((counts - 200 / 6) ** 2) / (200 / 6) < 20.5
    tuned = fsd.finetune(pretrained, target)
    for score in (tuned, closed_form.with_source_latents(tuned.linear, pretrained, source)):
        new = _generate(score)
        assert metrics.memorised_fraction(new, target).value < 0.2
        # The new samples vary as the latents of the source do: mean square, in standard errors.
        z = (new.reshape(200, -1) - np.asarray(tuned.linear.mean)) @ np.asarray(tuned.decoder)
        energy = np.sum(z**2, axis=1)
        want = float(jnp.sum(pretrained.latent_variance))
        assert abs(energy.mean() - want) < 4 * energy.std() / 200**0.5 + 0.05 * want


def test_samples_follow_the_exact_law_of_a_linear_score(world):
    _, target, pretrained = world
    model = fsd.finetune(pretrained, target)
    drawn = _generate(model, n=3000, steps=120).reshape(3000, -1)
    along = np.asarray(model.linear.basis)
    variance = np.var((drawn - np.asarray(model.linear.mean)) @ along, axis=0)
    want = np.asarray(model.linear.latent_variance)
    # Four standard errors of a variance, and the bias of 120 steps.
    assert np.all(np.abs(variance / want - 1) < 4 * (2 / 3000) ** 0.5 + 0.05)


def test_signs_of_the_latents_are_those_of_the_source(world):
    source, target, pretrained = world
    score = fsd.source_as_is(pretrained, target).linear
    turned = replace(score, basis=score.basis * jnp.array([1, -1, -1, 1]))
    decoded = closed_form.with_source_latents(turned, pretrained, source)
    np.testing.assert_allclose(decoded.decoder, pretrained.basis, atol=1e-6)


def test_bad_input(world):
    _, target, _ = world
    with pytest.raises(ValueError, match="shape"):
        closed_form.generate(
            jax.random.key(0), fsd.EmpiricalScore.from_samples(target), 3, shape=(5, 5)
        )


def test_latents_need_a_linear_score(world):
    source, _, pretrained = world
    with pytest.raises(ValueError, match="score must be a LinearScore"):
        closed_form.with_source_latents(None, pretrained, source)


@pytest.mark.filterwarnings("ignore:times are coarse:fsd_jax.DataWarning")
def test_losses_and_samples_check_their_arguments(world):
    _, target, pretrained = world
    key, score = jax.random.key(0), fsd.source_as_is(pretrained, target).linear
    losses = lambda **given: closed_form.heldout_losses(
        **({"key": key, "score": score, "x": target, "times": [1.0]} | given)
    )
    generate = lambda **given: closed_form.generate(
        **({"key": key, "score": score, "n": 2, "shape": SHAPE, "steps": 3} | given)
    )
    other = fsd.VP.constant(2.0)
    for word, call in {
        "key": lambda: losses(key=0),
        "x has 12 entries": lambda: losses(x=target[:, :2]),
        "x has NaN": lambda: losses(x=np.full_like(target, np.nan)),
        "times": lambda: losses(times=[-1.0]),
        "process must be the score's own": lambda: losses(process=other),
        "process must be a VP": lambda: losses(process="vp"),
        "key ": lambda: generate(key=3),
        "n must be": lambda: generate(n=2.0),
        "shape must be": lambda: generate(shape=(4.0, 6)),
        "score must be an adapted model": lambda: generate(score=lambda x, t: x),
    }.items():
        with pytest.raises(ValueError, match=word):
            call()
    assert generate(shape=np.int64(24), n=np.int64(2)).shape == (2, 24)
    own = replace(score, process=other)
    slow = np.asarray(own.losses(target.reshape(len(target), -1), np.float32([1]), np.float32([1])))
    np.testing.assert_allclose(losses(score=own)[:, 0], slow, rtol=1e-6)
