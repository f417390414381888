"""What every naming of StyleGAN2's weights has in common: channels by size, and filters."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ganseg_jax.errors import UserError
from ganseg_jax.models.stylegan2 import StyleGAN2Generator, channels_at

WHAT = "StyleGAN2 generator"


def channel_settings(channels: Mapping[int, tuple[str, int]]) -> tuple[float, int]:
    """Returns channel multiplier and largest number of channels.

    Args:
      channels: by the size of the maps, from 4 px on: the name of an entry, and its channels.

    Raises:
      UserError: naming the entry of which no such settings have as many channels.
    """
    most, size = channels[min(channels)][1], max(channels)
    multiplier = channels[size][1] * size / 16384
    if channels[size][1] == most and channels_at(size, 2, most) == most:
        multiplier = 2  # The published one; any other large enough is the same network.
    for side, (name, count) in channels.items():
        expected = channels_at(side, multiplier, most)
        if count != expected:
            raise UserError(
                f"{WHAT}: {name!r} has {count} channels at {side} px; with {most} at 4 px and "
                f"{channels[size][1]} at {size} px there are {expected}"
            )
    return multiplier, most


def upsample_taps(filters: Mapping[str, Any]) -> tuple[float, ...]:
    """Returns the one-dimensional taps of stored filters, the first of them 1.

    Args:
      filters: names to arrays, [N] or [N, N]; without any, the published taps are meant.

    Raises:
      UserError: naming a filter that is not separable, or differs from the others.
    """
    taps: Sequence[float] = StyleGAN2Generator.upsample_taps
    for i, (name, array) in enumerate(filters.items()):
        kernel = np.asarray(array, np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            if kernel.ndim == 1:
                kernel = np.outer(kernel, kernel)
            if not i and kernel.ndim == 2:
                taps = kernel.sum(axis=1) / kernel.sum(axis=1)[0]
            expected = np.outer(taps, taps)
            same = kernel.shape == expected.shape and np.allclose(
                kernel / kernel.sum(), expected / expected.sum(), atol=1e-5
            )
        if not same or len(taps) < 2:
            raise UserError(f"{WHAT}: filter {name!r} is not separable, or differs from the others")
    return tuple(float(tap) for tap in taps)
