"""Values written as specifications: ``10``, ``4,8,16``, ``4:4096:log2``, ``1:9:lin5``."""

import math
import re

import numpy as np

from fsd_jax import _checks

Value = float | int | None
MOST_VALUES = 100_000
_RANGE = re.compile(r"(?P<kind>lin|log)(?P<number>[0-9]{1,9})")
_WHOLE = re.compile(r"\s*[+-]?[0-9]{1,400}\s*")


def parse_spec(name: str, text: str, *, whole: bool = False, infinite: bool = False) -> list[Value]:
    """The values of a specification: ``10``, ``4,8,16``, ``4:4096:log2`` or ``1:9:lin5``.

    ``logB`` multiplies by B from the first value up to the last; ``linN`` takes N equally spaced
    values, ends included.

    Args:
        name: option's name, for messages.
        text: the specification.
        whole: the values must be integers (``1e4`` is one).
        infinite: ``inf`` is allowed and becomes None.

    Returns:
        The values, in the order written, without repetition.

    Raises:
        ValueError: not a specification, a value out of range, or too many of them.
    """
    _checks.instance("name", name, str)
    _checks.instance(name, text, str)
    whole = _checks.boolean("whole", whole)
    infinite = _checks.boolean("infinite", infinite)
    values: list[float | int] = []
    for part in text.split(","):
        values += _range(name, part) if ":" in part else [_number(name, part)]
        if len(values) > MOST_VALUES:
            raise ValueError(f"{name} takes at most {MOST_VALUES} values, got more")
    parsed = [_admit(name, value, whole, infinite) for value in values]
    return list(dict.fromkeys(parsed))


def _admit(name: str, value: float | int, whole: bool, infinite: bool) -> Value:
    if infinite and value == math.inf:
        return None
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value:g}")
    if not whole:
        return float(value)
    if value != int(value) or value < 1:
        raise ValueError(f"{name} takes integers of at least 1, got {value:g}")
    return int(value)


def _number(name: str, text: str) -> float | int:
    """A number; an integer keeps all its digits, and only the word means infinity."""
    try:
        number = float(text)
        if math.isinf(number) and "inf" not in text.lower():
            raise ValueError("too large")
        return int(text) if _WHOLE.fullmatch(text) and math.isfinite(number) else number
    except ValueError:
        raise ValueError(
            f"{name} takes a number, a list 4,8,16 or a range 4:4096:log2 or 1:9:lin5, got {text!r}"
        ) from None


def _range(name: str, text: str) -> list[float]:
    parts = text.split(":")
    how = _RANGE.fullmatch(parts[-1])
    if len(parts) != 3 or how is None:
        raise ValueError(
            f"{name} takes ranges like 4:4096:log2 (times 2) or 1:9:lin5 (5 values), got {text!r}"
        )
    low, high = (float(_number(name, part)) for part in parts[:2])
    number = int(how["number"])
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{name}: the ends of a range are finite, got {text!r}")
    if not low <= high:
        raise ValueError(f"{name}: a range goes up, got {text!r}")
    if how["kind"] == "lin":
        if not 1 <= number <= MOST_VALUES:
            raise ValueError(f"{name}: linN needs N from 1 to {MOST_VALUES}, got {text!r}")
        # Halves, since the distance of two finite numbers may be infinite.
        return [2 * float(x) for x in np.linspace(low / 2, high / 2, number)]
    if number < 2 or low <= 0:
        raise ValueError(f"{name}: logB needs B of at least 2 and a positive start, got {text!r}")
    values = [low]
    # A last value that is off by rounding is still the last value. Both sides may overflow.
    last = min(high * (1 + 1e-12), np.finfo(float).max)
    while values[-1] * number <= last:
        values.append(values[-1] * number)
    return values
