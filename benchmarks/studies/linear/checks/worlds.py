"""The worlds that everything is measured in: Assumptions 3.1, 4.1, 4.2 and their scores."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

import fsd_jax as fsd
from benchmarks.judging import (
    EXACT,
    SIGMAS,
    Statement,
    Verdict,
    close,
    judged,
    sigmas,
    slip,
    worst_sigmas,
)
from benchmarks.records import Record, record
from benchmarks.studies.linear.checks import shared
from benchmarks.study import Settings, mean
from benchmarks.table import Table


def assumptions(s: Settings, seed: int) -> Iterator[Record]:
    """Assumptions 3.1 and 4.1."""
    world = shared.problem(s, seed)
    keys = jax.random.split(jax.random.key(seed + 1))
    n = s["samples"]
    for name, A, x in (
        ("source", np.asarray(world.A_s), np.asarray(world.sample_source(keys[0], n))),
        ("target", np.asarray(world.A_ta), np.asarray(world.sample_target(keys[1], n))),
    ):
        off = float(np.abs(A.T @ A - np.eye(s["d"])).max())
        yield record("orthonormal columns", off, method=name, exact=0.0)
        outside = float(np.sum((x - x @ A @ A.T) ** 2) / np.sum(x**2))
        yield record("outside the subspace", outside, method=name, exact=0.0)
        for k, variance in enumerate(s["lam2"]):
            squares = (x @ A[:, k]) ** 2
            yield record("latent variance", **mean(squares), method=name, exact=variance, k=k)
    z = np.asarray(world.latent.sample(keys[0], n))
    energy = np.sum(z**2, axis=1)
    yield record("C_Z", **mean(energy), exact=float(sum(s["lam2"])))
    yield record("c_0", **mean(z[:, np.argmin(s["lam2"])] ** 2), exact=min(s["lam2"]))
    # C_2 = 1/lambda_max^2 and C_1 = prod 1/lambda_k: the density never exceeds the tail's bound.
    logs = -0.5 * (z**2 / np.asarray(s["lam2"])).sum(axis=1)
    yield record("tail", float(np.max(logs + 0.5 * energy / max(s["lam2"]))), bound=1e-12)


def scores(s: Settings, seed: int) -> Iterator[Record]:
    """Section 5's score by differentiating the log density, on and off the subspace."""
    lam2 = s["score_lam2"]
    world = fsd.LinearProblem.random(
        jax.random.key(seed), ambient_dim=s["D"], latent_dim=s["d"], latent_variance=lam2
    )
    A = world.A_ta
    inside = A[:, 0]
    outside = jnp.linalg.svd(A, full_matrices=True)[0][:, -1]
    for t in s["t"]:
        signal, noise = shared.levels(t)
        covariance = signal * lam2 * A @ A.T + noise * jnp.eye(s["D"])

        def density(x: jax.Array, covariance: jax.Array = covariance) -> jax.Array:
            centre = jnp.zeros(s["D"])
            return jnp.asarray(jax.scipy.stats.multivariate_normal.logpdf(x, centre, covariance))

        x = inside + outside
        score = jax.grad(density)(x)
        on, off = float(score @ inside), float(score @ outside)
        yield record("score inside", on, exact=-1 / (signal * lam2 + noise), printed=-1 / lam2, t=t)
        yield record("score outside", off, exact=-1 / noise, printed=-1 / noise, t=t)
        ours = world.target_score(x, t)
        apart = float(jnp.max(jnp.abs(ours - score)) / jnp.max(jnp.abs(score)))
        yield record("score of the library", apart, exact=0.0, t=t)


def slopes(s: Settings, _seed: int) -> Iterator[Record]:
    """The latent score's Lipschitz constant at t = 0, and its largest value over t."""
    latent = fsd.GaussianLatent.create(s["d"], s["lam2"])

    def norm(t: float) -> float:
        jacobian = jax.jacobian(lambda z: latent.score(z, t))(jnp.ones(s["d"]))
        return float(np.linalg.norm(np.asarray(jacobian), 2))

    steepest = 1 / min(s["lam2"])
    yield record("Lipschitz at 0", norm(0.0), exact=steepest, printed=max(s["lam2"]))
    times = np.concatenate([[0.0], np.geomspace(1e-3, 10, 30)])
    largest = max(norm(float(t)) for t in times)
    yield record("Lipschitz over t", largest, exact=max(1.0, steepest))


PARTS = (assumptions, scores, slopes)


