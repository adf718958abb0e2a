"""A head solved for on a few images: the same loss by another route, and nothing else moved."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsd_jax.image import _network, readout, unet
from fsd_jax.image.finetune import DELTA, T

SIZE = unet.UNetSize(channels=4, groups=2, multipliers=(1, 2), attention=(False, False))
DRAWS = 16


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return rng.random((4, 8, 8, 3), dtype=np.float32) * rng.random((1, 8, 8, 3), dtype=np.float32)


@pytest.fixture(scope="module")
def score(images):
    """With a head that says something, as a pre-trained one does."""
    new = unet.new_unet_score(jax.random.key(0), images, size=SIZE)
    head = new.net.head
    weight = 0.1 * jax.random.normal(jax.random.key(5), head.weight.shape)
    return eqx.tree_at(lambda s: s.net.head.weight, new, weight)


@pytest.fixture(scope="module")
def found(score, images):
    return readout.finetune(
        jax.random.key(1), score, images, draws=DRAWS, knots=(1, 3), strengths=(1e-4, 1e-2, 1.0)
    )


def _loss(score, images, key):
    """The same draws through the whole network, by its own score."""
    first, second = jax.random.split(key)
    n = len(images)
    share = (jnp.arange(DRAWS) + jax.random.uniform(first, (n, DRAWS))) / DRAWS
    times = DELTA * (T / DELTA) ** share
    eps = jax.random.normal(second, (n, DRAWS, *images.shape[1:]))

    def one(x, eps, t):
        sigma = jnp.sqrt(score.process.noise_variance(t))
        value, b = score.one(score.process.signal(t) * x + sigma * eps, t)
        return jnp.mean((value + eps / sigma) ** 2) / b**2

    losses = jax.vmap(jax.vmap(one, (None, 0, 0)))(jnp.asarray(images), eps, times)
    return float(jnp.mean(losses))


@pytest.mark.result("The last layer of a network")
def test_the_sums_say_what_the_network_says(score, images, found):
    assert found.source_loss == pytest.approx(_loss(score, images, jax.random.key(1)), rel=1e-4)


def test_the_solved_head_is_used_as_it_was_solved(images, found):
    tuned = _loss(found.score, images, jax.random.key(1))
    best = found.leave_one_out[int(found.choices["knots"])].mean(axis=1).min()
    # Fitted to all images it does better on them than on those it was not fitted to.
    assert tuned < best < found.source_loss
    assert found.loss < found.source_loss
    for count, each in found.leave_one_out.items():
        assert each.shape == (4, 4)
        np.testing.assert_allclose(each[-1].mean(), found.source_loss, rtol=1e-9, err_msg=count)


@pytest.mark.parametrize("knots", [1, 3])
def test_no_small_step_of_the_head_lowers_the_objective(score, images, knots):
    """At a strength of zero the solve is the minimum of the network's own loss."""
    key = jax.random.key(1)
    solved = readout.finetune(
        key, score, images, draws=DRAWS, knots=(knots,), strengths=(1e-9,)
    ).score
    least = _loss(solved, images, key)
    for seed in range(4):
        noise = jax.random.normal(jax.random.key(seed), solved.net.head.weight.shape)
        for size in (1e-3, -1e-3):
            moved = eqx.tree_at(
                lambda s: s.net.head.weight, solved, solved.net.head.weight + size * noise
            )
            assert _loss(moved, images, key) > least


def test_all_other_weights_keep_their_bits(score, found):
    without = lambda s: jax.tree.leaves(eqx.tree_at(lambda s: s.net.head, s, None))
    for a, b in zip(without(score), without(found.score), strict=True):
        np.testing.assert_array_equal(a, b)


def test_hats_are_shares():
    knots = (-2.0, 0.0, 1.0)
    shares = np.array([_network.hats(jnp.float32(x), knots) for x in (-9, -2, -1, 0, 0.25, 1, 5)])
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    np.testing.assert_allclose(shares[2], [0.5, 0.5, 0])
    np.testing.assert_allclose(shares[4], [0, 0.75, 0.25])
    np.testing.assert_array_equal(shares[[0, -1]], [[1, 0, 0], [0, 0, 1]])


def test_bad_input_is_named(score, images, found):
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="score must be"):
        readout.finetune(key, "net", images)
    with pytest.raises(ValueError, match="images"):
        readout.finetune(key, score, images[:1])
    with pytest.raises(ValueError, match="images must have shape"):
        readout.finetune(key, score, images[:, :4])
    with pytest.raises(ValueError, match="NaN or infinite"):
        readout.finetune(key, score, images * np.nan)
    if found.choices["knots"] > 1:
        with pytest.raises(ValueError, match="knows the time already"):
            readout.finetune(key, found.score, images)
