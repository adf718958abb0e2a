"""Score error of a network against the exact score of any latent, by Monte Carlo."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from fsd_jax import _checks, _linalg
from fsd_jax.latent_net.relu import NetScore
from fsd_jax.linear_model import LinearProblem


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

    Both scores carry ``-x/sigma_t^2``, so with ``f* = z + sigma_t^2 grad log q_t^LD(z)`` the error
    is ``|V f(V'x) - A f*(A'x)|^2/sigma_t^4``, of which ``A'V f - f*`` is within the subspace. Every
    model measured with one key sees the same points, so that differences are paired.

    Implements: Theorem 4.3 (left-hand side), for targets without residual noise or mean.

    Args:
        key: random key.
        score: the network score.
        problem: the truth.
        times: ``(K,)`` times, for example of `VP.quadrature`.
        weights: ``(K,)`` weights, ``1/K`` each by default.
        n: clean samples, each of which is diffused to every time.

    Returns:
        The error, its standard error over samples, and its two parts.

    Raises:
        ValueError: values out of range, or a decoder of another ``D``.

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
    dtype = score.decoder.dtype
    t, w, _ = _checks.times_and_weights(None, times, weights, dtype)
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
    A, process = problem.A_ta, score.net.process
    latent, noise = jax.random.split(key)
    z = problem.latent.sample(latent, n)
    overlap = _linalg.matmul(A.T, score.decoder)
    # |V f|^2 - |A'V f|^2 = |(V - AA'V) f|^2, which does not cancel where V spans the subspace.
    outside = score.decoder - _linalg.matmul(A, overlap)
    outside = _linalg.matmul(outside.T, outside)

    def at(
        carry: tuple[Array, Array], item: tuple[Array, Array, Array]
    ) -> tuple[tuple[Array, Array], None]:
        number, t, w = item
        xi = jax.random.normal(jax.random.fold_in(noise, number), (n, A.shape[0]), A.dtype)
        signal, s2 = process.signal(t), process.noise_variance(t)
        inside = signal * z + jnp.sqrt(s2) * _linalg.matmul(xi, A)
        seen = signal * _linalg.matmul(z, overlap) + jnp.sqrt(s2) * _linalg.matmul(
            xi, score.decoder
        )
        exact = inside + s2 * problem.latent.score(inside, t, process)
        f = score.net(seen, t)
        projected = _linalg.matmul(f, overlap.T)
        on = jnp.sum((projected - exact) ** 2, axis=1)
        off = jnp.sum(f * _linalg.matmul(f, outside), axis=1)
        return (carry[0] + w * on / s2**2, carry[1] + w * off / s2**2), None

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
