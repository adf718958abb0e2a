"""The ReLU network ``f_theta`` of Appendix A, and the score it gives with a decoder."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Key

from fsd_jax import _checks, _linalg, _points, _process
from fsd_jax._process import VP, Process
from fsd_jax._scores import levels
from fsd_jax.simulate._inputs import draw_dtype, in_range

FORMS = ("preconditioned", "paper")

Parameters = tuple[tuple[Float[Array, "inputs outputs"], Float[Array, " outputs"]], ...]
"""A matrix and a bias for each layer."""


def _static(default: object = None) -> object:
    return field(default=default, metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True, repr=False)
class ReLUNet:
    """``f_theta(z, t)`` in ``R^d``; the exact one is ``z + sigma_t^2 grad log q_t^LD(z)``.

    The ``"paper"`` form is a plain network of ``(z, t)``. The ``"preconditioned"`` one learns what
    a Gaussian of the latent's variance ``v`` misses, at the scale at which it does:

        f = g z + c F(z/sqrt(m^2 v + s2), log(m^2 v/s2)/2, m, sigma),
        g = m^2 v/(m^2 v + s2),   c^2 = m^2 v s2/(m^2 v + s2).

    On another path than `VP` the last two are divided by ``sqrt(m^2 + sigma^2)``.
    Its last layer starts at zero, so that training starts from the Gaussian model.

    Implements: Appendix A (class of networks); "Networks (Section 4)".

    Attributes:
        layers: matrix and bias of each layer.
        variance: ``v``, a scalar; the mean of the latent's variances.
        form: one of `FORMS`.
        output_bound: ``K_1``: entries of ``f`` are clipped to it; None is no bound.
        process: forward process.
    """

    layers: Parameters
    variance: Float[Array, ""]
    form: str = _static()  # type: ignore[assignment]
    output_bound: float | None = _static()  # type: ignore[assignment]
    process: Process = _static(VP())  # type: ignore[assignment]

    def __repr__(self) -> str:
        widths = [w.shape[-1] for w, _ in self.layers]
        return f"ReLUNet(widths={widths}, form={self.form!r}, {self.variance.dtype})"

    @classmethod
    def create(
        cls,
        key: Key[Array, ""],
        *,
        latent_dim: int,
        variance: ArrayLike = 1.0,
        widths: Sequence[int] = (64, 64, 64),
        form: str = "preconditioned",
        output_bound: float | None = None,
        dtype: DTypeLike | None = None,
        process: Process = VP(),
    ) -> "ReLUNet":
        """A network with He's initial weights.

        Args:
            key: random key.
            latent_dim: ``d``.
            variance: mean variance of the latent, for the preconditioned form.
            widths: hidden layers' widths (``M'`` and, by their number, ``L``).
            form: ``"preconditioned"`` or ``"paper"``.
            output_bound: ``K_1``, positive, or None.
            dtype: of the weights; None is JAX's default.
            process: forward process.

        Raises:
            ValueError: values out of range or of the wrong kind, or an unknown form.

        Example:
            >>> import jax
            >>> from fsd_jax import latent_net
            >>> net = latent_net.ReLUNet.create(jax.random.key(0), latent_dim=2)
            >>> net(jax.numpy.ones((5, 2)), 0.3).shape
            (5, 2)
        """
        key = _checks.key("key", key)
        d = _checks.dimension("latent_dim", latent_dim)
        widths = check_widths(widths)
        output_bound = check_output_bound(output_bound)
        _checks.choice("form", form, FORMS)
        _process.check(process)
        dtype = draw_dtype(dtype)
        v = in_range("variance", variance, dtype)
        if v.ndim:
            raise ValueError(f"variance must be a single number, got shape {tuple(v.shape)}")
        sizes = [d + (3 if form == "preconditioned" else 1), *widths, d]
        layers = []
        for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
            scale = math.sqrt(2 / fan_in)
            if i == len(sizes) - 2:
                scale = 0.0 if form == "preconditioned" else math.sqrt(1 / fan_in)
            weight = jax.random.normal(jax.random.fold_in(key, i), (fan_in, fan_out), dtype)
            layers.append((scale * weight, jnp.zeros(fan_out, dtype)))
        return cls(
            layers=tuple(layers),
            variance=v,
            form=form,
            output_bound=output_bound,
            process=process,
        )

    @property
    def parameters(self) -> int:
        """Number of trained numbers, at most ``J`` of which are not zero."""
        return sum(w.size + b.size for w, b in self.layers)

    def with_layers(self, layers: Parameters) -> "ReLUNet":
        """The same network with other weights."""
        return replace(self, layers=layers)

    def __call__(self, z: Float[Array, "*batch d"], t: ArrayLike) -> Float[Array, "*batch d"]:
        """``f_theta`` at points `z` for one time ``t > 0``, or for times of the batch's shape.

        Raises:
            ValueError: points of another dimension, or times that are not positive or do not fit.
        """
        z, t = _at_points("z", z, t, self.layers[-1][0].shape[-1])
        t = jnp.broadcast_to(t, z.shape[:-1])[..., None]
        f = self._plain(z, t) if self.form == "paper" else self._preconditioned(z, t)
        if self.output_bound is None:
            return f
        return jnp.clip(f, -self.output_bound, self.output_bound)

    def _plain(self, z: Float[Array, "*batch d"], t: Array) -> Float[Array, "*batch d"]:
        return self._forward(jnp.concatenate([z, t], axis=-1))

    def _preconditioned(self, z: Float[Array, "*batch d"], t: Array) -> Float[Array, "*batch d"]:
        signal, noise = self.process.signal_variance(t), self.process.noise_variance(t)
        level = signal * self.variance + noise
        signal_share, noise_share = self.process.shares(t)
        features = [
            z / jnp.sqrt(level),
            jnp.log(signal * self.variance / noise) / 4,
            jnp.sqrt(signal_share),
            jnp.sqrt(noise_share),
        ]
        gain = signal * self.variance / level
        learned = self._forward(jnp.concatenate(features, axis=-1))
        return gain * z + jnp.sqrt(gain * noise) * learned

    def _forward(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch d"]:
        *hidden, (last, shift) = self.layers
        for weight, bias in hidden:
            x = jax.nn.relu(x @ weight + bias)
        return x @ last + shift


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True, repr=False)
class NetScore:
    """``s(x, t) = (V f_theta(V'x, t) - x)/sigma_t^2``, the class ``S_NN``.

    Implements: Section 3.2 (network classes).

    Attributes:
        decoder: ``(D, d)``, orthonormal columns ``V``.
        net: ``f_theta``.
    """

    decoder: Float[Array, "D d"]
    net: ReLUNet

    def __repr__(self) -> str:
        ambient, d = self.decoder.shape[-2:]
        return f"NetScore(D={ambient}, d={d}, {self.net!r})"

    def __call__(self, x: Float[Array, "*batch D"], t: ArrayLike) -> Float[Array, "*batch D"]:
        """The score at `x` for one time ``t > 0``, or for times of the batch's shape.

        Raises:
            ValueError: points of another dimension, or times that are not positive or do not fit.
        """
        x, t = _at_points("x", x, t, self.decoder.shape[-2])
        noise = levels(self.net.process, t)[1]
        clean = _linalg.matmul(self.net(_linalg.matmul(x, self.decoder), t), self.decoder.T)
        return (clean - x) / noise


def check_widths(widths: Any) -> tuple[int, ...]:
    """Widths of hidden layers, checked."""
    if hasattr(widths, "__array__") and not isinstance(widths, np.ndarray):
        widths = _checks.array("widths", widths)
    if isinstance(widths, str | bytes) or not isinstance(widths, Sequence | np.ndarray | jax.Array):
        raise ValueError(f"widths must be a tuple of integers, got {widths!r}")
    return tuple(_checks.dimension("widths", width) for width in widths)


def check_output_bound(output_bound: float | None) -> float | None:
    """The bound ``K_1`` as a Python number, which is hashable."""
    if output_bound is None:
        return None
    return float(_checks.positive("output_bound", output_bound, np.float64, ndim=(0,))[0])


def _at_points(
    name: str, x: ArrayLike, t: ArrayLike, dim: int
) -> tuple[Float[Array, "*batch dim"], Float[Array, "*times"]]:
    """Points and times that fit, in the dtype of the points."""
    points, _ = _checks.floating(name, x)
    return _points.at_points(name, points, t, dim=dim, dtype=points.dtype)
