"""TFDS builder of any folder of images, with optional ground truth beside them.

Images: every jpg (jpeg, jpe, jfif), png, webp and bmp file below the folder (below its `images/` if
there is one).  Files of other image formats and unreadable ones are reported by name and left out.

Splits: by the folders `train`, `validation` (or `val`) and `test` at the top if there are any.
Otherwise by a hash of the name: 90 % train, 5 % validation, 5 % test.  Where only part of the
images has ground truth, the test split is made of these (at most a fifth of all images; the rest
of them go the way of the others), because training needs no labels.

Masks: `masks/NAME.png` for the image NAME.jpg (folders are kept: `masks/train/a.png` for
`train/a.jpg`), `train/masks/a.png` for `train/images/a.jpg`, or `NAME_mask.png` beside the image.
Label maps, 0 = background, see `masks.read_label_map`; coloured ones with a `labelmap.txt` or
`_classes.csv` in the folder, see `masks.read_legend`.  A file `parts.txt` may name labels 1, 2,
..., one per line.

Landmarks: `landmarks.csv` with the header `name,A_x,A_y,B_x,B_y,...` (A, B: landmark names) and one
row per image: its name as a path relative to the folder, then pixel positions in the image as a
viewer shows it.  Empty or negative: not visible.
"""

import collections
import csv
import functools
import hashlib
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from etils import epath

from ganseg_jax import pixels
from ganseg_jax.data import images, masks
from ganseg_jax.data.builders import base
from ganseg_jax.errors import UserError

_SPLIT_FOLDERS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
_RESERVED_FOLDERS = {*_SPLIT_FOLDERS, "images", "masks"}
_OTHER_IMAGES = (
    *(".gif", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".svg", ".psd"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".tga", ".dds", ".exr", ".hdr", ".ico", ".pcx"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".raw"),
)
_EVALUATION_SHARE = 0.05
_LABELED_SHARE = 0.2


class ImageFolder(base.SetBuilder):
    """Builds a set from any folder of images; see the module's docstring for the layout."""

    DESCRIPTION = "A folder of images with optional masks and landmarks."
    LAYOUT = (
        "a folder (or tar) of jpg, jpeg, png, webp or bmp images, with optional masks/NAME.png and "
        "landmarks.csv"
    )
    SKIP_UNREADABLE = True
    CAMERA_ROTATION = True

    def __init__(self, *, source: str | pathlib.Path | None = None, **kwargs: Any):
        self._masks: dict[str, pathlib.Path] = {}
        self._landmarks: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._highest_label = 0
        self._palettes, self._legend = masks.Palettes(), None
        found = None if source is None else _Listing(_descend(pathlib.Path(source)))
        if found is not None:
            self._root, self._names = found.root, found.names
            self._masks, self._landmarks = found.masks, found.landmarks
            self.landmark_names = found.landmark_names
            # Names are known for certain only when all masks have been read.
            self.part_names = found.part_names if found.masks else None
            self._legend = masks.read_legend(epath.Path(_descend(pathlib.Path(str(source)))))
            if self._legend and found.masks and not self.part_names:
                self.part_names = self._legend.names
        super().__init__(source=source, **kwargs)
        if found is not None:
            self.skipped += found.skipped

    def list_splits(self) -> Mapping[str, base.Items]:
        folders = {name: _split_of(name) for name in self._names}
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
            pool = collections.deque(name for name in by_hash if name not in taken)
        else:
            pool = collections.deque(by_hash)
            test = _Draw(pool, share, self.skipped)
        validation = _Draw(pool, share, self.skipped)
        rest = count - len(test) - share
        return {"test": test, "validation": validation, "train": _Draw(pool, rest, self.skipped)}

    def read_item(self, item: str) -> base.Example:
        try:
            data = (self._root / item).read_bytes()
        except OSError as error:
            raise images.ImageError(error.strerror or str(error)) from error
        height, width = images.image_size(data)
        example = base.Example(name=item, image=data)
        if item in self._masks:
            try:
                example.labels = self._read_mask(self._masks[item], height, width)
                known = example.labels[example.labels != base.UNLABELED]
                self._highest_label = max(self._highest_label, int(known.max(initial=0)))
            except (images.ImageError, OSError) as error:
                self.skip(self._relative(self._masks[item]), str(error))
        if item in self._landmarks:
            pixels, visible = self._landmarks[item]
            example.landmarks = pixels / np.array([height, width])
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

    def _read_mask(self, path: pathlib.Path, height: int, width: int) -> np.ndarray:
        mask = masks.decode_mask(path.read_bytes())
        self._palettes.add(mask)
        if self._palettes.differ and not (self._legend and self._legend.colors):
            raise UserError(
                f"{path} has other colours for its labels than the masks before it: put a "
                f"{masks.LEGEND_FILES[0]} with lines NAME:R,G,B:: into {self.source}"
            )
        labels = masks.to_labels(mask, self._legend)
        if labels.shape != (height, width):
            if abs(np.log(labels.shape[1] * height / (labels.shape[0] * width))) > 0.02:
                size = f"{labels.shape[1]}x{labels.shape[0]}"
                raise images.ImageError(f"the mask is {size} px, its image {width}x{height}")
            labels = pixels.resize_labels(labels, height, width)
        return labels


