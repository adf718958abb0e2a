"""Reverse-time sampling with any score: SDE and probability-flow ODE on any grid."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key

from fsd_jax import _checks, _points
from fsd_jax._process import Process
from fsd_jax._scores import Score, as_pytree, evaluate, process_of
from fsd_jax.sampler._grid import METHODS, Steps, check_stable, step_of, steps_of, tweedie
from fsd_jax.score._linear import LinearScore


def sample(
    key: Key[Array, ""],
    score: Score,
    *,
    times: ArrayLike,
    n: int | None = None,
    shape: int | tuple[int, ...] | None = None,
    method: str = "ei_sde",
    process: Process | None = None,
    initial: ArrayLike | None = None,
    denoise: bool = False,
    chunk: int | None = None,
    loop: str = "scan",
    progress: Callable[[int, int], None] | None = None,
) -> Float[Array, "n *shape"]:
    """Draw samples by running the forward process backwards from ``T`` to ``delta``.

    With ``h = B(t) - B(s)`` for a step from t to s and ``s_t`` the score at its start,

        ei_sde     Y' = e^(h/2) Y + 2 (e^(h/2) - 1) s_t + sqrt(e^h - 1) xi
        em_sde     Y' = Y + h (Y/2 + s_t) + sqrt(h) xi
        ei_ode     Y' = e^(h/2) Y + (e^(h/2) - 1) s_t
        heun_ode   Y' = Y + h/2 (f_t(Y) + f_s(Y + h f_t(Y))),   f_t(y) = (y + s_t(y))/2
        ddpm_sde   Y' = e^(h/2) Y + 2 sinh(h/2) s_t + sqrt((1 - e^-h) sigma_s^2/sigma_t^2) xi
        ddim_ode   Y' = e^(h/2) Y + sigma_t (e^(h/2) sigma_t - sigma_s) s_t

    The last two freeze the clean image, DDIM as well the noise: ``Y' = alpha_s x_0 + sigma_s eps``.
    On another path than `VP` these are the steps of ``Y/sqrt(alpha^2 + sigma^2)``, which is `VP` on
    the clock ``B = log(1 + sigma^2/alpha^2)``. ``"velocity_ode"`` and ``"velocity_heun_ode"``
    are Euler's and Heun's steps along the velocity in the path's own time: on `Flow` and `VE`
    Euler's is DDIM, and Heun's on `VE` is EDM's sampler.

    Sample i uses keys folded from its own index, so it depends neither on `n` nor on `chunk`; a key
    of another generator than threefry is turned into one of that, because only there this holds.
    Steps too long for the method are told, and refused where they diverge; samples that are not
    finite raise (within `jax.jit` or `jax.vmap` nothing is told, and they are NaN or infinite).

    Each chunk is jitted; a model's arrays are traced, so new weights do not compile anew, but a new
    function does. How far a grid's law is from the model's, `generated_law` tells for linear
    scores.

    Implements: Section 3.1's sampler (Appendix C.1's sign, the exponential integrator); R16.

    Args:
        key: random key.
        score: ``score(x, t)`` for ``x`` of shape ``(batch, *shape)`` and a scalar time: a
            `LinearScore`, a model's method or any traceable function.
        times: ``(K + 1,)`` increasing times from ``delta`` to ``T``: `geometric_grid`,
            `uniform_grid`, `paper_grid` or your own.
        n: number of samples; left out if `initial` is given.
        shape: shape of one sample; left out for a `LinearScore` or if `initial` is given.
        method: one of `METHODS`.
        process: forward process; None takes the score's own if it has one, else ``VP()``.
        initial: ``(n, *shape)`` samples at time ``T`` instead of centred noise, of variance one on
            `VP` and `Flow` and ``sigma_T^2`` else.
        denoise: replace the result by Tweedie's estimate of the clean sample behind it.
        chunk: samples that are worked on at once, which bounds memory; None is all.
        loop: ``"scan"`` is one compiled program; ``"host"`` calls one for each step, which a
            network with convolutions wants on a CPU: inside a loop XLA runs them 10 times slower.
        progress: called on the host with ``(samples done, n)`` after each chunk.

    Returns:
        ``(n, *shape)`` samples at time ``delta``, or clean ones with `denoise`.

    Raises:
        ValueError: options, sizes or times out of range, a grid too coarse to be stable, samples
            that are not finite.

    Warns:
        DataWarning: a grid so coarse that the law of the samples is off by half.

    Example:
        >>> import jax, fsd_jax as fsd
        >>> problem = fsd.LinearProblem.random(
        ...     jax.random.key(0), ambient_dim=40, latent_dim=8, latent_variance=1.0
        ... )
        >>> times = fsd.geometric_grid(1e-3, 10.0, 100)
        >>> fsd.sampler.sample(
        ...     jax.random.key(1), problem.target_score, times=times, n=5, shape=40
        ... ).shape
        (5, 40)
    """
    _checks.choice("method", method, METHODS)
    _checks.choice("loop", loop, tuple(LOOPS))
    denoise = _checks.boolean("denoise", denoise)
    _checks.callback("progress", progress)
    key = threefry(_checks.key("key", key))
    traced = as_pytree(score)
    start, n, shape = _start(score, initial, n, shape)
    # Scores of a model have its mean, and want samples of its dtype.
    own = getattr(score, "mean", None)
    like = own if isinstance(own, jax.Array) else jnp.zeros(())
    dtype = (like if start is None else start).dtype
    process = process_of(score, process)
    steps = steps_of(times, dtype, process)
    check_stable(times, method, dtype, process)
    chunk = n if chunk is None else min(_checks.dimension("chunk", chunk), n)
    run = partial(
        LOOPS[loop], score=traced, steps=steps, process=process, shape=shape,
        method=method, denoise=denoise, dtype=dtype,
    )  # fmt: skip
    parts = []
    for first in range(0, n, chunk):
        # The last chunk is padded, so that all share one compilation.
        index = first + jnp.arange(chunk)
        rows = None if start is None else start[jnp.minimum(index, n - 1)]
        parts.append(run(key, index, rows))
        if progress is not None:
            jax.block_until_ready(parts[-1])
            progress(min(first + chunk, n), n)
    drawn = jnp.concatenate(parts)[:n] if len(parts) > 1 else parts[0]
    finite = _points.all_finite(drawn)
    if not _checks.is_traced(finite) and not bool(finite):
        raise ValueError(
            "the samples are not finite: the score returned NaN or infinite values, or is so steep "
            "that these times are too coarse for it; look at score(x, t) and take more steps"
        )
    return drawn


def threefry(key: Key[Array, ""]) -> Key[Array, ""]:
    """A threefry key from a key of any generator, by all of its words; its own stays as it is.

    Under `vmap` other generators draw numbers that depend on the size of the batch.
    """
    words = jax.random.key_data(key)
    if str(jax.random.key_impl(key)) == "threefry2x32":
        return key
    found = jax.random.wrap_key_data(words[:2], impl="threefry2x32")
    for i in range(2, words.shape[0]):
        found = jax.random.fold_in(found, words[i])
    return found


def _chunk(
    key: Key[Array, ""],
    index: Int[Array, " rows"],
    initial: Float[Array, "rows *shape"] | None,
    *,
    score: Score,
    steps: Steps,
    process: Process,
    shape: tuple[int, ...],
    method: str,
    denoise: bool,
    dtype: Any,
    walk: Callable[..., Array],
) -> Float[Array, "rows *shape"]:
    keys, x = _begin(key, index, initial, steps.start[0], process, shape=shape, dtype=dtype)
    advance = partial(_advance, keys, score=score, process=process, method=method)
    x = walk(advance, x, steps)
    return _denoise(x, steps.stop[-1], score=score, process=process) if denoise else x


def _call_by_call(advance: Callable[..., Array], x: Array, steps: Steps) -> Array:
    for number in range(steps.size.shape[0]):
        step = jax.tree.map(lambda leaf, i=number: leaf[i], steps)
        x = advance(x, number + 1, step)
    return x


def _in_one_scan(advance: Callable[..., Array], x: Array, steps: Steps) -> Array:
    def body(x: Array, row: tuple[Array, Steps]) -> tuple[Array, None]:
        return advance(x, *row), None

    return jax.lax.scan(body, x, (1 + jnp.arange(steps.size.shape[0]), steps))[0]


_compiled = partial(jax.jit, static_argnames=("shape", "method", "denoise", "dtype", "walk"))(
    _chunk
)
LOOPS: dict[str, Callable[..., Array]] = {
    "scan": partial(_compiled, walk=_in_one_scan),
    "host": partial(_chunk, walk=_call_by_call),
}


def _begin(
    key: Key[Array, ""],
    index: Int[Array, " rows"],
    initial: Float[Array, "rows *shape"] | None,
    T: Float[Array, ""],
    process: Process,
    *,
    shape: tuple[int, ...],
    dtype: Any,
) -> tuple[Key[Array, " rows"], Float[Array, "rows *shape"]]:
    """A key for each sample, and where it starts."""
    keys = jax.vmap(partial(jax.random.fold_in, key))(index)
    if initial is not None:
        return keys, initial
    spread = jnp.sqrt(process.prior_variance(T)).astype(dtype)
    return keys, spread * normals(keys, 0, shape, dtype)


@partial(jax.jit, static_argnames=("method",))
def _advance(
    keys: Key[Array, " rows"],
    x: Float[Array, "rows *shape"],
    number: Array | int,
    step: Steps,
    *,
    score: Score,
    process: Process,
    method: str,
) -> Float[Array, "rows *shape"]:
    how, again = step_of(process, method, step)
    moved = how.keep * x + how.push * evaluate(score, x, step.start).astype(x.dtype)
    if again is not None:
        push = again.push * evaluate(score, moved, step.stop).astype(x.dtype)
        return again.keep * x + again.carry * moved + push
    if method.endswith("sde"):
        moved = moved + jnp.sqrt(how.noise) * normals(keys, number, x.shape[1:], x.dtype)
    return moved


@jax.jit
def _denoise(
    x: Float[Array, "rows *shape"], t: Array, *, score: Score, process: Process
) -> Float[Array, "rows *shape"]:
    how = tweedie(t, process)
    return how.keep * x + how.push * evaluate(score, x, t).astype(x.dtype)


def normals(
    keys: Key[Array, " rows"], number: Array | int, shape: tuple[int, ...], dtype: Any
) -> Float[Array, "rows *shape"]:
    """Standard normals, one sample for each key, from its stream of this number."""

    def one(key: Key[Array, ""]) -> Float[Array, "*shape"]:
        return jax.random.normal(jax.random.fold_in(key, number), shape, dtype)

    return jax.vmap(one)(keys)


def _start(
    score: Score,
    initial: ArrayLike | None,
    n: int | None,
    shape: int | tuple[int, ...] | None,
) -> tuple[Array | None, int, tuple[int, ...]]:
    """The samples at ``T`` if given, how many, and the shape of one."""
    if initial is not None:
        if n is not None or shape is not None:
            raise ValueError("initial fixes n and shape; leave both out, or leave initial out")
        start, _ = _checks.floating("initial", initial)
        if start.ndim < 2 or start.size == 0:
            raise ValueError(f"initial must have shape (n, ...), got {tuple(start.shape)}")
        _points.finite("initial", start)
        if isinstance(score, LinearScore) and start.shape[1:] != score.basis.shape[:1]:
            raise ValueError(
                f"initial must have shape (n, D = {score.basis.shape[0]}) for this score, "
                f"got {tuple(start.shape)}"
            )
        return start, start.shape[0], tuple(start.shape[1:])
    n = _checks.dimension("n", n)
    if shape is None and isinstance(score, LinearScore):
        shape = score.basis.shape[0]
    if shape is None:
        raise ValueError("shape must be given (of one sample, without n) unless initial is")
    sides = shape if isinstance(shape, tuple | list) else (shape,)
    sides = tuple(_checks.dimension("shape", side) for side in sides)
    if isinstance(score, LinearScore) and math.prod(sides) != score.basis.shape[0]:
        raise ValueError(f"shape must be D = {score.basis.shape[0]} for this score, got {shape!r}")
    return None, n, sides
