"""Replicates with residual noise or a diagonal latent: samples drawn in reduced coordinates.

Noise outside the subspace enters a thin fit only through the inner products of the samples. So its
``n x (D - d)`` block is replaced by the triangular factor of its LQ decomposition, whose law is
known; what remains has ``d + min(n, D - d)`` columns whatever ``D`` is. From n = D on the scatter
itself is drawn. The fit and the errors are those of the rest of the library.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from fsd_jax import _checks, _linalg
from fsd_jax.latent import GaussianLatent
from fsd_jax.linear_model import LinearProblem, ThinGaussian
from fsd_jax.minimizer.closed_form import Minimizer, orthonormal_minimizer, rank_minimizer
from fsd_jax.moments import SecondMoment
from fsd_jax.process import VP
from fsd_jax.score.errors import divergence_excess, gaussian_kl, score_error, subspace_error
from fsd_jax.score.linear import LinearScore
from fsd_jax.simulate.chi_square import centred_chi_square
from fsd_jax.simulate.replicate import METHODS, METRICS, Errors
from fsd_jax.simulate.spectra import bartlett_factor

SAMPLED_BLOCK = 64
"""Replicates of one block; part of what a key means."""
MOST_SOURCE = 1024
"""Largest D for which the source's spectrum is drawn: its scatter is a ``D x D`` matrix."""


def reduced_samples(
    key: Key[Array, ""],
    n: Float[Array, ""],
    *,
    rows: int,
    ambient_dim: int,
    latent_variance: Float[Array, " d"],
    residual_variance: Float[Array, ""],
) -> Float[Array, "rows k"]:
    """Samples ``A z + tau xi`` up to a rotation that fixes the subspace, which is the first d axes.

    Their second moment, ``x'x/n``, has the law of n samples in ``k = min(d + rows, D)`` of the D
    dimensions; the data do not reach the others.

    Implements: R13 (with noise).

    Args:
        key: random key.
        n: number of samples, at most `rows` unless ``rows == D``; may be traced.
        rows: static number of rows: n padded, or ``D`` for any ``n >= D``.
        ambient_dim: ``D``.
        latent_variance: ``(d,)``.
        residual_variance: ``tau^2``.

    Returns:
        ``(rows, k)``, rows from n on zero; for ``rows == D`` a triangular matrix, scaled so that
        its rows count as D samples.
    """
    d = len(latent_variance)
    inside = jnp.sqrt(latent_variance + residual_variance)
    if rows == ambient_dim:
        scale = jnp.concatenate(
            [inside, jnp.full(ambient_dim - d, 1.0, inside.dtype) * jnp.sqrt(residual_variance)]
        )
        return bartlett_factor(key, n, ambient_dim) * scale * jnp.sqrt(ambient_dim / n)
    columns = min(rows, ambient_dim - d)
    latent, below, diagonal = jax.random.split(key, 3)
    z = jax.random.normal(latent, (rows, d), inside.dtype) * inside
    noise = jnp.tril(jax.random.normal(below, (rows, columns), inside.dtype), -1)
    freedom = ambient_dim - d - jnp.arange(columns, dtype=inside.dtype)
    squares = freedom + centred_chi_square(diagonal, freedom, 1)[:, 0]
    noise = noise.at[jnp.arange(columns), jnp.arange(columns)].set(jnp.sqrt(squares))
    x = jnp.concatenate([z, noise * jnp.sqrt(residual_variance)], axis=1)
    return jnp.where(jnp.arange(rows)[:, None] < n, x, 0)


