"""Does a picture show the target's feature? A classifier of labelled images, its accuracy known."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jax.typing import ArrayLike

from fsd_jax import _checks
from fsd_jax._rows import rows, same_width
from fsd_jax.image.metrics import Estimate, Features, share_of

__all__ = ["TargetClassifier"]


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class TargetClassifier:
    """Logistic regression on principal components: target or source?

    Attributes:
        features: what it sees.
        model: scikit-learn's pipeline.
        accuracy: share of images it had not seen that it got right, both sets counting alike.
    """

    features: Features
    model: Any
    accuracy: Estimate

    def __repr__(self) -> str:
        return f"TargetClassifier(accuracy={self.accuracy.value:.3f})"

    @classmethod
    def fit(
        cls,
        source: ArrayLike,
        target: ArrayLike,
        *,
        features: Features | None = None,
        rank: int = 32,
        seed: int = 0,
    ) -> "TargetClassifier":
        """Train on four fifths of each set, and measure the accuracy on the rest.

        Args:
            source: ``(n, ...)`` images without the feature.
            target: ``(m, ...)`` images with it, none of which is used for anything else.
            features: what the classifier sees; by default principal components of both sets.
            rank: their number.
            seed: of the split.

        Raises:
            ValueError: fewer than 10 images of either kind.
            ImportError: scikit-learn is not installed.
        """
        try:
            from sklearn.linear_model import LogisticRegression
            from sklearn.pipeline import make_pipeline
            from sklearn.preprocessing import StandardScaler
        except ImportError as error:
            raise ImportError(
                "the classifier needs scikit-learn: pip install 'fsd-jax[image]'", name=error.name
            ) from None
        _checks.instance("features", features, (Features, type(None)), "for example Features.fit")
        rank = _checks.dimension("rank", rank)
        seed = _checks.dimension("seed", seed, low=0)
        given = {"source": rows("source", source), "target": rows("target", target)}
        same_width(**given)
        rng = np.random.default_rng(seed)
        train, test = [], []
        for name, each in given.items():
            images = each.data
            if len(images) < 10:
                raise ValueError(f"{name} has {len(images)} images and needs at least 10")
            order = rng.permutation(len(images))
            cut = len(images) * 4 // 5
            train.append(images[order[:cut]])
            test.append(images[order[cut:]])
        both = np.concatenate(train)
        if features is None:
            features = Features.fit(both, min(rank, *both.shape))
        truth = np.repeat([0, 1], [len(images) for images in train])
        model = make_pipeline(
            StandardScaler(), LogisticRegression(max_iter=2000, class_weight="balanced")
        )
        model.fit(features(both), truth)
        right = [model.predict(features(images)) == k for k, images in enumerate(test)]
        sides = [share_of(hits, seed=seed + k) for k, hits in enumerate(right)]
        value = (sides[0].value + sides[1].value) / 2
        together = lambda errors: float(np.hypot(*errors)) / 2
        # The ends from each share's own distances to its ends (Newcombe's method).
        accuracy = Estimate(
            value=value,
            stderr=together([side.stderr for side in sides]),
            low=value - together([side.value - side.low for side in sides]),
            high=value + together([side.high - side.value for side in sides]),
        )
        return cls(features=features, model=model, accuracy=accuracy)

    def share(self, samples: ArrayLike, *, seed: int = 0) -> Estimate:
        """Share of ``(n, ...)`` images that are taken for the target."""
        return share_of(self.model.predict(self.features(samples)) == 1, seed=seed)
