"""Makes the golden numbers of NVIDIA's StyleGAN2, in an environment of its own with PyTorch.

    PYTHONPATH=CHECKOUT:. python -m tests.interop.nvidia_goldens MODULE

CHECKOUT is a copy of stylegan2-ada-pytorch (MODULE: training.networks) or of stylegan3 (MODULE:
training.networks_stylegan2). The weights are a function of each entry's name, so that only what the
original computes is kept.
"""

import importlib
import sys
import zlib
from pathlib import Path

import numpy as np

GOLDENS = Path(__file__).parent / "goldens"
CASES = {
    "training.networks": ("nvidia_ada", {"label_dim": 3, "size": 16, "clamp": 1.5}),
    "training.networks_stylegan2": ("nvidia_stylegan3", {"label_dim": 0, "size": 8, "clamp": None}),
}
STYLE_DIM, LAYERS, BASE, MOST = 8, 2, 64, 8


def weight(name, shape):
    """An entry's value, for the tests as well."""
    x = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith("resample_filter"):
        x = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64
    elif name.startswith("mapping.fc") and name.endswith("weight"):
        x = x / 0.01
    elif name.endswith("affine.bias"):
        x = 1 + 0.1 * x
    elif name.endswith(("bias", "noise_strength")):
        x = 0.3 * x
    return np.asarray(x, np.float32)


def shapes(size, label_dim, style_dim=STYLE_DIM, layers=LAYERS, base=BASE, most=MOST):
    """Names and shapes of a generator's entries."""
    found = {"synthesis.b4.const": (min(base // 4, most), 4, 4), "mapping.w_avg": (style_dim,)}

    def dense(name, outputs, inputs):
        found[f"{name}.weight"], found[f"{name}.bias"] = (outputs, inputs), (outputs,)

    def conv(name, outputs, inputs, kernel, side=0):
        found[f"{name}.weight"] = (outputs, inputs, kernel, kernel)
        found[f"{name}.bias"] = (outputs,)
        dense(f"{name}.affine", inputs, style_dim)
        if side:
            found[f"{name}.resample_filter"] = (4, 4)
            found[f"{name}.noise_const"] = (side, side)
            found[f"{name}.noise_strength"] = ()

    if label_dim:
        dense("mapping.embed", style_dim, label_dim)
    for i in range(layers):
        dense(f"mapping.fc{i}", style_dim, style_dim * (2 if label_dim and not i else 1))
    side, inputs = 4, 0
    while side <= size:
        channels, block = min(base // side, most), f"synthesis.b{side}"
        found[f"{block}.resample_filter"] = (4, 4)
        if inputs:
            conv(f"{block}.conv0", channels, inputs, 3, side)
        conv(f"{block}.conv1", channels, channels, 3, side)
        conv(f"{block}.torgb", 3, channels, 1)
        side, inputs = 2 * side, channels
    return found


def main():
    import torch

    name, case = CASES[sys.argv[1]]
    networks = importlib.import_module(sys.argv[1])
    synthesis = {"channel_base": BASE, "channel_max": MOST, "conv_clamp": case["clamp"]}
    synthesis["num_fp16_res"] = 2 if case["clamp"] else 0
    flat = sys.argv[1].endswith("stylegan2")
    generator = networks.Generator(
        z_dim=STYLE_DIM, c_dim=case["label_dim"], w_dim=STYLE_DIM, img_resolution=case["size"],
        img_channels=3, mapping_kwargs={"num_layers": LAYERS},
        **(synthesis if flat else {"synthesis_kwargs": synthesis}),
    ).eval()  # fmt: skip
    state = {k: tuple(v.shape) for k, v in generator.state_dict().items()}
    assert state == shapes(case["size"], case["label_dim"]), "the names or shapes are others"
    generator.load_state_dict({k: torch.from_numpy(weight(k, s)) for k, s in state.items()})
    activations = {}
    for path, module in generator.named_modules():
        if path.endswith(("conv0", "conv1")):
            module.register_forward_hook(
                lambda _, __, out, path=path: activations.update({path: out[:, ::4].numpy()})
            )
    z = np.random.default_rng(0).standard_normal((1, STYLE_DIM)).astype(np.float32)
    labels = np.zeros((1, case["label_dim"]), np.float32)
    labels[:, 1:2] = 1
    options = {"noise_mode": "const", "force_fp32": True}
    with torch.no_grad():
        inputs = torch.from_numpy(z), torch.from_numpy(labels)
        truncated = generator(*inputs, truncation_psi=0.7, **options)
        image = generator(*inputs, **options)
    np.savez_compressed(
        GOLDENS / f"{name}.npz", z=z, labels=labels, image=image.numpy(),
        truncated=truncated.numpy(), **{f"activation/{k}": v for k, v in activations.items()},
    )  # fmt: skip


if __name__ == "__main__":
    main()
