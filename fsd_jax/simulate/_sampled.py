"""Replicates with residual noise or a diagonal latent: samples drawn in reduced coordinates.

The fit and the errors are those of the rest of the library, and so are the digits that they keep.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from fsd_jax import _checks, _linalg, _process
from fsd_jax._latent import GaussianLatent
from fsd_jax._linear_model import LinearProblem, ThinGaussian
from fsd_jax._moments import SecondMoment
from fsd_jax._process import VP, Process
from fsd_jax.minimizer._closed_form import Minimizer, orthonormal_minimizer, rank_minimizer
from fsd_jax.score._errors import score_error, subspace_error
from fsd_jax.score._laws import divergence_excess, gaussian_kl
from fsd_jax.score._linear import LinearScore
from fsd_jax.simulate._chi_square import stable_key
from fsd_jax.simulate._inputs import (
    METHODS,
    METRICS,
    Errors,
    size,
    times_and_variances,
    words,
)
from fsd_jax.simulate._reduced import reduced, residual

SAMPLED_BLOCK = 64
"""Replicates of one block; part of what a key means."""
MOST_SOURCE = 1024
"""Largest D for which the source's spectrum is drawn: its scatter is a ``D x D`` matrix."""


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
    process: Process = VP(),
) -> Errors:
    """All errors of `SAMPLED_BLOCK` replicates from one set of draws, for use inside `jit`.

    The frozen ``f`` uses the source's eigenvalues ``c_k`` (R12). The methods are those of
    `simulate.errors`; with residual noise ``"orthonormal"`` has the source's residual gain, and
    ``"rank"`` and ``"integrated"``, the paper's class, have none.

    Implements: R13.

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
        ValueError: a sampled source with ``D`` above `MOST_SOURCE`; arguments of the wrong kind or
            shape, unknown words, or dimensions that do not fit.
    """
    key = stable_key(_checks.key("key", key))
    perfect_source = _checks.boolean("perfect_source", perfect_source)
    isotropic = _checks.boolean("isotropic", isotropic)
    _process.check(process, times=times)
    times, variances = times_and_variances(times, latent_variance, ndim=2)
    ambient_dim = _checks.dimension("ambient_dim", ambient_dim, low=variances.shape[1])
    rows = _checks.dimension("rows", rows, high=ambient_dim, top=" = D")
    n_ta = size("n_ta", n_ta, times.dtype)
    n_s = size("n_s", n_s, times.dtype, infinite=True)
    tau2 = residual(residual_variance, times.dtype)
    # The source's eigenvalues and the target's come in descending order, so the truth's must too:
    # the k-th gain belongs to the k-th direction.
    variances = -jnp.sort(-variances, axis=1)
    if not perfect_source and ambient_dim > MOST_SOURCE:
        raise ValueError(
            f"with residual noise a source sample is drawn as a D x D matrix, and D = {ambient_dim}"
            f" exceeds {MOST_SOURCE}; leave n_s out (a perfect source) or lower D"
        )
    pairs = words(methods, metrics)
    found = _sampled(
        key,
        n_ta,
        n_s,
        times,
        variances,
        tau2,
        rows=rows,
        ambient_dim=ambient_dim,
        perfect_source=perfect_source,
        isotropic=isotropic,
        pairs=pairs,
        process=process,
    )
    return dict(zip(pairs, found, strict=True))


@partial(
    jax.jit,
    static_argnames=(
        "rows",
        "ambient_dim",
        "perfect_source",
        "isotropic",
        "pairs",
        "process",
    ),
)
def _sampled(
    key: Key[Array, ""],
    n_ta: Float[Array, ""],
    n_s: Float[Array, ""],
    times: Float[Array, " K"],
    variances: Float[Array, "K d"],
    tau2: Float[Array, ""],
    *,
    rows: int,
    ambient_dim: int,
    perfect_source: bool,
    isotropic: bool,
    pairs: tuple[tuple[str, str], ...],
    process: Process,
) -> list[Float[Array, "K replicates"]]:
    methods = dict.fromkeys(method for method, _ in pairs)

    def replicate(index: Array) -> Float[Array, "pairs K"]:
        target, source = jax.random.split(jax.random.fold_in(key, index))

        def at(t: Array, variance: Array) -> Float[Array, " pairs"]:
            sample = partial(reduced, ambient_dim=ambient_dim, variance=variance, tau2=tau2)
            c, rest = variance + tau2, tau2
            if not perfect_source:
                c, rest = _source(sample(source, n_s, rows=ambient_dim), len(variance))
            if isotropic:
                c = jnp.full_like(c, jnp.mean(c))
            x = sample(target, n_ta, rows=rows)
            truth = _World.of(x.shape[1], ambient_dim, variance, tau2, t, process)
            moment = _moment(x, n_ta, len(variance))
            fits = {
                method: (_minimize(method, moment, c, t, process), moment) for method in methods
            }
            return jnp.stack([truth.measure(*pair, *fits[pair[0]], c, rest) for pair in pairs])

        return jax.lax.map(lambda pair: at(*pair), (times, variances)).T

    found = jax.lax.map(replicate, jnp.arange(SAMPLED_BLOCK))
    return [found[:, i].T for i in range(len(pairs))]


