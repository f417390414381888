"""Graphs in onnxruntime against what they are written after: our modules and Pillow."""

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from ganseg_jax import load_segmenter, pixels
from ganseg_jax.errors import UserError
from ganseg_jax.export import stablehlo
from ganseg_jax.graph import resizing
from ganseg_jax.graph.nodes import Nodes
from ganseg_jax.graph.segmenter import for_photos
from ganseg_jax.models.deeplab import DeepLabV3
from ganseg_jax.models.unet import UNet
from ganseg_jax.segmenter import Segmenter
from tests.export.photos import photos

SIZES = [(64, 64), (40, 7), (64, 300), (129, 64), (1000, 33), (1, 2), (17, 23)]


def run(model, **inputs):
    onnx.checker.check_model(model)
    data = model.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


@pytest.fixture(scope="module")
def small_bytes():
    """Resizes photos to 64 px in onnxruntime."""
    nodes = Nodes()
    maps = nodes.cast(nodes.apply("Transpose", "images", perm=[0, 3, 1, 2]), "float32")
    small = resizing.shrink_bytes(nodes, maps, 64)
    nodes.apply("Transpose", small, name="small", perm=[0, 2, 3, 1])
    inputs = {"images": ("uint8", ["N", "H", "W", 3])}
    model = nodes.model(inputs, {"small": ("float32", ["N", 64, 64, 3])}, {})
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return lambda images: session.run(None, {"images": images})[0]


@pytest.mark.parametrize("height, width", SIZES)
def test_photos_become_small_as_pillow_makes_them_in_every_byte(small_bytes, height, width):
    images = np.random.default_rng(height).integers(0, 256, (2, height, width, 3), np.uint8)
    expected = [pixels.shrink(image, 64) for image in images]
    np.testing.assert_array_equal(small_bytes(images), expected)
    np.testing.assert_array_equal(stablehlo.shrink_bytes(images, 64), expected)


def randomized(module, shape, seed=0):
    """Variables as training leaves them: no offset zero, no variance one."""
    init = jax.jit(lambda key: module.init(key, jnp.zeros(shape), train=False))
    variables = init(jax.random.key(seed))
    rng = np.random.default_rng(seed)

    def moved(path, x):
        if path[0].key == "batch_stats" and path[-1].key == "var":
            return rng.uniform(0.5, 2, x.shape).astype(np.float32)
        return np.asarray(x + 0.2 * rng.standard_normal(x.shape), np.float32) if x.ndim == 1 else x

    return jax.tree_util.tree_map_with_path(moved, variables)


RESNET50 = {"num_classes": 4, "width": 0.125}
RESNET18 = {"backbone": "resnet18", "output_stride": 4, "atrous_rates": (2, 40)} | RESNET50


@pytest.mark.parametrize(
    "module, size",
    [
        (DeepLabV3(**RESNET50), 33),
        (DeepLabV3(**RESNET18, stem_pool=False), 24),
        (UNet(4, width=4, depth=3), 27),
        (UNet(4, width=4, depth=2), None),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "clone") else str(value),
)
def test_networks_are_the_modules(module, size):
    variables = randomized(module, (1, size or 32, size or 32, 3))
    segmenter = Segmenter(module, variables, size, batch_size=2)
    network, _ = segmenter.graph_of()
    images = photos(2, 31, 50)
    seen = run(for_photos(network, variables, size, False, None, {}), images=images)
    expected = segmenter.probabilities(images)
    assert expected.std(axis=(0, 1, 2)).min() > 1e-3  # They say something about the photo.
    np.testing.assert_allclose(seen["probabilities"], expected, atol=1e-4)
    assert (seen["labels"] == segmenter(images)).mean() > 0.999


def test_the_packaged_model_is_the_same_in_both_engines():
    images = photos(3, 90, 70)
    ours = load_segmenter("people", engine="jax")
    fast = load_segmenter("people")
    assert fast.engine == "onnxruntime" and ours.refine
    for refine in (True, False):
        ours.refine = fast.refine = refine
        expected = ours.probabilities(images)
        np.testing.assert_allclose(fast.probabilities(images), expected, atol=1e-4)
        assert (fast(images) == ours(images)).mean() > 0.999
    assert fast(images[:0]).shape == (0, 90, 70)


def test_refinement_finds_its_references_at_any_size():
    """The step from one reference to the next is 1 up to 32 pixels, 2 up to 64, and so on."""
    module = UNet(3, width=4, depth=1)
    segmenter = Segmenter(module, randomized(module, (1, 16, 16, 3)), None, refine=True)
    network, variables = segmenter.graph_of()
    model = for_photos(network, variables, None, True, None, {})
    for height, width in ((16, 33), (70, 20)):
        images = photos(2, height, width)
        seen = run(model, images=images)["probabilities"]
        np.testing.assert_allclose(seen, segmenter.probabilities(images), atol=1e-4)


def test_classes_that_count_as_one_do_so_in_every_engine():
    """Parts that a person merged or hid."""
    module, groups = UNet(5, width=4, depth=1), (0, 1, 0, 2, 1)
    segmenter = Segmenter(module, randomized(module, (1, 16, 16, 3)), 16, groups=groups)
    images = photos(2, 20, 30)
    expected = segmenter.probabilities(images)
    segmenter.groups = None
    of_each = segmenter.probabilities(images)
    segmenter.groups = groups
    together = np.stack(
        [of_each[..., [0, 2]].sum(-1), of_each[..., [1, 4]].sum(-1), of_each[..., 3]], -1
    )
    np.testing.assert_allclose(expected, together, atol=1e-5)
    segmenter.engine = "onnxruntime"
    np.testing.assert_allclose(segmenter.probabilities(images), expected, atol=1e-4)
    graph = for_photos(*segmenter.graph_of(), 16, False, groups, {})
    found = run(graph, images=images)
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-4)
    np.testing.assert_array_equal(found["labels"], found["probabilities"].argmax(-1))


def test_what_is_no_such_network_is_refused():
    module = DeepLabV3(2, dtype=jnp.bfloat16)
    with pytest.raises(UserError, match=r"DeepLabV3 cannot be written .* take StableHLO"):
        Segmenter(module, {}, 16).graph_of()


def test_large_photos_shrink_without_overflow():
    image = np.asarray(Image.effect_noise((9000, 20), 200).convert("RGB"))
    small = stablehlo.shrink_bytes(image[None], 32)
    np.testing.assert_array_equal(small[0], pixels.shrink(image, 32))


@pytest.mark.parametrize("size", [8, 64, 256])
def test_photos_shrink_in_every_byte_up_to_the_longest_side(size):
    side = stablehlo.longest_side(size)
    assert side >= 65_500  # What a JPEG may have.
    image = np.random.default_rng(0).integers(0, 256, (side, 1, 3), np.uint8)
    small = np.stack([pixels.shrink(image, size)])
    np.testing.assert_array_equal(stablehlo.shrink_bytes(image[None], size), small)