def assumption_3_1(table: Table) -> Verdict:
    """Confirmed if the simulated worlds satisfy it: orthonormal bases, one latent law, no rest."""
    flat = max(
        r["value"]
        for name in ("orthonormal columns", "outside the subspace")
        for r in table.select(data=name)
    )
    worst = worst_sigmas(table.select(data="latent variance"))
    words = (
        "an assumption, satisfied by the simulated worlds: A'A - I and what lies outside the "
        f"subspaces at most {flat:.0e}, latent variances of source and target within {worst:.1f} "
        "standard errors of the shared ones; real images satisfy it only approximately"
    )
    return judged((worst, 0.0, SIGMAS), words, ours=flat < EXACT and worst <= SIGMAS)


def assumption_4_1(table: Table) -> Verdict:
    """Confirmed if the latent Gaussian has the constants that the bounds are evaluated with."""
    energy, least, tail = (table.one(data=name) for name in ("C_Z", "c_0", "tail"))
    worst = max(sigmas(energy), sigmas(least))
    words = (
        "an assumption, satisfied by the latent Gaussian with c_0 = lambda_min^2, C_Z = sum "
        f"lambda_k^2, C_2 = 1/lambda_max^2: moments within {worst:.1f} standard errors"
    )
    return judged(energy, words, ours=worst <= SIGMAS and tail["value"] <= tail["bound"])


def assumption_4_2(table: Table) -> Verdict:
    """Confirmed if the on-support score of a latent Gaussian is beta-Lipschitz at every t."""
    found = table.one(data="Lipschitz over t")
    words = (
        "an assumption, satisfied by the latent Gaussian with beta = max(1, 1/lambda_min^2): the "
        "largest norm of the score's Jacobian over t, by differentiation"
    )
    return judged(found, words, ours=close(found["value"], found["exact"], 1e-6))


def decomposition(table: Table) -> Verdict:
    """Confirmed if the score by differentiation is the decomposition, on and off the subspace."""
    off = max(r["value"] for r in table.select(data="score of the library"))
    outside = table.select(data="score outside")
    right = off < 1e-6 and all(close(r["value"], r["exact"], 1e-6) for r in outside)
    words = "largest relative difference of grad log q_t by differentiation from the decomposition"
    return judged((off, 0.0, off), words, exact=0.0, ours=right)


def latent_score(table: Table) -> Verdict:
    """Printed: -1/lambda^2 inside the subspace, at the time where the two differ most."""
    worst = max(table.select(data="score inside"), key=lambda r: abs(r["exact"] - r["printed"]))
    words = f"the score inside the subspace, by differentiation at t = {worst['t']}"
    return shared.three(worst, words)


def lipschitz(table: Table) -> Verdict:
    """Printed: the score of N(0, Sigma) is lambda_max^2-Lipschitz."""
    return shared.three(table.one(data="Lipschitz at 0"), "Lipschitz constant of the score")


MODEL = "tests/test_linear_model.py::"
LATENT = "tests/test_latent.py::"
STATEMENTS = (
    Statement(
        name="Assumption 3.1",
        place="3.1",
        says="Source and target are X = A Z with orthonormal A_s, A_ta and one law of the latent Z",
        function="fsd_jax.LinearProblem",
        test=MODEL + "test_law_is_the_one_of_assumption_3_1",
        rule=assumption_3_1,
    ),
    Statement(
        name="Section 3.1, score",
        place="3.1",
        says="The score is A grad log q^LD(A'x) - (I - AA')x/sigma_t^2: the diffusion happens in "
        "the latent space",
        function="fsd_jax.LinearProblem.target_score",
        test=MODEL + "test_target_score_against_dense_and_autodiff",
        rule=decomposition,
    ),
    Statement(
        name="Assumption 4.1",
        place="4.1",
        says="The latent has a positive smooth density, a sub-Gaussian tail, lambda_min >= c_0 and "
        "E |Z|^2 <= C_Z",
        function="fsd_jax.GaussianLatent",
        test=LATENT + "test_sample_moments_within_five_standard_errors",
        rule=assumption_4_1,
    ),
    Statement(
        name="Assumption 4.2",
        place="4.1",
        says="The on-support score is beta-Lipschitz at every t",
        function="fsd_jax.GaussianLatent.score",
        test=LATENT + "test_score_is_the_gradient_of_the_log_density",
        rule=assumption_4_2,
    ),
    slip(
        "Section 5, score",
        "The latent score of N(0, lambda^2 I) at time t is -z/lambda^2",
        "fsd_jax.GaussianLatent.score",
        LATENT + "test_score_is_the_gradient_of_the_log_density",
        latent_score,
    ),
    slip(
        "Lemma C.1, Lipschitz",
        "The score of N(0, Sigma) is lambda_max^2-Lipschitz",
        "fsd_jax.paper_grid",
        "tests/test_process.py::test_paper_grid_follows_its_rule_from_the_later_end",
        lipschitz,
    ),
)
