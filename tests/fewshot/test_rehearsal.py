"""Rehearsal: between the target alone and the source as it is, chosen by leave-one-out."""

import numpy as np
import pytest

import fsd_jax as fsd

AMBIENT, DIM, SHAPE = 24, 4, (4, 6)


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(0)

    def draw(n):
        basis = np.linalg.qr(rng.normal(size=(AMBIENT, DIM)))[0]
        noise = 0.15 * rng.normal(size=(n, AMBIENT))
        x = 0.3 * rng.normal(size=AMBIENT) + rng.normal(size=(n, DIM)) @ basis.T + noise
        return x.astype(np.float32).reshape(n, *SHAPE)

    source, target = draw(400), draw(6)
    flat = source.reshape(len(source), -1)
    moment = fsd.SecondMoment.from_samples(flat, rank=8, centre=True)
    return source, target, fsd.pretrain(source, latent_dim=DIM), moment


@pytest.mark.result("R18")
def test_rehearsal_runs_from_the_target_to_the_source(world):
    _, target, pretrained, moment = world
    few = lambda share, mean=1.0: fsd.rehearse(
        pretrained, moment, target, source_share=share, mean_share=mean
    )
    whole = few(1.0)
    as_is = fsd.source_as_is(pretrained, target).linear
    projector = lambda basis: np.asarray(basis @ basis.T)
    np.testing.assert_allclose(projector(whole.basis), projector(as_is.basis), atol=1e-4)
    np.testing.assert_allclose(whole.mean, as_is.mean, atol=1e-6)
    tuned = fsd.finetune(pretrained, target).linear
    np.testing.assert_allclose(projector(few(1e-6).basis), projector(tuned.basis), atol=2e-2)
    np.testing.assert_allclose(few(0.5, 0.0).mean, pretrained.mean, atol=1e-6)


def test_the_choice_is_the_least_leave_one_out_loss(world):
    _, target, pretrained, moment = world
    grid = dict(source_shares=(0.1, 0.9), mean_shares=(0.5, 1.0))
    q, a, losses = fsd.choose_rehearsal(pretrained, moment, target, **grid)
    times, weights = fsd.VP().quadrature()
    slow = np.zeros((2, 2))
    for i, share in enumerate(grid["source_shares"]):
        for j, mean in enumerate(grid["mean_shares"]):
            for k in range(len(target)):
                rest = np.delete(target, k, axis=0)
                score = fsd.rehearse(pretrained, moment, rest, source_share=share, mean_share=mean)
                row = target[k].reshape(1, -1)
                slow[i, j] += score.losses(row, times, weights).item() / len(target)
    np.testing.assert_allclose(losses, slow, rtol=1e-3)
    i, j = np.unravel_index(slow.argmin(), slow.shape)
    assert (q, a) == pytest.approx((grid["source_shares"][i], grid["mean_shares"][j]))


def test_what_does_not_fit_together_is_refused(world):
    source, target, pretrained, moment = world
    x = source.reshape(len(source), -1)
    rehearse = lambda *world, **shares: fsd.rehearse(*world, **({"source_share": 0.5} | shares))
    choose = fsd.choose_rehearsal
    build = fsd.SecondMoment.from_samples
    bad = target.copy()
    bad[0, 0, 0] = np.nan
    for word, call in {
        "source must be about its own mean": lambda: rehearse(pretrained, build(x), target),
        "source keeps 3": lambda: rehearse(pretrained, build(x, rank=3, centre=True), target),
        "source has D = 20": lambda: rehearse(pretrained, build(x[:, :20], centre=True), target),
        "x_target has D = 12": lambda: rehearse(pretrained, moment, target[:, :2]),
        "x_target has NaN": lambda: rehearse(pretrained, moment, bad),
        "x_target must be a floating": lambda: rehearse(pretrained, moment, target.astype(int)),
        "pretrained must be a PretrainedModel": lambda: rehearse(None, moment, target),
        "source must be a SecondMoment": lambda: rehearse(pretrained, x, target),
        "mean_share must be": lambda: rehearse(pretrained, moment, target, mean_share=2.0),
        "source_share must be": lambda: rehearse(pretrained, moment, target, source_share=-1),
        "source_shares must be at most 1": lambda: choose(
            pretrained, moment, target, source_shares=(2.0, -0.0)
        ),
        "source_shares must be not neg": lambda: choose(
            pretrained, moment, target, source_shares=(0.5, -1.0)
        ),
        "mean_shares must": lambda: choose(pretrained, moment, target, mean_shares=(0.5, 1.5)),
        "mean_shares": lambda: choose(pretrained, moment, target, mean_shares=()),
    }.items():
        with pytest.raises(ValueError, match=word):
            call()
