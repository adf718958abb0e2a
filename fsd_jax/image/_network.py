"""The U-Net of Section 6: blocks numbered from the image inwards and out again."""

import math
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from fsd_jax import _checks


@dataclass(frozen=True, kw_only=True)
class UNetSize:
    """How large a network is: every level below the first has half the sides of the one above.

    Attributes:
        channels: of the first level.
        multipliers: of the channels, one a level.
        attention: whether a level's blocks attend, one a level.
        blocks: residual blocks a level on the way down; one more on the way up.
        groups: of channels that are normalised together.
    """

    channels: int = 16
    multipliers: tuple[int, ...] = (1, 2, 2)
    attention: tuple[bool, ...] = (False, False, True)
    blocks: int = 2
    groups: int = 8

    def __post_init__(self) -> None:
        for name in ("channels", "blocks", "groups"):
            _checks.dimension(name, getattr(self, name))
        if not self.multipliers or len(self.attention) != len(self.multipliers):
            raise ValueError(
                f"multipliers and attention must be of one length, at least 1, got "
                f"{self.multipliers} and {self.attention}"
            )
        if self.channels % self.groups:
            raise ValueError(f"groups must divide channels = {self.channels}, got {self.groups}")


def _same(
    channels_in: int, channels_out: int, side: int, key: Key[Array, ""], dtype: np.dtype
) -> eqx.nn.Conv2d:
    return eqx.nn.Conv2d(channels_in, channels_out, side, padding=side // 2, key=key, dtype=dtype)


class _Attention(eqx.Module):
    """Self-attention over the pixels, with one head."""

    norm: eqx.nn.GroupNorm
    query_key_value: eqx.nn.Conv2d
    out: eqx.nn.Conv2d

    def __init__(self, channels: int, groups: int, key: Key[Array, ""], dtype: np.dtype):
        first, second = jax.random.split(key)
        self.norm = eqx.nn.GroupNorm(groups, channels, dtype=dtype)
        self.query_key_value = _same(channels, 3 * channels, 1, first, dtype)
        self.out = _same(channels, channels, 1, second, dtype)

    def __call__(self, x: Float[Array, "c h w"]) -> Float[Array, "c h w"]:
        channels = x.shape[0]
        both = self.query_key_value(self.norm(x)).reshape(3, channels, -1)
        weights = jax.nn.softmax(both[0].T @ both[1] / math.sqrt(channels), axis=-1)
        return x + self.out((both[2] @ weights.T).reshape(x.shape))


class _Block(eqx.Module):
    """A residual block that knows the time, and attention behind it if it has any."""

    norms: tuple[eqx.nn.GroupNorm, eqx.nn.GroupNorm]
    convs: tuple[eqx.nn.Conv2d, eqx.nn.Conv2d]
    time: eqx.nn.Linear
    shortcut: eqx.nn.Conv2d | None
    attention: _Attention | None

    def __init__(
        self, channels_in: int, channels_out: int, attends: bool, *, size: UNetSize,
        key: Key[Array, ""], dtype: np.dtype,
    ):  # fmt: skip
        keys = jax.random.split(key, 5)
        groups = math.gcd(size.groups, channels_in), size.groups
        self.norms = (
            eqx.nn.GroupNorm(groups[0], channels_in, dtype=dtype),
            eqx.nn.GroupNorm(groups[1], channels_out, dtype=dtype),
        )
        self.convs = (
            _same(channels_in, channels_out, 3, keys[0], dtype),
            _same(channels_out, channels_out, 3, keys[1], dtype),
        )
        self.time = eqx.nn.Linear(4 * size.channels, channels_out, key=keys[2], dtype=dtype)
        self.shortcut = None
        if channels_in != channels_out:
            self.shortcut = _same(channels_in, channels_out, 1, keys[3], dtype)
        self.attention = _Attention(channels_out, groups[1], keys[4], dtype) if attends else None

    def __call__(self, x: Float[Array, "c h w"], time: Float[Array, " e"]) -> Array:
        inner = self.convs[0](jax.nn.silu(self.norms[0](x)))
        inner = inner + self.time(jax.nn.silu(time))[:, None, None]
        inner = self.convs[1](jax.nn.silu(self.norms[1](inner)))
        x = inner + (x if self.shortcut is None else self.shortcut(x))
        return x if self.attention is None else self.attention(x)


class _Downsample(eqx.Module):
    """Half the sides."""

    conv: eqx.nn.Conv2d

    def __init__(self, channels: int, key: Key[Array, ""], dtype: np.dtype):
        self.conv = eqx.nn.Conv2d(channels, channels, 3, stride=2, padding=1, key=key, dtype=dtype)

    def __call__(self, x: Float[Array, "c h w"], time: Float[Array, " e"]) -> Array:
        return self.conv(x)


class _Upsample(eqx.Module):
    """Twice the sides, each pixel four times and then smoothed."""

    conv: eqx.nn.Conv2d

    def __init__(self, channels: int, key: Key[Array, ""], dtype: np.dtype):
        self.conv = _same(channels, channels, 3, key, dtype)

    def __call__(self, x: Float[Array, "c h w"], time: Float[Array, " e"]) -> Array:
        return self.conv(jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2))


