"""What the simulators refuse, and what they do under other modes of JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsd_jax import simulate

GOOD = {
    "latent_dim": 2,
    "n_ta": 3,
    "n_s": None,
    "latent_variance": 1.0,
    "times": [1.0],
    "replicates": 2,
}
NAN = jnp.float32(np.nan)


def _sampled(variances=((4.0, 1.0),), **change):
    arguments = {
        "n_ta": jnp.float32(50),
        "n_s": jnp.float32(1),
        "times": jnp.array([0.4]),
        "latent_variance": jnp.array(variances),
        "residual_variance": jnp.float32(0),
        "rows": 10,
        "ambient_dim": 10,
        "perfect_source": True,
        "isotropic": False,
        "methods": ("orthonormal",),
        "metrics": ("score_error",),
    }
    return simulate.sampled_errors(jax.random.key(0), **(arguments | change))


def test_the_order_of_variances_is_no_matter():
    # 1.40 for 3.0e-6 before: the k-th variance met the k-th largest eigenvalue.
    falling, rising = (
        _sampled(variances)["orthonormal", "score_error"]
        for variances in (((4.0, 1.0),), ((1.0, 4.0),))
    )
    np.testing.assert_array_equal(falling, rising)
    assert np.mean(falling) < 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_ta": 10**39}, "n_ta must be at most"),
        ({"n_s": 10**39}, "n_s must be at most"),
        ({"n_ta": 70_000, "dtype": jnp.float16}, "dtype must be float32 or float64"),
        ({"dtype": jnp.bfloat16}, "dtype"),
        ({"dtype": int}, "dtype"),
        ({"dtype": "no such"}, "dtype"),
        ({"times": [1e-40]}, "times"),
        ({"latent_variance": 1e-40}, "latent_variance"),
        ({"latent_variance": [1.0, 2.0, 3.0]}, "latent_variance"),
        ({"times": "soon"}, "times"),
        ({"n_ta": 3.0}, "n_ta"),
        ({"n_s": True}, "n_s"),
        ({"process": None}, "process"),
        ({"method": np.array(["rank"])}, "method"),
        ({"replicates": 2.0}, "replicates"),
    ],
)
def test_settings_are_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        simulate.errors(jax.random.key(0), **(GOOD | change))


@pytest.mark.parametrize("key", [0, None, np.uint32(3), jnp.arange(3.0)])
def test_keys_are_refused_by_name(key):
    calls = [
        lambda: simulate.errors(key, **GOOD),
        lambda: simulate.centred_chi_square(key, jnp.ones(1), 3),
        lambda: simulate.bartlett_factor(key, 3, 2),
        lambda: simulate.reduced_samples(
            key, 3, rows=4, ambient_dim=8, latent_variance=jnp.ones(2), residual_variance=0.1
        ),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="key"):
            call()


@pytest.mark.parametrize("freedom", [np.nan, np.inf, 1.5])
def test_the_loop_ends_on_what_is_no_degree_of_freedom(freedom):
    with pytest.raises(ValueError, match="freedom"):
        simulate.centred_chi_square(jax.random.key(0), jnp.array([3.0, freedom]), 8)
    draw = jax.jit(lambda k: simulate.centred_chi_square(jax.random.key(0), k, 8))
    good, bad = draw(jnp.array([3.0, freedom]))
    assert np.all(np.isfinite(good))
    assert np.all(np.isnan(bad))


def test_traced_values_out_of_range_give_nan():
    def block(n, n_s, t):
        found = simulate.block_errors(
            jax.random.key(0),
            n,
            n_s,
            t[None],
            jnp.ones(1),
            latent_dim=2,
            methods=("rank", "orthonormal"),
            metrics=("subspace_error", "score_error"),
        )
        return jnp.stack([jnp.all(jnp.isnan(x)) for x in found.values()])

    draw = jax.jit(block)
    one, infinite = jnp.float32(1), jnp.float32(np.inf)
    assert not np.any(draw(one, infinite, one))
    for bad in (
        (NAN, infinite, one),
        (infinite, infinite, one),
        (-one, infinite, one),
        (one, infinite, -one),
        (one, infinite, 0 * one),
    ):
        assert np.all(draw(*bad)), bad
    # The source's size matters only where the source does; -inf is no perfect source.
    assert draw(one, -infinite, one)[3]
    assert draw(one, NAN, one)[3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": 20}, "rows"),
        ({"ambient_dim": 1}, "ambient_dim"),
        ({"perfect_source": "no"}, "perfect_source"),
        ({"isotropic": 1}, "isotropic"),
        ({"methods": "rank"}, "methods"),
        ({"metrics": ("fid",)}, "metrics"),
        ({"latent_variance": jnp.ones(2)}, "latent_variance"),
        ({"latent_variance": jnp.ones((2, 2))}, "latent_variance"),
        ({"residual_variance": -1.0}, "residual_variance"),
        ({"residual_variance": [0.1, 0.2]}, "residual_variance"),
        ({"n_ta": 2.5}, "n_ta"),
        ({"n_s": 0}, "n_s"),
        ({"process": "VP"}, "process"),
    ],
)
def test_sampled_settings_are_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        _sampled(**change)


def test_a_generator_that_depends_on_batches_is_not_drawn_from():
    # vmap changes what an rbg key draws.
    rbg = jax.random.key(7, impl="rbg")
    draw = jax.jit(lambda key: simulate.centred_chi_square(key, jnp.array([3.0, 9.0]), 16))
    keys = jax.random.split(rbg, 3)
    together = jax.vmap(draw)(keys)
    np.testing.assert_array_equal(together, np.stack([draw(key) for key in keys]))
    assert len(np.unique(together)) == together.size


def _everything(key, dtype):
    number = jnp.dtype(dtype).type
    simulate.centred_chi_square(key, jnp.asarray([1.0, 2.0, 50.0], dtype), 8)
    simulate.bartlett_factor(key, number(3), 4)
    simulate.reduced_samples(
        key,
        number(3),
        rows=4,
        ambient_dim=8,
        latent_variance=jnp.ones(2, dtype),
        residual_variance=number(0.1),
    )
    values = simulate.errors(
        key,
        latent_dim=3,
        n_ta=2,
        n_s=5,
        latent_variance=1.0,
        times=[0.1, 1.0],
        replicates=10,
        method="integrated",
        metric="loss_gap",
        dtype=dtype,
    )
    block = simulate.block_errors(
        key,
        number(2),
        number(np.inf),
        jnp.asarray([0.1], dtype),
        jnp.asarray([1.0], dtype),
        latent_dim=3,
        methods=("rank", "orthonormal"),
    )
    sampled = simulate.sampled_errors(
        key,
        number(30),
        number(9),
        jnp.asarray([0.4], dtype),
        jnp.asarray([[1.0, 4.0]], dtype),
        number(0.1),
        rows=8,
        ambient_dim=8,
        perfect_source=False,
        methods=("rank", "orthonormal"),
    )
    for array in (values, *block.values(), *sampled.values()):
        assert array.dtype == dtype
        assert np.all(np.isfinite(array))


@pytest.mark.parametrize("mode", ["strict", "nans", "rbg"])
def test_valid_input_works_under_other_modes(mode):
    if mode == "rbg":
        _everything(jax.random.key(0, impl="rbg"), np.float32)
        return
    context = jax.numpy_dtype_promotion("strict") if mode == "strict" else jax.debug_nans(True)
    with context:
        _everything(jax.random.key(0), np.float32)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_valid_input_works_in_x64_mode_without_promotion(dtype):
    with jax.numpy_dtype_promotion("strict"):
        _everything(jax.random.key(0), dtype)
