"""Which files of a folder are images, and by what each of them is labelled."""

import collections
import dataclasses
import os
from collections.abc import Collection

from etils import epath

from ganseg_jax.data import layout, layout_names
from ganseg_jax.data.annotations import folder
from ganseg_jax.data.annotations.common import Annotations, Drawing
from ganseg_jax.data.annotations.name_forms import stem_of
from ganseg_jax.data.annotations.names import Names
from ganseg_jax.errors import UserError

MASK_SUFFIX = "_mask.png"

MASKS = "masks"
"""Kind of the sources that are images."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Holds what labels an image.

    Attributes:
      kind: `MASKS`, or the annotation files' format.
      labels: a mask, or what was drawn.
    """

    kind: str
    labels: epath.Path | Drawing


@dataclasses.dataclass
class Found:
    """Says by what the images of a folder are labelled.

    Attributes:
      images: by name, sorted.
      paths: of the images below the folder, by name.
      sources: by name, of the images that are labelled.
      annotations: what the annotation files hold, by format; images are paths there.
      left_out: what is not used, and why.
    """

    images: dict[str, epath.Path]
    paths: dict[str, str]
    sources: dict[str, Source]
    annotations: dict[str, Annotations]
    left_out: list[tuple[str, str]]


def image_files(directory: epath.Path) -> dict[str, epath.Path]:
    """Returns the images of a folder and of those in it, without masks, by name, sorted.

    A name has no folder and no ending if no other image of the folder is called so.

    Raises:
      UserError: the folder does not exist or has no images.
    """
    photos = _layout(directory).photos
    return {name: directory / path for name, path in sorted(short_names(photos).items())}


def find(directory: epath.Path) -> Found:
    """Finds the images of a folder and what labels them: masks first, then LabelMe.

    Raises:
      UserError: the folder has no images, a file cannot be read, or it is not clear of which image
        it is; it is named.
    """
    listed = _layout(directory)
    paths = dict(sorted(short_names(listed.photos).items()))
    names = Names(listed.photos, directory)
    masks, left_out = _masks(directory, listed, names)
    annotations = folder.read(directory, listed.photos)
    left_out = [entry for found in annotations.values() for entry in found.left_out] + left_out
    sources: dict[str, Source] = {}
    for name, path in paths.items():
        given = [Source(MASKS, directory / masks[path])] if path in masks else []
        given += [
            Source(kind, found.drawings[path])
            for kind, found in sorted(annotations.items(), key=lambda pair: pair[0] != "LabelMe")
            if path in found.drawings
        ]
        if given:
            sources[name] = given[0]
        left_out += [
            (f"{other.kind} of {path}", f"it is labelled by {given[0].kind}") for other in given[1:]
        ]
    images = {name: directory / path for name, path in paths.items()}
    return Found(images, paths, sources, annotations, left_out)


def _layout(directory: epath.Path) -> layout.Layout:
    if not directory.is_dir():
        raise UserError(f"{directory} is no folder")
    return layout.find(directory)


def _masks(
    directory: epath.Path, listed: layout.Layout, names: Names
) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Returns the masks of images, and what is left out and why; all by paths.

    Raises:
      UserError: a mask is of no image of the folder, or does not say of which.
    """
    masks, left_out = dict(listed.masks), []
    images = collections.defaultdict(list)
    for image, mask in masks.items():
        images[mask].append(image)
    for mask, owners in images.items():
        if len(owners) > 1:
            raise names.unclear(directory / mask, owners, MASK_SUFFIX)
    for mask, reason in listed.skipped:
        if reason != layout.ALONE:
            left_out += [(mask, reason)] if reason != layout.BRUSH else []
            continue
        owner = _owner(directory, mask, names)
        if owner in masks:
            left_out.append((mask, f"{owner} has the mask {masks[owner]}"))
        else:
            masks[owner] = mask
    return masks, left_out


def _owner(directory: epath.Path, mask: str, names: Names) -> str:
    """Returns the image of a mask that is called otherwise: a tool has added letters, say.

    Raises:
      UserError: there is none, or more than one.
    """
    forms = layout_names.mask_forms(mask)
    for form in forms:
        file = (directory / mask).parent / f"{form}.png"
        found = names.of_files([file])[file].images
        if len(found) > 1:
            raise names.unclear(directory / mask, found, MASK_SUFFIX)
        if found:
            return found[0]
    raise UserError(
        f"{directory / mask} is the label map of an image {forms[-1]!r} that {directory} lacks"
    )


def short_names(paths: Collection[str]) -> dict[str, str]:
    """Returns short names of images, each of one image only, with the images' paths.

    A name has no folder and no ending if no other image is called so, else what tells them apart.
    """
    shared = len("".join(f"{p}/" for p in os.path.commonprefix([p.split("/")[:-1] for p in paths])))
    whole = {path: path[shared:] for path in paths}
    stems = collections.Counter(stem_of(name.rpartition("/")[2]) for name in whole.values())
    places = collections.Counter(stem_of(name) for name in whole.values())
    taken, named = set(whole.values()), {}
    for path, name in whole.items():
        stem, place = stem_of(name.rpartition("/")[2]), stem_of(name)
        if stems[stem] == 1 and stem not in taken:
            named[stem] = path
        elif places[place] == 1 and place not in taken:
            named[place] = path
        else:
            named[name] = path
    return named
