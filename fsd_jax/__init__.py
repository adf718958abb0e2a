"""Few-shot diffusion models in closed form: exact minimisers, scores and errors in JAX.

Importing this package starts no backend, changes no configuration, and loads a room when a name of
it is first used.
"""

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from fsd_jax._version import __version__

if TYPE_CHECKING:
    from fsd_jax import latent_net, ledger, sampler, simulate, sweep, theory
    from fsd_jax._checks import DataWarning, Status, describe
    from fsd_jax.fewshot.adapt import adapt
    from fsd_jax.fewshot.choice import Choices
    from fsd_jax.fewshot.model import FewShotModel
    from fsd_jax.fewshot.report import Report
    from fsd_jax.fewshot.source import PretrainedModel, pretrain
    from fsd_jax.fewshot.storage import load, save
    from fsd_jax.fewshot.tune import finetune, source_as_is, target_only
    from fsd_jax.latent import (
        GaussianLatent,
        GaussianMixture,
        LatentConstants,
        UniformLatent,
        latent_constants,
    )
    from fsd_jax.linear_model import LinearProblem, ThinGaussian
    from fsd_jax.minimizer import landscape
    from fsd_jax.minimizer.closed_form import (
        Minimizer,
        orthonormal_minimizer,
        paper_formula,
        rank_minimizer,
    )
    from fsd_jax.minimizer.objective import expected_loss, monte_carlo_loss
    from fsd_jax.minimizer.ridge import pooled_moment, ridge_minimizer
    from fsd_jax.minimizer.trained import Trained, train
    from fsd_jax.moments import SecondMoment
    from fsd_jax.process import VP, geometric_grid, paper_grid, uniform_grid
    from fsd_jax.score.empirical import DecodedScore, EmpiricalScore
    from fsd_jax.score.errors import principal_angles, score_error, subspace_error
    from fsd_jax.score.laws import bures_w2, gaussian_kl
    from fsd_jax.score.linear import LinearScore

__all__ = [
    "VP",
    "Choices",
    "DataWarning",
    "DecodedScore",
    "EmpiricalScore",
    "FewShotModel",
    "GaussianLatent",
    "GaussianMixture",
    "LatentConstants",
    "LinearProblem",
    "LinearScore",
    "Minimizer",
    "PretrainedModel",
    "Report",
    "SecondMoment",
    "Status",
    "ThinGaussian",
    "Trained",
    "UniformLatent",
    "__version__",
    "adapt",
    "bures_w2",
    "describe",
    "expected_loss",
    "finetune",
    "gaussian_kl",
    "geometric_grid",
    "landscape",
    "latent_constants",
    "latent_net",
    "ledger",
    "load",
    "monte_carlo_loss",
    "orthonormal_minimizer",
    "paper_formula",
    "paper_grid",
    "pooled_moment",
    "pretrain",
    "principal_angles",
    "rank_minimizer",
    "ridge_minimizer",
    "sampler",
    "save",
    "score_error",
    "simulate",
    "source_as_is",
    "subspace_error",
    "sweep",
    "target_only",
    "theory",
    "train",
    "uniform_grid",
]

_HOMES = {
    "_checks": "DataWarning Status describe",
    "fewshot.adapt": "adapt",
    "fewshot.choice": "Choices",
    "fewshot.model": "FewShotModel",
    "fewshot.report": "Report",
    "fewshot.source": "PretrainedModel pretrain",
    "fewshot.storage": "load save",
    "fewshot.tune": "finetune source_as_is target_only",
    "latent": "GaussianLatent GaussianMixture LatentConstants UniformLatent latent_constants",
    "linear_model": "LinearProblem ThinGaussian",
    "minimizer.closed_form": "Minimizer orthonormal_minimizer paper_formula rank_minimizer",
    "minimizer.objective": "expected_loss monte_carlo_loss",
    "minimizer.ridge": "pooled_moment ridge_minimizer",
    "minimizer.trained": "Trained train",
    "moments": "SecondMoment",
    "process": "VP geometric_grid paper_grid uniform_grid",
    "score.empirical": "DecodedScore EmpiricalScore",
    "score.errors": "principal_angles score_error subspace_error",
    "score.laws": "bures_w2 gaussian_kl",
    "score.linear": "LinearScore",
}
"""Where public names live that are no rooms themselves; a test compares with the imports above."""
_HOME = {name: room for room, names in _HOMES.items() for name in names.split()}


if not TYPE_CHECKING:
    # A type checker that saw this would take any name for one of ours.

    def __getattr__(name: str) -> Any:
        """A public name, or a room, on its first use: importing the package loads neither."""
        if name in _HOME:
            value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
        elif name == "landscape":
            value = importlib.import_module(f"{__name__}.minimizer.landscape")
        elif name.isidentifier() and importlib.util.find_spec(f"{__name__}.{name}"):
            value = importlib.import_module(f"{__name__}.{name}")
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted({*globals(), *__all__})
