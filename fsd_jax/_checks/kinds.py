"""Checks of what an argument is: an option, a flag, a key, a callback, an object of some class."""

import operator
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


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
        shape = getattr(value, "shape", None)
        text = "one" if shape is None else f"an array of shape {tuple(shape)}"
    return f"{text} ({type(value).__name__})"


def dimension(
    name: str, value: Any, *, low: int = 1, high: int | None = None, top: str = ""
) -> int:
    """A Python integer in ``[low, high]``; booleans and floats are refused."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be an integer, got {named(value)}; pass an int") from None
    if number < low:
        raise ValueError(f"{name} must be at least {low}, got {number}")
    if high is not None and number > high:
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
