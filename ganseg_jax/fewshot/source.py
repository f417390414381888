"""Generators as sources of images and pixel features, and their latents as files."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ganseg_jax import rules
from ganseg_jax.errors import UserError
from ganseg_jax.fewshot.features import Features, Layer, generate, named_layers
from ganseg_jax.latents import Latents, sample_latents
from ganseg_jax.models.stylegan2 import StyleGAN2Generator, random_styles

# Feature maps of StyleGAN2 above this size are averaged down to it (CVPR 2021).
LARGEST_MAP = 512


@dataclasses.dataclass(frozen=True)
class Source:
    """Describes a trained generator with the layers that are its features; holds no arrays.

    The latents of GANSeg are `Latents`; those of StyleGAN2 are styles w [B, D] or w+ [B, L, D],
    because real images are projected to those.

    Attributes:
      module: `Generator` or `StyleGAN2Generator`.
      layers: see `features.named_layers`.
      max_size: larger maps are averaged down to this size (StyleGAN2 at 1024 px: 512).
      truncation: of StyleGAN2's random styles.
    """

    module: nn.Module
    layers: tuple[Layer, ...]
    max_size: int | None = None
    truncation: float = 1.0

    @classmethod
    def of(cls, module: nn.Module, groups: Sequence[str] = (), **settings: Any) -> "Source":
        """Returns the source with the generator's named layers."""
        return cls(module, named_layers(module, groups), **settings)

    @property
    def is_stylegan2(self) -> bool:
        """Says whether latents are styles."""
        return isinstance(self.module, StyleGAN2Generator)

    def image_size(self, variables: Any) -> int:
        """Returns the side of the generated images in pixels."""
        latents = jax.eval_shape(lambda v: self.sample(v, jax.random.key(0), 1), variables)
        return jax.eval_shape(self.images, variables, latents).shape[1]

    @rules.usual(types=False)
    def sample(self, variables: Any, key: jax.Array, batch: int) -> Any:
        """Draws latents of `batch` images."""
        if not isinstance(self.module, StyleGAN2Generator):
            return sample_latents(key, batch, self.module.noise_dim)
        mean = variables["latent_statistics"]["w_mean"]
        styles = random_styles(self.module, variables, key, batch)
        return mean + self.truncation * (styles - mean)

    @rules.usual(types=False)
    def generate(self, variables: Any, latents: Any) -> tuple[Float[Array, "b s s 3"], Features]:
        """Returns images in [-1, 1] and their features."""
        options = {"method": "synthesize"} if self.is_stylegan2 else {}
        output, features = generate(
            self.module, variables, latents, self.layers, max_size=self.max_size, **options
        )
        return self._image(output), features

    @rules.usual(types=False)
    def images(self, variables: Any, latents: Any) -> Float[Array, "b s s 3"]:
        """Returns images in [-1, 1]."""
        options = {"method": "synthesize"} if self.is_stylegan2 else {"train": False}
        return self._image(self.module.apply(variables, latents, **options))

    def _image(self, output: Any) -> Array:
        return output if self.is_stylegan2 else output.image


def latents_to_arrays(latents: Any) -> dict[str, np.ndarray]:
    """Returns latents as named arrays, one row for each image."""
    if isinstance(latents, Latents):
        return {
            field.name: np.asarray(getattr(latents, field.name))
            for field in dataclasses.fields(latents)
        }
    return {"w": np.asarray(latents)}


def latents_from_arrays(arrays: Mapping[str, np.ndarray], file: str) -> Any:
    """Returns the latents of named arrays; the inverse of `latents_to_arrays`.

    Raises:
      UserError: the arrays, read from `file`, are no latents.
    """
    if "w" in arrays:
        return jnp.asarray(arrays["w"])
    names = [field.name for field in dataclasses.fields(Latents)]
    missing = [name for name in names if name not in arrays]
    if missing:
        raise UserError(f"{file} holds no latents: {missing[0]!r} is missing")
    return Latents(**{name: jnp.asarray(arrays[name]) for name in names})
