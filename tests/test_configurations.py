"""The front door on valid input under the configurations that users of JAX choose.

Strict promotion raises on any mixture of dtypes inside, `jax_debug_nans` on any NaN on the way to a
good number, x64 mode turns forgotten dtypes into float64, and rbg keys change every draw's shape.
"""

import contextlib
from collections.abc import Iterator

import jax
import numpy as np
import pytest

import fsd_jax as fsd
from tests.conftest import _x64_context

D, d, N = 12, 3, 6
RNG = np.random.default_rng(0)
SOURCE = (RNG.normal(size=(40, D)) * np.linspace(3, 0.5, D) + 0.3).astype(np.float32)
TARGET = (SOURCE[:N] + RNG.normal(size=(N, D))).astype(np.float32)
HELDOUT = (SOURCE[10:19] + RNG.normal(size=(9, D))).astype(np.float32)

CONFIGURATIONS = {
    "strict": lambda: jax.numpy_dtype_promotion("strict"),
    "debug_nans": lambda: jax.debug_nans(True),
    "x64": _x64_context,
    "rbg": contextlib.nullcontext,
}


@pytest.fixture(params=CONFIGURATIONS)
def key(request: pytest.FixtureRequest) -> Iterator[jax.Array]:
    """A key, inside each configuration in turn; strict promotion holds in x64 mode too."""
    name = request.param
    with CONFIGURATIONS[name]():
        strict = CONFIGURATIONS["strict"] if name == "x64" else contextlib.nullcontext
        with strict():
            yield jax.random.key(0, impl="rbg" if name == "rbg" else None)


def _finite(result, dtype=np.float32):
    for leaf in jax.tree.leaves(result):
        if np.issubdtype(np.asarray(leaf).dtype, np.floating):
            assert leaf.dtype == dtype
            assert np.all(np.isfinite(leaf))


@pytest.mark.parametrize("constraint", ["orthonormal", "rank"])
def test_fine_tuning(key, constraint):
    model = fsd.finetune(fsd.pretrain(SOURCE, latent_dim=d), TARGET, constraint=constraint)
    _finite((model.linear, model.score(HELDOUT, 0.5), model.denoise(HELDOUT, 0.5)))
    _finite((model.loss(HELDOUT), model.sample(key, 4, method="ei_sde", steps=32)))
    if constraint == "orthonormal":
        _finite(model.sample(key, 4))


def test_reports(key):
    del key
    model = fsd.finetune(fsd.pretrain(SOURCE, latent_dim=d), TARGET)
    for report in (
        model.report(),
        model.report(HELDOUT, x_source=SOURCE, target_groups=[0, 0, 1, 1, 2, 3]),
    ):
        for row in (report.model, report.source, report.target_only):
            assert np.isfinite([row.loss, row.loss_stderr, row.difference]).all()
    # Repeated pictures and few of them: where something could be divided by zero.
    same = fsd.finetune(model.source, np.repeat(TARGET[:1], N, axis=0))
    assert same.report().enough is None
    _finite(fsd.source_as_is(model.source, TARGET[:1]).linear)


def test_moments_with_masks_and_streams(key):
    mask = np.arange(40) < 20
    for route in ("auto", "svd", "gram"):
        _finite(fsd.SecondMoment.from_samples(SOURCE, centre=True, mask=mask, route=route))
    _finite(fsd.SecondMoment.from_samples(SOURCE, rank=2, route="krylov", centre=True, key=key))
    _finite(fsd.SecondMoment.from_covariance(np.cov(SOURCE.T).astype(np.float32)))
    for centre in (True, False):
        moment = fsd.SecondMoment.from_batches([SOURCE[:20], SOURCE[20:33]], rank=d, centre=centre)
        _finite(fsd.pretrain(moment, latent_dim=d))


def test_minimisers(key):
    moment = fsd.SecondMoment.from_samples(TARGET)
    at = dict(latent_variance=1.0, time=0.5)
    basis = np.asarray(fsd.orthonormal_minimizer(moment, latent_dim=d).basis)
    _finite(fsd.rank_minimizer(moment, latent_dim=d, **at))
    for times in ([0.5], [0.5, 1.0]):
        _finite(
            fsd.rank_minimizer(
                moment, latent_dim=d, latent_variance=np.array([1.0, 3.0, 2.0]), times=times
            )
        )
    _finite(fsd.orthonormal_minimizer(moment, latent_dim=d, latent_variance=[1.0, 3.0, 2.0]))
    _finite(fsd.paper_formula(moment, **at))
    _finite(fsd.ridge_minimizer(moment, basis, strength=1.0, latent_dim=d, **at))
    source = fsd.SecondMoment.from_samples(SOURCE)
    _finite(fsd.pooled_moment(moment, source, source_share=0.5))
    _finite(fsd.expected_loss(basis, moment, **at))
    score = fsd.LinearScore.from_decoder(basis, latent_variance=1.0)
    _finite(fsd.monte_carlo_loss(key, score, TARGET, time=0.5, draws=2))


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_training(key, optimizer):
    moment = fsd.SecondMoment.from_samples(TARGET)
    options = dict(latent_variance=1.0, latent_dim=d, time=0.5, steps=3, optimizer=optimizer)
    _finite(fsd.train(key, moment, constraint="orthonormal", **options))
    if optimizer == "adam":
        _finite(fsd.train(key, moment, samples=TARGET, batch_size=4, **options))


def test_simulation(key):
    options = dict(latent_dim=2, n_ta=6, n_s=20, latent_variance=1.0, times=[0.5], replicates=4)
    _finite(fsd.simulate.errors(key, dtype=np.float32, **options))
