"""Few-shot segmentation heads on generator features (CVPR 2021, section 3.2)."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ganseg_jax import geometry
from ganseg_jax.config import few_shot as schema
from ganseg_jax.fewshot.features import ChannelStatistics, Features, largest
from ganseg_jax.models.initialise import he_normal, zeros
from ganseg_jax.precision import EXACT


class PixelProjection(nn.Module):
    """Convolves the upsampled, concatenated features by 1x1 kernels without making them.

    A 1x1 convolution commutes with bilinear upsampling, so every map is projected at its own size
    by its own rows of the kernel, the maps of one size are summed, and only these sums are
    upsampled. No array is larger than the largest map times `features`.
    """

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, maps: Features) -> Float[Array, "b h w f"]:
        channels = sum(x.shape[-1] for x in maps)
        kernel, bias = DenseWeights(channels, self.features, name="weights")()
        size = largest(maps)
        sums = project_by_size(maps, split_kernel(kernel.astype(self.dtype), maps))
        total = sum(geometry.resize_bilinear(x, *size) for x in sums.values())
        return total + bias.astype(self.dtype)


class DenseWeights(nn.Module):
    """Holds kernel [inputs, outputs] and bias of a linear layer that is applied piece by piece."""

    inputs: int
    outputs: int

    @nn.compact
    def __call__(self) -> tuple[Array, Array]:
        kernel = self.param("kernel", he_normal, (self.inputs, self.outputs), jnp.float32)
        return kernel, self.param("bias", zeros, (self.outputs,), jnp.float32)


FIRST_LAYER = {"cnn": ("projection", "weights"), "mlp": ("dense_0",)}
"""Path of the layer that reads the features, in each head's parameters."""


def on_raw_features(kind: "HeadKind", params: Any, by: ChannelStatistics) -> Any:
    """Returns parameters that do with raw features what the given ones do with standardised ones.

    (x - m) / d K + b = x (K / d) + b - (m / d) K, so the first layer takes in the statistics.
    """
    mean, deviation = jnp.concatenate(by.mean), jnp.concatenate(by.deviation)

    def change(path: tuple, leaf: Array) -> Array:
        names = tuple(key.key for key in path)
        if names[:-1] != FIRST_LAYER[kind]:
            return leaf
        return leaf / deviation[:, None] if names[-1] == "kernel" else leaf - shift

    first = params
    for name in FIRST_LAYER[kind]:
        first = first[name]
    shift = jnp.matmul(mean / deviation, first["kernel"], precision=EXACT)
    return jax.tree_util.tree_map_with_path(change, params)


def split_kernel(kernel: Float[Array, "c f"], maps: Features) -> list[Array]:
    """Returns the rows of a kernel on concatenated channels that belong to each map."""
    ends = np.cumsum([x.shape[-1] for x in maps])
    return jnp.split(kernel, ends[:-1])


def project_by_size(maps: Features, kernels: Sequence[Array]) -> dict[tuple[int, int], Array]:
    """Multiplies every map by its kernel and sums maps of the same (height, width)."""
    sums: dict[tuple[int, int], Array] = {}
    for x, kernel in zip(maps, kernels, strict=True):
        projected = x.astype(kernel.dtype) @ kernel
        size = (x.shape[1], x.shape[2])
        sums[size] = sums[size] + projected if size in sums else projected
    return sums


class CNNHead(nn.Module):
    """Applies nine convolutions: one 1x1, then 3x3 ones whose dilation grows and shrinks again.

    The logits [B, H, W, num_classes], float32, have the size of the largest feature map.
    """

    num_classes: int
    channels: Sequence[int] = (128, 64, 64, 64, 64, 64, 64, 32)
    dilations: Sequence[int] = (1, 2, 4, 8, 1, 2, 4, 8, 1)
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: Features) -> Float[Array, "b h w classes"]:
        x = PixelProjection(self.channels[0], dtype=self.dtype, name="projection")(features)
        outputs = [*self.channels[1:], self.num_classes]
        for i, (count, dilation) in enumerate(zip(outputs, self.dilations[1:], strict=True)):
            x = jax.nn.leaky_relu(x, 0.01)
            x = nn.Conv(
                count,
                (3, 3),
                kernel_dilation=dilation,
                kernel_init=he_normal,
                bias_init=zeros,
                dtype=self.dtype,
                name=f"conv_{i}",
            )(x)
        return x.astype(jnp.float32)


