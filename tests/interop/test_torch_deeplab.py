"""Conversion of segmenters and backbones in PyTorch naming, both ways."""

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
