"""Is ten enough? The report against refits by hand and against losses made up for each verdict."""

import jax
import numpy as np
import pytest
import scipy.stats
from sklearn.covariance import OAS, LedoitWolf

import fsd_jax as fsd
from fsd_jax.fewshot import shrinkage
from fsd_jax.fewshot.report import compare, limits
from tests import reference

D, d, N = 12, 3, 6
# As many as the default has, to share its compilations.
TIMES = np.geomspace(0.05, 5.0, 64, dtype=np.float32)
OWN = {"times": TIMES, "weights": TIMES / TIMES.sum()}


@pytest.fixture(scope="module")
def problem():
    return fsd.LinearProblem.random(
        jax.random.key(0),
        ambient_dim=D,
        latent_dim=d,
        latent_variance=2.0,
        residual_variance=0.05,
        mean_scale=0.5,
    )


@pytest.fixture(scope="module")
def source(problem):
    return fsd.pretrain(problem.sample_source(jax.random.key(1), 400), latent_dim=d)


@pytest.fixture(scope="module")
def target(problem):
    return problem.sample_target(jax.random.key(2), N)


@pytest.fixture(scope="module")
def heldout(problem):
    return problem.sample_target(jax.random.key(3), 40)


def _loss_by_hand(x, mean, covariance, times, weights):
    """Denoising loss of one sample under the score of a Gaussian, from dense matrices."""
    eye, total = np.eye(len(mean)), 0.0
    for t, w in zip(np.asarray(times, float), np.asarray(weights, float), strict=True):
        m2, s2 = reference.levels(t)
        M = -np.linalg.inv(m2 * covariance + s2 * eye)
        # The noise z enters as (sqrt(s2) M + 1/sqrt(s2)) z, the sample as m M (x - mean).
        noise = np.sqrt(s2) * M + eye / np.sqrt(s2)
        bias = np.sqrt(m2) * M @ (np.asarray(x, float) - mean)
        total += w * (bias @ bias + np.sum(noise**2))
    return total


def _shrunk(x, rule):
    """Mean and covariance of the target alone, by scikit-learn."""
    found = rule().fit(np.asarray(x, np.float64))
    return found.location_, found.covariance_


RULES = {"target only, Ledoit-Wolf": LedoitWolf, "target only, OAS": OAS}


def _ppca(x, k):
    x = np.asarray(x, np.float64)
    values, vectors = reference.eigenpairs(reference.second_moment(x, centre=True))
    rest = max(values[k:].sum(), 0) / (D - k)
    top = vectors[:, :k]
    return x.mean(axis=0), top @ np.diag(values[:k] - rest) @ top.T + rest * np.eye(D)


def _summary(losses, ours):
    gap = losses - ours
    root = len(ours) ** 0.5
    return np.mean(losses), np.std(losses, ddof=1) / root, np.mean(gap), np.std(gap, ddof=1) / root


def _check(row, losses, ours):
    got = (row.loss, row.loss_stderr, row.difference, row.difference_stderr)
    np.testing.assert_allclose(got, _summary(losses, ours), rtol=2e-3, atol=1e-3)


@pytest.mark.result("Leave-one-out")
@pytest.mark.parametrize("options", [{}, OWN], ids=["default", "own times"])
def test_leave_one_out_equals_refits_by_hand(source, target, options):
    model = fsd.finetune(source, target, **options)
    report = model.report()
    x = np.asarray(target)

    def refitted(build):
        losses = []
        for i in range(N):
            other = build(np.delete(x, i, axis=0))
            per_time = other.linear.losses(x[i : i + 1], model.times, model.weights)
            losses.append(float(per_time[0]))
        return np.array(losses)

    ours = refitted(lambda rows: fsd.finetune(source, rows, **options))
    as_is = {
        f"source as is, {mean} mean": refitted(
            lambda rows, mean=mean: fsd.source_as_is(source, rows, mean=mean)
        )
        for mean in ("target", "source")
    }
    best = min(as_is, key=lambda name: as_is[name].mean())
    assert report.source.name == best
    assert report.evaluation == "leave-one-out"
    assert report.samples == N
    _check(report.model, ours, ours)
    _check(report.source, as_is[best], ours)

    alone = {
        name: np.array(
            [
                _loss_by_hand(
                    x[i], *_shrunk(np.delete(x, i, axis=0), rule), model.times, model.weights
                )
                for i in range(N)
            ]
        )
        for name, rule in RULES.items()
    }
    assert report.target_only.name == min(alone, key=lambda name: alone[name].mean())
    _check(report.target_only, alone[report.target_only.name], ours)


