"""Pre-training, fine-tuning and the baselines: exactness, options, the interface, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fsd_jax as fsd
from fsd_jax import Status
from fsd_jax.fewshot import fit as fitting
from tests import reference

D, d = 12, 3
SHAPE = (3, 4)
# As many as the default has, to share its compilations.
TIMES = np.geomspace(0.05, 5.0, 64, dtype=np.float32)
WEIGHTS = TIMES / TIMES.sum()


def _problem(seed=0, *, tau2=0.0, mean_scale=0.0, variance=1.0):
    return fsd.LinearProblem.random(
        jax.random.key(seed),
        ambient_dim=D,
        latent_dim=d,
        latent_variance=variance,
        residual_variance=tau2,
        mean_scale=mean_scale,
    )


@pytest.fixture(scope="module")
def noisy():
    return _problem(tau2=0.05, mean_scale=0.5, variance=np.array([3.0, 2.0, 1.0]))


@pytest.fixture(scope="module")
def source(noisy):
    return fsd.pretrain(noisy.sample_source(jax.random.key(1), 400), latent_dim=d)


@pytest.fixture(scope="module")
def target(noisy):
    return noisy.sample_target(jax.random.key(2), 6)


@pytest.fixture(scope="module")
def clean():
    """A noise-free problem without means, and its source."""
    problem = _problem()
    x = problem.sample_source(jax.random.key(1), 400)
    return problem, fsd.pretrain(x, latent_dim=d, mean=False)


def _data(dtype, n=50, ambient=D, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, ambient)) * np.linspace(3, 0.5, ambient) + 0.7).astype(dtype)


def _close(actual, desired, dtype, scale=1.0):
    eps = float(np.finfo(dtype).eps)
    np.testing.assert_allclose(actual, desired, rtol=1e3 * eps, atol=1e3 * eps * scale)


# Pre-training


@pytest.mark.result("R12")
@pytest.mark.parametrize("centre", [True, False])
def test_pretrain_equals_the_dense_eigenvalues(dtype, centre):
    x = _data(dtype)
    model = fsd.pretrain(x, latent_dim=d, mean=centre)
    C = reference.second_moment(x, centre=centre)
    values, _ = reference.eigenpairs(C)
    assert model.basis.dtype == dtype
    _close(model.latent_variance, values[:d], dtype)
    _close(model.residual_variance, values[d:].mean(), dtype)
    _close(reference.projector(model.basis), reference.top_projector(C, d), dtype)
    mean = x.mean(axis=0, dtype=np.float64) if centre else np.zeros(D)
    _close(model.mean, mean, dtype)
    assert float(model.count) == len(x)
    assert int(model.status) == Status.OK


@pytest.mark.parametrize("n", [7, 50])
def test_pretrain_with_fewer_or_more_samples_than_dimensions(n):
    x = _data(np.float32, n)
    model = fsd.pretrain(x, latent_dim=d)
    values, _ = reference.eigenpairs(reference.second_moment(x, centre=True))
    _close(model.latent_variance, values[:d], np.float32)
    _close(model.residual_variance, values[d:].sum() / (D - d), np.float32)


def test_isotropic_takes_the_mean_of_the_top_values():
    x = _data(np.float32)
    model = fsd.pretrain(x, latent_dim=d, isotropic=True)
    values, _ = reference.eigenpairs(reference.second_moment(x, centre=True))
    _close(model.latent_variance, np.full(d, values[:d].mean()), np.float32)
    _close(model.residual_variance, values[d:].mean(), np.float32)


def test_without_residual_the_residual_variance_is_zero():
    assert (
        float(fsd.pretrain(_data(np.float32), latent_dim=d, residual=False).residual_variance) == 0
    )


def test_noise_free_data_have_no_residual(clean):
    assert float(clean[1].residual_variance) == 0


@pytest.mark.parametrize("centre", [True, False])
def test_pretrain_from_batches_equals_from_samples(centre):
    x = _data(np.float32)
    batches = (x[:20], x[20:29], x[29:])
    moment = fsd.SecondMoment.from_batches(batches, rank=d, centre=centre)
    streamed = fsd.pretrain(moment, latent_dim=d)
    direct = fsd.pretrain(x, latent_dim=d, mean=centre)
    _close(streamed.latent_variance, direct.latent_variance, np.float32)
    _close(streamed.residual_variance, direct.residual_variance, np.float32)
    _close(streamed.mean, direct.mean, np.float32)
    _close(
        reference.projector(streamed.basis), reference.projector(direct.basis), np.float32, scale=10
    )
    assert streamed.shape == direct.shape == (D,)
    assert float(streamed.count) == len(x)


def test_a_moment_holding_more_pairs_is_cut():
    moment = fsd.SecondMoment.from_samples(_data(np.float32), centre=True)
    cut = fsd.pretrain(moment, latent_dim=d)
    direct = fsd.pretrain(_data(np.float32), latent_dim=d)
    _close(cut.latent_variance, direct.latent_variance, np.float32)
    _close(cut.residual_variance, direct.residual_variance, np.float32)


def test_rank_deficient_source_says_so():
    x = _data(np.float32)
    x = np.concatenate([x[:2], -x[:2]])
    model = fsd.pretrain(x, latent_dim=4)
    assert Status.RANK_DEFICIENT in Status(int(model.status))
    assert bool(jnp.all(model.latent_variance > 0))


# Images


def test_images_keep_their_shape(noisy, source, target):
    images = np.asarray(noisy.sample_source(jax.random.key(1), 400)).reshape(-1, *SHAPE)
    pretrained = fsd.pretrain(images, latent_dim=d)
    assert pretrained.shape == SHAPE
    np.testing.assert_array_equal(pretrained.basis, source.basis)
    shots = np.asarray(target).reshape(-1, *SHAPE)
    models = [
        (fsd.finetune(pretrained, shots), fsd.finetune(source, target)),
        (fsd.source_as_is(pretrained, shots), fsd.source_as_is(source, target)),
        (fsd.target_only(shots, latent_dim=d), fsd.target_only(target, latent_dim=d)),
    ]
    key = jax.random.key(3)
    for shaped, flat in models:
        assert shaped.shape == SHAPE
        assert shaped.decoder.shape[0] == D
        for call in (
            lambda m, x: m.score(x, 0.4),
            lambda m, x: m.denoise(x, 0.4),
            lambda m, _: m.sample(key, 5),
        ):
            ours = call(shaped, shots)
            assert ours.shape[1:] == SHAPE
            np.testing.assert_array_equal(ours.reshape(-1, D), call(flat, target))
        np.testing.assert_array_equal(shaped.losses(shots), flat.losses(target))


def test_score_takes_any_batch_axes(source, target):
    model = fsd.finetune(source, target)
    one = model.score(target[0], 0.3)
    assert one.shape == (D,)
    many = model.score(target.reshape(2, 3, D), 0.3)
    assert many.shape == (2, 3, D)
    np.testing.assert_allclose(many[0, 0], one, rtol=1e-4, atol=1e-4)


# The phase transition


@pytest.mark.parametrize(("mean", "enough"), [(None, d), ("target", d + 1)])
def test_enough_noise_free_samples_recover_the_subspace(mean, enough):
    _check_transition(mean, enough, np.float32)


@pytest.mark.usefixtures("x64")
def test_enough_samples_in_float64():
    _check_transition(None, d, np.float64)


def _check_transition(mean, enough, dtype):
    problem = _problem(4)
    pretrained = fsd.pretrain(
        problem.sample_source(jax.random.key(5), 400), latent_dim=d, mean=False
    )
    assert pretrained.basis.dtype == dtype
    x = problem.sample_target(jax.random.key(6), enough)
    model = fsd.finetune(pretrained, x, mean=mean)
    assert int(model.rank) == d
    assert int(model.status) == Status.OK
    assert float(fsd.subspace_error(model.decoder, problem.A_ta)) < 1e-6
    if dtype == np.float64:
        return
    below = fsd.finetune(pretrained, x[: enough - 1], mean=mean)
    assert int(below.rank) == d - 1
    assert Status.RANK_DEFICIENT in Status(int(below.status))
    assert float(fsd.subspace_error(below.decoder, problem.A_ta)) > 1e-2


@pytest.mark.result("R6")
@pytest.mark.parametrize("n", [1, 2])
def test_below_the_transition_the_error_is_what_is_missing(clean, n):
    problem, pretrained = clean
    x = problem.sample_target(jax.random.key(7), n)
    model = fsd.finetune(pretrained, x, mean=None, complete="none")
    assert float(fsd.subspace_error(model.decoder, problem.A_ta)) == pytest.approx(d - n, abs=1e-4)


@pytest.mark.result("R8")
def test_r8_only_the_source_limits_the_score():
    """R8: at n_ta = d what is left is the latent variance's own error, 2 m^4/n_s in the mean."""
    n_s, t, seeds = 10_000, 0.5, 40
    m2 = float(np.exp(-t))
    errors, scratch, times = [], [], jnp.array([t])
    for seed in range(seeds):
        problem = _problem(seed)
        keys = jax.random.split(jax.random.key(1000 + seed))
        pretrained = fsd.pretrain(
            problem.sample_source(keys[0], n_s), latent_dim=d, mean=False, isotropic=True
        )
        x = problem.sample_target(keys[1], d)
        model = fsd.finetune(pretrained, x, mean=None)
        errors.append(float(fsd.score_error(model.linear, problem, time=t)))
        if seed < 10:
            rank = fsd.finetune(
                pretrained, x, mean=None, constraint="rank", times=times, complete="none"
            )
            scratch.append(float(fsd.score_error(rank.linear, problem, time=t)))
    expected = 2 * m2**2 / n_s
    stderr = np.std(errors, ddof=1) / seeds**0.5
    assert abs(np.mean(errors) - expected) < 4 * stderr
    assert np.mean(errors) < 2 * expected
    assert np.min(scratch) > 10 * np.max(errors)


