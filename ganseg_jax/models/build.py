"""From a config to networks and settings."""

import dataclasses
import difflib
import functools
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import ml_collections

from ganseg_jax.errors import UserError
from ganseg_jax.models.autoencoder import AutoEncoder
from ganseg_jax.models.deeplab import DeepLabV3
from ganseg_jax.models.discriminator import Discriminator, default_channels
from ganseg_jax.models.generator import Generator, PartScale, check_generator_settings
from ganseg_jax.training.augmentation import CHANGES, Change
from ganseg_jax.training.autoencoder import AutoEncoding
from ganseg_jax.training.gan import Gan, GanSettings
from ganseg_jax.training.segmenter import Segmentation, SegmenterSettings

ConfigDict = ml_collections.ConfigDict

MODEL_KINDS = ("gan", "autoencoder_points", "autoencoder_masks")

# Weight files that an evaluation can do without.
_EVALUATION_WEIGHTS = {
    "inception_checkpoint": (
        "FID Inception weights, or leave it empty to measure neither FID nor KID"
    ),
    "backbone_checkpoint": (
        "a ResNet's weights, or leave it empty to measure no deep feature factorisation"
    ),
}

# Fields that count something of which there must be one.
_COUNTS = (
    "image_size",
    *(
        f"{stage}.{name}"
        for stage in ("gan", "segmenter", "self_training")
        for name in ("num_steps", "batch_size", "checkpoint_every", "log_every", "sample_every")
    ),
    *(f"gan.{name}.interval" for name in ("gradient_penalty", "concentration", "area")),
)

# Fields that count something of which there may be none.
_MAY_BE_NONE = ("self_training.num_steps",)


