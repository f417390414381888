"""Label maps that people made: indexed PNG, LabelMe JSON, COCO JSON.

For an image `sample_0003.png` the first of these that exists is its label map:

- `sample_0003_mask.png` or `masks/sample_0003.png`: a PNG with a palette, or a grey one, whose
  pixel values are the classes (0 background, 1.. the classes in order, 255 not labelled);
- `sample_0003.json`: LabelMe (polygons and rectangles, painted in their order);
- any other `.json` in the folder that is a COCO file with an entry for the image (polygons).

`classes.json`, {"classes": ["head", "torso", ...]}, names the classes without the background.
"""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from ganseg_jax.data.images import IMAGE_SUFFIXES
from ganseg_jax.errors import UserError, command
from ganseg_jax.fewshot.train import UNLABELLED
from ganseg_jax.files import resolve

CLASSES_FILE = "classes.json"

MASK_SUFFIX = "_mask.png"
_BACKGROUND_NAMES = ("background", "_background_")
_IGNORE_NAMES = ("ignore", "__ignore__")


@dataclasses.dataclass(frozen=True)
class LabelSet:
    """Holds label maps of some images.

    Attributes:
      names: of the images, without ending.
      labels: class of every pixel, 0 background; 255 if a pixel is not labelled.
      classes: names of the classes, background first.
    """

    names: list[str]
    labels: UInt8[np.ndarray, "n h w"]
    classes: list[str]