@pytest.mark.usefixtures("x64")
def test_rank_constraint_at_one_time_is_training_from_scratch():
    """The decoder undoes the frozen ``f``: the score is that of the empirical Gaussian."""
    t = 0.7
    problem = _problem(3, variance=1.7)
    pretrained = fsd.pretrain(
        problem.sample_source(jax.random.key(1), 300), latent_dim=d, mean=False, isotropic=True
    )
    x = problem.sample_target(jax.random.key(2), d)
    model = fsd.finetune(
        pretrained, x, mean=None, constraint="rank", complete="none", times=jnp.array([t])
    )
    _, S = reference.diffused(np.zeros(D), reference.second_moment(x), t)
    y = np.random.default_rng(0).normal(size=(5, D))
    np.testing.assert_allclose(
        model.score(y, t), reference.gaussian_score(y, 0.0, S), rtol=1e-9, atol=1e-9
    )


# Completion


@pytest.mark.result("Completion from the source")
@pytest.mark.parametrize(
    ("constraint", "mean"), [("orthonormal", "target"), ("rank", "target"), ("rank", "source")]
)
def test_completion_keeps_what_was_found_and_projects_the_source(source, target, constraint, mean):
    shots = target[: 2 if mean == "target" else 1]
    found = fsd.finetune(source, shots, constraint=constraint, mean=mean, complete="none")
    full = fsd.finetune(source, shots, constraint=constraint, mean=mean)
    assert int(found.rank) == int(full.rank) == 1
    bare, V = (np.asarray(m.linear.basis, np.float64) for m in (found, full))
    # Several times with unequal variances may give the found direction any column.
    alive = np.diag(found.linear.mixing) > 0
    assert alive.sum() == 1
    np.testing.assert_allclose(V.T @ V, np.eye(d), atol=1e-5)
    np.testing.assert_array_equal(V[:, alive], bare[:, alive])
    assert np.all(bare[:, ~alive] == 0)
    assert np.all(np.asarray(found.decoder)[:, ~alive] == 0)
    gains, bare_gains = (np.diag(m.linear.mixing) for m in (full, found))
    np.testing.assert_array_equal(gains, np.where(alive, bare_gains, 1))

    # Completed directions: the source's remainder, in the order of the variance left.
    outside = np.eye(D) - V[:, alive] @ V[:, alive].T
    scaled = np.asarray(source.basis, np.float64) * np.sqrt(np.asarray(source.latent_variance))
    u, _, _ = np.linalg.svd(outside @ scaled, full_matrices=False)
    overlap = np.abs(np.diag(u[:, : d - 1].T @ V[:, ~alive]))
    np.testing.assert_allclose(overlap, 1, atol=1e-4)


