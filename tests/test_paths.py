"""Losses, minimisers, curves and replicates on any Gaussian path."""

import inspect
import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

import fsd_jax as fsd
from fsd_jax import landscape, latent_net, ledger, sampler, simulate, theory
from fsd_jax.minimizer._objective import QuadraticForm
from fsd_jax.simulate._measures import Measures
from tests import reference

D, LATENT, N = 6, 2, 5
FLOW, VE = fsd.Flow(), fsd.VE()
TIME = {FLOW: 0.4, VE: 0.8}
SIZE = dict(latent_dim=LATENT, latent_variance=1.5)
X = np.random.default_rng(1).normal(size=(N, D)) @ np.diag([2, 1.5, 1, 0.5, 0.2, 0.1])


def _moment():
    return fsd.SecondMoment.from_samples(X)


def _world():
    rng = np.random.default_rng(2)
    A = reference.random_orthonormal(rng, D, LATENT)
    mean = rng.normal(size=D)
    return fsd.LinearProblem(
        A_s=jnp.asarray(A), A_ta=jnp.asarray(A), latent=fsd.GaussianLatent.create(LATENT, 1.5),
        residual_variance=jnp.asarray(0.1), mean_s=jnp.asarray(mean), mean_ta=jnp.asarray(mean),
    )  # fmt: skip


def _velocity_loss(V, C, lam2, times, weights):
    """Flow matching's ``E |v(x_t, t) - (xi - x_0)|^2``, the velocity being that of the decoder."""
    total, eye = 0.0, jnp.eye(D)
    for t, w in zip(times, weights, strict=True):
        a, s = 1 - t, t
        g = a**2 * lam2 / (a**2 * lam2 + s**2)
        # The clean image of the score (g VV'x - x)/s^2, and the velocity (x - x_0)/t.
        clean = g * V @ V.T / a
        v = (eye - clean) / t
        on_data, on_noise = a * v + eye, s * v - eye
        total += w * (jnp.sum((on_data @ C) * on_data) + jnp.sum(on_noise**2))
    return total


