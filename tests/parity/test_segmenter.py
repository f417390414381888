"""The segmenter and its loss against golden tensors of the published model."""

import jax
import pytest

from ganseg_jax import losses
from ganseg_jax.interop import torch_ganseg
from ganseg_jax.models.deeplab import DeepLabV3
from tests.parity import fill


@pytest.fixture(scope="module")
def case():
    golden = fill.golden("segmenter")
    shapes = fill.shapes("segmenter_shapes")
    state_dict = fill.fill(shapes, golden, batch_norm_weights=True)
    return golden, *torch_ganseg.load_segmenter(state_dict)


def segment(module, variables, images):
    return jax.jit(lambda v, x: module.apply(v, x, train=False))(variables, images)


def test_logits_and_loss(case):
    golden, module, variables = case
    assert module == DeepLabV3(9)
    logits = segment(module, variables, fill.nhwc(golden["img"]))
    labels = golden["labels"].astype("int32")
    got = {
        "logits": logits[:, ::4, ::4],
        "cross_entropy": losses.cross_entropy(logits, labels),
        "dice": losses.dice(logits, labels),
        "loss": losses.segmentation_loss(logits, labels),
    }
    expected = {**golden, "logits": fill.nhwc(golden["logits"])}
    errors = {key: fill.relative_error(value, expected[key]) for key, value in got.items()}
    print(errors)
    assert max(errors.values()) <= 2e-4, errors
