"""The data sets by name."""

import difflib
import importlib

from ganseg_jax.errors import UserError

# Name -> module under this package and class in it; imported when asked for.
_BUILDERS = {
    "car_parts": ("small_sets.builder", "CarParts"),
    "celeba_aligned": ("celeba.builder", "CelebaAligned"),
    "celeba_wild": ("celeba.builder", "CelebaWild"),
    "celebamask_hq": ("celebamask_hq.builder", "CelebamaskHq"),
    "cub": ("cub.builder", "Cub"),
    "cub_aligned": ("cub.variants", "CubAligned"),
    "cub_official": ("cub.variants", "CubOfficial"),
    "cub_three": ("cub.variants", "CubThree"),
    "deepfashion_keypoints": ("deepfashion.builder", "DeepfashionKeypoints"),
    "deepfashion_parsing": ("deepfashion.builder", "DeepfashionParsing"),
    "faces_mtfl": ("faces_mtfl.builder", "FacesMtfl"),
    "flowers": ("flowers.builder", "Flowers"),
    "horses_weizmann": ("small_sets.builder", "HorsesWeizmann"),
    "image_folder": ("image_folder.builder", "ImageFolder"),
    "nabirds": ("nabirds.builder", "Nabirds"),
    "partimagenet_ood": ("partimagenet.builder", "PartimagenetOod"),
    "partimagenet_seg": ("partimagenet.builder", "PartimagenetSeg"),
    "pascal_part_car": ("pascal_part.builder", "PascalPartCar"),
    "pascal_part_horse": ("pascal_part.builder", "PascalPartHorse"),
    "people_ccp": ("people_ccp.builder", "PeopleCcp"),
    "puppets": ("puppets.builder", "Puppets"),
    "taichi": ("taichi.builder", "Taichi"),
    "white_blood_cells": ("small_sets.builder", "WhiteBloodCells"),
}


def names() -> list[str]:
    """Returns the names of all data sets that can be prepared."""
    return sorted(_BUILDERS)


def get(name: str):
    """Returns the builder class of the data set `name`.

    Raises:
      UserError: if there is no such set; the message offers the nearest name.
    """
    if name not in _BUILDERS:
        near = difflib.get_close_matches(name, _BUILDERS, n=1)
        hint = f", did you mean {near[0]!r}?" if near else ""
        raise UserError(f"unknown data set {name!r}{hint} (known: {', '.join(names())})")
    module, attribute = _BUILDERS[name]
    return getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
