"""Checks of what an argument is: an option, a flag, a key, a callback, an object of some class."""

import math
import operator
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

MOST_ENTRIES = 2**31 - 1
"""The longest axis of an array: more cannot be indexed."""


class DataWarning(UserWarning):
    """Data that can be computed with but were hardly meant: two sets on different scales."""


def tell(message: str) -> None:
    """Warn with a `DataWarning` at the first caller outside this package."""
    depth, frame = 2, sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] == "fsd_jax":
        depth, frame = depth + 1, frame.f_back
    warnings.warn(message, DataWarning, stacklevel=depth)


def named(value: Any) -> str:
    """A value and its type, in a few words, for messages."""
    text = repr(value)
    if len(text) > 60 or "\n" in text:
        # Whatever a user may pass by mistake has an attribute of this name: a module, for one.
        shape = getattr(value, "shape", None)
        text = f"an array of shape {shape}" if isinstance(shape, tuple) else "one"
    return f"{text} ({type(value).__name__})"


def dimension(
    name: str, value: Any, *, low: int = 1, high: int | float = MOST_ENTRIES, top: str = ""
) -> int:
    """A Python integer in ``[low, high]``; booleans and floats are refused.

    What counts samples that are never drawn has a `high` of its own, infinity for instance.
    """
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be an integer, got {named(value)}; pass an int") from None
    if number < low:
        raise ValueError(f"{name} must be at least {low}, got {number}")
    if number > high:
        raise ValueError(f"{name} must be at most {high}{top}, got {number}; choose a smaller one")
    return number


def choice(name: str, value: Any, options: Sequence[str | None]) -> None:
    """Refuse anything but the words in `options`."""
    if not (value is None or isinstance(value, str)) or value not in options:
        words = ", ".join(repr(option) for option in options)
        raise ValueError(f"{name} must be one of {words}; got {named(value)}")


def boolean(name: str, value: Any) -> bool:
    """True or False; words and numbers, which Python takes for true, are refused."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} must be True or False, got {named(value)}")
    return bool(value)


def instance(name: str, value: Any, kinds: type | tuple[type, ...], advice: str = "") -> None:
    """Refuse a value that is of none of these classes; `advice` says how to make one."""
    if not isinstance(value, kinds):
        classes = kinds if isinstance(kinds, tuple) else (kinds,)
        words = " or ".join(kind.__name__ for kind in classes)
        hint = f"; {advice}" if advice else ""
        raise ValueError(f"{name} must be a {words}, got {named(value)}{hint}")


def path(name: str, value: Any) -> Path:
    """The path of a file or folder; what the system would take for another thing is refused.

    An integer, a boolean included, is an open file's number to it.
    """
    if not isinstance(value, (str, os.PathLike)) or not isinstance(os.fspath(value), str):
        raise ValueError(f"{name} must be a path, a string or pathlib.Path, got {named(value)}")
    if "\0" in os.fspath(value):
        raise ValueError(f"{name} must be a path, and {value!r:.60} holds a zero byte")
    return Path(value)


def number(name: str, value: Any) -> float:
    """One finite Python number; booleans are refused."""
    # Words and arrays of one entry can be converted too, and nobody means that.
    alone = getattr(value, "shape", ()) == () and not isinstance(value, (str, bytes))
    plain = alone and not isinstance(value, (bool, np.bool_))
    try:
        found = float(value) if plain else math.nan
    except Exception:  # An array-like may refuse with an exception of any kind.
        found = math.nan
    if not math.isfinite(found):
        raise ValueError(f"{name} must be a finite number, got {named(value)}")
    return found


def callback(name: str, value: Any) -> None:
    """Refuse what can be neither called nor left out."""
    if value is not None and not callable(value):
        raise ValueError(f"{name} must be a function or None, got {named(value)}")


def key(name: str, value: Any) -> jax.Array:
    """One typed JAX key; a raw one of the default generator is wrapped."""
    advice = "pass a key such as jax.random.key(0)"
    if not isinstance(value, jax.Array):
        raise ValueError(f"{name} must be a JAX random key, got {named(value)}; {advice}")
    if value.dtype == jnp.uint32 and value.ndim == 1:
        try:
            value = jax.random.wrap_key_data(value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name} is not a raw JAX random key ({error}); {advice}") from None
    if not jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        raise ValueError(f"{name} must be a JAX random key, got {named(value)}; {advice}")
    if value.ndim:
        raise ValueError(
            f"{name} must be one key, got keys of shape {tuple(value.shape)}; "
            "use jax.vmap for a batch of keys"
        )
    return value
