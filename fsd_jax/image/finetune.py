"""Training a U-Net, all of it or chosen blocks only; resumes from its checkpoint after a kill."""

import hashlib
import io
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from fsd_jax import _checks, _files
from fsd_jax._provenance import randomness
from fsd_jax.image import _store
from fsd_jax.image._network import time_of_share
from fsd_jax.image.unet import UNetScore

__all__ = ["SETS", "TIMES", "Progress", "TrainedUNet", "UNetRecipe", "train_unet", "tuned_leaves"]

SETS: dict[str, tuple[int, int] | None] = {
    "everything": None,
    "encoder_decoder": (4, 4),
    "outermost": (1, 1),
}
"""How many of the first blocks down and the last blocks up are tuned, by name; None is all."""

DELTA, T = 1e-3, 10.0
"""The times that are trained on."""

TIMES = ("ddpm", "log")
"""How often which: as DDPM's linear schedule has them, or uniform in ``log t``, which sees three
times as many of the small times that decide how clean pictures are."""


@dataclass(frozen=True, kw_only=True)
class UNetRecipe:
    """How long and how fast; the paper's is AdamW at 1e-4, 20 images a step, then 2.

    Attributes:
        steps: optimiser steps.
        batch_size: images a step, drawn with replacement.
        learning_rate: of AdamW.
        weight_decay: of AdamW.
        ema: share that a running mean of the weights keeps at each step; the mean is what is
            returned. None returns the weights themselves.
        times: one of `TIMES`.
    """

    steps: int
    batch_size: int = 20
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    ema: float | None = None
    times: str = "ddpm"

    def __post_init__(self) -> None:
        _checks.dimension("steps", self.steps)
        _checks.dimension("batch_size", self.batch_size)
        _checks.choice("times", self.times, TIMES)
        for name in ("learning_rate", "weight_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)!r}")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"ema must be in (0, 1) or None, got {self.ema!r}")

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """AdamW."""
        return optax.adamw(self.learning_rate, weight_decay=self.weight_decay)


class Progress(NamedTuple):
    """What a watcher is told: steps done, of how many, the mean loss since, the score so far."""

    step: int
    steps: int
    loss: float
    score: UNetScore


class _State(NamedTuple):
    step: Array
    weights: Any
    optimizer: Any
    mean: Any


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class TrainedUNet:
    """A trained score and how training went.

    Attributes:
        score: the score; if training diverged, that of the last good checkpoint.
        losses: ``(steps,)``; NaN where no step was made.
        diverged_at: first step whose loss is not finite, None when there is none.
    """

    score: UNetScore
    losses: np.ndarray
    diverged_at: int | None

    def __repr__(self) -> str:
        end = "" if self.diverged_at is None else f", diverged_at={self.diverged_at}"
        return f"TrainedUNet({self.score!r}, steps={len(self.losses)}{end})"


def tuned_leaves(score: UNetScore, which: str) -> Any:
    """A score of booleans: True for the arrays that `which` of `SETS` tunes.

    Blocks on the rim bring the convolution beside them: the first one down its input's, the last
    one up its output's and its normalisation. Time embedding and middle are frozen unless all is
    tuned, and so are the mean and variance of the source.
    """
    _checks.choice("which", which, tuple(SETS))
    frozen = jax.tree.map(lambda _: False, score)
    turn_on = partial(jax.tree.map, lambda _: True)
    rim = SETS[which]
    if rim is None:
        return eqx.tree_at(lambda s: s.net, frozen, replace_fn=turn_on)
    first, last = rim

    def parts(s: UNetScore) -> list[Any]:
        return [s.net.stem, s.net.norm, s.net.head, *s.net.down[:first], *s.net.up[-last:]]

    return eqx.tree_at(parts, frozen, replace_fn=turn_on)


