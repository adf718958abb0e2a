"""Data that cannot be meant are told, and data that can are not."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fsd_jax as fsd

D, d = 12, 3


def _problem(**options):
    return fsd.LinearProblem.random(
        jax.random.key(0), ambient_dim=D, latent_dim=d, latent_variance=2.0,
        residual_variance=0.05, mean_scale=0.5, **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def sets():
    problem = _problem()
    source = np.asarray(problem.sample_source(jax.random.key(1), 400))
    return source, np.asarray(problem.sample_target(jax.random.key(2), 6))


@pytest.fixture(scope="module")
def source(sets):
    return fsd.pretrain(sets[0], latent_dim=d)


ODD = [
    (lambda x: x * 255, r"spread is \d+ times"),
    (lambda x: x / 255, r"spread is 0\.00\d+ times"),
    (lambda x: x + 100, r"mean is \d+ spreads away"),
    (lambda x: x * 20, r"spread is \d+\.?\d* times"),
]


@pytest.mark.parametrize(("change", "words"), ODD, ids=["bytes", "shares", "offset", "twenty"])
def test_a_target_on_another_scale_is_told(source, sets, change, words):
    x = change(sets[1])
    for adapt in (fsd.finetune, fsd.source_as_is):
        with pytest.warns(fsd.DataWarning, match="x_target: the target's " + words) as caught:
            model = adapt(source, x)
    assert caught[0].filename == __file__
    assert any("put both on one scale" in note for note in model.report().notes)
    assert "  note: the target's " in str(model.report())


@pytest.mark.parametrize("change", [lambda x: x * 3, lambda x: x / 3, lambda x: x + 1, jnp.asarray])
def test_a_target_near_its_source_is_not(source, sets, change):
    model = fsd.finetune(source, change(sets[1]))
    assert model.report().notes == ()


def test_a_source_without_a_mean_is_compared_about_zero(sets):
    plain = fsd.pretrain(sets[0] + 5, latent_dim=d, mean=False)
    fsd.finetune(plain, sets[1] + 5)
    with pytest.warns(fsd.DataWarning, match=r"spread is \d+ times"):
        fsd.finetune(plain, (sets[1] + 5) * 255)


def test_one_picture_is_no_scale(source, sets):
    """Copies and near copies are the report's duplicates, not a matter of units."""
    fsd.finetune(source, np.repeat(sets[1][:1], 6, axis=0))
    fsd.finetune(source, sets[1][:1] + 1e-4 * sets[1])
    fsd.finetune(source, sets[1][:1], mean="source")


def _with_column(x, value):
    x = x.copy()
    x[:, 4] = value
    return x


