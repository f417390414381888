"""From prepared data sets to arrays: batches for training (Grain), whole splits for evaluation."""

import concurrent.futures
import dataclasses
import math
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import grain.python as grain
import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from ganseg_jax import pixels
from ganseg_jax.data import images, prepare, truth
from ganseg_jax.errors import UserError

Augment = Literal["none", "flip", "flip_crop"]

_CROP_SCALE = (0.9, 1.0)
_CROP_RATIO = (0.9, 1.1)


@dataclasses.dataclass(frozen=True)
class Split:
    """Holds a split in memory, at one image size S.

    Attributes:
      images: uint8 (N, S, S, 3).
      names: the N file names.
      segmentation: int32 (N, S, S), 0 = background, -1 = no ground truth; None if no image has
        any.
      landmarks: float32 (N, L, 2), (row, col) in pixels of the S-px image, a few outside of
        [0, S]; None if no image has any.
      visible: bool (N, L), or None with `landmarks`.
      part_names: names of the labels 1, 2, ...; None without segmentation.
      landmark_names: names of the landmarks, or None.
      boxes: float32 (N, 4), the object's bounding box, (top, left, height, width) in pixels of the
        S-px image; None in sets without.
    """

    images: np.ndarray
    names: list[str]
    segmentation: np.ndarray | None = None
    landmarks: np.ndarray | None = None
    visible: np.ndarray | None = None
    part_names: list[str] | None = None
    landmark_names: list[str] | None = None
    boxes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.images)


def data_info(name: str, data_dir: str | os.PathLike) -> tfds.core.DatasetInfo:
    """Returns TFDS's description of a prepared data set: `splits`, `features`, `metadata`.

    Raises:
      UserError: if it has not been prepared; the message is the command that does.
    """
    return _builder(name, data_dir).info


def split_sizes(name: str, data_dir: str | os.PathLike) -> dict[str, int]:
    """Returns the number of images in each split of a prepared data set."""
    return {k: v.num_examples for k, v in data_info(name, data_dir).splits.items()}


def fingerprint(name: str, data_dir: str | os.PathLike) -> dict[str, int]:
    """Returns what tells one set of training photos from another: their number, and all bytes."""
    split = data_info(name, data_dir).splits["train"]
    return {"count": split.num_examples, "bytes": split.num_bytes}


def open_source(name: str, data_dir: str | os.PathLike, split: str):
    """Opens a split as a sequence of examples with images still encoded (see `builders.base`).

    Raises:
      UserError: if the set has not been prepared or has no such split.
    """
    builder = _split_builder(name, data_dir, split)
    images_of = {"image", "segmentation"} & set(builder.info.features)
    decoders = {feature: tfds.decode.SkipDecoding() for feature in images_of}
    return builder.as_data_source(split=split, decoders=decoders)


