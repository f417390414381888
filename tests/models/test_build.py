"""From configs to networks; mistakes are named."""

import jax.numpy as jnp
import pytest

from configs import celeba_wild
from ganseg_jax.config import freeze, with_fields
from ganseg_jax.errors import UserError
from ganseg_jax.jobs.begin import check
from ganseg_jax.models import build
from ganseg_jax.training.autoencoder import AutoEncoding
from ganseg_jax.training.gan import Gan
from ganseg_jax.training.segmenter import Segmentation
from tests.tiny_config import config_with


def test_generator_has_the_config_s_settings():
    config = config_with(dtype="bfloat16", model__grid="centers", model__part_scale="0.01")
    generator = build.build_generator(config)
    assert generator.stage_sizes == (8, 16) and generator.stage_channels == (8, 4)
    assert (generator.num_parts, generator.points_per_part, generator.margin) == (3, 3, 2)
    assert (generator.grid, generator.part_scale) == ("centers", 0.01)
    assert generator.dtype == jnp.bfloat16


def test_segmenter_has_a_class_for_each_part_and_the_background():
    segmentation = Segmentation.of(config_with())
    module = segmentation.segmenter
    assert (module.num_classes, module.backbone, module.atrous_rates) == (4, "resnet18", (1, 2))
    assert segmentation.batch_size == 8
    assert segmentation.generator == build.build_generator(config_with())


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("model__use_points", False, "does not go with model.use_points=False"),
        ("autoencoder__unet_width", 0, "autoencoder.unet_width=0 must be at least 1"),
        ("autoencoder__unet_depth", 5, "unet_depth=5 must be from 1 to 4 for image_size=16"),
    ],
)
def test_autoencoder_s_mistakes_are_named(field, value, message):
    config = config_with(model__kind="autoencoder_points", **{field: value})
    with pytest.raises(UserError, match=message):
        check(config)


def test_autoencoders_have_the_config_s_settings():
    points = AutoEncoding.of(config_with(model__kind="autoencoder_points"))
    assert (points.network.kind, points.network.unet_width, points.network.unet_depth) == (
        "points",
        2,
        2,
    )
    assert points.settings == Gan.of(config_with()).settings
    masks = AutoEncoding.of(config_with(model__kind="autoencoder_masks"))
    assert masks.network.segmenter == build.build_segmenter(config_with())
    with pytest.raises(UserError, match="model.kind='gan' is no auto-encoder"):
        AutoEncoding.of(config_with())


def test_image_size_without_own_discriminator_must_be_a_power_of_two():
    config = with_fields(freeze(celeba_wild.get_config()), {"image_size": 96})
    with pytest.raises(UserError, match="power of two from 4 up, not 96"):
        Gan.of(config)
