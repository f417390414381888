"""The segmenter and its loss against golden tensors of the published model."""

import jax

from ganseg_jax import losses
from ganseg_jax.interop import torch_ganseg
from ganseg_jax.models.deeplab import DeepLabV3
from tests.parity import fill


def load():
    """Golden tensors, module and variables."""
    golden = fill.golden("segmenter")
    state_dict = fill.fill(fill.shapes("segmenter_shapes"), golden, batch_norm_weights=True)
    return golden, *torch_ganseg.load_segmenter(state_dict)


def errors_of(golden, module, variables):
    """Relative errors of logits and losses."""
    segment = jax.jit(lambda v, x: module.apply(v, x, train=False))
    logits = segment(variables, fill.nhwc(golden["img"]))
    labels = golden["labels"].astype("int32")
    got = {
        "logits": logits[:, ::4, ::4],
        "cross_entropy": losses.cross_entropy(logits, labels),
        "dice": losses.dice(logits, labels),
        "loss": losses.segmentation_loss(logits, labels),
    }
    expected = {**golden, "logits": fill.nhwc(golden["logits"])}
    return {key: fill.relative_error(value, expected[key]) for key, value in got.items()}


def test_logits_and_loss():
    golden, module, variables = load()
    assert module == DeepLabV3(9)
    errors = errors_of(golden, module, variables)
    print(errors)
    assert max(errors.values()) <= 2e-4, errors
