"""Makes the golden numbers of DINO's networks, in an environment of its own with PyTorch.

    PYTHONPATH=CHECKOUT:. python -m tests.interop.dino_goldens CASE

CHECKOUT is a copy of the published code of DINO (CASE: v1), DINOv2 (v2, v2_registers) or DINOv3
(v3). The weights are a function of each entry's name, so that only what the original computes is
kept, and of that every eighth channel.
"""

import functools
import importlib
import sys
import zlib
from pathlib import Path

import numpy as np

GOLDENS = Path(__file__).parent / "goldens"
WIDTH, HEADS, DEPTH, EVERY = 128, 2, 2, 8

# Patch, side of the learnt table, registers, side of the images: tables are enlarged and shrunk.
CASES = {"v1": (8, 4, 0, 40), "v2": (14, 4, 0, 42), "v2_registers": (14, 4, 4, 98)}
CASES["v3"] = (16, 0, 4, 64)


def weight(name, shape):
    """An entry's value, for the tests as well."""
    x = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith("bias_mask"):
        x = np.repeat([1.0, 0, 1], shape[0] // 3)  # Of queries, keys, values.
    elif name.endswith("periods"):
        x = 100.0 ** (np.arange(shape[0]) / shape[0])
    elif name.endswith(".gamma"):
        x = 0.5 + 0.2 * x
    elif "norm" in name and name.endswith("weight"):
        x = 1 + 0.2 * x
    elif name.endswith("weight"):
        x = 1.5 * x / np.sqrt(np.prod(shape[1:]))
    else:
        x = 0.3 * x
    return np.asarray(x, np.float32)


def shapes(case):
    """Names and shapes of a network's entries, as published."""
    patch, table, registers, _ = CASES[case]
    found = {"cls_token": (1, 1, WIDTH), "patch_embed.proj.weight": (WIDTH, 3, patch, patch)}
    found["patch_embed.proj.bias"] = (WIDTH,)
    if case != "v1":
        found["mask_token"] = (1, WIDTH)
    if registers:
        name = "register_tokens" if table else "storage_tokens"
        found[name] = (1, registers, WIDTH)
    if table:
        found["pos_embed"] = (1, 1 + table**2, WIDTH)
    else:
        found["rope_embed.periods"] = (WIDTH // HEADS // 4,)

    def dense(name, outputs, inputs):
        found[f"{name}.weight"], found[f"{name}.bias"] = (outputs, inputs), (outputs,)

    for block in (f"blocks.{index}." for index in range(DEPTH)):
        dense(f"{block}attn.qkv", 3 * WIDTH, WIDTH)
        dense(f"{block}attn.proj", WIDTH, WIDTH)
        dense(f"{block}mlp.fc1", 4 * WIDTH, WIDTH)
        dense(f"{block}mlp.fc2", WIDTH, 4 * WIDTH)
        if not table:
            found[f"{block}attn.qkv.bias_mask"] = (3 * WIDTH,)
        for norm in ("norm1", "norm2"):
            found |= {f"{block}{norm}.weight": (WIDTH,), f"{block}{norm}.bias": (WIDTH,)}
        if case != "v1":
            found |= {f"{block}ls1.gamma": (WIDTH,), f"{block}ls2.gamma": (WIDTH,)}
    return found | {"norm.weight": (WIDTH,), "norm.bias": (WIDTH,)}


def state_dict(case):
    """A network's entries, as published."""
    return {name: weight(name, shape) for name, shape in shapes(case).items()}


def images(case):
    """What the network sees: one normalised image."""
    side = CASES[case][3]
    return np.random.default_rng(7).standard_normal((1, side, side, 3)).astype(np.float32)


def _network(case):
    patch, table, registers, _ = CASES[case]
    settings = {"patch_size": patch, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
    if case == "v1":
        import torch

        norm = functools.partial(torch.nn.LayerNorm, eps=1e-6)
        module = importlib.import_module("vision_transformer")
        return module.VisionTransformer(
            img_size=[patch * table], qkv_bias=True, norm_layer=norm, **settings
        )
    module = importlib.import_module(f"dino{case[:2]}.models.vision_transformer")
    if case == "v3":
        settings |= {"layerscale_init": 1e-5, "norm_layer": "layernormbf16", "mask_k_bias": True}
        settings |= {"n_storage_tokens": registers, "pos_embed_rope_dtype": "fp32"}
    else:
        settings |= {"init_values": 1.0, "block_chunks": 0, "img_size": patch * table}
        settings["num_register_tokens"] = registers
        settings["interpolate_antialias"] = registers > 0
        settings["interpolate_offset"] = 0.0 if registers else 0.1
    return module.DinoVisionTransformer(**settings)


def main(case):
    import torch

    torch.set_grad_enabled(False)
    network = _network(case)
    network.load_state_dict({k: torch.from_numpy(v) for k, v in state_dict(case).items()})
    network.eval()
    seen = []
    network.blocks[-1].attn.qkv.register_forward_hook(lambda module, inputs, out: seen.append(out))
    x = torch.from_numpy(images(case)).permute(0, 3, 1, 2)
    (tokens,) = network.get_intermediate_layers(x, n=1)
    begin = 1 + CASES[case][2]
    tokens = tokens[:, 1:] if case == "v1" else tokens  # Later versions leave the class token out.
    kept = {"tokens": tokens, "keys": seen[0][:, begin:, WIDTH : 2 * WIDTH]}
    if case == "v1":
        kept["attention"] = network.get_last_selfattention(x)[:, :, 0, 1:]
    kept = {k: v[..., ::EVERY] if k != "attention" else v for k, v in kept.items()}
    np.savez_compressed(GOLDENS / f"dino_{case}.npz", **{k: v.numpy() for k, v in kept.items()})


if __name__ == "__main__":
    main(sys.argv[1])
