"""StyleGAN2 in the names of NVIDIA's PyTorch programs (stylegan2-ada-pytorch and stylegan3)."""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ganseg_jax.errors import UserError
from ganseg_jax.interop.conversion import CONV, LINEAR, Entry, Layout, layer, required_shape
from ganseg_jax.interop.stylegan2_shapes import WHAT, channel_settings, upsample_taps
from ganseg_jax.models.stylegan2 import BASE_SIZE, StyleGAN2Generator

_CONSTANT = Layout(lambda x: x.transpose(1, 2, 0)[None], lambda x: x[0].transpose(2, 0, 1))
_NOISE = Layout(lambda x: x[None, :, :, None], lambda x: x[0, :, :, 0])
_SCALAR = Layout(lambda x: x.reshape(1), lambda x: x.reshape(()))

# Attributes of modules, by the end of their names, that only one value is known of.
_ATTRIBUTES = {
    r"synthesis\.b\d+\.architecture": "skip",
    r"synthesis\.b\d+\.conv\d\.activation": "lrelu",
    r"mapping\.fc\d+\.activation": "lrelu",
    r"mapping\.fc\d+\.bias_gain": 0.01,
    r"img_channels": 3,
}


def is_named(weights: Mapping[str, Any]) -> bool:
    """Says whether these are NVIDIA's names, of any generation of StyleGAN."""
    return any(name.startswith(("synthesis.", "mapping.fc")) for name in weights)


def module_for(
    weights: Mapping[str, Any], attributes: Mapping[str, Any] | None = None
) -> StyleGAN2Generator:
    """Reads the settings off names and shapes, and off the modules' attributes where given.

    A bare state_dict has no attributes: then activations are not limited.

    Raises:
      UserError: naming what is another network, or what `StyleGAN2Generator` does not have.
    """
    attributes = attributes or {}
    _check_kind(weights, attributes)
    sizes = [int(m[1]) for m in _matches(r"synthesis\.b(\d+)\.conv1\.weight", weights)]
    size = max(sizes, default=BASE_SIZE)
    if size < BASE_SIZE or size & (size - 1):
        raise UserError(f"{WHAT}: 'synthesis.b{size}' is no size of StyleGAN2, a power of two")
    sides = [2**i for i in range(2, int(math.log2(size)) + 1)]
    names = {side: f"synthesis.b{side}.conv1.weight" for side in sides}
    shapes = {side: required_shape(weights, name, WHAT) for side, name in names.items()}
    multiplier, most = channel_settings({s: (names[s], shapes[s][0]) for s in sides})
    label_dim = 0
    if "mapping.embed.weight" in weights:
        label_dim = required_shape(weights, "mapping.embed.weight", WHAT)[1]
    return StyleGAN2Generator(
        size=size,
        style_dim=required_shape(weights, "synthesis.b4.conv1.affine.weight", WHAT)[1],
        mapping_layers=len(list(_matches(r"mapping\.fc(\d+)\.weight", weights))),
        channel_multiplier=multiplier,
        max_channels=most,
        label_dim=label_dim,
        clamp=_clamp(attributes),
        upsample_taps=upsample_taps({k: v for k, v in weights.items() if is_filter(k)}),
    )


def is_filter(name: str) -> bool:
    """Says whether an entry is a stored filter."""
    return name.endswith("resample_filter")


def defaults(module: StyleGAN2Generator) -> dict[str, np.ndarray]:
    """Returns entries that some generators lack: those without noise or without a mean latent."""
    found = {"mapping.w_avg": np.zeros(module.style_dim, np.float32)}
    for i, (key, _) in enumerate(_convs(module)):
        _, height, width, _ = module.noise_shape(i)
        found[f"{key}.noise_strength"] = np.zeros((), np.float32)
        found[f"{key}.noise_const"] = np.zeros((height, width), np.float32)
    return found


def entries(module: StyleGAN2Generator) -> list[Entry]:
    """Returns the table of all weights."""
    result = [
        Entry("synthesis.b4.const", "params/constant", _CONSTANT),
        Entry("mapping.w_avg", "latent_statistics/w_mean"),
    ]
    if module.label_dim:
        result += layer("mapping.embed", "mapping/embedding", LINEAR)
    for i in range(module.mapping_layers):
        result += layer(f"mapping.fc{i}", f"mapping/dense_{i}", LINEAR)
    for i, (key, path) in enumerate(_convs(module)):
        result += _modulated(key, path)
        result.append(Entry(f"{key}.noise_strength", f"params/{path}/noise_strength", _SCALAR))
        result.append(Entry(f"{key}.noise_const", f"noise/noise_{i}", _NOISE))
    for i in range(module.num_convs // 2 + 1):
        path = f"to_rgbs_{i - 1}" if i else "to_rgb1"
        result += _modulated(f"synthesis.b{BASE_SIZE * 2**i}.torgb", path)
    return result


def _modulated(key: str, path: str) -> list[Entry]:
    return [
        Entry(f"{key}.weight", f"params/{path}/conv/kernel", CONV),
        Entry(f"{key}.bias", f"params/{path}/bias"),
        *layer(f"{key}.affine", f"{path}/conv/modulation", LINEAR),
    ]


def _convs(module: StyleGAN2Generator) -> list[tuple[str, str]]:
    """Returns the styled convolutions in order, as they are named there and here."""
    result = [("synthesis.b4.conv1", "conv1")]
    for i in range(module.num_convs - 1):
        side = BASE_SIZE * 2 ** (i // 2 + 1)
        result.append((f"synthesis.b{side}.conv{i % 2}", f"convs_{i}"))
    return result


def _check_kind(weights: Mapping[str, Any], attributes: Mapping[str, Any]) -> None:
    if any(name.startswith("mapping.embed_proj.") for name in weights):
        raise UserError("this is a StyleGAN-XL generator; only StyleGAN2 generators are read")
    if any(re.match(r"synthesis\.(input\.freqs$|L\d+_)", name) for name in weights):
        raise UserError("this is a StyleGAN3 generator; only StyleGAN2 generators are read")
    for pattern, known in _ATTRIBUTES.items():
        for match in _matches(pattern, attributes):
            value = attributes[match[0]]
            if value != known:
                raise UserError(
                    f"{WHAT}: {match[0]} is {value!r}; only {known!r} is supported here"
                )


def _clamp(attributes: Mapping[str, Any]) -> float | None:
    names = [match[0] for match in _matches(r"synthesis\..*\.conv_clamp", attributes)]
    for name in names:
        if attributes[name] != attributes[names[0]]:
            raise UserError(f"{WHAT}: {name} is {attributes[name]!r}, unlike {names[0]}")
    return None if not names or attributes[names[0]] is None else float(attributes[names[0]])


def _matches(pattern: str, names: Mapping[str, Any]) -> list[re.Match]:
    return [match for match in (re.fullmatch(pattern, name) for name in names) if match]
