"""What should come out: exact expectations and curves, in float64 on the host."""

from fsd_jax.theory.curves import expected_score_error
from fsd_jax.theory.wishart import wishart_mean

__all__ = ["expected_score_error", "wishart_mean"]
