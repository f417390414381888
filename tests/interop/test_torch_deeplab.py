"""Conversion of segmenters and backbones in PyTorch naming, both ways."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganseg_jax.errors import UserError
from ganseg_jax.interop import torch_ganseg
from ganseg_jax.models.deeplab import DeepLabV3
from ganseg_jax.models.resnet import ResNet
from tests.parity import fill


def random_variables(module, seed=0):
    shapes = jax.eval_shape(
        lambda: module.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), train=False)
    )
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: rng.standard_normal(x.shape, np.float32), shapes)


def assert_equal_trees(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope="module")
def narrow():
    module = DeepLabV3(3, width=0.125)
    variables = random_variables(module)
    return module, variables, torch_ganseg.export_segmenter(module, variables)


def test_published_segmenter_and_back():
    shapes = fill.shapes("segmenter_shapes")
    state_dict = fill.fill(shapes, batch_norm_weights=True)
    module, variables = torch_ganseg.load_segmenter(state_dict)
    assert module == DeepLabV3(9)
    assert_equal_trees(torch_ganseg.export_segmenter(module, variables), state_dict)


def test_width_is_read_off_the_shapes(narrow):
    module, variables = torch_ganseg.load_segmenter(narrow[2])
    assert module == narrow[0]
    assert_equal_trees(variables, narrow[1])


def test_small_backbone_with_settings_of_its_own():
    module = DeepLabV3(4, backbone="resnet18", width=0.25, output_stride=4, atrous_rates=(2, 4))
    variables = random_variables(module)
    state_dict = torch_ganseg.export_segmenter(module, variables)
    assert "model.backbone.layer2.0.downsample.0.weight" in state_dict
    assert "model.backbone.layer1.0.downsample.0.weight" not in state_dict
    _, loaded = torch_ganseg.load_segmenter(state_dict, module)
    assert_equal_trees(loaded, variables)


def test_auxiliary_classifier_is_passed_over(narrow):
    state_dict = {**narrow[2], "model.aux_classifier.4.bias": np.zeros(3, np.float32)}
    _, variables = torch_ganseg.load_segmenter(state_dict)
    assert_equal_trees(variables, narrow[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.classifier.4.bias": None}, "lacks entry 'classifier.4.bias'"),
        ({"model.backbone.layer3.2.bn2.running_var": None}, "layer3.2.bn2.running_var"),
        ({"model.head.bias": np.zeros(2)}, "no place for entry 'head.bias'"),
        (
            {"model.classifier.1.weight": np.zeros((32, 32, 1, 1))},
            r"'classifier.1.weight'.*\(32, 32, 1, 1\).*\(32, 32, 3, 3\)",
        ),
        ({"model.backbone.conv1.weight": np.zeros((9, 3, 7, 7))}, "9 channels"),
    ],
)
def test_entries_that_do_not_fit_are_named(narrow, change, message):
    state_dict = {k: v for k, v in {**narrow[2], **change}.items() if v is not None}
    with pytest.raises(UserError, match=message):
        torch_ganseg.load_segmenter(state_dict)


def test_backbone_of_a_classifier_starts_a_segmenter(narrow):
    module, variables, state_dict = narrow
    prefix = "model.backbone."
    classifier = {
        key.removeprefix(prefix): value + 1
        for key, value in state_dict.items()
        if key.startswith(prefix)
    }
    classifier |= {"fc.weight": np.zeros((10, 256)), "fc.bias": np.zeros(10)}
    backbone, given = torch_ganseg.load_backbone(classifier)
    assert backbone == ResNet("resnet50", width=0.125)
    merged = torch_ganseg.with_backbone(variables, given)
    for collection in ("params", "batch_stats"):
        assert_equal_trees(merged[collection]["backbone"], given[collection])
        assert_equal_trees(merged[collection]["aspp"], variables[collection]["aspp"])
    expected = jax.tree.map(lambda x: x + 1, variables["params"]["backbone"])
    assert_equal_trees(merged["params"]["backbone"], expected)
    # The segmenter's own variables stay as they were.
    assert merged["params"]["backbone"] is not variables["params"]["backbone"]


def test_backbone_of_another_width_is_refused(narrow):
    given = random_variables(ResNet("resnet50", width=0.25))
    with pytest.raises(UserError, match="does not fit the segmenter's: bn1/mean"):
        torch_ganseg.with_backbone(narrow[1], given)
    given = random_variables(ResNet("resnet18", width=0.125))
    with pytest.raises(UserError, match="does not fit the segmenter's"):
        torch_ganseg.with_backbone(narrow[1], given)


@pytest.fixture(scope="module")
def bare(narrow):
    """A ResNet-50's entries as torchvision names them, without a head."""
    prefix = "model.backbone."
    return {k.removeprefix(prefix): v for k, v in narrow[2].items() if k.startswith(prefix)}


HEAD = {"fc.weight": np.ones((4, 256), np.float32), "fc.bias": np.ones(4, np.float32)}
NUMBERS = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}


def under(prefix, entries):
    return {prefix + key: value for key, value in entries.items()}


def wrong(entries):
    return {key: value * 0 for key, value in entries.items()}


