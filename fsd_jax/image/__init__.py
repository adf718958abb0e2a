"""Images: data sets, closed-form rivals of fine-tuned networks, and measures; optional.

Nothing else in the library depends on this room; ``import fsd_jax`` does not load it.
"""