def test_nothing_to_complete_when_the_target_determines_all(source, target):
    with_source = fsd.finetune(source, target)
    without = fsd.finetune(source, target, complete="none")
    np.testing.assert_array_equal(with_source.decoder, without.decoder)


@pytest.mark.result("Completion from the source")
def test_target_inside_the_source_span_completes_to_the_source_span(clean):
    _, pretrained = clean
    shots = pretrained.basis.T[:1] * 2
    model = fsd.finetune(pretrained, shots, mean=None)
    assert float(fsd.subspace_error(model.decoder, pretrained.basis)) < 1e-6


# Means


def test_mean_options(source, target):
    x = np.asarray(target, np.float64)
    centres = {
        "target": x.mean(axis=0),
        "source": np.asarray(source.mean, np.float64),
        None: np.zeros(D),
    }
    for mean, centre in centres.items():
        C = (x - centre).T @ (x - centre) / len(x)
        expected = reference.top_projector(C, d)
        model = fsd.finetune(source, target, mean=mean)
        _close(model.linear.mean, centre, np.float32)
        _close(reference.projector(model.linear.basis), expected, np.float32, scale=10)
        as_is = fsd.source_as_is(source, target, mean=mean)
        _close(as_is.linear.mean, centre, np.float32)
        np.testing.assert_array_equal(as_is.decoder, source.basis)
    alone = fsd.target_only(target, latent_dim=d)
    _close(alone.linear.mean, centres["target"], np.float32)


