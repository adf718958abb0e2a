"""Every shape annotation is checked at run time, by jaxtyping with beartype, in a fresh process."""

import subprocess
import sys
import textwrap

import pytest

PRELUDE = """
from jaxtyping import install_import_hook
# Rooms are loaded, and so hooked, when their names are first used.
install_import_hook("fsd_jax", "beartype.beartype")
import jax, jax.numpy as jnp, numpy as np
import fsd_jax as fsd
key = jax.random.key(0)
x = np.random.default_rng(0).normal(size=(30, 24)).astype(np.float32)
moment = fsd.SecondMoment.from_samples(x)
A = moment.basis[:, :3]
"""
CASES = {
    "moments": """
        for route in ("auto", "svd", "gram", "krylov"):
            fsd.SecondMoment.from_samples(
                x, rank=3, route=route, centre=True, mask=np.arange(30) < 20
            )
            jax.vmap(lambda y: fsd.SecondMoment.from_samples(y, rank=3, route=route))(x[None])
        repr(fsd.SecondMoment.from_covariance(np.eye(4, dtype=np.float32)))
        fsd.SecondMoment.from_batches([x[:10], x[10:17]], rank=3, centre=True).residual
        """,
    "closed form": """
        for kwargs in (dict(time=0.5), dict(times=np.array([0.1, 1.0]))):
            for lam2 in (1.0, np.array([1.0, 2.0, 0.5])):
                fsd.rank_minimizer(moment, latent_variance=lam2, latent_dim=3, **kwargs).decoder
        few = fsd.SecondMoment.from_samples(x[:2])
        fsd.rank_minimizer(few, latent_variance=1.0, latent_dim=3, time=0.5)
        fsd.orthonormal_minimizer(few, latent_dim=3, latent_variance=np.array([1.0, 2.0, 0.5]))
        fsd.paper_formula(moment, latent_variance=1.0, time=0.5)
        fsd.ridge_minimizer(few, A, strength=1.0, latent_variance=1.0, latent_dim=3, time=0.5)
        fsd.pooled_moment(few, moment, source_share=0.5)
        repr(jax.vmap(
            lambda t: fsd.rank_minimizer(moment, latent_variance=1.0, latent_dim=3, time=t)
        )(jnp.array([0.1, 0.5])))
        """,
    "loss and training": """
        fsd.expected_loss(A, moment, latent_variance=1.0, times=np.array([0.1, 0.5]))
        score = fsd.LinearScore.from_decoder(A, latent_variance=1.0)
        fsd.monte_carlo_loss(key, score, x, time=0.5, draws=2)
        jax.vmap(lambda k: fsd.train(
            k, moment, latent_variance=1.0, latent_dim=3, time=0.5, steps=2
        ))(jax.random.split(key, 2))
        fsd.train(key, moment, latent_variance=1.0, latent_dim=3, times=np.array([0.1, 0.5]),
                  steps=2, optimizer="adam", constraint="orthonormal")
        """,
    "scores and errors": """
        problem = fsd.LinearProblem.random(
            key, ambient_dim=24, latent_dim=3, latent_variance=1.0, residual_variance=0.1
        )
        minimizer = fsd.orthonormal_minimizer(moment, latent_dim=3)
        score = fsd.LinearScore.from_minimizer(minimizer, latent_variance=1.0)
        fsd.score_error(score, problem, times=np.array([0.1, 0.5]))
        jax.vmap(lambda t: fsd.score_error(score, problem, time=t))(jnp.array([0.1, 0.5]))
        y = jnp.asarray(x)
        own = fsd.EmpiricalScore.from_samples(y @ A, chunk=7)
        decoded = fsd.DecodedScore(
            decoder=A, latent=own, residual_variance=jnp.float32(0.1), mean=y[0], process=fsd.VP()
        )
        decoded(y, 0.5), decoded.denoise(y, jnp.full(30, 0.5))
        score(y, 0.5), score(y[0], 0.5), score.denoise(y, jnp.linspace(0.1, 1, 30))
        score.losses(jnp.asarray(x), jnp.array([0.1]), jnp.array([1.0]))
        score.gains(jnp.array([0.1, 0.5])), score.residual_gain(0.3), score.decoder
        fsd.subspace_error(A, problem.A_ta), fsd.principal_angles(A, problem.A_ta[:, :2])
        p, q = problem.source_law, problem.target_law
        fsd.gaussian_kl(p, q), fsd.bures_w2(p, q), p.trace
        problem.sample_source(key, 3), problem.target_score(jnp.asarray(x), 0.5)
        problem.latent.sample(key, 4), problem.latent.score(jnp.ones((2, 3)), jnp.ones(2))
        process = fsd.VP.linear(0.1, 2.0)
        process.quadrature(), process.signal(jnp.ones((2, 3))), process.noise_variance(0.5)
        fsd.paper_grid(0.1, 1.0, rate=0.2, lipschitz=5.0), fsd.uniform_grid(0.1, 1.0, 4)
        times = np.array([0.1, 0.4, 1.0])
        fsd.sampler.sample_latent(key, score.latent, basis=score.basis, times=times, n=5, chunk=2)
        fsd.ledger.account(score, problem, times=times, method="heun_ode", denoise=True).rows()
        """,
}


@pytest.mark.parametrize("case", CASES)
def test_annotations_hold(case):
    code = PRELUDE + textwrap.dedent(CASES[case])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