class _Listing:
    """Lists a folder: its images, and which masks and landmarks belong to them."""

    def __init__(self, root: pathlib.Path):
        files = sorted(_files(root))
        has_images_folder = any(name.startswith("images/") for name in files)
        # Folders such as train/, with photos in train/images/ and their masks in train/masks/.
        paired = {folder for folder, found, _ in (f.rpartition("/images/") for f in files) if found}
        self.root = root / "images" if has_images_folder else root
        self.skipped: list[tuple[str, str]] = []
        self.names: list[str] = []
        masks: dict[str, pathlib.Path] = {}
        for file in files:
            path, suffix = root / file, pathlib.PurePath(file).suffix.lower()
            stem = file.removesuffix(pathlib.PurePath(file).suffix)
            parent, _, inner = stem.rpartition("/masks/")
            if file.startswith("masks/") or parent in paired:
                if suffix == ".png":
                    masks[f"{parent}/images/{inner}" if parent else stem[len("masks/") :]] = path
                elif suffix in images.IMAGE_SUFFIXES:
                    self.skipped.append((file, "masks must be PNG files"))
            elif has_images_folder and not file.startswith("images/"):
                continue
            elif suffix == ".png" and stem.endswith("_mask"):
                masks[stem.removeprefix("images/").removesuffix("_mask")] = path
            elif suffix in images.IMAGE_SUFFIXES:
                self.names.append(path.relative_to(self.root).as_posix())
            elif suffix in _OTHER_IMAGES:
                self.skipped.append((file, f"{suffix} is not supported, convert it to jpg or png"))
        if not self.names:
            formats = ", ".join(suffix[1:] for suffix in images.IMAGE_SUFFIXES)
            raise UserError(f"{root} has no images (looked for {formats} in all its folders)")
        self.masks = self._match(masks)
        self.part_names = _read_lines(root / "parts.txt")
        self.landmark_names, self.landmarks = self._read_landmarks(root / "landmarks.csv")

    def _match(self, masks: dict[str, pathlib.Path]) -> dict[str, pathlib.Path]:
        """Finds each image's mask; both `a.png` and `a.jpg.png` belong to `a.jpg`."""
        matched, used = {}, set()
        for name in self.names:
            stem = name.removesuffix(pathlib.PurePath(name).suffix)
            key = name if name in masks else stem
            if key in masks:
                matched[name] = masks[key]
                used.add(key)
        for key in sorted(masks.keys() - used):
            self.skipped.append((masks[key].name, "a mask without an image"))
        return matched

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


class _Draw:
    """Takes names from a common pool while it is iterated, until `count` of them were readable."""

    def __init__(self, pool: collections.deque[str], count: int, skipped: list[tuple[str, str]]):
        self._pool, self._count, self._skipped = pool, count, skipped

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        left = self._count
        while left and self._pool:
            name = self._pool.popleft()
            yield name
            if not self._skipped or self._skipped[-1][0] != name:
                left -= 1


@functools.cache
def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _split_of(name: str) -> str | None:
    first, _, rest = name.partition("/")
    return _SPLIT_FOLDERS.get(first.lower()) if rest else None


def _files(root: pathlib.Path) -> list[str]:
    """Lists all files below `root` but hidden ones, as paths relative to it."""
    found = []
    for folder, children, files in os.walk(root):
        children[:] = [c for c in children if not c.startswith(".") and c != "__MACOSX"]
        relative = pathlib.Path(folder).relative_to(root)
        found += [(relative / file).as_posix() for file in files if not file.startswith(".")]
    return found


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
