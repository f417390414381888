"""Augmentation of what the discriminator sees, photos and fakes alike, differentiable.

Zhao, Liu, Lin, Zhu, Han: Differentiable Augmentation for Data-Efficient GAN Training (NeurIPS
2020). A discriminator that never sees the photos themselves cannot learn them by heart, and since
fakes are changed the same way, the generator learns unchanged images all the same.
"""

from collections.abc import Sequence
from typing import Literal, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ganseg_jax import prng
from ganseg_jax.errors import UserError
from ganseg_jax.precision import EXACT

Change = Literal["color", "translation", "cutout"]

CHANGES = ("color", "translation", "cutout")
"""In the order in which they are applied."""

_LONGEST_SHIFT = 1 / 8  # Of the image's side.
_HOLE = 1 / 2


def changes_of(given: str) -> tuple[Change, ...]:
    """Returns the names in a value of `gan.discriminator_augment`.

    Raises:
      UserError: naming the one that is unknown.
    """
    changes = tuple(filter(None, (name.strip() for name in given.split(","))))
    for name in changes:
        if name not in CHANGES:
            raise UserError(
                f"gan.discriminator_augment={given!r}: {name!r} is none of {', '.join(CHANGES)}"
            )
    return cast(tuple[Change, ...], changes)


def change_images(
    key: jax.Array, images: Float[Array, "b s s 3"], changes: Sequence[Change]
) -> Float[Array, "b s s 3"]:
    """Changes every image by random amounts of its own.

    - "color": brightness by up to 1/2 up or down, saturation by 0 to 2, contrast by 1/2 to 3/2.
    - "translation": whole pixels, by up to an eighth of the side, with grey moved in.
    - "cutout": a grey square of half the side, its centre anywhere in the image.

    Args:
      key: two calls with one key and shape change the images alike.
      images: in [-1, 1], though they may leave it; 0 is grey.
      changes: names out of `CHANGES`; () gives the images back.
    """
    for name in CHANGES:
        if name in changes:
            images = _CHANGES[name](prng.stream(key, name), images)
    return images


def _color(key: jax.Array, images: Array) -> Array:
    amounts = jax.random.uniform(key, (3, images.shape[0], 1, 1, 1), jnp.float32)
    images += amounts[0] - 0.5
    grey = jnp.mean(images, axis=3, keepdims=True)
    images = grey + (images - grey) * 2.0 * amounts[1]
    mean = jnp.mean(images, axis=(1, 2, 3), keepdims=True)
    return mean + (images - mean) * (amounts[2] + 0.5)


def _translation(key: jax.Array, images: Array) -> Array:
    size = images.shape[1]
    longest = int(size * _LONGEST_SHIFT + 0.5)
    shifts = jax.random.randint(key, (2, images.shape[0], 1, 1), -longest, longest + 1)
    # Products with shifted identities, which every device does well, and in parallel over images.
    place = jnp.arange(size)
    rows, cols = (place[:, None] == place[None, :] + shifts).astype(images.dtype)  # [B, S, S]
    return jnp.einsum("bij,bjkc,blk->bilc", rows, images, cols, precision=EXACT)


def _cutout(key: jax.Array, images: Array) -> Array:
    size = images.shape[1]
    hole = int(size * _HOLE + 0.5)
    starts = jax.random.randint(key, (2, images.shape[0], 1), 0, size) - hole // 2
    place = jnp.arange(size)
    rows, cols = (starts <= place) & (place < starts + hole)  # [B, S]
    return jnp.where((rows[:, :, None] & cols[:, None, :])[..., None], 0.0, images)


_CHANGES = {"color": _color, "translation": _translation, "cutout": _cutout}