def test_finetune_reuses_the_source_spectrum(source, target):
    for model in (fsd.finetune(source, target), fsd.source_as_is(source, target)):
        np.testing.assert_array_equal(model.linear.latent_variance, source.latent_variance)
        assert float(model.linear.residual_variance) == float(source.residual_variance)


def test_the_process_of_the_source_is_used(noisy, target):
    process = fsd.VP.linear(0.1, 4.0)
    x = noisy.sample_source(jax.random.key(1), 50)
    pretrained = fsd.pretrain(x, latent_dim=d, process=process)
    model = fsd.finetune(pretrained, target)
    assert model.linear.process == process


# What a model computes


def _models(source, target):
    return {
        "orthonormal": fsd.finetune(source, target),
        "incomplete": fsd.finetune(source, target[:2], complete="none"),
        "rank": fsd.finetune(source, target, constraint="rank", times=TIMES, weights=WEIGHTS),
        "source as is": fsd.source_as_is(source, target),
        "target only": fsd.target_only(target, latent_dim=d),
    }


def test_losses_equal_monte_carlo(source, target, noisy):
    x = noisy.sample_target(jax.random.key(8), 10)
    for name, model in _models(source, target).items():
        mean, stderr = fsd.monte_carlo_loss(
            jax.random.key(9),
            model.linear,
            x,
            times=model.times,
            weights=model.weights,
            draws=400,
        )
        assert abs(float(model.loss(x)) - float(mean)) < 4 * float(stderr), name
        np.testing.assert_allclose(model.loss(x), np.mean(model.losses(x)), rtol=1e-6)


def test_denoise_is_tweedies_formula(source, target):
    x = np.asarray(target, np.float64)
    for t in (0.1, 1.0):
        m2, s2 = reference.levels(t)
        for model in _models(source, target).values():
            expected = (x + s2 * np.asarray(model.score(target, t), np.float64)) / np.sqrt(m2)
            np.testing.assert_allclose(model.denoise(target, t), expected, rtol=1e-4, atol=1e-4)


