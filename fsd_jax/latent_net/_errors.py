"""Score error of a network against the exact score of any latent, by Monte Carlo."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from fsd_jax import _checks, _linalg
from fsd_jax._linear_model import LinearProblem
from fsd_jax.latent_net._relu import NetScore


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class NetError:
    """``E || s - grad log q_t ||^2`` over times, with standard errors.

    Attributes:
        value: the error.
        stderr: its standard error.
        on_support: the part within the target's subspace.
        off_support: the part outside: where the decoder leaves the subspace.
    """

    value: Float[Array, ""]
    stderr: Float[Array, ""]
    on_support: Float[Array, ""]
    off_support: Float[Array, ""]


def net_score_error(
    key: Key[Array, ""],
    score: NetScore,
    problem: LinearProblem,
    *,
    times: ArrayLike,
    weights: ArrayLike | None = None,
    n: int = 1000,
) -> NetError:
    """The error that Theorem 4.3 bounds, at points of the diffused target.

    The truth is ``(A f*(A'y) - y)/v``, ``y = x - m_t mean``, ``v = m_t^2 tau^2 + sigma_t^2``, with
    ``f*(z) = z + v grad log q_t^LD(z)``. Without residual noise and mean both scores carry
    ``-x/sigma_t^2``, and the error is ``|V f(V'x) - A f*(A'x)|^2/sigma_t^4``, of which
    ``A'V f - f*`` is within the subspace. Every model measured with one key sees the same points,
    so that differences are paired.

    Implements: Theorem 4.3 (left-hand side), for targets with residual noise and a mean too;
    "Networks (Section 4)".

    Args:
        key: random key.
        score: the network score.
        problem: the truth.
        times: ``(K,)`` times, for example of ``VP.quadrature``.
        weights: ``(K,)`` weights, ``1/K`` each by default.
        n: clean samples, each of which is diffused to every time.

    Returns:
        The error, its standard error over samples, and its two parts.

    Raises:
        ValueError: values out of range, arguments of the wrong kind, or a decoder of another ``D``.

    Example:
        >>> import jax, fsd_jax as fsd
        >>> from fsd_jax import latent_net
        >>> world = fsd.LinearProblem.random(
        ...     jax.random.key(0), ambient_dim=6, latent_dim=2, latent_variance=1.0
        ... )
        >>> net = latent_net.ReLUNet.create(jax.random.key(1), latent_dim=2)
        >>> exact = latent_net.NetScore(decoder=world.A_ta, net=net)  # starts Gaussian
        >>> found = latent_net.net_score_error(jax.random.key(2), exact, world, times=[1.0])
        >>> bool(found.value < 1e-9)
        True
    """
    key = _checks.key("key", key)
    _checks.instance("score", score, NetScore, "fsd_jax.score_error takes linear scores")
    _checks.instance("problem", problem, LinearProblem)
    dtype = score.decoder.dtype
    t, w, _ = _checks.times_and_weights(None, times, weights, dtype)
    score.net.process.admit(times=times)
    if score.decoder.shape[0] != problem.A_ta.shape[0]:
        raise ValueError(
            f"score and problem must have the same D, got {score.decoder.shape[0]} "
            f"and {problem.A_ta.shape[0]}"
        )
    return _error(key, score, problem, jnp.asarray(t), jnp.asarray(w), n=_checks.dimension("n", n))


@partial(jax.jit, static_argnames=("n",))
def _error(
    key: Key[Array, ""],
    score: NetScore,
    problem: LinearProblem,
    times: Float[Array, " K"],
    weights: Float[Array, " K"],
    *,
    n: int,
) -> NetError:
    A, process, tau2 = problem.A_ta, score.net.process, problem.residual_variance
    latent, noise = jax.random.split(key)
    z = problem.latent.sample(latent, n)
    overlap = _linalg.matmul(A.T, score.decoder)
    # Where V spans the subspace this is zero, and nothing cancels.
    outside = score.decoder - _linalg.matmul(A, overlap)
    mean_within = _linalg.matmul(problem.mean_ta, A)
    mean_outside = problem.mean_ta - _linalg.matmul(A, mean_within)

    def at(
        carry: tuple[Array, Array], item: tuple[Array, Array, Array]
    ) -> tuple[tuple[Array, Array], None]:
        number, t, w = item
        xi = jax.random.normal(jax.random.fold_in(noise, number), (n, A.shape[0]), A.dtype)
        signal, s2 = process.signal(t), process.noise_variance(t)
        v = signal**2 * tau2 + s2
        # 1/s2 - 1/v: the truth's residual noise, which the network knows nothing of.
        excess = signal**2 * tau2 / (s2 * v)
        within = _linalg.matmul(xi, A)
        inside = signal * z + jnp.sqrt(v) * within
        x = signal * problem.mean_ta + jnp.sqrt(v) * xi
        seen = signal * _linalg.matmul(z, overlap) + _linalg.matmul(x, score.decoder)
        exact = inside / v + problem.latent.score_at(inside, signal, v)
        f = score.net(seen, t) / s2
        on = _linalg.matmul(f, overlap.T) - exact - excess * inside - signal / s2 * mean_within
        off = _linalg.matmul(f, outside.T) - signal / s2 * mean_outside
        off = off - excess * jnp.sqrt(v) * (xi - _linalg.matmul(within, A.T))
        on, off = jnp.sum(on**2, axis=1), jnp.sum(off**2, axis=1)
        return (carry[0] + w * on, carry[1] + w * off), None

    numbers = jnp.arange(times.shape[0])
    (on, off), _ = jax.lax.scan(
        at, (jnp.zeros(n, A.dtype), jnp.zeros(n, A.dtype)), (numbers, times, weights)
    )
    total = on + off
    return NetError(
        value=jnp.mean(total),
        stderr=jnp.std(total, ddof=1) / jnp.sqrt(n),
        on_support=jnp.mean(on),
        off_support=jnp.mean(off),
    )
