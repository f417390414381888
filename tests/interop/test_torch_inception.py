"""Conversion of FID Inception weights: which files are refused, and why."""

import numpy as np
import pytest

from ganseg_jax.errors import UserError
from ganseg_jax.interop.torch_inception import load_fid_inception
from tests.parity import fill


@pytest.fixture(scope="module")
def state_dict():
    # Zeros without memory: only names and shapes matter here.
    shapes = fill.shapes("fid_inception_shapes")
    return {key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes.items()}


def test_every_entry_is_used(state_dict):
    _, variables = load_fid_inception({**state_dict, "AuxLogits.fc.bias": np.zeros(1000)})
    arrays = sum(not key.endswith("num_batches_tracked") for key in state_dict)
    assert len(list(_leaves(variables))) == arrays


def _leaves(tree):
    for value in tree.values():
        if isinstance(value, dict):
            yield from _leaves(value)
        else:
            yield value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fc.weight": np.zeros((1000, 2048))}, r"'fc.weight'.*\(1000, 2048\).*\(1008, 2048\)"),
        ({"Mixed_6b.branch1x1.bn.running_mean": None}, "Mixed_6b.branch1x1.bn.running_mean"),
        ({"Mixed_8a.conv.weight": np.zeros(1)}, "no place for entry 'Mixed_8a.conv.weight'"),
    ],
)
def test_other_networks_are_refused(state_dict, change, message):
    changed = {k: v for k, v in {**state_dict, **change}.items() if v is not None}
    with pytest.raises(UserError, match=message):
        load_fid_inception(changed)