def sampled_errors(
    key: Key[Array, ""],
    n_ta: Float[Array, ""],
    n_s: Float[Array, ""],
    times: Float[Array, " K"],
    latent_variance: Float[Array, "K d"],
    residual_variance: Float[Array, ""],
    *,
    rows: int,
    ambient_dim: int,
    perfect_source: bool,
    isotropic: bool = True,
    methods: Sequence[str] = METHODS,
    metrics: Sequence[str] = METRICS,
    process: VP = VP(),
) -> Errors:
    """All errors of `SAMPLED_BLOCK` replicates from one set of draws, for use inside `jit`.

    The frozen ``f`` uses the source's eigenvalues ``c_k`` (R12). The methods are those of
    `simulate.errors`; with residual noise ``"orthonormal"`` has the source's residual gain, and
    ``"rank"`` and ``"integrated"``, the paper's class, have none.

    Args:
        key: random key.
        n_ta: number of target samples, may be traced.
        n_s: number of source samples, may be traced.
        times: ``(K,)`` values of ``t`` paired with
        latent_variance: ``(K, d)`` variances of the latent.
        residual_variance: ``tau^2``.
        rows: see `reduced_samples`.
        ambient_dim: ``D``.
        perfect_source: use the population's ``c_k`` and ``tau^2`` instead of a source sample.
        isotropic: pre-training fits one variance for all directions, as
            ``pretrain(isotropic=True)`` does; otherwise each has its own.
        methods: estimators.
        metrics: what to measure.
        process: forward process.

    Returns:
        ``(K, SAMPLED_BLOCK)`` errors by method and metric.

    Raises:
        ValueError: a sampled source with ``D`` above `MOST_SOURCE`.
    """
    if not perfect_source and ambient_dim > MOST_SOURCE:
        raise ValueError(
            f"with residual noise a source sample is drawn as a D x D matrix, and D = {ambient_dim}"
            f" exceeds {MOST_SOURCE}; leave n_s out (a perfect source) or lower D"
        )
    pairs = [(method, metric) for method in methods for metric in metrics]

    def replicate(index: Array) -> Float[Array, "pairs K"]:
        target, source = jax.random.split(jax.random.fold_in(key, index))

        def at(t: Array, variance: Array) -> Float[Array, " pairs"]:
            draw = partial(
                reduced_samples, ambient_dim=ambient_dim, latent_variance=variance,
                residual_variance=residual_variance,
            )  # fmt: skip
            c, tau2 = variance + residual_variance, residual_variance
            if not perfect_source:
                c, tau2 = _source(draw(source, n_s, rows=ambient_dim), len(variance))
            if isotropic:
                c = jnp.full_like(c, jnp.mean(c))
            x = draw(target, n_ta, rows=rows)
            truth = _World.of(x.shape[1], ambient_dim, variance, residual_variance, t, process)
            fits = {method: _fit(method, x, n_ta, c, t, process) for method in methods}
            return jnp.stack([truth.measure(*pair, fits[pair[0]], c, tau2) for pair in pairs])

        return jax.lax.map(lambda pair: at(*pair), (times, latent_variance)).T

    found = jax.lax.map(replicate, jnp.arange(SAMPLED_BLOCK))
    return {pair: found[:, i].T for i, pair in enumerate(pairs)}


def _source(factor: Float[Array, "D D"], d: int) -> tuple[Float[Array, " d"], Float[Array, ""]]:
    """Pre-training's exact minimiser (R12): the top eigenvalues, and the mean of the others."""
    values = _linalg.eigh_descending(_linalg.matmul(factor.T, factor) / len(factor))[0]
    rest = len(factor) - d
    return values[:d], jnp.sum(values[d:]) / max(rest, 1)


def _fit(
    method: str,
    x: Float[Array, "rows k"],
    n: Float[Array, ""],
    c: Float[Array, " d"],
    t: Float[Array, ""],
    process: VP,
) -> Minimizer:
    full = x.shape[0] == x.shape[1]
    mask = None if full else jnp.arange(len(x)) < n
    moment = SecondMoment.from_samples(
        x, rank=min(len(c) + 1, *x.shape), mask=mask, route="svd", throw=False
    )
    return _minimize(method, moment, c, t, process)


