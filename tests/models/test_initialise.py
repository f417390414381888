"""The host's draws are those that each module declares, for every network that is trained."""

import hashlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganseg_jax.fewshot.heads import CNNHead, MLPHead
from ganseg_jax.latents import sample_latents
from ganseg_jax.models.autoencoder import AutoEncoder
from ganseg_jax.models.deeplab import DeepLabV3
from ganseg_jax.models.discriminator import Discriminator
from ganseg_jax.models.generator import Generator
from ganseg_jax.models.initialise import Initialiser, init_variables
from ganseg_jax.models.unet import UNet

GENERATOR = Generator(
    num_parts=3,
    noise_dim=16,
    embedding_dim=8,
    stage_sizes=(4, 8),
    stage_channels=(16, 8),
    margin=1,
    spade_hidden=8,
    point_spread=0.4,
    background_start=4.0,
)
IMAGES = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
SMALL = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
LATENTS = jax.eval_shape(lambda: sample_latents(jax.random.key(0), 1, 16))
FEATURES = [jax.ShapeDtypeStruct((1, size, size, 24), jnp.float32) for size in (4, 8)]
EVAL = {"train": False}


def deeplab(**settings):
    return DeepLabV3(4, width=0.25, stem_pool=False, output_stride=4, **settings)


NETWORKS = {
    "generator": (GENERATOR, LATENTS, EVAL),
    "without_points": (GENERATOR.clone(use_points=False), LATENTS, EVAL),
    "discriminator": (Discriminator((16, 32), 32), SMALL, {}),
    "resnet18": (deeplab(backbone="resnet18"), IMAGES, EVAL),
    "resnet50": (deeplab(backbone="resnet50"), IMAGES, EVAL),
    "he": (deeplab(backbone="resnet18", initialisation="he"), IMAGES, EVAL),
    "unet": (UNet(3, width=16, depth=2), SMALL, EVAL),
    "points": (AutoEncoder(GENERATOR, "points", None, 8, 2, 0.25, False), SMALL, EVAL),
    "masks": (AutoEncoder(GENERATOR, "masks", deeplab(backbone="resnet18"), 8), SMALL, EVAL),
    "cnn_head": (CNNHead(3, channels=(16,) * 8), FEATURES, {}),
    "mlp_head": (MLPHead(3, hidden=(40, 30)), FEATURES, {}),
}


def moments(x):
    """Mean, deviation, and largest value over the deviation: sqrt(3) if the draws are uniform."""
    x = np.asarray(x, np.float64).ravel()
    deviation = x.std()
    return x.mean(), deviation, np.abs(x).max() / max(deviation, 1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_draws_have_the_moments_of_module_init_leaf_by_leaf(name):
    module, inputs, options = NETWORKS[name]
    ours = init_variables(module, 0, inputs, **options)
    shapes = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), inputs)
    # The forward pass falls out of the compiled program, since nothing needs it.
    theirs = jax.jit(lambda: nn.meta.unbox(module.init(jax.random.key(1), *[shapes], **options)))()
    described = jax.tree.map(lambda x: (x.shape, x.dtype), ours)
    assert described == jax.tree.map(lambda x: (x.shape, x.dtype), theirs)
    pairs = zip(jax.tree_util.tree_leaves_with_path(ours), jax.tree.leaves(theirs), strict=True)
    for (path, host), compiled in pairs:
        (mean, deviation, reach), (_, expected, their_reach) = moments(host), moments(compiled)
        where, error = jax.tree_util.keystr(path), 6 / np.sqrt(host.size)
        if expected == 0 or host.size == GENERATOR.num_parts + 1:
            np.testing.assert_array_equal(host, compiled, err_msg=where)
        else:
            assert abs(mean) < error * expected, where
            assert deviation == pytest.approx(expected, rel=error), where
            if host.size > 1000:  # A normal draw reaches beyond a uniform one's limit.
                assert (reach < 1.75) == (their_reach < 1.75), where


@pytest.mark.parametrize("fan", ["in", "out", None])
@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_both_ways_of_drawing_have_the_declared_moments(kind, fan):
    initialiser, shape = Initialiser(kind, 0.7, fan), (3, 3, 40, 60)
    expected = 0.7 if fan is None else np.sqrt(0.7 / (9 * {"in": 40, "out": 60}[fan]))
    host = initialiser.draw(np.random.default_rng(0), shape)
    for x in (host, initialiser(jax.random.key(0), shape)):
        mean, deviation, reach = moments(x)
        assert abs(mean) < 0.02 * expected and x.dtype == np.float32
        assert deviation == pytest.approx(expected, rel=0.02)
        assert (reach < 1.75) == (kind == "uniform")
    variance = {"in": "fan_in", "out": "fan_out"}.get(fan)
    if variance:
        jaxs = jax.nn.initializers.variance_scaling(0.7, variance, kind)(jax.random.key(0), shape)
        assert moments(jaxs)[1] == pytest.approx(moments(host)[1], rel=0.02)


def test_deeplab_begins_as_published_or_with_he_normal_kernels():
    def deviation_times_fan(initialisation, *path):
        module = deeplab(backbone="resnet18", initialisation=initialisation)
        kernel = init_variables(module, 0, IMAGES, train=False)["params"]
        for name in path:
            kernel = kernel[name]
        return kernel["kernel"].std() * np.sqrt(np.prod(kernel["kernel"].shape[:-1]))

    head = "head_conv"
    assert deviation_times_fan("published", head) == pytest.approx(np.sqrt(1 / 3), rel=0.02)
    assert deviation_times_fan("he", head) == pytest.approx(np.sqrt(2), rel=0.02)
    # From 16 to 32 channels: the fan-out is twice the fan-in.
    strided = ("backbone", "layer2_0", "conv1")
    assert deviation_times_fan("published", *strided) == pytest.approx(1, rel=0.05)
    assert deviation_times_fan("he", *strided) == pytest.approx(np.sqrt(2), rel=0.05)


def test_numbers_are_those_that_runs_began_with():
    """A run of an older version must begin with the same weights."""
    variables = init_variables(GENERATOR, 3, LATENTS, train=True)
    summed = hashlib.md5()
    for leaf in jax.tree.leaves(variables):
        summed.update(np.ascontiguousarray(leaf).tobytes())
    assert summed.hexdigest() == "a9303259efdd03a4cbd84e12d4da81c2"


def test_seed_and_path_alone_decide_a_draw():
    x = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    shallow, deep = (init_variables(UNet(2, 4, depth), 0, x, train=False) for depth in (1, 2))
    other = init_variables(UNet(2, 4, 1), 1, x, train=False)
    kernels = [v["params"]["down_0"]["conv_0"]["kernel"] for v in (shallow, deep, other)]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert (kernels[0] != kernels[2]).all()


def test_parameters_of_other_initialisers_are_named():
    with pytest.raises(ValueError, match=r"\['bias'\] is not declared with an Initialiser"):
        init_variables(nn.Dense(2), 0, jnp.zeros((1, 3)))