def train_unet(
    key: Key[Array, ""],
    score: UNetScore,
    x: ArrayLike,
    *,
    recipe: UNetRecipe,
    which: str = "everything",
    every: int = 100,
    checkpoint: str | os.PathLike[str] | None = None,
    watch: Callable[[Progress], None] | None = None,
) -> TrainedUNet:
    """Train on images: pre-training on the source, or fine-tuning on the target.

    A step's images, times and noise come from its own number, so a run that was killed goes on
    from its checkpoint with the same next batch and ends with the same bits. Frozen arrays are no
    part of what is optimised.

    Args:
        key: random key.
        score: where training starts.
        x: ``(n, H, W, C)`` images.
        recipe: steps, batch, rates.
        which: one of `SETS`.
        every: steps between checkpoints, which are also what `watch` sees.
        checkpoint: file to resume from if it is there, and to write; None keeps nothing. It must
            be of the same recipe, key, images and `score`, in the same precision.
        watch: called after every `every` steps.

    Raises:
        ValueError: images of another shape, or a checkpoint that is damaged or of another run.
        OSError: the checkpoint's folder cannot be written, which is found before the work.

    Example:
        >>> import jax, numpy as np
        >>> from fsd_jax.image.finetune import UNetRecipe, train_unet
        >>> from fsd_jax.image.unet import UNetSize, new_unet_score
        >>> images = np.random.default_rng(0).random((5, 4, 4, 1), dtype=np.float32)
        >>> size = UNetSize(channels=2, groups=1, multipliers=(1,), attention=(False,), blocks=1)
        >>> score = new_unet_score(jax.random.key(0), images, size=size)
        >>> train_unet(jax.random.key(1), score, images, recipe=UNetRecipe(steps=2, batch_size=2))
        TrainedUNet(UNetScore((4, 4, 1), 777 weights, preconditioned), steps=2)
    """
    flat, _ = _checks.samples("x", x, images=True)
    if _checks.sample_shape("x", x) != score.shape:
        raise ValueError(
            f"x must have shape (n, *{score.shape}), got (n, *{_checks.sample_shape('x', x)})"
        )
    every = min(_checks.dimension("every", every), recipe.steps)
    images = flat.reshape(-1, *score.shape)
    weights, frozen = eqx.partition(score, tuned_leaves(score, which))
    state = _State(
        step=jnp.zeros((), jnp.int32),
        weights=weights,
        optimizer=recipe.optimizer.init(weights),
        mean=weights,
    )
    losses = np.full(recipe.steps, np.nan, images.dtype)
    file = None if checkpoint is None else _checks.path("checkpoint", checkpoint)
    if file is not None:
        about = _about(key, score, images, recipe, which)
        _files.check_writable(file.resolve().parent)
        if file.exists():
            state, losses = _read(file, about, (state, losses))
    diverged_at = None
    while (done := int(state.step)) < recipe.steps:
        after, recent = state, []
        for _ in range(min(every, recipe.steps - done)):
            after, loss = _step(key, after, frozen, images, recipe=replace(recipe, steps=1))
            recent.append(loss)
        values = np.asarray(jnp.stack(recent))
        if not np.isfinite(values).all():
            diverged_at = done + int(np.argmin(np.isfinite(values)))
            break
        state, losses[done : done + len(values)] = after, values
        if file is not None:
            _write(file, about, (state, losses))
        if watch is not None:
            now = eqx.combine(_kept(state, recipe), frozen)
            watch(Progress(done + len(values), recipe.steps, float(values.mean()), now))
    return TrainedUNet(
        score=eqx.combine(_kept(state, recipe), frozen), losses=losses, diverged_at=diverged_at
    )


def _kept(state: _State, recipe: UNetRecipe) -> Any:
    return state.weights if recipe.ema is None else state.mean