def test_score_is_that_of_the_law(source, target):
    t = 0.6
    for name, model in _models(source, target).items():
        if name == "rank":
            continue
        mean, S = reference.diffused(
            np.asarray(model.law.mean, np.float64), reference.thin_covariance(model.law), t
        )
        expected = reference.gaussian_score(target, mean, S)
        np.testing.assert_allclose(model.score(target, t), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["orthonormal", "incomplete", "target only"])
def test_samples_have_the_mean_and_covariance_of_the_law(source, target, name):
    n = 200_000
    model = _models(source, target)[name]
    x = np.asarray(model.sample(jax.random.key(11), n), np.float64)
    S = reference.thin_covariance(model.law)
    y = x - np.asarray(model.law.mean, np.float64)
    variances = np.diag(S)
    assert np.max(np.abs(y.mean(axis=0)) / np.sqrt(variances / n)) < 5
    stderr = np.sqrt((np.outer(variances, variances) + S**2) / n)
    assert np.max(np.abs(y.T @ y / n - S) / stderr) < 5


def test_a_rank_constrained_model_is_sampled_by_reverse_time(source, target):
    model = fsd.finetune(source, target, constraint="rank")
    with pytest.raises(ValueError, match="constraint='orthonormal'"):
        _ = model.law
    with pytest.raises(ValueError, match="constraint='orthonormal'"):
        model.sample(jax.random.key(0), 3, method="exact")
    n, times = 20_000, fsd.geometric_grid(1e-3, 10.0, 64)
    x = np.asarray(model.sample(jax.random.key(0), n, steps=64), np.float64)
    law = fsd.sampler.generated_law(model.linear, times=times, denoise=True)
    S = reference.thin_covariance(law)
    y = x - np.asarray(law.mean, np.float64)
    variances = np.diag(S)
    assert np.max(np.abs(y.mean(axis=0)) / np.sqrt(variances / n)) < 5
    stderr = np.sqrt((np.outer(variances, variances) + S**2) / n)
    assert np.max(np.abs(y.T @ y / n - S) / stderr) < 5


def test_reverse_time_comes_near_the_exact_law(source, target):
    """An orthonormal model both ways; the ODE and the SDE; few and many steps."""
    model = fsd.finetune(source, target)
    grids = {steps: fsd.geometric_grid(1e-3, 10.0, steps) for steps in (64, 256)}
    laws = {
        steps: fsd.sampler.generated_law(model.linear, times=times, method="ei_sde", denoise=True)
        for steps, times in grids.items()
    }
    distance = {steps: float(fsd.bures_w2(law, model.law)) for steps, law in laws.items()}
    # First order: the squared distance falls sixteenfold, with room for delta and rounding.
    assert distance[256] < distance[64] / 10 < 0.01
    drawn = model.sample(jax.random.key(1), 20_000, times=grids[64])
    assert drawn.shape == (20_000, D)
    # The trace of a Gaussian sample covariance has variance 2 tr(S^2)/n.
    stderr = np.sqrt(2 * np.sum(reference.thin_covariance(laws[64]) ** 2) / len(drawn))
    spread = np.sum(np.var(np.asarray(drawn, np.float64), axis=0))
    assert abs(spread - float(laws[64].trace)) < 5 * stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "ddim"}, "method must be one of 'exact', 'ei_sde'"),
        ({"method": "exact", "steps": 5}, "takes no steps"),
        ({"steps": 5, "times": np.array([0.1, 1.0])}, "not both"),
        ({"steps": 0}, "steps must be at least 1"),
    ],
)
def test_sample_refuses(source, target, change, message):
    with pytest.raises(ValueError, match=message):
        fsd.finetune(source, target).sample(jax.random.key(0), 2, **change)


def test_baselines_share_the_interface(source, target):
    kinds = {type(model) for model in _models(source, target).values()}
    assert kinds == {fsd.FewShotModel}
    for model in _models(source, target).values():
        assert model.losses(target[:2]).shape == (2,)
        assert model.loss(target).shape == ()
        assert model.score(target, 0.5).shape == target.shape