def image_files(directory: epath.Path) -> dict[str, epath.Path]:
    """Returns the images of a folder by name without ending, sorted, without label maps.

    Raises:
      UserError: the folder does not exist, or two images differ only in their ending.
    """
    if not directory.is_dir():
        raise UserError(f"{directory} is no folder")
    found: dict[str, epath.Path] = {}
    for path in sorted(directory.iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.endswith(MASK_SUFFIX):
            continue
        if path.stem in found:
            raise UserError(f"{path} and {found[path.stem].name} would share one label map")
        found[path.stem] = path
    return found


def read_labels(
    directory: epath.PathLike, classes: Sequence[str] | None = None, limit: int | None = None
) -> LabelSet:
    """Reads the label maps that a folder of images has; images without one are left out.

    Args:
      directory: folder with the images and their labels.
      classes: names of the classes without the background; by default those of `classes.json`,
        else those that the annotation files name, else numbers as far as the maps go.
      limit: number of labelled images to use, the first ones.

    Raises:
      UserError: a label map of another size than its image, a class that is not known, a map
        without its image, nothing labelled, or a file that cannot be read; it is named.
    """
    directory = resolve(directory)
    images = image_files(directory)
    coco = _coco_files(directory, images)
    _check_orphans(directory, images)
    sources = {name: _find(directory, name, coco) for name in images}
    names = [name for name, source in sources.items() if source is not None]
    if not names:
        raise UserError(
            f"{directory} has no label maps: paint them with `{command('label')} "
            f"--images={directory}`, or put NAME{MASK_SUFFIX}, LabelMe or COCO files there"
        )
    if limit is not None and len(names) < limit:
        raise UserError(f"{directory} has {len(names)} label maps, but {limit} are asked for")
    names = names[:limit]
    if classes is None:
        classes = read_classes(directory) or _named_classes([sources[name] for name in names])
    maps, size = [], None
    for name in names:
        with images[name].open("rb") as file, Image.open(file) as image:
            here = (image.height, image.width)
        if size is not None and here != size:
            raise UserError(
                f"{images[name]} is {here[1]}x{here[0]}, the images before are {size[1]}x{size[0]}"
            )
        size = here
        maps.append(_label_map(sources[name], size, classes))
    labels = np.stack(maps)
    if not classes:
        present = labels[labels != UNLABELLED]
        classes = [f"class {i}" for i in range(1, int(present.max(initial=0)) + 1)]
    if not classes:
        raise UserError(f"the label maps of {directory} hold nothing but background")
    return LabelSet(names, labels, ["background", *classes])


def classes_json(classes: Sequence[str]) -> str:
    """Returns the content of `classes.json` for classes given without the background.

    Raises:
      UserError: a name is empty or given twice, or there are more than 254.
    """
    if not classes or any(not name.strip() for name in classes):
        raise UserError("--classes: give at least one name, and no empty ones (head,torso,legs)")
    if len(set(classes)) < len(classes) or any(
        name.lower() in _BACKGROUND_NAMES for name in classes
    ):
        raise UserError("--classes: every name once, and without the background")
    if len(classes) >= UNLABELLED:
        raise UserError(f"--classes: at most {UNLABELLED - 1} classes fit into a label map")
    return json.dumps({"classes": list(classes)}, indent=2) + "\n"


def read_classes(directory: epath.Path) -> list[str] | None:
    """Returns the names in the folder's `classes.json`, without the background, or None."""
    path = directory / CLASSES_FILE
    if not path.exists():
        return None
    content = _read_json(path)
    classes = content.get("classes") if isinstance(content, dict) else None
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise UserError(f'{path} must be {{"classes": ["name", ...]}}')
    return classes


@dataclasses.dataclass(frozen=True)
class _Polygons:
    """Holds polygons of one image in drawing order: class, points [P, 2] as (x, y) in pixels."""

    path: epath.Path
    size: tuple[int, int] | None
    shapes: list[tuple[str, np.ndarray]]
    class_names: list[str]


def _find(
    directory: epath.Path, name: str, coco: dict[str, _Polygons]
) -> epath.Path | _Polygons | None:
    for path in (directory / f"{name}{MASK_SUFFIX}", directory / "masks" / f"{name}.png"):
        if path.exists():
            return path
    path = directory / f"{name}.json"
    return _labelme(path) if path.exists() else coco.get(name)


def _check_orphans(directory: epath.Path, images: dict[str, epath.Path]) -> None:
    masks = {p.name.removesuffix(MASK_SUFFIX): p for p in directory.glob(f"*{MASK_SUFFIX}")}
    masks |= {p.stem: p for p in (directory / "masks").glob("*.png")}
    for name, path in sorted(masks.items()):
        if name not in images:
            raise UserError(f"{path} is the label map of an image {name!r} that {directory} lacks")


def _label_map(
    source: epath.Path | _Polygons, size: tuple[int, int], classes: Sequence[str]
) -> UInt8[np.ndarray, "h w"]:
    if isinstance(source, _Polygons):
        return _paint(source, size, classes)
    return read_class_map(source, size, classes)


def read_class_map(
    path: epath.Path, size: tuple[int, int], classes: Sequence[str]
) -> UInt8[np.ndarray, "h w"]:
    """Returns an indexed or grey PNG as classes.

    Args:
      path: of the PNG; one of 0 and 255 alone is a mask of the only class.
      size: (height, width) that it must have.
      classes: names without the background; if empty, any value is a class.

    Raises:
      UserError: it cannot be read, is a colour picture, of another size, or holds other values.
    """
    try:
        with path.open("rb") as file, Image.open(file) as image:
            if image.mode in ("P", "L", "1", "I;16", "I"):
                values = np.asarray(image).astype(np.int64)
            else:  # Some paint programs store grey as three equal channels.
                channels = np.asarray(image.convert("RGB")).astype(np.int64)
                values = channels[..., 0]
                if (channels != values[..., None]).any():
                    raise UserError(
                        f"{path} is a colour picture ({image.mode}); label maps are PNGs with a "
                        "palette, or grey, whose values are the classes"
                    )
    except OSError as error:
        raise UserError(f"{path} cannot be read as an image: {error}") from error
    if values.shape != size:
        raise UserError(
            f"{path} is {values.shape[1]}x{values.shape[0]}, its image {size[1]}x{size[0]}"
        )
    if set(np.unique(values)) == {0, UNLABELLED}:
        # What paint programs make of a mask; as labels, it would have no labelled part.
        if len(classes) > 1:
            raise UserError(
                f"{path} holds nothing but 0 and {UNLABELLED}, which means 'not labelled': give "
                f"the pixels of {classes[0]} the value 1, those of {classes[1]} 2, and so on"
            )
        values = values // UNLABELLED
    known = len(classes) if classes else UNLABELLED - 1
    unknown = np.unique(values[(values > known) & (values != UNLABELLED)])
    if unknown.size:
        raise UserError(
            f"{path} holds class {unknown[0]}, but there are the classes 0 to {known} "
            f"({', '.join(['background', *classes])}) and {UNLABELLED} for 'not labelled'"
        )
    return values.astype(np.uint8)


def _paint(
    source: _Polygons, size: tuple[int, int], classes: Sequence[str]
) -> UInt8[np.ndarray, "h w"]:
    if source.size is not None and source.size != size:
        raise UserError(
            f"{source.path} was drawn on an image of {source.size[1]}x{source.size[0]}, "
            f"this one is {size[1]}x{size[0]}"
        )
    labels = np.zeros(size, np.uint8)
    for name, points in source.shapes:
        if name.lower() in _IGNORE_NAMES:
            value = UNLABELLED
        elif name.lower() in _BACKGROUND_NAMES:
            value = 0
        elif name in classes:
            value = list(classes).index(name) + 1
        else:
            raise UserError(f"{source.path} has class {name!r}, known are {', '.join(classes)}")
        labels[inside_polygon(points, size)] = value
    return labels


def inside_polygon(
    points: Float[np.ndarray, "p 2"], size: tuple[int, int]
) -> Bool[np.ndarray, "h w"]:
    """Returns the pixels whose centre lies inside a polygon of (x, y) points (even-odd rule)."""
    y, x = np.arange(size[0])[:, None] + 0.5, np.arange(size[1])[None] + 0.5
    inside = np.zeros(size, bool)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if y0 == y1:
            continue
        crossing = x0 + (y - y0) * (x1 - x0) / (y1 - y0)  # [H, 1]
        inside ^= ((y0 <= y) != (y1 <= y)) & (x < crossing)
    return inside


def _named_classes(sources: Sequence[epath.Path | _Polygons | None]) -> list[str]:
    """Returns the classes in the order in which the annotation files name them."""
    names = [n for s in sources if isinstance(s, _Polygons) for n in s.class_names]
    special = (*_BACKGROUND_NAMES, *_IGNORE_NAMES)
    return [name for name in dict.fromkeys(names) if name.lower() not in special]


def _read_json(path: epath.Path) -> Any:
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON: {error}") from error


def _points(where: epath.PathLike, values: Any) -> np.ndarray:
    try:
        points = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        points = np.zeros(0)
    if points.ndim != 2 or points.shape[1:] != (2,) or not np.isfinite(points).all():
        raise UserError(f"{where}: a shape's points must be pairs of numbers")
    return points


def _labelme(path: epath.Path) -> _Polygons:
    content = _read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise UserError(f"{path} is no LabelMe file: it has no list of 'shapes'")
    shapes = []
    for shape in content["shapes"]:
        kind, points = shape.get("shape_type", "polygon"), _points(path, shape.get("points"))
        if kind == "rectangle" and len(points) == 2:
            (x0, y0), (x1, y1) = points
            points = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
        elif kind != "polygon" and not (kind == "rectangle" and len(points) == 4):
            raise UserError(f"{path}: shapes of type {kind!r} are not read, draw polygons")
        shapes.append((str(shape.get("label")), points))
    height, width = content.get("imageHeight"), content.get("imageWidth")
    size = (int(height), int(width)) if height and width else None
    return _Polygons(path, size, shapes, sorted({name for name, _ in shapes}))


def _coco_files(directory: epath.Path, images: dict[str, epath.Path]) -> dict[str, _Polygons]:
    """Reads the annotations of all COCO files in the folder, by image name."""
    found: dict[str, _Polygons] = {}
    for path in sorted(directory.glob("*.json")):
        if path.name == CLASSES_FILE or path.stem in images:
            continue
        content = _read_json(path)
        if not isinstance(content, dict) or not {"images", "annotations"} <= set(content):
            raise UserError(f"{path} is neither a COCO file nor named after an image (LabelMe)")
        found |= _coco(path, content, images)
    return found


def _coco(path: epath.Path, content: dict, images: dict[str, epath.Path]) -> dict[str, _Polygons]:
    for part in ("images", "annotations", "categories"):
        entries = content.get(part, [])
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise UserError(f"{path}: {part!r} must be a list of objects, as COCO files have it")
    listed = {entry.get("id"): entry for entry in content["images"]}
    for entry in listed.values():
        if epath.Path(str(entry.get("file_name"))).stem not in images:
            raise UserError(f"{path} annotates {entry.get('file_name')}, which the folder lacks")
    categories = _coco_categories(path, content)
    shapes: dict[Any, list[tuple[str, np.ndarray]]] = {}
    for annotation in content["annotations"]:
        image, category = annotation.get("image_id"), annotation.get("category_id")
        if image not in listed or category not in categories:
            raise UserError(f"{path}: annotation {annotation.get('id')} has no image or category")
        polygons = _coco_polygons(f"{path}: annotation {annotation.get('id')}", annotation)
        shapes.setdefault(image, []).extend((categories[category], points) for points in polygons)
    # An image that the file lists without annotations was not labelled.
    found = {}
    for image, drawn in shapes.items():
        entry = listed[image]
        height, width = entry.get("height"), entry.get("width")
        size = (int(height), int(width)) if height and width else None
        stem = epath.Path(entry["file_name"]).stem
        found[stem] = _Polygons(path, size, drawn, list(categories.values()))
    return found


def _coco_categories(path: epath.Path, content: dict) -> dict[Any, str]:
    """Returns the names of the categories that are drawn, by id, in its order.

    Others only group categories, or are classes of other files, and would get no labelled pixel.
    """
    given = content.get("categories", [])
    if any("id" not in entry or "name" not in entry for entry in given):
        raise UserError(f"{path}: a category has no id or name")
    used = {annotation.get("category_id") for annotation in content["annotations"]}
    return {
        entry["id"]: str(entry["name"])
        for entry in sorted(given, key=lambda entry: entry["id"])
        if entry["id"] in used
    }


def _coco_polygons(where: str, annotation: dict) -> list[np.ndarray]:
    """Returns the polygons of an annotation, [P, 2] each as (x, y) in pixels."""
    drawn = annotation.get("segmentation")
    if isinstance(drawn, dict):
        raise UserError(f"{where} is run-length encoded; export polygons, or indexed PNGs")
    if not drawn:
        raise UserError(f"{where} is a box without an outline; export polygons, or indexed PNGs")
    if not isinstance(drawn, list) or not all(isinstance(flat, list) for flat in drawn):
        raise UserError(f"{where}: 'segmentation' must be a list of polygons, each a list")
    if any(len(flat) % 2 or len(flat) < 6 for flat in drawn):
        raise UserError(f"{where}: a polygon needs three or more pairs of coordinates")
    return [_points(where, np.reshape(flat, (-1, 2))) for flat in drawn]
