"""Declares every setting of a run once: type, default, meaning, limits, when it may change.

`Config` and its sections are frozen dataclasses. The ml_collections config of the
command line, validation, `config.json` and the reference page (`configs/README.md`) are made from
them.
"""

import dataclasses
from typing import Any, Literal

from ganseg_jax.config.setting import count, counts, seed, setting
from ganseg_jax.precision import Precision

STAGES = ("gan", "segmenter", "self_training", "autoencoder")
"""Sections of stages that are trained; each is also the name of a folder in the workdir."""


def steps(default: int, minimum: int = 1, doc: str = "Updates in all.") -> Any:
    """Returns a field for a stage's number of updates."""
    return count(default, doc, minimum=minimum, unit="updates", change="steps")


def interval(default: int, doc: str) -> Any:
    """Returns a field for a distance between two outputs of a stage."""
    return count(default, doc, unit="updates", change="anytime")


@dataclasses.dataclass(frozen=True)
class Training:
    """Sets how long a stage is trained, and when it saves and reports."""

    num_steps: int = steps(10_000)
    batch_size: int = count(64, "Photos in each update.", unit="images")
    checkpoint_every: int = interval(1_000, "Distance between checkpoints.")
    log_every: int = interval(100, "Distance between lines of progress.")
    sample_every: int = interval(1_000, "Distance between pictures of predictions.")
    keep_every: int = count(
        0,
        "Checkpoints of every n-th update stay, beside the newest two; 0 keeps none of them.",
        minimum=0,
        unit="updates",
        change="anytime",
        since="0.2",
    )
    keep_best: str = setting(
        "",
        "The checkpoint that is best by this figure stays too: one that `experiments.evaluate "
        "--follow` measures meanwhile (sliced_wasserstein, foreground_iou, ...), or a loss of "
        "`metrics.jsonl`, the lower the better.",
        change="anytime",
        since="0.2",
    )
    on_nonfinite: Literal["stop", "retry"] = setting(
        "stop",
        "What to do if a loss is not finite: stop, or retry from the last checkpoint with other "
        "random keys, at most three times.",
        change="anytime",
    )


@dataclasses.dataclass(frozen=True)
class TrainingFrom(Training):
    """Sets a training that may start with other weights."""

    init_from: str = setting(
        "",
        "Weights to start with: a run's folder, a packed model (its folder or name), or a weight "
        "file with this package's names. What does not fit is named.",
        since="0.2",
    )
    dont_load: str = setting(
        "",
        "Weights that `init_from` leaves as they are initialised: patterns of names with commas "
        "between, such as `discriminator,generator/params/head*`.",
        since="0.2",
    )


