"""Few-shot diffusion models in closed form: exact minimisers, scores and errors in JAX.

Importing this package starts no backend, changes no configuration, and loads a room when a name of
it is first used.
"""

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from fsd_jax._version import __version__

if TYPE_CHECKING:
    from fsd_jax import (
        image,
        landscape,
        latent_net,
        ledger,
        readout,
        sampler,
        simulate,
        sweep,
        theory,
    )
    from fsd_jax._audit import Audit, audit
    from fsd_jax._checks import DataWarning, Status, describe
    from fsd_jax._latent import (
        GaussianLatent,
        GaussianMixture,
        LatentConstants,
        UniformLatent,
        latent_constants,
    )
    from fsd_jax._linear_model import LinearProblem, ThinGaussian
    from fsd_jax._moments import SecondMoment
    from fsd_jax._process import (
        VE,
        VP,
        Flow,
        GaussianPath,
        Process,
        Schedule,
        geometric_grid,
        paper_grid,
        schedule,
        uniform_grid,
    )
    from fsd_jax._scores import PredictedScore, convert
    from fsd_jax.fewshot.adapt import adapt
    from fsd_jax.fewshot.choice import Choices
    from fsd_jax.fewshot.model import FewShotModel
    from fsd_jax.fewshot.rehearsal import choose_rehearsal, rehearse
    from fsd_jax.fewshot.report import Report
    from fsd_jax.fewshot.source import PretrainedModel, pretrain
    from fsd_jax.fewshot.storage import load, save
    from fsd_jax.fewshot.tune import finetune, source_as_is, target_only
    from fsd_jax.minimizer._closed_form import (
        Minimizer,
        orthonormal_minimizer,
        paper_formula,
        rank_minimizer,
    )
    from fsd_jax.minimizer._objective import expected_loss, monte_carlo_loss
    from fsd_jax.minimizer._ridge import pooled_moment, ridge_minimizer
    from fsd_jax.minimizer._trained import Trained, train
    from fsd_jax.score._empirical import DecodedScore, EmpiricalScore
    from fsd_jax.score._errors import principal_angles, score_error, subspace_error
    from fsd_jax.score._laws import bures_w2, gaussian_kl
    from fsd_jax.score._linear import LinearScore

__all__ = [
    "VE",
    "VP",
    "Audit",
    "Choices",
    "DataWarning",
    "DecodedScore",
    "EmpiricalScore",
    "FewShotModel",
    "Flow",
    "GaussianLatent",
    "GaussianMixture",
    "GaussianPath",
    "LatentConstants",
    "LinearProblem",
    "LinearScore",
    "Minimizer",
    "PredictedScore",
    "PretrainedModel",
    "Process",
    "Report",
    "Schedule",
    "SecondMoment",
    "Status",
    "ThinGaussian",
    "Trained",
    "UniformLatent",
    "__version__",
    "adapt",
    "audit",
    "bures_w2",
    "choose_rehearsal",
    "convert",
    "describe",
    "expected_loss",
    "finetune",
    "gaussian_kl",
    "geometric_grid",
    "image",
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
    "readout",
    "rehearse",
    "ridge_minimizer",
    "sampler",
    "save",
    "schedule",
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
    "_audit": "Audit audit",
    "fewshot.adapt": "adapt",
    "fewshot.choice": "Choices",
    "fewshot.model": "FewShotModel",
    "fewshot.rehearsal": "choose_rehearsal rehearse",
    "fewshot.report": "Report",
    "fewshot.source": "PretrainedModel pretrain",
    "fewshot.storage": "load save",
    "_latent": "GaussianLatent GaussianMixture LatentConstants UniformLatent latent_constants",
    "_linear_model": "LinearProblem ThinGaussian",
    "minimizer._closed_form": "Minimizer orthonormal_minimizer paper_formula rank_minimizer",
    "minimizer._objective": "expected_loss monte_carlo_loss",
    "minimizer._ridge": "pooled_moment ridge_minimizer",
    "minimizer._trained": "Trained train",
    "_moments": "SecondMoment",
    "_process": "VE VP Flow GaussianPath Process Schedule geometric_grid paper_grid schedule "
    "uniform_grid",
    "_scores": "PredictedScore convert",
    "score._empirical": "DecodedScore EmpiricalScore",
    "score._errors": "principal_angles score_error subspace_error",
    "score._laws": "bures_w2 gaussian_kl",
    "score._linear": "LinearScore",
    "fewshot.tune": "finetune source_as_is target_only",
}
"""Where public names live that are no rooms themselves; a test compares with the imports above."""
_HOME = {name: room for room, names in _HOMES.items() for name in names.split()}


if not TYPE_CHECKING:
    # A type checker that saw this would take any name for one of ours.

    def __getattr__(name: str) -> Any:
        """A public name, or a room, on its first use: importing the package loads neither."""
        if name in _HOME:
            value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
        elif name.isidentifier() and importlib.util.find_spec(f"{__name__}.{name}"):
            value = importlib.import_module(f"{__name__}.{name}")
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted({*globals(), *__all__})
