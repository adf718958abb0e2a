"""What the benchmarks compute on: real images where they are installed, and simulated spectra."""

from functools import cache

import numpy as np

from fsd_jax.image import data
from fsd_jax.image.task import ImageTask


@cache
def digits() -> ImageTask:
    """Digits 1-9 to 0, 8 x 8, which come with scikit-learn."""
    return data.digits()


@cache
def fashion_boots() -> ImageTask | None:
    """Sandals and sneakers to ankle boots, 28 x 28; None where Fashion-MNIST is not installed."""
    return _fashion("boots")


@cache
def fashion_shirts() -> ImageTask | None:
    """The control: sandals and sneakers to shirts, which they know little about."""
    return _fashion("shirts")


def _fashion(target: str) -> ImageTask | None:
    try:
        return data.fashion(target=target)
    except FileNotFoundError:
        return None


def fashion_images() -> np.ndarray | None:
    """All 60000 training images as ``(60000, 784)`` float32, or None."""
    try:
        return data.fashion_images()
    except FileNotFoundError:
        return None


def power_law(n: int, ambient: int, *, exponent: float, seed: int, rank: int = 1000) -> np.ndarray:
    """Gaussian samples whose covariance has eigenvalues ``k^-exponent``, float32 ``(n, D)``."""
    basis = _random_basis(ambient, min(rank, ambient), seed)
    scale = np.arange(1, basis.shape[1] + 1, dtype=np.float32) ** (-exponent / 2)
    latent = np.random.default_rng((seed, 1)).standard_normal((n, len(scale)), dtype=np.float32)
    return (latent * scale) @ basis.T


@cache
def _random_basis(ambient: int, rank: int, seed: int) -> np.ndarray:
    """Orthonormal columns; cached, for the QR takes seconds."""
    rng = np.random.default_rng((seed, 0))
    return np.linalg.qr(rng.standard_normal((ambient, rank), dtype=np.float32))[0]
