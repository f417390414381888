"""StyleGAN2 checkpoints in the widely used PyTorch naming -> `models.stylegan2` variables."""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ganseg_jax.errors import UserError
from ganseg_jax.models.stylegan2 import StyleGAN2Generator, channels_at


def load_generator(state_dict: Mapping[str, Any]) -> tuple[StyleGAN2Generator, dict[str, Any]]:
    """Converts a StyleGAN2 generator.

    Args:
        state_dict: names to arrays (`style.1.weight`, `input.input`, `convs.0.conv.weight`, ...),
            or a whole checkpoint that holds them under `g_ema` and the mean latent under
            `latent_avg`. A `latent_avg` among the names is taken as well.

    Returns:
        The module (size, channel multiplier and depth of the mapping are read off the shapes) and
        its variables: `params`, `noise` (the stored maps) and `latent_statistics` (`w_mean`, zero
        where the checkpoint has no mean latent: estimate it with `models.stylegan2.mean_latent`).

    Raises:
        UserError: an entry is missing, unknown, or of a shape that does not fit; both are named.
    """
    entries = dict(state_dict.get("g_ema", state_dict))
    w_mean = state_dict.get("latent_avg", entries.get("latent_avg"))
    entries.pop("latent_avg", None)
    reader = _Reader(entries)
    module = _module_for(reader)

    params = {
        "constant": _nhwc(reader.take("input.input", (1, None, 4, 4))),
        "mapping": {
            f"dense_{i}": _dense(reader, f"style.{i + 1}", (module.style_dim,) * 2)
            for i in range(module.mapping_layers)
        },
    }
    channels = channels_at(4, module.channel_multiplier)
    params["conv1"] = _styled_conv(reader, "conv1", module, channels, channels)
    params["to_rgb1"] = _to_rgb(reader, "to_rgb1", module, channels)
    for level in range(3, int(math.log2(module.size)) + 1):
        i, inputs = level - 3, channels
        channels = channels_at(2**level, module.channel_multiplier)
        first, second = f"convs.{2 * i}", f"convs.{2 * i + 1}"
        params[f"convs_{2 * i}"] = _styled_conv(reader, first, module, inputs, channels)
        params[f"convs_{2 * i + 1}"] = _styled_conv(reader, second, module, channels, channels)
        params[f"to_rgbs_{i}"] = _to_rgb(reader, f"to_rgbs.{i}", module, channels)
    noise = {}
    for i in range(module.num_convs):
        _, height, width, _ = module.noise_shape(i)
        # Checkpoints from before the maps were stored have none; zeros stand for 'no noise'.
        shape = (1, 1, height, width)
        stored = reader.take_optional(f"noises.noise_{i}", shape, np.zeros(shape, np.float32))
        noise[f"noise_{i}"] = _nhwc(stored)
    reader.finish()

    if w_mean is None:
        w_mean = np.zeros(module.style_dim, np.float32)
    w_mean = np.asarray(w_mean, np.float32).reshape(-1)
    if w_mean.shape != (module.style_dim,):
        raise UserError(
            f"latent_avg has {w_mean.size} numbers, but the styles have {module.style_dim}"
        )
    return module, {"params": params, "noise": noise, "latent_statistics": {"w_mean": w_mean}}


class _Reader:
    """Takes entries by name, each once, and names whatever does not fit."""

    def __init__(self, entries: Mapping[str, Any]):
        self._entries = entries
        self._taken: set[str] = set()

    def names(self) -> list[str]:
        return list(self._entries)

    def take(self, name: str, shape: tuple[int | None, ...]) -> np.ndarray:
        """The entry as float32; None in `shape` fits any length."""
        if name not in self._entries:
            raise UserError(f"the StyleGAN2 checkpoint has no entry {name!r}")
        value = np.asarray(self._entries[name], np.float32)
        fits = len(shape) == value.ndim and all(
            expected in (None, length) for expected, length in zip(shape, value.shape, strict=True)
        )
        if not fits:
            raise UserError(
                f"StyleGAN2 checkpoint entry {name!r} has shape {value.shape}, expected {shape}"
            )
        self._taken.add(name)
        return value

    def take_optional(
        self, name: str, shape: tuple[int | None, ...], default: np.ndarray
    ) -> np.ndarray:
        return self.take(name, shape) if name in self._entries else default

    def finish(self) -> None:
        """Raises where an entry was not used: the checkpoint is then of another network."""
        left = [name for name in self._entries if name not in self._taken]
        if left:
            raise UserError(
                f"the StyleGAN2 checkpoint has {len(left)} unknown entries, the first: {left[0]!r}"
            )


