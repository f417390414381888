"""Perceptual distance on VGG-16 activations, for projection; the weights come as a file.

Zhang et al. 2018 (LPIPS): channel-normalised activations after each of the five blocks' last
ReLU, squared differences, a non-negative weight for each channel, mean over the pixels.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jaxtyping import Array, Float

from ganseg_jax.errors import UserError
from ganseg_jax.interop import weights
from ganseg_jax.interop.conversion import required_shape
from ganseg_jax.models.convolution import convolve
from ganseg_jax.precision import EXACT

# Names in torchvision's VGG-16: the convolutions of each block, pooling between the blocks.
BLOCKS = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
# Of ImageNet, for images in [0, 1].
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


@dataclasses.dataclass(frozen=True, eq=False)
class PerceptualDistance:
    """Measures the distance [B] of two batches of images [B, S, S, 3] in [-1, 1].

    Attributes:
      convolutions: kernel [3, 3, I, O] and bias [O] of the thirteen convolutions, in order.
      channel_weights: one vector for each block.
    """

    convolutions: tuple[tuple[Any, Any], ...]
    channel_weights: tuple[Any, ...]

    def __call__(
        self, images: Float[Array, "b h w 3"], others: Float[Array, "b h w 3"]
    ) -> Float[Array, "b"]:
        pairs = zip(self._blocks(images), self._blocks(others), self.channel_weights, strict=True)
        distances = (
            jnp.mean(
                jnp.matmul(jnp.square(_normalize(a) - _normalize(b)), weights, precision=EXACT),
                axis=(1, 2),
            )
            for a, b, weights in pairs
        )
        return functools.reduce(jnp.add, distances)

    def _blocks(self, images: Array) -> list[Array]:
        x = ((images + 1) / 2 - MEAN) / STD
        layers, outputs = iter(self.convolutions), []
        for i, block in enumerate(BLOCKS):
            if i:
                x = jax.lax.reduce_window(
                    x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
                )
            for _ in block:
                kernel, bias = next(layers)
                x = jax.nn.relu(convolve(x, kernel) + bias)
            outputs.append(x)
        return outputs


def _normalize(x: Array) -> Array:
    return x * jax.lax.rsqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True) + 1e-10)


def load_perceptual(path: epath.PathLike) -> PerceptualDistance:
    """Reads VGG-16 (torchvision's names, `features.0.weight`, ...) from any file of
    `interop.weights`.

    If the file also has LPIPS's channel weights (`lin0.model.1.weight`, ... of shape (1, C, 1, 1)),
    they are used; otherwise all channels of a block weigh 1 / C.

    Raises:
      UserError: the file cannot be read, or an entry is missing or misshapen; it is named.
    """
    return perceptual_from(weights.read(path), str(path))


def perceptual_from(entries: Mapping[str, np.ndarray], what: str) -> PerceptualDistance:
    """Returns what `load_perceptual` does, from the entries of the file named `what`."""
    convolutions, channel_weights, inputs = [], [], 3
    for i, block in enumerate(BLOCKS):
        for number in block:
            name = f"features.{number}"
            shape = required_shape(entries, f"{name}.weight", what)
            outputs = required_shape(entries, f"{name}.bias", what)[0]
            if shape != (outputs, inputs, 3, 3):
                raise UserError(
                    f"{what}: entry '{name}.weight' has shape {shape}, "
                    f"expected {(outputs, inputs, 3, 3)}"
                )
            kernel = np.asarray(entries[f"{name}.weight"], np.float32).transpose(2, 3, 1, 0)
            convolutions.append((kernel, np.asarray(entries[f"{name}.bias"], np.float32)))
            inputs = outputs
        learned = entries.get(f"lin{i}.model.1.weight")
        if learned is None:
            channel_weights.append(np.full(inputs, 1 / inputs, np.float32))
        else:
            channel_weights.append(np.asarray(learned, np.float32).reshape(inputs))
    return PerceptualDistance(tuple(convolutions), tuple(channel_weights))
