"""Named random streams: every key is a pure function of (root key, step, name).

No key is ever carried from step to step or stored in a checkpoint, so a resumed run draws what
the uninterrupted one would have drawn.
"""

import zlib
from collections.abc import Sequence

import jax

LATENT_STREAMS = ("z_point", "z_app", "z_bg_app", "u_bg_pos")


def root_key(seed: int, fold: int = 0) -> jax.Array:
    """Returns the key that a run's others are folded from; `fold` > 0 gives another one."""
    key = jax.random.key(seed)
    return stream(key, f"fold_{fold}") if fold else key


def stream(key: jax.Array, name: str) -> jax.Array:
    """Returns the stream `name` of `key`; different names give independent keys."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def streams(key: jax.Array, names: Sequence[str] = LATENT_STREAMS) -> dict[str, jax.Array]:
    """Returns one key for each name."""
    return {name: stream(key, name) for name in names}


def step_key(root: jax.Array, step: jax.Array | int, scope: str) -> jax.Array:
    """Returns the key of one scope ("discriminator", "generator", ...) of one training step."""
    return stream(jax.random.fold_in(root, step), scope)
