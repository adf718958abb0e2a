"""x"""
from fsd_jax.moments import SecondMoment
from fsd_jax.process import VP
