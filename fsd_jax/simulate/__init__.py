"""Replicates from their exact law, without drawing data."""

from fsd_jax.simulate.spectra import bartlett_factor

__all__ = ["bartlett_factor"]
