"""The four independent latent variables of GANSeg."""

from collections.abc import Mapping

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ganseg_jax import prng, rules


@flax.struct.dataclass
class Latents:
    """Holds what an image is generated from (GANSeg section 3).

    Attributes:
      z_point: N(0, I), decides the points, and with them pose and shape.
      z_app: N(0, I), appearance of the parts.
      z_bg_app: N(0, I), appearance of the background.
      u_bg_pos: U([-1, 1]^2), (row, col) by which the background is shifted.
    """

    z_point: Float[Array, "*b d"]
    z_app: Float[Array, "*b d"]
    z_bg_app: Float[Array, "*b d"]
    u_bg_pos: Float[Array, "*b 2"]


@rules.usual(types=False)
def sample_latents(
    keys: jax.Array | Mapping[str, jax.Array], batch_size: int, noise_dim: int
) -> Latents:
    """Draws latents from their four streams.

    Args:
      keys: one key per stream (`prng.streams(key)`), or a single key to take the streams from.
      batch_size: number of images, B.
      noise_dim: D, dimension of the three normal variables.

    Returns:
      `Latents`, float32.
    """
    if not isinstance(keys, Mapping):
        keys = prng.streams(keys)
    shape = (batch_size, noise_dim)
    return Latents(
        z_point=jax.random.normal(keys["z_point"], shape, jnp.float32),
        z_app=jax.random.normal(keys["z_app"], shape, jnp.float32),
        z_bg_app=jax.random.normal(keys["z_bg_app"], shape, jnp.float32),
        u_bg_pos=jax.random.uniform(
            keys["u_bg_pos"], (batch_size, 2), jnp.float32, minval=-1.0, maxval=1.0
        ),
    )
