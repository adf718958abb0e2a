"""Processes, latents, problems and ledgers: wrong kinds, times and keys; and JAX's strict modes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fsd_jax as fsd
from fsd_jax import ledger, sampler
from tests.conftest import _x64_context

KEY = jax.random.key(0)
PROCESS = fsd.VP.linear(0.5, 1.5, horizon=2.0)


def _problem():
    return fsd.LinearProblem.random(
        KEY, ambient_dim=6, latent_dim=2, latent_variance=[2.0, 1.0], residual_variance=0.1,
        mean_scale=0.5,
    )  # fmt: skip


# --- the process ----------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["signal", "signal_variance", "noise_variance", "integrated_rate"])
def test_times_of_a_process_are_checked(call):
    """Reports H: a time below zero gave finite nonsense."""
    function = getattr(PROCESS, call)
    for t in (-1.0, np.nan, np.inf, 1e-42, [0.5, -0.5], jnp.float32(-1), "now", True):
        with pytest.raises(ValueError, match="t must be"):
            function(t)
    assert np.isfinite(function(0.0))
    assert np.shape(function(np.ones((2, 3)))) == (2, 3)
    assert function(np.ones(2, int)).dtype == jnp.zeros(()).dtype
    traced = jax.jit(function)(jnp.array([0.0, -1.0]))
    assert list(np.isnan(traced)) == [False, True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"knots": (5.0,), "rates": (-1.0,)}, "knots must start at 0"),
        ({"rates": (-1.0,)}, "rates must be positive"),
        ({"rates": (np.nan,)}, "rates must be positive"),
        ({"rates": 1.0}, "rates must be a sequence"),
        ({"rates": ("fast",)}, "rates"),
        ({"knots": (0.0, 1.0)}, "equally long"),
        ({"knots": ((0.0,),)}, "knots must be a sequence"),
    ],
)
def test_a_process_checks_itself(change, message):
    """Reports I: ``VP(knots=(5,), rates=(-1,))`` was made and loaded."""
    with pytest.raises(ValueError, match=message):
        fsd.VP(**change)


def test_a_process_stores_plain_numbers():
    given = fsd.VP(knots=np.array([0, 1]), rates=[jnp.float32(1), np.int64(2)])
    assert given == fsd.VP(knots=(0.0, 1.0), rates=(1.0, 2.0))
    assert hash(given) == hash(fsd.VP(knots=(0.0, 1.0), rates=(1.0, 2.0)))
    assert all(type(value) is float for value in given.knots + given.rates)


def test_grids_refuse_what_the_device_rounds_to_zero():
    for call in (
        lambda: fsd.geometric_grid(1e-42, 1.0, 3),
        lambda: fsd.uniform_grid("a", 1.0, 3),
        lambda: fsd.VP().quadrature(1e-3, True),
    ):
        with pytest.raises(ValueError, match="delta and T"):
            call()
    with pytest.raises(ValueError, match="delta and T must be Python numbers"):
        jax.jit(lambda T: fsd.uniform_grid(0.1, T, 3))(1.0)


# --- latents and problems -------------------------------------------------------------------------

LATENTS = [
    lambda: fsd.GaussianLatent.create(2, 1.0),
    lambda: fsd.UniformLatent.create(2, 1.0),
    lambda: fsd.GaussianMixture.create([1, 3], [[-1.0, 0.0], [1.0, 0.5]], [0.3, 0.2]),
]


@pytest.mark.parametrize("make", LATENTS)
def test_latents_check_what_they_are_given(make):
    latent, z = make(), np.ones((3, 2), np.float32)
    for call, message in (
        (lambda: latent.sample(0, 3), "key must be a JAX random key"),
        (lambda: latent.sample(KEY, 2.0), "n must be an integer"),
        (lambda: latent.score(z, -1.0), "t must be"),
        (lambda: latent.score(z[:, :1], 1.0), "z must have 2 entries"),
        (lambda: latent.score(z, np.ones(4)), "t must be one time or fit"),
        (lambda: latent.score(z, 1.0, process="vp"), "process must be a VP"),
        (lambda: latent.score_at(z, 0.5, -1.0), "variance must be"),
        (lambda: latent.score_at(z, -0.5, 1.0), "signal must be not negative"),
        (lambda: fsd.latent_constants(0, latent, times=[1.0]), "key must be"),
        (lambda: fsd.latent_constants(KEY, latent, times=[0.0]), "times must be"),
        (lambda: fsd.latent_constants(KEY, 3, times=[1.0]), "latent must be a Latent"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    traced = jax.jit(lambda t: latent.score(z, t))(jnp.array([1.0, -1.0, 0.5]))
    assert list(np.isnan(traced[:, 0])) == [False, True, False]


def test_variances_that_the_device_rounds_to_zero_are_refused():
    for call in (
        lambda: fsd.GaussianLatent.create(2, 1e-42),
        lambda: fsd.UniformLatent.create(2, 1e-42),
        lambda: fsd.GaussianMixture.create([1.0], [[0.0]], [1e-42]),
        lambda: fsd.LinearProblem.random(
            KEY, ambient_dim=4, latent_dim=2, latent_variance=1.0, residual_variance=1e-42
        ),
    ):
        with pytest.raises(ValueError, match="must be"):
            call()
    tilted = np.array([[1e-9, 5e-9], [0.0, 1e-9]])
    with pytest.raises(ValueError, match="symmetric"):
        fsd.GaussianMixture.create([1.0], [[0.0, 0.0]], [tilted])


def test_problems_check_what_they_are_given():
    problem, x = _problem(), np.ones((3, 6), np.float32)
    law = problem.target_law
    size = {"ambient_dim": 6, "latent_dim": 2, "latent_variance": 1.0}
    for call, message in (
        (lambda: fsd.LinearProblem.random(0, **size), "key must be"),
        (lambda: fsd.LinearProblem.random(KEY, **size, mean_scale=-1.0), "mean_scale must be"),
        (
            lambda: fsd.LinearProblem.random(KEY, **(size | {"ambient_dim": 6.0})),
            "ambient_dim must",
        ),
        (lambda: fsd.LinearProblem.with_latent(KEY, 3, ambient_dim=6), "latent must be a Latent"),
        (lambda: problem.sample_source(0, 3), "key must be"),
        (lambda: problem.sample_target(KEY, 0), "n must be"),
        (lambda: problem.target_score(x, 0.0), "t must be"),
        (lambda: problem.target_score(x[:, :5], 0.1), "x must have 6 entries"),
        (lambda: problem.target_score(x, 0.1, process=1), "process must be"),
        (lambda: law.sample(0, 3), "key must be"),
        (lambda: law.diffuse(-1.0), "t must be"),
        (lambda: law.diffuse([0.1, 0.2]), "t must be one time"),
        (lambda: law.diffuse(0.1, process=None), "process must be"),
        (lambda: law.score(x[:, :5]), "x must have 6 entries"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert law.diffuse(0.0).variance.tolist() == law.variance.tolist()


# --- ledgers --------------------------------------------------------------------------------------


def test_ledgers_check_what_they_are_given():
    problem = _problem()
    score = fsd.LinearScore.from_decoder(problem.A_ta, latent_variance=1.0)
    times = np.geomspace(1e-2, 5.0, 9)
    good = {"times": times}
    small = fsd.LinearScore.from_decoder(jnp.eye(4, 2), latent_variance=1.0)
    bent = dataclasses.replace(score, basis=2 * score.basis)
    for call, message in (
        (lambda: ledger.account(score, score, **good), "problem must be a LinearProblem"),
        (lambda: ledger.account(score, problem, **good, denoise="no"), "denoise must be True"),
        (lambda: ledger.account(small, problem, **good), "same number D of rows"),
        (lambda: ledger.account(bent, problem, **good), "score.basis must have orthonormal"),
        (lambda: ledger.account(score, problem, **good, refit=bent), "refit.basis must have"),
        (lambda: ledger.account(score, problem, times=[0.0, 1.0]), "times must be positive"),
        (
            lambda: ledger.account(score, problem, times=np.geomspace(1e-2, 300, 9)),
            "errors are not numbers",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()


# --- JAX's modes ----------------------------------------------------------------------------------


def _everything(key):
    """All public functions of these rooms, on valid input from NumPy."""
    problem, times = _problem(), np.geomspace(0.05, 4.0, 13)
    law = problem.target_law
    x = np.asarray(problem.sample_target(key, 5))
    score = fsd.LinearScore.from_decoder(
        np.asarray(problem.A_s), latent_variance=np.array([1.5, 1.0]), residual_variance=0.2,
        mean=np.zeros(6),
    )  # fmt: skip
    empirical = fsd.EmpiricalScore.from_samples(x)
    yield empirical(x, 0.3), empirical.denoise(x, 1e-6), score(x, np.full(5, 0.3))
    decoded = fsd.DecodedScore(
        decoder=problem.A_s, latent=score.latent, residual_variance=score.residual_variance,
        mean=score.mean, process=score.process,
    )  # fmt: skip
    yield decoded(x, 0.3), decoded.denoise(x, 0.3), score.denoise(x, 0.3)
    yield fsd.score_error(score, problem, times=[0.1, 1.0]), score.losses(x, [0.1], [1.0])
    yield (
        fsd.subspace_error(score.decoder, problem.A_ta),
        fsd.principal_angles(score.basis, law.basis),
    )
    q = problem.source_law
    for distance in (fsd.gaussian_kl, fsd.bures_w2):
        yield distance(law, q), jax.grad(distance)(law, law), jax.grad(distance)(law, q)
    yield sampler.continuous_law(score, delta=0.05, T=4.0, initial=law.diffuse(4.0))
    for method in sampler.METHODS:
        yield sampler.generated_law(score, times=times, method=method, denoise=True)
    yield sampler.sample(key, score, times=times, n=5, chunk=2, method="heun_ode")
    yield sampler.sample_latent(key, score.latent, basis=score.basis, times=times, n=3)
    yield ledger.account(score, problem, times=times).total
    yield problem.target_score(x, 0.2), law.score(x), law.sample(key, 3), law.trace
    z = np.asarray(problem.latent.sample(key, 3))
    for make in LATENTS:
        yield make().score(z, 0.5), make().sample(key, 4), make().second_moment()
        yield fsd.latent_constants(key, make(), times=[0.5], n=5).lipschitz
    yield PROCESS.signal(times), PROCESS.noise_variance(0.0), PROCESS.quadrature(nodes=4)


def _finite(key):
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(list(_everything(key)))]
    assert all(np.all(np.isfinite(leaf)) for leaf in leaves)
    return leaves


@pytest.mark.parametrize("mode", ["strict", "nans", "rbg", "x64"])
def test_everything_under_a_mode_of_jax(mode):
    if mode == "strict":
        with jax.numpy_dtype_promotion("strict"):
            found = _finite(KEY)
    elif mode == "nans":
        with jax.debug_nans(True):
            found = _finite(KEY)
    elif mode == "rbg":
        found = _finite(jax.random.key(0, impl="rbg"))
    else:
        with _x64_context(), jax.numpy_dtype_promotion("strict"):
            found = _finite(KEY)
    floats = {leaf.dtype for leaf in found if leaf.dtype.kind == "f"}
    assert floats == {np.dtype(np.float64 if mode == "x64" else np.float32)}


def test_levels_of_a_latent_fit_its_points():
    latent, z = fsd.GaussianLatent.create(3, 1.0), np.ones((4, 3), np.float32)
    for signal, variance, name in (
        (np.ones((3, 4)), 0.1, "signal"),
        (0.9, np.ones(3), "variance"),
        (np.ones((1, 4)), 0.1, "signal"),
    ):
        with pytest.raises(ValueError, match=f"{name} must be one number or fit"):
            latent.score_at(z, signal, variance)
    assert latent.score_at(z[:0], 0.9, np.ones(0)).shape == (0, 3)