@dataclasses.dataclass(frozen=True)
class Partition:
    """Sets how a run is split over devices."""

    fsdp: bool = setting(
        False, "Split parameters and optimiser over the devices, for variants too large for one."
    )


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Sets the photos and how they are read."""

    name: str = setting("", "Name of the data set, as `experiments.prepare_data` knows it.")
    data_dir: str = setting("data", "Folder of the prepared data sets.", change="anytime")
    source: str = setting(
        "",
        "Folder or tar archive to prepare the set from, if it is not prepared.",
        change="anytime",
    )
    max_megapixels: int = count(
        250,
        "Larger photos are left out when the set is prepared.",
        unit="megapixels",
        change="anytime",
        since="0.2",
    )
    augment: Literal["none", "flip", "flip_crop"] = setting(
        "flip",
        "Random changes of the training photos: mirroring, or also crops.",
    )
    num_threads: int = count(
        4, "Threads that decode photos ahead; 0 decodes when needed.", minimum=0, change="anytime"
    )
    cache: Literal["none", "host", "device"] = setting(
        "host",
        "none: decode in every epoch. host: decode once and keep the photos in memory. device: "
        "keep them on every device, where the compiled step draws its batch without the host.",
    )


@dataclasses.dataclass(frozen=True)
class Model:
    """Sets the generator (GANSeg, section 3)."""

    kind: Literal["gan", "autoencoder_points", "autoencoder_masks"] = setting(
        "gan",
        "What is trained: the GAN and its segmenter, or one of the paper's auto-encoders.",
    )
    num_parts: int = count(8, "K, the number of parts; label maps hold no more classes.", below=255)
    points_per_part: int = count(4, "P, the number of points of each part.")
    noise_dim: int = count(256, "D, length of each latent and width of the MLPs.")
    embedding_dim: int = count(64, "E, length of a part's embedding.")
    stage_divisors: tuple[int, ...] = counts(
        (4, 4, 2, 1), "Image size over the map size of each stage; ends with 1."
    )
    stage_channels: tuple[int, ...] = counts(
        (512, 256, 128, 64), "Channels that each stage begins with."
    )
    margin: int = count(10, "Pixels added on each side of every map.", minimum=0, unit="pixels")
    spade_hidden: int = count(128, "Channels between a style and its modulation.")
    point_layers: int = count(4, "Hidden layers of the point MLP.", minimum=0)
    point_divisor: float = setting(20.0, "Points are tanh(MLP / divisor).", above=0)
    heatmap: Literal["linear", "gaussian"] = setting("linear", "Shape of a part's heatmap.")
    part_scale: str = setting(
        "mean_abs", "Extent of a part: mean_abs, norm_variance, std, or a number."
    )
    grid: Literal["corners", "centers"] = setting(
        "corners",
        "Where -1 and 1 lie: on the centres of the outermost pixels, or on their outer edges.",
    )
    head: Literal["two_layer", "single"] = setting(
        "two_layer",
        "Layers from features to colours: two 3x3 convolutions or one 1x1.",
    )
    background_shift: Literal["horizontal", "both"] = setting(
        "horizontal",
        "Directions in which the background moves.",
    )
    use_points: bool = setting(True, "False is the ablation without points.")
    separate_background: bool = setting(
        True, "False is the ablation whose foreground generator makes the background too."
    )


@dataclasses.dataclass(frozen=True)
class Discriminator:
    """Sets the discriminator."""

    channels: tuple[int, ...] = counts(
        (), "Channels of each block, which halves the image; empty takes the published ones."
    )
    hidden: int = count(512, "Units before the logit.")


@dataclasses.dataclass(frozen=True)
class GradientPenalty:
    """Sets the penalty on the discriminator's gradient at photos."""

    kind: Literal["unit_norm", "r1"] = setting(
        "unit_norm",
        "(norm - 1)^2 as released, or norm^2.",
    )
    weight: float = setting(10.0, "Weight; 0 leaves it out.", minimum=0)
    interval: int = count(16, "Applied in every n-th update, not rescaled.", unit="updates")


@dataclasses.dataclass(frozen=True)
class Concentration:
    """Sets the loss that keeps each part near its centre (GANSeg eq. 9)."""

    weight: float = setting(10.0, "Weight; 0 leaves it out.", minimum=0)
    reduction: Literal["mean", "sum"] = setting("mean", "Over the parts.")
    interval: int = count(2, "Applied in every n-th update, not rescaled.", unit="updates")
    final_share: float = setting(
        1.0, "Share of the weight that is left after `decay_until`.", minimum=0
    )
    decay_from: int = count(
        0, "Update at which the weight begins to fall linearly.", minimum=0, unit="updates"
    )
    decay_until: int = count(
        0, "Update at which it stops falling; 0 keeps the weight.", minimum=0, unit="updates"
    )


