"""`adapt`: the exact leave-one-out by refits, the source as it generalises, and what is chosen."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fsd_jax as fsd
from fsd_jax.fewshot import adapt as adapting
from fsd_jax.fewshot import choice, family, heldout

SIZES = np.array([3.0, 5.0, 8.0, 14.0])
VARIANCE = np.array([2.0, 0.5, 0.1, 0.01])
POINT = np.array([-5.0, 1.0, 0.5, 0.2, -0.1])
D = 24


def _few(units):
    rng = np.random.default_rng(0)
    scale = np.sqrt(np.repeat(VARIANCE, SIZES.astype(int)))
    x = rng.normal(size=(len(units), 30)) * scale + 0.3
    signal, noise, weights = choice.levels(fsd.VP(), 8)
    ends = np.cumsum(SIZES).astype(int)
    parts = np.split(x, ends[:-1], axis=1)
    few = family.Few(
        grams=np.stack([part @ part.T for part in parts]), sizes=SIZES, units=units,
        signal=signal, noise=noise, weights=weights,
    )  # fmt: skip
    shapes = np.stack([np.ones(4), np.arange(4.0)], axis=1)
    return x, few, family.Family(variance=VARIANCE, shapes=shapes)


def _refits(x, few, members):
    """Each sample's loss under a law that is built without its unit, in D dimensions."""
    losses = []
    each = np.repeat(np.arange(4), SIZES.astype(int))
    for i in range(len(x)):
        rest = x[few.units != few.units[i]]
        base, b, a = members.member(POINT, len(rest))
        mean = a * rest.mean(axis=0)
        covariance = np.diag(base[each]) + b * (rest - mean).T @ (rest - mean) / len(rest)
        loss = 0.0
        for signal, noise, weight in zip(few.signal, few.noise, few.weights, strict=True):
            precision = np.linalg.inv(signal * covariance + noise * np.eye(30))
            bias = precision @ (x[i] - mean)
            gain = np.eye(30) - noise * precision
            loss += weight * (signal * bias @ bias + np.sum(gain**2) / noise)
        losses.append(loss)
    return np.array(losses)


@pytest.mark.parametrize("units", [[0, 1, 2, 3, 4, 5], [0, 0, 1, 2, 3, 3], [7, 7, 7, 2, 2, 1]])
def test_leave_one_out_is_that_of_refits(units):
    x, few, members = _few(np.array(units))
    losses, _ = family.leave_one_out(members, few, POINT)
    assert np.allclose(losses, _refits(x, few, members), rtol=1e-12)


@pytest.mark.parametrize("units", [[0, 1, 2, 3, 4, 5], [0, 0, 1, 2, 3, 3]])
def test_gradient_is_that_of_differences(units):
    _, few, members = _few(np.array(units))
    _, unit, counts = np.unique(few.units, return_inverse=True, return_counts=True)
    share = 1 / (counts[unit] * len(counts))

    def mean(point):
        return share @ family.leave_one_out(members, few, point, gradient=False)[0]

    _, slope = family.leave_one_out(members, few, POINT)
    # Central differences: the error is of the order of step^2 and of eps/step.
    steps = 1e-5 * np.eye(len(POINT))
    differences = [(mean(POINT + step) - mean(POINT - step)) / 2e-5 for step in steps]
    assert np.allclose(slope, differences, rtol=1e-6, atol=1e-8)


