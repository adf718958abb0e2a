"""Reverse-time samplers, and the exact law of what they generate with a linear score."""

from fsd_jax.sampler._grid import METHODS
from fsd_jax.sampler._guidance import GuidedLaw, GuidedScore, guided_law
from fsd_jax.sampler._latent import sample_latent
from fsd_jax.sampler._law import denoised_law, generated_law
from fsd_jax.sampler._limit import continuous_law
from fsd_jax.sampler._reverse import sample

__all__ = [
    "METHODS",
    "GuidedLaw",
    "GuidedScore",
    "continuous_law",
    "denoised_law",
    "generated_law",
    "guided_law",
    "sample",
    "sample_latent",
]
