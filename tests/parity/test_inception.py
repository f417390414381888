"""FID Inception against golden tensors of the PyTorch conversion in common use.

With random weights the network amplifies rounding: against float64 the golden features themselves
are off by 7e-4 of the largest one.  Most of that (the resizing's coordinates) is common to both
sides, and what is left was 9e-5.
"""

import jax
import pytest

from ganseg_jax.interop.torch_inception import load_fid_inception
from tests.parity import fill


@pytest.fixture(scope="module")
def case():
    golden = fill.golden("fid_inception")
    shapes = fill.shapes("fid_inception_shapes")
    state_dict = fill.fill(shapes, golden, batch_norm_weights=True)
    module, variables = load_fid_inception(state_dict)
    features = jax.jit(module.apply)(variables, fill.nhwc(golden["image"]))
    return golden, features


@pytest.mark.parametrize(("name", "tolerance"), [("block0", 1e-5), ("pre_aux", 2e-4)])
def test_maps(case, name, tolerance):
    golden, features = case
    got = getattr(features, name)[..., ::8]
    if name == "block0":
        got = got[:, ::4, ::4]
    error = fill.relative_error(got, fill.nhwc(golden[name]))
    print(name, error)
    assert error <= tolerance


def test_features(case):
    golden, features = case
    error = fill.relative_error(features.pool3, golden["pool3"])
    print("pool3", error)
    assert error <= 2e-4
    assert features.logits.shape == (2, 1008)
