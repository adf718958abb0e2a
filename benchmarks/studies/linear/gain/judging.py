"""What the few-shot gain is, in a sentence, and the statements that it judges."""

from benchmarks import text
from benchmarks.judging import SIGMAS, Statement, Verdict, interval, judged, sigmas, worst_sigmas
from benchmarks.records import Record
from benchmarks.studies.linear.linear_rates import BASE
from benchmarks.table import Table

SCRATCH, AS_IS, COMPLETED = "scratch, data", "source as is, data", "completed, data"
PARTIAL = "orthonormal, data"


def _sweep(table: Table, method: str, n_ta: int, n_s: int = BASE["n_s"]) -> Record:
    return table.one(data="sweep", method=method, n_ta=n_ta, n_s=n_s)


def finding(table: Table) -> str:
    """Few-shot against scratch at the transition and below it."""
    d = BASE["d"]
    few, less = _sweep(table, "orthonormal", d), _sweep(table, "orthonormal", d // 2)
    scratch, poor = (_sweep(table, "rank", n)["value"] for n in (d, d // 2))
    return (
        f"With as many target samples as latent directions ({d}) few-shot has a score error of "
        f"{few['value']:.2e} +- {few['stderr']:.1g}, {text.times(few['value'], scratch)} that of "
        f"training from scratch; with {d // 2} it has {less['value']:.3g} +- "
        f"{less['stderr']:.1g}, {text.times(less['value'], poor)} that of scratch."
    )


def escapes(table: Table) -> Verdict:
    """Sharper if at n_ta = d the few-shot error is the source's alone, whatever the target."""
    d = BASE["d"]
    few, scratch = _sweep(table, "orthonormal", d), _sweep(table, "rank", d)
    drawn = table.one(data=PARTIAL, n_ta=d)
    rows = [r for r in table.select(data="sweep", method="orthonormal") if r["n_ta"] >= d]
    worst = max(
        worst_sigmas(rows), sigmas(drawn), worst_sigmas(table.select(data="sweep", method="rank"))
    )
    ratio = scratch["value"] / few["value"]
    words = (
        f"latent Gaussian, orthonormal V: at n_ta = d = {d} the expected score error is "
        f"{few['value']:.2e} against {scratch['value']:.3g} from scratch, {ratio:.0f} times less, "
        f"and the same for every larger n_ta; within {worst:.1f} standard errors of exact values"
    )
    below = interval(few)[1] < scratch["value"]
    return judged(few, words, printed=below, ours=worst <= SIGMAS, beyond=ratio > 100)


def below_d(table: Table) -> Verdict:
    """Printed: five to ten samples are enough whatever d is. Ours: n_ta >= d is needed."""
    d = BASE["d"]
    few, scratch = _sweep(table, "orthonormal", 4), _sweep(table, "rank", 4)
    after = _sweep(table, "orthonormal", d)
    worst = max(sigmas(r) for r in (scratch, after))
    ratio = few["value"] / scratch["value"]
    words = (
        f"at n_ta = 4 < d = {d} few-shot has {ratio:.2f} of the error of scratch "
        f"({few['value']:.3g} against {scratch['value']:.3g}); at n_ta = d it has "
        f"{after['value']:.1e}"
    )
    return judged(scratch, words, printed=ratio < 0.1, ours=worst <= SIGMAS)


def weaker_constraint(table: Table) -> Verdict:
    """Printed: rank(V) = d instead of orthonormal V costs nothing. Ours: it is scratch."""
    n = 64
    free, tied = _sweep(table, "rank", n), _sweep(table, "orthonormal", n)
    drawn = table.one(data=SCRATCH, n_ta=n)
    worst = max(sigmas(free), sigmas(tied), sigmas(drawn))
    ratio = free["value"] / tied["value"]
    words = (
        f"at n_ta = {n} the rank-d minimiser's expected score error is {free['value']:.3g}, "
        f"{ratio:.0f} times that of the orthonormal one, and that of training from scratch "
        f"({drawn['value']:.3g} on drawn data)"
    )
    return judged(free, words, printed=ratio < 2, ours=worst <= SIGMAS)


STATEMENTS = (
    Statement(
        name="Theorem 4.3, latent Gaussian",
        place="4.3 Gaussian",
        says="Frozen f and a tuned V escape the curse: far below training from scratch",
        function="fsd_jax.theory.expected_score_error",
        test="tests/theory/test_curves.py::test_both_sides_of_the_gain_agree_with_data",
        rule=escapes,
    ),
    Statement(
        name="Section 4.1, 5 to 10 samples",
        place="4.3 Section 4.1",
        says="A handful of target samples is enough, fewer for larger d",
        function="fsd_jax.theory.expected_score_error",
        test="tests/theory/test_curves.py::test_limits",
        rule=below_d,
    ),
    Statement(
        name="Section 5, weaker constraint",
        place="5 Section 5",
        says="rank(V) = d needs less prior knowledge than V'V = I and serves as well",
        function="fsd_jax.orthonormal_minimizer",
        test="tests/score/test_errors.py::test_rank_minimizer_is_training_from_scratch",
        rule=weaker_constraint,
    ),
)
