"""DINO's vision transformers (v1, v2 and v3), in the namings of `vit_names`."""

import logging
import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from ganseg_jax.errors import UserError
from ganseg_jax.interop import conversion, vit_names
from ganseg_jax.interop.conversion import CONV, LINEAR, Entry, Variables, layer
from ganseg_jax.interop.vit_names import WHAT
from ganseg_jax.models.vit import HEAD_WIDTH, VisionTransformer, rope_periods

LOG = logging.getLogger(__name__)


def load_dino(content: Mapping[str, Any]) -> tuple[VisionTransformer, Variables]:
    """Loads a vision transformer; its settings are read off the shapes.

    A table of positions is resized as DINO's own code does, whatever program wrote the file.

    Args:
      content: names to arrays, or a whole training file; see `vit_names.find`.

    Raises:
      UserError: there is none, or one of another form (SwiGLU, heads of other widths); an entry is
        missing, unknown, or of another shape.
    """
    entries = vit_names.find(content)
    module = _module_of(entries)
    if module.table:
        entries["pos_embed"] = _with_first(entries["pos_embed"], module)
    else:
        entries.setdefault("periods", rope_periods())
    variables = conversion.to_variables(
        entries,
        _entries(module),
        conversion.variable_shapes(module, jnp.zeros((1, module.patch, module.patch, 3))),
        WHAT,
    )
    LOG.info("DINO: %s", describe(module))
    return module, variables


def describe(module: VisionTransformer) -> str:
    """Returns a network's size in words, for a log."""
    places = f"{module.table} x {module.table} learnt positions" if module.table else "rotations"
    return (
        f"{module.depth} blocks of width {module.width}, patches of {module.patch} px, "
        f"{module.registers} registers, {places}"
    )


def _module_of(entries: Mapping[str, Any]) -> VisionTransformer:
    shape = conversion.required_shape(entries, "patch_embed.weight", WHAT)
    if len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3]:
        raise UserError(
            f"{WHAT}: entry 'patch_embed.weight' has shape {shape}, but square patches of 3 "
            "colours are needed"
        )
    width, patch = shape[0], shape[2]
    if width % HEAD_WIDTH:
        raise UserError(f"{WHAT}: its width is {width}; a multiple of {HEAD_WIDTH} is needed")
    if gated := [name for name in entries if re.search(r"\.mlp\.(w12|w1|gate_proj|fc1_g)\.", name)]:
        raise UserError(
            f"{WHAT}: its MLPs are gated (SwiGLU, entry {gated[0]!r}), as those of the plus, huge, "
            "giant and 7B networks; take a small, base or large one"
        )
    blocks = [int(m[1]) for name in entries if (m := re.match(r"blocks\.(\d+)\.", name))]
    hidden = conversion.required_shape(entries, "blocks.0.mlp.fc1.weight", WHAT)[0]
    registers = 0
    if "register_tokens" in entries:
        registers = conversion.required_shape(entries, "register_tokens", WHAT)[-2]
    table = 0
    if "pos_embed" in entries:
        count = conversion.required_shape(entries, "pos_embed", WHAT)[-2]
        table = int(np.sqrt(count))
        if count - table**2 not in (0, 1):
            raise UserError(f"{WHAT}: entry 'pos_embed' has {count} places, which is no square")
    return VisionTransformer(
        width=width,
        depth=max(blocks) + 1,
        patch=patch,
        hidden=hidden,
        registers=registers,
        table=table,
        antialias=registers > 0,
        layer_scale="blocks.0.ls1.gamma" in entries,
        # DINOv3 alone has no table.
        epsilon=1e-6 if table else 1e-5,
    )


def _with_first(table: Any, module: VisionTransformer) -> np.ndarray:
    """Returns a table with the class token's place, which timm adds to the token itself."""
    table = np.asarray(table, np.float32)
    if table.shape[-2] == module.table**2:
        table = np.concatenate([np.zeros_like(table[:, :1]), table], 1)
    return table


def _entries(module: VisionTransformer) -> list[Entry]:
    entries = [
        *layer("patch_embed", "patch_embed", CONV),
        Entry("cls_token", "params/cls_token"),
        *_norm("norm", "norm"),
    ]
    if module.registers:
        entries.append(Entry("register_tokens", "params/register_tokens"))
    if module.table:
        entries.append(Entry("pos_embed", "params/pos_embed"))
    else:
        entries.append(Entry("periods", "constants/periods"))
    for index in range(module.depth):
        theirs, ours = f"blocks.{index}.", f"block_{index}/"
        names = {"attn.qkv": "qkv", "attn.proj": "proj", "mlp.fc1": "fc1", "mlp.fc2": "fc2"}
        for key, path in names.items():
            entries += layer(theirs + key, ours + path, LINEAR)
        for name in ("norm1", "norm2"):
            entries += _norm(theirs + name, ours + name)
        if module.layer_scale:
            for name in ("ls1", "ls2"):
                entries.append(Entry(f"{theirs}{name}.gamma", f"params/{ours}{name}"))
    return entries


def _norm(key: str, path: str) -> list[Entry]:
    scale = Entry(f"{key}.weight", f"params/{path}/scale")
    return [scale, Entry(f"{key}.bias", f"params/{path}/bias")]