def test_scatter_is_that_of_drawn_losses():
    """The variance of a Gaussian sample's slope over the curvature, by drawing and differences."""
    over = choice.levels(fsd.VP(), 16)
    signal, noise, weights = (each[:, None] for each in over)
    blocks = choice.Blocks(np.arange(4), VARIANCE, np.ones(4))
    energy = VARIANCE * np.random.default_rng(0).normal(size=(200_000, 4)) ** 2

    def losses(log_scale):
        p = 1 / (signal * VARIANCE * np.exp(log_scale) + noise)
        bias = np.sum(weights * signal * p**2, axis=0)
        return energy @ bias + np.sum(weights * (1 - noise * p) ** 2 / noise)

    h = 1e-2
    low, middle, high = losses(-h), losses(0.0), losses(h)
    slope, bend = (high - low) / (2 * h), (high - 2 * middle + low) / h**2
    found = np.var(slope) / np.mean(bend)
    # Fourth moments of a chi-square: some 60/sqrt(draws) of the variance, two standard errors.
    assert abs(choice.scatter(blocks, over) / choice.TAILS / found - 1) < 0.05


def test_monotone_is_the_nearest():
    values, sizes = np.array([3.0, 4.0, 1.0, 2.0, 0.5]), np.array([1.0, 1.0, 1.0, 3.0, 1.0])
    assert np.allclose(heldout.monotone(values, sizes), [3.5, 3.5, 1.75, 1.75, 0.5])


@pytest.fixture(scope="module")
def world():
    """A source with a falling spectrum, and a target of another mean, scale and rotation."""
    rng = np.random.default_rng(1)
    spread = 1.0 / np.arange(1, D + 1)
    turn = np.linalg.qr(np.eye(D) + 0.1 * rng.normal(size=(D, D)))[0]
    source = rng.normal(size=(60, D)) * np.sqrt(spread)
    target = 1.5 * (rng.normal(size=(2008, D)) * np.sqrt(spread)) @ turn + 0.3
    return np.float32(source), np.float32(target[:8]), np.float32(target[8:]), spread


@pytest.fixture(scope="module")
def pretrained(world):
    return fsd.pretrain(world[0])


@pytest.fixture(scope="module")
def model(world, pretrained):
    return fsd.adapt(pretrained, world[1])


def test_heldout_spectrum_is_that_of_folds(world, pretrained):
    x = world[0].astype(np.float64)
    folds = heldout.folds_of(len(x), None, None)
    energies = np.zeros(D)
    for fold in range(5):
        rest, own = x[folds != fold], x[folds == fold]
        mean = rest.mean(axis=0)
        basis = np.linalg.svd(rest - mean)[2].T
        energies += np.sum(((own - mean) @ basis) ** 2, axis=0) / len(x)
    assert pretrained.spectrum == "heldout"
    expected = heldout.monotone(energies, np.ones(D))
    told = np.full(D, pretrained.residual_variance)
    told[: pretrained.latent_dim] = pretrained.latent_variance
    assert np.allclose(told, expected, rtol=1e-4)


def test_shrinkage_finds_the_energy_of_new_samples(world):
    source, _, _, spread = world
    moment = fsd.SecondMoment.from_samples(source, centre=True)
    truth = np.sum(np.asarray(moment.basis) ** 2 * spread[:, None], axis=0)
    raw = np.abs(np.log(np.asarray(moment.values) / truth))
    fixed = np.asarray(heldout.shrunk(moment).values)
    assert np.mean(np.abs(np.log(fixed / truth))) < 0.6 * np.mean(raw)
    assert np.isclose(fixed.sum(), float(moment.total), rtol=1e-5)
    exact = fsd.SecondMoment.from_covariance(np.diag(spread).astype(np.float32))
    assert heldout.shrunk(exact) is exact
    # Fewer samples than directions: the others have what shrinkage leaves them.
    kept = {"values": moment.values[:14], "basis": moment.basis[:, :14], "count": jnp.int32(15)}
    few = dataclasses.replace(moment, **kept, total=jnp.sum(moment.values[:14]))
    assert np.isclose(float(heldout.shrunk(few).total), float(few.total), rtol=1e-5)


def test_directions_that_hold_nothing_are_left_out():
    x = np.random.default_rng(0).normal(size=(60, D)).astype(np.float32)
    x[:, :3] *= 5
    assert 3 <= fsd.pretrain(x).latent_dim < D
    found = fsd.pretrain(x, latent_dim=6)
    assert 0.05 < float(found.left_out) < 0.5
    assert "left out" in repr(found)


