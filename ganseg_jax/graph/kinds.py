"""What networks are beyond their weights, without JAX."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import flax.linen as nn


@dataclasses.dataclass(frozen=True)
class DeepLab:
    """Holds what a `models.deeplab.DeepLabV3` is beyond its weights; see there."""

    output_stride: int
    atrous_rates: tuple[int, ...]
    stem_pool: bool


@dataclasses.dataclass(frozen=True)
class UNet:
    """Holds what a `models.unet.UNet` is beyond its weights."""

    depth: int


Network = DeepLab | UNet
Variables = Mapping[str, Any]
"""{"params": ..., "batch_stats": ...}, nested, of arrays."""


def of_module(module: "nn.Module") -> Network | None:
    """Returns what a module is, or None if graphs of its kind are not written."""
    import jax.numpy as jnp

    from ganseg_jax.models import deeplab, unet

    if isinstance(module, deeplab.DeepLabV3) and module.dtype == jnp.float32:
        return DeepLab(module.output_stride, tuple(module.atrous_rates), module.stem_pool)
    if isinstance(module, unet.UNet) and module.dtype == jnp.float32:
        return UNet(module.depth)
    return None