@pytest.mark.result("Any Gaussian path")
@pytest.mark.result("R2")
@pytest.mark.usefixtures("x64")
def test_lbfgs_on_the_velocity_loss_finds_the_minimiser():
    times, weights = np.array([0.2, 0.5, 0.7]), np.array([0.3, 0.5, 0.2])
    C, lam2 = jnp.asarray(X.T @ X / N), 1.5
    # The velocity is p x + q s, so its error is q^2 times the score's.
    q = FLOW.drift(times)[1]
    found = fsd.rank_minimizer(_moment(), **SIZE, times=times, weights=weights * q**2, process=FLOW)
    shape = (D, LATENT)
    loss = jax.jit(lambda v: _velocity_loss(v.reshape(shape), C, lam2, times, weights))
    best = min(
        (optimize.minimize(loss, np.random.default_rng(i).normal(size=D * LATENT),
                           jac=jax.jit(jax.grad(loss)), method="L-BFGS-B",
                           options=dict(maxiter=5000, maxcor=30, ftol=1e-16, gtol=1e-12))
         for i in range(3)), key=lambda r: r.fun,
    )  # fmt: skip
    V = best.x.reshape(shape)
    ours = np.asarray(found.decoder)
    assert abs(float(loss(ours.ravel())) - best.fun) < 2e-8 * best.fun
    np.testing.assert_allclose(V @ V.T, ours @ ours.T, atol=2e-6)
    # The loss itself is the library's, up to the weights and a constant.
    direct = [
        float(loss(W.ravel()))
        - float(fsd.expected_loss(W, _moment(), latent_variance=lam2, times=times,
                                  weights=weights * q**2, process=FLOW))
        for W in (ours, np.ones(shape), np.eye(*shape))
    ]  # fmt: skip
    np.testing.assert_allclose(direct, direct[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("process", [FLOW, VE])
@pytest.mark.usefixtures("x64")
def test_everything_is_that_of_the_clock_and_scale(process):
    t = TIME[process]
    B, c2 = float(process.host_integrated_rate(t)), float(process.scale(t)) ** 2
    moment, world = _moment(), _world()
    fit = lambda **at: fsd.rank_minimizer(moment, **SIZE, **at)
    here, there = fit(time=t, process=process), fit(time=B)
    np.testing.assert_allclose(here.gains, there.gains, rtol=1e-12)
    paper = dict(latent_variance=1.5)
    np.testing.assert_allclose(
        fsd.paper_formula(moment, **paper, time=t, process=process).gains,
        fsd.paper_formula(moment, **paper, time=B).gains, rtol=1e-12,
    )  # fmt: skip
    V = here.decoder
    loss = lambda **at: float(fsd.expected_loss(V, moment, **paper, **at))
    np.testing.assert_allclose(loss(time=t, process=process), loss(time=B) / c2, rtol=1e-12)
    np.testing.assert_allclose(
        landscape.predicted_spectrum(moment, [0, 1], **paper, time=t, process=process) * c2,
        landscape.predicted_spectrum(moment, [0, 1], **paper, time=B), rtol=1e-10,
    )  # fmt: skip
    make = lambda p: fsd.LinearScore.from_minimizer(
        here, latent_variance=1.5, residual_variance=0.2, mean=np.ones(D), process=p
    )
    ours, plain = make(process), make(fsd.VP())
    np.testing.assert_allclose(ours(X, t), plain(X / c2**0.5, B) / c2**0.5, rtol=1e-11)
    np.testing.assert_allclose(ours.denoise(X, t), plain.denoise(X / c2**0.5, B), rtol=1e-11)
    one = np.ones(1)
    np.testing.assert_allclose(
        ours.losses(X, np.array([t]), one) * c2, plain.losses(X, np.array([B]), one), rtol=1e-11
    )
    error = lambda s, u: float(fsd.score_error(s, world, time=u))
    np.testing.assert_allclose(error(ours, t), error(plain, B) / c2, rtol=1e-10)
    empirical = [fsd.EmpiricalScore.from_samples(X, process=p) for p in (process, fsd.VP())]
    np.testing.assert_allclose(
        empirical[0](X + 0.1, t), empirical[1]((X + 0.1) / c2**0.5, B) / c2**0.5, rtol=1e-10
    )
    np.testing.assert_allclose(
        world.target_score(X, t, process), world.target_score(X / c2**0.5, B) / c2**0.5, rtol=1e-11
    )
    law = world.target_law.diffuse(t, process)
    np.testing.assert_allclose(
        jax.vmap(jax.grad(lambda x: -0.5 * (x - law.mean) @ jnp.linalg.solve(
            jnp.asarray(reference.thin_covariance(law)), x - law.mean)))(jnp.asarray(X)),
        world.target_score(X, t, process), rtol=1e-9, atol=1e-11,
    )  # fmt: skip


@pytest.mark.parametrize("process", [FLOW, VE])
def test_curves_are_those_of_the_clock(process):
    t = TIME[process]
    B, c2 = float(process.host_integrated_rate(t)), sum(process.host_variances(t))
    at, clock = dict(time=t, process=process), dict(time=B)
    size = dict(latent_dim=3, n_ta=5, n_s=40, latent_variance=2.0)
    few = dict(spectrum=[3.0, 0.5], n_ta=7)
    missing = dict(latent_dim=3, n_ta=2, latent_variance=2.0)
    perfect = dict(latent_dim=3, n_s=40, latent_variance=2.0)
    cases = [
        (theory.expected_score_error, size | dict(estimator="scratch"), c2),
        (theory.expected_score_error, size, c2),
        (theory.expected_kl, size, 1.0),
        (theory.expected_score_error, few, c2),
        (theory.expected_kl, few, 1.0),
        (theory.completed_score_error, missing | dict(angles=[0.2, 0.5, 0.9]), c2),
        (theory.minimax_score_error, missing | dict(ambient_dim=9), c2),
        (theory.expected_subspace_error, size, 1.0),
        (theory.subspace_error_variance, size, 1.0),
        (theory.source_subspace_error, perfect, 1.0),
        (lambda **k: theory.theorem_5_2(ambient_dim=9, **k).value, size, 1.0),
        (lambda **k: theory.deterministic_equivalent(**k).score_error, few, c2),
        (lambda **k: theory.deterministic_equivalent(**k).gains, few, 1.0),
        (lambda **k: theory.diagonal_gain_error(latent_variance=[4.0, 1.0], n_ta=9, **k).value,
         {}, 1.0),
    ]  # fmt: skip
    for function, given, factor in cases:
        np.testing.assert_allclose(
            function(**given, **at) * factor, function(**given, **clock), rtol=1e-9
        )
    plan = dict(latent_dim=3, n_s=1000, latent_variance=2.0, target=0.05, metric="kl")
    assert theory.plan(**plan, **at).n_ta == theory.plan(**plan, **clock).n_ta


@pytest.mark.parametrize("process", [FLOW, VE])
def test_replicates_have_the_mean_of_the_curve(process):
    t = TIME[process]
    size = dict(latent_dim=3, n_ta=5, n_s=40, latent_variance=2.0)
    for method, estimator in (("rank", "scratch"), ("orthonormal", "orthonormal")):
        drawn = np.asarray(
            simulate.errors(
                jax.random.key(0), **size, times=[t], replicates=2048, method=method,
                process=process,
            )
        )  # fmt: skip
        exact = theory.expected_score_error(**size, time=t, estimator=estimator, process=process)
        assert abs(drawn.mean() - exact) < 4.5 * drawn.std() / len(drawn) ** 0.5


@pytest.mark.parametrize("process", [FLOW, VE, fsd.VP()])
@pytest.mark.usefixtures("x64")
def test_the_integrated_minimiser_of_the_replicates_is_the_closed_form(process):
    """Its one ratio rho is ``e/a`` of R2, in units of the truth's variance."""
    variance, lam2 = 2.0, 1.3
    spectra = SimpleNamespace(diagonal=jnp.zeros((2, 1)))
    source = (jnp.full(1, lam2 / variance - 1), jnp.full(1, lam2 / variance))
    measures = Measures(
        spectra, source, jnp.asarray(9.0), jnp.full((1, 1), variance),
        jnp.full((1, 1), 0.3), process,
    )  # fmt: skip
    gain, rest, off = (float(v[0, 0]) for v in measures._integrated())
    times, weights = process.quadrature()
    form = QuadraticForm.integrate(jnp.full(1, lam2), times, weights, process)
    a, e, b = float(form.a[0, 0]), float(form.e[0, 0]), float(form.b[0])
    np.testing.assert_allclose(rest / gain, e / a / variance, rtol=1e-10)
    signal, noise = (float(v) for v in process.host_variances(0.3))
    model = signal * lam2 / (signal * lam2 + noise)
    truth = signal * variance / (signal * variance + noise)
    # The population's gain p times the model's, against the true one.
    p = b * variance / (a * variance + e)
    np.testing.assert_allclose(off, p * model / truth - 1, rtol=1e-8)


def test_training_descends_on_the_flow():
    process = FLOW
    for batch in ({}, {"optimizer": "adam", "steps": 3}):
        found = fsd.train(
            jax.random.key(0), _moment(), **SIZE, time=TIME[process], process=process, **batch
        )
        assert np.isfinite(float(found.gap))
        if not batch:
            assert abs(float(found.gap)) < 1e-5


@pytest.mark.parametrize("process", [FLOW, VE])
def test_the_loss_by_drawn_noise_is_the_exact_one(process):
    key, t = jax.random.key(0), TIME[process]
    x = X.astype(np.float32)
    score = fsd.LinearScore.from_decoder(
        np.eye(D, 2, dtype=np.float32), latent_variance=1.5, process=process
    )
    mean, error = fsd.monte_carlo_loss(key, score, x, time=t, process=process, draws=400)
    exact = np.mean(score.losses(x, np.array([t], np.float32), np.ones(1, np.float32)))
    assert abs(float(mean) - exact) < 4.5 * float(error)


@pytest.mark.usefixtures("x64")
def test_the_ledger_knows_the_path():
    """A perfect model leaves what the steps and a finite T cost."""
    process = VE
    world = _world()
    law = world.target_law
    score = fsd.LinearScore(
        basis=law.basis, mixing=jnp.eye(LATENT), latent_variance=law.variance,
        residual_variance=law.residual_variance, mean=law.mean, process=process,
    )  # fmt: skip
    times = process.host_time(np.geomspace(*process.host_integrated_rate([0.01, TIME[process]]), 9))
    found = ledger.account(score, world, times=times)
    rows = {row["ingredient"]: row["alone"] for row in found.rows("kl")}
    assert all(abs(rows[name]) < 1e-9 for name in ("decoder", "latent_variance", "mean"))
    assert rows["discretisation"] > 1e-6
    assert rows["finite_time"] > 1e-3


def test_networks_train_on_the_flow():
    recipe = latent_net.Recipe(steps=8, checks=2, T=0.99)
    model = latent_net.pretrain(
        jax.random.key(0), X, latent_dim=2, widths=(8,), recipe=recipe, process=FLOW
    )
    assert np.all(np.isfinite(model.validation))
    with pytest.raises(ValueError, match=r"recipe.T must lie below 1"):
        latent_net.pretrain(jax.random.key(0), X, latent_dim=2, process=FLOW)
    error = latent_net.net_score_error(jax.random.key(1), model.score, _world(), times=[0.5], n=10)
    assert np.isfinite(float(error.value))


def _flow_score():
    return fsd.LinearScore.from_decoder(
        np.eye(D, 2, dtype=np.float32), latent_variance=1.0, process=FLOW
    )


# --- every argument ------------------------------------------------------------------------------

TRIED = {
    "EmpiricalScore.from_samples", "GaussianLatent.score", "GaussianMixture.score",
    "LinearProblem.target_score", "LinearScore.from_decoder", "LinearScore.from_minimizer",
    "ThinGaussian.diffuse", "UniformLatent.score", "convert", "expected_loss",
    "landscape.critical_decoder", "landscape.measure", "landscape.predicted_spectrum",
    "latent_constants", "latent_net.ReLUNet.create", "latent_net.pretrain", "monte_carlo_loss",
    "paper_formula", "rank_minimizer", "ridge_minimizer", "sampler.sample",
    "sampler.sample_latent", "simulate.block_errors", "simulate.errors",
    "simulate.sampled_errors", "simulate.subspace_errors", "theory.completed_score_error",
    "theory.deterministic_equivalent", "theory.diagonal_gain_error", "theory.expected_kl",
    "theory.expected_score_error", "theory.expected_subspace_error",
    "theory.minimax_score_error", "theory.plan", "theory.source_subspace_error",
    "theory.subspace_error_variance", "theory.theorem_5_2", "train",
}  # fmt: skip
ELSEWHERE = {"pretrain", "target_only"}
"""Of the front door for a user's arrays, which has its own tests."""
ATTRIBUTES = {"DecodedScore", "EmpiricalScore", "LinearScore", "PredictedScore", "PretrainedModel",
              "latent_net.ReLUNet"}  # fmt: skip
"""Results, which are not built by hand."""


def _takes_a_process():
    rooms = {"": fsd} | {
        f"{room.__name__.rpartition('.')[2]}.": room
        for room in (landscape, latent_net, ledger, sampler, simulate, theory)
    }
    for prefix, room in rooms.items():
        for name in room.__all__:
            value = getattr(room, name)
            if inspect.ismodule(value) or not callable(value) or name == "Schedule":
                continue
            members = {f"{prefix}{name}": value}
            if inspect.isclass(value):
                members |= {
                    f"{prefix}{name}.{m}": getattr(value, m) for m in dir(value) if m[0] != "_"
                }
            for path, member in members.items():
                if not callable(member):
                    continue
                try:
                    parameters = inspect.signature(member).parameters
                except ValueError:
                    continue
                if "process" in parameters:
                    yield path


def test_every_argument_is_tried():
    assert set(_takes_a_process()) - ATTRIBUTES == TRIED | ELSEWHERE


def _rest(process, dtype):
    """What the tests above do not call."""
    key, t, moment = jax.random.key(0), TIME[process], _moment()
    z = np.ones((3, 2), dtype)
    for latent in (
        fsd.GaussianLatent.create(2, 1.0), fsd.UniformLatent.create(2, 1.0),
        fsd.GaussianMixture.create([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.0]], [0.5, 0.5]),
    ):  # fmt: skip
        yield latent.score(z, t, process)
        # By differentiating the drawn density: the score of the noised law at the same levels.
        signal, noise = process.signal(t), process.noise_variance(t)
        np.testing.assert_allclose(
            latent.score(z, t, process), latent.score_at(z, signal, noise), rtol=1e-5
        )
    yield fsd.latent_constants(key, fsd.GaussianLatent.create(2, 1.0), times=[t], n=5,
                               process=process).lipschitz  # fmt: skip
    at = dict(latent_variance=1.5, time=t, process=process)
    yield landscape.critical_decoder(moment, [0, 1], **at)
    small = fsd.rank_minimizer(moment, latent_dim=2, **at).decoder
    found = landscape.measure(small, moment, **at)
    yield found.eigenvalues
    np.testing.assert_allclose(
        found.eigenvalues, landscape.predicted_spectrum(moment, [0, 1], **at), rtol=2e-3, atol=2e-2
    )
    basis = np.eye(D, 2, dtype=dtype)
    yield fsd.ridge_minimizer(moment, basis, strength=0.1, latent_dim=2, **at).gains
    yield latent_net.ReLUNet.create(key, latent_dim=2, widths=(4,), process=process)(z, t)
    drawn = dict(latent_dim=2, n_ta=5, n_s=9, latent_variance=1.0, times=[t], replicates=3)
    yield simulate.subspace_errors(key, **drawn, process=process)
    yield list(
        simulate.sampled_errors(
            key, 5, 9, np.array([t]), np.ones((1, 2)), 0.1, rows=4, ambient_dim=4,
            perfect_source=False, methods=("rank",), metrics=("kl",), process=process,
        ).values()
    )  # fmt: skip


@pytest.mark.parametrize("process", [FLOW, VE])
def test_what_is_left_takes_the_path(process):
    for value in itertools.chain(_rest(process, np.float32)):
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(value))


@pytest.mark.parametrize(
    "call",
    [
        lambda **k: fsd.rank_minimizer(_moment(), **SIZE, **k),
        lambda **k: fsd.expected_loss(np.eye(D, 2), _moment(), latent_variance=1.0, **k),
        lambda **k: fsd.train(jax.random.key(0), _moment(), **SIZE, **k),
        lambda **k: fsd.paper_formula(_moment(), latent_variance=1.0, **k),
        lambda **k: landscape.predicted_spectrum(_moment(), [0], latent_variance=1.0, **k),
        lambda **k: fsd.monte_carlo_loss(jax.random.key(0), lambda x, t: x, X, **k),
        lambda time, **_: fsd.score_error(_flow_score(), _world(), time=time),
        lambda time, **_: _flow_score().losses(X.astype("f"), [time], [1.0]),
        lambda time, **_: sampler.denoised_law(_flow_score(), _world().target_law, time),
        lambda time, **k: theory.expected_kl(
            latent_dim=2, n_ta=3, latent_variance=1.0, time=2 * time, **k
        ),
    ],
)
def test_times_beyond_the_flow_are_refused(call):
    with pytest.raises(ValueError, match=r"must lie below 1|must be at most 1"):
        call(time=1.0, process=FLOW)
