"""Label maps that people made: masks, and what labelling tools export.

For an image `sample_0003.png` the first of these that exists is its label map
(`label_files` says of which image a file is):

- a mask: `sample_0003_mask.png`, `masks/sample_0003.png` or the like (`data/layout.py`), whose
  values or colours are the classes (`data/masks.py`);
- LabelMe's `sample_0003.json`;
- any other file in the folder in which a labelling tool says what was drawn on the image
  (`data/annotations/`).

`classes.json`, {"classes": ["head", "torso", ...]}, names the classes without the background.
"""

import collections
import dataclasses
import itertools
import json
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from etils import epath
from jaxtyping import UInt8

from ganseg_jax import pixels
from ganseg_jax.data import legends, masks
from ganseg_jax.data.annotations import common
from ganseg_jax.data.annotations.common import (
    BACKGROUND_NAMES,
    MOST_CLASSES,
    Drawing,
    read_json,
)
from ganseg_jax.data.encodings import Encoding
from ganseg_jax.data.images import ImageError, upright_size
from ganseg_jax.errors import UserError, command
from ganseg_jax.fewshot import label_files
from ganseg_jax.fewshot.label_files import MASK_SUFFIX
from ganseg_jax.files import resolve
from ganseg_jax.pixels import UNLABELLED
from ganseg_jax.report.palette import palette

CLASSES_FILE = "classes.json"

_MOST_NAMED = 10
"""Things that are left out for the same reason."""


@dataclasses.dataclass(frozen=True)
class LabelSet:
    """Holds label maps of some images.

    Attributes:
      names: of the images: without folder and ending, as far as no other image is called so.
      labels: class of every pixel, 0 background; 255 if a pixel is not labelled.
      classes: names of the classes, background first.
      formats: number of images that each format labels.
      left_out: what was not used, and why.
      sizes: (height, width) of the image files, upright.
    """

    names: list[str]
    labels: UInt8[np.ndarray, "n h w"]
    classes: list[str]
    formats: dict[str, int] = dataclasses.field(default_factory=dict)
    left_out: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    sizes: list[tuple[int, int]] = dataclasses.field(default_factory=list)

    @property
    def absent(self) -> list[str]:
        """Returns the classes that no pixel is labelled with: nothing can learn them."""
        return [name for i, name in enumerate(self.classes) if i and not (self.labels == i).any()]

    def only(self, names: Collection[str]) -> "LabelSet":
        """Returns the labels of some of the images, in the order that they have here."""
        rows = [i for i, name in enumerate(self.names) if name in names]
        chosen, sizes = [self.names[i] for i in rows], [self.sizes[i] for i in rows]
        return dataclasses.replace(self, names=chosen, labels=self.labels[rows], sizes=sizes)

    def summary(self) -> list[str]:
        """Returns lines that say what was taken and what was left out."""
        counts = ", ".join(f"{count} from {kind}" for kind, count in self.formats.items())
        shares = ", ".join(
            f"{name} {int((self.labels == i).sum())}" for i, name in enumerate(self.classes)
        )
        return [
            f"{len(self.names)} labelled images ({counts}); pixels: {shares}",
            *(f"left out: {line}" for line in _grouped(self.left_out)),
        ]


def _grouped(left_out: Sequence[tuple[str, str]]) -> list[str]:
    """Returns a line for each reason, or for each thing if they are few."""
    reasons: dict[str, list[str]] = {}
    for what, why in left_out:
        reasons.setdefault(why, []).append(what)
    lines = []
    for why, things in reasons.items():
        if len(things) > _MOST_NAMED:
            things = [f"{len(things)}, such as {', '.join(things[:2])}"]
        lines += [f"{what}: {why}" for what in things]
    return lines