def _source(factor: Float[Array, "D D"], d: int) -> tuple[Float[Array, " d"], Float[Array, ""]]:
    """Pre-training's exact minimiser (R12): the top eigenvalues, and the mean of the others."""
    values = _linalg.eigh_descending(_linalg.matmul(factor.T, factor) / len(factor))[0]
    rest = len(factor) - d
    return values[:d], jnp.sum(values[d:]) / max(rest, 1)


def _moment(x: Float[Array, "rows k"], n: Float[Array, ""], d: int) -> SecondMoment:
    full = x.shape[0] == x.shape[1]
    mask = None if full else jnp.arange(len(x), dtype=n.dtype) < n
    return SecondMoment.from_samples(
        x, rank=min(d + 1, *x.shape), mask=mask, route="svd", throw=False
    )


def _minimize(
    method: str, moment: SecondMoment, c: Float[Array, " d"], t: Float[Array, ""], process: Process
) -> Minimizer:
    if method == "orthonormal":
        return orthonormal_minimizer(moment, latent_dim=len(c), throw=False)
    solve = partial(
        rank_minimizer,
        moment,
        latent_variance=jnp.mean(c),
        latent_dim=len(c),
        process=process,
        throw=False,
    )
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
    process: Process

    @classmethod
    def of(
        cls,
        k: int,
        ambient_dim: int,
        variance: Float[Array, " d"],
        residual: Float[Array, ""],
        t: Float[Array, ""],
        process: Process,
    ) -> "_World":
        axes, centre = jnp.eye(k, len(variance), dtype=variance.dtype), jnp.zeros(k, variance.dtype)
        problem = LinearProblem(
            A_s=axes,
            A_ta=axes,
            latent=GaussianLatent(variance=variance),
            residual_variance=residual,
            mean_s=centre,
            mean_ta=centre,
        )
        return cls(problem=problem, beyond=ambient_dim - k, t=t, process=process)

    def measure(
        self,
        method: str,
        metric: str,
        found: Minimizer,
        moment: SecondMoment,
        c: Array,
        tau2: Array,
    ) -> Float[Array, ""]:
        if metric == "subspace_error":
            return subspace_error(found.decoder, self.problem.A_ta)
        if metric == "kl":
            return self._kl(method, found, moment, c, tau2)
        score = self._score(method, found, c, tau2)
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

    def _kl(
        self, method: str, found: Minimizer, moment: SecondMoment, c: Array, tau2: Array
    ) -> Float[Array, ""]:
        """The model's variances are written down: from its gains, near one, they would cancel."""
        if method == "integrated":
            return jnp.full((), jnp.nan, self.t.dtype)
        law = self.problem.target_law.diffuse(self.t, self.process)
        signal, noise = self.process.signal_variance(self.t), self.process.noise_variance(self.t)
        residual, variance = noise + signal * tau2, noise + signal * c
        if method == "rank":
            # The plug-in for the directions that are kept, whatever the frozen f says (R1).
            d = len(c)
            kept = jnp.pad(moment.values[:d], (0, max(0, d - len(moment.values))))
            residual, variance = noise, noise + signal * kept
        alive = jnp.sum(found.basis**2, axis=0) > 0.5
        model = ThinGaussian(
            mean=law.mean,
            basis=found.basis,
            variance=jnp.where(alive, variance, residual),
            residual_variance=residual,
        )
        ratio = law.residual_variance / residual
        return gaussian_kl(law, model) + 0.5 * self.beyond * divergence_excess(ratio)


def padded_rows(n_ta: int, ambient_dim: int) -> int:
    """Static rows for `reduced_samples`: a power of two, so that nearby n share a compilation.

    Raises:
        ValueError: sizes below one.
    """
    rows = 1 << (_checks.dimension("n_ta", n_ta) - 1).bit_length()
    return min(rows, _checks.dimension("ambient_dim", ambient_dim))
