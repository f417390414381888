"""What all data sets share: the features, the conversion of images, the counts, the refusals.

A data set is a TFDS builder that writes ArrayRecord files and reads its source from the folder
given as `source`.  Its features:

  image              encoded JPEG or PNG, (H, W, 3)
  name               the image file's name
  segmentation       encoded label map (h, w, 1), 0 = background, or a mask as its publisher has it,
                     which becomes labels at the size that is asked for (`data.truth`, whose rule
                     the metadata name); if an image has no ground truth in a set that has some,
                     one pixel of value 255
  landmarks          float32 (L, 2), (row, col) as fractions of the height and width, 1 = far edge;
                     a few lie outside of their image
  landmarks_visible  bool (L,); all False if an image has no ground truth
  box                float32 (4,), (top, left, height, width) as fractions of the height and width

`segmentation`, the landmarks and `box` are present in sets with ground truth of that kind.
"""

import collections
import dataclasses
import io
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from ganseg_jax import pixels
from ganseg_jax.data import ahead, images, truth
from ganseg_jax.errors import UserError


class Pool:
    """Holds items that several splits draw from, each until enough of them could be read."""

    def __init__(self, items: Sequence[Any]):
        self._items = items
        self._results: Iterator[Any] | None = None

    def results(self, read: Callable[[Iterable[Any]], Iterator[Any]]) -> Iterator[Any]:
        """Returns what is left of `read(items)`, which is called once."""
        if self._results is None:
            self._results = read(self._items)
        return self._results


@dataclasses.dataclass(frozen=True)
class Draw:
    """Says that a split takes `count` items that can be read from a pool."""

    pool: Pool
    count: int

    def __len__(self) -> int:
        return self.count


Items = Sequence[Any] | Draw
"""What a split is made of."""


@dataclasses.dataclass
class Example:
    """Holds one image with its ground truth, as a builder reads it from the source.

    Attributes:
      name: file name, unique within the set.
      image: the image file's bytes.
      labels: uint8 (h, w) label map covering the whole image, or None. In sets with another
        `TRUTH_RULE`, the mask as published: uint8 (h, w), or an encoded picture.
      landmarks: (L, 2) (row, col) as fractions of the image's height and width, or None.
      visible: bool (L,), or None if all landmarks are.
      box: (4,) top, left, height, width as fractions of the image's height and width; needed in
        sets with boxes.
    """

    name: str
    image: bytes
    labels: np.ndarray | bytes | None = None
    landmarks: np.ndarray | None = None
    visible: np.ndarray | None = None
    box: np.ndarray | None = None


class SetBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]  # TFDS has no types.
    """Builds a data set; the base of all of them.

    A data set says which items each split has (`list_splits`, cheap) and how one is read
    (`read_item`).  Without such ground truth `part_names` and `landmark_names` are None and
    `has_boxes` is False.
    """

    url_infos = None  # nothing is downloaded, so there are no checksums to look for
    VERSION = tfds.core.Version("1.0.0")
    DESCRIPTION: ClassVar[str] = ""
    CITATION: ClassVar[str] = ""
    # What `source` has to look like; None for sets that need no source.
    LAYOUT: ClassVar[str | None] = None
    # A file or folder by which the set's root is recognised in an unpacked archive.
    ROOT_MARKER: ClassVar[str | None] = None
    EXPECTED_COUNTS: ClassVar[dict[str, int]] = {}
    SKIP_UNREADABLE: ClassVar[bool] = False
    # How many threads read items, None for one a core.
    THREADS: ClassVar[int | None] = None
    # How masks become labels; see `data.truth`.
    TRUTH_RULE: ClassVar[str] = truth.LABELS
    # Larger photos are stored smaller. Published protocols resize once, from the whole photo.
    MAX_SIDE: ClassVar[int] = images.MAX_STORED_SIDE
    # Whether photos are turned as the camera noted; the labels of published sets ignore that.
    CAMERA_ROTATION: ClassVar[bool] = False

    has_boxes: ClassVar[bool] = False
    part_names: Sequence[str] | None = None
    landmark_names: Sequence[str] | None = None

    def __init__(
        self,
        *,
        source: str | pathlib.Path | None = None,
        verify_counts: bool = True,
        progress: bool = False,
        max_megapixels: float = images.MAX_MEGAPIXELS,
        **kwargs: Any,
    ):
        """Takes what `ganseg_jax.data.prepare.prepare` gives, which is how builders are used."""
        self._source = None if source is None else pathlib.Path(source)
        self.skipped: list[tuple[str, str]] = []
        self.summary: list[str] = []
        self.notes: collections.Counter[str] = collections.Counter()
        self._max_megapixels = max_megapixels
        self._verify_counts = verify_counts
        self._progress = progress
        kwargs.setdefault("file_format", "array_record")
        super().__init__(**kwargs)

    @property
    def source(self) -> pathlib.Path:
        """Returns the folder with the original files, of a set that is built from one."""
        assert self._source is not None, f"{self.name} is built from {self.LAYOUT}"
        return self._source

    def list_splits(self) -> Mapping[str, Items]:
        """Returns the items of each split; the splits are written in this order."""
        raise NotImplementedError

    def read_item(self, item: Any) -> Example:
        """Reads one item, in one of several threads.

        Raises:
          ImageError: if its image cannot be used.
        """
        raise NotImplementedError

    def find(self, *names: str) -> pathlib.Path:
        """Finds a file or folder of the source by any of its names, up to two folders down.

        Raises:
          UserError: if there is none; the message says what the source must hold.
        """
        for name in names:
            try:
                return find_root(self.source, name) / name
            except FileNotFoundError:
                continue
        raise UserError(f"{self.source} has no {names[0]}; {self.name} is built from {self.LAYOUT}")

    def read(self, path: pathlib.Path) -> bytes:
        """Reads a file of the source.

        Raises:
          UserError: if it is missing.
        """
        try:
            return path.read_bytes()
        except FileNotFoundError as error:
            raise UserError(f"{path} is missing; is the source of {self.name} complete?") from error

    def skip(self, name: str, reason: str) -> None:
        """Notes a file that is left out, or raises where the set must be complete."""
        if not self.SKIP_UNREADABLE:
            raise UserError(f"{name}: {reason}; get {self.name} again from its publisher")
        self.skipped.append((name, reason))

    def metadata(self) -> dict[str, Any]:
        """Returns facts that are stored beside the data."""
        names = {"parts": self.part_names, "landmarks": self.landmark_names}
        facts: dict[str, Any] = {k: list(value) for k, value in names.items() if value is not None}
        taken = {"summary": self.summary, "notes": dict(self.notes)}
        if self.TRUTH_RULE != truth.LABELS:
            facts["truth"] = self.TRUTH_RULE
        return facts | {"skipped": sorted(self.skipped)} | taken

    def _info(self) -> tfds.core.DatasetInfo:
        features: dict[str, Any] = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "name": tfds.features.Text(),
        }
        if self.part_names is not None:
            shape = (None, None, truth.channels(self.TRUTH_RULE))
            features["segmentation"] = tfds.features.Image(shape=shape)
        if self.landmark_names is not None:
            count = len(self.landmark_names)
            features["landmarks"] = tfds.features.Tensor(shape=(count, 2), dtype=np.float32)
            features["landmarks_visible"] = tfds.features.Tensor(shape=(count,), dtype=np.bool_)
        if self.has_boxes:
            features["box"] = tfds.features.Tensor(shape=(4,), dtype=np.float32)
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.DESCRIPTION,
            citation=self.CITATION,
            features=tfds.features.FeaturesDict(features),
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager) -> dict[str, Iterator]:
        del dl_manager  # nothing is downloaded
        splits = {name: items for name, items in self.list_splits().items() if len(items)}
        counts = {name: len(items) for name, items in splits.items()}
        if self._verify_counts:
            for name, expected in self.EXPECTED_COUNTS.items():
                if counts.get(name, 0) != expected:
                    raise UserError(
                        f"{self._source}: {self.name} should have {expected} images in its split "
                        f"{name!r}, found {counts.get(name, 0)}; is the data complete?"
                    )
        return {name: self._generate_examples(name, items) for name, items in splits.items()}

    def _generate_examples(self, split: str, items: Items) -> Iterator:
        written, reason = 0, "there is none"
        with tqdm(
            desc=f"{self.name} {split}",
            total=len(items),
            unit=" images",
            disable=None if self._progress else True,  # None: shown on terminals only
        ) as bar:
            for item, result in self._results(items):
                if isinstance(result, images.ImageError):
                    name = str(item[-1] if isinstance(item, tuple) else item)
                    self.skip(name, str(result))
                    reason = f"{name}: {result}"
                    continue
                name, features, note = result
                self.notes.update([note] if note else [])
                yield f"{split}/{name}", features
                bar.update()
                written += 1
                if written == len(items):
                    break
        if not written:
            raise UserError(
                f"{self._source}: no image of the split {split!r} can be read ({reason})"
            )
        self.info.metadata.update(self.metadata())

    def _results(self, items: Items) -> Iterator[tuple[Any, Any]]:
        """Yields items with name, features and note, or with the `ImageError` of reading them."""

        def read(chosen: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
            return ahead.in_order(self._read, chosen, self.THREADS)

        return items.pool.results(read) if isinstance(items, Draw) else read(items)

    def _read(self, item: Any) -> tuple[str, dict[str, Any], str] | images.ImageError:
        try:
            example = self.read_item(item)
            return example.name, *self._features(example)
        except images.ImageError as error:
            return error

    def _features(self, example: Example) -> tuple[dict[str, Any], str]:
        data, height, width, note = images.stored_image(
            example.image,
            max_side=self.MAX_SIDE,
            camera_rotation=self.CAMERA_ROTATION,
            max_megapixels=self._max_megapixels,
        )
        features = {"image": io.BytesIO(data), "name": example.name}
        if self.part_names is not None:
            features["segmentation"] = io.BytesIO(self._stored_labels(example, height, width))
        if self.landmark_names is not None:
            count = len(self.landmark_names)
            landmarks, visible = example.landmarks, example.visible
            if landmarks is None:
                landmarks, visible = np.zeros((count, 2)), np.zeros(count, bool)
            elif visible is None:
                visible = np.ones(count, bool)
            # Positions of hidden landmarks mean nothing; zeros keep files reproducible.
            landmarks = np.where(visible[:, None], landmarks, 0.0)
            features["landmarks"] = landmarks.astype(np.float32)
            features["landmarks_visible"] = visible
        if self.has_boxes:
            assert example.box is not None, f"{example.name} has no box"
            features["box"] = np.asarray(example.box, np.float32)
        return features, note

    def _stored_labels(self, example: Example, height: int, width: int) -> bytes:
        """Returns what is stored of an image's labels; label maps are no larger than the image."""
        labels = example.labels
        if labels is None:
            labels = np.full((1, 1), pixels.UNLABELLED, np.uint8)
        if isinstance(labels, bytes):
            return labels
        larger = labels.shape[0] > height or labels.shape[1] > width
        if larger and self.TRUTH_RULE == truth.LABELS:
            labels = pixels.resize_labels(labels, height, width)
        return images.encode_labels(labels)


def find_root(source: pathlib.Path, marker: str | None) -> pathlib.Path:
    """Finds the set's folder in `source` itself or up to two folders below it.

    Raises:
      FileNotFoundError: if `marker` is nowhere.
    """
    if marker is None:
        return source
    level: Iterable[pathlib.Path] = [source]
    for _ in range(3):
        level = list(level)
        for folder in level:
            if (folder / marker).exists():
                return folder
        level = [child for folder in level for child in _subfolders(folder)]
    raise FileNotFoundError(marker)


def _subfolders(folder: pathlib.Path) -> list[pathlib.Path]:
    # `scandir` knows folders from files without asking for each, which counts in large folders.
    with os.scandir(folder) as entries:
        return sorted(pathlib.Path(entry.path) for entry in entries if entry.is_dir())
