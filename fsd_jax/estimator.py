"""The scikit-learn door: a Gaussian law from many samples, adapted to a few.

Needs scikit-learn: ``pip install 'fsd-jax[estimator]'``.
"""

from dataclasses import dataclass
from typing import Any, Self

import jax
import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from fsd_jax.fewshot.adapt import adapt
from fsd_jax.fewshot.model import FewShotModel
from fsd_jax.fewshot.source import PretrainedModel, pretrain

__all__ = ["FewShotGaussian"]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Law:
    """``N(mean, B diag(variance) B' + residual (I - BB'))`` in NumPy.

    Attributes:
        mean: ``(D,)``.
        basis: ``(D, k)`` orthonormal.
        variance: ``(k,)``.
        residual: variance in every other direction.
    """

    mean: np.ndarray
    basis: np.ndarray
    variance: np.ndarray
    residual: float

    @classmethod
    def of(cls, mean: Any, basis: Any, variance: Any, residual: Any, scale: float = 1.0) -> "_Law":
        """From the library's arrays; columns that are zero are left out."""
        columns = np.asarray(basis)
        alive = np.any(columns != 0, axis=0)
        return cls(
            mean=np.asarray(mean),
            basis=columns[:, alive],
            variance=scale * np.asarray(variance)[alive],
            residual=scale * float(residual),
        )

    def log_density(self, X: np.ndarray) -> np.ndarray:
        """``(n,)``; minus infinity off the support of a law that is flat somewhere."""
        left = X - self.mean
        inside = left @ self.basis
        outside = len(self.mean) - len(self.variance)
        with np.errstate(divide="ignore", invalid="ignore"):
            squares = np.sum(inside**2 / self.variance, axis=1)
            logs = np.sum(np.log(self.variance))
            if outside:
                rest = np.sum((left - inside @ self.basis.T) ** 2, axis=1)
                squares = squares + rest / self.residual
                logs = logs + outside * np.log(self.residual)
        value = -0.5 * (squares + logs + len(self.mean) * np.log(2 * np.pi))
        return np.where(np.isnan(value), -np.inf, value)

    def draw(self, n: int, rng: np.random.RandomState) -> np.ndarray:
        """``(n, D)`` samples."""
        noise = rng.normal(size=(n, len(self.mean)))
        inside = noise @ self.basis
        gain = np.sqrt(self.variance) - np.sqrt(self.residual)
        return self.mean + np.sqrt(self.residual) * noise + (inside * gain) @ self.basis.T


class FewShotGaussian(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """A Gaussian law fitted to a source and adapted to a few target samples, both in closed form.

    ``fit`` on the source, ``adapt`` on the target. Before ``adapt`` every method speaks of the
    source: with ``spectrum="sample"`` that is probabilistic PCA, and `score_samples` agrees with
    `sklearn.decomposition.PCA`.

    Parameters:
        n_components: directions with a variance of their own; None chooses them.
        spectrum: ``"heldout"`` (variances as they generalise) or ``"sample"`` (as in PCA).
        random_state: of `sample`.

    Attributes:
        mean_: ``(D,)``.
        components_: ``(k, D)`` orthonormal rows.
        explained_variance_: ``(k,)``.
        noise_variance_: variance in every other direction.
        model_: the `FewShotModel` behind it, after ``adapt``.
        n_features_in_: ``D``.

    Example:
        >>> import numpy as np
        >>> from fsd_jax.estimator import FewShotGaussian
        >>> rng = np.random.default_rng(0)
        >>> source, target = rng.normal(size=(200, 6)), 1 + rng.normal(size=(10, 6))
        >>> gaussian = FewShotGaussian().fit(source).adapt(target)
        >>> gaussian.sample(3).shape
        (3, 6)
    """

    def __init__(
        self,
        n_components: int | None = None,
        *,
        spectrum: str = "heldout",
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.spectrum = spectrum
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit the source.

        Args:
            X: ``(n, D)``, two samples at least.
            y: ignored.
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2)
        wanted = "auto" if self.n_components is None else self.n_components
        with _precision(X):
            source = pretrain(X, latent_dim=wanted, spectrum=self.spectrum)
            # As scikit-learn has it, a sample's variances are divided by n - 1.
            scale = len(X) / (len(X) - 1) if self.spectrum == "sample" else 1.0
            law = _Law.of(
                source.mean, source.basis, source.latent_variance, source.residual_variance, scale
            )
        self._source: PretrainedModel = source
        self.model_: FewShotModel | None = None
        return self._keep(law)

    def adapt(self, X: Any) -> Self:
        """Adapt the fitted source to a few samples of the target.

        Args:
            X: ``(n_ta, D)``, one sample at least.
        """
        check_is_fitted(self, "components_")
        X = validate_data(self, X, dtype=self.mean_.dtype, reset=False)
        with _precision(X):
            model = adapt(self._source, X)
            law = model.law
            self.model_ = model
            return self._keep(_Law.of(law.mean, law.basis, law.variance, law.residual_variance))

    def _keep(self, law: _Law) -> Self:
        order = np.argsort(-law.variance, kind="stable")
        self._law = _Law(
            mean=law.mean,
            basis=law.basis[:, order],
            variance=law.variance[order],
            residual=law.residual,
        )
        self.mean_ = self._law.mean
        self.components_ = self._law.basis.T
        self.explained_variance_ = self._law.variance
        self.noise_variance_ = self._law.residual
        return self

    @property
    def _n_features_out(self) -> int:
        return len(self.components_)

    def score_samples(self, X: Any) -> np.ndarray:
        """``(n,)`` log-likelihood of each sample."""
        return self._law.log_density(self._checked(X))

    def score(self, X: Any, y: Any = None) -> float:
        """Mean log-likelihood of the samples; `y` is ignored."""
        return float(np.mean(self.score_samples(X)))

    def sample(self, n_samples: int = 1) -> np.ndarray:
        """``(n_samples, D)`` new samples."""
        check_is_fitted(self, "components_")
        return self._law.draw(n_samples, check_random_state(self.random_state))

    def get_covariance(self) -> np.ndarray:
        """``(D, D)``."""
        check_is_fitted(self, "components_")
        law = self._law
        thin = (law.basis * (law.variance - law.residual)) @ law.basis.T
        return thin + law.residual * np.eye(len(law.mean))

    def transform(self, X: Any) -> np.ndarray:
        """``(n, k)`` coordinates along the components, about the mean."""
        return (self._checked(X) - self.mean_) @ self.components_.T

    def inverse_transform(self, X: Any) -> np.ndarray:
        """``(n, D)`` from coordinates."""
        check_is_fitted(self, "components_")
        return np.asarray(X) @ self.components_ + self.mean_

    def _checked(self, X: Any) -> np.ndarray:
        check_is_fitted(self, "components_")
        return validate_data(self, X, dtype=[np.float64, np.float32], reset=False)


def _precision(X: np.ndarray) -> Any:
    """Within it JAX computes in the precision of `X`, in this thread only."""
    return jax.enable_x64(X.dtype == np.float64)
