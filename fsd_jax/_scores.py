"""What a score is, what else predicts the same, and the loss of any score by drawn noise.

On a path ``x_t = alpha x_0 + sigma xi`` four predictions say the same: the score ``s``, the noise
``eps = E[xi | x_t]``, the clean image ``x_0 = E[x_0 | x_t]`` and the velocity
``v = alpha' x_0 + sigma' eps``. With ``x_t = alpha x_0 + sigma eps`` any one gives the others.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from fsd_jax import _checks, _points
from fsd_jax._process import VP, Process, check


@runtime_checkable
class Score(Protocol):
    """A function of points and one time, ``(x, t)``, that returns the shape of ``x``."""

    def __call__(self, x: Array, t: Any, /) -> Array:
        """``grad log q_t(x)``, exactly or as a model has it."""


PREDICTIONS = ("score", "noise", "clean", "velocity")
"""What a network may predict, see `convert`."""


def process_of(score: Score, process: Process | None) -> Process:
    """The forward process, which a score that has its own must share."""
    if process is not None:
        check(process)
    own = getattr(score, "process", None)
    if not isinstance(own, Process):
        return VP() if process is None else process
    if process is not None and process != own:
        raise ValueError(f"process must be the score's own, {own}, got {process}; leave it out")
    return own


def levels(process: Process, t: Array) -> tuple[Array, Array]:
    """``alpha_t`` and ``sigma_t^2`` along points: of one time, or of times that fit a batch."""
    signal, noise = process.signal(t), process.noise_variance(t)
    return (signal, noise) if t.ndim == 0 else (signal[..., None], noise[..., None])


def tweedie(process: Process, value: Array, x: Array, t: Array) -> Array:
    """The clean sample from a score's `value` at checked points: ``(x + sigma^2 s)/alpha``."""
    signal, noise = levels(process, t)
    return (x + noise * value) / signal


def evaluate(score: Score, x: Array, t: Array) -> Array:
    """The score's value, which must have the shape of `x`: it would be broadcast otherwise."""
    value = score(x, t)
    shape = getattr(value, "shape", None)
    if shape != x.shape:
        given = type(value).__name__ if shape is None else shape
        raise ValueError(
            f"score must return an array of x's shape {x.shape}, got {given} for a batch x and a "
            "scalar t; wrap a score of single samples in jax.vmap(score, (0, None))"
        )
    return value


def drawn_losses(
    score: Score, x: Float[Array, "n *shape"], noise: Array, t: Array, process: Process
) -> Float[Array, " n"]:
    """Section 3.2's loss ``|s(x_t, t) + xi/sigma|^2`` of each sample, with its noise and one time.

    Implements: Section 3.2 (objective), by Monte Carlo; "The loss, noise integrated out".
    """
    spread = process.noise_variance(t)
    diffused = process.signal(t) * x + jnp.sqrt(spread) * noise
    wrong = evaluate(score, diffused, t) + noise / jnp.sqrt(spread)
    return jnp.sum(wrong**2, axis=tuple(range(1, x.ndim)))


@dataclass(frozen=True)
class _Code:
    """What of a score is not an array: hashable, so that `jit` compiles once for it."""

    tree: Any
    fixed: tuple[Any, ...]

    def __call__(self, arrays: list[Array], x: Array, t: Array) -> Array:
        given = iter(arrays)
        leaves = [next(given) if leaf is None else leaf for leaf in self.fixed]
        function, *owner = jax.tree.unflatten(self.tree, leaves)
        return function(*owner, x, t)


def as_pytree(score: Score) -> Score:
    """The score with its arrays, a method's owner included, as what `jit` traces.

    Raises:
        ValueError: what is no function.
    """
    if not callable(score):
        raise ValueError(
            f"score must be a function of (x, t), got {_checks.named(score)}; "
            "of an adapted model take its linear"
        )
    parts = (score.__func__, score.__self__) if inspect.ismethod(score) else (score,)
    leaves, tree = jax.tree.flatten(parts)
    is_array = [isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves]
    arrays = [leaf for leaf, yes in zip(leaves, is_array, strict=True) if yes]
    fixed = tuple(None if yes else leaf for leaf, yes in zip(leaves, is_array, strict=True))
    return jax.tree_util.Partial(_Code(tree, fixed), arrays)


