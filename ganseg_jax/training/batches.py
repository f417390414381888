"""Where training steps get their batches from: an iterator on the host, or a set on the devices."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from ganseg_jax import prng
from ganseg_jax.config import Config
from ganseg_jax.data import pipeline, resident
from ganseg_jax.errors import UserError
from ganseg_jax.training import partition


@dataclasses.dataclass(frozen=True)
class Batches:
    """Describes a source of batches.

    Attributes:
      data: Grain iterator of local batches, whose position is saved with the state, or None.
      to_argument: local batch (None without `data`) -> the argument that the compiled step takes.
      draw: (argument, step) -> batch, called in the compiled step.
      sharding: of the argument.
      example: an argument, or its shapes.
    """

    data: Any
    to_argument: Callable[[Any], Any]
    draw: Callable[[Any, jax.Array], Any]
    sharding: NamedSharding
    example: Any


def no_batches(mesh: Mesh) -> Batches:
    """Returns the source of a stage that needs no data."""
    return Batches(None, lambda _: (), lambda given, step: given, partition.replicated(mesh), ())


def from_iterator(data: Any, example: Any, mesh: Mesh) -> Batches:
    """Returns a source of an iterator's batches, whole on every device.

    Args:
      data: Grain iterator.
      example: shapes of a batch.
      mesh: the devices.
    """
    whole = partition.replicated(mesh)
    return Batches(
        data,
        to_argument=lambda local: partition.place(local, whole),
        draw=lambda batch, step: batch,
        sharding=whole,
        example=partition.shapes(example, whole),
    )


def shapes_of_photos(size: int, batch_size: int) -> Callable[[Mesh], Batches]:
    """Returns a source that only says what batches of photos look like, to compile for them.

    Args:
      size: S, side of the images.
      batch_size: B.
    """

    def source(mesh: Mesh) -> Batches:
        split = partition.batch_split(mesh)
        image = jax.ShapeDtypeStruct((batch_size, size, size, 3), jnp.uint8)
        return Batches(
            data=None,
            to_argument=lambda local: partition.global_batch(local, mesh),
            draw=lambda batch, step: batch,
            sharding=split,
            example=partition.shapes({"image": image}, split),
        )

    return source


def photos(config: Config, batch_size: int, field: str) -> Callable[[Mesh], Batches]:
    """Returns a source of the training photos: {"image": uint8 (B, S, S, 3)}.

    Args:
      config: of the run.
      batch_size: B.
      field: name of the setting that says so.

    Raises:
      UserError: there are fewer training photos than a batch has, or, when the source is made, they
        do not fit into a device's memory.
    """
    count = pipeline.split_sizes(config.dataset.name, config.dataset.data_dir)["train"]
    if count < batch_size:
        raise UserError(
            f"{field}={batch_size} is larger than the {count} training images of "
            f"{config.dataset.name}: choose at most {count}, or add images"
        )
    place = _on_devices if config.dataset.cache == "device" else _from_host
    return lambda mesh: place(config, mesh, batch_size)


def _from_host(config: Config, mesh: Mesh, batch_size: int) -> Batches:
    """Returns batches that the host reads, decodes and augments, split over the devices."""
    dataset, size = config.dataset, config.image_size
    data = pipeline.train_iterator(
        dataset.name,
        dataset.data_dir,
        image_size=size,
        batch_size=batch_size,
        seed=config.seed,
        augment=dataset.augment,
        num_threads=dataset.num_threads,
        cache="host" if dataset.cache == "host" else "none",
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    return dataclasses.replace(shapes_of_photos(size, batch_size)(mesh), data=data)


def _on_devices(config: Config, mesh: Mesh, batch_size: int) -> Batches:
    """Returns the decoded set on every device, where the step draws its batch."""
    dataset, whole = config.dataset, partition.replicated(mesh)
    images = pipeline.load_images(dataset.name, dataset.data_dir, config.image_size)
    _check_memory(images.nbytes)
    # Of the seed alone: resuming with another fold of the root key must not break up an epoch.
    key = prng.stream(prng.root_key(config.seed), "photos")
    argument = {"images": partition.place(images, whole), "key": partition.place_key(key, whole)}
    flip, split = dataset.augment == "flip", partition.batch_split(mesh)
    return Batches(
        data=None,
        to_argument=lambda _: argument,
        draw=lambda photos, step: resident.draw_batch(
            photos["key"], step, photos["images"], batch_size, flip, split
        ),
        sharding=whole,
        example=argument,
    )


def _check_memory(needed: int) -> None:
    """Raises `UserError` if a set of so many bytes does not fit on a device."""
    stats = _memory(jax.local_devices()[0])
    free = stats.get("bytes_limit", needed) - stats.get("bytes_in_use", 0)
    if needed > free:
        raise UserError(
            f"dataset.cache='device' needs {needed / 2**30:.1f} GiB on each device, of which "
            f"{free / 2**30:.1f} GiB are free; set dataset.cache to 'host'"
        )


def _memory(device: jax.Device) -> dict[str, int]:
    """Returns a device's memory statistics; empty if it has none, as CPUs do."""
    return device.memory_stats() or {}
