"""The rates of Theorem 4.3 as a sweep: one world and one pre-trained model a replicate."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key

from fsd_jax import _checks, _linalg
from fsd_jax._latent import GaussianMixture
from fsd_jax._linear_model import LinearProblem
from fsd_jax._process import VP
from fsd_jax.latent_net._descent import Recipe
from fsd_jax.latent_net._errors import NetError, net_score_error
from fsd_jax.latent_net._fit import finetune, pretrain
from fsd_jax.latent_net._relu import check_widths
from fsd_jax.simulate._inputs import draw_dtype
from fsd_jax.sweep import Plan, plan
from fsd_jax.sweep._plan import MOST_SIZE, axis, size, word

METHODS = {"fewshot": "rotation", "full": "everything", "scratch": "scratch", "decoder": "decoder"}
"""Names of the fine-tuning modes in results. ``"full"`` starts from what ``"fewshot"`` found."""
DTYPE = "float32"
METRICS = ("score_error", "on_support", "off_support")
NODES = 16
POINTS = 500
"""Clean samples on which an error is measured, and times to which each of them is diffused."""


def random_mixture(
    key: Key[Array, ""], latent_dim: int, components: int = 4, dtype: DTypeLike | None = None
) -> GaussianMixture:
    """The studies' latent: a few narrow Gaussians with random means, weights from 1 to 2.

    Means are standard normal and components have variance .1, so that the law is far from Gaussian
    at small times and the variances along its axes differ.

    Args:
        key: random key.
        latent_dim: ``d``.
        components: number of Gaussians.
        dtype: of the law; None is JAX's default.

    Returns:
        The law.

    Raises:
        ValueError: values out of range or of the wrong kind.
    """
    key, dtype = _checks.key("key", key), draw_dtype(dtype)
    latent_dim = _checks.dimension("latent_dim", latent_dim)
    components = _checks.dimension("components", components)
    weights = jnp.linspace(1.0, 2.0, components, dtype=dtype)
    eye = jnp.eye(latent_dim, dtype=dtype)
    return GaussianMixture(
        weights=weights / jnp.sum(weights),
        means=jax.random.normal(key, (components, latent_dim), dtype),
        bases=jnp.broadcast_to(eye, (components, latent_dim, latent_dim)),
        variances=jnp.full((components, latent_dim), 0.1, dtype),
    )


@dataclass(frozen=True, kw_only=True)
class Section4:
    """Blocks of replicates: pre-train on ``n_s`` samples, adapt to each ``n_ta``, measure.

    Every replicate has its own latent, subspaces, samples and training noise; the numbers of target
    samples are first parts of one sample, and errors are measured at the same points, so that
    methods and sizes are compared in pairs.
    """

    latent_dim: int
    ambient_dim: int
    most_source: int
    most_target: int
    methods: tuple[str, ...]
    metrics: tuple[str, ...]
    widths: tuple[int, ...]
    pretraining: Recipe
    finetuning: Recipe
    block: int

    def __call__(
        self, key: Key[Array, ""], n_s: Array, n_ta: Float[Array, " L"]
    ) -> Float[Array, "rows block"]:
        """All cells of a group: ``n_ta`` slowest, then methods, then metrics."""

        def replicate(key: Array) -> Float[Array, " rows"]:
            return self._replicate(key, n_s, n_ta)

        return jax.vmap(replicate)(jax.random.split(key, self.block)).T

    def _replicate(self, key: Array, n_s: Array, n_ta: Array) -> Float[Array, " rows"]:
        law, world, source, target, train, measure = jax.random.split(key, 6)
        latent = random_mixture(law, self.latent_dim, dtype=DTYPE)
        problem = LinearProblem.with_latent(world, latent, ambient_dim=self.ambient_dim)
        model = pretrain(
            train,
            problem.sample_source(source, self.most_source),
            latent_dim=self.latent_dim,
            count=n_s,
            widths=self.widths,
            recipe=self.pretraining,
        )
        samples = problem.sample_target(target, self.most_target)
        nodes, weights = VP().quadrature(self.finetuning.delta, self.finetuning.T, NODES)
        when = dict(times=nodes, weights=weights)

        def adapted(n: Array) -> Float[Array, "methods metrics"]:
            tune = partial(finetune, train, count=n, recipe=self.finetuning)
            few = tune(model, samples, mode="rotation")
            later = _linalg.after(samples, few.score.decoder)
            found = []
            for name in self.methods:
                start = few if name == "full" else model
                tuned = few if name == "fewshot" else tune(start, later, mode=METHODS[name])
                error = net_score_error(measure, tuned.score, problem, n=POINTS, **when)
                found.append(jnp.stack([_part(error, metric) for metric in self.metrics]))
            return jnp.stack(found)

        return jax.lax.map(adapted, n_ta).reshape(-1)


def _part(error: NetError, metric: str) -> Array:
    return error.value if metric == "score_error" else getattr(error, metric)


def plan_section4(
    *,
    n_ta: Sequence[int],
    n_s: Sequence[int],
    d: Sequence[int],
    D: int | None = None,
    method: Sequence[str] = ("fewshot", "scratch", "full"),
    metric: Sequence[str] = METRICS,
    replicates: int = 8,
    seed: int = 0,
    widths: Sequence[int] = (64, 64, 64),
    pretraining: Recipe = Recipe(),
    finetuning: Recipe = Recipe(),
    block: int = 4,
) -> Plan:
    """Plan a study of Section 4's rates; `sweep.run` does it, durably.

    The score error integrates over ``[delta, T]`` of the fine-tuning recipe. Run it with a
    `batch_size` of a few blocks, since a replicate takes seconds.

    Implements: Theorem 4.3 (measured); "Networks (Section 4)".

    Args:
        n_ta: numbers of target samples.
        n_s: numbers of source samples.
        d: latent dimensions; each is a compilation.
        D: ambient dimension, above every d; None is ``4 d``.
        method: ``"fewshot"`` (network frozen, closed-form subspace, trained rotation), ``"full"``
            (everything, from there), ``"scratch"``, ``"decoder"`` (network frozen, ``V`` by descent
            from the source's).
        metric: ``"score_error"`` and its parts ``"on_support"``, ``"off_support"``.
        replicates: independent worlds for each cell.
        seed: base seed.
        widths: hidden layers of the networks.
        pretraining: recipe for the source.
        finetuning: recipe for the target.
        block: replicates that train together.

    Returns:
        The plan.

    Raises:
        ValueError: values out of range.

    Example:
        >>> from fsd_jax import latent_net
        >>> plan = latent_net.plan_section4(n_ta=[4, 8], n_s=[100, 1000], d=[2])
        >>> len(plan.cells), plan.compilations
        (36, 1)
    """
    axes = _axes(dict(d=d, n_s=n_s, n_ta=n_ta), method, metric)
    ambient = None if D is None else _checks.dimension("D", D, low=max(axes["d"]))
    pretraining, finetuning = _recipe("pretraining", pretraining), _recipe("finetuning", finetuning)
    widths, block = check_widths(widths), _checks.dimension("block", block)

    def cell(point: dict[str, Any]) -> dict[str, Any]:
        sizes = {name: point[name] for name in ("n_s", "n_ta", "d")}
        return sizes | {"D": ambient or 4 * point["d"]} | point

    def make(*, d: int, n_s: int) -> tuple[Any, list[Any]]:
        program = Section4(
            latent_dim=d,
            ambient_dim=ambient or 4 * d,
            most_source=max(axes["n_s"]),
            most_target=max(axes["n_ta"]),
            methods=tuple(axes["method"]),
            metrics=tuple(axes["metric"]),
            widths=widths,
            pretraining=pretraining,
            finetuning=finetuning,
            block=block,
        )
        return program, [np.asarray(n_s, np.int32), np.asarray(axes["n_ta"], np.int32)]

    settings: dict[str, Any] = {"D": ambient, "widths": list(widths)}
    settings |= {"pretraining": asdict(pretraining), "finetuning": asdict(finetuning)}
    return plan(
        axes,
        make,
        rows=("n_ta", "method", "metric"),
        cell=cell,
        identity=lambda point: f"section4 {point['d']} {point['n_s']} {axes['n_ta']}",
        settings=settings,
        replicates=replicates,
        seed=seed,
        dtype=DTYPE,
    )


def _axes(sizes: dict[str, Any], method: Any, metric: Any) -> dict[str, Any]:
    """The axes in their final form."""
    axes: dict[str, Any] = {name: axis(name, v, size(MOST_SIZE)) for name, v in sizes.items()}
    axes["method"] = axis("method", method, word(tuple(METHODS)))
    axes["metric"] = axis("metric", metric, word(METRICS))
    fewest, most = min(axes["n_s"]), max(axes["d"])
    if fewest < most:
        raise ValueError(f"n_s must be at least d = {most}, got {fewest}")
    return axes


def _recipe(name: str, recipe: Recipe) -> Recipe:
    _checks.instance(name, recipe, Recipe)
    return recipe.check()
