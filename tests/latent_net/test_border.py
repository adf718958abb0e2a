"""What networks refuse, and their error against targets with residual noise and a mean."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fsd_jax as fsd
from fsd_jax import latent_net
from fsd_jax.latent_net._descent import denoising_losses

KEY = jax.random.key(0)
NET = latent_net.ReLUNet.create(jax.random.key(1), latent_dim=2, variance=1.5)


def _world(residual=0.0, mean=0.0):
    world = fsd.LinearProblem.random(KEY, ambient_dim=6, latent_dim=2, latent_variance=1.5)
    return dataclasses.replace(
        world,
        residual_variance=jnp.asarray(residual),
        mean_ta=mean * jnp.arange(6) / 6,
    )


@pytest.mark.parametrize(("residual", "mean"), [(0.3, 0.0), (0.3, 1.0), (0.0, 1.0)])
def test_residual_noise_and_a_mean_are_part_of_the_truth(residual, mean):
    # 2.4e-14 for 38.3 before. The untrained network is the Gaussian model, whose error is exact.
    world = _world(residual, mean)
    for basis in (world.A_ta, world.A_s):
        score = latent_net.NetScore(decoder=basis, net=NET)
        when = {"times": [0.2, 1.0], "weights": [0.5, 0.5]}
        found = latent_net.net_score_error(jax.random.key(2), score, world, n=8000, **when)
        linear = fsd.LinearScore.from_decoder(basis, latent_variance=1.5)
        exact = float(fsd.score_error(linear, world, **when))
        assert abs(float(found.value) - exact) < 5 * float(found.stderr) + 1e-4
        assert float(found.value) == pytest.approx(
            float(found.on_support + found.off_support), rel=1e-5
        )


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("decoder", {"decoder": jnp.ones((6, 1))}),
        ("decoder", {"decoder": jnp.ones((5, 2))}),
        ("t must", {"t": jnp.ones((7, 1))}),
        ("t must", {"t": jnp.ones(())}),
        ("xi", {"xi": jnp.ones((7, 1))}),
        ("net", {"net": lambda z, t: z}),
    ],
)
def test_losses_do_not_broadcast(name, change):
    # A score of another shape gave 33.8 and no error.
    good = {
        "decoder": jnp.eye(6, 2),
        "net": NET,
        "x": jnp.ones((7, 6)),
        "t": jnp.ones(7),
        "xi": jnp.ones((7, 2)),
    }
    assert denoising_losses(**good).shape == (7,)
    with pytest.raises(ValueError, match=name):
        denoising_losses(**(good | change))


def _score():
    return latent_net.NetScore(decoder=_world().A_ta, net=NET)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: NET(jnp.ones((5, 3)), 0.5), "z must have 2 entries"),
        (lambda: NET(jnp.ones((5, 2)), 0.0), "t must be"),
        (lambda: NET(jnp.ones((5, 2)), jnp.full(5, -1.0)), "t must be"),
        (lambda: NET(jnp.ones((5, 2)), jnp.ones(4)), "t must be one time"),
        (lambda: _score()(jnp.ones((5, 2)), 0.5), "x must have 6 entries"),
        (lambda: _score()(jnp.ones((5, 6)), 0.0), "t must be"),
        (lambda: _score()(np.ones((5, 6), bool), 0.5), "x must be"),
        (lambda: latent_net.ReLUNet.create(0, latent_dim=2), "key"),
        (lambda: latent_net.ReLUNet.create(KEY, latent_dim=2, widths=64), "widths"),
        (lambda: latent_net.ReLUNet.create(KEY, latent_dim=2, dtype=jnp.float16), "dtype"),
        (lambda: latent_net.ReLUNet.create(KEY, latent_dim=2, output_bound="1"), "output_bound"),
        (lambda: latent_net.ReLUNet.create(KEY, latent_dim=2, variance=[1.0]), "variance"),
        (lambda: latent_net.ReLUNet.create(KEY, latent_dim=2, process=None), "process"),
        (lambda: latent_net.random_mixture(3, 2), "key"),
        (lambda: latent_net.random_mixture(KEY, 2.0), "latent_dim"),
        (lambda: latent_net.net_score_error(3, _score(), _world(), times=[1.0]), "key"),
        (lambda: latent_net.net_score_error(KEY, NET, _world(), times=[1.0]), "score"),
        (lambda: latent_net.net_score_error(KEY, _score(), NET, times=[1.0]), "problem"),
        (lambda: latent_net.net_score_error(KEY, _score(), _world(), times=[0.0]), "times"),
        (lambda: latent_net.pretrain(3, jnp.ones((9, 6)), latent_dim=2), "key"),
        (lambda: latent_net.pretrain(KEY, jnp.ones((9, 6)), latent_dim=2, recipe={}), "recipe"),
        (lambda: latent_net.pretrain(KEY, jnp.ones((9, 6)), latent_dim=2, process=3), "process"),
        (lambda: latent_net.pretrain(KEY, jnp.ones((9, 6)), latent_dim=2, count=2.7), "count"),
        (lambda: latent_net.pretrain(KEY, jnp.ones((9, 6)), latent_dim=2, form="x"), "form"),
        (lambda: latent_net.finetune(KEY, NET, jnp.ones((9, 6))), "model"),
        (lambda: latent_net.Recipe(delta="early").check(), "delta"),
        (lambda: latent_net.Recipe(held_out=1.0).check(), "held_out"),
        (lambda: latent_net.plan_section4(n_ta=[4], n_s=[100], d=[2], seed=1.5), "seed"),
        (lambda: latent_net.plan_section4(n_ta=[4], n_s=[100], d=[2], widths=3), "widths"),
        (lambda: latent_net.plan_section4(n_ta=[4], n_s=[9], d=[2], finetuning=1), "finetuning"),
    ],
)
def test_arguments_are_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_traced_time_that_is_not_positive_gives_nan():
    draw = jax.jit(lambda t: NET(jnp.ones((1, 2)), t))
    assert np.all(np.isfinite(draw(0.5)))
    assert np.all(np.isnan(draw(0.0)))


def test_numpy_scalars_go_on_as_python_numbers():
    recipe = latent_net.Recipe(steps=np.int64(8), checks=np.int32(2), delta=np.float32(0.5))
    checked = recipe.check()
    assert (type(checked.steps), type(checked.checks), type(checked.delta)) == (int, int, float)
    plan = latent_net.plan_section4(
        n_ta=[np.int64(4)], n_s=[np.int64(100)], d=[np.int64(2)], pretraining=recipe
    )
    assert all(type(plan.cells[0][name]) is int for name in ("n_ta", "n_s", "d"))
