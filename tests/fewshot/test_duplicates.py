"""Repeated pictures count once: what is found, what is left out together, and what is said."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from sklearn.datasets import load_digits

import fsd_jax as fsd
from fsd_jax.fewshot import duplicates, fit
from fsd_jax.fewshot.report import compare, student_quantile

NOISE = np.random.default_rng(0).normal(size=(5, 64)).astype(np.float32)


@pytest.fixture(scope="module")
def digits():
    x, label = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    return x[label != 0], x[label == 0]


@pytest.fixture(scope="module")
def source(digits):
    return fsd.pretrain(digits[0], latent_dim=8)


@pytest.fixture(scope="module")
def zeros(digits):
    return digits[1]


def _report(source, x, *args, **options):
    return fsd.finetune(source, x).report(*args, **options)


def _numbers(report):
    return [
        (row.loss, row.loss_stderr, row.difference, row.difference_stderr)
        for row in (report.model, report.source, report.target_only)
    ]


# Reports with repeated pictures (A.7)


def test_five_zeros_given_twice_are_judged_as_five(source, zeros):
    """Before: "No: 'target only' is better (by 530%)", where held-out data say Yes."""
    once = _report(source, zeros[:5])
    twice = _report(source, np.concatenate([zeros[:5], zeros[:5]]))
    np.testing.assert_allclose(_numbers(twice), _numbers(once), rtol=1e-4, atol=1e-4)
    assert twice.enough is once.enough
    assert (twice.samples, twice.units) == (10, 5)
    assert twice.duplicates.target == tuple((i, i + 5) for i in range(5))
    assert "10 samples in 5 groups" in twice.verdict
    assert "duplicates: target rows 0 = 5, 1 = 6" in str(twice)
    assert _report(source, np.concatenate([zeros[:5], zeros[:5]]), zeros[50:]).enough is True


def test_nearly_the_same_counts_once_too(source, zeros):
    x = np.concatenate([zeros[:5], zeros[:5] + 0.003 * NOISE])
    report = _report(source, x)
    assert report.duplicates.target == tuple((i, i + 5) for i in range(5))
    assert report.units == 5
    assert report.enough is None


def test_one_repeat_among_ten_turns_no_verdict(source, zeros):
    for first in (10, 20):
        nine = zeros[first : first + 9]
        once = _report(source, nine)
        again = _report(source, np.concatenate([nine, nine[:1]]))
        assert again.units == 9
        assert again.enough is once.enough
        assert again.duplicates.target == ((0, 9),)


def test_one_picture_ten_times_cannot_tell(source, zeros):
    for x in (np.repeat(zeros[:1], 10, axis=0), zeros[:1] + 1e-3 * np.concatenate([NOISE, -NOISE])):
        report = _report(source, x)
        assert report.enough is None
        assert report.verdict.startswith("Cannot tell: one evaluation sample gives no error bar")
        assert report.units == 1
        assert len(report.duplicates.target[0]) == 10
    assert np.isfinite(_report(source, x, zeros[50:]).model.loss)


def test_two_pictures_cannot_tell(source, zeros):
    report = _report(source, zeros[:2])
    assert report.enough is None
    assert "2 evaluation samples give no error bar" in report.verdict
    assert _report(source, zeros[[0, 1] * 5]).units == 2


def test_ten_identical_pictures_are_the_source_as_it_is(source, zeros):
    """A.2: a centred second moment of one picture has no direction."""
    model = fsd.finetune(source, np.repeat(zeros[:1], 10, axis=0))
    assert int(model.rank) == 0
    assert float(fsd.subspace_error(model.decoder, source.basis)) < 1e-6
    np.testing.assert_array_equal(model.linear.mean, zeros[0])
    alone = fsd.target_only(np.repeat(zeros[:1], 10, axis=0), latent_dim=8)
    assert int(alone.rank) == 0
    assert float(alone.linear.residual_variance) == 0


def test_rounding_of_the_source_mean_is_no_direction(source, zeros):
    """A.2 again: differences from a mean are rounded to the size of the mean."""
    along = np.asarray(source.basis[:, :1].T)
    far = fsd.pretrain(np.concatenate([zeros[:50] + 900, zeros[50:100] + 1100]), latent_dim=8)
    mean, steps = np.asarray(far.mean), np.linspace(1, 3, 10, dtype=np.float32)[:, None]
    none = fsd.finetune(far, np.repeat(mean[None], 10, axis=0), mean="source")
    assert int(none.rank) == 0
    one = fsd.finetune(far, mean + steps * along, mean="source")
    assert int(one.rank) == 1
    np.testing.assert_allclose(np.abs(along @ one.linear.basis[:, :1]), 1, atol=1e-4)


def test_groups_that_the_user_names_are_left_out_together(source, zeros):
    x = zeros[:10]
    model = fsd.finetune(source, x)
    report = model.report(target_groups=list("aabbccddee"))
    groups = np.repeat(np.arange(5), 2)
    by_hand = []
    for g in range(5):
        other = fsd.finetune(source, x[groups != g])
        by_hand.append(np.mean(other.linear.losses(x[groups == g], model.times, model.weights)))
    assert report.units == 5
    assert report.model.loss == pytest.approx(np.mean(by_hand), rel=1e-5)
    stderr = np.std(by_hand, ddof=1) / 5**0.5
    assert report.model.loss_stderr == pytest.approx(stderr, rel=1e-3)


def test_a_repeat_joins_groups_of_the_user(source, zeros):
    x = np.concatenate([zeros[:9], zeros[:1]])
    report = fsd.finetune(source, x).report(target_groups=[0, 0, 1, 2, 2, 3, 4, 5, 6, 1])
    # Rows 0 and 9 are one picture, so groups 0 and 1 are one.
    assert report.units == 6


def test_groups_share_one_compilation(source, zeros):
    model = fsd.finetune(source, zeros[:10])
    model.report()
    before = fit.leave_one_out._cache_size()
    model.report(target_groups=[0, 0, 1, 1, 2, 3, 4, 5, 6, 7])
    model.report(target_groups=[0, 0, 0, 1, 1, 1, 2, 2, 2, 2])
    assert fit.leave_one_out._cache_size() == before


@pytest.mark.parametrize("groups", [[0, 1], np.zeros((5, 1), int), np.zeros(5), 3])
def test_groups_of_another_length_are_refused(source, zeros, groups):
    model = fsd.finetune(source, zeros[:5])
    with pytest.raises(ValueError, match="target_groups must be 5 integers or words"):
        model.report(target_groups=groups)


# Held-out samples


def test_targets_given_as_heldout_are_refused(source, zeros):
    model = fsd.finetune(source, zeros[:5])
    for heldout in (zeros[:5], zeros[:5] + 0.003 * NOISE, zeros[:9]):
        with pytest.raises(ValueError, match=r"x_heldout holds target samples: 5 of its \d rows"):
            model.report(heldout)


def test_a_heldout_copy_of_a_target_does_not_count(source, zeros):
    model = fsd.finetune(source, zeros[:5])
    clean = model.report(zeros[5:50])
    mixed = model.report(np.concatenate([zeros[5:50], zeros[3:5]]))
    np.testing.assert_allclose(_numbers(mixed), _numbers(clean), rtol=1e-6, atol=1e-6)
    assert mixed.samples == clean.samples == 45
    assert mixed.duplicates.target_heldout == ((3, 45), (4, 46))
    assert "not counted as held-out" in str(mixed)


def test_heldout_pictures_given_twice_are_no_more_evidence(source, zeros):
    model = fsd.finetune(source, zeros[:5])
    once, twice = (model.report(x) for x in (zeros[5:50], np.tile(zeros[5:50], (2, 1))))
    np.testing.assert_allclose(_numbers(twice), _numbers(once), rtol=1e-6, atol=1e-6)
    assert (twice.samples, twice.units) == (90, 45)
    assert twice.duplicates.heldout[0] == (0, 45)


def test_the_source_is_searched_where_it_is_given(source, digits):
    rest, zeros = digits
    rows = np.concatenate([rest, zeros[3:5], zeros[50:51]])
    report = _report(source, zeros[:5], zeros[5:60], x_source=rows)
    n = len(rest)
    assert report.duplicates.target_source == ((3, n), (4, n + 1))
    assert report.duplicates.heldout_source == ((45, n + 2),)
    assert report.duplicates.source_compared
    assert "the source knows them" in str(report)
    without = _report(source, zeros[:5], zeros[5:60])
    assert not without.duplicates
    assert "duplicates" not in str(without)
    with pytest.raises(ValueError, match="x_source must end in the sample shape"):
        _report(source, zeros[:5], x_source=rest[:, :5])


# The search


def _brute_force(x, limit):
    near = np.sum((x[:, None] - x[None]).astype(np.float64) ** 2, axis=-1) <= limit
    labels = np.arange(len(x))
    for _ in range(len(x)):
        labels = np.array([labels[row].min() for row in near])
    return labels


def test_many_rows_are_grouped_as_by_brute_force(source, digits):
    """Above `WHOLE_ROWS` a Gram matrix finds suspects; differences decide."""
    x = np.concatenate([digits[0][:150], digits[0][20:60] + 1e-3, digits[0][30:32]])
    scale = duplicates.scale_of(x, source)
    limit = float(scale.limit(duplicates.log_pairs(len(x))) * scale.size**2)
    found = duplicates.concrete_labels(jnp.asarray(x), scale)
    np.testing.assert_array_equal(found, _brute_force(x, limit))
    np.testing.assert_array_equal(
        found, duplicates.labels_of(x, scale, duplicates.log_pairs(len(x)))
    )
    assert sum(len(g) for g in duplicates.repeated(found)) == 82
    pairs = duplicates.pairs(jnp.asarray(x[:150]), jnp.asarray(x[150:]), scale)
    assert pairs == tuple(zip([*range(20, 60), 30, 31], range(42), strict=True))


@pytest.mark.parametrize("factor", [1e-30, 1e-15, 1e15])
def test_the_search_knows_no_units(zeros, factor):
    x = np.concatenate([zeros[:5], zeros[2:4]]) * np.float32(factor)
    scale = duplicates.scale_of(x)
    labels = duplicates.concrete_labels(jnp.asarray(x), scale)
    np.testing.assert_array_equal(labels, [0, 1, 2, 3, 4, 2, 3])


def test_chains_end_in_one_group():
    x = np.concatenate([np.linspace(0, 0.3, 40)[:, None], [[10.0]], [[20.0]]]).astype(np.float32)
    x = np.concatenate([x, np.zeros((42, 39), np.float32)], axis=1)
    scale = duplicates.Scale(np.float32(20), np.float32(1.0), np.float32(40.0))
    labels = duplicates.labels_of(x, scale, 0.0)
    np.testing.assert_array_equal(labels, [0] * 40 + [40, 41])


@pytest.mark.parametrize("ambient", [1, 2, 5, 40])
def test_independent_samples_are_no_duplicates(ambient):
    """At most `CHANCE` pairs by chance in each set: 200 sets give 2 at most in the mean."""
    x = np.random.default_rng(ambient).normal(size=(200, 12, ambient)).astype(np.float32)

    def pairs(rows):
        scale = duplicates.scale_of(rows)
        labels = duplicates.labels_of(rows, scale, duplicates.log_pairs(12))
        return jnp.sum(labels != jnp.arange(12))

    found = np.asarray(jax.lax.map(pairs, x))
    # Poisson with mean 2, at the level of four standard errors.
    assert found.sum() <= scipy.stats.poisson.isf(6e-5, 200 * duplicates.CHANCE)


# Words and thresholds


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 9, 50, 100, 101, 1000])
def test_the_threshold_is_students(freedom):
    assert student_quantile(freedom) == pytest.approx(scipy.stats.t.ppf(0.95, freedom), rel=1e-7)


def _made_up(source, scratch):
    ours = np.full(10, 63.0) + np.arange(10) / 100
    return compare(
        "few-shot",
        ours,
        {"source": np.full(10, source)},
        ("target only", np.full(10, scratch)),
        evaluation="held-out",
        n_ta=10,
        rank=2,
        latent_dim=5,
    )


def test_percentages_stay_below_a_hundred():
    assert "(by 84.1% of the model's loss" in _made_up(99.0, 10.0).verdict
    assert "(36.3% of its loss" in _made_up(99.0, 999.0).verdict


def test_five_samples_need_more_standard_errors_than_many():
    gap = np.array([-1.0, 0.0, 1.0, 2.0, 4.1])
    error = gap.std(ddof=1) / 5**0.5
    gap = gap + 0.5 * error
    # Enough for a normal distribution, and not for Student's with four degrees of freedom.
    assert student_quantile(4) * error > gap.mean() > 1.7 * error
    report = compare(
        "few-shot",
        np.full(5, 10.0),
        {"source": 10 + gap},
        ("target only", np.full(5, 99.0)),
        evaluation="held-out",
        n_ta=5,
        rank=2,
        latent_dim=5,
    )
    assert report.enough is None
