"""The stage of self-training: the trained segmenter learns from photos, still without labels.

It is beyond the paper. The segmenter learns from generated images and meets photos only when it is
used; its answer for a photo differs from that for the mirror image. In this stage half of a batch
is generated images with their masks. The other half is training photos with pseudo-labels: what its
teacher says about photo and mirror image together (self-training: Xie et al., "Self-training with
Noisy Student improves ImageNet classification", CVPR 2020). The teacher is
the moving average of the segmenter itself (Tarvainen and Valpola, "Mean teachers are better role
models", NeurIPS 2017). Its labels are brought to the edges of the photos' colours
(`ganseg_jax.refinement`); the segmenter sees the photos in changed colours, and so has to
go by shapes.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from etils import epath
from jaxtyping import Array, Float, Int, UInt8

from ganseg_jax import loading, parts, pixels, prng, refinement
from ganseg_jax.config import Config
from ganseg_jax.config.file import stage_settings
from ganseg_jax.data import pipeline
from ganseg_jax.latents import sample_latents
from ganseg_jax.report.sheets import segmentation_sheet
from ganseg_jax.training import batches, inputs, segmenter
from ganseg_jax.training.augmentation import change_images
from ganseg_jax.training.sheet import SHEET_SAMPLES
from ganseg_jax.training.stage import Schedule, Stage

Metrics = dict[str, jax.Array]

NAME = "self_training"
"""Name of the stage, and of its folder in the workdir."""

TEACHER_DECAY = 0.99
"""Share of the teacher that a step keeps."""


@flax.struct.dataclass
class SelfTrainingState:
    """Holds everything that self-training changes.

    Attributes:
      student: the segmenter, its Adam, and the number of updates done.
      teacher: {"params", "batch_stats"}, the moving average of the student's.
    """

    student: segmenter.SegmenterState
    teacher: Any

    @property
    def step(self) -> jax.Array:
        """Returns the number of updates done so far."""
        return self.student.step


def of_config(config: Config) -> segmenter.Segmentation:
    """Returns the networks and settings of self-training.

    Raises:
      UserError: naming the field that does not fit.
    """
    s = config.self_training
    return dataclasses.replace(
        segmenter.Segmentation.of(config),
        batch_size=s.batch_size,
        learning_rate=s.learning_rate,
        decay_steps=s.num_steps,
    )


def state_from_variables(segmentation: segmenter.Segmentation, variables: Any) -> SelfTrainingState:
    """Returns the state before the first step, from a trained segmenter's variables."""
    student = segmenter.state_from_variables(segmentation, variables)
    return SelfTrainingState(student, teacher=variables)


def pseudo_labels(
    predict: Callable[[Float[Array, "b h w 3"]], Float[Array, "b h w c"]],
    images: Float[Array, "b h w 3"],
    *,
    refined: bool,
) -> Int[Array, "b h w"]:
    """Returns labels on which a segmenter agrees with itself about images and mirror images.

    A pixel is foreground if the mean of the background's two probabilities is below one half. The
    image itself decides which part it is, since mirroring exchanges left and right parts.

    Args:
      predict: images in [-1, 1] to probabilities, background first.
      images: in [-1, 1].
      refined: bring these probabilities to the edges of the images, by `refinement.refine`.
    """
    direct, mirrored = predict(images), predict(images[:, :, ::-1])[:, :, ::-1]
    background = (direct[..., :1] + mirrored[..., :1]) / 2
    parts = direct[..., 1:]
    if refined:
        share = parts / jnp.maximum(jnp.sum(parts, -1, keepdims=True), 1e-12)
        both = jnp.concatenate([background, (1 - background) * share], -1)
        both = refinement.refine(images, both)
        background, parts = both[..., :1], both[..., 1:]
    return jnp.where(background[..., 0] >= 0.5, 0, 1 + jnp.argmax(parts, -1))


