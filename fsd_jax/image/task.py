"""What a data set is: source, target and held-out target images."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fsd_jax import _checks
from fsd_jax.image import _store

__all__ = ["ImageTask"]


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class ImageTask:
    """Source, target and held-out target images, float32 in ``[0, 1]``, ``(n, H, W, C)``.

    Attributes:
        name: the data set.
        source: images of the source.
        target: the few target images.
        heldout: other target images, for judging only.
        source_labels: ``(n_s,)`` what is known of each source image (a hairstyle, a class).
        skipped: files that could not be read.
    """

    name: str
    source: np.ndarray
    target: np.ndarray
    heldout: np.ndarray
    source_labels: np.ndarray | None = None
    skipped: tuple[str, ...] = ()

    def __repr__(self) -> str:
        sizes = f"{len(self.source)} -> {len(self.target)} + {len(self.heldout)}"
        return f"ImageTask({self.name}, {sizes}, shape={self.source.shape[1:]})"

    @cached_property
    def checksum(self) -> str:
        """Of all three sets of images, their order included."""
        arrays = {"source": self.source, "target": self.target, "heldout": self.heldout}
        return _store.digest(arrays)

    @property
    def pool(self) -> np.ndarray:
        """All target images: the few, then the held-out ones."""
        return np.concatenate([self.target, self.heldout])

    def redraw(self, seed: int, *, shots: int | None = None) -> "ImageTask":
        """The same task with other target images: `shots` at random, the rest held out.

        Args:
            seed: of the choice.
            shots: how many; by default as many as there are.
        """
        seed = _checks.dimension("seed", seed, low=0)
        n = len(self.target) if shots is None else shots
        n = _checks.dimension("shots", n, high=len(self.target) + len(self.heldout))
        order = np.random.default_rng(seed).permutation(len(self.target) + len(self.heldout))
        pool = self.pool
        return ImageTask(
            name=self.name,
            source=self.source,
            target=pool[order[:n]],
            heldout=pool[order[n:]],
            source_labels=self.source_labels,
            skipped=self.skipped,
        )
