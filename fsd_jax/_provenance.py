"""Where a number came from: versions, device, host and commit."""

import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import jax


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
