"""StyleGAN2 checkpoints in the widely used PyTorch naming -> `models.stylegan2` variables."""

import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from ganseg_jax.errors import UserError
from ganseg_jax.interop.conversion import (
    LINEAR,
    Entry,
    Layout,
    Variables,
    layer,
    required_shape,
    to_state_dict,
    to_variables,
    variable_shapes,
)
from ganseg_jax.models.stylegan2 import StyleGAN2Generator, channels_at

WHAT = "StyleGAN2 generator"
MODULATED = Layout(
    lambda x: x[0].transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1)[None]
)  # 1OIHW, HWIO
MAP = Layout(lambda x: x.transpose(0, 2, 3, 1), lambda x: x.transpose(0, 3, 1, 2))
CHANNELS = Layout(lambda x: x[0, :, 0, 0], lambda x: x[None, :, None, None])


def load_generator(state_dict: Mapping[str, Any]) -> tuple[StyleGAN2Generator, Variables]:
    """Converts a StyleGAN2 generator of 32 to 1024 px.

    Args:
      state_dict: names to arrays (`style.1.weight`, `input.input`, `convs.0.conv.weight`, ...),
        or a whole checkpoint that holds them under `g_ema` and the mean latent under
        `latent_avg`. A `latent_avg` among the names is taken as well.

    Returns:
      The module (size, channel multiplier and depth of the mapping are read off the entries) and
      its variables: `params`, `noise` (the stored maps, zero if the checkpoint has none) and
      `latent_statistics` (`w_mean`, zero if the checkpoint has no mean latent: estimate it
      with `models.stylegan2.mean_latent`).

    Raises:
      UserError: an entry is missing, unknown, or of a shape that does not fit; it is named.
    """
    weights = dict(state_dict.get("g_ema", state_dict))
    if "latent_avg" in state_dict:
        weights["latent_avg"] = state_dict["latent_avg"]
    module = _module_for(weights)
    w_mean = np.asarray(weights.get("latent_avg", np.zeros(module.style_dim)))
    weights["latent_avg"] = w_mean.reshape(-1)  # (1, D) in some checkpoints
    for i in range(module.num_convs):
        _, height, width, _ = module.noise_shape(i)
        weights.setdefault(f"noises.noise_{i}", np.zeros((1, 1, height, width), np.float32))
    shapes = variable_shapes(module, jnp.zeros((1, module.style_dim)))
    return module, to_variables(weights, _entries(module), shapes, WHAT, ignored=_is_filter)


def export_generator(module: StyleGAN2Generator, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the checkpoint that `load_generator` reads: `g_ema` and `latent_avg`."""
    weights = to_state_dict(variables, _entries(module))
    w_mean = weights.pop("latent_avg")
    taps = np.asarray(module.upsample_taps, np.float32)
    kernel = np.outer(taps, taps) * (4.0 / taps.sum() ** 2)
    for level in range(module.num_convs // 2):
        weights[f"convs.{2 * level}.conv.blur.kernel"] = kernel
        weights[f"to_rgbs.{level}.upsample.kernel"] = kernel
    return {"g_ema": weights, "latent_avg": w_mean}


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
    return key.endswith((".blur.kernel", ".upsample.kernel"))


def _module_for(weights: Mapping[str, Any]) -> StyleGAN2Generator:
    """Reads size, multiplier, style and filter off the names and shapes."""
    levels = _numbers(weights, r"to_rgbs\.(\d+)\.bias")
    mapping = _numbers(weights, r"style\.(\d+)\.weight")
    if not levels or not mapping:
        raise UserError(f"{WHAT}: the checkpoint has no 'to_rgbs.*' or no 'style.*' entries")
    size = 2 ** (max(levels) + 3)
    multiplier = 2
    if size >= 64:  # smaller maps have 512 channels whatever the multiplier
        last = f"convs.{2 * max(levels) + 1}.conv.weight"
        channels = required_shape(weights, last, WHAT)[1]
        choices = {channels_at(size, m): m for m in (1, 2)}
        if channels not in choices:
            raise UserError(
                f"{WHAT}: {last!r} has {channels} channels, but at {size} px the channel "
                f"multipliers 1 and 2 have {' and '.join(map(str, choices))}"
            )
        multiplier = choices[channels]
    return StyleGAN2Generator(
        size=size,
        style_dim=required_shape(weights, "style.1.weight", WHAT)[1],
        mapping_layers=max(mapping),
        channel_multiplier=multiplier,
        upsample_taps=_upsample_taps(weights),
    )


def _numbers(weights: Mapping[str, Any], pattern: str) -> list[int]:
    matches = (re.fullmatch(pattern, name) for name in weights)
    return [int(match[1]) for match in matches if match]


def _upsample_taps(weights: Mapping[str, Any]) -> tuple[float, ...]:
    """Returns the one-dimensional taps of the stored filters, which must all agree."""
    kernels = {name: np.asarray(x) for name, x in weights.items() if _is_filter(name)}
    if not kernels:
        return StyleGAN2Generator.upsample_taps
    first = next(iter(kernels.values()))
    taps = first.sum(axis=1) / first.sum(axis=1)[0]
    expected = np.outer(taps, taps) * (4.0 / taps.sum() ** 2)
    for name, kernel in kernels.items():
        if kernel.shape != expected.shape or not np.allclose(kernel, expected, atol=1e-4):
            raise UserError(f"{WHAT}: filter {name!r} is not separable, or differs from the others")
    return tuple(float(tap) for tap in taps)