def _minimize(
    method: str, moment: SecondMoment, c: Float[Array, " d"], t: Float[Array, ""], process: VP
) -> Minimizer:
    if method == "orthonormal":
        return orthonormal_minimizer(moment, latent_dim=len(c), throw=False)
    solve = partial(
        rank_minimizer, moment, latent_variance=jnp.mean(c), latent_dim=len(c), process=process,
        throw=False,
    )  # fmt: skip
    if method == "rank":
        return solve(time=t)
    times, weights = process.quadrature()
    return solve(times=times, weights=weights)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _World:
    """The truth in reduced coordinates, and the dimensions that the data do not reach."""

    problem: LinearProblem
    beyond: int
    t: Float[Array, ""]
    process: VP

    @classmethod
    def of(
        cls,
        k: int,
        ambient_dim: int,
        variance: Float[Array, " d"],
        residual: Float[Array, ""],
        t: Float[Array, ""],
        process: VP,
    ) -> "_World":
        axes, centre = jnp.eye(k, len(variance), dtype=variance.dtype), jnp.zeros(k, variance.dtype)
        problem = LinearProblem(
            A_s=axes, A_ta=axes, latent=GaussianLatent(variance=variance),
            residual_variance=residual, mean_s=centre, mean_ta=centre,
        )  # fmt: skip
        return cls(problem=problem, beyond=ambient_dim - k, t=t, process=process)

    def measure(
        self, method: str, metric: str, found: Minimizer, c: Array, tau2: Array
    ) -> Float[Array, ""]:
        if metric == "subspace_error":
            return subspace_error(found.decoder, self.problem.A_ta)
        score = self._score(method, found, c, tau2)
        if metric == "kl":
            return self._kl(method, score)
        error = self._score_error(score)
        if metric == "score_error":
            return error
        # The same f with the decoder that the population would give.
        variance = self.problem.target_law.variance
        exact = SecondMoment.from_covariance(jnp.diag(variance), throw=False)
        exact = dataclasses.replace(exact, basis=_linalg.matmul(self.problem.A_ta, exact.basis))
        best = _minimize(method, exact, c, self.t, self.process)
        return error - self._score_error(self._score(method, best, c, tau2))

    def _score(self, method: str, found: Minimizer, c: Array, tau2: Array) -> LinearScore:
        orthonormal = method == "orthonormal"
        return LinearScore.from_minimizer(
            found,
            latent_variance=c if orthonormal else jnp.full_like(c, jnp.mean(c)),
            residual_variance=tau2 if orthonormal else 0.0,
            process=self.process,
        )

    def _score_error(self, score: LinearScore) -> Float[Array, ""]:
        law = self.problem.target_law.diffuse(self.t, self.process)
        q = score.core(self.t)[1]
        r = law.residual_variance
        return score_error(score, self.problem, time=self.t) + self.beyond * (q + 1 / r) ** 2 * r

    def _kl(self, method: str, score: LinearScore) -> Float[Array, ""]:
        if method == "integrated":
            return jnp.full((), jnp.nan, self.t.dtype)
        law = self.problem.target_law.diffuse(self.t, self.process)
        noise = self.process.noise_variance(self.t)
        shrink = jnp.diag(score.mixing) ** 2 * score.gains(self.t)
        residual = noise / (1 - score.residual_gain(self.t))
        model = ThinGaussian(
            mean=law.mean, basis=score.basis,
            variance=jnp.where(shrink > 0, noise / (1 - shrink), residual),
            residual_variance=residual,
        )  # fmt: skip
        ratio = law.residual_variance / residual
        return gaussian_kl(law, model) + 0.5 * self.beyond * divergence_excess(ratio)


def padded_rows(n_ta: int, ambient_dim: int) -> int:
    """Static rows for `reduced_samples`: a power of two, so that nearby n share a compilation.

    Raises:
        ValueError: more than a machine's memory would hold.
    """
    rows = 1 << (_checks.dimension("n_ta", n_ta) - 1).bit_length()
    return min(rows, ambient_dim)