@pytest.mark.parametrize("convert", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
def test_columns_that_cannot_be_meant_are_told(sets, convert):
    x = sets[0]
    with pytest.warns(fsd.DataWarning, match=r"1 constant columns .*first: column 4, always 50\)"):
        fsd.pretrain(convert(_with_column(x, 50.0)), latent_dim=d)
    with pytest.warns(fsd.DataWarning, match=r"column 4, always 0\)"):
        fsd.pretrain(convert(_with_column(x + 30, 0.0)), latent_dim=d)
    with pytest.warns(fsd.DataWarning, match=r"means up to .* times its spread.*float32"):
        fsd.pretrain(convert(x + 1e5), latent_dim=d)


def test_backgrounds_and_ordinary_offsets_are_not_told(sets):
    rng = np.random.default_rng(0)
    shown = rng.uniform(size=(400, D)) < np.linspace(0, 1, D)
    for background in (0.0, 1.0):
        pictures = np.where(shown, rng.uniform(size=(400, D)), background).astype(np.float32)
        fsd.pretrain(_with_column(pictures, background), latent_dim=d)
    fsd.pretrain(sets[0] + 1000, latent_dim=d)
    fsd.pretrain(_with_column(sets[0], 1.0), latent_dim=d)


def test_a_column_that_varies_rarely_is_not_constant(sets):
    """Only 512 rows are looked at first; the whole column decides."""
    x = _with_column(np.tile(sets[0], (4, 1)), 50.0)
    x[1, 4] = 0.0
    fsd.pretrain(x, latent_dim=d)


def test_nothing_is_said_under_a_trace_or_without_throw(source, sets):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jax.jit(lambda x: fsd.finetune(source, x).decoder)(sets[1] * 255)
        fsd.finetune(source, sets[1] * 255, throw=False)
        fsd.pretrain(_with_column(sets[0], 50.0), latent_dim=d, throw=False)


# Wrong kinds of arguments


REFUSED = [
    (lambda s, x: fsd.pretrain(x, latent_dim=2, mean="no"), "mean must be True or False"),
    (lambda s, x: fsd.pretrain(x, latent_dim=2, residual=1), "residual must be True or False"),
    (lambda s, x: fsd.pretrain(x, latent_dim=2, isotropic="no"), "isotropic must be True"),
    (lambda s, x: fsd.pretrain(x, latent_dim=2, throw="no"), "throw must be True or False"),
    (lambda s, x: fsd.pretrain(x, latent_dim=2, process=None), "process must be a VP"),
    (lambda s, x: fsd.pretrain(x, latent_dim=2, key=3), "key must be a JAX random key"),
    (
        lambda s, x: fsd.pretrain(x.astype(np.uint8), latent_dim=2),
        r"x_source\.astype\('float32'\) / 255",
    ),
    (
        lambda s, x: fsd.finetune(s, x.astype(np.uint8)),
        r"x_target\.astype\('float32'\) / 255",
    ),
    (
        lambda s, x: fsd.source_as_is(s, x.astype(int)),
        r"x_target must be a floating array, .*x_target\.astype\('float32'\)",
    ),
    (lambda s, x: fsd.target_only(x.astype(np.int8), latent_dim=2), "x_target must be a floating"),
    (lambda s, x: fsd.finetune(s, x, throw="no"), "throw must be True or False"),
    (lambda s, x: fsd.finetune("model", x), "pretrained must be a PretrainedModel"),
    (lambda s, x: fsd.finetune(s, x, times=[1e-42]), "times must be positive"),
    (lambda s, x: fsd.target_only(x, latent_dim=2, process="vp"), "process must be a VP"),
    (lambda s, x: fsd.target_only(x, latent_dim=2, throw=0), "throw must be True or False"),
    (lambda s, x: fsd.finetune(s, x).sample(0, 3), "key must be a JAX random key"),
    (lambda s, x: fsd.finetune(s, x).sample(jax.random.key(0), 3, denoise="no"), "denoise must be"),
    (lambda s, x: fsd.finetune(s, x).sample(jax.random.key(0), 3, progress=1), "progress must be"),
    (lambda s, x: fsd.finetune(s, x).sample(jax.random.key(0), 3, chunk=0.5), "chunk must be"),
    *[
        (lambda s, x, t=t, f=f: getattr(fsd.finetune(s, x), f)(x, t), "t must be positive")
        for t in (0.0, -1.0, np.nan, np.inf, 1e-42)
        for f in ("score", "denoise")
    ],
    (lambda s, x: fsd.finetune(s, x).score(x, np.ones(5)), "t must be one time or have"),
    (lambda s, x: fsd.finetune(s, x).score(x, "soon"), "t must be real numbers"),
    (lambda s, x: jax.jit(lambda y: fsd.finetune(s, y).report().samples)(x), "outside jit"),
]


@pytest.mark.parametrize(("call", "words"), REFUSED)
def test_a_wrong_kind_is_a_value_error(source, sets, call, words):
    with pytest.raises(ValueError, match=words):
        call(source, sets[1])


def test_traced_times_out_of_range_are_nan(source, sets):
    model = fsd.finetune(source, sets[1])
    found = jax.jit(model.score)(sets[1], jnp.float32(-1.0))
    assert np.all(np.isnan(found))
    assert np.all(np.isfinite(jax.jit(model.score)(sets[1], jnp.float32(0.5))))


def test_float64_is_centred_before_it_is_narrowed(sets):
    """A.3: 1e7 + N(0, 1) loses 6 to 15% of its variances when it is narrowed first."""
    x = sets[0].astype(np.float64)
    plain = fsd.pretrain(x, latent_dim=d)
    with pytest.warns(fsd.DataWarning, match="means up to"):
        moved = fsd.pretrain(x + 1e7, latent_dim=d)
    np.testing.assert_allclose(moved.latent_variance, plain.latent_variance, rtol=1e-5)


class _Tensor:
    """A tensor that offers DLPack alone, and no shape."""

    def __init__(self, data):
        self.data = data

    def __dlpack__(self, **kwargs):
        return self.data.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self.data.__dlpack_device__()


def test_tensors_without_a_shape_are_taken_like_arrays(sets):
    source, target = (np.array(x) for x in sets[:2])
    held = np.array(_problem().sample_target(jax.random.key(9), 30))
    model = fsd.finetune(fsd.pretrain(source, latent_dim=d), target)
    same = fsd.finetune(fsd.pretrain(_Tensor(source), latent_dim=d), _Tensor(target))
    np.testing.assert_array_equal(model.decoder, same.decoder)
    assert str(model.report(held)) == str(same.report(_Tensor(held)))


def test_a_source_of_one_repeated_picture_has_no_law(sets):
    repeated = np.repeat(np.asarray(sets[0])[:1], 10, axis=0)
    for x in (repeated, repeated * np.float32(1e-20)):
        with pytest.raises(ValueError, match="x_source has no variance"):
            fsd.pretrain(x, latent_dim=2)
    status = fsd.pretrain(repeated, latent_dim=2, throw=False).status
    assert fsd.describe(status) == "bad_value|rank_deficient"


def test_infinite_entries_are_refused_without_a_warning_of_another_library(sets):
    x = np.array(sets[0])
    x[3, 2] = np.inf
    with pytest.raises(ValueError, match="x_source has NaN or infinite"):
        fsd.pretrain(x, latent_dim=2)
