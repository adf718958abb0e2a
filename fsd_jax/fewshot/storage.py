"""Models on disk, and what every stored class must fulfil to be written and to be believed."""

import math
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fsd_jax import _checks, _npz
from fsd_jax._checks import ERRORS, Status
from fsd_jax._process import VE, VP, Flow, Process
from fsd_jax.fewshot.choice import Choices
from fsd_jax.fewshot.fit import Recipe
from fsd_jax.fewshot.model import FewShotModel
from fsd_jax.fewshot.source import PretrainedModel
from fsd_jax.score._linear import LinearScore

_PROCESSES = (VP, VE, Flow)
_STORED = {
    c.__name__: c
    for c in (PretrainedModel, FewShotModel, LinearScore, Recipe, Choices, *_PROCESSES)
}
_MODELS = (PretrainedModel, FewShotModel)
_SKEW = 1e-3
"""A basis is orthonormal to rounding, some eps sqrt(D) in float32; this is far beyond."""


def save(path: str | os.PathLike[str], model: PretrainedModel | FewShotModel) -> None:
    """Store a model as npz with a JSON header and a format version; atomic, no pickle.

    A file that is replaced keeps its mode, and a link stays a link. The file holds the target
    samples: a new one can be read by whom your umask allows.

    Args:
        path: destination; used as it is, no suffix is added.
        model: a pre-trained or adapted model.

    Raises:
        ValueError: for anything else, and for a model that `load` would refuse.
        OSError: if the file cannot be written.
    """
    if type(model) not in _MODELS:
        raise ValueError(
            f"model must be a PretrainedModel or FewShotModel, got {type(model).__name__}"
        )
    if _checks.is_traced(model):
        raise ValueError("model is being traced; save it outside jit, vmap and grad")
    try:
        check(model)
    except ValueError as error:
        raise ValueError(f"model cannot be stored: {error}") from None
    _npz.write_record(_checks.path("path", path), model)


def load(path: str | os.PathLike[str]) -> PretrainedModel | FewShotModel:
    """Read a model stored by `save`, and verify it: checksums, shapes, signs, finiteness.

    Numbers that are not finite are believed only of a model whose status says so.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, damaged, or written by a newer format.
    """
    return _npz.read_record(_checks.path("path", path), _STORED, update=_update, check=check)


