"""DINO's networks give the original's features, from files in every usual naming."""

import re

import jax
import numpy as np
import pytest

from ganseg_jax.errors import UserError
from ganseg_jax.interop.torch_dino import load_dino
from tests.interop import dino_goldens as golden


@pytest.mark.parametrize("case", golden.CASES)
def test_features_are_those_of_the_published_code(case):
    module, variables = load_dino(golden.state_dict(case))
    got = jax.jit(module.apply)(variables, golden.images(case))
    with np.load(golden.GOLDENS / f"dino_{case}.npz") as expected:
        for name in ("tokens", "keys"):
            value = np.asarray(getattr(got, name))[..., :: golden.EVERY]
            np.testing.assert_allclose(
                value.reshape(expected[name].shape), expected[name], atol=1e-5, rtol=1e-5
            )
        if "attention" in expected:
            value = np.asarray(got.attention).reshape(expected["attention"].shape)
            np.testing.assert_allclose(value, expected["attention"], atol=2e-6)


def in_transformers(state_dict):
    """The entries as Hugging Face's transformers name them."""
    new_style = "rope_embed.periods" in state_dict
    scaled = "blocks.0.ls1.gamma" in state_dict
    rules = [
        (
            r"patch_embed\.proj",
            "embeddings.patch_embeddings" + ("" if new_style else ".projection"),
        ),
        (r"pos_embed", "embeddings.position_embeddings"),
        (r"(?:register|storage)_tokens", "embeddings.register_tokens"),
        (r"(cls_token|mask_token)", r"embeddings.\1"),
        (r"^norm\.", "norm." if new_style else "layernorm."),
        (r"\.ls([12])\.gamma", r".layer_scale\1.lambda1"),
        (r"blocks\.", "layer." if new_style else "encoder.layer."),
        (r"attn\.proj", "attention.o_proj" if new_style else "attention.output.dense"),
    ]
    if new_style:
        rules += [(r"mlp\.fc1", "mlp.up_proj"), (r"mlp\.fc2", "mlp.down_proj")]
    elif not scaled:
        rules += [(r"mlp\.fc1", "intermediate.dense"), (r"mlp\.fc2", "output.dense")]
        rules += [(r"\.norm1", ".layernorm_before"), (r"\.norm2", ".layernorm_after")]
    names = ("q_proj", "k_proj", "v_proj") if new_style else ("query", "key", "value")
    inner = "attention." if new_style else "attention.attention."
    found = {}
    for name, value in state_dict.items():
        if name.endswith(("periods", "bias_mask")):
            continue
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        if "attn.qkv" not in name:
            found[name] = value
            continue
        for part, share in zip(names, np.split(value, 3), strict=True):
            if not (new_style and part == "k_proj" and name.endswith("bias")):
                found[name.replace("attn.qkv", inner + part)] = share
    return found


def in_timm(state_dict):
    """The entries as timm names them; where there are registers, it adds a place to a token."""
    found = {re.sub("(register|storage)_tokens", "reg_token", k): v for k, v in state_dict.items()}
    if "pos_embed" in found and "reg_token" in found:
        found["cls_token"] = found["cls_token"] + found["pos_embed"][:, :1]
        found["pos_embed"] = found["pos_embed"][:, 1:]
    if "rope_embed.periods" in found:
        found = {re.sub(r"ls([12])\.gamma", r"gamma_\1", k): v for k, v in found.items()}
        for block in ("blocks.0.", "blocks.1."):
            mask = found.pop(f"{block}attn.qkv.bias_mask")
            query, _, value = np.split(found.pop(f"{block}attn.qkv.bias") * mask, 3)
            found |= {f"{block}attn.q_bias": query, f"{block}attn.v_bias": value}
        del found["rope_embed.periods"]
    return found


@pytest.mark.parametrize("naming", [in_transformers, in_timm])
@pytest.mark.parametrize("case", golden.CASES)
def test_namings_mean_the_same(case, naming):
    published = golden.state_dict(case)
    module, expected = load_dino(published)
    other, variables = load_dino(naming(published))
    assert module == other
    first = expected["params"]["cls_token"]
    if naming is in_timm and case == "v2_registers":
        expected["params"]["cls_token"] = first + expected["params"]["pos_embed"][:, :1]
        expected["params"]["pos_embed"][:, 0] = 0
    jax.tree.map(np.testing.assert_array_equal, variables, expected)


def test_training_files_hold_the_teacher():
    published = golden.state_dict("v2")
    _, expected = load_dino(published)
    chunked = {
        "backbone." + re.sub(r"^blocks\.", "blocks.0.", name): value
        for name, value in published.items()
    }
    other = {name: value + 1 for name, value in chunked.items()}
    content = {"teacher": {**chunked, "dino_head.mlp.0.weight": np.ones(3)}, "student": other}
    _, variables = load_dino(content)
    jax.tree.map(np.testing.assert_array_equal, variables, expected)


def without(name):
    return {k: v for k, v in golden.state_dict("v2").items() if k != name}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"conv1.weight": np.ones(3)}, "has none .*; it holds conv1"),
        (without("blocks.1.attn.qkv.weight"), "lacks entry 'blocks.1.attn.qkv.weight'"),
        (without("blocks.0.mlp.fc1.weight"), "lacks entry 'blocks.0.mlp.fc1.weight'"),
        (without("norm.bias"), "lacks entry 'norm.bias'"),
        ({**without(""), "decoder.weight": np.ones(3)}, "no place for entry 'decoder.weight'"),
        (
            {**without(""), "blocks.0.mlp.w12.weight": np.ones((8, 8))},
            "its MLPs are gated .SwiGLU, entry 'blocks.0.mlp.w12.weight'",
        ),
        (
            {**without(""), "patch_embed.proj.weight": np.ones((96, 3, 14, 14))},
            "width is 96; a multiple of 64",
        ),
        (
            {**without(""), "pos_embed": np.ones((1, 20, 128))},
            "'pos_embed' has 20 places, which is no square",
        ),
        (
            {**without(""), "blocks.0.attn.proj.bias": np.ones(64)},
            r"'blocks.0.attn.proj.bias' has shape \(64,\), but the network needs \(128,\)",
        ),
    ],
)
def test_other_files_are_answered_in_one_line(content, message):
    with pytest.raises(UserError, match=message) as caught:
        load_dino(content)
    assert "\n" not in str(caught.value)
