"""Photos that a user hands to a program: found in a folder, read one by one."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from etils import epath
from jaxtyping import UInt8
from PIL import Image

from ganseg_jax import pixels
from ganseg_jax.data import archives, images, layout
from ganseg_jax.errors import UserError
from ganseg_jax.files import is_remote, resolve


@dataclasses.dataclass(frozen=True)
class Photo:
    """Holds a photo that was read.

    Attributes:
      name: its path below the input.
      picture: RGB, at most 512 px a side.
      small: resized to what a network sees, without keeping the aspect ratio.
      height: of the file as a viewer shows it, in pixels.
      width: likewise.
      note: what was done to its values if that is out of the ordinary, or "".
    """

    name: str
    picture: UInt8[np.ndarray, "h w 3"]
    small: UInt8[np.ndarray, "s s 3"]
    height: int
    width: int
    note: str


@dataclasses.dataclass(frozen=True)
class Photos:
    """Holds what `--input` was taken for.

    Attributes:
      names: of the photos, sorted, as paths below `root`.
      root: the folder that holds them.
      source: the folder or archive that a person gave, for messages.
      skipped: reason by name of the images that are left out; masks are among them.
      summary: lines that say what each folder was taken for.
    """

    names: list[str]
    root: epath.Path
    source: str
    skipped: dict[str, str]
    summary: list[str]


@contextlib.contextmanager
def open_photos(source: epath.PathLike, output: epath.PathLike) -> Iterator[Photos]:
    """Gives the photos of `--input`, by the rule of `layout`; a tar archive is unpacked meanwhile.

    Args:
      source: a folder or tar archive of photos, or a photo.
      output: the folder to write to.

    Raises:
      UserError: there are none, an archive cannot be unpacked, or `--output` is a file or lies in
        the input.
    """
    source, output = resolve(source), resolve(output)
    if not source.exists():
        raise UserError(f"--input={source} does not exist: give a folder of photos, or a photo")
    if output.exists() and not output.is_dir():
        raise UserError(f"--output={output} is a file: give a folder to write to")
    with contextlib.ExitStack() as stack:
        root = source
        if not source.is_dir():
            if reason := images.refusal(source.name):
                raise UserError(f"--input={source}: {reason}")
            if images.is_image(source.name):
                yield Photos([source.name], source.parent, str(source), {}, [])
                return
            if is_remote(source):
                raise UserError(f"--input={source}: copy the archive to a disk")
            root = epath.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="photos-")))
            try:
                archives.unpack(Path(source), Path(root))
            except OSError as error:
                raise UserError(f"--input={source}: {error.strerror or error}") from error
        elif Path(output).resolve().is_relative_to(Path(source).resolve()):
            raise UserError(
                f"--output={output} lies in --input={source}, whose photos the next run would mix "
                "up with its results: write to another folder"
            )
        found = layout.find(root, str(source))
        summary = found.summary(source.name)
        yield Photos(found.photos, root, str(source), dict(found.skipped), summary)


def read_photo(
    path: epath.Path, name: str, size: int, max_megapixels: float = images.MAX_MEGAPIXELS
) -> Photo | str:
    """Returns the photo with `small` of `size` pixels a side, or why it cannot be used."""
    try:
        return photo_of(path.read_bytes(), name, size, max_megapixels)
    except images.ImageError as error:
        return str(error)
    except OSError as error:
        return error.strerror or str(error)


def photo_of(
    data: bytes, name: str, size: int, max_megapixels: float = images.MAX_MEGAPIXELS
) -> Photo:
    """Returns the photo that a file's bytes are, with `small` of `size` pixels a side.

    Raises:
      ImageError: it cannot be used.
    """
    photo = images.open_photo(
        data,
        longest=images.MAX_STORED_SIDE,
        shortest=size,
        max_megapixels=max_megapixels,
    )
    image, small = photo.image, pixels.shrink_image(photo.image, size)
    image.thumbnail((images.MAX_STORED_SIDE,) * 2, Image.Resampling.LANCZOS, reducing_gap=3.0)
    return Photo(name, np.asarray(image), small, photo.height, photo.width, photo.note)
