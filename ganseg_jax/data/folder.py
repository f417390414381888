"""Photos that a user hands to a program: found in a folder, read one by one."""

import dataclasses
import os
from pathlib import Path

import numpy as np
from etils import epath
from jaxtyping import UInt8
from PIL import Image

from ganseg_jax import pixels
from ganseg_jax.data import images
from ganseg_jax.errors import UserError
from ganseg_jax.files import resolve


@dataclasses.dataclass(frozen=True)
class Photo:
    """Holds a photo that was read.

    Attributes:
      name: its path below the input.
      picture: RGB, at most 512 px a side.
      small: resized to what a network sees, without keeping the aspect ratio.
      height: of the file as a viewer shows it, in pixels.
      width: likewise.
    """

    name: str
    picture: UInt8[np.ndarray, "h w 3"]
    small: UInt8[np.ndarray, "s s 3"]
    height: int
    width: int


def find_photos(source: epath.PathLike, output: epath.PathLike) -> tuple[list[str], epath.Path]:
    """Returns the names of the photos of `--input`, sorted, and the folder they are relative to.

    Masks (`masks/`, `NAME_mask.png`) and hidden files are left out.

    Raises:
      UserError: there are none, or `--output` is a file or lies in the input.
    """
    source, output = resolve(source), resolve(output)
    if not source.exists():
        raise UserError(f"--input={source} does not exist: give a folder of photos, or a photo")
    if output.exists() and not output.is_dir():
        raise UserError(f"--output={output} is a file: give a folder to write to")
    if not source.is_dir():
        return [source.name], source.parent
    if Path(output).resolve().is_relative_to(Path(source).resolve()):
        raise UserError(
            f"--output={output} lies in --input={source}, whose photos the next run would mix up "
            "with its results: write to another folder"
        )
    names = []
    for folder, children, files in os.walk(source):
        children[:] = [c for c in children if not c.startswith(".") and c != "masks"]
        names += [
            (Path(folder) / file).relative_to(source).as_posix()
            for file in files
            if Path(file).suffix.lower() in images.IMAGE_SUFFIXES
            and not file.startswith(".")
            and not file.endswith("_mask.png")
        ]
    if not names:
        formats = ", ".join(suffix[1:] for suffix in images.IMAGE_SUFFIXES)
        raise UserError(f"{source} has no photos (looked for {formats} in all its folders)")
    return sorted(names), source


def read_photo(path: epath.Path, name: str, size: int) -> Photo | str:
    """Returns the photo with `small` of `size` pixels a side, or why it cannot be used."""
    try:
        image = images.open_photo(path.read_bytes())
    except images.ImageError as error:
        return str(error)
    except OSError as error:
        return error.strerror or str(error)
    small = pixels.shrink(np.asarray(image), size)
    height, width = image.height, image.width
    image.thumbnail((images.MAX_STORED_SIDE,) * 2, Image.Resampling.LANCZOS, reducing_gap=3.0)
    return Photo(name, np.asarray(image), small, height, width)
