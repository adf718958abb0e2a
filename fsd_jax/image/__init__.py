"""Images: data sets, closed-form rivals of fine-tuned networks, and measures; optional.

Nothing else in the library depends on this room. Its parts are loaded on their first use, because
some need what ``pip install 'fsd-jax[image]'`` brings.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fsd_jax.image import (
        autoencoder,
        classify,
        closed_form,
        data,
        finetune,
        metrics,
        readout,
        task,
        unet,
    )

__all__ = [
    "autoencoder",
    "classify",
    "closed_form",
    "data",
    "finetune",
    "metrics",
    "readout",
    "task",
    "unet",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in __all__:
            return importlib.import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
