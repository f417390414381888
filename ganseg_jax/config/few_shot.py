"""Declares every setting of few-shot segmentation once, as `schema` does for a run."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from ganseg_jax.config.schema import interval, steps
from ganseg_jax.config.setting import count, counts, seed, setting, with_fields


@dataclasses.dataclass(frozen=True)
class Head:
    """Sets the training of the few-shot head (Tritrong et al. 2021, section 4)."""

    epochs: int = count(1000, "Epochs of the head, over the labelled images.", change="steps")
    whole_set: bool = setting(
        False, "Take all labelled images in every update, instead of one.", since="0.3"
    )
    learning_rate: float = setting(1e-3, "Adam's, at the start.", above=0)
    weight_decay: float = setting(1e-3, "Added to the gradients before Adam.", minimum=0)
    decay: float = setting(0.9, "Factor of the learning rate at each decay.", above=0)
    decay_every: int = count(50, "Distance between decays.", unit="epochs")
    standardize: bool = setting(
        True,
        "Standardise the features' channels over the labelled images. The paper does not, but a "
        "head of few labels else learns from the largest channels alone.",
    )
    seed: int = seed("Decides the start and the order of the images.")

    def steps_per_epoch(self, labelled: int) -> int:
        """Returns the updates that see each of the labelled images once."""
        return 1 if self.whole_set else labelled


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Sets random changes of place, made alike in image and label."""

    flip: float = setting(0.5, "Probability of a horizontal flip.", minimum=0)
    scale: tuple[float, float] = setting(
        (0.5, 2.0), "Smallest and largest factor, drawn evenly in the logarithm.", above=0
    )
    rotation: float = setting(10.0, "Largest angle to either side.", minimum=0, unit="degrees")
    translation: float = setting(0.5, "Largest shift.", minimum=0, unit="images")


@dataclasses.dataclass(frozen=True)
class AutoShot:
    """Sets the training of the U-Net on generated images that the head labels (section 3.3)."""

    num_samples: int = count(5000, "Generated images for the U-Net.", unit="images")
    num_steps: int = steps(20_000, doc="Updates of the U-Net.")
    batch_size: int = count(16, "Images in each update of the U-Net.", unit="images")
    learning_rate: float = setting(1e-3, "Adam's, at the start.", above=0)
    weight_decay: float = setting(1e-3, "Added to the gradients before Adam.", minimum=0)
    learning_rate_schedule: Literal["plateau", "cosine"] = setting(
        "plateau",
        "How it falls: tenfold when the loss stays, or to 0 in num_steps along half a cosine.",
        since="0.3",
    )
    patience: int = count(
        20, "On a plateau: epochs without a better mean loss before the learning rate falls."
    )
    min_learning_rate: float = setting(1e-6, "Where it stops falling.", minimum=0)
    clip: float = setting(0.1, "Largest absolute entry of a gradient.", above=0)
    augmentation: Augmentation = Augmentation()
    seed: int = seed("Decides start, order and augmentation.")


@dataclasses.dataclass(frozen=True)
class Photos:
    """Sets what labelled real photos do."""

    use: Literal["auto", "together", "alone"] = setting(
        "auto",
        "What the U-Net learns from if photos are labelled: photos and generated images together, "
        "photos alone, or what does better on photos left out (auto; together if it cannot be "
        "measured, alone if no generated image is labelled).",
        since="0.3",
    )
    share: float = setting(
        0.5,
        "Part of the U-Net's training images that are photos, beside generated ones.",
        above=0,
        below=1,
        since="0.3",
    )
    folds: int = count(
        2,
        "Groups of labelled photos, each left out once to measure what the labels bring; 1 "
        "measures nothing.",
        change="anytime",
        since="0.3",
    )
    check_steps: float = setting(
        0.3,
        "Updates of each U-Net that is trained for this measuring, as a part of num_steps.",
        above=0,
        change="anytime",
        since="0.3",
    )


@dataclasses.dataclass(frozen=True)
class FewShot:
    """Holds all settings of few-shot segmentation, kept in the `config.json` of its folder."""

    head_kind: Literal["auto", "cnn", "mlp"] = setting(
        "auto",
        "Network on the features; auto takes mlp, which sees single pixels, below 128 px.",
    )
    mlp_hidden: tuple[int, ...] = counts((2000, 200), "Channels of the MLP's hidden layers.")
    unet_width: int = count(64, "Channels of the U-Net at full size.")
    unet_depth: int = count(4, "Halvings of the U-Net.")
    log_every: int = interval(100, "Distance between lines of progress.")
    checkpoint_every: int = interval(1000, "Distance between checkpoints.")
    head: Head = Head()
    auto_shot: AutoShot = AutoShot()
    photos: Photos = Photos()


SMALLEST_PUBLISHED = 128
"""Images from this side on, in pixels, get the paper's networks and schedules."""

SMALL: Mapping[str, Any] = {
    "mlp_hidden": (128, 64),
    "unet_width": 16,
    "unet_depth": 3,
    "checkpoint_every": 200,
    "head.epochs": 400,
    "head.whole_set": True,
    "auto_shot.num_samples": 640,
    "auto_shot.num_steps": 600,
    "auto_shot.batch_size": 8,
    "auto_shot.learning_rate": 3e-3,
    "auto_shot.learning_rate_schedule": "cosine",
}
"""What small images have in place of the paper's settings: minutes on two CPU cores."""

Preset = Literal["auto", "published", "small"]


def settings_for(image_size: int, preset: Preset, given: Mapping[str, Any]) -> FewShot:
    """Returns the settings for images of a size.

    Args:
      image_size: side in pixels.
      preset: what is not given is the paper's or small; auto takes what suits the size.
      given: settings by dotted name.
    """
    if preset == "auto":
        preset = "published" if image_size >= SMALLEST_PUBLISHED else "small"
    settings = with_fields(FewShot(), {**(SMALL if preset == "small" else {}), **given})
    if settings.head_kind == "auto":
        # A CNN head sees 61 x 61 pixels. If that is most of the image, it learns from a few labels
        # where things are, not what they are: at 32 px it repeats the labelled image everywhere.
        kind = "cnn" if image_size >= SMALLEST_PUBLISHED else "mlp"
        settings = dataclasses.replace(settings, head_kind=kind)
    return settings
