"""The segmenter's stage: a DeepLab taught by fresh samples of a frozen generator."""

import dataclasses
import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from etils import epath
from jaxtyping import Array, Float, Int

from ganseg_jax import loading, losses, pixels, prng
from ganseg_jax.config import Config
from ganseg_jax.config.file import stage_settings
from ganseg_jax.errors import UserError
from ganseg_jax.interop import torch_deeplab, weights
from ganseg_jax.latents import sample_latents
from ganseg_jax.models.build import build_generator, build_segmenter
from ganseg_jax.models.deeplab import DeepLabV3
from ganseg_jax.models.generator import Generator
from ganseg_jax.models.initialise import init_variables
from ganseg_jax.report.sheets import segmentation_sheet
from ganseg_jax.training import inputs, start
from ganseg_jax.training.optimizer import adam, flat_norm
from ganseg_jax.training.sheet import sheet_latents
from ganseg_jax.training.stage import Schedule, Stage

Metrics = dict[str, Float[Array, ""]]


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """Holds the segmenter, its teacher, and how it is trained.

    Attributes:
      generator: makes the training images and their masks.
      segmenter: learns from them.
      batch_size: images in each update.
      learning_rate: Adam's.
      decay_steps: updates in which the learning rate falls to 0 along half a cosine (Loshchilov
        and Hutter 2017); 0 keeps it.
      beta1: Adam's first decay rate.
      beta2: Adam's second decay rate.
      flat_adam: keep Adam's moments as one vector (see `optimizer.adam`).
    """

    generator: Generator
    segmenter: DeepLabV3
    batch_size: int = 64
    learning_rate: float = 3e-4
    decay_steps: int = 0
    beta1: float = 0.9
    beta2: float = 0.999
    flat_adam: bool = True

    @classmethod
    def of(cls, config: Config) -> "Segmentation":
        """Returns the networks and settings of a config.

        Raises:
          UserError: naming the field that does not fit.
        """
        s = config.segmenter
        return cls(
            build_generator(config),
            build_segmenter(config),
            batch_size=s.batch_size,
            learning_rate=s.learning_rate,
            decay_steps=s.num_steps if s.learning_rate_schedule == "cosine" else 0,
            beta1=s.beta1,
            beta2=s.beta2,
            flat_adam=not config.partition.fsdp,
        )

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """Returns the segmenter's Adam."""
        return adam(self.learning_rate, self.beta1, self.beta2, self.flat_adam)


@flax.struct.dataclass
class SegmenterState:
    """Holds everything that training changes.

    Attributes:
      step: updates done so far.
      segmenter: {"params", "batch_stats"}.
      optimizer: state of Adam.
    """

    step: jax.Array
    segmenter: Any
    optimizer: Any


def init_state(
    segmentation: Segmentation, seed: int, backbone_checkpoint: str = ""
) -> SegmenterState:
    """Returns the state before the first step, as host arrays.

    Args:
      segmentation: networks and settings.
      seed: of the weights.
      backbone_checkpoint: weights to begin the backbone with, if not empty.

    Raises:
      UserError: the backbone's weights cannot be read or do not fit.
    """
    size = segmentation.generator.image_size
    image = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    variables = init_variables(segmentation.segmenter, seed, image, train=False)
    if backbone_checkpoint:
        variables = _with_backbone(variables, backbone_checkpoint)
    return state_from_variables(segmentation, variables)


def check_backbone(config: Config) -> None:
    """Raises `UserError` if `segmenter.backbone_checkpoint` cannot be read or does not fit."""
    if config.segmenter.backbone_checkpoint:
        shapes = network_shapes(config)["segmenter"]
        _with_backbone(shapes, config.segmenter.backbone_checkpoint)


def network_shapes(config: Config) -> dict[str, Any]:
    """Returns the shapes of a config's segmenter, by its name."""
    size = config.image_size
    image = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    init = functools.partial(build_segmenter(config).init, train=False)
    return {"segmenter": jax.eval_shape(init, jax.random.key(0), image)}


def begin_from(config: Config, state: SegmenterState) -> tuple[SegmenterState, dict[str, Any]]:
    """Returns the state before the first step with `segmenter.init_from`, and whence.

    Raises:
      UserError: they cannot be read or do not fit.
    """
    own = {"segmenter": state.segmenter}
    networks, facts = start.networks_from("segmenter", config, own, network_shapes)
    return state_from_variables(Segmentation.of(config), networks["segmenter"]), facts


def check_start(config: Config) -> None:
    """Raises `UserError` if `segmenter.init_from` cannot be read or does not fit."""
    if config.segmenter.init_from:
        start.networks_from("segmenter", config, network_shapes(config), network_shapes)


def _with_backbone(variables: Any, path: str) -> Any:
    try:
        _, backbone = torch_deeplab.load_backbone(weights.read(path))
        return torch_deeplab.with_backbone(variables, backbone)
    except UserError as error:
        raise UserError(f"segmenter.backbone_checkpoint={path!r}: {error}") from error


