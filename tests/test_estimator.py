"""The scikit-learn door: its checks, PCA's likelihood, and the adapted law."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import check_estimator

from fsd_jax.estimator import FewShotGaussian


def _data(n, ambient=7, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    scales = np.linspace(3, 0.3, ambient)
    return shift + rng.normal(size=(n, ambient)) * scales


@pytest.mark.slow
def test_scikit_learn_accepts_it():
    # Checks that this machine cannot run are left out, not failed.
    check_estimator(FewShotGaussian(), on_skip=None)


@pytest.mark.parametrize("k", [1, 3, 7])
def test_before_adapt_it_is_probabilistic_pca(k):
    X, new = _data(60), _data(9, seed=1)
    ours = FewShotGaussian(n_components=k, spectrum="sample").fit(X)
    theirs = PCA(k).fit(X)
    assert ours.score_samples(new).dtype == np.float64
    np.testing.assert_allclose(ours.score_samples(new), theirs.score_samples(new), rtol=1e-8)
    np.testing.assert_allclose(ours.get_covariance(), theirs.get_covariance(), atol=1e-8)
    np.testing.assert_allclose(ours.explained_variance_, theirs.explained_variance_, rtol=1e-8)
    assert abs(ours.score(new) - theirs.score(new)) < 1e-8


def test_after_adapt_all_methods_speak_of_one_law():
    model = FewShotGaussian(random_state=0).fit(_data(300))
    before = model.score(_data(200, seed=3, shift=1.0))
    target = _data(10, seed=2, shift=1.0)
    assert model.adapt(target) is model
    new = _data(200, seed=3, shift=1.0)
    assert model.score(new) > before
    cov = model.get_covariance()
    by_hand = multivariate_normal(model.mean_, cov).logpdf(new)
    np.testing.assert_allclose(model.score_samples(new), by_hand, rtol=1e-8)
    drawn = model.sample(20_000)
    assert drawn.shape == (20_000, 7)
    error = np.sqrt((cov**2 + np.outer(np.diag(cov), np.diag(cov))) / len(drawn))
    assert np.all(np.abs(np.cov(drawn.T) - cov) < 5 * error)
    inside = model.transform(new)
    assert inside.shape == (200, len(model.components_))
    again = model.transform(model.inverse_transform(inside))
    np.testing.assert_allclose(again, inside, atol=1e-8)
    assert len(model.get_feature_names_out()) == len(model.components_)


def test_adapting_again_starts_from_the_source():
    source, target = _data(300), _data(10, seed=2, shift=1.0)
    once = FewShotGaussian().fit(source).adapt(target)
    twice = FewShotGaussian().fit(source).adapt(-target).adapt(target)
    np.testing.assert_allclose(once.get_covariance(), twice.get_covariance())


def test_bad_input_is_named():
    with pytest.raises(NotFittedError):
        FewShotGaussian().adapt(_data(3))
    with pytest.raises(ValueError, match="features"):
        FewShotGaussian().fit(_data(30)).adapt(_data(5, ambient=4))
    with pytest.raises(ValueError, match="spectrum must be"):
        FewShotGaussian(spectrum="none").fit(_data(30))
