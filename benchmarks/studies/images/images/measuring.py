"""What generated images are measured by: copies, members of the target, distances, loss."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

import fsd_jax as fsd
from fsd_jax.fewshot.rehearsal import MEAN_SHARES, SOURCE_SHARES
from fsd_jax.image import closed_form, metrics
from fsd_jax.image.classify import TargetClassifier
from fsd_jax.image.task import ImageTask

SHOTS, LATENT_DIM, FEATURES, SHOWN = 10, 32, 16, 10
TIMES = (0.01, 0.1, 1.0)
Chosen = dict[str, dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is the same for all draws of the target images of one data set."""

    name: str
    source: np.ndarray
    pool: np.ndarray
    pretrained: fsd.PretrainedModel
    moment: fsd.SecondMoment
    features: metrics.Features
    classifier: TargetClassifier
    samples: int
    steps: int
    seed: int

    def drawn(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """One draw of the target images, by its number, and 200 others of the target."""
        order = np.random.default_rng((self.seed, number)).permutation(len(self.pool))
        return self.pool[order[:SHOTS]], self.pool[order[SHOTS:][:200]]


def setting_of(task: ImageTask, *, samples: int, steps: int, seed: int) -> Setting:
    """Pre-train on a data set's source, and fit what measures need."""
    source = task.source.astype(np.float32)
    # The last images train the classifier and are used for nothing else.
    mine = min(len(task.pool) // 2, 1000)
    flat = source.reshape(len(source), -1)
    moment = fsd.SecondMoment.from_samples(flat, rank=2 * LATENT_DIM, centre=True)
    return Setting(
        name=task.name,
        source=source,
        pool=task.pool[:-mine],
        pretrained=fsd.pretrain(moment, latent_dim=LATENT_DIM),
        moment=moment,
        features=metrics.Features.fit(moment, FEATURES),
        classifier=TargetClassifier.fit(
            source[:2000], task.pool[-mine:], features=metrics.Features.fit(moment, 2 * LATENT_DIM)
        ),
        samples=samples,
        steps=steps,
        seed=seed,
    )


def scores(
    setting: Setting, shots: np.ndarray, methods: list[str]
) -> tuple[dict[str, Any], Chosen]:
    """The score of each method, and the shares that leave-one-out chose for rehearsal."""
    pretrained = setting.pretrained
    tuned = fsd.finetune(pretrained, shots).linear
    found: dict[str, Any] = {
        "everything": fsd.EmpiricalScore.from_samples(shots),
        "encoder_decoder": tuned,
        "encoder_decoder_empirical": closed_form.with_source_latents(
            tuned, pretrained, setting.source
        ),
    }
    chosen: Chosen = {}
    if set(methods) - set(found):
        _, _, losses = fsd.choose_rehearsal(pretrained, setting.moment, shots)
        chosen = {
            "rehearsed": {"source_share": _best(losses[:, -1:])[0], "mean_share": 1.0},
            "rehearsed_any_mean": dict(
                zip(("source_share", "mean_share"), _best(losses), strict=True)
            ),
        }
        rehearse = partial(fsd.rehearse, pretrained, setting.moment, shots)
        found |= {name: rehearse(**shares) for name, shares in chosen.items()} | {
            "rank": fsd.finetune(pretrained, shots, constraint="rank").linear,
            "scratch": fsd.target_only(shots, latent_dim=LATENT_DIM).linear,
            "source": fsd.source_as_is(pretrained, shots, mean="source").linear,
            "source_target_mean": fsd.source_as_is(pretrained, shots).linear,
        }
    return {name: found[name] for name in methods}, chosen


def _best(losses: np.ndarray) -> tuple[float, float]:
    """The shares with the least loss; the last column is the target's own mean."""
    i, j = np.unravel_index(np.argmin(losses), losses.shape)
    return SOURCE_SHARES[i], MEAN_SHARES[j]


def measure(
    setting: Setting, drawn: np.ndarray, shots: np.ndarray, held: np.ndarray
) -> dict[str, metrics.Estimate]:
    """Every measure of generated images that needs no score."""
    features = setting.features
    images = np.clip(drawn, 0, 1)
    return {
        "f_mem": metrics.memorised_fraction(images, shots),
        "target_share": setting.classifier.share(images),
        "nearest_distance": metrics.nearest_distance(images, shots),
        "nearest_feature_distance": metrics.nearest_distance(features(images), features(shots)),
        "diversity": metrics.diversity(images),
        "frechet": metrics.frechet_distance(features(images), features(held)),
        "kernel_distance": metrics.kernel_distance(features(images), features(held)),
    }


def losses(key: jax.Array, score: Any, held: np.ndarray) -> dict[str, metrics.Estimate]:
    """Held-out loss integrated over t, and at single times."""
    times, weights = map(np.asarray, fsd.VP().quadrature(nodes=16))
    each = closed_form.heldout_losses(key, score, held, times=np.append(times, TIMES))
    found = {"heldout_loss": metrics.mean_of(each[:, : len(times)] @ weights)}
    for i, t in enumerate(TIMES):
        found[f"heldout_loss_at_{t:g}"] = metrics.mean_of(each[:, len(times) + i])
    return found
