"""What the processes of one run agree on: values, facts, and that one of them has failed."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np

T = TypeVar("T")
_FINE, _FAILED, _INTERRUPTED = range(3)
_LENGTH = 1024
_KINDS: dict[str, type[Exception]] = {"ValueError": ValueError, "OSError": OSError}


def everyone(values: np.ndarray) -> np.ndarray:
    """All processes' values, one after the other, on every process.

    Raises:
        RuntimeError: another process is gone.
    """
    if jax.process_count() == 1:
        return values
    from jax.experimental import multihost_utils

    try:
        return np.asarray(multihost_utils.process_allgather(values, tiled=True))
    except Exception as error:
        # A broken connection comes as one kind or another, also as a ValueError.
        raise RuntimeError(
            f"another process of this run cannot be reached, it has probably ended ({error}); "
            "start all of them again with resume=True"
        ) from error


def attempt(call: Callable[[], T]) -> T | Exception:
    """What `call` returns here or, if it failed on any process, an error on all of them.

    Raises:
        BaseException: an interruption (Ctrl-C, or an exit), on all processes.
    """
    try:
        result: T | BaseException = call()
    except BaseException as error:
        if jax.process_count() == 1 and not isinstance(error, Exception):
            raise
        result = error
    if jax.process_count() == 1:
        return result  # type: ignore[return-value]
    told = everyone(_packed(result)[None])
    if isinstance(result, BaseException) and not isinstance(result, Exception):
        raise result
    failures = [(process, *_unpacked(row)) for process, row in enumerate(told) if row[0] != _FINE]
    for process, code, kind, _ in failures:
        if code == _INTERRUPTED:
            raise RuntimeError(f"process {process} was interrupted ({kind}); so this one stops")
    if failures and not isinstance(result, Exception):
        process, _, kind, words = failures[0]
        return _KINDS.get(kind, RuntimeError)(f"process {process}: {kind}: {words}")
    return result


def together(call: Callable[[], T]) -> T:
    """What `call` returns; an error on one process is raised on all.

    Raises:
        Exception: what `call` raised here or elsewhere.
    """
    result = attempt(call)
    if isinstance(result, Exception):
        raise result
    return result


def agree(facts: Mapping[str, Any]) -> None:
    """Refuse to go on where the processes of one run were given different things.

    Raises:
        ValueError: on all processes, naming the first fact that differs.
    """
    digests = [hashlib.sha256(repr(fact).encode()).digest()[:8] for fact in facts.values()]
    told = everyone(np.frombuffer(b"".join(digests), np.uint8).reshape(1, len(facts), 8))
    for place, name in enumerate(facts):
        others = np.flatnonzero(np.any(told[:, place] != told[0, place], axis=1))
        if len(others):
            raise ValueError(
                f"process {others[0]} was given another {name} than process 0; give all processes "
                f"of a run the same (here: {facts[name]})"
            )


def _packed(result: Any) -> np.ndarray:
    """A code, and an error's kind and words, as bytes of one length."""
    packed = np.zeros(_LENGTH, np.uint8)
    if isinstance(result, BaseException):
        packed[0] = _FAILED if isinstance(result, Exception) else _INTERRUPTED
        kind = "OSError" if isinstance(result, OSError) else type(result).__name__
        text = f"{kind}\n{result}".encode()[: _LENGTH - 1]
        packed[1 : 1 + len(text)] = np.frombuffer(text, np.uint8)
    return packed


def _unpacked(row: np.ndarray) -> tuple[int, str, str]:
    text = row[1:].tobytes().rstrip(b"\0").decode(errors="replace")
    kind, _, words = text.partition("\n")
    return int(row[0]), kind, words
