"""What should come out: exact expectations, expansions, bounds and plans, on the host."""

from fsd_jax.theory._bounds import (
    FormulaValue,
    LeastConstant,
    least_constant,
    log_exponent,
    theorem_4_3,
    theorem_5_2,
)
from fsd_jax.theory._curves import (
    expected_subspace_error,
    source_subspace_error,
    subspace_error_variance,
)
from fsd_jax.theory._equivalents import DeterministicEquivalent, deterministic_equivalent
from fsd_jax.theory._expansions import (
    diagonal_gain_error,
    marchenko_pastur_mean,
    spiked_subspace_error,
    spiked_threshold,
)
from fsd_jax.theory._lemmas import lemma_b_1, lemma_b_2, lemma_d_1, lemma_d_2, lemma_d_3
from fsd_jax.theory._limits import completed_score_error, minimax_score_error
from fsd_jax.theory._planner import SampleSize, plan
from fsd_jax.theory._rates import Slope, loglog_slope
from fsd_jax.theory._score_curves import expected_kl, expected_score_error
from fsd_jax.theory._table_one import samples_by_rule, table_one
from fsd_jax.theory._wishart import wishart_covariance, wishart_mean

__all__ = [
    "DeterministicEquivalent",
    "FormulaValue",
    "LeastConstant",
    "SampleSize",
    "Slope",
    "completed_score_error",
    "deterministic_equivalent",
    "diagonal_gain_error",
    "expected_kl",
    "expected_score_error",
    "expected_subspace_error",
    "least_constant",
    "lemma_b_1",
    "lemma_b_2",
    "lemma_d_1",
    "lemma_d_2",
    "lemma_d_3",
    "log_exponent",
    "loglog_slope",
    "marchenko_pastur_mean",
    "minimax_score_error",
    "plan",
    "samples_by_rule",
    "source_subspace_error",
    "spiked_subspace_error",
    "spiked_threshold",
    "subspace_error_variance",
    "table_one",
    "theorem_4_3",
    "theorem_5_2",
    "wishart_covariance",
    "wishart_mean",
]
