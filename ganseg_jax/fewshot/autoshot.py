"""Auto-shot segmentation: a U-Net trained on generated images that the few-shot head labelled.

Tritrong, Rewatbowornwong, Suwajanakorn, CVPR 2021, section 3.3. Real images then need one pass of
the U-Net and no generator, at other sizes and orientations too.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import grain.python as grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, UInt8

from ganseg_jax import prng
from ganseg_jax.config import few_shot as schema
from ganseg_jax.data.annotations.common import UNLABELLED
from ganseg_jax.models.initialise import init_variables
from ganseg_jax.models.unet import UNet
from ganseg_jax.pixels import to_unit_range
from ganseg_jax.precision import EXACT
from ganseg_jax.training.batches import from_iterator
from ganseg_jax.training.stage import Schedule, Stage


def random_transforms(
    key: jax.Array, batch: int, settings: schema.Augmentation
) -> tuple[Float[Array, "b 2 2"], Float[Array, "b 2"]]:
    """Draws matrix A and shift t of p -> A p + t, output to input, (row, col) in [-1, 1]."""
    keys = prng.streams(key, ("flip", "scale", "rotation", "translation"))
    low, high = jnp.log(jnp.array(settings.scale, jnp.float32))
    # From output to input, so that the factor by which the picture grows divides.
    scale = jnp.exp(
        -jax.random.uniform(keys["scale"], (batch,), jnp.float32, minval=low, maxval=high)
    )
    limit = jnp.deg2rad(settings.rotation)
    angle = jax.random.uniform(keys["rotation"], (batch,), jnp.float32, -limit, limit)
    mirror = jnp.where(jax.random.bernoulli(keys["flip"], settings.flip, (batch,)), -1.0, 1.0)
    cos, sin = jnp.cos(angle) * scale, jnp.sin(angle) * scale
    rows = jnp.stack([cos, -sin * mirror], axis=-1)
    cols = jnp.stack([sin, cos * mirror], axis=-1)
    matrix = jnp.stack([rows, cols], axis=1)  # [B, 2, 2]
    # A side is 2 long in these coordinates.
    reach = 2.0 * settings.translation
    shift = jax.random.uniform(
        keys["translation"], (batch, 2), jnp.float32, minval=-reach, maxval=reach
    )
    return matrix, -jnp.einsum("bij,bj->bi", matrix, shift, precision=EXACT)


def warp(
    x: Float[Array, "b h w c"], matrix: Float[Array, "b 2 2"], shift: Float[Array, "b 2"]
) -> Float[Array, "b h w c"]:
    """Reads maps at A p + t (bilinear, pixel centres at (2i + 1)/n - 1), mirrored at borders."""
    height, width = x.shape[1:3]
    rows = (2 * jnp.arange(height, dtype=jnp.float32) + 1) / height - 1
    cols = (2 * jnp.arange(width, dtype=jnp.float32) + 1) / width - 1
    grid = jnp.stack(jnp.meshgrid(rows, cols, indexing="ij"), axis=-1)  # [H, W, 2]
    places = jnp.einsum("bij,hwj->bhwi", matrix, grid, precision=EXACT)
    places = places + shift[:, None, None, :]
    places = (places + 1) * jnp.array([height, width]) / 2 - 0.5  # pixels

    def read(image: Array, places: Array) -> Array:
        corner = jnp.floor(places)
        share = places - corner  # [H, W, 2]
        corner = corner.astype(jnp.int32)
        total = jnp.zeros_like(image)
        for i in (0, 1):
            for j in (0, 1):
                row = _mirror(corner[..., 0] + i, height)
                col = _mirror(corner[..., 1] + j, width)
                weight_row = share[..., 0] if i else 1 - share[..., 0]
                weight_col = share[..., 1] if j else 1 - share[..., 1]
                total += image[row, col] * (weight_row * weight_col)[..., None]
        return total

    return jax.vmap(read)(x, places)


def _mirror(index: Int[Array, "..."], size: int) -> Int[Array, "..."]:
    """Mirrors indices: ... 1 0 | 0 1 2 ... size-1 | size-1 size-2 ..."""
    index = jnp.mod(index, 2 * size)
    return jnp.where(index < size, index, 2 * size - 1 - index)


def augment(
    key: jax.Array,
    images: Float[Array, "b h w 3"],
    labels: Float[Array, "b h w c"],
    settings: schema.Augmentation,
) -> tuple[Float[Array, "b h w 3"], Float[Array, "b h w c"]]:
    """Changes images and soft labels by the same random flip, scale, rotation and translation.

    What lies beyond the border is the mirrored picture, in both: so every pixel's label stays
    true, and no border is shown that real photos do not have.
    """
    matrix, shift = random_transforms(key, images.shape[0], settings)
    both = warp(jnp.concatenate([images, labels], axis=-1), matrix, shift)
    return both[..., :3], both[..., 3:]


def make_optimizer(settings: schema.AutoShot) -> optax.GradientTransformation:
    """Returns clipping, weight decay in the gradient, Adam, and a learning rate that falls.

    `update` takes the loss as the keyword `value`.
    """
    steps_per_epoch = max(1, settings.num_samples // settings.batch_size)
    rate: Any = settings.learning_rate
    if settings.learning_rate_schedule == "cosine":
        rate = optax.cosine_decay_schedule(rate, settings.num_steps)
    every_entry = optax.chain(
        optax.clip(settings.clip),
        optax.add_decayed_weights(settings.weight_decay),
        optax.adam(rate),
    )
    if settings.learning_rate_schedule == "cosine":
        return optax.with_extra_args_support(optax.flatten(every_entry))
    plateau = optax.contrib.reduce_on_plateau(
        factor=0.1,
        patience=settings.patience,
        rtol=1e-4,
        accumulation_size=steps_per_epoch,
        min_scale=settings.min_learning_rate / settings.learning_rate,
    )

    def finite_start(params):
        # Before the first epoch optax's best loss is infinite, which would look like a broken
        # state.
        state = plateau.init(params)
        return state._replace(best_value=jnp.nan_to_num(state.best_value))

    return optax.chain(
        optax.flatten(every_entry),  # one vector: one kernel instead of one for each parameter
        optax.GradientTransformationExtraArgs(finite_start, plateau.update),
    )


@flax.struct.dataclass
class AutoShotState:
    """Holds what changes from step to step."""

    step: Int[Array, ""]
    variables: Any
    optimizer: Any


def init_state(network: nn.Module, image_size: int, settings: schema.AutoShot) -> AutoShotState:
    """Returns the state before the first step."""
    image = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
    variables = init_variables(network, settings.seed, image, train=False)
    variables = jax.tree.map(jnp.asarray, variables)
    optimizer = jax.jit(make_optimizer(settings).init)(variables["params"])
    return AutoShotState(jnp.int32(0), variables, optimizer)


def soft_cross_entropy(
    logits: Float[Array, "b h w c"], labels: Float[Array, "b h w c"]
) -> Float[Array, ""]:
    """Returns -sum_c p_c log q_c, mean over the pixels."""
    return -jnp.mean(jnp.sum(labels * jax.nn.log_softmax(logits), axis=-1))


@functools.partial(jax.jit, static_argnames=("network", "settings"), donate_argnums=2)
def train_step(
    network: nn.Module,
    settings: schema.AutoShot,
    state: AutoShotState,
    images: UInt8[Array, "b h w 3"],
    labels: UInt8[Array, "b h w c"],
) -> tuple[AutoShotState, Float[Array, ""]]:
    """Updates on a batch, augmented on the device.

    Args:
      network: a `UNet`.
      settings: see `config.few_shot.AutoShot`.
      state: of the training.
      images: 0..255.
      labels: probabilities of the classes as 0..255; they need not add up to 255 exactly. A pixel
        whose classes are all 0 is not labelled and teaches nothing.

    Returns:
      The new state, and the loss before the update.
    """
    key = prng.step_key(prng.root_key(settings.seed), state.step, "augment")
    pictures = to_unit_range(images)
    targets = labels.astype(jnp.float32)
    targets = targets / jnp.maximum(jnp.sum(targets, axis=-1, keepdims=True), 1.0)
    pictures, targets = augment(key, pictures, targets, settings.augmentation)

    def loss_of(params):
        variables = {**state.variables, "params": params}
        logits, updates = network.apply(variables, pictures, train=True, mutable=["batch_stats"])
        return soft_cross_entropy(logits, targets), updates

    params = state.variables["params"]
    (loss, updates), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
    changes, optimizer = make_optimizer(settings).update(
        gradients, state.optimizer, params, value=loss
    )
    variables = {"params": optax.apply_updates(params, changes), **updates}
    return AutoShotState(state.step + 1, variables, optimizer), loss


@dataclasses.dataclass(frozen=True)
class Photos:
    """Holds labelled photos that the U-Net learns from beside the generated images.

    Attributes:
      images: 0..255.
      labels: probabilities of the classes times 255; all 0 where a pixel is not labelled.
      share: part of the images of an epoch that are photos; each is repeated as often as needed.
    """

    images: UInt8[np.ndarray, "m s s 3"]
    labels: UInt8[np.ndarray, "m s s c"]
    share: float

    def repeated(self, others: int) -> int:
        """Returns how many images of an epoch are photos if there are `others` beside them."""
        return max(len(self.images), round(others * self.share / (1 - self.share)))


def one_hot(labels: Int[np.ndarray, "n h w"], num_classes: int) -> UInt8[np.ndarray, "n h w c"]:
    """Returns label maps as probabilities times 255: all 0 where a pixel is not labelled (255)."""
    table = np.zeros((UNLABELLED + 1, num_classes), np.uint8)
    table[:num_classes] = 255 * np.eye(num_classes)
    return table[labels]


class _Samples:
    """Gives Grain random access to labelled images, photos behind them."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, photos: Photos | None):
        self._images, self._labels, self._photos = images, labels, photos
        self._repeated = 0 if photos is None else photos.repeated(len(images))

    def __len__(self) -> int:
        return len(self._images) + self._repeated

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        images, labels = self._images, self._labels
        if self._photos is not None and index >= len(images):
            index = (index - len(images)) % len(self._photos.images)
            images, labels = self._photos.images, self._photos.labels
        return {"image": np.array(images[index]), "label": np.array(labels[index])}


