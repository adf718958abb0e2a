"""Grids that are too coarse, results that are not finite, generators, and wrong kinds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fsd_jax as fsd
from fsd_jax import _checks, sampler
from fsd_jax.sampler._grid import METHODS, check_stable
from fsd_jax.sampler._reverse import threefry

TIMES = np.geomspace(0.05, 4.0, 13)
D = 3


@pytest.fixture(scope="module")
def score():
    return fsd.LinearScore.from_decoder(
        jnp.eye(D, 1), latent_variance=1.0, residual_variance=0.5, mean=np.ones(D, np.float32)
    )


def _draw(score, times, **kwargs):
    return sampler.sample(jax.random.key(0), score, times=times, n=4, **kwargs)


def test_a_grid_to_200_says_so(score):
    """Reports A.14: 49 geometric steps returned NaN without a word."""
    for method in ("ei_sde", "ei_ode", "em_sde"):
        times = fsd.geometric_grid(1e-3, 200.0, 49)
        if method == "ei_ode":
            # The law is fine in exact arithmetic: no digit of float32 survives the long steps only.
            times = fsd.geometric_grid(1e-3, 200.0, 24)
        with pytest.raises(ValueError, match=f"times are too coarse for {method}"):
            _draw(score, times, method=method)


def test_eight_steps_say_so(score):
    """Reports A.14: eight steps to T = 10; the words have the standard deviation."""
    with pytest.warns(_checks.DataWarning, match="data of standard deviation 1 come out with"):
        _draw(score, fsd.geometric_grid(1e-3, 10.0, 8))


@pytest.mark.parametrize("method", METHODS)
def test_fine_grids_are_quiet(score, method):
    _draw(score, fsd.geometric_grid(1e-3, 10.0, 32), method=method)


@pytest.mark.parametrize("method", METHODS)
def test_the_rule_is_the_exact_law_of_two_scores(method):
    """What the words say is what `generated_law` says, along a direction and off it."""
    times = np.geomspace(1e-2, 10.0, 9)
    score = fsd.LinearScore.from_decoder(jnp.eye(2, 1), latent_variance=1.0)
    law = sampler.generated_law(score, times=times, method=method)
    spread = np.sqrt(np.asarray(law.basis) ** 2 @ np.asarray(law.variance))
    with pytest.warns(_checks.DataWarning) if max(spread) > 1.6 else _nothing() as told:
        check_stable(times, method, np.float32, fsd.VP())
    if told:
        words = str(told[0].message)
        assert f"come out with {spread[0]:.2g}," in words
        assert f"a cloud of {spread[1]:.2g};" in words


class _nothing:
    def __enter__(self):
        return None

    def __exit__(self, *_):
        return None


def test_a_score_that_breaks_is_told(score):
    with pytest.raises(ValueError, match="samples are not finite"):
        _draw(lambda x, t: jnp.where(t < 0.1, jnp.nan, -x), TIMES, shape=D)
    steep = lambda x, t: -1e20 * x
    with pytest.raises(ValueError, match="samples are not finite"):
        _draw(steep, TIMES, shape=D)
    with pytest.raises(ValueError, match="initial has NaN"):
        sampler.sample(
            jax.random.key(0), score, times=TIMES, initial=np.full((2, D), np.nan, np.float32)
        )


def test_a_law_that_overflows_is_told(score):
    with pytest.raises(ValueError, match="law of the samples is not finite"):
        sampler.generated_law(score, times=fsd.geometric_grid(1e-3, 200.0, 12))


def test_under_a_trace_nothing_is_told_and_nothing_is_hidden(score):
    draw = jax.jit(lambda times: _draw(score, times))
    assert np.all(np.isfinite(draw(jnp.asarray(TIMES, jnp.float32))))
    back = jnp.asarray(TIMES[::-1], jnp.float32)
    assert np.all(np.isnan(draw(back)))


@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg", "threefry2x32"])
def test_samples_of_any_generator_do_not_depend_on_chunks(score, impl):
    """Reports A.12: with an rbg key they did."""
    key = jax.random.key(7, impl=impl)
    draw = lambda **kwargs: sampler.sample(key, score, times=TIMES, n=5, **kwargs)
    # Products of another height round differently, and a step enlarges that a little.
    np.testing.assert_allclose(draw(chunk=2), draw(), atol=1e-4)
    parts = dict(basis=score.basis, residual_variance=0.5, times=TIMES, n=5)
    ours = sampler.sample_latent(key, score.latent, **parts)
    np.testing.assert_allclose(
        sampler.sample_latent(key, score.latent, chunk=2, **parts), ours, atol=1e-4
    )


def test_a_key_of_another_generator_counts_with_all_its_words():
    words = jnp.array([1, 2, 3, 4], jnp.uint32)
    found = [
        tuple(np.asarray(jax.random.key_data(threefry(jax.random.wrap_key_data(w, impl="rbg")))))
        for w in (words, words.at[3].set(5), words.at[0].set(0))
    ]
    assert len(set(found)) == 3
    own = jax.random.key(3)
    assert threefry(own) is own


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": 0}, "key must be a JAX random key"),
        ({"key": None}, "key must be a JAX random key"),
        ({"denoise": "no"}, "denoise must be True or False"),
        ({"progress": 3}, "progress must be a function"),
        ({"process": "vp"}, "process must be a VP"),
        ({"times": np.geomspace(1e-42, 1.0, 9)}, "times must be positive and finite in float32"),
        ({"times": ["a", "b"]}, "times must be real numbers"),
        ({"times": jnp.asarray(TIMES[::-1].copy())}, "must increase"),
    ],
)
def test_wrong_kinds_are_refused(score, change, message):
    given = {"key": jax.random.key(0), "times": TIMES, "n": 2} | change
    with pytest.raises(ValueError, match=message):
        sampler.sample(given.pop("key"), score, **given)
    given = {"key": jax.random.key(0), "times": TIMES, "n": 2, "basis": score.basis} | change
    with pytest.raises(ValueError, match=message):
        sampler.sample_latent(given.pop("key"), score.latent, **given)


def test_a_basis_that_is_not_orthonormal_is_refused(score):
    with pytest.raises(ValueError, match="basis must have orthonormal columns"):
        sampler.sample_latent(
            jax.random.key(0), score.latent, basis=2 * score.basis, times=TIMES, n=2
        )


def test_more_samples_than_can_be_counted_are_refused_at_once(score):
    with pytest.raises(ValueError, match="n must be at most"):
        sampler.sample(jax.random.key(0), score, times=TIMES, n=10**40, chunk=2)


def test_a_start_of_another_size_is_refused_by_its_name(score):
    with pytest.raises(ValueError, match="initial must have shape"):
        sampler.sample(jax.random.key(0), score, times=TIMES, initial=np.ones((4, 5), np.float32))


def test_latent_samplers_name_their_own_arguments():
    options = {"times": TIMES, "n": 2, "basis": np.eye(D, 1, dtype=np.float32)}
    with pytest.raises(ValueError, match="latent_score must be a function"):
        sampler.sample_latent(jax.random.key(0), None, **options)
    options["basis"] = np.zeros((0, D), np.float32)
    with pytest.raises(ValueError, match="basis must have entries"):
        sampler.sample_latent(jax.random.key(0), lambda z, t: -z, **options)