class _Levels(NamedTuple):
    """Of a path at some times: both factors and their derivatives."""

    alpha: Array
    sigma: Array
    alpha_slope: Array
    sigma_slope: Array
    half: Array
    """``sigma sigma'``, finite where ``sigma'`` is not."""

    @property
    def turn(self) -> Array:
        """``alpha sigma' - alpha' sigma``, by which a velocity is solved for noise and image."""
        return self.alpha * self.sigma_slope - self.alpha_slope * self.sigma


# What the conversion divides by, and its formula.
_FORMULAS: dict[tuple[str, str], tuple[tuple[str, ...], Callable[..., Array]]] = {
    ("score", "noise"): ((), lambda s, _, l: -l.sigma * s),
    ("score", "clean"): (("alpha",), lambda s, x, l: (x + l.sigma**2 * s) / l.alpha),
    ("score", "velocity"): (
        ("alpha",),
        lambda s, x, l: l.alpha_slope / l.alpha * (x + l.sigma**2 * s) - l.half * s,
    ),
    ("noise", "score"): (("sigma",), lambda e, _, l: -e / l.sigma),
    ("noise", "clean"): (("alpha",), lambda e, x, l: (x - l.sigma * e) / l.alpha),
    ("noise", "velocity"): (
        ("alpha", "sigma_slope"),
        lambda e, x, l: l.alpha_slope / l.alpha * (x - l.sigma * e) + l.sigma_slope * e,
    ),
    ("clean", "score"): (("sigma",), lambda c, x, l: (l.alpha * c - x) / l.sigma**2),
    ("clean", "noise"): (("sigma",), lambda c, x, l: (x - l.alpha * c) / l.sigma),
    ("clean", "velocity"): (
        ("sigma",),
        lambda c, x, l: l.alpha_slope * c + l.sigma_slope / l.sigma * (x - l.alpha * c),
    ),
    ("velocity", "score"): (
        ("sigma", "turn"),
        lambda v, x, l: (l.alpha_slope * x - l.alpha * v) / (l.turn * l.sigma),
    ),
    ("velocity", "noise"): (("turn",), lambda v, x, l: (l.alpha * v - l.alpha_slope * x) / l.turn),
    ("velocity", "clean"): (("turn",), lambda v, x, l: (l.sigma_slope * x - l.sigma * v) / l.turn),
}


def convert(
    prediction: ArrayLike,
    x: ArrayLike,
    t: ArrayLike,
    *,
    given: str,
    wanted: str,
    process: Process = VP(),
) -> Float[Array, "*batch D"]:
    """One prediction at noised points from another; see the module for what they mean.

    ====================  =====================================================
    from the score        ``eps = -sigma s``
    ..                    ``x_0 = (x + sigma^2 s)/alpha`` (Tweedie)
    ..                    ``v = (alpha'/alpha)(x + sigma^2 s) - sigma sigma' s``
    from the noise        ``s = -eps/sigma``, ``x_0 = (x - sigma eps)/alpha``
    ..                    ``v = (alpha'/alpha)(x - sigma eps) + sigma' eps``
    from the clean image  ``s = (alpha x_0 - x)/sigma^2``
    ..                    ``eps = (x - alpha x_0)/sigma``
    ..                    ``v = alpha' x_0 + (sigma'/sigma)(x - alpha x_0)``
    from the velocity     ``eps = (alpha v - alpha' x)/w``, ``s = -eps/sigma``
    ..                    ``x_0 = (sigma' x - sigma v)/w``
    ====================  =====================================================

    with ``w = alpha sigma' - alpha' sigma``, which is one on `Flow` at all times: there a velocity
    gives noise and clean image at both ends. ``t`` may be 0 or the path's end where the formula
    divides by nothing that vanishes.

    Implements: "Any Gaussian path".

    Args:
        prediction: values of the shape of `x`.
        x: ``(..., D)`` noised points.
        t: one time, or times that fit the batch ``x.shape[:-1]``.
        given: what `prediction` is, one of ``"score"``, ``"noise"``, ``"clean"``, ``"velocity"``.
        wanted: what comes back, one of them.
        process: forward process.

    Returns:
        The other prediction; NaN for traced times out of range.

    Raises:
        ValueError: unknown words, shapes that do not fit, times out of range, or one at which the
            formula divides by zero.

    Example:
        >>> import jax.numpy as jnp, fsd_jax as fsd
        >>> x, clean = jnp.array([[1.0, 2.0]]), jnp.array([[0.5, 0.5]])
        >>> fsd.convert(clean, x, 0.5, given="clean", wanted="velocity", process=fsd.Flow())
        Array([[1., 3.]], dtype=float32)
    """
    _checks.choice("given", given, PREDICTIONS)
    _checks.choice("wanted", wanted, PREDICTIONS)
    check(process)
    points, _ = _checks.floating("x", x)
    dim = points.shape[-1] if points.ndim else 1
    points, times = _points.at_points("x", points, t, dim=dim, dtype=points.dtype, zero=True)
    values, _ = _checks.floating("prediction", prediction)
    if values.shape != points.shape:
        raise ValueError(
            f"prediction must have the shape of x, {points.shape}, got {tuple(values.shape)}"
        )
    values = values.astype(points.dtype)
    at = _levels(process, times if times.ndim == 0 else times[..., None])
    if given == wanted:
        return values
    divisors, formula = _FORMULAS[given, wanted]
    for name in divisors:
        number = getattr(at, name)
        if not _checks.is_traced(number):
            size = np.asarray(number)
            if not np.all(np.isfinite(size) & ((size != 0) | (name == "sigma_slope"))):
                raise ValueError(
                    f"t must be inside the path where the {wanted} is to follow from the {given}: "
                    f"there {_WORDS[name]}; got {_checks.named(t)}"
                )
    return formula(values, points, at)