def sample_batches(
    images: UInt8[np.ndarray, "n s s 3"],
    labels: UInt8[np.ndarray, "n s s c"],
    batch_size: int,
    seed: int,
    photos: Photos | None = None,
) -> grain.DatasetIterator:
    """Returns endless batches {"image", "label"}, reshuffled every epoch, photos among them."""
    source = _Samples(images, labels, photos)
    dataset = grain.MapDataset.source(source).seed(seed).shuffle().repeat()
    # Grain would keep 500 batches ready by itself, gigabytes of large images.
    options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=2)
    return iter(dataset.batch(batch_size, drop_remainder=True).to_iter_dataset(options))


def declare(
    settings: schema.FewShot,
    images: UInt8[np.ndarray, "n s s 3"],
    labels: UInt8[np.ndarray, "n s s c"],
    made_from: Mapping[str, Any] | None = None,
    photos: Photos | None = None,
) -> Stage:
    """Returns the stage that trains the U-Net on labelled images.

    Args:
      settings: of few-shot segmentation; `auto_shot.num_samples` alone decides how many updates the
        learning rate's schedule takes for an epoch.
      images: 0..255.
      labels: probabilities of the classes times 255.
      made_from: what images and labels are made from; see `training.inputs`.
      photos: labelled photos to learn from beside these images.
    """
    network, chosen = network_of(settings, labels.shape[-1]), settings.auto_shot
    example = {"image": images[: chosen.batch_size], "label": labels[: chosen.batch_size]}
    example = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((chosen.batch_size, *x.shape[1:]), x.dtype), example
    )

    def step(root: Any, constants: Any, state: AutoShotState, batch: Any, split: Any) -> Any:
        state, loss = train_step(network, chosen, state, batch["image"], batch["label"])
        return state, {"loss": loss}

    return Stage(
        name="auto_shot",
        schedule=Schedule(
            num_steps=chosen.num_steps,
            checkpoint_every=settings.checkpoint_every,
            log_every=settings.log_every,
            sample_every=settings.checkpoint_every,
        ),
        seed=chosen.seed,
        init=lambda: init_state(network, images.shape[1], chosen),
        step=step,
        batches=lambda mesh: from_iterator(
            sample_batches(images, labels, chosen.batch_size, chosen.seed, photos), example, mesh
        ),
        inputs=made_from or {},
        parallel=False,
    )


def network_of(settings: schema.FewShot, num_classes: int) -> UNet:
    """Returns the U-Net of the settings."""
    return UNet(num_classes, settings.unet_width, settings.unet_depth)
