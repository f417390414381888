"""What all experiments share: every field with the published value, and argument parsing."""

import ml_collections


def base_config() -> ml_collections.ConfigDict:
    """The published CelebA-in-the-wild settings at 128 px; experiments change what differs."""
    c = ml_collections.ConfigDict()
    c.seed = 0
    c.image_size = 128
    c.dtype = "float32"  # Compute type: float32 or bfloat16.

    c.partition = ml_collections.ConfigDict()
    c.partition.fsdp = False  # Parameters and optimiser split over the devices: for large variants.

    c.dataset = ml_collections.ConfigDict()
    c.dataset.name = ""
    c.dataset.data_dir = "data"
    c.dataset.source = ""  # Folder or tar to prepare the set from, where it is not prepared yet.
    c.dataset.augment = "flip"  # none, flip, flip_crop.
    c.dataset.num_threads = 4
    # none: decode in every epoch; host: once, kept in memory; device: on every device, where the
    # compiled step draws its batch, without any work of the host.
    c.dataset.cache = "host"

    c.model = ml_collections.ConfigDict()
    c.model.kind = "gan"  # gan, or an ablation: autoencoder_points, autoencoder_masks.
    c.model.num_parts = 8
    c.model.points_per_part = 4
    c.model.noise_dim = 256
    c.model.embedding_dim = 64
    c.model.stage_divisors = (4, 4, 2, 1)  # Of the image size: 32, 32, 64, 128.
    c.model.stage_channels = (512, 256, 128, 64)
    c.model.margin = 10
    c.model.spade_hidden = 128
    c.model.point_layers = 4
    c.model.point_divisor = 20.0
    c.model.heatmap = "linear"  # linear, gaussian.
    c.model.part_scale = "mean_abs"  # mean_abs, norm_variance, std, or a number.
    c.model.grid = "corners"  # corners, centers.
    c.model.head = "two_layer"  # two_layer, single.
    c.model.background_shift = "horizontal"  # horizontal, both.
    c.model.use_points = True
    c.model.separate_background = True

    c.discriminator = ml_collections.ConfigDict()
    c.discriminator.channels = ()  # Empty: the published ones for the image size.
    c.discriminator.hidden = 512

    c.gan = ml_collections.ConfigDict()
    c.gan.num_steps = 30_000
    c.gan.batch_size = 64
    c.gan.checkpoint_every = 1_000
    c.gan.log_every = 100
    c.gan.sample_every = 1_000
    c.gan.on_nonfinite = "stop"  # stop; retry: from the last checkpoint with other keys.
    c.gan.learning_rate_generator = 1e-4
    c.gan.learning_rate_discriminator = 4e-4
    c.gan.beta1 = 0.5
    c.gan.beta2 = 0.9
    c.gan.background_start = 0.0  # Logit by which the background leads the parts before training.
    c.gan.point_spread = 0.0  # Radius over which the part centres lie spread before training.
    c.gan.point_layout = "disc"  # Or "column", for things that stand upright.
    # What the discriminator sees changed at random, against few photos: color,translation,cutout.
    c.gan.discriminator_augment = ""
    c.gan.ema_decay = 0.0  # Of the generator that samples; 0: none.
    c.gan.share_fakes = False  # Both updates on the same fakes: one forward pass less.
    c.gan.gradient_penalty = ml_collections.ConfigDict()
    c.gan.gradient_penalty.kind = "unit_norm"  # unit_norm, r1.
    c.gan.gradient_penalty.weight = 10.0
    c.gan.gradient_penalty.interval = 16
    c.gan.concentration = ml_collections.ConfigDict()
    c.gan.concentration.weight = 10.0
    c.gan.concentration.reduction = "mean"  # Over parts: mean, sum.
    c.gan.concentration.interval = 2
    # The weight falls to this share of it between these steps; until 0: it stays.
    c.gan.concentration.final_share = 1.0
    c.gan.concentration.decay_from = 0
    c.gan.concentration.decay_until = 0
    c.gan.area = ml_collections.ConfigDict()
    c.gan.area.weight = 1.0
    c.gan.area.form = "released"  # released: disc of the points' spread; paper: heatmaps.
    c.gan.area.counted_at = 0  # Image side in whose pixels areas count; 0: the image's own.
    c.gan.area.interval = 2

    c.segmenter = ml_collections.ConfigDict()
    c.segmenter.num_steps = 10_000
    c.segmenter.batch_size = 64
    c.segmenter.checkpoint_every = 1_000
    c.segmenter.log_every = 100
    c.segmenter.sample_every = 1_000
    c.segmenter.on_nonfinite = "stop"
    c.segmenter.learning_rate = 3e-4
    c.segmenter.learning_rate_schedule = "constant"  # constant, cosine.
    c.segmenter.beta1 = 0.9
    c.segmenter.beta2 = 0.999
    c.segmenter.backbone = "resnet50"  # resnet50, resnet18.
    c.segmenter.backbone_checkpoint = ""  # A ResNet state_dict in torchvision's names.
    c.segmenter.width = 1.0
    c.segmenter.output_stride = 8
    c.segmenter.atrous_rates = (12, 24, 36)
    c.segmenter.stem_pool = True
    # Beyond the paper: photos' masks are brought to the edges of their colours.
    c.segmenter.refine = False

    # Beyond the paper: the segmenter goes on learning from photos, with labels of its own.
    c.self_training = ml_collections.ConfigDict()
    c.self_training.num_steps = 0  # 0: none of it.
    c.self_training.batch_size = 64  # Photos; as many generated images come with them.
    c.self_training.checkpoint_every = 1_000
    c.self_training.log_every = 100
    c.self_training.sample_every = 1_000
    c.self_training.on_nonfinite = "stop"
    c.self_training.refine_labels = True  # To the edges that the photos have.
    c.self_training.learning_rate = 1e-4  # At the start; falls along a cosine.

    # The U-Net of autoencoder_points; all else is set as for the GAN and the segmenter.
    c.autoencoder = ml_collections.ConfigDict()
    c.autoencoder.unet_width = 64
    c.autoencoder.unet_depth = 4

    c.evaluation = ml_collections.ConfigDict()
    c.evaluation.protocols = ()  # Empty: those made for the data set.
    c.evaluation.batch_size = 32
    c.evaluation.num_samples = 50_000  # Generated, to compare with the training photos.
    c.evaluation.embedding_samples = 320  # In the t-SNE plot.
    c.evaluation.inception_checkpoint = ""  # FID Inception weights; without: no FID and KID.
    c.evaluation.backbone_checkpoint = ""  # A ResNet's weights: deep feature factorisation too.
    c.evaluation.references = True  # Measure the simple references too.
    return c