def state_from_variables(segmentation: Segmentation, variables: Any) -> SegmenterState:
    """Returns a state of step 0 around given variables."""
    return SegmenterState(
        step=jnp.zeros((), jnp.int32),
        segmenter=variables,
        optimizer=segmentation.optimizer.init(variables["params"]),
    )


def update(
    segmentation: Segmentation,
    state: SegmenterState,
    images: Float[Array, "b s s 3"],
    labels: Int[Array, "b s s"],
    dropout_key: jax.Array,
) -> tuple[SegmenterState, Metrics]:
    """Updates on given images in [-1, 1] and labels (background 0)."""

    def loss_of(params: Any) -> tuple[Array, tuple[Any, Metrics]]:
        variables = {"params": params, "batch_stats": state.segmenter["batch_stats"]}
        logits, mutated = segmentation.segmenter.apply(
            variables,
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": dropout_key},
        )
        loss = losses.segmentation_loss(logits, labels)
        metrics = {
            "loss": loss,
            "cross_entropy": losses.cross_entropy(logits, labels),
            "dice": losses.dice(logits, labels),
            "accuracy": jnp.mean(jnp.argmax(logits, -1) == labels, dtype=jnp.float32),
        }
        return loss, (mutated["batch_stats"], metrics)

    params = state.segmenter["params"]
    gradients, (batch_stats, metrics) = jax.grad(loss_of, has_aux=True)(params)
    updates, optimizer = segmentation.optimizer.update(gradients, state.optimizer, params)
    if segmentation.decay_steps:
        # Adam's updates are proportional to the learning rate.
        share = optax.cosine_decay_schedule(1.0, segmentation.decay_steps)(state.step)
        updates = jax.tree.map(lambda x: share * x, updates)
    state = dataclasses.replace(
        state,
        step=state.step + 1,
        segmenter={"params": optax.apply_updates(params, updates), "batch_stats": batch_stats},
        optimizer=optimizer,
    )
    return state, metrics | {"gradient_norm": flat_norm(gradients)}


def step(
    segmentation: Segmentation,
    root: jax.Array,
    generator_variables: Any,
    batch_sharding: jax.sharding.Sharding | None,
    state: SegmenterState,
) -> tuple[SegmenterState, Metrics]:
    """Updates on fresh samples: the generator's images and its masks' argmax.

    Args:
      segmentation: networks and settings (static).
      root: `prng.root_key(seed)`.
      generator_variables: of the trained generator, used in evaluation mode.
      batch_sharding: how the samples are split over the devices (static); None to leave it open.
      state: before the step.
    """
    key = prng.step_key(root, state.step, "segmenter")
    size, dim = segmentation.batch_size, segmentation.generator.noise_dim
    latents = sample_latents(prng.streams(key), size, dim)
    if batch_sharding is not None:
        latents = jax.lax.with_sharding_constraint(latents, batch_sharding)
    samples: Any = segmentation.generator.apply(generator_variables, latents, train=False)
    labels = jnp.argmax(samples.masks, axis=-1)
    return update(segmentation, state, samples.image, labels, prng.stream(key, "dropout"))


def outline(config: Config, generator: Any) -> Stage:
    """Returns the stage that trains a config's segmenter, as far as it is known without a workdir.

    Args:
      config: of the run.
      generator: variables of the trained generator, or their shapes.

    Raises:
      UserError: naming the field that does not fit.
    """
    segmentation = Segmentation.of(config)
    return Stage(
        name="segmenter",
        schedule=Schedule.of(config.segmenter),
        seed=config.seed,
        init=lambda: init_state(segmentation, config.seed, config.segmenter.backbone_checkpoint),
        begin=functools.partial(begin_from, config) if config.segmenter.init_from else None,
        step=lambda root, teacher, state, batch, split: step(
            segmentation, root, teacher, split, state
        ),
        batch=("segmenter.batch_size", config.segmenter.batch_size),
        constants=generator,
        whole=("segmenter",),
        fsdp=config.partition.fsdp,
        precision=config.precision,
        retry=config.segmenter.on_nonfinite == "retry",
    )


def declare(config: Config, workdir: epath.PathLike) -> Stage:
    """Returns the stage that trains a config's segmenter on the workdir's generator.

    Raises:
      UserError: naming the field that does not fit; there is no GAN in the workdir.
    """
    segmentation, latents = Segmentation.of(config), sheet_latents(config)
    generator = loading.restore_generator(config, workdir)

    def view(teacher: Any, state: SegmenterState) -> tuple[Array, Array, Array]:
        samples: Any = segmentation.generator.apply(teacher, latents, train=False)
        logits: Any = segmentation.segmenter.apply(state.segmenter, samples.image, train=False)
        return samples.image, jnp.argmax(logits, -1), jnp.argmax(samples.masks, -1)

    def picture(shown: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
        images, predicted, masks = shown
        return segmentation_sheet(pixels.to_uint8(images), predicted, masks)

    return dataclasses.replace(
        outline(config, generator),
        inputs={
            "generator": inputs.digest(generator),
            "settings": stage_settings(config, "segmenter"),
        },
        view=view,
        picture=picture,
    )