_WORDS = {
    "alpha": "alpha_t is zero, and x says nothing of the clean image",
    "sigma": "sigma_t is zero, and x says nothing of the noise",
    "sigma_slope": "sigma_t has no finite slope",
    "turn": "alpha sigma' - alpha' sigma has no finite inverse",
}


def _levels(process: Process, t: Array) -> _Levels:
    # As arrays of the checked times: the public methods refuse what is out of range.
    alpha, noise = process.signal(t), process.noise_variance(t)
    alpha_slope, noise_slope = process._slopes(t)
    return _Levels(alpha, jnp.sqrt(noise), alpha_slope, process._spread_slope(t), noise_slope / 2)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True, repr=False)
class PredictedScore:
    """A network of any parametrisation as a score, for samplers and losses.

    Implements: "Any Gaussian path".

    Attributes:
        predict: ``predict(x, t)`` with the shape of ``x``, at one time.
        given: what it predicts: ``"score"``, ``"noise"``, ``"clean"`` or ``"velocity"``.
        process: forward process.

    Example:
        >>> import jax, fsd_jax as fsd
        >>> flow = fsd.Flow()  # of N(0, I): the best velocity is linear
        >>> velocity = lambda x, t: (2 * t - 1) / (t**2 + (1 - t) ** 2) * x
        >>> score = fsd.PredictedScore(predict=velocity, given="velocity", process=flow)
        >>> times = fsd.uniform_grid(1e-3, 0.999, 20)
        >>> fsd.sampler.sample(jax.random.key(0), score, times=times, n=3, shape=2).shape
        (3, 2)
    """

    predict: Score | Any
    given: str = field(metadata={"static": True})
    process: Process

    def __repr__(self) -> str:
        return f"PredictedScore({self.predict!r}, given={self.given!r}, {self.process!r})"

    def __call__(self, x: Float[Array, "*batch D"], t: ArrayLike) -> Float[Array, "*batch D"]:
        """The score at `x` for one time ``t > 0``.

        Raises:
            ValueError: a prediction of another shape, or what `convert` refuses.
        """
        return self.as_prediction("score", x, t)

    def as_prediction(self, wanted: str, x: ArrayLike, t: ArrayLike) -> Array:
        """Any of the four predictions at `x`.

        Raises:
            ValueError: a prediction of another shape, or what `convert` refuses.
        """
        points, _ = _checks.floating("x", x)
        check(self.process)
        value = evaluate(self.predict, points, t)  # type: ignore[arg-type]
        # Images have several axes; a time for each is refused by `convert`.
        flat = points.reshape((*points.shape[:1], math.prod(points.shape[1:])))
        found = convert(
            value.reshape(flat.shape), flat, t,
            given=self.given, wanted=wanted, process=self.process,
        )  # fmt: skip
        return found.reshape(points.shape)

    def denoise(self, x: ArrayLike, t: ArrayLike) -> Array:
        """The clean image that the prediction stands for."""
        return self.as_prediction("clean", x, t)
