"""Fine-tuning a U-Net's last layer without training it: one pass over noised images and a solve.

With everything before the last convolution frozen, the denoising loss is quadratic in it, so its
minimiser and every leave-one-image-out loss are exact (`fsd_jax.readout`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from fsd_jax import _checks, readout
from fsd_jax._rows import finite
from fsd_jax.image._network import TimedHead, hats
from fsd_jax.image.finetune import DELTA, T
from fsd_jax.image.unet import UNetScore
from fsd_jax.readout import Readout
from fsd_jax.readout._sums import Group

__all__ = ["STRENGTHS", "Finetuned", "finetune"]

STRENGTHS = tuple(float(x) for x in np.geomspace(1e-5, 1e2, 15))
"""Pulls towards the pre-trained head, in units of the mean of ``H``'s diagonal."""
PER_IMAGE = 120
AT_ONCE = 8
SIDE = 3


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Finetuned:
    """A score with a new head, and what can be said of it without other images.

    Losses are means over pixels, colours and draws of the squared error of the network's own
    target, over times that are uniform in ``log t``.

    Attributes:
        score: the tuned score; all other weights keep their bits.
        loss: nested leave-one-image-out loss: knots and strength are chosen anew without the image.
        loss_stderr: its standard error over images.
        source_loss: the pre-trained head's loss on the same draws.
        leave_one_out: for each number of knots ``(strengths, images)`` losses.
        choices: ``knots``, ``strength``, and how many ``weights`` were solved for.
    """

    score: UNetScore
    loss: float
    loss_stderr: float
    source_loss: float
    leave_one_out: dict[int, np.ndarray]
    choices: dict[str, float]

    def __repr__(self) -> str:
        return (
            f"Finetuned({self.choices['weights']:.0f} weights, {self.choices['knots']:.0f} knots, "
            f"leave-one-out {self.loss:.4g} +- {self.loss_stderr:.2g}, "
            f"source {self.source_loss:.4g})"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Problem:
    """The solve for one number of knots, at every strength."""

    sums: Readout
    prior: np.ndarray
    strengths: np.ndarray

    def losses(self, without: int | None = None) -> np.ndarray:
        """``(strengths, images)`` leave-one-out losses, without an image that has none then."""
        sums = self.sums if without is None else self.sums.without(without)
        return readout.leave_one_out(sums, prior=self.prior, strengths=self.strengths)

    def solve(self, place: int) -> np.ndarray:
        """The weights at one strength."""
        return readout.solve(self.sums, prior=self.prior, strength=self.strengths[place])


def finetune(
    key: Key[Array, ""],
    score: UNetScore,
    images: ArrayLike,
    *,
    draws: int = PER_IMAGE,
    knots: Sequence[int] = (1, 3, 6),
    strengths: Sequence[float] = STRENGTHS,
    progress: Callable[[int, int], None] | None = None,
) -> Finetuned:
    """Solve for the last layer on a few images, exactly.

    Implements: "The last layer of a network". The head's weights are piecewise linear in ``log t``
    on evenly spaced knots; their number and the strength of the pull to the pre-trained head are
    those of the least leave-one-image-out loss. There is no rate, no stopping time, and no
    validation image.

    Args:
        key: of times and noise.
        score: pre-trained.
        images: ``(n, H, W, C)``, two at least.
        draws: noised copies of each image, their times spread evenly over ``log t``.
        knots: numbers of knots to choose from; one is a head that does not know the time.
        strengths: to choose from, in units of the mean diagonal of ``H``; infinity, which keeps
            the pre-trained head, is always one.
        progress: called with ``(noised copies seen, of how many)``.

    Raises:
        ValueError: bad images, fewer than two, or a head that was solved for already.

    Example:
        >>> import jax, numpy as np
        >>> from fsd_jax.image import readout, unet
        >>> images = np.random.default_rng(0).random((4, 8, 8, 3), dtype=np.float32)
        >>> size = unet.UNetSize(channels=4, groups=2, multipliers=(1, 2), attention=(False, False))
        >>> score = unet.new_unet_score(jax.random.key(0), images, size=size)
        >>> found = readout.finetune(jax.random.key(1), score, images, draws=8, knots=(1,))
        >>> found.choices["knots"], found.score.shape
        (1, (8, 8, 3))
    """
    key = _checks.key("key", key)
    _checks.instance("score", score, UNetScore)
    if isinstance(score.net.head, TimedHead):
        raise ValueError("score has a head that knows the time already; start from the pre-trained")
    draws = _checks.dimension("draws", draws)
    counts = [_checks.dimension("knots", count) for count in knots]
    _checks.callback("progress", progress)
    flat = finite("images", _checks.samples("images", images, rows=2, images=True)[0])
    if flat.shape[1] != score.mean.shape[0]:
        raise ValueError(f"images must have shape (n, *{score.shape}), got D = {flat.shape[1]}")
    x = flat.reshape(-1, *score.shape).astype(score.mean.dtype)
    squares, times = _squares(key, score, x, draws, progress)
    p, prior = squares.shape[-1] - score.shape[2], _prior(score.net.head)
    # The mean of H's diagonal, so that a strength means the same whatever the features' scale.
    unit = float(np.einsum("ndii->", squares[..., :p, :p])) / p
    mus = np.append(np.asarray(strengths, np.float64), np.inf)
    problems = {
        count: _Problem(
            sums=_sums(squares, times, count, score.shape[2]),
            prior=np.tile(prior, (count, 1)),
            strengths=mus * unit / count,
        )
        for count in counts
    }
    losses = {count: each.losses() for count, each in problems.items()}
    best, place = _least(losses)
    weights = problems[best].solve(place)
    pixels = float(draws * x[0].size)
    nested = _nested(problems, losses) / pixels
    return Finetuned(
        score=_with_head(score, weights, best),
        loss=float(nested.mean()),
        loss_stderr=float(nested.std(ddof=1) / np.sqrt(len(x))),
        source_loss=float(losses[best][-1].mean() / pixels),
        leave_one_out={count: each / pixels for count, each in losses.items()},
        choices={"knots": best, "strength": float(mus[place]), "weights": weights.size},
    )


def _squares(
    key: Key[Array, ""],
    score: UNetScore,
    x: Float[Array, "n h w c"],
    draws: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """For each image and draw the sums over pixels of features and targets, and the times."""
    n = len(x)
    first, second = jax.random.split(key)
    share = (jnp.arange(draws) + jax.random.uniform(first, (n, draws), x.dtype)) / draws
    times = (DELTA * (T / DELTA) ** share).astype(x.dtype)
    eps = jax.random.normal(second, (n, draws, *x.shape[1:]), x.dtype)
    p = len(_prior(score.net.head))
    found = np.empty((n, draws, p + score.shape[2], p + score.shape[2]))
    for i in range(n):
        for start in range(0, draws, AT_ONCE):
            # The last batch is moved back so as to be whole: one size is compiled.
            begin = max(0, min(start, draws - AT_ONCE))
            part = slice(begin, begin + AT_ONCE)
            rows = np.asarray(_rows(score, x[i], eps[i, part], times[i, part]), np.float64)
            found[i, part] = np.swapaxes(rows, 1, 2) @ rows
            if progress is not None:
                progress(i * draws + min(start + AT_ONCE, draws), n * draws)
    return found, np.asarray(times, np.float64)


@eqx.filter_jit
def _rows(
    score: UNetScore, x: Float[Array, "h w c"], eps: Float[Array, "b h w c"], t: Float[Array, " b"]
) -> Float[Array, "b hw pq"]:
    """Features of every pixel's neighbourhood, a one for the bias, and the wanted output."""

    def one(eps: Array, t: Array) -> Array:
        features, wanted = score.head_problem(x, eps, t)
        patches = jax.lax.conv_general_dilated_patches(
            features[None], (SIDE, SIDE), (1, 1), "SAME", precision=jax.lax.Precision.HIGHEST
        )[0]
        seen = patches.reshape(patches.shape[0], -1).T
        ones = jnp.ones((len(seen), 1), seen.dtype)
        return jnp.concatenate([seen, ones, wanted.reshape(len(seen), -1)], axis=1)

    return jax.vmap(one)(eps, t)


def _knots(count: int) -> tuple[float, ...]:
    if count == 1:
        return (float(np.log(DELTA)),)
    return tuple(float(k) for k in np.linspace(np.log(DELTA), np.log(T), count))


def _sums(squares: np.ndarray, times: np.ndarray, count: int, colours: int) -> Readout:
    """The sums of features times hat functions, from those of features: a block a pair of hats."""
    n, draws, width, _ = squares.shape
    p = width - colours
    knots = _knots(count)
    log_times = jnp.asarray(np.log(times).ravel())
    share = np.asarray(jax.vmap(lambda v: hats(v, knots))(log_times), np.float64)
    share = share.reshape(n, draws, count)
    members = []
    for i in range(n):
        gram = np.zeros((count * p + colours,) * 2)
        H = np.einsum("dj,dk,dab->jakb", share[i], share[i], squares[i, :, :p, :p], optimize=True)
        R = np.einsum("dj,dab->jab", share[i], squares[i, :, :p, p:], optimize=True)
        gram[: count * p, : count * p] = H.reshape(count * p, count * p)
        gram[: count * p, count * p :] = R.reshape(count * p, colours)
        gram[count * p :, : count * p] = gram[: count * p, count * p :].T
        gram[count * p :, count * p :] = squares[i, :, p:, p:].sum(axis=0)
        members.append(Group(gram=gram))
    empty = Readout.empty(features=count * p, outputs=colours, groups=n)
    return replace(empty, members=tuple(members), count=np.full(n, draws, np.int64))


def _least(losses: dict[int, np.ndarray]) -> tuple[int, int]:
    """The number of knots and the place of the strength with the least loss of all images."""
    totals = {count: each.sum(axis=1) for count, each in losses.items()}
    best = min(totals, key=lambda count: float(totals[count].min()))
    return best, int(np.argmin(totals[best]))


def _nested(problems: dict[int, _Problem], losses: dict[int, np.ndarray]) -> np.ndarray:
    """Each image's loss under what the others alone would have chosen."""
    n = next(iter(problems.values())).sums.groups
    if n < 3:
        best, place = _least(losses)
        return losses[best][place]
    found = np.empty(n)
    for i in range(n):
        best, place = _least({count: each.losses(i) for count, each in problems.items()})
        found[i] = losses[best][place, i]
    return found


def _prior(head: Any) -> np.ndarray:
    """``(p, q)``: the convolution's weights as patches see them, and its bias."""
    weight = np.asarray(head.weight, np.float64)
    return np.concatenate([weight.reshape(len(weight), -1).T, np.asarray(head.bias).reshape(1, -1)])


def _with_head(score: UNetScore, weights: np.ndarray, count: int) -> UNetScore:
    """The score with these weights in the place of its head."""
    head: Any = score.net.head
    dtype, shape = head.weight.dtype, head.weight.shape
    parts = weights.reshape(count, -1, shape[0])
    kernels = np.moveaxis(parts[:, :-1], 2, 1).reshape(count, *shape).astype(dtype)
    biases = parts[:, -1].astype(dtype)
    new: Any
    if count == 1:
        new = eqx.tree_at(
            lambda h: (h.weight, h.bias),
            head,
            (jnp.asarray(kernels[0]), jnp.asarray(biases[0]).reshape(head.bias.shape)),
        )
    else:
        new = TimedHead(jnp.asarray(kernels), jnp.asarray(biases), _knots(count))
    return eqx.tree_at(lambda s: s.net.head, score, new)
