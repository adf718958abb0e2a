"""Parallel, durable sweeps: a grid of cells in, one line of results a cell out.

It knows no physics. Plans are made by `plan` for a function of your own, and beside the physics by
`simulate.plan_errors`, `ledger.plan_ledger` and `latent_net.plan_section4`.
"""

import importlib
from typing import TYPE_CHECKING, Any

from fsd_jax.sweep._plan import Group, Plan, plan
from fsd_jax.sweep._results import load_results, read_results, to_grid
from fsd_jax.sweep._run import run
from fsd_jax.sweep._spec import parse_spec

if TYPE_CHECKING:
    from fsd_jax.ledger import plan_ledger as plan_ledger
    from fsd_jax.simulate import plan_errors as plan_errors

__all__ = [
    "Group",
    "Plan",
    "load_results",
    "parse_spec",
    "plan",
    "read_results",
    "run",
    "to_grid",
]

_ELSEWHERE = {"plan_errors": "fsd_jax.simulate", "plan_ledger": "fsd_jax.ledger"}
"""Planners that used to be here; the names still work."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in _ELSEWHERE:
            return getattr(importlib.import_module(_ELSEWHERE[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
