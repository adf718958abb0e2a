"""Where a number came from: versions, device, host and commit."""

import platform
import subprocess
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from jaxtyping import Array


@cache
def provenance() -> dict[str, Any]:
    """Versions, device, host and git hash of this run."""
    names = ("fsd-jax", "jax", "jaxlib", "optax", "numpy", "scipy", "scikit-learn", "torch")
    device = jax.devices()[0]
    return {
        "versions": {name: _version(name) for name in names},
        "python": platform.python_version(),
        "device": f"{device.platform}: {device.device_kind} x {jax.device_count()}",
        "processor": _processor(),
        "git": _git(),
    }


def randomness(key: Array | None = None) -> dict[str, Any]:
    """What else than a seed decides the numbers that are drawn; part of what a result is of.

    Args:
        key: one that is drawn from; None is what `jax.random.key` makes now.
    """
    # Not every release of JAX has every switch; one that stands as usual is not worth a word.
    switch = partial(getattr, jax.config)
    drawn = switch("jax_default_prng_impl", "") if key is None else jax.random.key_impl(key)
    generator = str(drawn)
    for name, usual in (("jax_threefry_partitionable", True), ("jax_random_seed_offset", 0)):
        if (now := switch(name, usual)) != usual:
            generator += f", {name}={now}"
    found = {"generator": generator, "x64": bool(switch("jax_enable_x64", False))}
    products = switch("jax_default_matmul_precision", None)
    return found if products is None else found | {"matmul_precision": str(products)}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
        return f"{model} x {sum('model name' in line for line in lines)}"
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _git() -> str | None:
    here = Path(__file__).parent
    try:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
        done = subprocess.run(
            command, cwd=here, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