class TimedHead(eqx.Module):
    """A last convolution whose weights are piecewise linear in ``log t``.

    Attributes:
        weight: ``(knots, colours, channels, 3, 3)``.
        bias: ``(knots, colours)``.
        knots: increasing ``log t``; one knot is no dependence.
    """

    weight: Float[Array, "k o c 3 3"]
    bias: Float[Array, "k o"]
    knots: tuple[float, ...] = eqx.field(static=True)

    def __call__(self, x: Float[Array, "c h w"], t: Float[Array, ""]) -> Float[Array, "o h w"]:
        """The output at time `t`."""
        share = hats(jnp.log(t), self.knots)
        kernel = jnp.tensordot(share, self.weight, 1)
        out = jax.lax.conv_general_dilated(x[None], kernel, (1, 1), "SAME")[0]
        return out + (share @ self.bias)[:, None, None]


def hats(x: Float[Array, ""], knots: tuple[float, ...]) -> Float[Array, " k"]:
    """Hat functions: one at their own knot, zero at the others, constant beyond the ends."""
    places = jnp.asarray(knots, x.dtype)
    return jax.vmap(lambda row: jnp.interp(x, places, row))(jnp.eye(len(knots), dtype=x.dtype))


class UNet(eqx.Module):
    """Residual blocks down to small sides and up again, each level handed across.

    ``down``, ``middle`` and ``up`` are tuples of blocks in the order of application, so "the first
    4 down and the last 4 up" are ``down[:4]`` and ``up[-4:]``.
    """

    stem: eqx.nn.Conv2d
    time: tuple[eqx.nn.Linear, eqx.nn.Linear]
    down: tuple[_Block | _Downsample, ...]
    middle: tuple[_Block, _Block]
    up: tuple[_Block | _Upsample, ...]
    norm: eqx.nn.GroupNorm
    head: eqx.nn.Conv2d | TimedHead

    def __init__(self, key: Key[Array, ""], *, colours: int, size: UNetSize, dtype: np.dtype):
        keys = iter(jax.random.split(key, 8 + 4 * len(size.multipliers) * (size.blocks + 2)))
        width, most = size.channels, len(size.multipliers) - 1

        def block(channels_in: int, channels_out: int, attends: bool) -> _Block:
            return _Block(
                channels_in, channels_out, attends, size=size, key=next(keys), dtype=dtype
            )

        self.stem = _same(colours, width, 3, next(keys), dtype)
        self.time = (
            eqx.nn.Linear(width, 4 * width, key=next(keys), dtype=dtype),
            eqx.nn.Linear(4 * width, 4 * width, key=next(keys), dtype=dtype),
        )
        here, across = width, [width]
        down: list[_Block | _Downsample] = []
        for level, (factor, attends) in enumerate(
            zip(size.multipliers, size.attention, strict=True)
        ):
            for _ in range(size.blocks):
                down.append(block(here, factor * width, attends))
                here = factor * width
                across.append(here)
            if level < most:
                down.append(_Downsample(here, next(keys), dtype))
                across.append(here)
        self.middle = (block(here, here, True), block(here, here, False))
        up: list[_Block | _Upsample] = []
        for level in range(most, -1, -1):
            for _ in range(size.blocks + 1):
                out = size.multipliers[level] * width
                up.append(block(here + across.pop(), out, size.attention[level]))
                here = out
            if level:
                up.append(_Upsample(here, next(keys), dtype))
        self.down, self.up = tuple(down), tuple(up)
        self.norm = eqx.nn.GroupNorm(size.groups, here, dtype=dtype)
        head = _same(here, colours, 3, next(keys), dtype)
        # The untrained network's output is zero, which is the best that it can say.
        self.head = jax.tree.map(jnp.zeros_like, head)

    def __call__(self, x: Float[Array, "c h w"], step: Float[Array, ""]) -> Float[Array, "c h w"]:
        """The output for one image at DDPM's `step`, in ``[0, 1000]``."""
        features = self.features(x, step)
        if isinstance(self.head, TimedHead):
            return self.head(features, time_of_share(step / 1000))
        return self.head(features)

    def features(
        self, x: Float[Array, "c h w"], step: Float[Array, ""]
    ) -> Float[Array, "channels h w"]:
        """What the last layer sees."""
        time = self.time[0](_waves(step, self.stem.out_channels))
        time = self.time[1](jax.nn.silu(time))
        x = self.stem(x)
        across = [x]
        for layer in self.down:
            x = layer(x, time)
            across.append(x)
        for layer in self.middle:
            x = layer(x, time)
        for rise in self.up:
            if isinstance(rise, _Block):
                x = jnp.concatenate([x, across.pop()])
            x = rise(x, time)
        return jax.nn.silu(self.norm(x))


def _waves(step: Float[Array, ""], n: int) -> Float[Array, " n"]:
    """Sines and cosines of the step, of wavelengths from 2 pi to 2 pi 10^4."""
    rates = jnp.exp(-math.log(1e4) * jnp.arange(n // 2, dtype=step.dtype) / max(n // 2 - 1, 1))
    angles = step * rates
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)])


LOW, HIGH = 0.1, 19.9
"""DDPM's rates: ``B(s) = LOW s + HIGH s^2 / 2`` for the share ``s`` of its 1000 steps."""


def time_of_share(share: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """``B`` after a share of DDPM's linear schedule, from 0 to 10.05; the paper's ``t``."""
    return share * (LOW + HIGH / 2 * share)


def share_of_time(time: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """The share of the schedule after which ``B`` is `time`."""
    return 2 * time / (LOW + jnp.sqrt(LOW**2 + 2 * HIGH * time))
