"""TFDS builder of any folder of images, with optional ground truth beside them.

Images: every file below the folder whose ending is in `images.IMAGE_SUFFIXES` and that is no mask
(if a folder `images` at the top holds most of them, only those in it).  Files of other image
formats and unreadable ones are reported by name and left out.

Splits: by the folders `train`, `validation` (`val`, `valid`) and `test` at the top if there are
any.  Otherwise by a hash of the name: 90 % train, 5 % validation, 5 % test.  Where only part of the
images has ground truth, the test split is made of these (at most a fifth of all images; the rest
of them go the way of the others), because training needs no labels.

Masks: `masks/NAME.png` for the image NAME.jpg, `train/masks/a.png` for `train/images/a.jpg`,
`NAME_mask.png` beside the image, and much else: see `data.layout`.  Label maps, 0 = background, see
`masks.to_labels`; coloured ones with a `labelmap.txt` or `_classes.csv` in the folder, see
`legends.read_legend`.  A file `parts.txt` may name labels 1, 2, ..., one per line.

Landmarks: `landmarks.csv` with the header `name,A_x,A_y,B_x,B_y,...` (A, B: landmark names) and one
row per image: its name as a path relative to the folder, then pixel positions in the image as a
viewer shows it.  Empty or negative: not visible.
"""

import csv
import functools
import hashlib
import pathlib
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from ganseg_jax import pixels
from ganseg_jax.data import encodings, images, layout, layout_names, legends, masks
from ganseg_jax.data.builders import base
from ganseg_jax.errors import UserError

_RESERVED_FOLDERS = {"train", "validation", "val", "valid", "test", "images", "masks"}
_EVALUATION_SHARE = 0.05
_LABELED_SHARE = 0.2


class ImageFolder(base.SetBuilder):
    """Builds a set from any folder of images; see the module's docstring for the layout."""

    DESCRIPTION = "A folder of images with optional masks and landmarks."
    LAYOUT = (
        "a folder (or tar) of jpg, png, webp, tif, heic or other images, with optional "
        "masks/NAME.png and landmarks.csv"
    )
    SKIP_UNREADABLE = True
    CAMERA_ROTATION = True

    def __init__(self, *, source: str | pathlib.Path | None = None, **kwargs: Any):
        self._masks: dict[str, pathlib.Path] = {}
        self._landmarks: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._highest_label = 0
        self._lock, self._survey = threading.Lock(), threading.Lock()
        self._found: encodings.Encoding | None = None
        self._palettes, self._legend = masks.Palettes(), None
        found = None if source is None else _Listing(_descend(pathlib.Path(source)))
        if found is not None:
            self._root, self._names = found.root, found.names
            self._masks, self._landmarks = found.masks, found.landmarks
            self.landmark_names = found.landmark_names
            # Names are known for certain only when all masks have been read.
            self.part_names = found.part_names if found.masks else None
            self._legend = legends.read_legend(epath.Path(found.top), found.mask_names)
            if self._legend and found.masks and not self.part_names:
                self.part_names = self._legend.names
        super().__init__(source=source, **kwargs)
        if found is not None:
            self.skipped += found.skipped
            self.summary = found.summary

    def list_splits(self) -> Mapping[str, base.Items]:
        folders = layout_names.splits_of(self._names)
        if any(folders.values()):
            splits: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
            for name, split in folders.items():
                if split is None:
                    self.skip(name, "lies outside of the folders train, validation and test")
                else:
                    splits[split].append(name)
            if not splits["train"]:
                raise UserError(f"{self.source}: the folder train has no images")
            return splits
        labeled = {name for name in self._names if name in self._masks or name in self._landmarks}
        return self._split_by_hash(labeled)

    def _split_by_hash(self, labeled: set[str]) -> dict[str, base.Items]:
        """Splits 90/5/5 by hash; partial ground truth goes to the test split."""
        by_hash = sorted(self._names, key=_hash)
        # From three images on, every split has at least one.
        count = len(by_hash)
        share = max(1, round(_EVALUATION_SHARE * count)) if count >= 3 else 0
        test: base.Items
        if 0 < len(labeled) < count and share:
            most = max(share, int(_LABELED_SHARE * count))
            test = [name for name in by_hash if name in labeled][:most]
            taken = set(test)
            pool = base.Pool([name for name in by_hash if name not in taken])
        else:
            pool = base.Pool(by_hash)
            test = base.Draw(pool, share)
        rest = count - len(test) - share
        return {"test": test, "validation": base.Draw(pool, share), "train": base.Draw(pool, rest)}

    def read_item(self, item: str) -> base.Example:
        try:
            data = (self._root / item).read_bytes()
        except OSError as error:
            raise images.ImageError(error.strerror or str(error)) from error
        example = base.Example(name=item, image=data)
        if item not in self._masks and item not in self._landmarks:
            return example
        height, width = images.image_size(data, max_megapixels=self._max_megapixels)
        if item in self._masks:
            try:
                example.labels = self._read_mask(self._masks[item], height, width)
                known = example.labels[example.labels != pixels.UNLABELLED]
                with self._lock:
                    self._highest_label = max(self._highest_label, int(known.max(initial=0)))
            except (images.ImageError, OSError) as error:
                self.skip(self._relative(self._masks[item]), str(error))
        if item in self._landmarks:
            points, visible = self._landmarks[item]
            example.landmarks = points / np.array([height, width])
            inside = ((example.landmarks >= 0) & (example.landmarks <= 1)).all(axis=-1)
            example.visible = visible & inside
        return example

    def metadata(self) -> dict[str, Any]:
        metadata = super().metadata()
        if self.part_names is not None:
            known = list(self.part_names)
            rest = range(len(known) + 1, self._highest_label + 1)
            metadata["parts"] = known + [f"part {k}" for k in rest]
        return metadata

    def _relative(self, path: pathlib.Path) -> str:
        return path.relative_to(self.source).as_posix()

    def _encoding(self) -> encodings.Encoding:
        """Returns how all masks are read: those of one split do not say it for the others."""
        with self._survey:
            if self._found is None:
                named = len(self.part_names or [])
                self._found = masks.folder_encoding(self._masks.values(), self._legend, named)
            return self._found

    def _read_mask(self, path: pathlib.Path, height: int, width: int) -> np.ndarray:
        mask = masks.decode_mask(path.read_bytes())
        with self._lock:  # Several threads read.
            self._palettes.add(mask)
        if self._palettes.differ and not (self._legend and self._legend.colors):
            raise UserError(
                f"{path} has other colours for its labels than the masks before it: put a "
                f"{legends.LEGEND_FILES[0]} with lines NAME:R,G,B:: into {self.source}"
            )
        labels = masks.to_labels(mask, self._legend, self._encoding())
        if labels.shape != (height, width):
            if abs(np.log(labels.shape[1] * height / (labels.shape[0] * width))) > 0.02:
                size = f"{labels.shape[1]}x{labels.shape[0]}"
                raise images.ImageError(f"the mask is {size} px, its image {width}x{height}")
            labels = pixels.resize_labels(labels, height, width)
        return labels


