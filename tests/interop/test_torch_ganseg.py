"""Conversion of the published GAN checkpoints: shapes, order of masks, errors, the way back."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganseg_jax.errors import UserError
from ganseg_jax.interop import torch_ganseg
from ganseg_jax.latents import sample_latents
from ganseg_jax.models.blocks import AdaINConvBlock, ModulatedResBlock, StyleMap
from ganseg_jax.models.discriminator import Discriminator
from ganseg_jax.models.generator import Generator
from tests.parity import fill

K8 = "celeba_wild_k8_linear"
TINY = {
    "z_dim": 8,
    "n_keypoints": 3,
    "n_per_kp": 4,
    "n_embedding": 6,
    "use_linear": 1,
    "smaller_init_mask": 0,
    "image_size": 8,
    "feature_map_sizes": "4,4,8",
    "feature_map_channels": "8,6,4",
    "single_final": 1,
    "class_name": "flower",
}


def published_hyperparameters():
    return json.loads(str(fill.golden(f"generator_{K8}")["hyperparameters"]))


def tiny_generator(**changes):
    """A generator with random weights, in the published form, and its state_dict."""
    module = Generator(**torch_ganseg.generator_settings({**TINY, **changes}))
    shapes = jax.eval_shape(lambda: sample_latents(jax.random.key(0), 2, module.noise_dim))
    latents = jax.tree.map(lambda x: np.full(x.shape, 0.5, np.float32), shapes)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), latents, train=True))
    rng = np.random.default_rng(0)
    # Positive, as running variances must be.
    variables = jax.tree.map(lambda x: rng.uniform(0.01, 0.1, x.shape).astype(np.float32), shapes)
    return module, variables, latents, torch_ganseg.export_generator(module, variables)


@pytest.fixture(scope="module")
def tiny():
    return tiny_generator()


def assert_equal_trees(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("name", [K8, "celeba_wild_k4_gaussian"])
def test_generator_and_back(name):
    hyperparameters = json.loads(str(fill.golden(f"generator_{name}")["hyperparameters"]))
    state_dict = fill.fill(fill.shapes(f"state_dict_shapes:generator/{name}"))
    module, variables = torch_ganseg.load_generator(state_dict, hyperparameters)
    back = torch_ganseg.export_generator(module, variables)
    assert set(back) == set(state_dict)
    grid = "init_extend_coord"
    np.testing.assert_allclose(back.pop(grid), state_dict.pop(grid), atol=1e-6)
    for key, value in state_dict.items():
        np.testing.assert_array_equal(back[key], value, err_msg=key)
        assert back[key].dtype == value.dtype, key


def test_discriminator_and_back():
    state_dict = fill.fill(fill.shapes("state_dict_shapes:discriminator"))
    module, variables = torch_ganseg.load_discriminator(state_dict)
    assert module == Discriminator()
    assert_equal_trees(torch_ganseg.export_discriminator(module, variables), state_dict)


def test_discriminator_of_another_image_size():
    module = Discriminator(channels=(8, 16), hidden=12)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3))))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: rng.standard_normal(x.shape, np.float32), shapes)
    state_dict = torch_ganseg.export_discriminator(module, variables)
    # The published layer reads the last map channels first: [C, 2, 2].
    kernel = variables["params"]["hidden"]["kernel"].reshape(2, 2, 16, 12)
    published = state_dict["fc.0.weight"].reshape(12, 16, 2, 2)
    np.testing.assert_array_equal(published[5, 7, 0, 1], kernel[0, 1, 7, 5])
    again, loaded = torch_ganseg.load_discriminator(state_dict)
    assert again == module
    assert_equal_trees(loaded, variables)


# The differences between the four published configurations, at a small size.
@pytest.mark.parametrize(
    ("changes", "settings"),
    [
        ({"n_keypoints": 10}, {"num_parts": 10, "head": "single"}),
        ({"single_final": 0, "use_linear": 0}, {"head": "two_layer", "heatmap": "gaussian"}),
        (
            {
                "feature_map_sizes": "4,4,8,8,16,16",
                "feature_map_channels": "8,6,6,4,4,4",
                "image_size": 16,
            },
            {"stage_sizes": (4, 4, 8, 8, 16, 16), "stage_channels": (8, 6, 6, 4, 4, 4)},
        ),
    ],
)
def test_configurations_and_back(changes, settings):
    module, variables, _, state_dict = tiny_generator(**changes)
    for name, value in settings.items():
        assert getattr(module, name) == value
    again, loaded = torch_ganseg.load_generator(state_dict, {**TINY, **changes})
    assert again == module
    assert_equal_trees(loaded, variables)


def test_exported_hyperparameters_describe_the_same_network(tiny):
    module = tiny[0]
    hyperparameters = torch_ganseg.export_hyperparameters(module)
    assert Generator(**torch_ganseg.generator_settings(hyperparameters)) == module


@pytest.mark.parametrize(("flag", "form"), [(0, "released"), (1, "paper")])
def test_area_form(flag, form):
    assert torch_ganseg.area_form({**TINY, "smaller_init_mask": flag}) == form


class PublishedBlock:
    """The published blocks in NumPy, straight from a state_dict; maps are [H, W, C]."""

    def __init__(self, state_dict, key):
        self.state_dict, self.key = state_dict, key

    def weights(self, name):
        key = f"{self.key}.{name}"
        return self.state_dict[f"{key}.weight"], self.state_dict[f"{key}.bias"]

    def apply(self, name, x):
        kernel, bias = self.weights(name)
        if x.ndim == 1:
            return kernel @ x + bias
        height, width, _ = x.shape
        padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
        taps = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1))
        assert taps.shape[:2] == (height, width)
        return np.einsum("hwcij,ocij->hwo", taps, kernel) + bias

    def modulate(self, name, x, style):
        stats = [self.state_dict[f"{self.key}.{name}.norm.running_{s}"] for s in ("mean", "var")]
        hidden = leaky(self.apply(f"{name}.conv", style))
        gamma = self.apply(f"{name}.conv_gamma", hidden)
        beta = self.apply(f"{name}.conv_beta", hidden)
        return (1 + gamma) * (x - stats[0]) / np.sqrt(stats[1] + 1e-5) + beta


def leaky(x):
    return np.where(x > 0, x, 0.2 * x)


def test_spade_block_is_the_published_one(tiny):
    _, variables, _, state_dict = tiny
    rng = np.random.default_rng(1)
    x = rng.standard_normal((5, 4, 8))
    masks, embeddings = rng.uniform(size=(5, 4, 3)), rng.standard_normal((3, 6))
    block = PublishedBlock(state_dict, "spade_blocks.0")
    style = masks @ embeddings
    h = block.apply("conv1", leaky(block.modulate("spade1", x, style)))
    h = block.apply("conv2", leaky(block.modulate("spade2", h, style)))
    expected = h + block.apply("conv_shortcut", block.modulate("spade_shortcut", x, style))
    got = jax.jit(lambda v, x, s: ModulatedResBlock(6, 128).apply(v, x, s, train=False))(
        subtree(variables, "foreground_generator", "block_0"),
        jnp.asarray(x[None], jnp.float32),
        StyleMap(jnp.asarray(masks[None]), jnp.asarray(embeddings[None])),
    )
    assert fill.relative_error(got[0], expected) < 1e-5


def test_adain_block_is_the_published_one(tiny):
    _, variables, _, state_dict = tiny
    rng = np.random.default_rng(1)
    x, style = rng.standard_normal((5, 4, 8)), rng.standard_normal(6)
    block = PublishedBlock(state_dict, "adain_blocks.0")
    expected = block.apply("conv1", leaky(block.modulate("spade1", x, style)))
    got = jax.jit(lambda v, x, s: AdaINConvBlock(6, 128).apply(v, x, s, train=False))(
        subtree(variables, "background_generator", "block_0"),
        jnp.asarray(x[None], jnp.float32),
        jnp.asarray(style[None], jnp.float32),
    )
    assert fill.relative_error(got[0], expected) < 1e-5


def subtree(variables, *path):
    """Variables of a module inside the generator."""
    result = {}
    for collection, tree in variables.items():
        for name in path:
            tree = tree[name]
        result[collection] = tree
    return result


def test_background_is_the_last_channel_there_and_the_first_here(tiny):
    module, variables, latents, state_dict = tiny
    # Only the output bias of the last mask block can prefer a channel this strongly.
    state_dict = dict(state_dict)
    bias = np.zeros(4, np.float32)
    bias[3] = 1e9
    state_dict["mask_spade_blocks.2.conv2.bias"] = bias
    _, changed = torch_ganseg.load_generator(state_dict, TINY)
    masks = jax.jit(lambda v, z: module.apply(v, z, train=False).masks)(changed, latents)
    assert float(masks[..., 0].min()) > 0.99


def test_shared_layers_are_loaded_as_equal_layers(tiny):
    state_dict = dict(tiny[3])
    for i in range(1, 4):
        for kind in ("weight", "bias"):
            first = state_dict[f"gen_keypoints_layer.0.model.0.{kind}"]
            state_dict[f"gen_keypoints_layer.{i}.model.0.{kind}"] = first
    _, variables = torch_ganseg.load_generator(state_dict, {**TINY, "class_name": "custom"})
    mlp = variables["params"]["point_generator"]["mlp"]
    assert_equal_trees(mlp["hidden_0"], mlp["hidden_3"])


def test_prefix_of_parallel_training_is_taken_off(tiny):
    state_dict = {f"module.{key}": value for key, value in tiny[3].items()}
    _, variables = torch_ganseg.load_generator(state_dict, TINY)
    assert_equal_trees(variables, tiny[1])


def test_missing_entry_is_named(tiny):
    state_dict = dict(tiny[3])
    del state_dict["bg_start.pe.bias"]
    with pytest.raises(UserError, match=r"lacks entry 'bg_start\.pe\.bias'$"):
        torch_ganseg.load_generator(state_dict, TINY)


def test_extra_entry_is_named(tiny):
    with pytest.raises(UserError, match="no place for entry 'extra.weight'$"):
        torch_ganseg.load_generator({**tiny[3], "extra.weight": np.zeros(3)}, TINY)


def test_wrong_shape_is_named_with_both_shapes(tiny):
    state_dict = {**tiny[3], "conv.0.weight": np.zeros((3, 6, 3, 3), np.float32)}
    with pytest.raises(UserError, match=r"'conv.0.weight'.*\(3, 6, 3, 3\).*\(3, 6, 1, 1\)"):
        torch_ganseg.load_generator(state_dict, TINY)


def test_grid_of_another_size_is_refused(tiny):
    state_dict = {**tiny[3], "init_extend_coord": np.zeros((1, 400, 2), np.float32)}
    with pytest.raises(UserError, match=r"init_extend_coord.*\(1, 400, 2\).*\(1, 576, 2\)"):
        torch_ganseg.load_generator(state_dict, TINY)


def test_generator_of_more_parts_does_not_load_as_one_of_fewer(tiny):
    with pytest.raises(UserError, match=r"keypoints_embedding\.weight.*\(3, 6\).*\(4, 6\)"):
        torch_ganseg.load_generator(tiny[3], {**TINY, "n_keypoints": 4})


@pytest.mark.parametrize(
    "changes",
    [
        {"n_keypoints": "3", "use_linear": "1", "single_final": True},
        {"feature_map_sizes": [4, 4, 8], "feature_map_channels": "8, 6, 4", "z_dim": 8.0},
        {"feature_map_sizes": "[4, 4, 8]", "use_linear": "True", "single_final": "1"},
    ],
)
def test_parameters_in_other_forms(changes):
    assert torch_ganseg.generator_settings(TINY | changes) == torch_ganseg.generator_settings(TINY)


@pytest.mark.parametrize(
    ("name", "channels", "embedding", "expected"),
    [
        ("taichi", (512, 256, 128, 64), 64, "taichi"),
        ("taichi", (512, 256, 128, 64), 32, None),
        ("cub", (512, 256, 128, 64), 64, None),
        ("flower", (512, 256, 256, 128, 128, 64), 64, "flower"),
        ("custom", (512, 256, 256, 128, 128, 64), 64, "custom_flower"),
        ("custom", (512, 256, 128, 64), 64, "custom_celeba"),
        ("custom", (8, 6, 4), 6, None),
    ],
)
def test_class_of_which_the_published_code_builds_the_same_network(
    tiny, name, channels, embedding, expected
):
    """Of separate layers it would keep the last if it takes them for shared ones."""
    state_dict = tiny[3]
    module = tiny[0].clone(stage_channels=channels, embedding_dim=embedding)
    assert torch_ganseg.published_class(name, module, state_dict) == expected


def test_shared_layers_go_back_as_custom(tiny):
    state_dict = dict(tiny[3])
    for key in state_dict:
        for mlp in ("gen_keypoints_layer", "gen_keypoints_embedding_noise"):
            for i in range(4):
                if key.startswith(f"{mlp}.{i}.model"):
                    state_dict[key] = state_dict[key.replace(f".{i}.", ".0.", 1)]
    assert torch_ganseg.published_class("custom", tiny[0], state_dict) is None
    for key in state_dict:
        if key.startswith("gen_background_embedding.") and ".model." in key:
            state_dict[key] = state_dict[f"gen_background_embedding.0{key[26:]}"]
    assert torch_ganseg.published_class("custom", tiny[0], state_dict) == "custom"


@pytest.mark.parametrize("prefix", ["module.", "module._orig_mod."])
def test_half_precision_and_wrapped_names(tiny, prefix):
    state_dict = {prefix + k: np.asarray(v, np.float16) for k, v in tiny[3].items()}
    _, variables = torch_ganseg.load_generator(state_dict, TINY)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3), variables, tiny[1])
    assert {x.dtype for x in jax.tree.leaves(variables)} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_keypoints": None}, "n_keypoints.*missing"),
        ({"image_size": 64}, "feature_map_sizes end at 8, but image_size is 64"),
        ({"feature_map_sizes": "4;8"}, "feature_map_sizes must be numbers"),
        ({"use_linear": 2}, "use_linear must be 0 or 1, not 2"),
        ({"use_linear": [1]}, r"use_linear must be 0 or 1, not \[1\]"),
        ({"n_keypoints": "many"}, "n_keypoints must be a whole number, not 'many'"),
        ({"z_dim": 8.5}, "z_dim must be a whole number, not 8.5"),
        ({"image_size": "inf"}, "image_size must be a whole number"),
        ({"feature_map_channels": []}, "feature_map_channels must be numbers"),
        (
            {"n_keypoints": None, "generator_log": "log/gan_cub_k8"},
            "these are the segmenter's; give those of its GAN, which lie in log/gan_cub_k8",
        ),
    ],
)
def test_wrong_hyperparameters_are_named(changes, message):
    hyperparameters = {k: v for k, v in {**TINY, **changes}.items() if v is not None}
    with pytest.raises(UserError, match=message):
        torch_ganseg.generator_settings(hyperparameters)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"margin": 4}, "model.margin is 4"),
        ({"point_divisor": 5.0}, "model.point_divisor is 5.0"),
        ({"part_scale": "std"}, "model.part_scale 'std'"),
        ({"stage_sizes": (8,), "stage_channels": (8,)}, "two stages"),
    ],
)
def test_only_what_the_published_code_knows_is_exported(tiny, changes, message):
    module = tiny[0].clone(**changes)
    with pytest.raises(UserError, match=message):
        torch_ganseg.export_generator(module, tiny[1])


def test_missing_discriminator_entries_are_named():
    with pytest.raises(UserError, match="discriminator.*'conv.0.conv_res.weight'"):
        torch_ganseg.load_discriminator({})
