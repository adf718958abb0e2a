"""Section 4: ReLU score networks, pre-trained on the source and tuned on the target."""

from fsd_jax.latent_net.descent import Recipe
from fsd_jax.latent_net.errors import NetError, net_score_error
from fsd_jax.latent_net.fit import NetModel, finetune, pretrain
from fsd_jax.latent_net.relu import NetScore, ReLUNet
from fsd_jax.latent_net.study import plan_section4, random_mixture

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
