"""Models on disk."""

import os

from fsd_jax import _files
from fsd_jax.fewshot.fit import Recipe
from fsd_jax.fewshot.model import FewShotModel
from fsd_jax.fewshot.source import PretrainedModel
from fsd_jax.process import VP
from fsd_jax.score.linear import LinearScore

_STORED = {c.__name__: c for c in (PretrainedModel, FewShotModel, LinearScore, Recipe, VP)}


def save(path: str | os.PathLike[str], model: PretrainedModel | FewShotModel) -> None:
    """Store a model as npz with a JSON header and a format version; atomic, no pickle.

    Args:
        path: destination; used as it is, no suffix is added.
        model: a pre-trained or adapted model.

    Raises:
        ValueError: for anything else.
        OSError: if the file cannot be written.
    """
    if type(model).__name__ not in ("PretrainedModel", "FewShotModel"):
        raise ValueError(
            f"model must be a PretrainedModel or FewShotModel, got {type(model).__name__}"
        )
    _files.write_record(path, model)


def load(path: str | os.PathLike[str]) -> PretrainedModel | FewShotModel:
    """Read a model stored by `save`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, damaged, or written by a newer format.
    """
    return _files.read_record(path, _STORED)
