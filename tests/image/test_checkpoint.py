"""Checkpoints of U-Net training: whole, of the same run, or refused."""

import random
from dataclasses import replace

import equinox as eqx
import jax
import numpy as np
import pytest

import fsd_jax as fsd
from fsd_jax.image import finetune
from fsd_jax.image.finetune import UNetRecipe, train_unet
from fsd_jax.image.unet import UNetSize, new_unet_score

TINY = UNetSize(channels=2, groups=1, multipliers=(1,), attention=(False,), blocks=1)
RECIPE = UNetRecipe(steps=2, batch_size=2, learning_rate=1e-2)
KEY = jax.random.key(1)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((5, 4, 4, 1), dtype=np.float32)


@pytest.fixture(scope="module")
def score(images):
    return new_unet_score(jax.random.key(0), images, size=TINY)


def _step(key, state, *_, **__):
    return state._replace(step=state.step + 1), jax.random.uniform(jax.random.fold_in(key, 7))


@pytest.fixture(scope="module")
def stored(score, images, tmp_path_factory):
    """A checkpoint of all steps, what it is of, and the state that it holds."""
    file = tmp_path_factory.mktemp("unet") / "checkpoint"
    states = []
    write = finetune._write

    def watched(file, about, state):
        states.append((about, state))
        write(file, about, state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune, "_write", watched)
        patch.setattr(finetune, "_step", _step)  # Compiling the true one takes most of the time.
        done = train_unet(KEY, score, images, recipe=RECIPE, checkpoint=file)
    return file, *states[-1], done


def _bytes(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def test_flipped_bits_end_in_the_same_state_or_one_error(stored, tmp_path):
    whole_file, about, state, _ = stored
    file, chance = tmp_path / "checkpoint", random.Random(0)
    whole, wanted = whole_file.read_bytes(), _bytes(state)
    assert _bytes(finetune._read(whole_file, about, state)) == wanted
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        file.write_bytes(bytes(damaged))
        # Every byte counts, so each flip is found.
        with pytest.raises(ValueError, match=r"'.*checkpoint' is not a checkpoint .*damaged"):
            finetune._read(file, about, state)


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.9999])
def test_a_torn_checkpoint_is_refused(stored, tmp_path, share):
    whole_file, about, state, _ = stored
    whole, file = whole_file.read_bytes(), tmp_path / "checkpoint"
    file.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match="damaged"):
        finetune._read(file, about, state)


# What a run that ends elsewhere is given, and what tells its checkpoint apart.
OTHER = {
    "weights": (
        "score",
        lambda s, _: dict(
            score=eqx.tree_at(lambda s: s.net.head.weight, s, replace_fn=lambda w: w + 1e-3)
        ),
    ),
    "mean": ("score", lambda s, _: dict(score=eqx.tree_at(lambda s: s.mean, s, s.mean + 1))),
    "variance": (
        "score",
        lambda s, _: dict(score=eqx.tree_at(lambda s: s.variance, s, 2 * s.variance)),
    ),
    "process": ("process", lambda s, _: dict(score=replace(s, process=fsd.VP.linear(0.1, 3.0)))),
    "prediction": ("prediction", lambda s, _: dict(score=replace(s, prediction="epsilon"))),
    "images": ("images", lambda _, x: dict(x=x[::-1])),
    "recipe": ("recipe", lambda *_: dict(recipe=replace(RECIPE, learning_rate=2e-2))),
    "which": ("which", lambda *_: dict(which="outermost")),
    "key": ("key", lambda *_: dict(key=jax.random.key(2))),
    "generator": ("generator and key", lambda *_: dict(key=jax.random.key(1, impl="rbg"))),
}


@pytest.mark.parametrize("name", OTHER)
def test_another_runs_checkpoint_is_refused_by_name(stored, score, images, name):
    file = stored[0]
    before = file.read_bytes()
    told, change = OTHER[name]
    given = dict(key=KEY, score=score, x=images, recipe=RECIPE) | change(score, images)
    with pytest.raises(ValueError, match=f"of a run with another {told}; move it away"):
        train_unet(checkpoint=file, **given)
    assert file.read_bytes() == before


def test_numpy_numbers_make_the_same_checkpoint(stored, score, images):
    recipe = UNetRecipe(steps=np.int64(2), batch_size=np.int32(2), learning_rate=np.float64(1e-2))
    again = train_unet(KEY, score, images, recipe=recipe, checkpoint=stored[0])
    np.testing.assert_array_equal(again.losses, stored[3].losses)
    assert _bytes(again.score) == _bytes(stored[3].score)


@pytest.mark.usefixtures("x64")
def test_the_precision_is_part_of_a_checkpoint(stored, score, images):
    file = stored[0]
    with pytest.raises(ValueError, match="another x64; move it away"):
        train_unet(KEY, score, images, recipe=RECIPE, checkpoint=file)


def test_a_folder_that_cannot_be_written_is_found_before_the_work(score, images, tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(OSError, match="a"):
        train_unet(
            KEY,
            score,
            images,
            recipe=RECIPE,
            checkpoint=tmp_path / "a" / "b",
            watch=lambda _: pytest.fail("worked"),
        )
    with pytest.raises(FileNotFoundError):
        train_unet(KEY, score, images, recipe=RECIPE, checkpoint=tmp_path / "none" / "b")
