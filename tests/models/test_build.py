"""From configs to networks; mistakes are named."""

import jax.numpy as jnp
import pytest

from configs import celeba_wild, tiny
from ganseg_jax.errors import UserError
from ganseg_jax.models import build as settings
from tests.tiny_config import config_with


def test_generator_has_the_config_s_settings():
    config = config_with(dtype="bfloat16", model__grid="centers", model__part_scale="0.01")
    generator = settings.build_generator(config)
    assert generator.stage_sizes == (8, 16) and generator.stage_channels == (8, 4)
    assert (generator.num_parts, generator.points_per_part, generator.margin) == (3, 3, 2)
    assert (generator.grid, generator.part_scale) == ("centers", 0.01)
    assert generator.dtype == jnp.bfloat16


def test_gan_settings_are_the_config_s():
    config = config_with(gan__area__form="paper", gan__ema_decay=0.9, gan__beta1=0.3)
    s = settings.build_gan(config).settings
    assert (s.batch_size, s.penalty_kind, s.penalty_weight) == (8, "unit_norm", 10)
    assert (s.penalty_interval, s.concentration_interval, s.area_interval) == (4, 2, 2)
    assert (s.area_form, s.ema_decay, s.beta1, s.beta2) == ("paper", 0.9, 0.3, 0.9)


def test_segmenter_has_a_class_for_each_part_and_the_background():
    segmentation = settings.build_segmentation(tiny.get_config())
    module = segmentation.segmenter
    assert (module.num_classes, module.backbone, module.atrous_rates) == (4, "resnet18", (1, 2))
    assert segmentation.settings.batch_size == 8
    assert segmentation.generator == settings.build_generator(tiny.get_config())


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
        settings.check_config(config)


def test_autoencoders_have_the_config_s_settings():
    points = settings.build_autoencoding(config_with(model__kind="autoencoder_points"))
    assert (points.network.kind, points.network.unet_width, points.network.unet_depth) == (
        "points",
        2,
        2,
    )
    assert points.settings == settings.build_gan(tiny.get_config()).settings
    masks = settings.build_autoencoding(config_with(model__kind="autoencoder_masks"))
    assert masks.network.segmenter == settings.build_segmenter(tiny.get_config())
    with pytest.raises(UserError, match="model.kind='gan' is no auto-encoder"):
        settings.build_autoencoding(tiny.get_config())


def test_image_size_without_own_discriminator_must_be_a_power_of_two():
    config = celeba_wild.get_config()
    config.image_size = 96
    with pytest.raises(UserError, match="power of two from 4 up, not 96"):
        settings.build_gan(config)
