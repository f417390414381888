"""Where training steps get their photos from: Grain on the host, or a set on the devices."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from ganseg_jax import prng
from ganseg_jax.config import Config
from ganseg_jax.data import pipeline, resident
from ganseg_jax.errors import UserError
from ganseg_jax.training import partition

Batch = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Photos:
    """A source of batches.

    Attributes:
      data: Grain iterator of local batches, or None.
      to_argument: local batch (None without `data`) to the argument that the compiled step takes.
      draw: (argument, step) -> {"image": uint8 (B, S, S, 3)}, to be called in the compiled step.
      sharding: of the argument.
      example: an argument, or its shapes.
    """

    data: Any
    to_argument: Callable[[Any], Any]
    draw: Callable[[Any, jax.Array], Batch]
    sharding: Any
    example: Any


def from_host(config: Config, mesh: Mesh, batch_size: int) -> Photos:
    """Batches read, decoded and augmented by the host, split over the devices."""
    dataset, size = config.dataset, config.image_size
    data = pipeline.train_iterator(
        dataset.name,
        dataset.data_dir,
        image_size=size,
        batch_size=batch_size,
        seed=config.seed,
        augment=dataset.augment,
        num_threads=dataset.num_threads,
        cache=dataset.cache,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    split, shape = partition.batch_split(mesh), (batch_size, size, size, 3)
    return Photos(
        data,
        to_argument=lambda local: partition.global_batch(local, mesh),
        draw=lambda batch, step: batch,
        sharding=split,
        example={"image": jax.ShapeDtypeStruct(shape, jnp.uint8, sharding=split)},
    )


def on_devices(config: Config, mesh: Mesh, batch_size: int) -> Photos:
    """The decoded set on every device, where the step draws its batch (see `data.resident`).

    Raises:
      UserError: where a device has too little memory.
    """
    dataset, whole = config.dataset, partition.replicated(mesh)
    images = pipeline.load_images(dataset.name, dataset.data_dir, config.image_size)
    _check_memory(images.nbytes)
    # Of the seed alone: going on with another fold of the root key must not break up an epoch.
    key = prng.stream(prng.root_key(config.seed), "photos")
    argument = {"images": partition.place(images, whole), "key": partition.place_key(key, whole)}
    flip = dataset.augment == "flip"
    split = partition.batch_split(mesh)
    return Photos(
        data=None,
        to_argument=lambda _: argument,
        draw=lambda photos, step: resident.draw_batch(
            photos["key"], step, photos["images"], batch_size, flip, split
        ),
        sharding=whole,
        example=argument,
    )


def _check_memory(needed: int) -> None:
    """Raises `UserError` where a set of so many bytes does not fit on a device."""
    stats = _memory(jax.local_devices()[0])
    free = stats.get("bytes_limit", needed) - stats.get("bytes_in_use", 0)
    if needed > free:
        raise UserError(
            f"dataset.cache='device' needs {needed / 2**30:.1f} GiB on each device, of which "
            f"{free / 2**30:.1f} GiB are free; set dataset.cache to 'host'"
        )


def _memory(device: jax.Device) -> dict[str, int]:
    """Empty where the device does not say, as CPUs do not."""
    return device.memory_stats() or {}
