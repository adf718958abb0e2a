"""The front door: fine-tune on plain arrays, and baselines with the same interface."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key

from fsd_jax import _checks, _sums
from fsd_jax._linear_model import ThinGaussian
from fsd_jax.fewshot.choice import Choices
from fsd_jax.fewshot.fit import Recipe
from fsd_jax.fewshot.report import CurvePoint, Report
from fsd_jax.fewshot.source import PretrainedModel
from fsd_jax.sampler._grid import METHODS
from fsd_jax.sampler._latent import sample_latent
from fsd_jax.score._linear import LinearScore


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True, repr=False)
class FewShotModel:
    """An adapted model; baselines are of this class too.

    Samples go in and come out with their own trailing shape.

    Attributes:
        linear: the score.
        source: the pre-trained model (None when trained on the target alone).
        samples: ``(n_ta, D)`` the target samples, kept for `report`.
        times: ``(K,)`` times of the integrated loss.
        weights: ``(K,)`` their weights.
        kept: dimension used by target-only.
        rank: number of directions that the target determined.
        status: `Status` flags.
        recipe: the choices made.
        shape: trailing shape of one sample.
        choices: what `adapt` chose, else None.
    """

    linear: LinearScore
    source: PretrainedModel | None
    samples: Float[Array, "n D"]
    times: Float[Array, " K"]
    weights: Float[Array, " K"]
    kept: Int[Array, ""]
    rank: Int[Array, ""]
    status: Int[Array, ""]
    recipe: Recipe = field(metadata={"static": True})
    shape: tuple[int, ...] = field(metadata={"static": True})
    choices: Choices | None = field(default=None, metadata={"static": True})

    def __repr__(self) -> str:
        n, ambient = self.samples.shape
        return (
            f"FewShotModel({self.name}, shape={self.shape}, D={ambient}, "
            f"d={self.recipe.latent_dim}, n_ta={n}, rank={int(self.rank)}, {self.samples.dtype}, "
            f"status={_checks.describe(self.status)})"
        )

    @property
    def name(self) -> str:
        """Short name of the method."""
        if self.choices is not None:
            share, mean = self.choices.target_share, self.choices.mean_share
            return f"adapted, {share:.0%} target, mean {mean:.0%}"
        if self.recipe.method == "few-shot":
            return f"few-shot {self.recipe.constraint}"
        if self.recipe.method == "source-as-is":
            return f"source as is, {self.recipe.mean or 'no'} mean"
        return f"target only, k={int(self.kept)}"

    @property
    def decoder(self) -> Float[Array, "D d"]:
        """``V``, ``(D, d)``."""
        return self.linear.decoder

    @property
    def law(self) -> ThinGaussian:
        """The Gaussian law whose diffused score this is (orthonormal decoders only).

        Raises:
            ValueError: for a rank-d decoder, whose score belongs to no Gaussian law.
        """
        if self.recipe.constraint != "orthonormal":
            raise ValueError(
                "a rank-constrained model is not the score of one Gaussian law; sample it by "
                "reverse time, and take sampler.generated_law(model.linear, times=...) for the law "
                "of such samples, or use constraint='orthonormal'"
            )
        alive = jnp.diagonal(self.linear.mixing) > 0
        tau2 = self.linear.residual_variance
        # A direction left out (complete="none") has the residual's variance.
        return ThinGaussian(
            mean=self.linear.mean,
            basis=jnp.where(alive, self.linear.basis, 0),
            variance=jnp.where(alive, self.linear.latent_variance, tau2),
            residual_variance=tau2,
        )

    def score(self, x: ArrayLike, t: ArrayLike) -> Array:
        """``s(x, t)`` for ``x`` of shape ``(..., *shape)`` and ``t > 0``, one or one a sample.

        Raises:
            ValueError: times that are not positive and finite; traced ones give NaN.
        """
        flat, batch = self._flat(x)
        t = self._times(t, batch)
        return self.linear(flat, t).reshape(*batch, *self.shape)

    def denoise(self, x: ArrayLike, t: ArrayLike) -> Array:
        """Estimate of the clean sample behind ``x`` at time ``t``.

        Raises:
            ValueError: as in `score`.
        """
        flat, batch = self._flat(x)
        t = self._times(t, batch)
        return self.linear.denoise(flat, t).reshape(*batch, *self.shape)

    def loss(self, x: ArrayLike) -> Float[Array, ""]:
        """Section 3.2's loss on clean samples ``(n, *shape)``, noise integrated out exactly."""
        losses = self.losses(x)
        return _sums.total(losses) / losses.shape[0]

    def losses(self, x: ArrayLike) -> Float[Array, " n"]:
        """The loss of each clean sample.

        Implements: "The loss, noise integrated out".
        """
        flat, batch = self._flat(x)
        if flat.size == 0:
            raise ValueError(f"x is empty, got shape {tuple(jnp.shape(x))}; pass some samples")
        if len(batch) != 1:
            raise ValueError(f"x must have shape (n, {self.shape}), got {tuple(jnp.shape(x))}")
        return linear_losses(self.linear, flat, self.times, self.weights)

    def sample(
        self,
        key: Key[Array, ""],
        n: int,
        residual: bool = True,
        clip: tuple[float, float] | None = None,
        *,
        method: str | None = None,
        steps: int | None = None,
        times: ArrayLike | None = None,
        denoise: bool = True,
        chunk: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Array:
        """``n`` new samples, ``(n, *shape)``.

        An orthonormal model is the score of a Gaussian law, which is drawn from as it is. Any model
        can be sampled by reverse time, a rank-constrained one only so. Along a gain p that is not
        one its denoiser does not tend to the identity with the noise, and the variance of the
        result goes like ``delta^(1 - p)`` (ODE) or ``delta^(2 - 2p)`` (SDE): where one stops is
        part of such a model.

        Args:
            key: random key.
            n: number of samples.
            residual: False leaves out the variance that every direction has, which pictures show as
                speckle: of ``X = A Z + tau xi`` (R12) it draws ``A Z``, of covariance
                ``Cov X - tau2``. Where the model has no other directions ``tau2`` is the least
                variance of any.
            clip: ``(low, high)``: entries outside are set to the nearer of the two.
            method: ``"exact"``, or one of `sampler.METHODS`. None is ``"exact"`` where it exists,
                else ``"ei_sde"``.
            steps: steps of reverse time, 256 by default, on the times at which ``B(t)`` is
                ``geometric_grid(1e-3, 10, steps)`` (for rate one that is ``t``), or
            times: an increasing grid of your own.
            denoise: end with Tweedie's estimate, so that no noise of time ``delta`` is left.
            chunk: see `sampler.sample`.
            progress: see `sampler.sample`.

        Raises:
            ValueError: options out of range, or ``"exact"`` for a rank-constrained model.
        """
        key, n = _checks.key("key", key), _checks.dimension("n", n)
        denoise = _checks.boolean("denoise", denoise)
        _checks.callback("progress", progress)
        if chunk is not None:
            chunk = _checks.dimension("chunk", chunk)
        exists = self.recipe.constraint == "orthonormal"
        if method is None:
            given = steps is not None or times is not None
            method = "exact" if exists and not given else "ei_sde"
        _checks.choice("method", method, ("exact", *METHODS))
        bounds = None if clip is None else _bounds(clip)
        kept = _checks.boolean("residual", residual)
        model = self if kept else replace(self, linear=_without_residual(self.linear))
        if method == "exact":
            if steps is not None or times is not None:
                raise ValueError("method='exact' takes no steps; leave out steps= and times=")
            draws = model.law.sample(key, n)
        else:
            linear = model.linear
            grid = _grid(linear, steps, times)
            draws = sample_latent(
                key, linear.latent, basis=linear.basis, times=grid, n=n,
                residual_variance=linear.residual_variance, mean=linear.mean,
                method=method, denoise=denoise, chunk=chunk, progress=progress,
            )  # fmt: skip
        draws = draws if bounds is None else jnp.clip(draws, *bounds)
        return draws.reshape(n, *self.shape)

    def report(
        self,
        x_heldout: ArrayLike | None = None,
        rivals: Any = None,
        *,
        target_groups: Any = None,
        x_source: ArrayLike | None = None,
        sizes: Any = None,
    ) -> Report:
        """Loss beside the source as it is and the target alone: is this many samples enough?

        Without held-out samples every method is refitted, and what `adapt` chooses chosen anew,
        with each target picture left out in turn. Standard errors treat those losses as
        independent; the limits that decide allow for it (`fewshot.report.limits`).

        Target samples that are one picture, exactly or nearly (at most a twentieth of the typical
        distance, and nearer than chance brings any two), are left out together and count once. So
        are held-out ones; those that are target samples do not count as held-out, and when they are
        more than half of them they are refused. A model does not keep its source: pass `x_source`
        to have it compared too, which is told and changes nothing else.

        Implements: "Leave-one-out".

        Args:
            x_heldout: ``(n, *shape)`` target samples not used in fine-tuning, or None.
            rivals: models to compare with too: a list of them, or a mapping of names to models or
                to functions that fit one to given target samples ``(k, *shape)``. A model is a
                `FewShotModel` or a `LinearScore`. Without held-out samples a function is called
                once for each picture that is left out, and a `FewShotModel` of the same samples
                is refitted.
            target_groups: ``(n_ta,)`` integers or words; target samples with the same one are left
                out together too, for example frames of one film.
            x_source: ``(n_s, *shape)`` source samples to look for target and held-out ones in.
            sizes: numbers of samples for `learning_curve`, to print with the rest.

        Raises:
            ValueError: no source; rivals that cannot be judged; a single target sample and nothing
                held out; held-out samples that mostly are target samples; shapes that do not match.
        """
        # The baselines are models too, so the room that builds models builds them.
        from fsd_jax.fewshot.evaluate import evaluate

        return evaluate(self, x_heldout, rivals, target_groups, x_source, sizes)

    def learning_curve(self, sizes: Sequence[int]) -> tuple[CurvePoint, ...]:
        """The expected loss of `adapt` with other numbers of target samples, from these.

        The level is the leave-one-out loss of the given samples; differences from it are found
        by drawing sets of each size from the fitted law and adapting to them, the loss being
        exact. The law is itself drawn anew each time, as these samples determine it.

        Args:
            sizes: numbers of different target samples.

        Returns:
            A row ``n, loss, low, high`` for each; beyond twice the given number it is labelled as
            extrapolation.

        Raises:
            ValueError: a model that `adapt` did not choose, fewer than four different samples.
        """
        from fsd_jax.fewshot.curve import learning_curve

        return learning_curve(self, sizes)

    def _flat(self, x: ArrayLike) -> tuple[Array, tuple[int, ...]]:
        array, _ = _checks.floating("x", x)
        k = len(self.shape)
        if array.shape[array.ndim - k :] != self.shape:
            raise ValueError(
                f"x must end in the sample shape {self.shape}, got shape {tuple(array.shape)}"
            )
        batch = array.shape[: array.ndim - k]
        return array.reshape(*batch, self.linear.basis.shape[0]), batch

    def _times(self, t: ArrayLike, batch: tuple[int, ...]) -> _checks.Numbers:
        times = _checks.time("t", t, self.linear.basis.dtype)
        if times.ndim and times.shape != batch[len(batch) - times.ndim :]:
            raise ValueError(
                f"t must be one time or have the batch's shape {batch}, got shape {times.shape}"
            )
        return times


def _grid(linear: LinearScore, steps: int | None, times: ArrayLike | None) -> ArrayLike:
    """The times of reverse sampling: those given, or even in the logarithm of ``B``."""
    if times is None:
        steps = 256 if steps is None else _checks.dimension("steps", steps)
        # Whatever the clock of the schedule.
        return linear.process.host_time(np.geomspace(1e-3, 10.0, steps + 1))
    if steps is not None:
        raise ValueError("give steps= or times=, not both")
    return times


def _bounds(clip: Any) -> tuple[float, float]:
    """A lower and an upper limit."""
    given = clip if isinstance(clip, tuple | list) and len(clip) == 2 else ()
    low, high = (_checks.number("clip", value) for value in given) if given else (1.0, 0.0)
    if not low < high:
        raise ValueError(
            f"clip must be two numbers, the lower one first, got {_checks.named(clip)}; "
            "for pictures pass (0.0, 1.0)"
        )
    return low, high


def _without_residual(linear: LinearScore) -> LinearScore:
    """The score of ``A Z``, without ``tau xi`` (R12)."""
    ambient, k = linear.basis.shape
    values = linear.latent_variance
    common = linear.residual_variance if k < ambient else jnp.min(values)
    return replace(
        linear,
        latent_variance=jnp.maximum(values - common, 0),
        residual_variance=jnp.zeros_like(linear.residual_variance),
    )


@jax.jit
def linear_losses(linear: LinearScore, x: Array, times: Array, weights: Array) -> Array:
    """`LinearScore.losses`, compiled."""
    return linear.losses(x, times, weights)