def train_iterator(
    name: str,
    data_dir: str | os.PathLike,
    *,
    image_size: int,
    batch_size: int,
    seed: int,
    augment: Augment = "none",
    split: str = "train",
    num_threads: int = 4,
    process_index: int = 0,
    process_count: int = 1,
    cache: Literal["none", "host"] = "none",
) -> grain.DatasetIterator:
    """Iterates without end over this process's share of the training batches.

    Every epoch visits each image once, in an order of its own.  The global batch, process after
    process, is the same whatever the number of processes.

    Args:
      name: data set, prepared in `data_dir`.
      data_dir: where data sets are kept.
      image_size: S; images are resized to S x S without keeping their aspect ratio.
      batch_size: global batch size, a multiple of `process_count`.
      seed: decides the order and the augmentation.
      augment: 'none'; 'flip', mirrored with probability 1/2; 'flip_crop', before that a random
        crop of 0.9 to 1 of the area and a side ratio of 0.9 to 1.1 of the squared image.
      split: which split to read.
      num_threads: threads that decode ahead; 0 decodes in the calling thread.
      process_index: which share is this process's.
      process_count: number of processes.
      cache: 'host' decodes each image once, in the first epoch, and keeps it in memory at the
        image size; crops are then taken from the resized image.

    Returns:
      An iterator over {'image': uint8 (batch_size // process_count, S, S, 3)}, with `get_state()`
      and `set_state()`.

    Raises:
      UserError: if the set is not prepared or a setting makes no sense.
    """
    if augment not in ("none", "flip", "flip_crop"):
        raise UserError(f"augment={augment!r} must be one of none, flip, flip_crop")
    if cache not in ("none", "host"):
        raise UserError(f"cache={cache!r} must be one of none, host")
    if batch_size < 1 or batch_size % process_count:
        raise UserError(
            f"batch_size={batch_size} must be a positive multiple of the {process_count} processes"
        )
    source: Any = _EncodedImages(_split_builder(name, data_dir, split), split)
    if cache == "host":
        source = _InMemory(source, image_size)
    loader = _TrainingImage(image_size, augment)
    dataset = (
        grain.MapDataset.source(source)
        .seed(seed)
        .shuffle()
        .repeat()
        .random_map(loader)
        .batch(batch_size // process_count, drop_remainder=True)
        .slice(slice(process_index, None, process_count))
    )
    options = grain.ReadOptions(
        num_threads=num_threads, prefetch_buffer_size=max(2, num_threads) if num_threads else 0
    )
    return iter(dataset.to_iter_dataset(options))


def load_images(
    name: str, data_dir: str | os.PathLike, image_size: int, split: str = "train"
) -> np.ndarray:
    """Decodes all images of a split, in TFDS's order: uint8 (N, S, S, 3) at S = `image_size`.

    Raises:
      UserError: if the set is not prepared, has no such split, or does not fit into memory.
    """
    return _load_images(_EncodedImages(_split_builder(name, data_dir, split), split), image_size)


def load_split(
    name: str,
    data_dir: str | os.PathLike,
    split: str,
    image_size: int,
    limit: int | None = None,
) -> Split:
    """Loads a split, or its first `limit` images, with all ground truth at S = `image_size`.

    The order is TFDS's, shuffled once when the set was prepared, so the first images are a random
    sample.  Label maps are resized by nearest neighbour, published foreground masks by their rule
    (`data.truth`).

    Raises:
      UserError: if the set is not prepared or has no such split, or if an earlier version prepared
        it with other ground truth.
    """
    prepare.refuse_outdated(name, data_dir)
    source = open_source(name, data_dir, split)
    count = len(source) if limit is None else min(limit, len(source))
    metadata = data_info(name, data_dir).metadata or {}
    with concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        rule = metadata.get("truth", truth.LABELS)
        loaded = list(pool.map(lambda i: _load_example(source[i], image_size, rule), range(count)))
    columns = {key: [example[key] for example in loaded] for key in loaded[0]}
    fields: dict[str, Any] = {"images": np.stack(columns["image"]), "names": columns["name"]}
    if "segmentation" in columns:
        segmentation = np.stack(columns["segmentation"])
        if (segmentation >= 0).any():
            fields["segmentation"] = segmentation
            fields["part_names"] = metadata.get("parts")
    if "landmarks" in columns:
        visible = np.stack(columns["visible"])
        if visible.any():
            fields["landmarks"] = np.stack(columns["landmarks"]) * np.float32(image_size)
            fields["visible"] = visible
            fields["landmark_names"] = metadata.get("landmarks")
    if "box" in columns:
        fields["boxes"] = np.stack(columns["box"]) * np.float32(image_size)
    return Split(**fields)


def image_batches(
    name: str, data_dir: str | os.PathLike, split: str, image_size: int, batch_size: int
) -> Iterator[np.ndarray]:
    """Yields the images of a split in batches, uint8 (B, S, S, 3), the last one smaller.

    Raises:
      UserError: if the set is not prepared or has no such split.
    """
    source = _EncodedImages(_split_builder(name, data_dir, split), split)
    with concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(source), batch_size):
            indices = range(start, min(start + batch_size, len(source)))
            loaded = pool.map(lambda i: _resized(source[i]["image"], image_size), indices)
            yield np.stack(list(loaded))


def _builder(name: str, data_dir: str | os.PathLike):
    path = prepare.find_prepared(name, data_dir)
    if path is None:
        command = prepare.prepare_command(name, data_dir)
        raise UserError(f"{name} is not prepared in {data_dir}; run {command}")
    return prepare.open_builder(path)