def step(
    segmentation: segmenter.Segmentation,
    root: jax.Array,
    generator_variables: Any,
    batch_sharding: jax.sharding.Sharding | None,
    state: SelfTrainingState,
    images: UInt8[Array, "b s s 3"],
    *,
    refine_labels: bool = True,
    hidden: tuple[int, ...] = (),
) -> tuple[SelfTrainingState, Metrics]:
    """Updates the segmenter on as many generated images as photos, and its teacher.

    Args:
      segmentation: networks and settings (static); its batch size is the number of photos.
      root: `prng.root_key(seed)`.
      generator_variables: of the trained generator.
      batch_sharding: how images are split over the devices (static); None to leave it open.
      state: before the step.
      images: photos of the training set.
      refine_labels: bring pseudo-labels to the photos' edges (static).
      hidden: numbers of the parts that count as background (static).
    """
    key = prng.step_key(root, state.step, "self_training")
    count, dim = images.shape[0], segmentation.generator.noise_dim
    latents = sample_latents(prng.streams(key), count, dim)
    if batch_sharding is not None:
        latents = jax.lax.with_sharding_constraint(latents, batch_sharding)
    samples: Any = segmentation.generator.apply(generator_variables, latents, train=False)

    classes = np.arange(segmentation.segmenter.num_classes)
    becomes = np.where(np.isin(classes, hidden), 0, classes)

    def predict(images: Array) -> Array:
        logits: Any = segmentation.segmenter.apply(state.teacher, images, train=False)
        found = jax.nn.softmax(logits.astype(jnp.float32))
        return found @ np.eye(len(classes), dtype=np.float32)[becomes] if hidden else found

    real = pixels.to_unit_range(images)
    labels = pseudo_labels(predict, real, refined=refine_labels)
    changed = change_images(prng.stream(key, "photos"), real, ("color",))
    student, metrics = segmenter.update(
        segmentation,
        state.student,
        _in_turn(samples.image, changed),
        _in_turn(jnp.asarray(becomes)[jnp.argmax(samples.masks, -1)], labels),
        prng.stream(key, "dropout"),
    )
    teacher = optax.incremental_update(student.segmenter, state.teacher, 1 - TEACHER_DECAY)
    return SelfTrainingState(student, teacher), metrics


def _in_turn(generated: Array, real: Array) -> Array:
    """Returns one batch of both, in which each device keeps what it has."""
    both = jnp.stack([generated.astype(real.dtype), real], 1)
    return both.reshape(-1, *real.shape[1:])


def outline(config: Config, generator: Any, hidden: tuple[int, ...] = ()) -> Stage:
    """Returns the stage that trains a config's segmenter further, as far as known without photos.

    Its segmenter is untrained.

    Args:
      config: of the run.
      generator: variables of the trained generator, or their shapes.
      hidden: numbers of the parts that count as background.

    Raises:
      UserError: naming the field that does not fit.
    """
    segmentation, batch_size = of_config(config), config.self_training.batch_size

    def update(
        root: jax.Array, constants: Any, state: SelfTrainingState, batch: Any, split: Any
    ) -> tuple[SelfTrainingState, Metrics]:
        return step(
            *(segmentation, root, constants, split, state, batch["image"]),
            refine_labels=config.self_training.refine_labels,
            hidden=hidden,
        )

    def untrained() -> SelfTrainingState:
        first = segmenter.init_state(segmentation, config.seed)
        return state_from_variables(segmentation, first.segmenter)

    return Stage(
        name=NAME,
        schedule=Schedule.of(config.self_training),
        seed=config.seed,
        init=untrained,
        step=update,
        constants=generator,
        batch=("self_training.batch_size", batch_size),
        batches=batches.shapes_of_photos(config.image_size, batch_size),
        whole=("student", "teacher"),
        fsdp=config.partition.fsdp,
        precision=config.precision,
        retry=config.self_training.on_nonfinite == "retry",
    )


def declare(config: Config, workdir: epath.PathLike) -> Stage:
    """Returns the stage that trains the workdir's segmenter further, on photos too.

    Raises:
      UserError: naming the field that does not fit; there is no segmenter in the workdir.
    """
    segmentation, dataset = of_config(config), config.dataset
    generator = loading.restore_generator(config, workdir)
    trained = loading.restore_segmenter(config, workdir, state=loading.State("segmenter"))
    shown = pipeline.load_split(
        dataset.name, dataset.data_dir, "train", config.image_size, SHEET_SAMPLES
    ).images
    batch_size = config.self_training.batch_size
    known = parts.read(workdir, config.model.num_parts)
    hidden = parts.hidden(known) if config.segmenter.find_background else ()

    def view(constants: Any, state: SelfTrainingState) -> Array:
        images = pixels.to_unit_range(jnp.asarray(shown))
        logits: Any = segmentation.segmenter.apply(state.student.segmenter, images, train=False)
        return jnp.argmax(logits, -1)

    return dataclasses.replace(
        outline(config, generator, hidden),
        init=lambda: state_from_variables(segmentation, trained),
        batches=batches.photos(config, batch_size, "self_training.batch_size"),
        inputs={
            "photos": pipeline.fingerprint(dataset.name, dataset.data_dir),
            "generator": inputs.digest(generator),
            "segmenter": inputs.digest(trained),
            "settings": stage_settings(config, NAME),
            "hidden": list(hidden),
        },
        view=view,
        picture=lambda labels: segmentation_sheet(shown, labels),
    )