@pytest.mark.parametrize(
    "options",
    [{}, {"constraint": "rank", "mean": "source", **OWN}],
    ids=["default", "rank and own times"],
)
def test_heldout_losses_are_those_of_the_full_fits(source, target, heldout, options):
    model = fsd.finetune(source, target, **options)
    report = model.report(heldout)
    held = np.asarray(heldout)
    ours = np.asarray(model.losses(heldout))
    as_is = {}
    for mean in ("target", "source"):
        rival = fsd.source_as_is(source, target, mean=mean)
        as_is[rival.name] = np.asarray(rival.linear.losses(heldout, model.times, model.weights))
    best = min(as_is, key=lambda name: as_is[name].mean())
    assert (report.evaluation, report.samples) == ("held-out", len(held))
    assert report.source.name == best
    _check(report.model, ours, ours)
    _check(report.source, as_is[best], ours)
    law = _shrunk(target, RULES[report.target_only.name])
    alone = np.array([_loss_by_hand(x, *law, model.times, model.weights) for x in held])
    _check(report.target_only, alone, ours)


@pytest.mark.result("Leave-one-out")
def test_target_only_dimension_has_the_least_leave_one_out_loss(target):
    model = fsd.target_only(target, latent_dim=d)
    x = np.asarray(target)
    losses = [
        np.mean(
            [
                _loss_by_hand(x[i], *_ppca(np.delete(x, i, axis=0), k), model.times, model.weights)
                for i in range(N)
            ]
        )
        for k in range(min(d, N - 3) + 1)
    ]
    assert int(model.kept) == int(np.argmin(losses))


@pytest.mark.result("R6")
def test_report_counts_directions(source, target):
    report = fsd.finetune(source, target).report()
    assert (report.rank, report.latent_dim, report.floor) == (d, d, 0)
    assert "directions found: 3 of 3" in str(report)
    scarce = _report(COMMON, COMMON + 1, COMMON + 2)
    assert (scarce.rank, scarce.latent_dim, scarce.floor) == (2, 5, 3)


def test_report_of_images(target, heldout):
    pretrained = fsd.pretrain(np.asarray(heldout).reshape(-1, 3, 4), latent_dim=d)
    model = fsd.finetune(pretrained, np.asarray(target).reshape(-1, 3, 4))
    with_images = model.report(np.asarray(heldout).reshape(-1, 3, 4))
    assert with_images.samples == len(heldout)
    with pytest.raises(ValueError, match="sample shape"):
        model.report(heldout)


def test_repr_is_one_line_and_str_is_a_table(source, target):
    report = fsd.finetune(source, target).report()
    assert "\n" not in repr(report)
    assert repr(report).startswith("Report(leave-one-out on 6 samples: ")
    lines = str(report).splitlines()
    assert len(lines) == 8
    for row, line in zip(
        (report.model, report.source, report.target_only, *report.rivals), lines[2:6], strict=True
    ):
        assert row.name in line
        assert f"{row.loss:.6g}" in line
    assert lines[-1].strip() == report.verdict


# Verdicts


def _report(ours, source, scratch, n_ta=10):
    return compare(
        "few-shot",
        np.asarray(ours, np.float32),
        {
            "bad source": np.asarray(source, np.float32) + 100,
            "source": np.asarray(source, np.float32),
        },
        ("target only, k=1", np.asarray(scratch, np.float32)),
        evaluation="held-out",
        n_ta=n_ta,
        rank=2,
        latent_dim=5,
    )