def use_small_networks(c: ml_collections.ConfigDict, size: int) -> None:
    """An image size, and networks for it that train on a CPU; from 128 px on the published ones."""
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
    c.segmenter.output_stride = 2  # At 4, limbs would be half a feature wide.
    c.segmenter.stem_pool = False
    c.segmenter.atrous_rates = (2, 4, 6)
    c.autoencoder.unet_width = 16
    c.autoencoder.unet_depth = 3


def use_paper_variant(c: ml_collections.ConfigDict) -> None:
    """The equations of the paper's text where the released models differ from them."""
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


def parse_arg(arg: str | None, **defaults) -> ml_collections.ConfigDict:
    """Arguments after the config file's name: `--config=configs/x.py:name=value,name=value`.

    Args:
      arg: what follows the colon.
      **defaults: the known names with their defaults, whose types the values take.

    Raises:
      ValueError: naming the argument that is not known or of another type.
    """
    values = dict(defaults)
    for item in filter(None, (arg or "").split(",")):
        name, _, value = item.partition("=")
        if name not in defaults:
            raise ValueError(f"config argument {name!r} is none of {', '.join(defaults)}")
        try:
            values[name] = type(defaults[name])(value)
        except ValueError:
            kind = type(defaults[name]).__name__
            raise ValueError(f"config argument {name}={value!r} must be {kind}") from None
    return ml_collections.ConfigDict(values)


def use_published_arg(
    c: ml_collections.ConfigDict, arg: str | None, parts: int, ratio: float
) -> ml_collections.ConfigDict:
    """Applies `parts=K,variant=released|paper`, with lambda_con = ratio * K (GANSeg eq. 26)."""
    given = parse_arg(arg, parts=parts, variant="released")
    use_published(c, given.parts, given.variant, ratio)
    return c


def use_published(c: ml_collections.ConfigDict, parts: int, variant: str, ratio: float) -> None:
    """Number of parts with its lambda_con, and the variant 'released' or 'paper'."""
    c.model.num_parts = parts
    c.gan.concentration.weight = ratio * parts
    if variant == "paper":
        use_paper_variant(c)
    elif variant != "released":
        raise ValueError(f"variant={variant!r} is neither 'released' nor 'paper'")
