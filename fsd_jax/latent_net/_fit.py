"""Pre-training a network score on the source, and four ways to tune it on the target."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key

from fsd_jax import _checks, _linalg, _process
from fsd_jax._checks import Status
from fsd_jax._moments import SecondMoment
from fsd_jax._process import VP, Process
from fsd_jax.fewshot.fit import complete
from fsd_jax.latent_net._descent import (
    Assemble,
    Descent,
    Parameters,
    Recipe,
    Rows,
    check_memory,
    descend,
)
from fsd_jax.latent_net._relu import (
    FORMS,
    NetScore,
    ReLUNet,
    check_output_bound,
    check_widths,
)
from fsd_jax.latent_net._rotation import STARTS, search_rotation
from fsd_jax.minimizer._closed_form import orthonormal_minimizer

MODES = ("decoder", "rotation", "everything", "scratch")


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True, repr=False)
class NetModel:
    """A trained score and how training went.

    Attributes:
        score: the score, with its decoder and network.
        latent_moment: ``(d, d)`` second moment of ``V'x`` over the source.
        training: ``(checks,)`` mean losses since the check before.
        validation: ``(checks,)`` losses on held-out samples.
        best_step: step whose parameters were kept.
        diverged_at: first step whose loss is not finite, -1 when there is none.
        status: `Status` flags; `Status.NOT_CONVERGED` when training diverged, in which case the
            last good parameters are kept.
    """

    score: NetScore
    latent_moment: Float[Array, "d d"]
    training: Float[Array, " checks"]
    validation: Float[Array, " checks"]
    best_step: Int[Array, ""]
    diverged_at: Int[Array, ""]
    status: Int[Array, ""]

    def __repr__(self) -> str:
        ambient, d = self.score.decoder.shape[-2:]
        facts = [f"D={ambient}", f"d={d}"]
        if not self.diverged_at.ndim and not _checks.is_traced(self.diverged_at):
            facts.append(f"best_step={int(self.best_step)}")
            if int(self.diverged_at) >= 0:
                facts.append(f"diverged_at={int(self.diverged_at)}")
        return _checks.one_line("NetModel", self.status.shape, *facts, status=self.status)


def pretrain(
    key: Key[Array, ""],
    x_source: ArrayLike,
    *,
    latent_dim: int,
    count: ArrayLike | None = None,
    widths: tuple[int, ...] = (64, 64, 64),
    form: str = "preconditioned",
    output_bound: float | None = None,
    recipe: Recipe = Recipe(),
    process: Process = VP(),
) -> NetModel:
    """Train decoder and network together on the source.

    The decoder starts at the top d eigenvectors, its exact minimiser for a Gaussian latent, and
    stays on the Stiefel manifold by a polar retraction.

    Implements: Section 3.2 (pre-training in ``S_NN``); "Networks (Section 4)".

    Args:
        key: random key.
        x_source: ``(n_s, D)`` samples.
        latent_dim: ``d``.
        count: how many of the rows are real, the first ones; None is all. May be traced.
        widths: hidden layers' widths.
        form: see `ReLUNet`.
        output_bound: see `ReLUNet`.
        recipe: how to train.
        process: forward process.

    Returns:
        The model; ``vmap`` over keys, samples and counts trains an ensemble.

    Raises:
        ValueError: bad samples or options, or a network that does not fit into memory.

    Example:
        >>> import jax, fsd_jax as fsd
        >>> from fsd_jax import latent_net
        >>> latent = fsd.GaussianMixture.create([0.5, 0.5], [[-2.0], [2.0]], [0.1, 0.1])
        >>> problem = fsd.LinearProblem.with_latent(jax.random.key(0), latent, ambient_dim=5)
        >>> x = problem.sample_source(jax.random.key(1), 200)
        >>> recipe = latent_net.Recipe(steps=20, checks=4)
        >>> latent_net.pretrain(jax.random.key(2), x, latent_dim=1, recipe=recipe).training.shape
        (4,)
    """
    key, recipe = _checks.key("key", key), _recipe(recipe)
    _checks.choice("form", form, FORMS)
    _process.check(process, **{"recipe.T": recipe.T})
    rows = _rows("x_source", x_source, count)
    d = _checks.dimension(
        "latent_dim", latent_dim, high=min(rows.samples.shape), top=" = min(n_s, D)"
    )
    widths = check_widths(widths)
    check_memory(d, widths, recipe, members=1)
    return _pretrain(
        key, rows, process, d=d, widths=widths, form=form,
        output_bound=check_output_bound(output_bound), recipe=recipe,
    )  # fmt: skip


@partial(jax.jit, static_argnames=("process", "d", "widths", "form", "output_bound", "recipe"))
def _pretrain(
    key: Key[Array, ""], rows: Rows, process: Process, *, d: int, widths: tuple[int, ...],
    form: str, output_bound: float | None, recipe: Recipe,
) -> NetModel:  # fmt: skip
    moment = _moment(rows, d)
    basis, variance = moment.basis[:, :d], moment.values[:d]
    net = ReLUNet.create(
        jax.random.fold_in(key, 0),
        latent_dim=d,
        variance=jnp.mean(variance),
        widths=widths,
        form=form,
        output_bound=output_bound,
        dtype=rows.samples.dtype,
        process=process,
    )
    start: Parameters = {"decoder": basis, "layers": net.layers}
    assemble = _both(net)
    found = descend(jax.random.fold_in(key, 1), start, assemble, rows, recipe)
    decoder, net = assemble(found.parameters)
    within = _linalg.matmul(basis.T, decoder)
    latent_moment = _linalg.matmul(within.T * variance, within)
    return _model(decoder, net, latent_moment, found, moment.status)


def finetune(
    key: Key[Array, ""],
    model: NetModel,
    x_target: ArrayLike,
    *,
    mode: str = "rotation",
    count: ArrayLike | None = None,
    recipe: Recipe = Recipe(),
) -> NetModel:
    """Adapt a pre-trained model to the target.

    Modes:

    - ``"decoder"``: the paper's: the network is frozen, and ``V`` descends on the Stiefel manifold
      from the source's.
    - ``"rotation"``: the network is frozen, and the subspace is the closed form's (R7), which is
      exact without noise; only a rotation ``Q`` of its ``d`` axes is trained, from several starts.
    - ``"everything"``: decoder and network descend together from the model's. Given a model that
      ``"rotation"`` adapted, it starts from there, which is much the best start.
    - ``"scratch"``: a new network, within the closed form's subspace.

    With ``n_ta < d`` the missing directions of a subspace come from the source.

    Implements: Section 3.2 (fine-tuning in ``Q_NN``), Section 4 (its rivals); R7; "Networks
    (Section 4)".

    Args:
        key: random key.
        model: from `pretrain`.
        x_target: ``(n_ta, D)`` samples.
        mode: one of `MODES`.
        count: how many of the rows are real, the first ones; None is all. May be traced.
        recipe: how to train.

    Returns:
        The adapted model.

    Raises:
        ValueError: bad samples or options.

    Example:
        >>> import jax, fsd_jax as fsd
        >>> from fsd_jax import latent_net
        >>> latent = fsd.GaussianMixture.create([0.5, 0.5], [[-2.0], [2.0]], [0.1, 0.1])
        >>> problem = fsd.LinearProblem.with_latent(jax.random.key(0), latent, ambient_dim=5)
        >>> recipe = latent_net.Recipe(steps=20, checks=4)
        >>> source = problem.sample_source(jax.random.key(1), 200)
        >>> model = latent_net.pretrain(jax.random.key(2), source, latent_dim=1, recipe=recipe)
        >>> few = problem.sample_target(jax.random.key(3), 10)
        >>> adapted = latent_net.finetune(jax.random.key(4), model, few, recipe=recipe)
        >>> f"{fsd.subspace_error(adapted.score.decoder, problem.A_ta):.5f}"
        '0.00000'
    """
    key, recipe = _checks.key("key", key), _recipe(recipe)
    _checks.instance("model", model, NetModel, "latent_net.pretrain makes one")
    _checks.choice("mode", mode, MODES)
    model.score.net.process.admit(**{"recipe.T": recipe.T})
    rows = _rows("x_target", x_target, count)
    ambient, d = model.score.decoder.shape
    if rows.samples.shape[1] != ambient:
        raise ValueError(
            f"x_target must have D = {ambient} columns like the source, "
            f"got shape {tuple(rows.samples.shape)}"
        )
    check_memory(
        d, tuple(w.shape[1] for w, _ in model.score.net.layers[:-1]), recipe, members=STARTS
    )
    return _finetune(key, model, rows, mode=mode, recipe=recipe)


@partial(jax.jit, static_argnames=("mode", "recipe"))
def _finetune(
    key: Key[Array, ""], model: NetModel, rows: Rows, *, mode: str, recipe: Recipe
) -> NetModel:
    if mode == "decoder":
        return _tune_decoder(key, model, rows, recipe)
    if mode == "everything":
        return _tune_everything(key, model, rows, recipe)
    d = model.score.decoder.shape[1]
    # Decompositions in a row, see `_linalg.after`.
    variance, axes = _linalg.eigh_descending(model.latent_moment)
    rows = rows._replace(samples=_linalg.after(rows.samples, axes))
    found = orthonormal_minimizer(_moment(rows, d), latent_dim=d, throw=False)
    found = complete(found, _linalg.matmul(model.score.decoder, axes), variance)
    # Within the subspace samples have d coordinates, and a decoder is a rotation.
    inside = Rows(_linalg.matmul(rows.samples, found.basis), rows.real)
    net = model.score.net
    if mode == "scratch":
        net, descent = _tune_scratch(key, net, inside, recipe)
        return _model(found.basis, net, model.latent_moment, descent, found.status)
    descent = search_rotation(key, net, axes, inside, recipe)
    decoder = _linalg.matmul(found.basis, descent.parameters["decoder"])
    return _model(decoder, net, model.latent_moment, descent, found.status)


def _both(net: ReLUNet) -> Assemble:
    """Decoder and weights are trained together, from those of `net`."""
    return lambda p: (p["decoder"], net.with_layers(p["layers"]))


def _tune_decoder(key: Key[Array, ""], model: NetModel, rows: Rows, recipe: Recipe) -> NetModel:
    net = model.score.net
    start: Parameters = {"decoder": model.score.decoder}
    found = descend(key, start, lambda p: (p["decoder"], net), rows, recipe)
    return _model(found.parameters["decoder"], net, model.latent_moment, found, model.status)


def _tune_everything(key: Key[Array, ""], model: NetModel, rows: Rows, recipe: Recipe) -> NetModel:
    score = model.score
    start: Parameters = {"decoder": score.decoder, "layers": score.net.layers}
    assemble = _both(score.net)
    found = descend(key, start, assemble, rows, recipe)
    return _model(*assemble(found.parameters), model.latent_moment, found, model.status)


def _tune_scratch(
    key: Key[Array, ""], net: ReLUNet, rows: Rows, recipe: Recipe
) -> tuple[ReLUNet, Descent]:
    d = rows.samples.shape[1]
    fresh = ReLUNet.create(
        jax.random.fold_in(key, 0),
        latent_dim=d,
        variance=jnp.sum(rows.samples**2) / (d * rows.real),
        widths=[w.shape[1] for w, _ in net.layers[:-1]],
        form=net.form,
        output_bound=net.output_bound,
        dtype=rows.samples.dtype,
        process=net.process,
    )
    eye = jnp.eye(d, dtype=rows.samples.dtype)
    start: Parameters = {"layers": fresh.layers}
    found = descend(
        jax.random.fold_in(key, 1), start, lambda p: (eye, fresh.with_layers(p["layers"])), rows,
        recipe,
    )  # fmt: skip
    return fresh.with_layers(found.parameters["layers"]), found


def _recipe(recipe: Recipe) -> Recipe:
    _checks.instance("recipe", recipe, Recipe, "latent_net.Recipe() is the default")
    return recipe.check()


def _rows(name: str, x: ArrayLike, count: ArrayLike | None) -> Rows:
    samples, _ = _checks.samples(name, x)
    n = samples.shape[0]
    if count is None:
        number = jnp.int32(n)
    else:
        given = _checks.array("count", count)
        if given.ndim or not jnp.issubdtype(given.dtype, jnp.integer):
            raise ValueError(
                f"count must be one integer, got dtype {given.dtype} and shape {tuple(given.shape)}"
            )
        if not _checks.is_traced(given) and not 1 <= int(given) <= n:
            raise ValueError(f"count must be from 1 to the {n} rows of {name}, got {int(given)}")
        number = jnp.asarray(given).astype(jnp.int32)
    real = jnp.arange(n)[:, None] < number
    samples = jnp.where(real, samples, 0)
    _checks.settle(
        _checks.flag(~jnp.all(jnp.isfinite(samples)), Status.NON_FINITE), name=name, throw=True
    )
    return Rows(samples, number)


def _moment(rows: Rows, d: int) -> SecondMoment:
    mask = jnp.arange(rows.samples.shape[0]) < rows.real
    rank = min(d, *rows.samples.shape)
    # Without noise the subspace is exact to rounding, unless a Gram matrix squares it.
    return SecondMoment.from_samples(rows.samples, rank=rank, mask=mask, route="svd", throw=False)


def _model(
    decoder: Float[Array, "D d"],
    net: ReLUNet,
    latent_moment: Float[Array, "d d"],
    found: Descent,
    status: Int[Array, ""],
) -> NetModel:
    return NetModel(
        score=NetScore(decoder=decoder, net=net),
        latent_moment=latent_moment,
        training=found.training,
        validation=found.validation,
        best_step=found.best_step,
        diverged_at=found.diverged_at,
        status=status | _checks.flag(found.diverged_at >= 0, Status.NOT_CONVERGED),
    )
