"""TFDS builders of PartImageNet: animals and things of ImageNet with 40 parts of 11 kinds."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import UInt8

from ganseg_jax.data import images
from ganseg_jax.data.annotations import coco, raster
from ganseg_jax.data.builders import base
from ganseg_jax.errors import UserError

_KINDS = {
    "Quadruped": ("Head", "Body", "Foot", "Tail"),
    "Biped": ("Head", "Body", "Hand", "Foot", "Tail"),
    "Fish": ("Head", "Body", "Fin", "Tail"),
    "Bird": ("Head", "Body", "Wing", "Foot", "Tail"),
    "Snake": ("Head", "Body"),
    "Reptile": ("Head", "Body", "Foot", "Tail"),
    "Car": ("Body", "Tier", "Side Mirror"),
    "Bicycle": ("Body", "Head", "Seat", "Tier"),
    "Boat": ("Body", "Sail"),
    "Aeroplane": ("Head", "Body", "Engine", "Wing", "Tail"),
    "Bottle": ("Mouth", "Body"),
}
PARTS = tuple(f"{kind} {part}" for kind, parts in _KINDS.items() for part in parts)


class _Partimagenet(base.SetBuilder, skip_registration=True):  # type: ignore[call-arg]  # TFDS has no types.
    """Builds both forms from their JSON files; images without a part are left out."""

    CITATION = "He et al.: PartImageNet, a large, high-quality dataset of parts, ECCV 2022."
    part_names: Sequence[str] = PARTS
    # Files with the part names, the first that there is.
    NAMED_BY: ClassVar[tuple[str, ...]] = ()

    def __init__(self, *, source: str | pathlib.Path | None = None, **kwargs: Any):
        for name in self.NAMED_BY if source is not None else ():
            try:
                file = base.find_root(pathlib.Path(str(source)), name) / name
            except FileNotFoundError:
                continue
            self.part_names = _names(_content(file)[1])
            break
        super().__init__(source=source, **kwargs)

    def read_item(self, item: tuple[dict[str, Any], str]) -> base.Example:
        entry, path = item
        data = self.read(pathlib.Path(path))
        height, width = images.image_size(data, camera_rotation=False)
        if (height, width) != (entry["height"], entry["width"]):
            raise UserError(f"{path} is not of the size that its annotation says; get it again")
        name = f"{pathlib.PurePath(path).parent.name}/{pathlib.PurePath(path).name}"
        return base.Example(name, data, labels=drawn(entry, len(self.part_names)))


class PartimagenetSeg(_Partimagenet):
    """Builds the segmentation form, whose training and test images show the same kinds."""

    DESCRIPTION = "Animals and things with 40 parts (PartImageNet_Seg)."
    LAYOUT = (
        "the folder PartImageNet_Seg with images/{train,val,test}/ and annotations/{train,val,"
        "test}/ (github.com/TACJu/PartImageNet)"
    )
    EXPECTED_COUNTS = {"test": 2405}
    NAMED_BY = ("annotations/train/train.json", "annotations/test/test.json")

    def list_splits(self) -> Mapping[str, list[tuple[dict[str, Any], str]]]:
        splits = {}
        for split, folder in (("train", "train"), ("validation", "val"), ("test", "test")):
            file = self.find(f"annotations/{folder}/{folder}.json", f"annotations/{folder}.json")
            root = self.find(f"images/{folder}")
            splits[split] = [(entry, find_image(root, entry)) for entry in _entries(file)]
        return splits


class PartimagenetOod(_Partimagenet):
    """Builds PDiscoNet's split of the training images of the out-of-distribution form.

    That form's own splits show different classes, so PDiscoNet divided its training images.
    """

    DESCRIPTION = "Animals and things with 40 parts (PartImageNet_OOD, PDiscoNet's split)."
    LAYOUT = (
        "a folder with train/, train.json (github.com/TACJu/PartImageNet) and PDiscoNet's split: "
        "newdset.txt, train_test_split_pimagenet_ood.txt, or train_train.json and train_test.json "
        "made from it (github.com/ananthu-aniraj/pdiscoformer)"
    )
    EXPECTED_COUNTS = {"test": 1658}
    NAMED_BY = ("train.json", "train_train.json")
    _SPLITS = ("newdset.txt", "train_test_split_pimagenet_ood.txt", "OOD_list.txt")

    def list_splits(self) -> Mapping[str, list[tuple[dict[str, Any], str]]]:
        root = self.find("train", "train_train")
        made = [root.parent / f"train_{split}.json" for split in ("train", "test")]
        if all(file.exists() for file in made):
            train, test = (_entries(file) for file in made)
        else:
            held_out = _held_out(self.find(*self._SPLITS))
            entries = _entries(self.find("train.json"))
            if unknown := [e["file_name"] for e in entries if e["id"] not in held_out]:
                raise UserError(f"the split has no line for {unknown[0]}; get it again")
            train = [entry for entry in entries if not held_out[entry["id"]]]
            test = [entry for entry in entries if held_out[entry["id"]]]
        return {
            split: [(entry, find_image(root, entry)) for entry in entries]
            for split, entries in (("train", train), ("test", test))
        }


def find_image(root: pathlib.Path, entry: Mapping[str, Any]) -> str:
    """Returns the path of an image, which lies in `root` itself or in its class's folder."""
    given = str(entry["file_name"]).replace("\\", "/")
    name = given.rsplit("/", 1)[-1]
    class_id = name.split("_")[0]
    nested = [root / given, root / name, root / class_id / name]
    nested += [root.parent / f"train_{split}" / class_id / name for split in ("train", "test")]
    for path in nested:
        if path.is_file():
            return str(path)
    raise UserError(f"{root} has no {given}; is the data complete?")


