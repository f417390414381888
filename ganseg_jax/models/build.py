"""Builds the networks of a config."""

from typing import Any

import jax.numpy as jnp

from ganseg_jax.config import Config
from ganseg_jax.errors import UserError
from ganseg_jax.models.autoencoder import AutoEncoder
from ganseg_jax.models.deeplab import DeepLabV3
from ganseg_jax.models.discriminator import Discriminator, default_channels
from ganseg_jax.models.generator import Generator, check_generator_settings


def build_generator(config: Config) -> Generator:
    """Returns the generator of `config.model` for images of `config.image_size`.

    Raises:
      UserError: naming the field that does not fit.
    """
    m = config.model
    fit = all(d >= 1 and config.image_size % d == 0 for d in m.stage_divisors)
    if not fit or m.stage_divisors[-1:] != (1,):
        raise UserError(
            f"model.stage_divisors={m.stage_divisors} must divide image_size={config.image_size} "
            "and end with 1"
        )
    generator = Generator(
        num_parts=m.num_parts,
        points_per_part=m.points_per_part,
        noise_dim=m.noise_dim,
        embedding_dim=m.embedding_dim,
        stage_sizes=tuple(config.image_size // d for d in m.stage_divisors),
        stage_channels=m.stage_channels,
        margin=m.margin,
        spade_hidden=m.spade_hidden,
        point_layers=m.point_layers,
        point_divisor=m.point_divisor,
        heatmap=m.heatmap,
        part_scale=_part_scale(m.part_scale),
        grid=m.grid,
        head=m.head,
        background_shift=m.background_shift,
        use_points=m.use_points,
        separate_background=m.separate_background,
        point_spread=config.gan.point_spread,
        point_layout=config.gan.point_layout,
        background_start=config.gan.background_start,
        dtype=compute_dtype(config),
    )
    try:
        check_generator_settings(generator)
    except ValueError as error:
        raise UserError(f"config.model: {error}") from error
    return generator


def build_discriminator(config: Config) -> Discriminator:
    """Returns the discriminator of `config.discriminator` for images of `config.image_size`.

    Raises:
      UserError: naming the field that does not fit.
    """
    channels = config.discriminator.channels
    try:
        channels = channels or default_channels(config.image_size)
    except ValueError as error:
        raise UserError(f"config.image_size: {error}") from error
    if config.image_size % 2 ** len(channels):
        raise UserError(
            f"discriminator.channels has {len(channels)} blocks, each halving the image: "
            f"image_size={config.image_size} must be a multiple of {2 ** len(channels)}"
        )
    return Discriminator(channels, config.discriminator.hidden, dtype=compute_dtype(config))


def build_segmenter(config: Config) -> DeepLabV3:
    """Returns the segmenter, with one class for each part and one for the background."""
    s = config.segmenter
    return DeepLabV3(
        num_classes=config.model.num_parts + 1,
        backbone=s.backbone,
        width=s.width,
        output_stride=s.output_stride,
        atrous_rates=s.atrous_rates,
        stem_pool=s.stem_pool,
        initialisation=s.initialisation,
        dtype=compute_dtype(config),
    )


def build_autoencoder(config: Config) -> AutoEncoder:
    """Returns the auto-encoder of `model.kind`.

    Its ResNets have the width of the segmenter's backbone, its DeepLab is the segmenter.

    Raises:
      UserError: naming the field that does not fit.
    """
    kind, unet = config.model.kind.removeprefix("autoencoder_"), config.autoencoder
    if kind == "gan":
        raise UserError(
            "model.kind='gan' is no auto-encoder: set it to autoencoder_points or autoencoder_masks"
        )
    if kind == "points" and not config.model.use_points:
        raise UserError("model.kind='autoencoder_points' does not go with model.use_points=False")
    deepest = config.image_size.bit_length() - 1
    if unet.unet_depth > deepest:
        raise UserError(
            f"autoencoder.unet_depth={unet.unet_depth} must be from 1 to {deepest} "
            f"for image_size={config.image_size}"
        )
    return AutoEncoder(
        # Its masks are read from images and need no start of their own.
        generator=build_generator(config).clone(point_spread=0.0, background_start=0.0),
        kind="points" if kind == "points" else "masks",
        segmenter=build_segmenter(config) if kind == "masks" else None,
        unet_width=unet.unet_width,
        unet_depth=unet.unet_depth,
        resnet_width=config.segmenter.width,
        stem_pool=config.segmenter.stem_pool,
        dtype=compute_dtype(config),
    )


def check_networks(config: Config) -> None:
    """Builds every network that the config's stages train.

    Raises:
      UserError: naming the first field, of whatever stage, that does not fit.
    """
    build_generator(config)
    build_discriminator(config)
    build_segmenter(config)
    if config.model.kind != "gan":
        build_autoencoder(config)


def compute_dtype(config: Config) -> Any:
    """Returns the type of `config.dtype`."""
    return {"float32": jnp.float32, "bfloat16": jnp.bfloat16}[config.dtype]


def _part_scale(value: str) -> Any:
    try:
        return float(value)
    except ValueError:
        return value  # `check_generator_settings` answers unknown words.
