"""Real images that come with installed packages; nothing is downloaded."""

import gzip
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

FASHION_FOLDERS = ("/usr/share/datasets/fashion-mnist", "/usr/share/dataset-fashion-mnist")
FASHION_VARIABLE = "FSD_FASHION_MNIST"
FASHION_IMAGES = "train-images-idx3-ubyte.gz"


@dataclass(frozen=True, kw_only=True)
class Task:
    """A source and a target set of images in ``[0, 1]``, float32, ``(n, height, width)``."""

    name: str
    source: np.ndarray
    target: np.ndarray


@cache
def digits() -> Task:
    """Digits 1-9 to 0: the 1797 images of 8 x 8 inside scikit-learn."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32).reshape(-1, 8, 8)
    return Task(name="digits", source=images[labels != 0], target=images[labels == 0])


@cache
def fashion_boots() -> Task | None:
    """Sandals and sneakers to ankle boots, 28 x 28; None where Fashion-MNIST is not installed.

    Looks in the folder named by ``FSD_FASHION_MNIST``, then where Debian's package
    ``dataset-fashion-mnist`` puts it.
    """
    folder = _fashion_folder()
    if folder is None:
        return None
    images = _idx(folder / FASHION_IMAGES).astype(np.float32) / 255
    labels = _idx(folder / "train-labels-idx1-ubyte.gz")
    source = images[np.isin(labels, (5, 7))]
    return Task(name="fashion-boots", source=source, target=images[labels == 9])


def fashion_images() -> np.ndarray | None:
    """All 60000 training images as ``(60000, 784)`` float32, or None."""
    folder = _fashion_folder()
    if folder is None:
        return None
    return (_idx(folder / FASHION_IMAGES).astype(np.float32) / 255).reshape(-1, 784)


def _fashion_folder() -> Path | None:
    for folder in (os.environ.get(FASHION_VARIABLE), *FASHION_FOLDERS):
        if folder and (Path(folder) / FASHION_IMAGES).exists():
            return Path(folder)
    return None


def _idx(path: Path) -> np.ndarray:
    """Read the gzipped IDX format."""
    with gzip.open(path) as file:
        data = file.read()
    axes = data[3]
    shape = np.frombuffer(data, ">i4", count=axes, offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)


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