def test_target_only_is_probabilistic_pca_of_many_samples(noisy):
    model = fsd.target_only(noisy.sample_target(jax.random.key(0), 60), latent_dim=d)
    assert int(model.kept) == d
    x = np.asarray(model.samples, np.float64)
    values, _ = reference.eigenpairs(reference.second_moment(x, centre=True))
    np.testing.assert_allclose(model.law.variance, values[:d], rtol=1e-3)
    np.testing.assert_allclose(model.law.residual_variance, values[d:].mean(), rtol=1e-3)


def test_target_only_with_more_directions_than_dimensions(target):
    model = fsd.target_only(target, latent_dim=D + 5)
    assert int(model.kept) <= len(target) - 3
    assert model.sample(jax.random.key(0), 2).shape == (2, D)
    assert bool(jnp.isfinite(model.loss(target)))


def test_float64_target_on_a_float32_source_stays_float32(source, target):
    with np.errstate(all="raise"):
        model = fsd.finetune(source, np.asarray(target, np.float64))
    assert model.decoder.dtype == np.float32
    assert Status(int(model.status)) == Status.DOWNCAST


@pytest.mark.usefixtures("x64")
def test_float64_throughout(target):
    x = _data(np.float64)
    pretrained = fsd.pretrain(x, latent_dim=d)
    shots = np.asarray(target, np.float64)
    for model in (fsd.finetune(pretrained, shots), fsd.target_only(shots, latent_dim=d)):
        floats = [
            leaf for leaf in jax.tree.leaves(model) if jnp.issubdtype(leaf.dtype, jnp.floating)
        ]
        assert {leaf.dtype.name for leaf in floats} == {"float64"}


def test_one_compilation_for_all_draws_of_a_shape(source, noisy):
    before = fitting.fit._cache_size()
    draws = [noisy.sample_target(jax.random.key(20 + i), 9) for i in range(3)]
    for x in draws:
        fsd.finetune(source, x, times=TIMES)
    assert fitting.fit._cache_size() == before + 1


def test_repr_is_one_line(source, target):
    expected = "FewShotModel(few-shot orthonormal, shape=(12,), D=12, d=3, n_ta=6, rank=3, float32"
    assert repr(fsd.finetune(source, target)).startswith(expected)
    for model in (source, *_models(source, target).values()):
        assert "\n" not in repr(model)
        assert repr(model).endswith(")")
        assert len(repr(model)) < 160


# Bad input

X = _data(np.float32, 6)


def _with(value):
    x = X.copy()
    x[1, 2] = value
    return x


def _pretrain(x=X, **change):
    return fsd.pretrain(x, **(dict(latent_dim=d) | change))


PRETRAIN = [
    (lambda: _pretrain(latent_dim=True), "latent_dim must be an integer"),
    (lambda: _pretrain(latent_dim=2.0), "latent_dim must be an integer"),
    (lambda: _pretrain(latent_dim="3"), "latent_dim must be an integer"),
    (lambda: _pretrain(latent_dim=0), "latent_dim must be at least 1"),
    (lambda: _pretrain(latent_dim=-1), "latent_dim must be at least 1"),
    (lambda: _pretrain(latent_dim=7), "latent_dim must be at most 6"),
    (lambda: _pretrain(X.astype(np.uint8)), "x_source must be a floating array"),
    (lambda: _pretrain(X > 0), "x_source must be a floating array"),
    (lambda: _pretrain(X[0]), "x_source must have shape"),
    (lambda: _pretrain(X[:0]), "x_source is empty"),
    (lambda: _pretrain(X[:1], latent_dim=1), "x_source has 1 row"),
    (lambda: _pretrain(_with(np.nan)), "x_source has NaN"),
    (lambda: _pretrain(_with(np.inf)), "x_source has NaN or infinite"),
    (lambda: _pretrain(route="fast"), "route must be one of"),
    (
        lambda: _pretrain(fsd.SecondMoment.from_samples(X, rank=2)),
        "latent_dim must be at most 2 = eigenpairs kept",
    ),
]


@pytest.mark.parametrize(("call", "message"), PRETRAIN)
def test_pretrain_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


