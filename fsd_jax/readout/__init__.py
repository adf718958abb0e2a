"""Exact fine-tuning of a linear read-out: the last layer of a network, knowing nothing of networks.

With everything before it frozen, the squared loss of any network is quadratic in its last linear
layer ``W``: prediction ``h'W`` from features ``h``. Sums over the data are all that is needed,
group by group (a group is what a user would leave out: an image), and the minimiser with a pull
towards the pre-trained weights, and every leave-one-group-out loss, are exact.

    >>> import numpy as np
    >>> from fsd_jax import readout
    >>> rng = np.random.default_rng(0)
    >>> features, targets = rng.normal(size=(60, 5)), rng.normal(size=(60, 2))
    >>> images = np.repeat(np.arange(6), 10)
    >>> sums = readout.Readout.empty(features=5, outputs=2, groups=6)
    >>> sums = sums.add(features, targets, images)
    >>> found = readout.choose(sums, prior=np.zeros((5, 2)), strengths=[0.1, 1, 10, np.inf])
    >>> found.weights.shape, found.losses.shape
    ((5, 2), (4, 6))
"""

from fsd_jax.readout._choice import Choice, choose
from fsd_jax.readout._left_out import leave_one_out
from fsd_jax.readout._solve import solve
from fsd_jax.readout._sums import Readout

__all__ = ["Choice", "Readout", "choose", "leave_one_out", "solve"]
