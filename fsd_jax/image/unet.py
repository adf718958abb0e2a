"""The score of Section 6's U-Net, whose network is in `fsd_jax.image._network`."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from fsd_jax import _checks
from fsd_jax._process import VP
from fsd_jax._rows import column_mean, finite, varying
from fsd_jax.image._network import (
    TimedHead,
    UNet,
    UNetSize,
    share_of_time,
)

__all__ = [
    "PAPER",
    "PREDICTIONS",
    "TimedHead",
    "UNet",
    "UNetScore",
    "UNetSize",
    "new_unet_score",
]

PREDICTIONS = ("preconditioned", "epsilon", "x0")
"""What the network's output stands for; see `UNetScore`."""


PAPER = UNetSize(
    channels=64, multipliers=(1, 2, 2, 4), attention=(False, False, True, True), groups=32
)
"""11 blocks down, 2 in the middle and 15 up, for images of 64 x 64; wants an accelerator."""


class UNetScore(eqx.Module):
    """``s(x, t) = a (x - m mu) + b F((x - m mu) / sqrt(m^2 v + sigma^2), t)`` with a U-Net ``F``.

    The coefficients say what ``F`` predicts:

        epsilon          a = 0,                     b = -1/sigma: the noise
        x0               a = -1/sigma^2,            b = m/sigma^2: the clean image
        preconditioned   a = -1/(m^2 v + sigma^2),  b = m sqrt(v) / (sigma sqrt(m^2 v + sigma^2)):
                         what an isotropic Gaussian score leaves

    Training minimises ``|s + eps/sigma|^2 / b^2``, so ``F``'s own target has the weight one; for
    `epsilon` and `x0` this is DDPM's loss, and the squared error of the image.

    Attributes:
        net: the network.
        mean: ``(D,)`` ``mu``, the source's mean image, flat.
        variance: ``v``, one number, the mean over pixels of the source's variance.
        process: forward process.
        prediction: one of `PREDICTIONS`.
        shape: ``(H, W, C)`` of an image.
    """

    net: UNet
    mean: Float[Array, " D"]
    variance: Float[Array, ""]
    process: VP
    prediction: str = eqx.field(static=True)
    shape: tuple[int, int, int] = eqx.field(static=True)

    def __repr__(self) -> str:
        n = sum(leaf.size for leaf in jax.tree.leaves(self.net))
        return f"UNetScore({self.shape}, {n} weights, {self.prediction})"

    def __call__(
        self, x: Float[Array, "n *shape"], t: Float[Array, "*n"]
    ) -> Float[Array, "n *shape"]:
        """The score of a batch, flat or as images, at one time or at a time for each."""
        images = x.reshape(-1, *self.shape)
        times = jnp.broadcast_to(jnp.asarray(t, x.dtype), images.shape[:1])
        value, _ = jax.vmap(self.one)(images, times)
        return value.reshape(x.shape)

    def one(
        self, x: Float[Array, "h w c"], t: Float[Array, ""]
    ) -> tuple[Float[Array, "h w c"], Float[Array, ""]]:
        """The score of one image, and its ``b``."""
        m, noise = self.process.signal(t), self.process.noise_variance(t)
        total = m**2 * self.variance + noise
        centred = x - m * self.mean.reshape(self.shape)
        a, b = self._scales(m, noise)
        out = self.net(*self._seen(centred / jnp.sqrt(total), m))
        return a * centred + b * jnp.moveaxis(out, 0, -1), b

    def head_problem(
        self, x: Float[Array, "h w c"], eps: Float[Array, "h w c"], t: Float[Array, ""]
    ) -> tuple[Float[Array, "channels h w"], Float[Array, "h w c"]]:
        """What the last layer sees of a noised image, and the output that training wants there."""
        m, noise = self.process.signal(t), self.process.noise_variance(t)
        total = m**2 * self.variance + noise
        centred = m * (x - self.mean.reshape(self.shape)) + jnp.sqrt(noise) * eps
        a, b = self._scales(m, noise)
        features = self.net.features(*self._seen(centred / jnp.sqrt(total), m))
        return features, (-eps / jnp.sqrt(noise) - a * centred) / b

    def _scales(self, m: Array, noise: Array) -> tuple[Array, Array]:
        """``a`` and ``b``."""
        total = m**2 * self.variance + noise
        return {
            "epsilon": (jnp.zeros_like(m), -1 / jnp.sqrt(noise)),
            "x0": (-1 / noise, m / noise),
            "preconditioned": (-1 / total, m * jnp.sqrt(self.variance / (noise * total))),
        }[self.prediction]

    def _seen(self, scaled: Array, m: Array) -> tuple[Array, Array]:
        """The network's arguments."""
        return jnp.moveaxis(scaled, -1, 0), 1000 * share_of_time(-2 * jnp.log(m))


def new_unet_score(
    key: Key[Array, ""],
    x_source: ArrayLike,
    *,
    size: UNetSize = UNetSize(),
    prediction: str = "preconditioned",
    process: VP = VP(),
) -> UNetScore:
    """An untrained score for images like these.

    Args:
        key: random key.
        x_source: ``(n, H, W, C)`` source images, for their shape, dtype, mean and variance.
        size: of the network; `PAPER` is the paper's.
        prediction: one of `PREDICTIONS`.
        process: forward process.

    Raises:
        ValueError: no images, or sides that cannot be halved often enough.

    Example:
        >>> import jax, numpy as np
        >>> from fsd_jax.image.unet import UNetSize, new_unet_score
        >>> images = np.random.default_rng(0).random((5, 8, 8, 3), dtype=np.float32)
        >>> size = UNetSize(channels=4, groups=2, multipliers=(1, 2), attention=(False, False))
        >>> score = new_unet_score(jax.random.key(0), images, size=size)
        >>> score, len(score.net.down), len(score.net.middle), len(score.net.up)
        (UNetScore((8, 8, 3), 15203 weights, preconditioned), 5, 2, 7)
    """
    key = _checks.key("key", key)
    _checks.choice("prediction", prediction, PREDICTIONS)
    _checks.instance("size", size, UNetSize)
    _checks.instance("process", process, VP, "for example VP()")
    shape = _image_shape(_checks.array("x_source", x_source).shape, size.multipliers)
    flat = finite("x_source", _checks.samples("x_source", x_source, rows=2, images=True)[0])
    mean = column_mean(varying("x_source", flat))
    variance = jnp.mean((flat - mean) ** 2)
    net = UNet(key, colours=shape[2], size=size, dtype=flat.dtype)
    return UNetScore(
        net=net, mean=mean, variance=variance, process=process, prediction=prediction, shape=shape
    )  # fmt: skip


def _image_shape(shape: Sequence[int], multipliers: tuple[int, ...]) -> tuple[int, int, int]:
    halved = 2 ** (len(multipliers) - 1)
    if len(shape) != 4 or shape[1] % halved or shape[2] % halved:
        raise ValueError(
            f"x_source must have shape (n, H, W, C) with H and W multiples of {halved}, "
            f"got {tuple(shape)}; resize the images or use fewer levels"
        )
    return shape[1], shape[2], shape[3]
