"""Section 4: ReLU score networks, pre-trained on the source and tuned on the target."""

from fsd_jax.latent_net._descent import Recipe
from fsd_jax.latent_net._errors import NetError, net_score_error
from fsd_jax.latent_net._fit import NetModel, finetune, pretrain
from fsd_jax.latent_net._plan_section4 import plan_section4, random_mixture
from fsd_jax.latent_net._relu import NetScore, ReLUNet

__all__ = [
    "NetError",
    "NetModel",
    "NetScore",
    "ReLUNet",
    "Recipe",
    "finetune",
    "net_score_error",
    "plan_section4",
    "pretrain",
    "random_mixture",
]
