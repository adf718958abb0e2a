"""Few-shot diffusion models in closed form: exact minimisers, scores and errors in JAX.

Importing this package starts no backend and changes no configuration.
"""

from fsd_jax._checks import Status, describe
from fsd_jax._version import __version__
from fsd_jax.latent import GaussianLatent
from fsd_jax.linear_model import LinearProblem, ThinGaussian
from fsd_jax.minimizer.closed_form import (
    Minimizer,
    orthonormal_minimizer,
    paper_formula,
    rank_minimizer,
)
from fsd_jax.minimizer.objective import expected_loss, monte_carlo_loss
from fsd_jax.minimizer.trained import Trained, train
from fsd_jax.moments import SecondMoment
from fsd_jax.process import VP, geometric_grid, paper_grid, uniform_grid
from fsd_jax.score.errors import (
    bures_w2,
    gaussian_kl,
    principal_angles,
    score_error,
    subspace_error,
)
from fsd_jax.score.linear import LinearScore

__all__ = [
    "VP",
    "GaussianLatent",
    "LinearProblem",
    "LinearScore",
    "Minimizer",
    "SecondMoment",
    "Status",
    "ThinGaussian",
    "Trained",
    "__version__",
    "bures_w2",
    "describe",
    "expected_loss",
    "gaussian_kl",
    "geometric_grid",
    "monte_carlo_loss",
    "orthonormal_minimizer",
    "paper_formula",
    "paper_grid",
    "principal_angles",
    "rank_minimizer",
    "score_error",
    "subspace_error",
    "train",
    "uniform_grid",
]
