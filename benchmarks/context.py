"""What a case is told: how large to be, where to put pictures' data, how to report progress."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Context:
    """Settings of one run.

    Attributes:
        size: ``"quick"``, ``"default"`` or ``"full"``.
        seed: base seed.
        out: folder for arrays that figures need.
        tell: called with a short line when a case reaches its next step.
    """

    size: str
    seed: int
    out: Path
    tell: Callable[[str], None]

    def pick(self, quick: T, default: T, full: T) -> T:
        """The value for this size."""
        return {"quick": quick, "default": default, "full": full}[self.size]