def drawn(entry: Mapping[str, Any], num_parts: int) -> UInt8[np.ndarray, "h w"]:
    """Draws an image's parts; where outlines overlap, the part with most of them wins.

    Args:
      entry: of an image, with `height`, `width` and `annotations`.
      num_parts: number of parts; a category's number is that of its part from 0 on.

    Returns:
      Label map, 0 = background, 1 = category 0.
    """
    size = int(entry["height"]), int(entry["width"])
    counts: dict[int, np.ndarray] = {}
    for annotation in entry["annotations"]:
        if not annotation.get("area", 1) or annotation.get("iscrowd"):
            continue
        category = int(annotation["category_id"])
        if not 0 <= category < num_parts:
            raise UserError(f"{entry['file_name']}: there is no category {category}")
        inside = np.zeros(size, bool)
        for region in _outlines(annotation):
            inside |= region(size)
        counts[category] = counts.get(category, np.zeros(size, np.int16)) + inside
    if not counts:
        return np.zeros(size, np.uint8)
    numbers = sorted(counts)
    stack = np.stack([counts[number] for number in numbers])
    found = np.array(numbers, np.uint8)[stack.argmax(0)] + 1
    return np.where(stack.any(0), found, 0).astype(np.uint8)


def _outlines(annotation: Mapping[str, Any]) -> list:
    """Returns functions that draw; an outline of four numbers stands for the bounding box."""
    drawing = annotation["segmentation"]
    if isinstance(drawing, list) and any(len(ring) == 4 for ring in drawing):
        x, y, width, height = (float(value) for value in annotation["bbox"])
        corners = raster.box_corners(x, y, x + width, y + height)
        rings = [ring for ring in drawing if len(ring) != 4]
        others = coco.regions(f"annotation {annotation.get('id')}", rings) if rings else []
        return [lambda size: raster.inside_coco_polygon(corners, size), *others]
    return coco.regions(f"annotation {annotation.get('id')}", drawing)


def _content(file: pathlib.Path) -> tuple[list[dict], list[dict], list[dict]]:
    try:
        content = json.loads(file.read_bytes())
        return content["images"], content["categories"], content["annotations"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file} is no COCO file of PartImageNet ({error}); get it again"
        ) from error


def _names(categories: list[dict]) -> tuple[str, ...]:
    return tuple(str(one["name"]) for one in sorted(categories, key=lambda one: int(one["id"])))


def _entries(file: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the images of a file with their annotations; those without any are left out."""
    listed, _, annotations = _content(file)
    of_image: dict[Any, list[dict]] = {}
    for annotation in annotations:
        of_image.setdefault(annotation["image_id"], []).append(annotation)
    return [
        {**entry, "annotations": of_image[entry["id"]]}
        for entry in listed
        if entry["id"] in of_image
    ]


def _held_out(file: pathlib.Path) -> dict[int, bool]:
    """Reads lines of an image's number, 1 for tests, and its class, separated by tabs."""
    cells = [line.split("\t") for line in file.read_text().splitlines() if line.strip()]
    try:
        return {int(line[0]): bool(int(line[1])) for line in cells}
    except (ValueError, IndexError) as error:
        raise UserError(f"{file} is no split of PartImageNet ({error}); get it again") from error
