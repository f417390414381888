"""Vision transformers (Dosovitskiy et al. 2021) as dense feature extractors: DINO v1, v2 and v3.

The three differ in how a patch knows its place (a learnt table, resized to the image's grid, or
rotations of queries and keys), in register tokens (Darcet et al. 2024) and in LayerScale. Names of
layers are those of the published PyTorch models.
"""

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ganseg_jax.models.initialise import Initialiser, ones

HEAD_WIDTH = 64
"""Channels of a head in every published DINO network."""

ROPE_BASE = 100.0

_small = Initialiser("normal", 0.02)


class PatchOutput(NamedTuple):
    """Holds what the last block says of each patch.

    Attributes:
      tokens: normalised patch tokens, the network's features.
      keys: of the last attention, all heads beside each other, before rotation.
      attention: that the class token pays to each patch, each head; in [0, 1].
    """

    tokens: Float[Array, "b h w d"]
    keys: Float[Array, "b h w d"]
    attention: Float[Array, "b heads h w"]


class VisionTransformer(nn.Module):
    """Applies a vision transformer and returns what its last block says of each patch.

    Attributes:
      width: channels of a token, a multiple of 64.
      depth: number of blocks.
      patch: side of a patch in pixels.
      hidden: units of each block's MLP.
      registers: number of register tokens.
      table: side of the learnt table of positions, in patches; 0 turns queries and keys instead.
      antialias: resize the table with antialiasing to the grid's size, as networks with registers
        were trained, else by the grid's side plus 0.1, as those without.
      layer_scale: scale the result of attention and MLP by channel.
      epsilon: of the normalisations.
    """

    width: int
    depth: int
    patch: int
    hidden: int
    registers: int = 0
    table: int = 0
    antialias: bool = False
    layer_scale: bool = True
    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"]) -> PatchOutput:
        batch, width = images.shape[0], self.width
        side = (self.patch, self.patch)
        x = nn.Conv(width, side, side, "VALID", kernel_init=_small, name="patch_embed")(images)
        rows, cols = x.shape[1:3]
        x = x.reshape(batch, rows * cols, width)
        first = self.param("cls_token", _small, (1, 1, width))
        if self.table:
            learnt = self.param("pos_embed", _small, (1, 1 + self.table**2, width))
            first = first + learnt[:, :1]
            table = learnt[0, 1:].reshape(self.table, self.table, width)
            x = x + _resized(table, rows, cols, self.antialias).reshape(1, rows * cols, width)
        ahead = [first]
        if self.registers:
            ahead.append(self.param("register_tokens", _small, (1, self.registers, width)))
        ahead = [jnp.broadcast_to(token, (batch, *token.shape[1:])) for token in ahead]
        x = jnp.concatenate([*ahead, x], 1)
        turns = None
        if not self.table:
            periods = self.variable("constants", "periods", lambda: jnp.asarray(rope_periods()))
            turns = rotations(periods.value, rows, cols)
        for index in range(self.depth):
            block = Block(self.hidden, self.layer_scale, self.epsilon, name=f"block_{index}")
            x, keys, attention = block(x, turns)
        x = nn.LayerNorm(self.epsilon, use_fast_variance=False, name="norm")(x)
        begin = 1 + self.registers
        return PatchOutput(
            x[:, begin:].reshape(batch, rows, cols, width),
            keys[:, begin:].reshape(batch, rows, cols, width),
            attention[:, :, 0, begin:].reshape(batch, -1, rows, cols),
        )


