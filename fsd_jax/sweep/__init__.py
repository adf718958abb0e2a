"""Parallel, durable sweeps: a grid of cells in, one line of results a cell out."""

from fsd_jax.sweep.accounts import plan_ledger
from fsd_jax.sweep.few_shot import plan_errors
from fsd_jax.sweep.grid import Group, Plan
from fsd_jax.sweep.run import run
from fsd_jax.sweep.spec import parse_spec
from fsd_jax.sweep.table import load_results, read_results, to_grid

__all__ = [
    "Group",
    "Plan",
    "load_results",
    "parse_spec",
    "plan_errors",
    "plan_ledger",
    "read_results",
    "run",
    "to_grid",
]