def _module_for(reader: _Reader) -> StyleGAN2Generator:
    """Reads size, multiplier, style and filter off the names and shapes."""
    names = reader.names()
    rgbs = [int(m[1]) for m in (re.fullmatch(r"to_rgbs\.(\d+)\.bias", n) for n in names) if m]
    styles = [int(m[1]) for m in (re.fullmatch(r"style\.(\d+)\.weight", n) for n in names) if m]
    if not rgbs or not styles:
        raise UserError(
            "the checkpoint is no StyleGAN2 generator in PyTorch naming: it has no 'to_rgbs.*' or "
            "no 'style.*' entries"
        )
    size = 2 ** (max(rgbs) + 3)
    style_dim = reader.take("style.1.weight", (None, None)).shape[1]
    multiplier = 2
    if size >= 64:
        last = f"convs.{2 * max(rgbs) + 1}.conv.weight"
        channels = reader.take(last, (1, None, None, 3, 3)).shape[1]
        multiplier = next((m for m in (1, 2) if channels_at(size, m) == channels), None)
        if multiplier is None:
            raise UserError(
                f"{last!r} has {channels} channels at {size} px; channel multipliers 1 and 2 have "
                f"{channels_at(size, 1)} and {channels_at(size, 2)}"
            )
    return StyleGAN2Generator(
        size=size,
        style_dim=style_dim,
        mapping_layers=max(styles),
        channel_multiplier=multiplier,
        upsample_taps=_upsample_taps(reader),
    )


def _upsample_taps(reader: _Reader) -> tuple[float, ...]:
    """One-dimensional taps of the stored two-dimensional filters; all filters must agree."""
    names = [n for n in reader.names() if n.endswith((".blur.kernel", ".upsample.kernel"))]
    taps = np.array([1.0, 3.0, 3.0, 1.0], np.float32)
    for i, name in enumerate(names):
        kernel = reader.take(name, (None, None))
        if i == 0:
            taps = kernel.sum(axis=1) / kernel.sum(axis=1)[0]
        outer = np.outer(taps, taps) / taps.sum() ** 2 * 4.0
        if kernel.shape != outer.shape or not np.allclose(kernel, outer, atol=1e-4):
            raise UserError(f"filter {name!r} is not separable, or differs from the other filters")
    return tuple(float(tap) for tap in taps)


def _nhwc(value: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(value.transpose(0, 2, 3, 1))


def _dense(reader: _Reader, name: str, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    return {
        "kernel": np.ascontiguousarray(reader.take(f"{name}.weight", shape).T),
        "bias": reader.take(f"{name}.bias", shape[:1]),
    }


def _modulated_conv(
    reader: _Reader, name: str, style_dim: int, inputs: int, outputs: int, size: int
) -> dict[str, Any]:
    kernel = reader.take(f"{name}.weight", (1, outputs, inputs, size, size))[0]  # [O, I, k, k]
    return {
        "kernel": np.ascontiguousarray(kernel.transpose(2, 3, 1, 0)),
        "modulation": _dense(reader, f"{name}.modulation", (inputs, style_dim)),
    }


def _styled_conv(
    reader: _Reader, name: str, module: StyleGAN2Generator, inputs: int, outputs: int
) -> dict[str, Any]:
    return {
        "conv": _modulated_conv(reader, f"{name}.conv", module.style_dim, inputs, outputs, 3),
        "noise_strength": reader.take(f"{name}.noise.weight", (1,))[0],
        "bias": reader.take(f"{name}.activate.bias", (outputs,)),
    }


def _to_rgb(reader: _Reader, name: str, module: StyleGAN2Generator, inputs: int) -> dict[str, Any]:
    return {
        "conv": _modulated_conv(reader, f"{name}.conv", module.style_dim, inputs, 3, 1),
        "bias": reader.take(f"{name}.bias", (1, 3, 1, 1)).reshape(3),
    }
