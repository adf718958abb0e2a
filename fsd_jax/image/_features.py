"""Principal components of a reference set, as features in which samples are compared."""

from dataclasses import dataclass

import numpy as np
from jax.typing import ArrayLike

from fsd_jax import _checks
from fsd_jax._moments import SecondMoment
from fsd_jax._rows import rows, widened


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Features:
    """Leading principal components of a reference set, scaled to unit mean square together.

    Attributes:
        mean: ``(D,)``.
        basis: ``(D, k)``.
        scale: one number, so that distances keep their proportions.
    """

    mean: np.ndarray
    basis: np.ndarray
    scale: float

    @classmethod
    def fit(cls, reference: ArrayLike | SecondMoment, rank: int) -> "Features":
        """Features of a reference set, for example the source.

        Args:
            reference: ``(n, ...)`` samples, or their second moment about their mean.
            rank: ``k``.

        Raises:
            ValueError: a rank above what the reference has.
        """
        if isinstance(reference, SecondMoment):
            moment, most = reference, reference.values.shape[0]
            if moment.mean is None:
                raise ValueError("reference must be centred; build it with centre=True")
        else:
            flat, _ = _checks.samples(
                "reference", widened("reference", reference), rows=2, images=True
            )
            most = min(flat.shape)
        rank = _checks.dimension("rank", rank, high=most, top=" = directions of the reference")
        if not isinstance(reference, SecondMoment):
            moment = SecondMoment.from_samples(flat, rank=rank, centre=True)
        scale = float(np.sqrt(np.mean(np.asarray(moment.values, np.float64)[:rank])))
        if not 0 < scale < np.inf:
            raise ValueError("reference does not vary, so it has no principal components")
        return cls(
            mean=np.asarray(moment.mean), basis=np.asarray(moment.basis)[:, :rank], scale=scale
        )

    def __call__(self, x: ArrayLike) -> np.ndarray:
        """``(n, k)`` coordinates of ``(n, ...)`` samples, in float64."""
        given = rows("x", x)
        ambient, k = self.basis.shape
        if given.width != ambient:
            raise ValueError(f"x has samples of {given.width} entries, the features {ambient}")
        found = np.empty((len(given), k))
        for part in given.slices():
            found[part] = (given.block(part) - self.mean) @ self.basis
        return found / self.scale