def test_adapt_beats_source_and_target_alone(world, pretrained, model):
    _, target, rest, _ = world
    ours = float(model.loss(rest))
    assert ours < 0.99 * float(fsd.source_as_is(pretrained, target).loss(rest))
    assert ours < 0.99 * float(fsd.target_only(target, latent_dim=7).loss(rest))
    # And leave-one-out foretells it, within three of its own standard errors.
    losses = adapting.leave_out(model, np.arange(8))
    assert abs(np.mean(losses) - ours) < 3 * np.std(losses, ddof=1) / 8**0.5


def test_law_is_the_member_that_was_chosen(world, pretrained, model):
    """The thin score has the covariance of the formula, with and without other directions."""
    _, target, _, _ = world
    for source in (pretrained, fsd.pretrain(world[0], latent_dim=6, spectrum="heldout")):
        found = fsd.adapt(source, target) if source is not pretrained else model
        told = found.choices
        blocks = choice.blocks_of(source)
        base, b, a = choice.family_of(blocks).member(np.array(told.point), len(target))
        assert (b, a) == (told.target_share, told.mean_share)
        U = np.asarray(source.basis, np.float64)
        each = blocks.each(base, U.shape[1])
        outside = base[-1] * (np.eye(D) - U @ U.T) if U.shape[1] < D else 0
        mean = (1 - a) * np.asarray(source.mean) + a * target.mean(axis=0)
        wanted = U * each @ U.T + outside + b * (target - mean).T @ (target - mean) / 8
        law = found.law
        B, tau2 = np.asarray(law.basis, np.float64), float(law.residual_variance)
        got = B * np.asarray(law.variance) @ B.T + tau2 * (np.eye(D) - B @ B.T)
        assert np.allclose(got, wanted, atol=2e-5 * np.max(wanted))
        assert np.allclose(law.mean, mean, atol=1e-5)


def test_every_kind_of_source(world, pretrained):
    source, target, rest, _ = world
    best = float(fsd.adapt(source, target).loss(rest))
    moment = fsd.SecondMoment.from_samples(source, centre=True)
    bare = fsd.SecondMoment.from_samples(source)
    for given in (moment, bare, fsd.pretrain(source, latent_dim=D), pretrained):
        assert float(fsd.adapt(given, target).loss(rest)) < 1.05 * best
    without = fsd.adapt(bare, target)
    assert without.choices.mean_share == pytest.approx(1)
    assert "shrinkage" in without.choices.source


def test_groups_are_folds_and_repeats_stay_together(world):
    source, target, _, _ = world
    groups = np.repeat(np.arange(6), 10)
    assert np.array_equal(heldout.folds_of(60, groups, None), groups)
    many = heldout.folds_of(60, np.repeat([f"film {i}" for i in range(20)], 3), None)
    assert all(len(set(many[i : i + 3])) == 1 for i in range(0, 60, 3))
    assert fsd.adapt(source, target, groups=groups).choices.units == 8
    twice = np.concatenate([target, target])
    assert fsd.adapt(source, twice).choices.units == 8
    assert fsd.adapt(source, target, target_groups=[0, 0, 0, 0, 1, 1, 2, 2]).choices.units == 3


def test_one_sample_takes_the_prior_s_centre(world, pretrained):
    lone = fsd.adapt(pretrained, world[1][:1])
    assert np.isnan(lone.choices.loss)
    assert lone.choices.point[1:3] == (np.log(choice.NU), np.log(choice.KAPPA))