def _update(version: int, name: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Fields of an older format as today's classes have them."""
    if version == 1 and name == "PretrainedModel":
        count = np.asarray(fields["count"])
        if not 0 <= count <= np.iinfo(np.int32).max:
            raise ValueError(f"count is {count}")
        return fields | {"count": jnp.asarray(count.astype(np.int32))}
    return fields


def check(model: Any) -> None:
    """Whether a model can be what it says.

    Raises:
        ValueError: the first field that cannot be, and why.
    """
    if type(model) not in _MODELS:
        raise ValueError(f"no model inside, but a {type(model).__name__}")
    _CHECKS[type(model)](model)


def _pretrained(model: PretrainedModel) -> None:
    finite = _finite(model.status)
    ambient, d = _basis("basis", model.basis, finite)
    _array("latent_variance", model.latent_variance, (d,), finite, low=0)
    _array("residual_variance", model.residual_variance, (), finite, low=0)
    _array("mean", model.mean, (ambient,), finite)
    count = _number("count", model.count)
    if not (count >= 0 and count == np.floor(count)):
        raise ValueError(f"count is {count}")
    _shape(model.shape, ambient)
    _process(model.process)
    _checks.choice("spectrum", model.spectrum, ("sample", "heldout", "shrunk"))


def _few_shot(model: FewShotModel) -> None:
    if model.source is not None:
        _kind("source", model.source, PretrainedModel)
    # Numbers of a bad source are found in what was made of it.
    finite = _finite(model.status) and (model.source is None or _finite(model.source.status))
    _recipe(model.recipe)
    d = model.recipe.latent_dim
    ambient = _linear(model.linear, finite, d)
    if (model.choices is not None) != (model.recipe.method == "adapted"):
        raise ValueError(f"choices are {model.choices!r:.60}, the method {model.recipe.method}")
    if model.choices is not None:
        _chosen(model.choices)
    if model.source is not None:
        _pretrained(model.source)
        width = np.shape(model.source.basis)[-1] if model.choices else d
        _array("source's basis", model.source.basis, (ambient, width), _finite(model.source.status))
    elif model.recipe.method != "target-only":
        raise ValueError(f"source is missing, and the method is {model.recipe.method}")
    rows = np.shape(model.samples)[:1]
    _array("samples", model.samples, (*rows, ambient), finite)
    if rows == (0,):
        raise ValueError("samples are empty")
    times = np.shape(model.times)
    if len(times) != 1 or times == (0,):
        raise ValueError(f"times has shape {times}")
    if np.any(_array("times", model.times, times, True, low=0) == 0):
        raise ValueError("times has a zero")
    _array("weights", model.weights, times, True, low=0)
    for name in ("kept", "rank"):
        value = _number(name, getattr(model, name), whole=True)
        if not 0 <= value <= d:
            raise ValueError(f"{name} is {value}, with latent_dim = {d}")
    _shape(model.shape, ambient)


def _linear(score: LinearScore, finite: bool, latent_dim: int) -> int:
    _kind("linear", score, LinearScore)
    ambient, k = _basis("linear basis", score.basis, finite)
    columns = np.shape(score.mixing)[-1:]
    _array("mixing", score.mixing, (k, *columns), finite)
    if columns[0] > latent_dim:
        raise ValueError(f"mixing has {columns[0]} columns, with latent_dim = {latent_dim}")
    _array("linear latent_variance", score.latent_variance, columns, finite, low=0)
    _array("linear residual_variance", score.residual_variance, (), finite, low=0)
    _array("linear mean", score.mean, (ambient,), finite)
    _process(score.process)
    return ambient


def _recipe(recipe: Recipe) -> None:
    _kind("recipe", recipe, Recipe)
    _checks.choice("method", recipe.method, ("few-shot", "source-as-is", "target-only", "adapted"))
    _checks.choice("constraint", recipe.constraint, ("orthonormal", "rank"))
    _checks.choice("mean", recipe.mean, ("target", "source", None))
    _checks.choice("complete", recipe.complete, ("source", "none"))
    _checks.dimension("latent_dim", recipe.latent_dim)


def _chosen(choices: Choices) -> None:
    _kind("choices", choices, Choices)
    shares = (choices.target_share, choices.mean_share, choices.ridge)
    numbers = (*shares, *choices.scales, *choices.point)
    if not all(type(value) is float and math.isfinite(value) for value in numbers):
        raise ValueError(f"choices hold something else than numbers: {choices!r:.60}")


def _process(process: Process) -> None:
    if type(process) not in _PROCESSES:
        names = ", ".join(kind.__name__ for kind in _PROCESSES)
        raise ValueError(f"process is a {type(process).__name__}, and only {names} can be stored")
    if not isinstance(process, VP):
        return
    for name in ("knots", "rates"):
        values = getattr(process, name)
        proper = isinstance(values, tuple) and all(
            isinstance(value, (int, float)) and not isinstance(value, bool) for value in values
        )
        if not proper:
            raise ValueError(f"{name} is {values!r}")
    VP.scheduled(process.knots, process.rates)


_CHECKS: dict[type, Callable[[Any], None]] = {
    PretrainedModel: _pretrained,
    FewShotModel: _few_shot,
}


def _kind(name: str, value: Any, kind: type) -> None:
    if type(value) is not kind:
        raise ValueError(f"{name} is no {kind.__name__} but a {type(value).__name__}")


def _finite(status: Any) -> bool:
    """Whether the numbers beside this status must be finite."""
    code = _number("status", status, whole=True)
    known = int(np.bitwise_or.reduce([int(flag) for flag in Status]))
    if code < 0 or int(code) & ~known:
        raise ValueError(f"status is {code}")
    return not int(code) & int(ERRORS)


def _number(name: str, value: Any, *, whole: bool = False) -> Any:
    array = _host(name, value)
    if array.shape or (whole and array.dtype.kind not in "iu"):
        raise ValueError(f"{name} has shape {array.shape} and dtype {array.dtype}")
    return array[()]


def _basis(name: str, value: Any, finite: bool) -> tuple[int, int]:
    """Its shape; columns are orthonormal or, where data determined none, zero."""
    array = _host(name, value)
    if array.ndim != 2 or not 1 <= array.shape[1] <= array.shape[0]:
        raise ValueError(f"{name} has shape {array.shape}")
    _array(name, value, array.shape, finite)
    if finite:
        with np.errstate(over="ignore", invalid="ignore"):
            gram = np.asarray(array.T @ array, np.float64)
        ideal = np.diag(np.any(array != 0, axis=0).astype(float))
        skew = np.max(np.abs(gram - ideal))
        if not skew <= _SKEW:
            raise ValueError(f"{name} has columns that are not orthonormal, by {skew:.2g}")
    return array.shape


def _array(
    name: str, value: Any, shape: tuple[int, ...], finite: bool, *, low: float = -math.inf
) -> np.ndarray:
    array = _host(name, value)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, not {shape}")
    if array.dtype.kind != "f":
        raise ValueError(f"{name} has dtype {array.dtype}")
    if finite and not np.all(np.isfinite(array)):
        raise ValueError(f"{name} has numbers that are not finite, and the status is ok")
    if np.any(array < low):
        raise ValueError(f"{name} has a negative entry")
    return array


def _host(name: str, value: Any) -> np.ndarray:
    """Stored arrays are looked at on the host: that is where they come from and go to."""
    if not isinstance(value, (jax.Array, np.ndarray)):
        raise ValueError(f"{name} is no array but {value!r:.60}")
    return np.asarray(value)


def _shape(shape: Any, ambient: int) -> None:
    proper = isinstance(shape, tuple) and all(type(n) is int and n >= 1 for n in shape)
    if not proper or math.prod(shape) != ambient:
        raise ValueError(f"shape is {shape!r}, for D = {ambient}")
