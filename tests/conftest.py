"""Fixtures for every room."""

import gc
import logging
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import jax
import numpy as np
import pytest

# The same examples at every run; the first of a shape waits for a compilation, so no deadline.
hypothesis.settings.register_profile(
    "short", max_examples=40, derandomize=True, deadline=None, database=None
)
hypothesis.settings.register_profile(
    "long", hypothesis.settings.get_profile("short"), max_examples=1000
)
hypothesis.settings.load_profile("short")


def _x64_context():
    context = getattr(jax, "enable_x64", None)
    if context is None:
        from jax import experimental

        context = experimental.enable_x64
    return context(True)


MAPPINGS = Path("/proc/self/maps")
MOST_MAPPINGS = 12_000
"""A fifth of what Linux allows a process. A compiled program takes four, and all tests together so
many that a process was killed at the limit."""


@pytest.fixture(autouse=True, scope="module")
def few_mappings() -> Iterator[None]:
    """Compiled programs are forgotten between files, when they have become many."""
    yield
    if MAPPINGS.exists() and MAPPINGS.read_bytes().count(b"\n") > MOST_MAPPINGS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(autouse=True)
def logger_level() -> Iterator[None]:
    """Command lines silence the library for their process; a test must not for the next one."""
    log = logging.getLogger("fsd_jax")
    level = log.level
    yield
    log.setLevel(level)


@pytest.fixture
def x64() -> Iterator[None]:
    """JAX's x64 mode for the length of one test."""
    with _x64_context():
        yield


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> Iterator[np.dtype]:
    """Each dtype in turn, x64 mode being on for float64."""
    name = request.param
    if name == "float32":
        yield np.dtype(np.float32)
    else:
        with _x64_context():
            yield np.dtype(np.float64)
