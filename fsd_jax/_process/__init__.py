"""Forward processes ``x_t = alpha_t x_0 + sigma_t xi``, time grids, weights over time."""

from fsd_jax._process._grids import geometric_grid, paper_grid, uniform_grid
from fsd_jax._process._path import Process, check
from fsd_jax._process._paths import VE, Flow, GaussianPath
from fsd_jax._process._schedules import Schedule, schedule
from fsd_jax._process._vp import VP

__all__ = [
    "VE",
    "VP",
    "Flow",
    "GaussianPath",
    "Process",
    "Schedule",
    "check",
    "geometric_grid",
    "paper_grid",
    "schedule",
    "uniform_grid",
]
