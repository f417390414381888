"""DeepLabV3 (Chen et al. 2017), the segmenter of GANSeg.

Sources: "Rethinking Atrous Convolution for Semantic Image Segmentation" and the published
segmenter's settings: ResNet-50 v1.5 at output stride 8, atrous spatial pyramid with rates 12, 24
and 36, 256 channels, no auxiliary head.  Initial weights: backbone He-normal by fan-out, head
uniform in +-1/sqrt(fan_in) (what the published model began with), all biases zero.
"""

import functools
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ganseg_jax import rules
from ganseg_jax.models.blocks import BatchNorm
from ganseg_jax.models.convolution import Conv
from ganseg_jax.models.initialise import Initialiser, he_fan_out, he_normal, uniform_fan_in
from ganseg_jax.models.resnet import ResNet, scale_channels


class ASPP(nn.Module):
    """Computes 1x1, dilated 3x3 and image-pooling branches and projects them (ASPP)."""

    channels: int
    rates: tuple[int, ...]
    dropout_rate: float
    kernel_init: Initialiser = uniform_fan_in
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w f"]:
        def normalized(y: Array, name: str) -> Array:
            return nn.relu(BatchNorm(dtype=self.dtype, name=name)(y, train=train))

        conv = functools.partial(
            Conv,
            self.channels,
            use_bias=False,
            kernel_init=self.kernel_init,
            dtype=self.dtype,
        )

        def pointwise(y: Array, name: str) -> Array:
            return conv(kernel_size=1, name=name)(y)

        branches = [normalized(pointwise(x, "point_conv"), "point_bn")]
        for i, rate in enumerate(self.rates):
            y = conv(dilation=rate, name=f"atrous{i}_conv")(x)
            branches.append(normalized(y, f"atrous{i}_bn"))
        pooled = jnp.mean(x.astype(jnp.float32), (1, 2), keepdims=True).astype(self.dtype)
        pooled = normalized(pointwise(pooled, "pool_conv"), "pool_bn")  # [B, 1, 1, F]
        branches.append(jnp.broadcast_to(pooled, branches[0].shape))
        x = jnp.concatenate(branches, -1)
        x = normalized(pointwise(x, "project_conv"), "project_bn")
        return nn.Dropout(self.dropout_rate, deterministic=not train)(x)


class DeepLabV3(nn.Module):
    """Maps images to class logits of the same size: semantic segmentation.

    The defaults are the published segmenter (39,635,785 parameters at 9 classes).  For images of
    32 or 64 pixels on a CPU: `backbone="resnet18"`, `width=0.25`, `output_stride=2`,
    `stem_pool=False`, `atrous_rates=(2, 4, 6)`.

    Attributes:
      num_classes: parts and background (class 0).
      backbone: "resnet50" or "resnet18".
      width: fraction of the channels of backbone and head.
      output_stride: size of the image over that of the features.
      atrous_rates: dilations of the pyramid, in pixels of the feature map.
      stem_pool: the backbone's max pool.
      initialisation: "published", or "he" for He-normal weights by fan-in everywhere.
      dropout_rate: behind the pyramid, drawn from the stream "dropout" in training.
      dtype: type of the computation; logits are float32.
    """

    num_classes: int
    backbone: str = "resnet50"
    width: float = 1.0
    output_stride: int = 8
    atrous_rates: tuple[int, ...] = (12, 24, 36)
    stem_pool: bool = True
    initialisation: Literal["published", "he"] = "published"
    dropout_rate: float = 0.5
    dtype: Any = jnp.float32

    @nn.compact
    @rules.usual(types=False)
    def __call__(
        self, images: Float[Array, "b h w 3"], *, train: bool
    ) -> Float[Array, "b h w classes"]:
        """Returns class logits, float32, of images in [-1, 1] of any height and width."""
        channels = scale_channels(256, self.width)
        published = self.initialisation == "published"
        kernel_init = uniform_fan_in if published else he_normal
        x = ResNet(
            kind=self.backbone,
            width=self.width,
            output_stride=self.output_stride,
            stem_pool=self.stem_pool,
            kernel_init=he_fan_out if published else he_normal,
            dtype=self.dtype,
            name="backbone",
        )(images, train=train)
        rates = tuple(self.atrous_rates)
        x = ASPP(channels, rates, self.dropout_rate, kernel_init, self.dtype, name="aspp")(
            x, train=train
        )
        x = Conv(
            channels,
            use_bias=False,
            kernel_init=kernel_init,
            dtype=self.dtype,
            name="head_conv",
        )(x)
        x = nn.relu(BatchNorm(dtype=self.dtype, name="head_bn")(x, train=train))
        x = Conv(
            self.num_classes,
            1,
            kernel_init=kernel_init,
            dtype=self.dtype,
            name="classifier",
        )(x)
        # Never smaller than the features, so no antialiasing can come in.
        return jax.image.resize(
            x.astype(jnp.float32), (*images.shape[:3], self.num_classes), "linear"
        )
