"""The data sets by name."""

import difflib
import importlib

from ganseg_jax.errors import UserError

# Name -> module under this package and class in it; imported when asked for.
_BUILDERS = {
    "celeba_aligned": ("celeba.builder", "CelebaAligned"),
    "celeba_wild": ("celeba.builder", "CelebaWild"),
    "cub": ("cub.builder", "Cub"),
    "flowers": ("flowers.builder", "Flowers"),
    "taichi": ("taichi.builder", "Taichi"),
    "faces_mtfl": ("faces_mtfl.builder", "FacesMtfl"),
    "image_folder": ("image_folder.builder", "ImageFolder"),
    "people_ccp": ("people_ccp.builder", "PeopleCcp"),
    "puppets": ("puppets.builder", "Puppets"),
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
