"""The statements of the paper: register a new one here, and nowhere else.

Each has a rule, a function from a figure's results table to a verdict (`paper_figures.rules`), the
function of the library that implements it, and the test that pins that. A statement whose function,
figure or rule is not there yet stands here all the same: its verdict says what is missing.
"""

from collections.abc import Callable
from dataclasses import dataclass

from paper_figures.rules import (
    appendix,
    checks,
    closed_form,
    images,
    networks,
    rates,
    samplers,
    table_1,
)
from paper_figures.table import Table
from paper_figures.verdicts import Verdict

Rule = Callable[[Table], Verdict]
CLOSED = "tests/minimizer/test_closed_form.py::"
BOUNDS = "tests/theory/test_bounds.py::"
LEMMAS = "tests/theory/test_lemmas.py::"
SUBSPACE = "tests/theory/test_subspace.py::"
MODEL = "tests/test_linear_model.py::"
PICTURES = "tests/image/test_closed_form.py::"
LATENT = "tests/test_latent.py::"


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One claim.

    Attributes:
        name: where the paper makes it.
        says: what it says, in our words.
        function: dotted name of what implements it.
        test: node id of the test that pins that; None only while the function is missing.
        figure: name of the figure whose table the rule reads.
        rule: from the table to a verdict; None only while the function or the figure is missing.
    """

    name: str
    says: str
    function: str
    test: str | None = None
    figure: str
    rule: Rule | None = None


def _slip(where: str, says: str, function: str, test: str, figure: str, rule: Rule) -> Statement:
    return Statement(
        name=f"Slip: {where}", says=says, function=function, test=test, figure=figure, rule=rule
    )


STATEMENTS = (
    Statement(
        name="Assumption 3.1",
        says="Source and target are X = A Z with orthonormal A_s, A_ta and one law of the latent Z",
        function="fsd_jax.LinearProblem",
        test=MODEL + "test_law_is_the_one_of_assumption_3_1",
        figure="checks",
        rule=checks.assumption_3_1,
    ),
    Statement(
        name="Section 3.1, score",
        says="The score is A grad log q^LD(A'x) - (I - AA')x/sigma_t^2: the diffusion happens in "
        "the latent space",
        function="fsd_jax.LinearProblem.target_score",
        test=MODEL + "test_target_score_against_dense_and_autodiff",
        figure="checks",
        rule=checks.decomposition,
    ),
    Statement(
        name="Section 3.1, footnote 3",
        says="All extends to a rate beta_t of the forward process",
        function="fsd_jax.VP.linear",
        test=CLOSED + "test_process_only_rescales_time",
        figure="checks",
        rule=checks.schedule,
    ),
    Statement(
        name="Section 3.1, sampler",
        says="The reverse SDE, its score frozen in each step and the rest solved exactly, samples "
        "the law",
        function="fsd_jax.sampler.sample",
        test="tests/sampler/test_law.py::test_order_of_convergence_in_law",
        figure="sampler-orders",
        rule=samplers.orders,
    ),
    Statement(
        name="Section 3.2, objective",
        says="Denoising score matching differs from the score error by a constant",
        function="fsd_jax.expected_loss",
        test="tests/minimizer/test_objective.py::test_within_four_standard_errors_of_monte_carlo",
        figure="checks",
        rule=checks.constant_difference,
    ),
    Statement(
        name="Assumption 4.1",
        says="The latent has a positive smooth density, a sub-Gaussian tail, lambda_min >= c_0 and "
        "E |Z|^2 <= C_Z",
        function="fsd_jax.GaussianLatent",
        test="tests/test_latent.py::test_sample_moments_within_five_standard_errors",
        figure="checks",
        rule=checks.assumption_4_1,
    ),
    Statement(
        name="Assumption 4.2",
        says="The on-support score is beta-Lipschitz at every t",
        function="fsd_jax.GaussianLatent.score",
        test="tests/test_latent.py::test_score_is_the_gradient_of_the_log_density",
        figure="checks",
        rule=checks.assumption_4_2,
    ),
    Statement(
        name="Assumption 4.1, networks",
        says="The latents that networks are trained on have lambda_min >= c_0 and E |Z|^2 <= C_Z",
        function="fsd_jax.latent_constants",
        test=LATENT + "test_constants_of_the_assumptions",
        figure="theorem-4.3",
        rule=networks.moments,
    ),
    Statement(
        name="Assumption 4.2, networks",
        says="The on-support score of these latents is beta-Lipschitz at every t",
        function="fsd_jax.latent_constants",
        test=LATENT + "test_constants_of_the_assumptions",
        figure="theorem-4.3",
        rule=networks.lipschitz,
    ),
    Statement(
        name="Theorem 4.3",
        says="Few-shot models have score error O(n_s^(-2/d) + n_ta^(-1/2)), for ReLU networks",
        function="fsd_jax.latent_net.plan_section4",
        test="tests/latent_net/test_latent_net.py::test_few_shot_takes_the_network_along",
        figure="theorem-4.3",
        rule=networks.theorem,
    ),
    Statement(
        name="Theorem 4.3, latent Gaussian",
        says="Frozen f and a tuned V escape the curse: far below training from scratch",
        function="fsd_jax.theory.expected_score_error",
        test="tests/theory/test_curves.py::test_both_sides_of_the_gain_agree_with_data",
        figure="few-shot-gain",
        rule=rates.escapes,
    ),
    Statement(
        name="Section 4.1, 5 to 10 samples",
        says="A handful of target samples is enough, fewer for larger d",
        function="fsd_jax.theory.expected_score_error",
        test="tests/theory/test_curves.py::test_limits",
        figure="few-shot-gain",
        rule=rates.below_d,
    ),
    Statement(
        name="Section 4.1, everything tuned",
        says="Fine-tuning every weight falls back to n_ta^(-2/d)",
        function="fsd_jax.latent_net.finetune",
        test="tests/latent_net/test_latent_net.py::test_few_shot_takes_the_network_along",
        figure="theorem-4.3",
        rule=networks.overfits,
    ),
    Statement(
        name="Section 4.1, memorisation",
        says="Fine-tuning everything memorises the target samples; tuning encoder and decoder does "
        "not",
        function="fsd_jax.EmpiricalScore",
        test=PICTURES + "test_everything_tuned_copies_and_encoder_and_decoder_do_not",
        figure="memorisation",
        rule=images.memorises,
    ),
    Statement(
        name="Remark 4.4",
        says="The coefficients of n_ta and n_s in Theorem 4.3 are of the same order",
        function="fsd_jax.theory.theorem_4_3",
        test=BOUNDS + "test_theorem_4_3_by_hand",
        figure="checks",
        rule=checks.coefficient,
    ),
    Statement(
        name="Table 1",
        says="Target samples needed to match pre-training: 6, 8, 8, 5, 5, by n_ta^(-1/2) against "
        "n_s^(-2/d)",
        function="fsd_jax.theory.table_one",
        test="tests/theory/test_table.py::test_the_three_rows",
        figure="table-1",
        rule=table_1.printed_row,
    ),
    Statement(
        name="Table 1, its condition",
        says="Its row follows from n_ta^((d+5)/(4(1-alpha(n_s)))) >= n_s",
        function="fsd_jax.theory.samples_by_rule",
        test="tests/theory/test_table.py::test_the_stated_rule_is_the_theorems_condition",
        figure="table-1",
        rule=table_1.condition,
    ),
    Statement(
        name="Table 1, enough samples",
        says="So many target samples give an accurate few-shot model",
        function="fsd_jax.theory.plan",
        test="tests/theory/test_planner.py::test_the_papers_rules",
        figure="table-1",
        rule=table_1.few_enough,
    ),
    Statement(
        name="Lemma 5.1",
        says="The loss over rank(V) = d has the minimiser VV' = (m_t^2 + sigma_t^2/lambda^2) "
        "(m_t^2 C + sigma_t^2 I)^(-1) C",
        function="fsd_jax.rank_minimizer",
        test=CLOSED + "test_single_time_against_eckart_young",
        figure="lemma-5.1",
        rule=closed_form.minimiser,
    ),
    Statement(
        name="Section 5, no optimisation",
        says="The minimiser is had directly, without a complex optimisation process",
        function="fsd_jax.train",
        test=CLOSED + "test_lbfgs_never_goes_below_and_comes_close",
        figure="lemma-5.1",
        rule=closed_form.no_optimisation,
    ),
    Statement(
        name="Section 5, population",
        says="With infinite n_s and n_ta the subspace is recovered exactly",
        function="fsd_jax.rank_minimizer",
        test=CLOSED + "test_the_population_gives_the_truth_exactly",
        figure="lemma-5.1",
        rule=closed_form.population,
    ),
    Statement(
        name="Section 5, weaker constraint",
        says="rank(V) = d needs less prior knowledge than V'V = I and serves as well",
        function="fsd_jax.orthonormal_minimizer",
        test="tests/score/test_errors.py::test_rank_minimizer_is_training_from_scratch",
        figure="few-shot-gain",
        rule=rates.weaker_constraint,
    ),
    Statement(
        name="Theorem 5.2",
        says="|| VV' - AA' ||_F^2 is O(1/n_ta + 1/sqrt(n_s)) for every t",
        function="fsd_jax.theory.theorem_5_2",
        test=BOUNDS + "test_theorem_5_2_by_hand",
        figure="theorem-5.2",
        rule=rates.theorem,
    ),
    Statement(
        name="Theorem 5.2, target rate",
        says="The error falls like 1/n_ta",
        function="fsd_jax.theory.expected_subspace_error",
        test=SUBSPACE + "test_sharp_constants_for_many_samples",
        figure="theorem-5.2",
        rule=rates.target_rate,
    ),
    Statement(
        name="Theorem 5.2, source exponent",
        says="For a Gaussian latent the exponent of n_s does not depend on d",
        function="fsd_jax.theory.source_subspace_error",
        test=SUBSPACE + "test_the_source_term_is_the_limit_of_many_target_samples",
        figure="theorem-5.2",
        rule=rates.source_exponent,
    ),
    Statement(
        name="Remark 5.3",
        says="The metric || VV' - AA' ||_F^2 ignores rotations of V; || V - A ||_F does not",
        function="fsd_jax.subspace_error",
        test="tests/score/test_errors.py::test_subspace_error_against_dense",
        figure="theorem-5.2",
        rule=rates.rotation,
    ),
    Statement(
        name="Section 5.1, better in n_ta",
        says="The dependence on n_ta is better than that on n_s: 1/n_ta against 1/sqrt(n_s)",
        function="fsd_jax.simulate.subspace_errors",
        test="tests/simulate/test_replicate.py::test_means_equal_the_exact_curve",
        figure="theorem-5.2",
        rule=rates.better_in_target,
    ),
    Statement(
        name="Section 5.1, D and delta",
        says="The n_ta term depends on neither D nor delta; the n_s term does",
        function="fsd_jax.theory.expected_subspace_error",
        test=SUBSPACE + "test_agrees_with_drawn_data",
        figure="theorem-5.2",
        rule=rates.ambient,
    ),
    Statement(
        name="Section 5.1, PCA",
        says="At t = 0 the objective is that of PCA",
        function="fsd_jax.orthonormal_minimizer",
        test=CLOSED + "test_orthonormal_is_pca",
        figure="pca",
        rule=closed_form.is_pca,
    ),
    Statement(
        name="Section 5.1, beyond PCA",
        says="At t > 0 few-shot models differ from PCA",
        function="fsd_jax.rank_minimizer",
        test=CLOSED + "test_large_times_give_the_ratio_of_variances",
        figure="pca",
        rule=closed_form.late_gains,
    ),
    Statement(
        name="Section 5.1, simplified objective",
        says="The loss is E || V G_t V' x_t - m_t x_0 ||^2/sigma_t^4",
        function="fsd_jax.expected_loss",
        test="tests/minimizer/test_objective.py::test_against_dense_matrices",
        figure="checks",
        rule=checks.simplified,
    ),
    Statement(
        name="Figure 1",
        says="Faces: tuning encoder and decoder gives new bald faces, tuning everything memorises",
        function="fsd_jax.image.closed_form.generate",
        test=PICTURES + "test_everything_tuned_copies_and_encoder_and_decoder_do_not",
        figure="figure-1",
        rule=images.pictures,
    ),
    Statement(
        name="Figure 2",
        says="Cats: tuning encoder and decoder gives new black cats, tuning everything memorises",
        function="fsd_jax.image.closed_form.generate",
        test=PICTURES + "test_everything_tuned_copies_and_encoder_and_decoder_do_not",
        figure="figure-2",
        rule=images.pictures,
    ),
    Statement(
        name="Section 6, U-Net",
        says="Tuning encoder and decoder of a U-Net (first 4 blocks down, last 4 up) for "
        "400 epochs gives new members of the target, tuning everything memorises",
        function="fsd_jax.image.finetune.train_unet",
        test="tests/image/test_unet.py::test_frozen_arrays_keep_every_bit_and_tuned_ones_move",
        figure="u-net",
        rule=images.along_steps,
    ),
    Statement(
        name="Lemma B.1",
        says="With the right V the frozen network costs d eps^2/delta and a power of n_s",
        function="fsd_jax.theory.lemma_b_1",
        test=LEMMAS + "test_lemma_b_1_is_theorem_4_3s_source_term_over_the_interval",
        figure="appendix",
        rule=appendix.lemma_b_1,
    ),
    Statement(
        name="Lemma B.2",
        says="The fine-tuned class has log covering number O(2 D d log(1/(delta iota)))",
        function="fsd_jax.theory.lemma_b_2",
        test=LEMMAS + "test_lemma_b_2_bounds_the_covering_of_a_circle",
        figure="appendix",
        rule=appendix.lemma_b_2,
    ),
    Statement(
        name="Lemma C.1",
        says="Sampling the pre-trained latent model by exponential integrator steps is accurate in "
        "KL divergence",
        function="fsd_jax.sampler.generated_law",
        test="tests/sampler/test_law.py::test_law_against_dense_algebra",
        figure="sampler-orders",
        rule=samplers.lemma_c_1,
    ),
    Statement(
        name="Lemma C.2",
        says="Stationarity and rank(V) = d alone give the minimiser of Lemma 5.1",
        function="fsd_jax.landscape.measure",
        test="tests/minimizer/test_landscape.py::"
        "test_the_top_choice_is_the_closed_form_and_well_conditioned",
        figure="lemma-5.1",
        rule=closed_form.saddles,
    ),
    Statement(
        name="Lemma D.1",
        says="Means over a bounded class are near expectations: Bernstein's bound with coverings",
        function="fsd_jax.theory.lemma_d_1",
        test=LEMMAS + "test_lemma_d_1_holds_for_coins",
        figure="appendix",
        rule=appendix.lemma_d_1,
    ),
    Statement(
        name="Lemma D.2",
        says="A sample covariance is within 2 rho^2 sqrt((d + log(1/delta_1))/n) of the identity, "
        "for every n",
        function="fsd_jax.theory.lemma_d_2",
        test=LEMMAS + "test_lemma_d_2_fails_where_vectors_are_few_and_its_constant_is_short",
        figure="appendix",
        rule=appendix.lemma_d_2,
    ),
    Statement(
        name="Lemma D.3",
        says="For a Gaussian latent pre-training leaves a score error of order 1/sqrt(n_s)",
        function="fsd_jax.theory.lemma_d_3",
        test=LEMMAS + "test_lemma_d_3_lies_above_the_exact_error_and_falls_half_as_fast",
        figure="appendix",
        rule=appendix.lemma_d_3,
    ),
    Statement(
        name="Sections 4 and 5, error ledger",
        says="The error of a sample splits into what V, the latent, time steps and ends cost",
        function="fsd_jax.ledger.account",
        test="tests/test_ledger.py::test_every_substitution_by_hand",
        figure="ledger",
        rule=samplers.splits,
    ),
    Statement(
        name="Section 3.1, residual noise",
        says="The network class contains the true score (of data on a subspace)",
        function="fsd_jax.LinearScore",
        test="tests/score/test_errors.py::test_floor_of_the_papers_class",
        figure="noise",
        rule=rates.class_floor,
    ),
    Statement(
        name="Beyond the paper: threshold",
        says="With residual noise PCA loses directions below a threshold (spiked covariance)",
        function="fsd_jax.theory.spiked_subspace_error",
        test="tests/theory/test_expansions.py::test_spiked_covariance_against_drawn_data",
        figure="noise",
        rule=rates.threshold,
    ),
    _slip(
        "Lemma 5.1, factor",
        "The formula is (C + sigma_t^2 I)^(-1) C, without m_t^2 before C",
        "fsd_jax.paper_formula",
        CLOSED + "test_paper_formula_is_the_dense_one",
        "lemma-5.1",
        closed_form.signal_factor,
    ),
    _slip(
        "Lemma 5.1, rank",
        "The formula minimises over rank d whatever the rank of C",
        "fsd_jax.paper_formula",
        CLOSED + "test_paper_formula_agrees_without_noise",
        "lemma-5.1",
        closed_form.truncation,
    ),
    _slip(
        "Lemma 5.1, n_ta < d",
        "A minimiser of rank d exists for every sample",
        "fsd_jax.rank_minimizer",
        CLOSED + "test_fewer_samples_than_directions",
        "lemma-5.1",
        closed_form.unattained,
    ),
    _slip(
        "Section 5, score",
        "The latent score of N(0, lambda^2 I) at time t is -z/lambda^2",
        "fsd_jax.GaussianLatent.score",
        "tests/test_latent.py::test_score_is_the_gradient_of_the_log_density",
        "checks",
        checks.latent_score,
    ),
    _slip(
        "Theorem 5.2, KL",
        "KL(N(0, lambda^2 I) || N(0, l I)) = d (lambda^2/l - log - 1)",
        "fsd_jax.gaussian_kl",
        "tests/score/test_errors.py::test_kl_and_w2_against_dense",
        "checks",
        checks.divergence,
    ),
    _slip(
        "Section 3.1, reverse drift",
        "The reverse process has +f, the forward drift",
        "fsd_jax.VP",
        "tests/test_process.py::test_levels_are_consistent",
        "checks",
        checks.reverse_sign,
    ),
    _slip(
        "Theorem 4.3, accuracy",
        "The network's accuracy is eps = n_ta^(-1/2)",
        "fsd_jax.theory.lemma_b_1",
        LEMMAS + "test_lemma_b_1_says_when_its_condition_holds",
        "checks",
        checks.accuracy,
    ),
    _slip(
        "Theorem 5.2, last step",
        "|| (m_t^2 lambda^2 AA' + sigma_t^2 I) X ||^2 >= (m_t^2 lambda^2 + sigma_t^2) || X ||^2",
        "fsd_jax.theory.theorem_5_2",
        BOUNDS + "test_theorem_5_2_by_hand",
        "checks",
        checks.last_step,
    ),
    _slip(
        "Theorem 5.2, constant",
        "The n_ta term bounds the error with an absolute constant (one)",
        "fsd_jax.theory.least_constant",
        BOUNDS + "test_theorem_5_2_needs_a_constant",
        "theorem-5.2",
        rates.constant,
    ),
    _slip(
        "Section 5.1, large t",
        "A large t mitigates a large lambda^2",
        "fsd_jax.theory.expected_subspace_error",
        SUBSPACE + "test_late_times_and_the_floor",
        "theorem-5.2",
        rates.large_time,
    ),
    _slip(
        "Lemma C.1, Lipschitz",
        "The score of N(0, Sigma) is lambda_max^2-Lipschitz",
        "fsd_jax.paper_grid",
        "tests/test_process.py::test_paper_grid_follows_its_rule_from_the_later_end",
        "checks",
        checks.lipschitz,
    ),
)