def _split_builder(name: str, data_dir: str | os.PathLike, split: str):
    builder = _builder(name, data_dir)
    if split not in builder.info.splits:
        raise UserError(
            f"{name} has no split {split!r} (it has {', '.join(sorted(builder.info.splits))})"
        )
    return builder


def _load_example(example: Mapping[str, Any], size: int, rule: str) -> dict[str, Any]:
    loaded = {
        "image": _resized(example["image"], size),
        "name": example["name"].decode(),
    }
    if "segmentation" in example:
        loaded["segmentation"] = truth.shrink(example["segmentation"], size, rule)
    if "landmarks" in example:
        loaded["landmarks"] = example["landmarks"]
        loaded["visible"] = example["landmarks_visible"]
    if "box" in example:
        loaded["box"] = example["box"]
    return loaded


def _load_images(source, size: int) -> np.ndarray:
    _check_memory(len(source) * size * size * 3)
    with concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        loaded = pool.map(lambda i: _resized(source[i]["image"], size), range(len(source)))
        cached = np.empty((len(source), size, size, 3), np.uint8)
        bar = tqdm(
            loaded, desc="decoding into memory", total=len(source), unit=" images", disable=None
        )
        for i, image in enumerate(bar):
            cached[i] = image
    return cached


def _check_memory(needed: int) -> None:
    """Refuses to fill the memory (in bytes), which would end the process without a word."""
    try:
        lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return  # not Linux
    available = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    if needed > 0.8 * 1024 * available:
        raise UserError(
            f"the decoded set needs {needed / 2**30:.1f} GiB of memory and {available / 2**20:.1f} "
            "GiB are free; set dataset.cache to 'none'"
        )


def _resized(
    data: bytes | np.ndarray, size: int, box: tuple[float, float, float, float] | None = None
) -> np.ndarray:
    """Decodes if needed and resizes to (S, S, 3); see `pixels.shrink`."""
    image = images.decode_rgb(data) if isinstance(data, bytes) else data
    return pixels.shrink(image, size, box)


class _EncodedImages:
    """Reads a split's encoded images alone: training needs no ground truth."""

    def __init__(self, builder, split: str):
        self._records = builder.as_data_source(
            split=split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )
        self._features = tfds.features.FeaturesDict({"image": builder.info.features["image"]})
        self._decoders = {"image": tfds.decode.SkipDecoding()}

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict[str, bytes]:
        record = self._records[index]
        return self._features.deserialize_example_np(record, decoders=self._decoders)


class _InMemory:
    """Keeps a split at the image size, decoded where it is first asked for."""

    def __init__(self, source: _EncodedImages, size: int):
        shape = (len(source), size, size, 3)
        _check_memory(math.prod(shape))
        self._source = source
        self._images = np.empty(shape, np.uint8)
        self._decoded = np.zeros(len(source), bool)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        if not self._decoded[index]:
            # Two threads may both do so, to the same pixels.
            self._images[index] = _resized(self._source[index]["image"], self._images.shape[1])
            self._decoded[index] = True
        return {"image": self._images[index]}


class _TrainingImage(grain.RandomMapTransform):
    """Maps an encoded example and a random generator to {'image': uint8 (S, S, 3)}."""

    def __init__(self, image_size: int, augment: Augment):
        self._size = image_size
        self._augment = augment

    def random_map(self, element: Mapping[str, Any], rng: np.random.Generator):
        box = _random_box(rng) if self._augment == "flip_crop" else None
        image = _resized(element["image"], self._size, box)
        if self._augment != "none" and rng.random() < 0.5:
            image = image[:, ::-1]
        return {"image": image}


def _random_box(rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Draws a crop of the unit square: (left, top, right, bottom).

    Area uniform in 0.9 to 1, ratio of width to height log-uniform in 0.9 to 1.1; a draw that does
    not fit is repeated, after ten the whole square is taken.
    """
    for _ in range(10):
        area = rng.uniform(*_CROP_SCALE)
        ratio = np.exp(rng.uniform(*np.log(_CROP_RATIO)))
        width, height = np.sqrt(area * ratio), np.sqrt(area / ratio)
        if width <= 1.0 and height <= 1.0:
            left, top = rng.uniform(0.0, 1.0 - width), rng.uniform(0.0, 1.0 - height)
            return left, top, left + width, top + height
    return 0.0, 0.0, 1.0, 1.0
