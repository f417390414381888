"""NVIDIA's StyleGAN2: parity with the original, settings read off the file, others refused."""

import jax
import numpy as np
import pytest

from ganseg_jax.errors import UserError
from ganseg_jax.interop import weights
from ganseg_jax.interop.torch_stylegan2 import load_generator
from ganseg_jax.models.stylegan2 import random_styles
from tests.interop import torch_files
from tests.interop.nvidia_goldens import CASES, GOLDENS, STYLE_DIM, shapes, weight

ATTRIBUTES = {
    "img_channels": 3,
    "synthesis.b8.architecture": "skip",
    "synthesis.b8.conv0.activation": "lrelu",
    "mapping.fc0.bias_gain": 0.01,
}


def clamps(limit, size):
    sides = [2**i for i in range(2, size.bit_length())]
    names = [f"synthesis.b{side}.{part}" for side in sides for part in ("conv1", "torgb")]
    return {f"{name}.conv_clamp": limit for name in names}


def network(size=8, label_dim=0, clamp=None):
    arrays = {name: weight(name, shape) for name, shape in shapes(size, label_dim).items()}
    return torch_files.Network("Generator", arrays, {**ATTRIBUTES, **clamps(clamp, size)})


def relative(actual, expected):
    expected = np.moveaxis(expected, 1, -1)
    return np.abs(actual - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize(("name", "case"), CASES.values())
def test_parity_with_the_original(tmp_path, name, case):
    golden = np.load(GOLDENS / f"{name}.npz")
    path = tmp_path / "network-snapshot.pkl"
    other = torch_files.Network("Discriminator", {"b4.conv.weight": np.ones((1, 1), np.float32)})
    content = {"G": other, "D": other, "G_ema": network(**case), "training_set_kwargs": None}
    path.write_bytes(torch_files.pickled(content))
    module, variables = load_generator(weights.read(path))
    assert (module.size, module.label_dim, module.clamp) == tuple(
        case[key] for key in ("size", "label_dim", "clamp")
    )
    labels = golden["labels"] if module.label_dim else None

    @jax.jit
    def run(variables, z):
        image, state = module.apply(
            variables, z, labels=labels, capture_intermediates=True, mutable=["intermediates"]
        )
        truncated = module.apply(variables, z, labels=labels, truncation=0.7)
        return image, truncated, state["intermediates"]

    image, truncated, activations = run(variables, golden["z"])
    assert relative(image, golden["image"]) < 1e-5
    assert relative(truncated, golden["truncated"]) < 1e-5
    names = ["conv1", *(f"convs_{i}" for i in range(module.num_convs - 1))]
    keys = sorted((k for k in golden if k.startswith("act")), key=lambda k: (len(k), k))
    for ours, theirs in zip(names, keys, strict=True):
        got = activations[ours]["__call__"][0][..., ::4]
        assert relative(got, golden[theirs]) < 1e-5, theirs
    if module.clamp:
        free = jax.jit(module.clone(clamp=None).apply)
        assert relative(free(variables, golden["z"], labels=labels), golden["image"]) > 1e-2


def state_dict(size=8, label_dim=0, **options):
    found = shapes(size, label_dim, **options)
    return {k: np.broadcast_to(np.float32(0), shape) for k, shape in found.items()} | {
        k: weight(k, shape) for k, shape in found.items() if k.endswith("filter")
    }


@pytest.mark.parametrize(
    ("size", "base", "most", "multiplier"),
    [(4, 64, 8, 2), (1024, 32768, 512, 2), (256, 16384, 512, 1), (64, 512, 32, 1 / 32)],
)
def test_settings_are_read_off_the_entries(size, base, most, multiplier):
    module, variables = load_generator({"g_ema": state_dict(size, base=base, most=most)})
    assert module.size == size and module.style_dim == STYLE_DIM
    if base // size < most:
        assert module.channel_multiplier == multiplier
    expected = jax.eval_shape(
        lambda: module.init(
            {"params": jax.random.key(0), "noise": jax.random.key(1)}, np.zeros((1, STYLE_DIM), "f")
        )
    )
    assert jax.tree.map(np.shape, variables) == jax.tree.map(lambda x: x.shape, dict(expected))


def test_generators_without_noise_have_none_here():
    entries = {k: v for k, v in state_dict().items() if ".noise" not in k and "w_avg" not in k}
    _, variables = load_generator(entries)
    assert not np.any(variables["noise"]["noise_1"])
    assert not np.any(variables["params"]["conv1"]["noise_strength"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"synthesis.b8.conv0.affine.bias": None}, r"lacks entry 'synthesis\.b8\.conv0\.affine"),
        ({"synthesis.b8.skip.weight": np.zeros(1)}, r"no place for entry 'synthesis\.b8\.skip"),
        ({"mapping.fc0.weight": np.zeros((8, 5))}, r"'mapping\.fc0\.weight' has shape \(8, 5\)"),
        (
            {"synthesis.b8.conv1.weight": np.zeros((3, 8, 3, 3))},
            r"conv1\.weight' has 8 channels at 4 px; with 8 at 4 px and 3 at 8",
        ),
        ({"synthesis.b8.torgb.weight": np.zeros((1, 8, 1, 1))}, r"torgb\.weight' has shape"),
        ({"synthesis.L0_36_512.weight": np.zeros(1)}, "this is a StyleGAN3 generator"),
        ({"mapping.embed_proj.weight": np.zeros(1)}, "this is a StyleGAN-XL generator"),
        ({"attributes": {"img_channels": 1}}, "img_channels is 1; only 3"),
        ({"attributes": {"synthesis.b8.architecture": "resnet"}}, "is 'resnet'; only 'skip'"),
        ({"attributes": {"mapping.fc1.activation": "relu"}}, "fc1.activation is 'relu'"),
        (
            {"attributes": {**clamps(256, 8), "synthesis.b8.conv1.conv_clamp": 1}},
            "b8.conv1.conv_clamp is 1, unlike",
        ),
    ],
)
def test_what_is_not_supported_is_named(change, message):
    entries = {k: v for k, v in {**state_dict(), **change}.items() if v is not None}
    with pytest.raises(UserError, match=message):
        load_generator({"G_ema": entries})


def test_conditional_generators_need_labels():
    module, variables = load_generator(state_dict(label_dim=3))
    z = np.zeros((2, STYLE_DIM), np.float32)
    with pytest.raises(ValueError, match="takes labels of 3 classes"):
        module.apply(variables, z, method="map_latents")
    assert random_styles(module, variables, jax.random.key(0), 2).shape == (2, STYLE_DIM)
