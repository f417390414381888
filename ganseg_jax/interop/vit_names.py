"""Finds the vision transformer in files of DINO and gives its entries their published names.

Three namings are in use: that of the published code (`blocks.0.attn.qkv.weight`), timm's, which
differs in a few words, and that of Hugging Face's transformers, where queries, keys and values are
entries of their own (`encoder.layer.0.attention.attention.query.weight`).
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ganseg_jax.errors import UserError
from ganseg_jax.interop.resnet_names import arrays_of, chosen

WHAT = "vision transformer"

_ANCHOR = re.compile(
    r"((?:.*\.)?)(?:patch_embed\.proj|embeddings\.patch_embeddings(?:\.projection)?)\.weight"
)

_PUBLISHED = (
    (r"patch_embed\.proj\.(weight|bias)", r"patch_embed.\1"),
    (r"(?:reg_token|register_tokens|storage_tokens)", "register_tokens"),
    (r"rope_embed\.periods", "periods"),
    # Training programs that shard a network number its chunks before the blocks.
    (r"blocks\.\d+\.(\d+)\.(.*)", r"blocks.\1.\2"),
    (r"blocks\.(\d+)\.gamma_([12])", r"blocks.\1.ls\2.gamma"),
)

_TRANSFORMERS = (
    (r"embeddings\.(cls_token|mask_token|register_tokens)", r"\1"),
    (r"embeddings\.position_embeddings", "pos_embed"),
    (r"embeddings\.patch_embeddings\.(?:projection\.)?(weight|bias)", r"patch_embed.\1"),
    (r"layernorm\.(weight|bias)", r"norm.\1"),
    (r"(?:encoder\.|model\.)?layers?\.(\d+)\.(.*)", r"blocks.\1.\2"),
)

_TRANSFORMERS_BLOCK = (
    (r"attention\.(?:attention\.)?(query|key|value)\.(.*)", r"\1.\2"),
    (r"attention\.([qkv])_proj\.(.*)", r"\1.\2"),
    (r"attention\.(?:output\.dense|o_proj)\.(.*)", r"attn.proj.\1"),
    (r"layer_scale([12])\.lambda1", r"ls\1.gamma"),
    (r"layernorm_before\.(.*)", r"norm1.\1"),
    (r"layernorm_after\.(.*)", r"norm2.\1"),
    (r"(?:intermediate\.dense|mlp\.up_proj)\.(.*)", r"mlp.fc1.\1"),
    (r"(?:output\.dense|mlp\.down_proj)\.(.*)", r"mlp.fc2.\1"),
)

_PARTS = ("query", "key", "value")

_LEFT_OUT = re.compile(
    r"mask_token|(head|pooler|classifier|local_cls_norm|cls_norm|dino_head|ibot_head|last_layer)\..*"
)


def find(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a file's vision transformer by its published names, without heads.

    Tokens and tables keep their shapes; queries, keys and values are one entry, with a bias; the
    mask of DINOv3's key biases is applied.

    Args:
      content: names to arrays, nested as the file is.

    Raises:
      UserError: there is none, or there are several and none is the one that is usually taken.
    """
    arrays = arrays_of(content)
    prefixes = dict.fromkeys(match[1] for name in arrays if (match := _ANCHOR.fullmatch(name)))
    if not prefixes:
        held = ", ".join(sorted({name.split(".")[0] for name in arrays})[:6]) or "no arrays"
        raise UserError(
            f"{WHAT}: the file has none (no 'patch_embed.proj.weight' and no "
            f"'embeddings.patch_embeddings.projection.weight'); it holds {held}"
        )
    prefix = chosen(list(prefixes), WHAT)
    inner = {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
    theirs = any(name.startswith("embeddings.") for name in inner)
    entries = {}
    for name, array in inner.items():
        renamed = _renamed(name, _TRANSFORMERS if theirs else _PUBLISHED)
        block = re.fullmatch(r"(blocks\.\d+\.)(.*)", renamed)
        if theirs and block:
            renamed = block[1] + _renamed(block[2], _TRANSFORMERS_BLOCK)
        if not _LEFT_OUT.fullmatch(renamed):
            entries[renamed] = array
    return _with_whole_attention(entries)


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        if match := re.fullmatch(pattern, name):
            return match.expand(replacement)
    return name


def _with_whole_attention(entries: dict[str, Any]) -> dict[str, Any]:
    """Puts queries, keys and values together; a bias that a file leaves out is zero."""
    entries = dict(entries)
    short = dict(zip("qkv", _PARTS, strict=True))
    blocks = {m[1] for name in entries if (m := re.match(r"(blocks\.\d+\.)", name))}
    for block in blocks:
        for part, name in short.items():
            for old, new in (
                (f"{part}.weight", f"{name}.weight"),
                (f"{part}.bias", f"{name}.bias"),
                (f"attn.{part}_bias", f"{name}.bias"),
            ):
                if block + old in entries:
                    entries[block + new] = entries.pop(block + old)
        weights = [entries.pop(f"{block}{name}.weight", None) for name in _PARTS]
        if all(weight is not None for weight in weights):
            entries[f"{block}attn.qkv.weight"] = np.concatenate(weights)
        weight = entries.get(f"{block}attn.qkv.weight")
        if weight is None or np.ndim(weight) != 2:
            continue
        third = np.zeros(len(weight) // 3, np.float32)
        biases = [entries.pop(f"{block}{name}.bias", third) for name in _PARTS]
        bias = entries.setdefault(f"{block}attn.qkv.bias", np.concatenate(biases))
        mask = entries.pop(f"{block}attn.qkv.bias_mask", None)
        if mask is not None:
            # What is masked may hold anything, NaN too.
            entries[f"{block}attn.qkv.bias"] = np.where(np.asarray(mask) > 0, bias, 0)
    return entries