@dataclasses.dataclass(frozen=True)
class Area:
    """Sets the loss that keeps each part as large as its points span (GANSeg eq. 10)."""

    weight: float = setting(1.0, "Weight; 0 leaves it out.", minimum=0)
    form: Literal["released", "paper"] = setting(
        "released",
        "The wanted area: a disc of the points' spread (released) or the heatmap (paper).",
    )
    counted_at: int = count(
        0, "Image side in whose pixels areas are counted; 0 takes the image's own.", minimum=0
    )
    interval: int = count(2, "Applied in every n-th update, not rescaled.", unit="updates")


@dataclasses.dataclass(frozen=True)
class Gan(TrainingFrom):
    """Sets the training of generator and discriminator."""

    num_steps: int = steps(30_000)
    sample_every: int = interval(1_000, "Distance between pictures of samples.")
    learning_rate_generator: float = setting(1e-4, "Adam's, of the generator.", above=0)
    learning_rate_discriminator: float = setting(4e-4, "Adam's, of the discriminator.", above=0)
    beta1: float = setting(0.5, "Adam's first decay rate.", minimum=0, below=1)
    beta2: float = setting(0.9, "Adam's second decay rate.", minimum=0, below=1)
    background_start: float = setting(
        0.0, "Logit by which the background leads the parts before training."
    )
    point_spread: float = setting(
        0.0,
        "Radius over which part centres lie spread before training; 0 leaves them to chance.",
        minimum=0,
        below=1,
        unit="half images",
    )
    point_layout: Literal["disc", "column", "row", "auto"] = setting(
        "disc",
        "How they are spread: over a disc, one above the other for upright things, side by side "
        "for things that lie. With auto, short trainings from several starts decide (`starts`).",
    )
    discriminator_augment: str = setting(
        "",
        "Random changes of all images that the discriminator sees, against few photos: names out "
        "of color, translation, cutout, with commas between.",
    )
    ema_decay: float = setting(
        0.0,
        "Decay of the moving average of the generator that samples; 0 keeps none.",
        minimum=0,
        below=1,
    )
    share_fakes: bool = setting(
        False, "Update both networks on the same generated images: one forward pass less."
    )
    gradient_penalty: GradientPenalty = GradientPenalty()
    concentration: Concentration = Concentration()
    area: Area = Area()


@dataclasses.dataclass(frozen=True)
class Starts:
    """Sets the short trainings that choose a layout if `gan.point_layout` is auto."""

    image_size: int = count(
        32, "Side of their images, or the run's if that is less.", unit="pixels", since="0.2"
    )
    num_steps: int = count(200, "Updates of each GAN.", unit="updates", since="0.2")
    segmenter_steps: int = count(150, "Updates of each segmenter.", unit="updates", since="0.2")
    photos: int = count(
        200, "Training photos that they are compared on, at most.", unit="images", since="0.2"
    )


@dataclasses.dataclass(frozen=True)
class Segmenter(TrainingFrom):
    """Sets the DeepLab network and its training on generated images."""

    batch_size: int = count(64, "Generated images in each update.", unit="images")
    learning_rate: float = setting(3e-4, "Adam's.", above=0)
    learning_rate_schedule: Literal["constant", "cosine"] = setting(
        "constant", "The learning rate stays, or falls to 0."
    )
    beta1: float = setting(0.9, "Adam's first decay rate.", minimum=0, below=1)
    beta2: float = setting(0.999, "Adam's second decay rate.", minimum=0, below=1)
    backbone: Literal["resnet50", "resnet18"] = setting("resnet50", "The residual network.")
    backbone_checkpoint: str = setting(
        "",
        "Weights to begin the backbone with: a ResNet's, of torchvision, timm, MoCo, DINO, ...",
    )
    initialisation: Literal["published", "he"] = setting(
        "published",
        "Weights before training: as published (He-normal by fan-out, head uniform), or He-normal "
        "by fan-in everywhere.",
        before="he",
        since="0.2",
    )
    width: float = setting(1.0, "Fraction of the published channels.", above=0)
    output_stride: Literal[2, 4, 8, 16, 32] = setting(
        8, "Image size over feature size; 2 only without `stem_pool`."
    )
    atrous_rates: tuple[int, ...] = counts(
        (12, 24, 36), "Dilations of the pyramid.", unit="feature pixels"
    )
    stem_pool: bool = setting(True, "The backbone's max pool; leave it out for small images.")
    find_background: bool = setting(
        False,
        "Find parts that paint background, without labels, and count them as background; beyond "
        "the paper.",
        since="0.2",
    )
    refine: bool = setting(
        False,
        "Bring masks of photos to the edges of their colours; beyond the paper.",
        change="anytime",
    )