NOISE = np.random.default_rng(0).normal(size=100)
COMMON = 20 + 5 * np.random.default_rng(1).normal(size=100)


def test_a_clear_gain_is_enough():
    report = _report(COMMON, COMMON + 1 + 0.1 * NOISE, COMMON + 2)
    assert report.enough is True
    assert report.verdict.startswith("Yes: 10 samples are enough")
    assert "'source'" in report.verdict
    assert report.source.name == "source"
    assert report.source.difference == pytest.approx(1, abs=0.05)
    # Paired: the samples' common spread cancels.
    assert report.source.difference_stderr < 0.02 < report.source.loss_stderr
    assert report.floor == 3


def test_a_clear_loss_is_not():
    report = _report(COMMON, COMMON + 1, COMMON - 2 + 0.1 * NOISE)
    assert report.enough is False
    assert report.verdict.startswith("No: with 10 samples 'target only, k=1' is better")
    assert report.target_only.difference == pytest.approx(-2, abs=0.05)
    assert "use it or add samples" in report.verdict


def test_the_better_baseline_decides():
    assert _report(COMMON, COMMON - 1, COMMON + 2 + 0.1 * NOISE).enough is False
    assert _report(COMMON, COMMON + 5, COMMON + 2 + 0.1 * NOISE).enough is True


@pytest.mark.parametrize("shift", [0.15, 0.0, -0.1])
def test_within_its_limits_it_cannot_tell(shift):
    noise = NOISE - NOISE.mean()
    # A loss of about one, of which a hundredth is less than a tenth of a standard error.
    report = _report(COMMON - 19, COMMON - 19 + shift + noise, COMMON)
    assert report.enough is None
    assert report.verdict.startswith("Cannot tell: with 10 samples")


def test_a_gain_below_a_hundredth_is_none():
    noise = NOISE - NOISE.mean()
    report = _report(COMMON, COMMON + 0.02 + 0.5 * noise, COMMON + 9)
    assert report.enough is False
    assert report.source.low < 0 < report.source.high < 0.2
    assert "the gain over 'source' is below 1% of its loss" in report.verdict
    assert _report(COMMON, COMMON, COMMON).enough is False


def test_limits_of_left_out_losses_allow_for_what_refits_share():
    t = scipy.stats.t.ppf(0.95, 9)
    assert np.allclose(limits(1.0, 0.1, 10, left_out=False), (1 - 0.1 * t, 1 + 0.1 * t))
    more = (1 + 10 / 9) ** 0.5
    assert np.allclose(
        limits(1.0, 0.1, 10, left_out=True), (1 - 0.1 * t * more, 1 + 0.1 * t * more)
    )
    assert np.all(np.isnan(limits(1.0, 0.1, 1, left_out=True)))


def test_one_evaluation_sample_has_no_error_bar():
    report = _report([1.0], [2.0], [3.0])
    assert report.enough is None
    assert "one evaluation sample" in report.verdict


def test_the_differences_are_taken_in_float64():
    ours = np.full(4, 1e8) + np.arange(4) * 8
    report = _report(ours, ours + 16, ours + 800)
    assert report.source.difference == 16
    assert report.enough is True


# One target sample


def test_one_target_sample_cannot_be_left_out(source, target):
    model = fsd.finetune(source, target[:1], mean="source")
    with pytest.raises(ValueError, match=r"at least 2 target samples, got 1; pass x_heldout="):
        model.report()


def test_one_target_sample_with_heldout_samples(source, target, heldout):
    report = fsd.finetune(source, target[:1], mean="source").report(heldout)
    assert report.samples == len(heldout)
    assert report.target_only.name.startswith("target only")
    assert report.target_only.loss == np.inf
    assert "source as is" in report.verdict