@partial(jax.jit, static_argnames=("recipe",))
def _step(
    key: Key[Array, ""],
    state: _State,
    frozen: UNetScore,
    images: Float[Array, "n h w c"],
    *,
    recipe: UNetRecipe,
) -> tuple[_State, Float[Array, ""]]:
    """One step and its loss; in a loop inside `jit` a CPU's convolutions are four times slower."""
    one = jax.random.fold_in(key, state.step)
    value, slope = jax.value_and_grad(_loss)(state.weights, frozen, one, images, recipe)
    move, optimizer = recipe.optimizer.update(slope, state.optimizer, state.weights)
    weights = optax.apply_updates(state.weights, move)
    mean = optax.incremental_update(weights, state.mean, 1 - (recipe.ema or 0.0))
    return _State(step=state.step + 1, weights=weights, optimizer=optimizer, mean=mean), value


def _loss(
    weights: Any,
    frozen: UNetScore,
    key: Key[Array, ""],
    images: Float[Array, "n h w c"],
    recipe: UNetRecipe,
) -> Float[Array, ""]:
    """Mean of ``|s + eps/sigma|^2 / b^2`` over a batch, its times spread evenly over the grid."""
    score, n = eqx.combine(weights, frozen), recipe.batch_size
    rows, times, noise = jax.random.split(key, 3)
    x = images[jax.random.randint(rows, (n,), 0, images.shape[0])]
    share = ((jnp.arange(n) + jax.random.uniform(times, (n,), x.dtype)) / n).astype(x.dtype)
    if recipe.times == "ddpm":
        t = DELTA + time_of_share(share)
    else:
        t = DELTA * (T / DELTA) ** share
    eps = jax.random.normal(noise, x.shape, x.dtype)

    def one(x: Array, t: Array, eps: Array) -> Array:
        sigma = jnp.sqrt(score.process.noise_variance(t))
        value, b = score.one(score.process.signal(t) * x + sigma * eps, t)
        return jnp.mean((value + eps / sigma) ** 2) / b**2

    return jnp.mean(jax.vmap(one)(x, t, eps))


FORMAT = 2
"""Of checkpoints. Those of format 1 had no digest and did not say where training started."""


def _about(
    key: Key[Array, ""], score: UNetScore, images: Array, recipe: UNetRecipe, which: str
) -> dict[str, Any]:
    """All that decides what training ends with."""
    leaves = jax.tree_util.tree_flatten_with_path(score)[0]
    start = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
    return {
        "recipe": _files.plain("recipe", asdict(recipe)),
        "which": which,
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        **randomness(key),
        "images": _store.digest({"x": np.asarray(images)}),
        "score": _store.digest(start),
        "prediction": score.prediction,
        "shape": list(score.shape),
        "process": repr(score.process),
    }


def _write(file: Path, about: dict[str, Any], state: Any) -> None:
    """A line with the format and a digest; what the rest is of, on a line; the arrays."""
    body = io.BytesIO()
    body.write(json.dumps(about).encode() + b"\n")
    eqx.tree_serialise_leaves(body, state)
    _files.write_atomically(file, lambda handle: handle.writelines((_head(body), body.getbuffer())))


def _head(body: io.BytesIO) -> bytes:
    digest = hashlib.blake2b(body.getbuffer(), digest_size=16).hexdigest()
    return f"fsd_jax checkpoint {FORMAT} {digest}\n".encode()


def _read(file: Path, about: dict[str, Any], state: Any) -> Any:
    """The state of the same run; another one's must not be taken for it, nor be overwritten."""
    with open(file, "rb") as handle:
        head, body = handle.readline(200), io.BytesIO(handle.read())
    advice = "move it away or name another file"
    if head != _head(body):
        raise ValueError(
            f"{str(file)!r} is not a checkpoint of this release, or it is damaged; {advice}"
        )
    found = json.loads(body.readline())
    differs = sorted(name for name in {*about, *found} if found.get(name) != about.get(name))
    if differs:
        raise ValueError(
            f"checkpoint {str(file)!r} is of a run with another {' and '.join(differs)}; {advice}"
        )
    return eqx.tree_deserialise_leaves(body, state)
