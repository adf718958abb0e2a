import jax
import numpy as np
import pytest

import fsd_jax as fsd
from fsd_jax import landscape

D = 7
WHEN = [dict(time=0.5), dict(times=[0.2, 1.0], weights=[0.3, 2.0])]


def _moment(n=30, seed=0):
    rng = np.random.default_rng(seed)
    return fsd.SecondMoment.from_samples(rng.normal(size=(n, D)) * np.linspace(2, 0.3, D))


@pytest.mark.result("The landscape (isotropic latent)")
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("when", "constraint", "chosen"),
    [
        (WHEN[0], "rank", (0, 2, 5)),
        (WHEN[0], "orthonormal", (0, 1, 2)),
        pytest.param(WHEN[-1], "rank", (0, 1, 2), marks=pytest.mark.slow),
        pytest.param(WHEN[-1], "orthonormal", (4,), marks=pytest.mark.slow),
    ],
)
def test_curvature_by_differentiation_equals_the_formula(when, constraint, chosen):
    moment = _moment()
    options = dict(latent_variance=1.3, constraint=constraint, **when)
    decoder = landscape.critical_decoder(moment, chosen, **options)
    measured = landscape.measure(decoder, moment, **options)
    predicted = landscape.predicted_spectrum(moment, chosen, **options)
    scale = np.abs(predicted).max()
    np.testing.assert_allclose(measured.eigenvalues, predicted, atol=1e-12 * scale)
    assert float(measured.gradient_norm) < 1e-12 * scale
    # One direction of descent for each larger eigenvalue that was passed over.
    passed_over = sum(i > j for i in chosen for j in range(D) if j not in chosen)
    assert measured.negative == passed_over


@pytest.mark.usefixtures("x64")
def test_the_top_choice_is_the_closed_form_and_well_conditioned():
    moment = _moment()
    decoder = landscape.critical_decoder(moment, range(3), latent_variance=1.3, time=0.5)
    best = fsd.rank_minimizer(moment, latent_variance=1.3, latent_dim=3, time=0.5)
    np.testing.assert_allclose(decoder @ decoder.T, best.decoder @ best.decoder.T, atol=1e-13)
    around = landscape.measure(best.decoder, moment, latent_variance=1.3, time=0.5)
    assert around.negative == 0
    assert 1 < around.condition_number < 100
    assert "condition_number" in repr(around)


@pytest.mark.result("R17")
@pytest.mark.usefixtures("x64")
def test_below_d_samples_the_minimum_is_degenerate():
    moment = _moment(n=2)
    best = fsd.rank_minimizer(moment, latent_variance=1.0, latent_dim=3, time=0.5)
    around = landscape.measure(best.decoder, moment, latent_variance=1.0, time=0.5)
    assert around.condition_number == np.inf
    assert around.negative == 0
    # The third column is zero: all its D - 2 directions are flat.
    flat = np.sum(np.abs(around.eigenvalues) < 1e-12 * around.eigenvalues[-1])
    assert flat == D - 2


def test_errors_name_the_argument():
    moment = _moment()
    good = dict(latent_variance=1.0, time=0.5)
    for chosen in ((), (0, 0), (9,), (0.5,)):
        with pytest.raises(ValueError, match="chosen"):
            landscape.critical_decoder(moment, chosen, **good)
    with pytest.raises(ValueError, match="constraint"):
        landscape.predicted_spectrum(moment, (0,), constraint="none", **good)
    with pytest.raises(ValueError, match="decoder"):
        landscape.measure(np.ones((100, 30), np.float32), moment, **good)
    with pytest.raises(ValueError, match="latent_variance"):
        landscape.measure(np.ones((D, 1), np.float32), moment, latent_variance=-1.0, time=0.5)


@pytest.mark.result("The landscape (isotropic latent)")
@pytest.mark.usefixtures("x64")
def test_saddles_repel_training():
    moment = _moment()
    options = dict(latent_variance=1.3, time=0.5)
    saddle = landscape.critical_decoder(moment, (0, 2, 5), **options)
    start = saddle + 1e-6 * jax.random.normal(jax.random.key(0), saddle.shape)
    run = fsd.train(
        jax.random.key(1),
        moment,
        latent_dim=3,
        initial=start,
        optimizer="gd",
        steps=3000,
        **options,
    )
    assert float(run.gaps[0]) > 0.01
    assert float(run.gap) < 1e-9