class Block(nn.Module):
    """Applies attention and an MLP, each to normalised tokens and added to them.

    Attributes:
      hidden: units of the MLP.
      layer_scale: scale both results by channel.
      epsilon: of the normalisations.
    """

    hidden: int
    layer_scale: bool
    epsilon: float

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n d"], turns: tuple[Array, Array] | None
    ) -> tuple[Float[Array, "b n d"], Float[Array, "b n heads c"], Float[Array, "b heads n n"]]:
        batch, tokens, width = x.shape

        def normalised(x, name):
            return nn.LayerNorm(self.epsilon, use_fast_variance=False, name=name)(x)

        def dense(x, units, name):
            return nn.Dense(units, kernel_init=_small, name=name)(x)

        def scaled(x, name):
            return x * self.param(name, ones, (width,)) if self.layer_scale else x

        qkv = dense(normalised(x, "norm1"), 3 * width, "qkv")
        qkv = qkv.reshape(batch, tokens, 3, width // HEAD_WIDTH, HEAD_WIDTH)
        query, keys, value = (qkv[:, :, i] for i in range(3))  # [B, N, heads, 64]
        turned = keys
        if turns is not None:
            query, turned = turn(query, *turns), turn(keys, *turns)
        logits = jnp.einsum("bqhc,bkhc->bhqk", query, turned) / math.sqrt(HEAD_WIDTH)
        attention = jax.nn.softmax(logits, -1)
        seen = jnp.einsum("bhqk,bkhc->bqhc", attention, value).reshape(x.shape)
        x = x + scaled(dense(seen, width, "proj"), "ls1")
        y = nn.gelu(dense(normalised(x, "norm2"), self.hidden, "fc1"), approximate=False)
        return x + scaled(dense(y, width, "fc2"), "ls2"), keys, attention


def rope_periods() -> Float[np.ndarray, "16"]:
    """Returns the periods of rotation of a head of DINOv3, in half images."""
    count = HEAD_WIDTH // 4
    return (ROPE_BASE ** (np.arange(count) / count)).astype(np.float32)


def rotations(
    periods: Float[Array, " q"], rows: int, cols: int
) -> tuple[Float[Array, "n c"], Float[Array, "n c"]]:
    """Returns sine and cosine of the angles by which each patch's channels are turned.

    Patch centres lie in [-1, 1] along both sides. A quarter of the channels belongs to the row, a
    quarter to the column, and these again to the other halves of the pairs.
    """
    places = [(2 * np.arange(count) + 1) / count - 1 for count in (rows, cols)]
    grid = np.stack(np.meshgrid(*places, indexing="ij"), -1).reshape(-1, 2).astype(np.float32)
    angles = 2 * math.pi * jnp.asarray(grid)[:, :, None] / periods  # [N, 2, C / 4]
    angles = jnp.tile(angles.reshape(len(grid), -1), 2)
    return jnp.sin(angles), jnp.cos(angles)


def turn(
    x: Float[Array, "b n heads c"], sine: Float[Array, "p c"], cosine: Float[Array, "p c"]
) -> Float[Array, "b n heads c"]:
    """Returns queries or keys with those of the patches, which come last, turned by their place."""
    ahead, patches = jnp.split(x, [x.shape[1] - sine.shape[0]], 1)
    first, second = jnp.split(patches, 2, -1)
    swapped = jnp.concatenate([-second, first], -1)
    turned = patches * cosine[:, None] + swapped * sine[:, None]
    return jnp.concatenate([ahead, turned], 1)


def _resized(
    table: Float[Array, "m m d"], rows: int, cols: int, antialias: bool
) -> Float[Array, "r c d"]:
    """Returns the table of positions for another grid."""
    if table.shape[:2] == (rows, cols):
        return table
    if antialias:
        return jax.image.resize(table, (rows, cols, table.shape[2]), "cubic")
    by_row, by_col = (jnp.asarray(_cubic(table.shape[0], count)) for count in (rows, cols))
    return jnp.einsum("rm,cn,mnd->rcd", by_row, by_col, table)


def _cubic(before: int, after: int) -> Float[np.ndarray, "r m"]:
    """Returns the matrix of PyTorch's bicubic resizing by the factor (after + 0.1) / before.

    Its kernel has the parameter -0.75, and places beyond the ends take the value there.
    """
    place = (np.arange(after) + 0.5) * before / (after + 0.1) - 0.5
    start = np.floor(place).astype(int)
    matrix = np.zeros((after, before))
    for tap in range(-1, 3):
        away = np.abs(place - (start + tap))
        near = (1.25 * away - 2.25) * away**2 + 1
        far = -0.75 * (((away - 5) * away + 8) * away - 4)
        weight = np.where(away <= 1, near, far)
        np.add.at(matrix, (np.arange(after), np.clip(start + tap, 0, before - 1)), weight)
    return matrix.astype(np.float32)
