"""What several files of `configs/` have in common."""

import ml_collections

from ganseg_jax.config.arguments import parse_arg
from ganseg_jax.config.convert import base_config


def use_small_networks(c: ml_collections.ConfigDict, size: int) -> None:
    """Sets the image size, and below 128 px networks that train on a CPU."""
    c.image_size = size
    if size >= 128:
        return
    c.model.noise_dim = 64
    c.model.embedding_dim = 16
    c.model.stage_divisors = (4, 2, 1)
    c.model.stage_channels = (64, 32, 16) if size >= 64 else (48, 32, 16)
    c.model.margin = 3 if size >= 64 else 2
    c.model.spade_hidden = 16
    c.model.head = "single"  # Two 3x3 convolutions would paint things thinner than their masks.
    c.discriminator.channels = (24, 48, 96, 96) if size >= 64 else (24, 48, 96)
    c.discriminator.hidden = 128
    c.segmenter.backbone = "resnet18"
    c.segmenter.width = 0.125
    c.segmenter.initialisation = "he"
    c.segmenter.output_stride = 2  # At 4, limbs would be half a feature wide.
    c.segmenter.stem_pool = False
    c.segmenter.atrous_rates = (2, 4, 6)
    c.autoencoder.unet_width = 16
    c.autoencoder.unet_depth = 3


def use_small_training(c: ml_collections.ConfigDict) -> None:
    """Sets what every small model is trained with; see experiments/results/small_scale."""
    c.model.point_divisor = 5.0  # With the published 20 one part swallows the object.
    c.model.heatmap = "gaussian"
    c.model.part_scale = "std"
    c.model.background_shift = "both"
    c.gan.batch_size = 8
    c.gan.log_every = 50
    c.gan.learning_rate_generator = 1e-3
    c.gan.learning_rate_discriminator = 2e-3
    # Without this and `point_spread`, a part may keep a corner of the image, or take several limbs.
    c.gan.background_start = 4.0
    c.gan.ema_decay = 0.99
    c.gan.share_fakes = True
    c.gan.gradient_penalty.kind = "r1"
    c.gan.gradient_penalty.weight = 2.0
    c.gan.gradient_penalty.interval = 4
    c.gan.concentration.interval = 1
    c.gan.area.form = "paper"
    c.gan.area.counted_at = 128
    c.gan.area.interval = 1
    c.segmenter.log_every = 25
    c.segmenter.learning_rate = 2e-3
    c.segmenter.refine = True


def small_photo_config(size: int) -> ml_collections.ConfigDict:
    """Returns the settings for a thousand or so real photos of upright things, on a CPU."""
    c = base_config()
    use_small_networks(c, size)
    use_small_training(c)
    small = size < 64
    c.dataset.augment = "flip_crop"
    c.dataset.cache = "none"  # Crops are taken from the full-size photo.
    c.model.num_parts = 6
    c.gan.num_steps = 1_200 if small else 1_500
    c.gan.checkpoint_every = 250
    c.gan.sample_every = 250
    c.gan.point_layout = "column"
    c.gan.point_spread = 0.75
    c.gan.concentration.final_share = 0.2
    c.gan.concentration.decay_until = 720 if small else 900
    c.segmenter.num_steps = 250 if small else 400
    c.segmenter.batch_size = 16 if small else 8
    c.segmenter.checkpoint_every = 100
    c.segmenter.sample_every = 100
    c.segmenter.learning_rate_schedule = "cosine"
    c.self_training.num_steps = 300
    c.self_training.batch_size = 8
    c.self_training.checkpoint_every = 100
    c.self_training.log_every = 25
    c.self_training.sample_every = 100
    c.self_training.learning_rate = 1e-3
    c.evaluation.num_samples = 1_497
    return c


def use_paper_variant(c: ml_collections.ConfigDict) -> None:
    """Sets the equations of the paper's text, from which the released models differ."""
    c.model.point_layers = 2
    c.model.heatmap = "gaussian"
    c.model.part_scale = "std"
    c.model.background_shift = "both"
    c.gan.gradient_penalty.kind = "r1"
    c.gan.gradient_penalty.interval = 1
    c.gan.concentration.reduction = "sum"
    c.gan.concentration.interval = 1
    c.gan.area.form = "paper"
    c.gan.area.interval = 1


def use_published_arg(
    c: ml_collections.ConfigDict, arg: str | None, parts: int, ratio: float
) -> ml_collections.ConfigDict:
    """Applies `parts=K,variant=released|paper`, with lambda_con = ratio * K (GANSeg eq. 26)."""
    given = parse_arg(arg, parts=parts, variant="released")
    use_published(c, given.parts, given.variant, ratio)
    return c


def use_published(c: ml_collections.ConfigDict, parts: int, variant: str, ratio: float) -> None:
    """Sets the number of parts, with its lambda_con, and the variant 'released' or 'paper'."""
    c.model.num_parts = parts
    c.gan.concentration.weight = ratio * parts
    if variant == "paper":
        use_paper_variant(c)
    elif variant != "released":
        raise ValueError(f"variant={variant!r} is neither 'released' nor 'paper'")
