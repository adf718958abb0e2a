"""Replicates from their exact law, without drawing data."""

from fsd_jax.simulate._chi_square import centred_chi_square
from fsd_jax.simulate._plan_errors import plan_errors
from fsd_jax.simulate._reduced import reduced_samples
from fsd_jax.simulate._replicate import BLOCK, block_errors, errors, subspace_errors
from fsd_jax.simulate._sampled import sampled_errors
from fsd_jax.simulate._spectra import WishartSpectra, bartlett_factor, wishart_freedom

__all__ = [
    "BLOCK",
    "WishartSpectra",
    "bartlett_factor",
    "block_errors",
    "centred_chi_square",
    "errors",
    "plan_errors",
    "reduced_samples",
    "sampled_errors",
    "subspace_errors",
    "wishart_freedom",
]