def test_target_only_has_no_source_to_report_on(target):
    with pytest.raises(ValueError, match="source"):
        fsd.target_only(target, latent_dim=d).report()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:0], "empty"),
        (lambda x: np.asarray(x > 0), "floating"),
        (lambda x: x.at[1, 2].set(np.nan), "NaN"),
    ],
    ids=["empty", "boolean", "nan"],
)
def test_bad_heldout_samples(source, target, heldout, change, message):
    model = fsd.finetune(source, target)
    with pytest.raises(ValueError, match=message):
        model.report(change(heldout))


# Rivals


def test_shrinkage_is_that_of_scikit_learn():
    for n, ambient in ((2, 5), (6, 30), (40, 7)):
        x = np.random.default_rng(n).normal(size=(n, ambient)) * np.linspace(1, 3, ambient) + 1
        y = x - x.mean(axis=0)
        for own, theirs in ((shrinkage.ledoit_wolf, LedoitWolf), (shrinkage.oas, OAS)):
            assert own(y @ y.T, ambient) == pytest.approx(theirs().fit(x).shrinkage_, rel=1e-10)


def test_pooled_is_what_all_samples_together_give(problem, target, heldout):
    x = np.asarray(problem.sample_source(jax.random.key(1), 30), np.float64)
    few = np.asarray(target, np.float64)
    everyone = np.concatenate([x, few])
    # Each about the common mean, in two parts, as the pooled model is.
    mean = everyone.mean(axis=0)
    part = lambda rows, centre: (rows - centre).T @ (rows - centre)
    covariance = (part(x, x.mean(axis=0)) + part(few, mean)) / len(everyone)
    source = fsd.pretrain(np.float32(x), latent_dim=D, spectrum="sample")
    model = fsd.finetune(source, target)
    row = model.report(heldout).rivals[0]
    assert row.name == "source and target pooled"
    wanted = [
        _loss_by_hand(y, mean, covariance, model.times, model.weights) for y in np.asarray(heldout)
    ]
    assert row.loss == pytest.approx(np.mean(wanted), rel=1e-4)


def test_rivals_are_refitted_where_one_is_left_out(source, target, heldout):
    model = fsd.finetune(source, target)
    other = fsd.finetune(source, target, mean="source")
    named = {"again": lambda x: fsd.finetune(source, x, mean="source"), "kept": other}
    for held in (None, heldout):
        rows = model.report(held, named).rivals[1:]
        assert [row.name for row in rows] == ["again", "kept"]
        assert rows[0].loss == pytest.approx(rows[1].loss, rel=1e-5)
    assert rows[1].loss == pytest.approx(float(other.loss(heldout)), rel=1e-5)
    twice = model.report(heldout, [other, other.linear, other]).rivals[1:]
    assert len({row.name for row in twice}) == 3
    assert len({row.loss for row in twice}) == 1


def test_a_better_rival_is_named():
    report = compare(
        "few-shot", COMMON, {"source": COMMON + 1}, ("target only", COMMON + 2),
        evaluation="held-out", n_ta=10, rank=2, latent_dim=5, rivals={"network": COMMON - 3},
    )  # fmt: skip
    assert report.enough is True
    assert "But 'network' is better, by 3 to 3." in report.verdict


def test_bad_rivals(source, target, heldout):
    model = fsd.finetune(source, target)
    with pytest.raises(ValueError, match="rivals must be a list of models"):
        model.report(heldout, model)
    with pytest.raises(ValueError, match="'a' must be a FewShotModel"):
        model.report(heldout, {"a": 3})
    with pytest.raises(ValueError, match="leave-one-out cannot know"):
        model.report(None, {"a": model.linear})
    with pytest.raises(ValueError, match="fitted to other target samples"):
        model.report(None, {"a": fsd.finetune(source, target[:3])})
    with pytest.raises(ValueError, match="'a' must be or return"):
        model.report(heldout, {"a": lambda x: x})


def test_a_report_is_drawn_and_written(source, target):
    report = fsd.finetune(source, target).report()
    assert len(report.plot().axes) == 1
    page = report.to_html()
    assert "<svg" in page
    assert "source and target pooled" in page
    assert "src=" not in page