def read_labels(
    directory: epath.PathLike,
    classes: Sequence[str] | None = None,
    limit: int | None = None,
    side: int | None = None,
) -> LabelSet:
    """Reads the label maps that a folder of images has; images without one are left out.

    Args:
      directory: folder with the images and their labels.
      classes: names of the classes without the background; by default those of `classes.json`,
        else those that the annotation files or the colour list name, else numbers as far as the
        maps go.
      limit: number of labelled images to use, the first ones.
      side: resize every map to so many pixels a side, as photos are; images may then have any
        size. None keeps the images' size, which must be one.

    Raises:
      UserError: a label map of another size than its image, a class that is not known, a map
        without its image or of an image that it does not tell from another, nothing labelled, or a
        file that cannot be read; it is named.
    """
    directory = resolve(directory)
    found = label_files.find(directory)
    sources = _first(directory, found, limit)
    classes = _class_names(directory, found, list(sources)) if classes is None else list(classes)
    if len(classes) > MOST_CLASSES:
        raise UserError(f"{directory} has {len(classes)} classes, {MOST_CLASSES} are possible")
    paths = {n: s.labels for n, s in sources.items() if not isinstance(s.labels, Drawing)}
    legend = _legend(directory, paths, classes) if paths else None
    if legend is not None and legend.names:
        classes = classes or legend.names
    # All masks decide, not only those asked for: a limit must not change what a value means.
    drawn = [s.labels for s in found.sources.values() if not isinstance(s.labels, Drawing)]
    encoding = masks.folder_encoding(drawn, legend, len(classes))
    sizes = _sizes({name: found.images[name] for name in sources}, same=side is None)
    maps = []
    for source, size in zip(sources.values(), sizes, strict=True):
        if isinstance(source.labels, Drawing):
            labels = common.paint(source.labels, size, classes)
        else:
            labels = read_class_map(source.labels, size, classes, legend, encoding)
        maps.append(labels if side is None else pixels.resize_labels(labels, side, side))
    labels = np.stack(maps)
    classes = classes or _numbered(labels)
    if not classes:
        raise UserError(f"the label maps of {directory} hold nothing but background")
    formats = dict(collections.Counter(source.kind for source in sources.values()))
    named = ["background", *classes]
    return LabelSet(list(sources), labels, named, formats, found.left_out, sizes)


def _first(
    directory: epath.Path, found: label_files.Found, limit: int | None
) -> dict[str, label_files.Source]:
    """Returns what labels the first images, as many as are asked for; says what is left out.

    Raises:
      UserError: there are none, or fewer.
    """
    count = len(found.sources)
    if not count:
        reasons = "".join(f"; {what}: {why}" for what, why in found.left_out[:3])
        raise UserError(
            f"{directory} has no label maps: paint them with `{command('label')} "
            f"--images={directory}`, or put NAME{MASK_SUFFIX}, LabelMe or COCO files there{reasons}"
        )
    if limit is not None and count < limit:
        raise UserError(f"{directory} has {count} label maps, but {limit} are asked for")
    if unlabelled := len(found.images) - count:
        found.left_out.append((f"{unlabelled} images", "have no label map"))
    if limit is not None and count > limit:
        found.left_out.append((f"{count - limit} labelled images", f"only {limit} are asked for"))
    return dict(itertools.islice(found.sources.items(), limit))


def _class_names(
    directory: epath.Path, found: label_files.Found, names: Sequence[str]
) -> list[str]:
    """Returns the names in `classes.json`, or those that annotation files use on these images."""
    if listed := read_classes(directory):
        return listed
    paths = [found.paths[name] for name in names]
    classes: dict[str, None] = {}
    for annotations in found.annotations.values():
        drawings = [annotations.drawings[p] for p in paths if p in annotations.drawings]
        drawn = {shape.name for drawing in drawings for shape in drawing.shapes}
        classes |= dict.fromkeys(name for name in annotations.classes if name in drawn)
    return list(classes)


def _sizes(images: Mapping[str, epath.Path], *, same: bool) -> list[tuple[int, int]]:
    """Returns (height, width) of images.

    Raises:
      UserError: they differ and must not, or one cannot be read.
    """
    sizes = [image_size(path) for path in images.values()]
    for path, size in zip(images.values(), sizes, strict=True):
        if same and size != sizes[0]:
            raise UserError(
                f"{path} is {size[1]}x{size[0]}, the images before are {sizes[0][1]}x{sizes[0][0]}"
            )
    return sizes


def _numbered(labels: UInt8[np.ndarray, "n h w"]) -> list[str]:
    """Returns names for classes that have none, as far as the maps go."""
    most = int(labels[labels != UNLABELLED].max(initial=0))
    return [f"class {i}" for i in range(1, most + 1)]


def image_size(path: epath.Path) -> tuple[int, int]:
    """Returns (height, width) of an image as a viewer shows it.

    Raises:
      UserError: it cannot be read.
    """
    try:
        return upright_size(path.read_bytes())
    except (OSError, ImageError) as error:
        raise UserError(f"{path} cannot be read as an image: {error}") from error