TUNE = [
    (lambda s: fsd.finetune(s, X[:, :5]), "x_target has D = 5"),
    (lambda s: fsd.finetune(s, X.reshape(6, 3, 4)[:, :2]), "x_target has D = 8"),
    (lambda s: fsd.finetune(s, X.astype(np.uint8)), "x_target must be a floating array"),
    (lambda s: fsd.finetune(s, X[0]), "x_target must have shape"),
    (lambda s: fsd.finetune(s, X[:0]), "x_target is empty"),
    (lambda s: fsd.finetune(s, _with(np.nan)), "x_target has NaN"),
    (lambda s: fsd.finetune(s, _with(np.inf), mean=None), "x_target has NaN or infinite"),
    (lambda s: fsd.finetune(s, X[:1]), "x_target has 1 row .* mean='source'"),
    (lambda s: fsd.finetune(s, X, constraint="free"), "constraint must be one of .*'free'"),
    (lambda s: fsd.finetune(s, X, mean="both"), "mean must be one of .*'both'"),
    (lambda s: fsd.finetune(s, X, mean=np.zeros(D)), "mean must be"),
    (lambda s: fsd.finetune(s, X, complete="random"), "complete must be one of .*'random'"),
    (lambda s: fsd.finetune(s, X, weights=[1.0]), "weights go with times"),
    (lambda s: fsd.finetune(s, X, times=[0.1, 0.2], weights=[1.0]), "weights must match times"),
    (lambda s: fsd.finetune(s, X, times=[0.1], weights=[0.0]), "weights must not all be zero"),
    (lambda s: fsd.finetune(s, X, times=[0.0]), "times must be positive"),
    (lambda s: fsd.finetune(s, X, times=0.5), "times must have 1 axes"),
    (lambda s: fsd.finetune(s, X, times=[]), "times must be positive"),
    (lambda s: fsd.finetune(X, X), "pretrained must be a PretrainedModel"),
    (lambda s: fsd.source_as_is(s, X[:, :5]), "x_target has D = 5"),
    (lambda s: fsd.source_as_is(s, X, mean="both"), "mean must be one of"),
    (lambda s: fsd.source_as_is(s, _with(np.nan), mean="source"), "x_target has NaN"),
    (lambda s: fsd.target_only(_with(np.nan), latent_dim=2), "x_target has NaN"),
    (lambda s: fsd.target_only(X[:1], latent_dim=1), "x_target has 1 row"),
    (lambda s: fsd.target_only(X, latent_dim=0), "latent_dim must be at least 1"),
    (lambda s: fsd.target_only(X, latent_dim=1.5), "latent_dim must be an integer"),
    (lambda s: fsd.finetune(s, X).score(X[:, :5], 0.5), "x must end in the sample shape"),
    (lambda s: fsd.finetune(s, X).denoise(X > 0, 0.5), "x must be a floating array"),
    (lambda s: fsd.finetune(s, X).losses(X[0]), "x must have shape"),
    (lambda s: fsd.finetune(s, X).losses(X[:0]), "x is empty"),
    (lambda s: fsd.finetune(s, X).sample(jax.random.key(0), 0), "n must be at least 1"),
    (lambda s: fsd.finetune(s, X).sample(jax.random.key(0), 2.0), "n must be an integer"),
]


@pytest.mark.parametrize(("call", "message"), TUNE)
def test_finetune_and_baselines_refuse(source, call, message):
    with pytest.raises(ValueError, match=message):
        call(source)


def test_without_throw_there_is_a_status(source):
    bad = _with(np.nan)
    models = [
        fsd.pretrain(bad, latent_dim=d, throw=False),
        fsd.finetune(source, bad, throw=False),
        fsd.source_as_is(source, bad, mean="source", throw=False),
        fsd.target_only(bad, latent_dim=d, throw=False),
    ]
    for model in models:
        assert Status.NON_FINITE in Status(int(model.status))


def test_one_sample_needs_no_mean_of_its_own(source):
    for mean in ("source", None):
        model = fsd.finetune(source, X[:1], mean=mean)
        assert int(model.rank) == 1
        assert bool(jnp.isfinite(model.loss(X)))
    assert bool(jnp.isfinite(fsd.source_as_is(source, X[:1]).loss(X)))
