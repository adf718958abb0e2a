"""The sections of docs/equations.md: register a new one here, and nowhere else.

Each names the functions that use the result and the tests that pin it by a second route.
`python -m paper_figures.index` writes docs/equation-table.md from this; a test finds holes.
"""

import re
from dataclasses import dataclass

from paper_figures.report import ROOT

PAGE = "docs/equations.md"
_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Section:
    """One section.

    Attributes:
        name: its label, such as R1, or its heading where it has no label.
        functions: what uses the result, names within `fsd_jax`.
        tests: ``file::test`` within ``tests/``.
    """

    name: str
    functions: tuple[str, ...]
    tests: tuple[str, ...]


def headings() -> dict[str, str]:
    """The headings of the page by label, or by themselves where they have none."""
    found = _HEADING.findall((ROOT / PAGE).read_text(encoding="utf-8"))
    label = lambda heading: re.match(r"R\d+(?= )", heading)
    return {(m[0] if (m := label(h)) else h): h for h in found}


def anchor(heading: str) -> str:
    """The link's end that GitHub and the site give to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _section(name: str, functions: str, *tests: str) -> Section:
    return Section(name=name, functions=tuple(functions.split()), tests=tests)


CLOSED, ERRORS = "minimizer/test_closed_form.py::", "score/test_errors.py::"
SUBSPACE, FEW_SHOT = "theory/test_subspace.py::", "fewshot/test_fewshot.py::"
EXPANSIONS, WISHART = "theory/test_expansions.py::", "theory/test_wishart.py::"
REPLICATE, SPECTRA = "simulate/test_replicate.py::", "simulate/test_spectra.py::"
TRAINED, OBJECTIVE = "minimizer/test_trained.py::", "minimizer/test_objective.py::"
LAW, MOMENTS, REPORT = "sampler/test_law.py::", "test_moments.py::", "fewshot/test_report.py::"
NETS, LINEAR = "latent_net/test_latent_net.py::", "score/test_linear.py::"

SECTIONS = (
    _section(
        "Model and process",
        "VP LinearProblem LinearProblem.target_score GaussianLatent.score LinearScore",
        "test_process.py::test_levels_are_consistent",
        "test_linear_model.py::test_target_score_against_dense_and_autodiff",
        LINEAR + "test_the_population_score_is_the_true_one",
    ),
    _section(
        "The loss, noise integrated out",
        "expected_loss monte_carlo_loss LinearScore.losses FewShotModel.losses",
        OBJECTIVE + "test_against_dense_matrices",
        OBJECTIVE + "test_within_four_standard_errors_of_monte_carlo",
        OBJECTIVE + "test_equals_the_mean_of_the_sample_losses",
    ),
    _section(
        "R1",
        "rank_minimizer paper_formula",
        CLOSED + "test_single_time_against_eckart_young",
        CLOSED + "test_lbfgs_never_goes_below_and_comes_close",
    ),
    _section(
        "R2",
        "rank_minimizer finetune",
        CLOSED + "test_integrated_gains_are_those_of_r2",
        CLOSED + "test_lbfgs_never_goes_below_and_comes_close",
    ),
    _section(
        "R3",
        "theory.expected_subspace_error simulate.subspace_errors simulate.errors",
        REPLICATE + "test_means_agree_with_the_data_route_over_a_grid",
        SUBSPACE + "test_agrees_with_drawn_data",
    ),
    _section(
        "R4",
        "theory.expected_subspace_error theory.source_subspace_error "
        "theory.subspace_error_variance theory.plan",
        SUBSPACE + "test_sharp_constants_for_many_samples",
        SUBSPACE + "test_the_source_term_is_the_limit_of_many_target_samples",
        SUBSPACE + "test_variance_agrees_with_drawn_data",
    ),
    _section(
        "R5",
        "theory.marchenko_pastur_mean theory.expected_subspace_error",
        EXPANSIONS + "test_reference_values",
        EXPANSIONS + "test_it_is_the_limit_of_the_exact_value",
    ),
    _section(
        "R6",
        "Minimizer Report theory.plan",
        CLOSED + "test_fewer_samples_than_directions",
        FEW_SHOT + "test_below_the_transition_the_error_is_what_is_missing",
        REPORT + "test_report_counts_directions",
    ),
    _section(
        "R7",
        "orthonormal_minimizer finetune latent_net.finetune",
        CLOSED + "test_orthonormal_is_pca",
        CLOSED + "test_brockett_pairing_beats_every_other",
        TRAINED + "test_diagonal_latent_orthonormal_reaches_brockett",
    ),
    _section(
        "R8",
        "finetune theory.expected_score_error theory.expected_kl simulate.errors theory.plan",
        FEW_SHOT + "test_r8_only_the_source_limits_the_score",
        ERRORS + "test_rank_minimizer_is_training_from_scratch",
        "theory/test_curves.py::test_both_sides_of_the_gain_agree_with_data",
    ),
    _section(
        "R9",
        "rank_minimizer",
        CLOSED + "test_r9_the_assignment_beats_the_sorted_pairing",
        CLOSED + "test_diagonal_latent_at_one_time_is_not_identified_but_optimal",
        CLOSED + "test_diagonal_assignment_is_stationary",
    ),
    _section(
        "R10",
        "theory.diagonal_gain_error",
        EXPANSIONS + "test_eigengaps_cancel_in_the_gain_error",
        EXPANSIONS + "test_small_gaps_are_reported",
    ),
    _section(
        "R11",
        "score_error subspace_error principal_angles",
        ERRORS + "test_score_error_against_dense",
        ERRORS + "test_score_error_within_four_standard_errors_of_monte_carlo",
        ERRORS + "test_subspace_error_is_twice_the_squared_sines",
    ),
    _section(
        "KL and Bures W2 in the thin span",
        "gaussian_kl bures_w2",
        ERRORS + "test_kl_and_w2_against_dense",
        ERRORS + "test_w2_of_singular_laws",
    ),
    _section(
        "R12",
        "pretrain finetune LinearProblem LinearProblem.target_score LinearScore DecodedScore "
        "theory.spiked_subspace_error theory.spiked_threshold",
        FEW_SHOT + "test_pretrain_equals_the_dense_eigenvalues",
        ERRORS + "test_floor_of_the_papers_class",
        EXPANSIONS + "test_spiked_covariance_against_drawn_data",
    ),
    _section(
        "R13",
        "simulate.subspace_errors simulate.errors simulate.block_errors simulate.WishartSpectra "
        "simulate.bartlett_factor simulate.centred_chi_square simulate.reduced_samples "
        "simulate.sampled_errors",
        SPECTRA + "test_sums_over_eigenvalues_have_the_wishart_law",
        SPECTRA + "test_recurrences_equal_the_eigenvalues_of_their_own_matrix",
        "simulate/test_chi_square.py::test_law_from_one_to_a_million_million_degrees",
        "simulate/test_sampled.py::test_reduced_samples_have_the_law_of_data",
    ),
    _section(
        "R14",
        "SecondMoment Minimizer",
        MOMENTS + "test_every_route_gives_the_leading_eigenpairs",
        MOMENTS + "test_residual_is_the_mean_of_what_is_left_out",
    ),
    _section(
        "R15",
        "SecondMoment.from_samples",
        MOMENTS + "test_gap_margin_bounds_the_projector_error",
        MOMENTS + "test_auto_falls_back_to_svd_for_a_weak_direction",
        "test_linalg.py::test_squared_is_safe_looks_at_the_gap_of_the_cut",
    ),
    _section(
        "R16",
        "sampler.sample sampler.sample_latent sampler.generated_law sampler.denoised_law "
        "sampler.continuous_law ledger.account sweep.plan_ledger",
        LAW + "test_law_against_dense_algebra",
        LAW + "test_continuous_law_against_an_ode_solver",
        "sampler/test_reverse.py::test_paths_have_the_exact_law",
    ),
    _section(
        "R17",
        "train Trained",
        TRAINED + "test_gradient_descent_on_null_directions_follows_its_formula",
        "minimizer/test_landscape.py::test_below_d_samples_the_minimum_is_degenerate",
    ),
    _section(
        "R18",
        "ridge_minimizer pooled_moment EmpiricalScore image.closed_form.rehearse",
        "minimizer/test_ridge.py::test_descent_finds_nothing_better_and_the_same_decoder",
        "minimizer/test_ridge.py::test_a_pooled_moment_is_the_weighted_sum",
        "score/test_empirical.py::test_it_is_the_score_of_the_mixture",
        "image/test_closed_form.py::test_rehearsal_runs_from_the_target_to_the_source",
    ),
    _section(
        "The landscape (isotropic latent)",
        "landscape.measure landscape.predicted_spectrum landscape.critical_decoder",
        "minimizer/test_landscape.py::test_curvature_by_differentiation_equals_the_formula",
        "minimizer/test_landscape.py::test_saddles_repel_training",
    ),
    _section(
        "R19",
        "theory.wishart_mean theory.wishart_covariance theory.expected_subspace_error "
        "theory.subspace_error_variance theory.expected_score_error theory.expected_kl theory.plan",
        WISHART + "test_agrees_with_drawn_samples",
        WISHART + "test_covariances_agree_with_drawn_samples",
        WISHART + "test_reference_values_of_the_subspace_error",
        REPLICATE + "test_means_equal_the_exact_curve",
    ),
    _section(
        "Deterministic equivalents (any spectrum)",
        "theory.deterministic_equivalent",
        "theory/test_equivalents.py::test_a_decaying_spectrum_against_simulation",
        "theory/test_equivalents.py::test_isotropic_against_the_exact_expectation",
    ),
    _section(
        "The ledger",
        "ledger.account",
        "test_ledger.py::test_every_substitution_by_hand",
        "test_ledger.py::test_columns_sum_to_the_total",
    ),
    _section(
        "Networks (Section 4)",
        "latent_net.ReLUNet latent_net.pretrain latent_net.finetune latent_net.net_score_error "
        "latent_net.plan_section4",
        NETS + "test_losses_integrate_out_what_is_outside_the_subspace",
        NETS + "test_the_error_of_a_gaussian_model_is_the_exact_one",
        NETS + "test_few_shot_takes_the_network_along",
    ),
    _section(
        "The paper's bounds as numbers",
        "theory.theorem_4_3 theory.theorem_5_2 theory.least_constant theory.log_exponent "
        "theory.lemma_b_1 theory.lemma_b_2 theory.lemma_d_1 theory.lemma_d_2 theory.lemma_d_3",
        "theory/test_bounds.py::test_theorem_4_3_by_hand",
        "theory/test_bounds.py::test_theorem_5_2_by_hand",
        "theory/test_bounds.py::test_theorem_5_2_needs_a_constant",
        "theory/test_lemmas.py::test_lemma_d_3_lies_above_the_exact_error_and_falls_half_as_fast",
    ),
    _section(
        "Planning",
        "theory.plan theory.table_one theory.samples_by_rule",
        "theory/test_planner.py::test_the_smallest_number_on_the_curve",
        "theory/test_planner.py::test_matching_the_source",
        "theory/test_table.py::test_the_three_rows",
    ),
    _section(
        "Slopes",
        "theory.loglog_slope",
        "theory/test_rates.py::test_weights_by_the_normal_equations",
        "theory/test_rates.py::test_the_interval_covers_as_often_as_it_says",
    ),
    _section(
        "Completion from the source",
        "finetune",
        FEW_SHOT + "test_completion_keeps_what_was_found_and_projects_the_source",
        FEW_SHOT + "test_target_inside_the_source_span_completes_to_the_source_span",
    ),
    _section(
        "Leave-one-out",
        "FewShotModel.report target_only",
        REPORT + "test_leave_one_out_equals_refits_by_hand",
        REPORT + "test_target_only_dimension_has_the_least_leave_one_out_loss",
    ),
)