def _legend(
    directory: epath.Path, paths: Mapping[str, epath.Path], classes: Sequence[str]
) -> legends.Legend | None:
    """Returns what colours mean: the folder's colour list, or a palette that all maps share.

    Raises:
      UserError: the maps number their colours differently, and no list says which is which.
    """
    names = [str(path.relative_to(directory)) for path in paths.values()]
    if (legend := legends.read_legend(directory, names)) is not None:
        return legend.renumbered(classes) if classes else legend
    palettes = masks.Palettes()
    for path in paths.values():
        palettes.add(_decode(path))
    if not palettes.differ:
        return None
    own = palette(UNLABELLED + 1).tolist()
    ours = {(r, g, b): i for i, (r, g, b) in enumerate(own)}
    legend = palettes.legend([legends.VOC_COLORS, ours])
    if legend is None:
        raise UserError(
            f"the palettes of the label maps in {directory} differ (a program has renumbered "
            f"them): put a {legends.LEGEND_FILES[0]} with lines NAME:R,G,B:: there"
        )
    return legend


def _decode(path: epath.Path) -> masks.Mask:
    try:
        return masks.decode_mask(path.read_bytes())
    except (OSError, ImageError) as error:
        raise UserError(f"{path} cannot be read as an image: {error}") from error


def read_class_map(
    path: epath.Path,
    size: tuple[int, int],
    classes: Sequence[str],
    legend: legends.Legend | None = None,
    encoding: Encoding | None = None,
) -> UInt8[np.ndarray, "h w"]:
    """Returns a mask as classes; one of another size than its image is resized to the nearest.

    Args:
      path: of the mask; one of 0 and 255 alone is a mask of the only class.
      size: (height, width) of its image, whose aspect it must have.
      classes: names without the background; if empty, any value is a class.
      legend: what its colours or values mean; by default the encoding says it.
      encoding: of the folder, by default that of the mask alone.

    Raises:
      UserError: it cannot be read, has unknown colours or values, or another aspect.
    """
    mask = _decode(path)
    height, width = mask.values.shape
    if not pixels.same_aspect((height, width), size):
        raise UserError(f"{path} is {width}x{height}, its image {size[1]}x{size[0]}")
    encoding = encoding or masks.folder_encoding([path], legend, len(classes))
    only = len(encoding.table) <= 2 and not encoding.void
    if only and len(classes) > 1 and legend is None and {*np.unique(mask.values)} == {0, 255}:
        # What paint programs make of a mask; as labels, it would have no labelled part.
        raise UserError(
            f"{path} holds nothing but 0 and {UNLABELLED}, which means 'not labelled': give "
            f"the pixels of {classes[0]} the value 1, those of {classes[1]} 2, and so on"
        )
    try:
        labels = masks.to_labels(mask, legend, encoding)
    except ImageError as error:
        raise UserError(f"{path}: {error}") from error
    known = len(classes) if classes else MOST_CLASSES
    unknown = np.unique(labels[(labels > known) & (labels != UNLABELLED)])
    if unknown.size:
        raise UserError(
            f"{path} holds class {unknown[0]}, but there are the classes 0 to {known} "
            f"({', '.join(['background', *classes])}) and {UNLABELLED} for 'not labelled'"
        )
    return pixels.resize_labels(labels, *size)


def classes_json(classes: Sequence[str]) -> str:
    """Returns the content of `classes.json` for classes given without the background.

    Raises:
      UserError: a name is empty or given twice, or there are more than 254.
    """
    check_classes(classes)
    return json.dumps({"classes": list(classes)}, indent=2) + "\n"


def check_classes(classes: Sequence[str]) -> None:
    """Raises `UserError` if names, without the background, are no classes of a label map."""
    if not classes or any(not name.strip() for name in classes):
        raise UserError("--classes: give at least one name, and no empty ones (head,torso,legs)")
    if len(set(classes)) < len(classes) or any(
        name.lower() in BACKGROUND_NAMES for name in classes
    ):
        raise UserError("--classes: every name once, and without the background")
    if len(classes) >= UNLABELLED:
        raise UserError(f"--classes: at most {UNLABELLED - 1} classes fit into a label map")


def read_classes(directory: epath.Path) -> list[str] | None:
    """Returns the names in the folder's `classes.json`, without the background, or None."""
    path = directory / CLASSES_FILE
    if not path.exists():
        return None
    content = read_json(path)
    classes = content.get("classes") if isinstance(content, dict) else None
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise UserError(f'{path} must be {{"classes": ["name", ...]}}')
    return classes