def build_generator(config: ConfigDict) -> Generator:
    """The generator of `config.model` at `config.image_size`.

    Raises:
      UserError: naming the field that does not fit.
    """
    fields = dict(config.model)
    del fields["kind"]
    divisors = tuple(fields.pop("stage_divisors"))
    fit = all(d >= 1 and config.image_size % d == 0 for d in divisors)
    if not fit or divisors[-1:] != (1,):
        raise UserError(
            f"model.stage_divisors={divisors} must divide image_size={config.image_size} "
            "and end with 1"
        )
    generator = Generator(
        stage_sizes=tuple(config.image_size // d for d in divisors),
        stage_channels=tuple(fields.pop("stage_channels")),
        part_scale=_part_scale(fields.pop("part_scale")),
        dtype=compute_dtype(config),
        **fields,
    )
    try:
        check_generator_settings(generator)
    except ValueError as error:
        raise UserError(f"config.model: {error}") from error
    return generator


def build_discriminator(config: ConfigDict) -> Discriminator:
    """The discriminator of `config.discriminator`, for images of `config.image_size`."""
    channels = tuple(config.discriminator.channels)
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


def build_gan(config: ConfigDict) -> Gan:
    """Networks and settings of GAN training.

    Raises:
      UserError: naming the field that does not fit.
    """
    _check_counts(config)
    gan = config.gan
    decay = gan.concentration.decay_from, gan.concentration.decay_until
    if decay != (0, 0) and not 0 <= decay[0] < decay[1]:
        raise UserError(
            f"gan.concentration.decay_from={decay[0]} must be 0 or more and below "
            f"gan.concentration.decay_until={decay[1]}"
        )
    if not 0 <= gan.point_spread < 1:
        raise UserError(f"gan.point_spread={gan.point_spread} must be 0 or more and below 1")
    settings = GanSettings(
        batch_size=gan.batch_size,
        learning_rate_generator=gan.learning_rate_generator,
        learning_rate_discriminator=gan.learning_rate_discriminator,
        beta1=gan.beta1,
        beta2=gan.beta2,
        penalty_kind=_choice(config, "gan.gradient_penalty.kind", ("unit_norm", "r1")),
        penalty_weight=gan.gradient_penalty.weight,
        penalty_interval=gan.gradient_penalty.interval,
        concentration_weight=gan.concentration.weight,
        concentration_reduction=_choice(config, "gan.concentration.reduction", ("mean", "sum")),
        concentration_interval=gan.concentration.interval,
        concentration_final_share=gan.concentration.final_share,
        concentration_decay_from=gan.concentration.decay_from,
        concentration_decay_until=gan.concentration.decay_until,
        area_weight=gan.area.weight,
        area_form=_choice(config, "gan.area.form", ("released", "paper")),
        area_counted_at=gan.area.counted_at,
        area_interval=gan.area.interval,
        point_spread=gan.point_spread,
        point_layout=_choice(config, "gan.point_layout", ("disc", "column")),
        background_start=gan.background_start,
        discriminator_augment=_changes(gan.discriminator_augment),
        ema_decay=gan.ema_decay,
        share_fakes=gan.share_fakes,
        flat_adam=not fully_sharded(config),
    )
    return Gan(build_generator(config), build_discriminator(config), settings)


def build_segmenter(config: ConfigDict) -> DeepLabV3:
    """The segmenter of `config.segmenter`, with one class for each part and the background."""
    s = config.segmenter
    strides = (4, 8, 16, 32) if s.stem_pool else (2, 4, 8, 16, 32)
    _choice(config, "segmenter.output_stride", strides)
    if not s.width > 0:
        raise UserError(f"segmenter.width={s.width} must be positive")
    return DeepLabV3(
        num_classes=config.model.num_parts + 1,
        backbone=_choice(config, "segmenter.backbone", ("resnet50", "resnet18")),
        width=s.width,
        output_stride=s.output_stride,
        atrous_rates=tuple(s.atrous_rates),
        stem_pool=s.stem_pool,
        dtype=compute_dtype(config),
    )


def build_segmentation(config: ConfigDict) -> Segmentation:
    """Segmenter, the generator that teaches it, and settings of its training."""
    _check_counts(config)
    s = config.segmenter
    schedule = _choice(config, "segmenter.learning_rate_schedule", ("constant", "cosine"))
    settings = SegmenterSettings(
        batch_size=s.batch_size,
        learning_rate=s.learning_rate,
        decay_steps=s.num_steps if schedule == "cosine" else 0,
        beta1=s.beta1,
        beta2=s.beta2,
        flat_adam=not fully_sharded(config),
    )
    return Segmentation(build_generator(config), build_segmenter(config), settings)


def build_self_training(config: ConfigDict) -> Segmentation:
    """Segmenter and generator, and settings of the segmenter's self-training."""
    segmentation, s = build_segmentation(config), config.self_training
    changed = {
        "batch_size": s.batch_size,
        "learning_rate": s.learning_rate,
        "decay_steps": s.num_steps,
    }
    return dataclasses.replace(
        segmentation, settings=dataclasses.replace(segmentation.settings, **changed)
    )


def model_kind(config: ConfigDict) -> str:
    """What is trained: "gan" (and its segmenter), "autoencoder_points" or "autoencoder_masks"."""
    return _choice(config, "model.kind", MODEL_KINDS)


def build_autoencoding(config: ConfigDict) -> AutoEncoding:
    """The auto-encoder of `model.kind` and settings of its training, which are the GAN's.

    Its ResNets have the width of the segmenter's backbone, its DeepLab is the segmenter.

    Raises:
      UserError: naming the field that does not fit.
    """
    kind = model_kind(config).removeprefix("autoencoder_")
    if kind == "gan":
        raise UserError(
            "model.kind='gan' is no auto-encoder: set it to autoencoder_points or autoencoder_masks"
        )
    if kind == "points" and not config.model.use_points:
        raise UserError("model.kind='autoencoder_points' does not go with model.use_points=False")
    gan, unet = build_gan(config), config.autoencoder
    if unet.unet_width < 1:
        raise UserError(f"autoencoder.unet_width={unet.unet_width} must be at least 1")
    deepest = config.image_size.bit_length() - 1
    if not 1 <= unet.unet_depth <= deepest:
        raise UserError(
            f"autoencoder.unet_depth={unet.unet_depth} must be from 1 to {deepest} "
            f"for image_size={config.image_size}"
        )
    network = AutoEncoder(
        generator=gan.generator,
        kind=kind,
        segmenter=build_segmenter(config) if kind == "masks" else None,
        unet_width=unet.unet_width,
        unet_depth=unet.unet_depth,
        resnet_width=config.segmenter.width,
        stem_pool=config.segmenter.stem_pool,
        dtype=compute_dtype(config),
    )
    return AutoEncoding(network, gan.settings)


def retries(config: ConfigDict, stage: str) -> bool:
    """Whether a stage ("gan", "segmenter", ...) goes back where something is not finite."""
    return _choice(config, f"{stage}.on_nonfinite", ("stop", "retry")) == "retry"


def cached_on_devices(config: ConfigDict) -> bool:
    """Whether the photos are to lie decoded on the devices."""
    where = _choice(config, "dataset.cache", ("none", "host", "device"))
    augment = _choice(config, "dataset.augment", ("none", "flip", "flip_crop"))
    if where == "device" and augment == "flip_crop":
        raise UserError(
            "dataset.cache='device' mirrors photos but does not crop them: set dataset.augment to "
            "'flip', or dataset.cache to 'host'"
        )
    return where == "device"


def fully_sharded(config: ConfigDict) -> bool:
    """Whether parameters and optimisers are split over the devices."""
    return config.partition.fsdp


def compute_dtype(config: ConfigDict) -> Any:
    """`config.dtype` as a type."""
    return {"float32": jnp.float32, "bfloat16": jnp.bfloat16}[
        _choice(config, "dtype", ("float32", "bfloat16"))
    ]


def _part_scale(value: str) -> PartScale:
    try:
        return float(value)
    except ValueError:
        return value


def _changes(names: str) -> tuple[Change, ...]:
    """The names of `gan.discriminator_augment`, as written with commas between."""
    changes = tuple(filter(None, (name.strip() for name in names.split(","))))
    for name in changes:
        if name not in CHANGES:
            raise UserError(
                f"gan.discriminator_augment={names!r}: {name!r} is none of {', '.join(CHANGES)}"
            )
    return changes


def _choice(config: ConfigDict, field: str, allowed: tuple) -> Any:
    value = _field(config, field)
    if value not in allowed:
        names = [str(choice) for choice in allowed]
        near = difflib.get_close_matches(str(value), names, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UserError(f"{field}={value!r} is none of {', '.join(names)}{hint}")
    return value


def _check_counts(config: ConfigDict) -> None:
    """Raises `UserError` naming the first number that must be at least 1 and is not."""
    for field in _COUNTS:
        least = 0 if field in _MAY_BE_NONE else 1
        if _field(config, field) < least:
            raise UserError(f"{field}={_field(config, field)} must be at least {least}")


def _field(config: ConfigDict, name: str) -> Any:
    return functools.reduce(lambda value, key: value[key], name.split("."), config)


def check_config(config: ConfigDict) -> None:
    """Raises `UserError` naming the first field, of whatever stage, that makes no sense."""
    build_gan(config)
    build_segmentation(config)
    if model_kind(config) != "gan":
        build_autoencoding(config)
    cached_on_devices(config)
    for stage in ("gan", "segmenter", "self_training"):
        retries(config, stage)
    for field, wanted in _EVALUATION_WEIGHTS.items():
        path = config.evaluation[field]
        if path and not Path(path).is_file():
            raise UserError(f"evaluation.{field}={path!r}: there is no such file; give {wanted}")
