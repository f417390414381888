"""Pixel-wise features of generated images: activations inside a generator.

Tritrong, Rewatbowornwong, Suwajanakorn, "Repurposing GANs for One-shot Semantic Part
Segmentation", CVPR 2021, section 3.1.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ganseg_jax import geometry
from ganseg_jax.models.generator import Generator, stage_margins
from ganseg_jax.models.stylegan2 import StyleGAN2Generator

# One map for each layer, of different sizes and channels: [B, h_i, w_i, C_i].
Features = Sequence[Float[Array, "b _ _ _"]]

GANSEG_GROUPS = ("mask", "foreground", "background")


@dataclasses.dataclass(frozen=True)
class Layer:
    """Names a submodule whose output [B, H, W, C] is a feature.

    Attributes:
      path: names from the generator down to the submodule, joined by "/".
      margin: pixels to remove on each side, because the maps reach beyond the image.
    """

    path: str
    margin: int = 0


def named_layers(module: nn.Module, groups: Sequence[str] = ()) -> tuple[Layer, ...]:
    """Returns the layers that the paper's representation is made of.

    Args:
      module: GANSeg's generator, or StyleGAN2 (the outputs of all styled convolutions but the
        first: 5,056 channels at 1024 px).
      groups: for GANSeg, which blocks: some of "mask", "foreground", "background"; all by
        default. StyleGAN2 has no groups.

    Raises:
      ValueError: a group that the generator does not have, or an unknown generator.
    """
    if isinstance(module, StyleGAN2Generator):
        if groups:
            raise ValueError(f"StyleGAN2 has no groups of layers, asked for {tuple(groups)}")
        return tuple(Layer(f"convs_{i}") for i in range(module.num_convs - 1))
    if not isinstance(module, Generator):
        raise ValueError(
            f"no named layers for {type(module).__name__}: give the layers by their paths"
        )
    available = [g for g in GANSEG_GROUPS if g != "background" or module.separate_background]
    for group in groups:
        if group not in available:
            raise ValueError(f"this generator has the groups {available}, not {group!r}")
    margins = stage_margins(module.stage_sizes, module.margin)
    return tuple(
        Layer(f"{group}_generator/block_{i}", margin)
        for group in groups or available
        for i, margin in enumerate(margins)
    )


def generate(
    module: nn.Module,
    variables: Any,
    latents: Any,
    layers: Sequence[Layer | str],
    *,
    max_size: int | None = None,
    **options: Any,
) -> tuple[Any, Features]:
    """Runs a generator and captures the outputs of some of its submodules.

    Args:
      module: any linen module; called as `module(latents, train=False)`, or with `options`.
      variables: its variables.
      latents: its input.
      layers: submodules, by path or as `Layer`.
      max_size: larger maps are averaged down to this size; they must be whole multiples of it.
      options: further arguments of `module.apply` (`method`, `rngs`, keywords of the method).
        Given a `method`, `train=False` is not added.

    Returns:
      What the module returns, and one map [B, h, w, C] for each layer, in the order of `layers`.

    Raises:
      ValueError: a layer does not exist, is called more than once, or has no [B, H, W, C] output.
    """
    chosen = [Layer(layer) if isinstance(layer, str) else layer for layer in layers]
    wanted = {layer.path for layer in chosen}
    seen: set[str] = set()

    def is_wanted(submodule: nn.Module, method: str) -> bool:
        path = "/".join(submodule.path)
        seen.add(path)
        return method == "__call__" and path in wanted

    if "method" not in options:
        options.setdefault("train", False)
    output, state = module.apply(
        variables, latents, capture_intermediates=is_wanted, mutable=["intermediates"], **options
    )
    for path in wanted - seen:
        known = ", ".join(sorted(seen - {""}))
        raise ValueError(f"the generator has no layer {path!r}; its layers: {known}")
    captured = state.get("intermediates", {})
    return output, tuple(_feature(captured, layer, max_size) for layer in chosen)


def _feature(captured: Any, layer: Layer, max_size: int | None) -> Array:
    node = captured
    for name in layer.path.split("/"):
        node = node[name]
    outputs = node["__call__"]
    if len(outputs) != 1:
        raise ValueError(f"layer {layer.path!r} is called {len(outputs)} times")
    (x,) = outputs
    if not isinstance(x, jax.Array) or x.ndim != 4:
        raise ValueError(f"the output of layer {layer.path!r} is no map [B, H, W, C]")
    x = geometry.crop(x, layer.margin)
    return x if max_size is None or x.shape[1] <= max_size else average_down(x, max_size)


@flax.struct.dataclass
class ChannelStatistics:
    """Holds mean and standard deviation of each channel, [C_i] for each map."""

    mean: tuple[Float[Array, " _"], ...]
    deviation: tuple[Float[Array, " _"], ...]


def statistics(features: Features) -> ChannelStatistics:
    """Returns the statistics over all images and pixels.

    A channel that never changes gets the deviation 1.
    """
    axes = (0, 1, 2)
    deviations = [jnp.std(x, axes) for x in features]
    return ChannelStatistics(
        tuple(jnp.mean(x, axes) for x in features),
        tuple(jnp.where(d > 1e-6, d, 1.0) for d in deviations),
    )


def unit_statistics(features: Features) -> ChannelStatistics:
    """Returns statistics with which `standardize` changes nothing; only shapes are read."""
    zeros = tuple(jnp.zeros(x.shape[-1:], jnp.float32) for x in features)
    return ChannelStatistics(zeros, tuple(x + 1.0 for x in zeros))


def standardize(features: Features, by: ChannelStatistics) -> Features:
    """Returns features whose channels have mean 0 and deviation 1 if `by` are their statistics."""
    return tuple((x - m) / d for x, m, d in zip(features, by.mean, by.deviation, strict=True))


def average_down(x: Float[Array, "b h w c"], size: int) -> Float[Array, "b n n c"]:
    """Returns means over equal squares.

    Raises:
      ValueError: a side is no multiple of `size`.
    """
    batch, height, width, channels = x.shape
    if height % size or width % size:
        raise ValueError(f"a map of {height}x{width} pixels cannot be averaged to {size}x{size}")
    blocks = x.reshape(batch, size, height // size, size, width // size, channels)
    return jnp.mean(blocks, axis=(2, 4))


def largest(features: Features) -> tuple[int, int]:
    """Returns height and width of the largest map."""
    return max((x.shape[1], x.shape[2]) for x in features)
