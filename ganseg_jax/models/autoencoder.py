"""The auto-encoders that GANSeg is compared with: its generator behind encoders of the image.

He, Wandt, Rhodin, CVPR 2022, section 4.6: what the GAN draws from noise is read from the image to
be reconstructed. In the first, a U-Net gives the points and the mask generator stays; in the
second, DeepLab gives the masks themselves.
"""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ganseg_jax import geometry
from ganseg_jax.models.blocks import dense
from ganseg_jax.models.deeplab import DeepLabV3
from ganseg_jax.models.generator import Generator, GeneratorOutput
from ganseg_jax.models.initialise import standard_normal
from ganseg_jax.models.resnet import ResNet
from ganseg_jax.models.unet import UNet


class ImageEncoder(nn.Module):
    """Maps images to one vector each: ResNet-18, the mean over positions, a linear layer."""

    features: int
    width: float = 1.0
    stem_pool: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"], *, train: bool) -> Float[Array, "b f"]:
        x = ResNet(
            kind="resnet18",
            width=self.width,
            output_stride=32,
            stem_pool=self.stem_pool,
            dtype=self.dtype,
            name="resnet",
        )(images, train=train)
        return dense(self.features, name="out")(jnp.mean(x.astype(jnp.float32), axis=(1, 2)))


class AutoEncoder(nn.Module):
    """Maps images to the generator's output for them, the reconstruction included.

    Attributes:
      generator: whose mask generator (with `kind` "points") and image generators are used; it has
        parameters for nothing else.
      kind: "points", a U-Net gives a map for each of the K * P points, whose softmax over the
        pixels has the point as its mean; "masks", `segmenter` gives the masks.
      segmenter: DeepLab of K + 1 classes, for "masks".
      unet_width: channels of the U-Net at full size, for "points".
      unet_depth: its number of halvings.
      resnet_width: fraction of the channels of the two ResNet-18, one for the parts' w^dynamic,
        one for the background's style and position.
      stem_pool: their max pool.
      dtype: type to compute in.
    """

    generator: Generator
    kind: Literal["points", "masks"]
    segmenter: DeepLabV3 | None = None
    unet_width: int = 64
    unet_depth: int = 4
    resnet_width: float = 1.0
    stem_pool: bool = True
    dtype: Any = jnp.float32

    @property
    def image_size(self) -> int:
        """Returns S, the side of the images."""
        return self.generator.image_size

    @nn.compact
    def __call__(self, images: Float[Array, "b s s 3"], *, train: bool) -> GeneratorOutput:
        """Reconstructs images in [-1, 1].

        With "masks" there are no points, scales and heatmaps: all of a part's points lie at the
        centre of its mask's mass, the others are 0. In training the stream "dropout" is drawn from
        then.
        """
        parts, features = self.generator.num_parts, self.generator.embedding_dim

        def encoder(count: int, name: str) -> ImageEncoder:
            return ImageEncoder(count, self.resnet_width, self.stem_pool, self.dtype, name=name)

        constant = self.param("constant", standard_normal, (parts, features), jnp.float32)
        dynamic = encoder(features, "part_encoder")(images, train=train)
        embeddings = constant * dynamic[:, None, :]  # [B, K, E]
        background = encoder(features + 2, "background_encoder")(images, train=train)
        style, position = background[:, :features], jnp.tanh(background[:, features:])
        if self.kind == "points":
            points = self._points(images, train)
            return self.generator.decode(points, embeddings, style, position, train=train)
        assert self.segmenter is not None
        masks = jax.nn.softmax(self.segmenter(images, train=train).astype(jnp.float32))
        centers = geometry.mass_centers(masks[..., 1:], self.generator.grid)
        image = self.generator.paint(masks, centers, embeddings, style, position, train=train)
        per_part = (*centers.shape[:2], self.generator.points_per_part, 2)
        return GeneratorOutput(
            image=image,
            masks=masks,
            points=jnp.broadcast_to(centers[:, :, None, :], per_part),
            part_centers=centers,
            part_scales=jnp.zeros(centers.shape[:2], jnp.float32),
            part_embeddings=embeddings,
            heatmaps=jnp.zeros_like(masks[..., 1:]),
        )

    def _points(self, images: Array, train: bool) -> Float[Array, "b k p 2"]:
        g = self.generator
        count = g.num_parts * g.points_per_part
        network = UNet(count, self.unet_width, self.unet_depth, self.dtype, name="point_encoder")
        maps = jax.nn.softmax(network(images, train=train), axis=(1, 2))  # [B, S, S, K*P]
        points = geometry.mass_centers(maps, g.grid, epsilon=0.0)
        return points.reshape(-1, g.num_parts, g.points_per_part, 2)


class MaskReader(nn.Module):
    """Maps images in [-1, 1] to the logarithms of an auto-encoder's masks, as a segmenter."""

    autoencoder: AutoEncoder

    @property
    def num_classes(self) -> int:
        """Returns K + 1."""
        return self.autoencoder.generator.num_parts + 1

    def __call__(
        self, images: Float[Array, "b s s 3"], *, train: bool
    ) -> Float[Array, "b s s classes"]:
        """Returns logits, background first."""
        masks = self.autoencoder(images, train=train).masks
        return jnp.log(jnp.maximum(masks, 1e-30))

    @staticmethod
    def variables_of(autoencoder_variables: Any) -> dict[str, Any]:
        """Returns the reader's variables from those of its auto-encoder."""
        return {name: {"autoencoder": tree} for name, tree in autoencoder_variables.items()}