def test_adapted_models_sample_report_and_are_stored(world, model, tmp_path):
    draws = model.sample(jax.random.key(0), 3)
    assert draws.shape == (3, D)
    assert jnp.all(jnp.isfinite(model.score(draws, 0.5)))
    fsd.save(tmp_path / "model.npz", model)
    again = fsd.load(tmp_path / "model.npz")
    assert again.choices == model.choices
    assert np.array_equal(again.score(draws, 0.5), model.score(draws, 0.5))
    assert "adapted" in repr(model)
    assert "covariance" in str(model.choices)
    assert model.report(world[2]).enough


def test_images_keep_their_shape(world):
    source, target, _, _ = world
    model = fsd.adapt(source.reshape(-1, 4, 6), target.reshape(-1, 4, 6))
    assert model.sample(jax.random.key(0), 2).shape == (2, 4, 6)


def test_bad_input(world, pretrained):
    source, target, _, _ = world
    with pytest.raises(ValueError, match="groups needs the source's samples"):
        fsd.adapt(pretrained, target, groups=np.zeros(60, int))
    with pytest.raises(ValueError, match="groups must be 60 integers"):
        fsd.adapt(source, target, groups=np.zeros(5, int))
    with pytest.raises(ValueError, match="target has D = 20"):
        fsd.adapt(pretrained, target[:, :20])
    with pytest.raises(ValueError, match="outside jit"):
        jax.jit(lambda x: fsd.adapt(pretrained, x).linear.mean)(target)
    with pytest.raises(ValueError, match="target has NaN"):
        fsd.adapt(pretrained, np.where(np.arange(D) == 1, np.nan, target))
    with pytest.raises(ValueError, match="latent_dim must be an integer or"):
        fsd.pretrain(source, latent_dim="all")
    with pytest.raises(ValueError, match="spectrum must be one of"):
        fsd.pretrain(source, spectrum="best")
    with pytest.raises(ValueError, match="folds need at least 4"):
        fsd.adapt(source[:3], target)


@pytest.mark.usefixtures("x64")
def test_float64(world):
    source, target, rest, _ = world
    model = fsd.adapt(source.astype(np.float64), target.astype(np.float64))
    assert model.linear.basis.dtype == np.float64
    assert np.isfinite(float(model.loss(rest.astype(np.float64))))


def test_samples_without_speckle_are_those_of_the_decoder_alone(world, model):
    """Their covariance is the law's minus what every direction has."""
    n = 40_000
    few = fsd.adapt(fsd.pretrain(world[0], latent_dim=6, spectrum="heldout"), world[1])
    for found in (model, few):
        law = found.law
        B, tau2 = np.asarray(law.basis, np.float64), float(law.residual_variance)
        common = tau2 if B.shape[1] < D else float(np.min(law.variance))
        left = np.maximum(np.asarray(law.variance) - common, 0)
        wanted = B * left @ B.T
        x = np.asarray(found.sample(jax.random.key(1), n, residual=False), np.float64)
        got = (x - np.asarray(law.mean)).T @ (x - np.asarray(law.mean)) / n
        scale = np.sqrt(np.outer(np.diag(wanted), np.diag(wanted)) + wanted**2)
        # Entries of a Wishart mean; five standard errors for 576 of them.
        assert np.max(np.abs(got - wanted) / scale) < 5 / n**0.5
    # Reverse time on a fine grid draws from the same law, to its discretisation.
    slow = few.sample(jax.random.key(2), 20_000, residual=False, steps=256)
    assert np.isclose(float(jnp.var(slow, axis=0).sum()), np.trace(wanted), rtol=0.05)


def test_clipped_samples_stay_in_their_range(model):
    key = jax.random.key(0)
    free, held = model.sample(key, 50), model.sample(key, 50, clip=(-0.1, 0.5))
    assert np.array_equal(held, np.clip(free, -0.1, 0.5))
    for bad in ((1.0, 0.0), 3.0, (0.0, 1.0, 2.0), (0.0, np.nan)):
        with pytest.raises(ValueError, match="clip must be"):
            model.sample(key, 2, clip=bad)
    with pytest.raises(ValueError, match="residual must be"):
        model.sample(key, 2, residual="no")
