"""StyleGAN2 checkpoints of PyTorch -> `models.stylegan2` variables.

Two namings are read: the widely used one (`convs.0.conv.weight`, ...), and NVIDIA's own
(`synthesis.b8.conv0.weight`, ...; see `nvidia_stylegan2`).
"""

import logging
import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from ganseg_jax.errors import UserError
from ganseg_jax.interop import nvidia_stylegan2
from ganseg_jax.interop.conversion import (
    LINEAR,
    Entry,
    Layout,
    Variables,
    layer,
    required_shape,
    to_variables,
    unwrapped,
    variable_shapes,
)
from ganseg_jax.interop.stylegan2_shapes import WHAT, channel_settings, upsample_taps
from ganseg_jax.models.stylegan2 import BASE_SIZE, StyleGAN2Generator

LOG = logging.getLogger(__name__)

# Where training programs keep the generator, the averaged one first.
PARTS = ("g_ema", "G_ema", "g", "G")
MODULATED = Layout(
    lambda x: x[0].transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1)[None]
)  # 1OIHW, HWIO
MAP = Layout(lambda x: x.transpose(0, 2, 3, 1), lambda x: x.transpose(0, 3, 1, 2))
CHANNELS = Layout(lambda x: x[0, :, 0, 0], lambda x: x[None, :, None, None])


def load_generator(state_dict: Mapping[str, Any]) -> tuple[StyleGAN2Generator, Variables]:
    """Converts a StyleGAN2 generator of any size.

    Args:
      state_dict: names to arrays (`style.1.weight`, `input.input`, `convs.0.conv.weight`, ...; or
        `mapping.fc0.weight`, `synthesis.b4.const`, ...), or a whole training file that holds them
        under `g_ema`, `G_ema`, `g` or `G`, and perhaps the mean latent under `latent_avg`. A
        `latent_avg` among the names is taken as well. What else the file holds is passed over.

    Returns:
      The module (size, channels, depth of the mapping, labels and limits are read off the entries)
      and its variables: `params`, `noise` (the stored maps, zero if the checkpoint has none) and
      `latent_statistics` (`w_mean`, zero if the checkpoint has no mean latent: estimate it
      with `models.stylegan2.mean_latent`).  Layers trained with half precision are computed in
      the module's `dtype`.

    Raises:
      UserError: an entry is missing, unknown, or of a shape that does not fit, or a network of
        another kind; it is named.
    """
    weights = generator_of(state_dict)
    attributes = weights.pop("attributes", None)
    weights = unwrapped(weights)
    if nvidia_stylegan2.is_named(weights):
        module = nvidia_stylegan2.module_for(weights, attributes)
        weights = {**nvidia_stylegan2.defaults(module), **weights}
        entries = nvidia_stylegan2.entries(module)
    else:
        if "latent_avg" in state_dict:
            weights["latent_avg"] = state_dict["latent_avg"]
        module = _module_for(weights)
        w_mean = np.asarray(weights.get("latent_avg", np.zeros(module.style_dim)))
        weights["latent_avg"] = w_mean.reshape(-1)  # (1, D) in some checkpoints
        for i in range(module.num_convs):
            _, height, width, _ = module.noise_shape(i)
            weights.setdefault(f"noises.noise_{i}", np.zeros((1, 1, height, width), np.float32))
        entries = _entries(module)
    shapes = variable_shapes(module, jnp.zeros((1, module.style_dim)))
    return module, to_variables(weights, entries, shapes, WHAT, ignored=_is_filter)


def generator_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the generator's part of a file, or all of it if it has no parts.

    The other parts are logged by name.
    """
    for name in PARTS:
        part = {k[len(name) + 1 :]: v for k, v in content.items() if k.startswith(f"{name}.")}
        if isinstance(content.get(name), Mapping):
            part = dict(content[name])
        if part:
            others = {key.split(".")[0] for key in content} - {name, "latent_avg"}
            LOG.info("%s: took %r; left out: %s.", WHAT, name, ", ".join(sorted(others)) or "-")
            return part
    return dict(content)


def _entries(module: StyleGAN2Generator) -> list[Entry]:
    entries = [Entry("input.input", "params/constant", MAP)]
    entries.append(Entry("latent_avg", "latent_statistics/w_mean"))
    for i in range(module.mapping_layers):
        entries += layer(f"style.{i + 1}", f"mapping/dense_{i}", LINEAR)
    entries += _styled_conv("conv1", "conv1") + _to_rgb("to_rgb1", "to_rgb1")
    for i in range(module.num_convs - 1):
        entries += _styled_conv(f"convs.{i}", f"convs_{i}")
    for i in range(module.num_convs // 2):
        entries += _to_rgb(f"to_rgbs.{i}", f"to_rgbs_{i}")
    for i in range(module.num_convs):
        entries.append(Entry(f"noises.noise_{i}", f"noise/noise_{i}", MAP))
    return entries


def _modulated_conv(key: str, path: str) -> list[Entry]:
    return [
        Entry(f"{key}.weight", f"params/{path}/kernel", MODULATED),
        *layer(f"{key}.modulation", f"{path}/modulation", LINEAR),
    ]


def _styled_conv(key: str, path: str) -> list[Entry]:
    return [
        *_modulated_conv(f"{key}.conv", f"{path}/conv"),
        Entry(f"{key}.noise.weight", f"params/{path}/noise_strength"),
        Entry(f"{key}.activate.bias", f"params/{path}/bias"),
    ]


def _to_rgb(key: str, path: str) -> list[Entry]:
    return [
        *_modulated_conv(f"{key}.conv", f"{path}/conv"),
        Entry(f"{key}.bias", f"params/{path}/bias", CHANNELS),
    ]


def _is_filter(key: str) -> bool:
    return key.endswith((".blur.kernel", ".upsample.kernel")) or nvidia_stylegan2.is_filter(key)


def _module_for(weights: Mapping[str, Any]) -> StyleGAN2Generator:
    """Reads size, channels, style and filter off the names and shapes."""
    levels = _numbers(weights, r"to_rgbs\.(\d+)\.bias")
    mapping = _numbers(weights, r"style\.(\d+)\.weight")
    if not levels or not mapping:
        held = ", ".join(sorted(weights)[:6]) or "nothing"
        raise UserError(
            f"{WHAT}: the checkpoint has no 'to_rgbs.*' or no 'style.*' entries, nor parts named "
            f"{', '.join(PARTS)}; it holds {held}"
        )
    channels = {}
    for level in range(-1, max(levels) + 1):
        name = "conv1.conv.weight" if level < 0 else f"convs.{2 * level + 1}.conv.weight"
        channels[BASE_SIZE * 2 ** (level + 1)] = (name, required_shape(weights, name, WHAT)[1])
    multiplier, most = channel_settings(channels)
    return StyleGAN2Generator(
        size=max(channels),
        style_dim=required_shape(weights, "style.1.weight", WHAT)[1],
        mapping_layers=max(mapping),
        channel_multiplier=multiplier,
        max_channels=most,
        upsample_taps=upsample_taps({k: v for k, v in weights.items() if _is_filter(k)}),
    )


def _numbers(weights: Mapping[str, Any], pattern: str) -> list[int]:
    matches = (re.fullmatch(pattern, name) for name in weights)
    return [int(match[1]) for match in matches if match]