@dataclasses.dataclass(frozen=True)
class SelfTraining(Training):
    """Sets further training of the segmenter on photos with its own labels; beyond the paper."""

    num_steps: int = steps(0, minimum=0, doc="Updates in all; 0 leaves the stage out.")
    batch_size: int = count(
        64, "Photos in each update; as many generated images come with them.", unit="images"
    )
    refine_labels: bool = setting(
        True, "Bring the labels to the edges of the photos' colours.", before=False
    )
    learning_rate: float = setting(
        1e-4, "Adam's at the start; it falls to 0 along a cosine.", above=0
    )


@dataclasses.dataclass(frozen=True)
class Autoencoder:
    """Sets the U-Net of `autoencoder_points`; all else is set as for GAN and segmenter."""

    unet_width: int = count(64, "Channels at full size.")
    unet_depth: int = count(4, "Halvings of the image.")


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Sets what is measured."""

    protocols: tuple[str, ...] = setting(
        (), "Names of protocols; empty takes those made for the data set.", change="anytime"
    )
    batch_size: int = count(32, "Images at a time.", unit="images", change="anytime")
    num_samples: int = count(
        50_000, "Generated images to compare with the photos.", unit="images", change="anytime"
    )
    embedding_samples: int = count(
        320, "Samples in the t-SNE plot.", unit="images", change="anytime"
    )
    inception_checkpoint: str = setting(
        "",
        "FID Inception weights; without them FID and KID are not measured.",
        change="anytime",
        file="FID Inception weights, or leave it empty to measure neither FID nor KID",
    )
    backbone_checkpoint: str = setting(
        "",
        "A ResNet's weights: measure deep feature factorisation too.",
        change="anytime",
        file="a ResNet's weights, or leave it empty to measure no deep feature factorisation",
    )
    dino_checkpoint: str = setting(
        "",
        "Weights of DINO, DINOv2 or DINOv3 (a ViT): measure clusterings of their features too.",
        change="anytime",
        file="weights of a DINO's ViT, or leave it empty to measure no clusterings of its features",
        since="0.2",
    )
    precision: Precision = setting(
        "highest", "As `precision`, for evaluation and segmenting photos.", change="anytime"
    )
    references: bool = setting(True, "Measure the simple references too.", change="anytime")


@dataclasses.dataclass(frozen=True)
class Config:
    """Holds all settings of a run; the defaults are published for CelebA-in-the-wild."""

    seed: int = seed("Decides all randomness of the run.")
    image_size: int = count(128, "S, side of the images.", unit="pixels")
    dtype: Literal["float32", "bfloat16"] = setting("float32", "Type to compute in.")
    precision: Precision = setting(
        "default",
        "How exactly accelerators multiply float32 values in training: default rounds the factors "
        "to bfloat16 on a TPU and to TF32 on a GPU, high multiplies in three passes on a TPU, "
        "highest rounds nothing. Coordinates are always exact.",
        change="anytime",
    )
    partition: Partition = Partition()
    dataset: Dataset = Dataset()
    model: Model = Model()
    discriminator: Discriminator = Discriminator()
    starts: Starts = Starts()
    gan: Gan = Gan()
    segmenter: Segmenter = Segmenter()
    self_training: SelfTraining = SelfTraining()
    autoencoder: Autoencoder = Autoencoder()
    evaluation: Evaluation = Evaluation()