def numbered(entries):
    names = {key: key.split(".", 1) for key in entries}
    return {f"{NUMBERS[first]}.{rest}": entries[key] for key, (first, rest) in names.items()}


QUEUE = {"module.queue": np.ones((2, 3), np.float32), "module.queue_ptr": np.zeros(1, np.int64)}
DIALECTS = {
    "torchvision": lambda x: x | HEAD,
    "timm": lambda x: {"state_dict": wrong(x), "state_dict_ema": x | HEAD, "epoch": 3},
    "compiled": lambda x: under("_orig_mod.", x | HEAD),
    "compiled and parallel": lambda x: under("module._orig_mod.", x | HEAD),
    "MoCo v1, v2": lambda x: {
        "arch": "resnet50",
        "state_dict": under("module.encoder_q.", x | HEAD)
        | under("module.encoder_k.", wrong(x))
        | QUEUE,
        "optimizer": {"state": {0: {"momentum_buffer": np.ones(2)}}, "param_groups": [{"lr": 1}]},
    },
    "MoCo v3": lambda x: {
        "state_dict": under("module.base_encoder.", x | HEAD)
        | under("module.momentum_encoder.", wrong(x))
        | {"module.predictor.0.weight": np.ones((2, 2))}
    },
    "DINO": lambda x: {
        "student": under("module.backbone.", wrong(x)) | {"module.head.mlp.0.bias": np.ones(2)},
        "teacher": under("backbone.", x) | {"head.mlp.0.bias": np.ones(2)},
        "args": {"arch": "resnet50"},
    },
    "SwAV": lambda x: under(
        "module.", x | {"projection_head.0.bias": np.ones(2), "prototypes.weight": np.ones((3, 2))}
    ),
    "VICReg": lambda x: {
        "model": under("module.backbone.", x) | {"module.projector.0.bias": np.ones(2)}
    },
    "BYOL": lambda x: {
        "online_network_state_dict": under("encoder.", numbered(x))
        | {"projetion.net.0.bias": np.ones(2)},
        "target_network_state_dict": under("encoder.", numbered(wrong(x))),
    },
    "BYOL of solo-learn": lambda x: {
        "state_dict": under("backbone.", x)
        | under("momentum_backbone.", wrong(x))
        | {"classifier.weight": np.ones((2, 2))}
    },
    "VISSL": lambda x: {
        "classy_state_dict": {
            "base_model": {"model": {"trunk": under("_feature_blocks.", x), "heads": HEAD}}
        }
    },
    "fastai": lambda x: {"model": under("0.", numbered(x)) | {"1.8.weight": np.ones((2, 2))}},
    "OpenSelfSup": lambda x: {
        "state_dict": under("encoder_q.0.", x) | under("encoder_k.0.", wrong(x)) | {"queue": HEAD}
    },
}


@pytest.mark.parametrize("name", DIALECTS)
def test_backbones_of_self_supervised_training(narrow, bare, name):
    module, given = torch_ganseg.load_backbone(DIALECTS[name](bare))
    assert module == ResNet("resnet50", width=0.125)
    for collection in ("params", "batch_stats"):
        assert_equal_trees(given[collection], narrow[1][collection]["backbone"])


def test_what_a_backbone_leaves_out_is_named(bare, caplog):
    with caplog.at_level(logging.INFO, "ganseg_jax"):
        logging.getLogger("ganseg_jax").propagate = True
        torch_ganseg.load_backbone(DIALECTS["MoCo v1, v2"](bare))
    count = len(bare)
    assert f"resnet50 with {count} entries under 'state_dict.module.encoder_q.'" in caplog.text
    assert f"encoder_k ({count}), fc (2), optimizer (1), queue (1), queue_ptr (1)" in caplog.text


def deeper(entries, stage, index):
    last = {k: v for k, v in entries.items() if k.startswith("layer3.5.")}
    more = {}
    for i in range(6, index):
        more |= {k.replace("layer3.5.", f"{stage}.{i}."): v for k, v in last.items()}
    return entries | more


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: {"blocks.0.attn.qkv.weight": np.ones(2)}, "no ResNet.*it holds blocks"),
        (lambda x: {"epoch": 3}, "no ResNet.*it holds no arrays"),
        (lambda x: deeper(x, "layer3", 23), "this is a resnet101; resnet18 and resnet50"),
        (
            lambda x: (
                {k: v for k, v in x.items() if k != "conv1.weight"}
                | {"conv1.0.weight": np.ones((8, 3, 3, 3))}
            ),
            "no single convolution.*resnet50d",
        ),
        (lambda x: under("a.", x) | under("b.", x), "several ResNets, under 'a.' and 'b.'"),
        (lambda x: x | {"layer1.0.se.fc1.weight": np.ones(2)}, "no place for entry 'layer1.0.se"),
        (lambda x: {k: v for k, v in x.items() if k != "bn1.weight"}, "lacks entry 'bn1.weight'"),
    ],
)
def test_backbones_that_do_not_fit_are_named(bare, change, message):
    with pytest.raises(UserError, match=message):
        torch_ganseg.load_backbone(change(bare))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_wrapped_segmenters(narrow, prefix):
    _, variables = torch_ganseg.load_segmenter(under(prefix, narrow[2]))
    assert_equal_trees(variables, narrow[1])