class MLPHead(nn.Module):
    """Applies two hidden layers with ReLU to every pixel alone; the output is as for `CNNHead`.

    The first layer is so wide that its output over the whole map would be by far the largest
    array. So it is made in bands of at most `band_rows` rows, and again in the backward pass.
    """

    num_classes: int
    hidden: Sequence[int] = (2000, 200)
    band_rows: int = 16
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: Features) -> Float[Array, "b h w classes"]:
        height, width = largest(features)
        widths = [sum(x.shape[-1] for x in features), *self.hidden, self.num_classes]
        kernels, biases = [], []
        for i, shape in enumerate(itertools.pairwise(widths)):
            kernel, bias = DenseWeights(*shape, name=f"dense_{i}")()
            kernels.append(kernel.astype(self.dtype))
            biases.append(bias.astype(self.dtype))
        pairs = list(zip(features, split_kernel(kernels[0], features), strict=True))
        full = [(x, kernel) for x, kernel in pairs if x.shape[1:3] == (height, width)]
        small = [(x, kernel) for x, kernel in pairs if x.shape[1:3] != (height, width)]
        by_size = project_by_size(*zip(*small, strict=True)) if small else {}
        # Half of every small map's upsampling is done here, the rows band by band.
        sums = {h: geometry.resize_bilinear(x, h, width) for (h, _), x in by_size.items()}

        rows = math.gcd(height, self.band_rows)

        def bands(x: Array) -> Array:  # [B, H, W, C] -> [H / rows, B, rows, W, C]
            return jnp.moveaxis(x.reshape(x.shape[0], -1, rows, *x.shape[2:]), 1, 0)

        interpolation = {
            h: upsampling_matrix(h, height).astype(self.dtype).reshape(-1, rows, h) for h in sums
        }

        @jax.checkpoint
        def band(inputs):
            maps, weights = inputs
            x = biases[0]
            for part, (_, kernel) in zip(maps, full, strict=True):
                x = x + part.astype(self.dtype) @ kernel
            for h, total in sums.items():
                x = x + jnp.einsum("rh,bhwf->brwf", weights[h], total)
            for kernel, bias in zip(kernels[1:], biases[1:], strict=True):
                x = jax.nn.relu(x) @ kernel + bias
            return x

        logits = jax.lax.map(band, ([bands(x) for x, _ in full], interpolation))
        logits = jnp.moveaxis(logits, 0, 1).reshape(-1, height, width, self.num_classes)
        return logits.astype(jnp.float32)


def upsampling_matrix(size: int, larger: int) -> Float[Array, "n m"]:
    """Returns the weights [larger, size] of `geometry.resize_bilinear` along one side."""
    identity = jnp.eye(size)[None, :, :, None]
    return geometry.resize_bilinear(identity, larger, size)[0, :, :, 0]


HeadKind = Literal["cnn", "mlp"]


def kind_of(settings: schema.FewShot) -> HeadKind:
    """Returns the settings' kind of head.

    Raises:
      ValueError: it is "auto", so `config.few_shot.settings_for` has yet to choose.
    """
    if settings.head_kind == "auto":
        raise ValueError("head_kind='auto': choose one by settings_for")
    return settings.head_kind


def make_head(
    kind: HeadKind, num_classes: int, mlp_hidden: Sequence[int] = MLPHead.hidden
) -> nn.Module:
    """Returns the head named "cnn" or "mlp"; `mlp_hidden` are the hidden layers of the second."""
    if kind == "cnn":
        return CNNHead(num_classes)
    if kind == "mlp":
        return MLPHead(num_classes, hidden=tuple(mlp_hidden))
    raise ValueError(f"head must be one of ('cnn', 'mlp'), not {kind!r}")
