"""Training and inference inside a program that has set JAX otherwise."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ganseg_jax import load_segmenter, rules, sample_latents
from ganseg_jax.fewshot import projection
from ganseg_jax.fewshot.source import Source
from ganseg_jax.jobs.train import train_stages
from ganseg_jax.models.build import build_generator
from ganseg_jax.models.discriminator import Discriminator
from ganseg_jax.models.initialise import init_variables
from ganseg_jax.models.stylegan2 import StyleGAN2Generator
from ganseg_jax.models.unet import UNet
from ganseg_jax.segmenter import _checked as checked_photos
from ganseg_jax.training import gan, segmenter
from tests.one_stage import WITH_ONE_STAGE
from tests.tiny_config import config_with

CONFIG = config_with(**WITH_ONE_STAGE)
RULES = {
    "jax_numpy_rank_promotion": "raise",
    "jax_numpy_dtype_promotion": "strict",
    "jax_transfer_guard": "disallow",
}


@contextlib.contextmanager
def set_otherwise():
    """Sets all at once: NaNs raise, other keys, another device, a mesh around everything.

    Nor may ranks and types be combined, nor numbers move to a device.
    """
    mesh = jax.make_mesh((jax.device_count(),), ("outer",), axis_types=(AxisType.Explicit,))
    with (
        jax.debug_nans(True),
        jax.default_prng_impl("rbg"),
        jax.default_device(jax.devices()[-1]),
        jax.set_mesh(mesh),
        strictly(),
    ):
        yield


@contextlib.contextmanager
def strictly():
    """Forbids what careful programs forbid in their own code."""
    with (
        jax.numpy_rank_promotion("raise"),
        jax.numpy_dtype_promotion("strict"),
        jax.transfer_guard("disallow"),
    ):
        yield


def test_training(puppets_dir, tmp_path):
    steps = {"gan__num_steps": 1, "segmenter__num_steps": 1}
    config = config_with(**WITH_ONE_STAGE, dataset__data_dir=str(puppets_dir), **steps)
    with set_otherwise():
        train_stages(config, tmp_path / "w")
    for stage in ("gan", "segmenter"):
        assert (tmp_path / "w" / stage / "checkpoints" / "1").is_dir()


def test_inference():
    photos = np.random.default_rng(0).integers(0, 255, (2, 40, 30, 3), np.uint8)
    found = load_segmenter("people")
    found.refine = False
    expected = found(photos)
    with set_otherwise():
        found = load_segmenter("people")
        found.refine = False
        np.testing.assert_array_equal(found(photos), expected)


def test_networks_in_a_strict_program():
    key, other = jax.random.key(0), jax.random.key(1)
    photos, z = jnp.zeros((1, 16, 16, 3)), jnp.zeros((1, 8))
    generator, style = build_generator(CONFIG), StyleGAN2Generator(8, style_dim=8, mapping_layers=1)
    styles = Source.of(style)
    random = {"params": key, "noise": other}
    with strictly():
        latents = sample_latents(key, 2, generator.noise_dim)
        variables = jax.eval_shape(
            lambda key: generator.init({"params": key}, latents, train=False), other
        )
        made = jax.eval_shape(lambda v: generator.apply(v, latents, train=False).image, variables)
        assert made.shape == (2, 16, 16, 3)
        start = jax.eval_shape(style.init, random, z)
        made = jax.eval_shape(lambda v, k: styles.images(v, styles.sample(v, k, 2)), start, key)
        assert made.shape == (2, 8, 8, 3)
        for network in (gan.Gan.of(CONFIG).discriminator, UNet(3, 2, 2)):
            options = {} if network.__class__ is Discriminator else {"train": False}
            tree = jax.eval_shape(lambda k, n=network, o=options: n.init(k, photos, **o), key)
            jax.eval_shape(lambda v, n=network, o=options: n.apply(v, photos, **o), tree)


def test_networks_on_an_explicit_mesh():
    mesh = jax.make_mesh((4,), ("outer",), axis_types=(AxisType.Explicit,))
    split = NamedSharding(mesh, PartitionSpec("outer"))

    def on_mesh(tree, sharding):
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
        )

    generator, unet = build_generator(CONFIG), UNet(3, 2, 2)
    latents = sample_latents(jax.random.key(0), 4, generator.noise_dim)
    for network, given in ((generator, latents), (unet, jnp.zeros((4, 15, 17, 3)))):
        variables = jax.eval_shape(
            lambda key, n=network, x=given: n.init(key, x, train=False), jax.random.key(0)
        )
        with jax.set_mesh(mesh):
            made = jax.eval_shape(
                lambda v, x, n=network: n.apply(v, x, train=False),
                on_mesh(variables, NamedSharding(mesh, PartitionSpec())),
                on_mesh(given, split),
            )
        images = made.image if network is generator else made
        assert images.shape[0] == 4 and images.sharding.spec[0] == "outer"


def test_projection_in_a_strict_program():
    module = StyleGAN2Generator(8, style_dim=8, mapping_layers=1)
    source = Source.of(module)
    keys = {"params": jax.random.key(0), "noise": jax.random.key(1)}
    variables = jax.jit(module.init)(keys, jnp.zeros((1, 8)))
    settings = projection.ProjectionSettings("w+", num_steps=1)
    targets = jnp.zeros((1, 8, 8, 3))
    with strictly():
        latents, _ = projection.project(source, variables, targets, settings)
    assert latents.shape == (1, 4, 8) and bool(jnp.isfinite(latents).all())


def test_commands_do_not_mind_the_environment():
    before = {name: jax.config.values[name] for name in RULES}
    try:
        for name, value in RULES.items():
            jax.config.update(name, value)
        rules.settle()
        jnp.zeros((2, 3)) * jnp.zeros(3) + 1  # Ranks and numbers of Python.
        assert (jnp.zeros(2, jnp.int32) * jnp.zeros(2)).dtype == jnp.float32
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


@pytest.mark.parametrize("implementation", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_samples_of_any_keys_inside_pmap(implementation):
    generator = build_generator(CONFIG)
    latents = sample_latents(jax.random.key(0), 2, generator.noise_dim)
    variables = init_variables(generator, 0, latents, train=False)

    def sample(key):
        drawn = sample_latents(key, 2, generator.noise_dim)
        return generator.apply(variables, drawn, train=False).image

    keys = jax.random.split(jax.random.key(0, impl=implementation), jax.device_count())
    made = jax.eval_shape(jax.pmap(sample), keys)
    assert made.shape == (jax.device_count(), 2, 16, 16, 3)


@pytest.mark.parametrize("stage", ["gan", "segmenter"])
def test_updates_inside_pmap(stage):
    images = jnp.zeros((jax.device_count(), 2, 16, 16, 3))
    keys = jax.random.split(jax.random.key(0, impl="rbg"), jax.device_count())

    def update(key, images):
        latents = sample_latents(key, 2, CONFIG.model.noise_dim)
        if stage == "gan":
            networks = gan.Gan.of(CONFIG)
            return gan.update(networks, gan.init_state(networks, 0), images, latents, latents)[1]
        networks = segmenter.Segmentation.of(CONFIG)
        labels = jnp.zeros((2, 16, 16), jnp.int32)
        state = segmenter.init_state(networks, 0)
        return segmenter.update(networks, state, images, labels, key)[1]

    metrics = jax.eval_shape(jax.pmap(update), keys, images)
    assert metrics and {x.shape for x in metrics.values()} == {(jax.device_count(),)}


def test_a_traced_call_says_what_to_use():
    with pytest.raises(TypeError, match="use segmenter.apply"):
        jax.jit(checked_photos)(np.zeros((1, 64, 64, 3), np.uint8))
