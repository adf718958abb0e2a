"""What should come out: exact expectations and curves, in float64 on the host."""

from fsd_jax.theory.curves import expected_score_error, expected_subspace_error
from fsd_jax.theory.expansions import marchenko_pastur_mean
from fsd_jax.theory.wishart import wishart_mean

__all__ = [
    "expected_score_error",
    "expected_subspace_error",
    "marchenko_pastur_mean",
    "wishart_mean",
]