class _Listing:
    """Lists a folder: its images, and which masks and landmarks belong to them."""

    def __init__(self, root: pathlib.Path):
        found = layout.find(root)
        self.top, self.mask_names = root, list(found.masks.values())
        self.summary = found.summary()
        self.skipped = list(found.skipped)
        below_images = all(name.startswith("images/") for name in found.photos)
        self.root = root / "images" if below_images else root
        prefix = "images/" if below_images else ""
        self.names = [name.removeprefix(prefix) for name in found.photos]
        self.masks: dict[str, pathlib.Path] = {}
        for name, mask in found.masks.items():
            self.masks[name.removeprefix(prefix)] = root / mask
        self.part_names = _read_lines(root / "parts.txt")
        self.landmark_names, self.landmarks = self._read_landmarks(root / "landmarks.csv")

    def _read_landmarks(self, path: pathlib.Path):
        if not path.exists():
            return None, {}
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file))
        header = [column.strip() for column in rows[0]] if rows else []
        names = [column.removesuffix("_x") for column in header[1::2]]
        expected = ["name"] + [f"{name}_{axis}" for name in names for axis in "xy"]
        if not names or header != expected:
            raise UserError(f"{path}: the first line must be name,A_x,A_y,B_x,B_y,...")
        known, landmarks = set(self.names), {}
        for number, row in enumerate(rows[1:], start=2):
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(header):
                raise UserError(f"{path}, line {number}: {len(row)} cells, should be {len(header)}")
            name = row[0].strip().removeprefix("./")
            if name not in known and name.removeprefix("images/") in known:
                name = name.removeprefix("images/")
            if name not in known:
                self.skipped.append((f"{path.name} line {number}", f"no image is named {name!r}"))
                continue
            try:
                xy = np.array([float(cell) if cell.strip() else -1.0 for cell in row[1:]])
            except ValueError as error:
                raise UserError(f"{path}, line {number}: {error}") from error
            xy = xy.reshape(-1, 2)
            landmarks[name] = xy[:, ::-1], np.isfinite(xy).all(axis=1) & (xy >= 0).all(axis=1)
        return names, landmarks


@functools.cache
def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _descend(root: pathlib.Path) -> pathlib.Path:
    """Goes into the one folder that an archive usually consists of."""
    while True:
        children = [c for c in root.iterdir() if not c.name.startswith((".", "__MACOSX"))]
        if len(children) != 1 or not children[0].is_dir():
            return root
        if children[0].name.lower() in _RESERVED_FOLDERS:
            return root
        root = children[0]


def _read_lines(path: pathlib.Path) -> list[str]:
    if not path.exists():
        return []
    return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line]
