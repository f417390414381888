"""The published GANSeg checkpoints: generator, discriminator and segmenter, both ways.

Differences of arrangement: kernels OIHW there, HWIO here; masks with the background last there,
first here; the two convolutions that give gamma and beta there are one here, and so are the first
convolutions of all modulations of a block; feature maps are flattened channels first there,
channels last here.  The published training code kept the hidden
layers of each MLP, and the middle mask blocks, in one shared set of weights for some data sets; a
state_dict lists them once per layer, and they are loaded as layers of their own with equal values.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from ganseg_jax import geometry
from ganseg_jax.errors import UserError
from ganseg_jax.interop import conversion
from ganseg_jax.interop.conversion import (
    CONV,
    LINEAR,
    PLAIN,
    POINTWISE,
    Entry,
    StateDict,
    Variables,
    batch_norm,
    layer,
    then,
)
from ganseg_jax.interop.ganseg_parameters import (
    area_form,
    export_hyperparameters,
    generator_settings,
    published_class,
)
from ganseg_jax.interop.torch_deeplab import (
    backbone_settings,
    export_segmenter,
    load_backbone,
    load_segmenter,
    with_backbone,
)
from ganseg_jax.latents import Latents
from ganseg_jax.models.discriminator import Discriminator
from ganseg_jax.models.generator import Generator

__all__ = [
    "area_form",
    "backbone_settings",
    "export_discriminator",
    "export_generator",
    "export_hyperparameters",
    "export_segmenter",
    "generator_settings",
    "load_backbone",
    "load_discriminator",
    "load_generator",
    "load_segmenter",
    "published_class",
    "with_backbone",
]

_BACKGROUND_FIRST = (lambda x: np.roll(x, 1, axis=-1), lambda x: np.roll(x, -1, axis=-1))


def load_generator(
    state_dict: Mapping[str, Any], hyperparameters: Mapping[str, Any]
) -> tuple[Generator, Variables]:
    """Loads the generator of a published checkpoint.

    Args:
      state_dict: names to arrays (the checkpoint's entry "generator").
      hyperparameters: the published `parameters.json`.

    Raises:
      UserError: a hyperparameter or an entry is missing, unknown, or does not fit.
    """
    module = Generator(**generator_settings(hyperparameters))
    entries = _generator_entries(module)
    latents = Latents(
        *(jnp.zeros((1, n)) for n in (module.noise_dim, module.noise_dim, module.noise_dim, 2))
    )
    variables = conversion.to_variables(
        conversion.unwrapped(state_dict),
        entries,
        conversion.variable_shapes(module, latents, train=False),
        "generator",
        constants={"init_extend_coord": _grid(module).shape},
    )
    return module, variables


def export_generator(module: Generator, variables: Mapping[str, Any]) -> StateDict:
    """Returns the state_dict that the published code loads; `load_generator`'s exact inverse.

    Raises:
      UserError: the generator has a setting that the published code does not know.
    """
    export_hyperparameters(module)
    state_dict = conversion.to_state_dict(variables, _generator_entries(module))
    return {"init_extend_coord": _grid(module), **state_dict}


def load_discriminator(state_dict: Mapping[str, Any]) -> tuple[Discriminator, Variables]:
    """Loads the discriminator of a published checkpoint (its entry "discriminator").

    Channels and image size are read off the shapes.

    Raises:
      UserError: an entry is missing, unknown, or of another shape.
    """
    state_dict = conversion.unwrapped(state_dict)
    channels: list[int] = []
    while (key := f"conv.{len(channels)}.conv_res.weight") in state_dict or not channels:
        channels.append(conversion.required_shape(state_dict, key, "discriminator")[0])
    hidden = conversion.required_shape(state_dict, "fc.0.weight", "discriminator")[0]
    module = Discriminator(channels=tuple(channels), hidden=hidden)
    size = 2 ** (len(channels) + 1)
    shapes = conversion.variable_shapes(module, jnp.zeros((1, size, size, 3)))
    entries = _discriminator_entries(module)
    return module, conversion.to_variables(state_dict, entries, shapes, "discriminator")


def export_discriminator(module: Discriminator, variables: Mapping[str, Any]) -> StateDict:
    """Returns the state_dict of the published code; `load_discriminator`'s exact inverse."""
    return conversion.to_state_dict(variables, _discriminator_entries(module))


def _generator_entries(module: Generator) -> list[Entry]:
    channels = tuple(module.stage_channels)
    embedding, parts, stages = module.embedding_dim, module.num_parts, len(channels)
    if stages < 2 or parts + 1 == embedding:
        raise UserError(
            "the published code needs two stages or more, and model.embedding_dim other than "
            f"model.num_parts + 1; here {stages} stages, embedding_dim {embedding}"
        )
    entries = [Entry("keypoints_embedding.weight", "params/embeddings/constant")]
    mlps = {
        "gen_keypoints_layer": ("point_generator/mlp", module.point_layers),
        "gen_keypoints_embedding_noise": ("embeddings/mlp", 3),
        "gen_background_embedding": ("background_style", 3),
    }
    for key, (path, layers) in mlps.items():
        for i in range(layers):
            entries += layer(f"{key}.{i}.model.0", f"{path}/hidden_{i}", LINEAR)
        entries += layer(f"{key}.{layers}", f"{path}/out", LINEAR)
    starts = {
        "mask_start": "mask_generator",
        "x_start": "foreground_generator",
        "bg_start": "background_generator",
    }
    for key, path in starts.items():
        entries += layer(f"{key}.pe", f"{path}/start/offsets", POINTWISE)
    mask_widths = [channels[0], *[embedding] * (stages - 1), parts + 1]
    image_widths = [*channels, embedding]
    for i in range(stages):
        entries += _res_block(
            f"mask_spade_blocks.{i}",
            f"mask_generator/block_{i}",
            shortcut=mask_widths[i] != mask_widths[i + 1],
            to_masks=i == stages - 1,
        )
        entries += _res_block(
            f"spade_blocks.{i}",
            f"foreground_generator/block_{i}",
            shortcut=image_widths[i] != image_widths[i + 1],
        )
        key, path = f"adain_blocks.{i}", f"background_generator/block_{i}"
        entries += _modulation(f"{key}.spade1", path, "modulate", (0, 1), LINEAR)
        entries += layer(f"{key}.conv1", f"{path}/conv", CONV)
    entries += layer("conv.0", "image_head/conv_0", CONV)
    if module.head == "two_layer":
        entries += layer("conv.2", "image_head/conv_1", CONV)
    return entries


def _modulation(
    key: str, block: str, name: str, share: tuple[int, int], layout: conversion.Layout
) -> list[Entry]:
    """Returns the entries of a modulation; `share` (i, n): its features are the i-th of n."""
    return [
        *batch_norm(f"{key}.norm", f"{block}/{name}/norm", affine=False),
        *layer(f"{key}.conv", f"{block}/style/layer", layout, part=share),
        *layer(f"{key}.conv_gamma", f"{block}/{name}/modulation", layout, part=(0, 2)),
        *layer(f"{key}.conv_beta", f"{block}/{name}/modulation", layout, part=(1, 2)),
    ]


def _res_block(key: str, path: str, shortcut: bool, to_masks: bool = False) -> list[Entry]:
    names = {"spade1": "modulate_0", "spade2": "modulate_1"}
    if shortcut:
        names["spade_shortcut"] = "modulate_shortcut"
    entries = [
        *layer(f"{key}.conv1", f"{path}/conv_0", CONV),
        *_output_conv(f"{key}.conv2", f"{path}/conv_1", to_masks),
    ]
    for i, (theirs, ours) in enumerate(names.items()):
        entries += _modulation(f"{key}.{theirs}", path, ours, (i, len(names)), CONV)
    if shortcut:
        entries += _output_conv(f"{key}.conv_shortcut", f"{path}/conv_shortcut", to_masks)
    return entries


def _output_conv(key: str, path: str, to_masks: bool) -> list[Entry]:
    if not to_masks:
        return layer(key, path, CONV)
    return [
        Entry(f"{key}.weight", f"params/{path}/kernel", then(CONV, *_BACKGROUND_FIRST)),
        Entry(f"{key}.bias", f"params/{path}/bias", then(PLAIN, *_BACKGROUND_FIRST)),
    ]


def _discriminator_entries(module: Discriminator) -> list[Entry]:
    entries = []
    for i in range(len(module.channels)):
        for key, name in (
            ("conv_res", "conv_shortcut"),
            ("net.0", "conv_0"),
            ("net.2", "conv_1"),
            ("downsample.0", "conv_2"),
        ):
            entries += layer(f"conv.{i}.{key}", f"block_{i}/{name}", CONV)
    last = module.channels[-1]

    def channels_last(x: np.ndarray) -> np.ndarray:
        return x.reshape(last, 4, -1).transpose(1, 0, 2).reshape(4 * last, -1)

    def channels_first(x: np.ndarray) -> np.ndarray:
        return x.reshape(4, last, -1).transpose(1, 0, 2).reshape(4 * last, -1)

    # The last map is 2 x 2.
    entries += layer("fc.0", "hidden", LINEAR, bias=False)
    entries[-1] = Entry(
        "fc.0.weight", "params/hidden/kernel", then(LINEAR, channels_last, channels_first)
    )
    entries.append(Entry("fc.0.bias", "params/hidden/bias"))
    return entries + layer("fc.2", "logit", LINEAR)


def _grid(module: Generator) -> np.ndarray:
    """Returns the first stage's grid, which the published models keep among their weights."""
    grid = geometry.pixel_grid(module.stage_sizes[0], module.margin, "corners")
    return np.asarray(grid, np.float32).reshape(1, -1, 2)
