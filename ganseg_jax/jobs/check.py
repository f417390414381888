"""Looks at a folder of photos before anything is trained on it."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import os
import pathlib
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import UInt8
from PIL import Image, ImageOps
from tqdm import tqdm

from ganseg_jax.data import images, layout, likeness
from ganseg_jax.errors import UserError
from ganseg_jax.files import resolve
from ganseg_jax.report.png import save_png
from ganseg_jax.report.sheets import sheet

SHOWN, TILE = 48, 128
"""Photos of the contact sheet, and the side of each in pixels."""

FEW = 200
"""Photos below which a training is a gamble."""

UPRIGHT, SQUEEZED = 1.25, 2.5
"""Height over width from which photos are taken to show upright things; the longer over the shorter
side from which a photo suffers from being made square."""

FLAT = 10.0
"""Standard deviation of a photo's values (0 to 255) below which there is hardly anything to see.
1,897 street photos have 34 and more; 700 of them at 6 % of their brightness, from which a GAN
learnt black images, have 2 to 6."""


@dataclasses.dataclass(frozen=True)
class Seen:
    """Holds what was read of a photo.

    Attributes:
      height: in pixels, as a viewer shows it.
      width: likewise.
      hash: see `likeness.difference_hash`.
      tile: a small picture of it, in the middle of a square.
      contrast: standard deviation of its values, 0 to 127.5.
      note: what was done to its values, as of `images.StoredImage`.
    """

    height: int
    width: int
    hash: int
    tile: UInt8[np.ndarray, "t t 3"]
    contrast: float
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Checked:
    """Holds what is known of a folder.

    Attributes:
      photos: by name.
      masks: number of photos that have one.
      summary: lines that say what each folder was taken for.
      skipped: reason by name of images that are not used.
      duplicates: groups of names of photos that look alike.
    """

    photos: dict[str, Seen]
    masks: int
    summary: list[str]
    skipped: dict[str, str]
    duplicates: list[list[str]]

    @property
    def notes(self) -> dict[str, int]:
        """Returns the number of photos by what was done to their values."""
        return collections.Counter(seen.note for seen in self.photos.values() if seen.note)

    @property
    def upright(self) -> bool:
        """Says whether most photos are clearly higher than wide."""
        return float(np.median(self.aspects)) >= UPRIGHT

    @property
    def layout(self) -> str:
        """Returns the layout of `configs/image_folder.py` that the photos' shape suggests."""
        return "column" if self.upright else "disc"

    @property
    def aspects(self) -> np.ndarray:
        """Returns height over width of each photo."""
        return np.array([seen.height / seen.width for seen in self.photos.values()])

    def lines(self, size: int) -> list[str]:
        """Returns what a person should know, a line each.

        Args:
          size: side of the images that would be trained on.
        """
        short = np.array([min(seen.height, seen.width) for seen in self.photos.values()])
        long = np.array([max(seen.height, seen.width) for seen in self.photos.values()])
        aspects = self.aspects
        lines = [
            f"{len(self.photos)} photos, {self.masks} of them with masks (for measuring only); "
            f"{len(self.skipped)} skipped",
            f"sizes: shorter side {_range(short)} px, longer side {_range(long)} px",
            f"height over width: {_range(aspects, 2)}",
        ]
        if len(self.photos) < FEW:
            lines.append(f"few: at least {FEW} photos are needed for parts to be found reliably")
        if small := int((short < size).sum()):
            lines.append(f"small: {small} photos are enlarged to {size} px, and look blurred")
        stretched = int((np.maximum(aspects, 1 / aspects) >= SQUEEZED).sum())
        if stretched:
            lines.append(f"odd: {stretched} photos are {SQUEEZED:g} times longer than wide or more")
        if flat := sum(seen.contrast < FLAT for seen in self.photos.values()):
            lines.append(f"flat: {flat} photos are nearly of one colour, or very dark or bright")
        if self.duplicates:
            spare = sum(len(group) - 1 for group in self.duplicates)
            lines.append(f"near-duplicates: {spare} photos look like another one:")
            shown = [f"  {', '.join(group[:4])}" for group in self.duplicates[:5]]
            lines += [*shown, *(["  ..."] if len(self.duplicates) > 5 else [])]
        else:
            lines.append("near-duplicates: none")
        lines += [f"{count} photos: {note}" for note, count in self.notes.items()]
        return [*self.summary, *lines, *layout.skipped_lines(self.skipped.items(), "in check.json")]

    def content(self) -> dict[str, Any]:
        """Returns everything but the pictures, fit for JSON."""
        photos = {name: [seen.height, seen.width] for name, seen in self.photos.items()}
        return {
            "photos": photos,
            "masks": self.masks,
            "notes": self.notes,
            "skipped": self.skipped,
            "near_duplicates": self.duplicates,
            "layout": self.layout,
        }


def check(
    source: epath.PathLike, max_megapixels: float = images.MAX_MEGAPIXELS, progress: bool = True
) -> Checked:
    """Reads every photo of a folder or a tar archive.

    Args:
      source: as for training.
      max_megapixels: of a photo that is not left out.
      progress: show a bar on a terminal.

    Raises:
      UserError: there is no photo, or the archive is damaged.
    """
    with _opened(source) as root:
        found = layout.find(root)

        def read(name: str) -> Seen | str:
            return _read(root / name, max_megapixels)

        workers = min(8, os.cpu_count() or 1)
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            bar = tqdm(
                pool.map(read, found.photos),
                total=len(found.photos),
                desc="reading",
                unit=" photos",
                disable=None if progress else True,
            )
            results = dict(zip(found.photos, bar, strict=True))
    photos = {name: seen for name, seen in results.items() if isinstance(seen, Seen)}
    unreadable = {name: why for name, why in results.items() if isinstance(why, str)}
    if not photos:
        name, why = next(iter(unreadable.items()))
        raise UserError(f"no photo in {source} can be read ({name}: {why})")
    names = list(photos)
    groups = likeness.near_duplicates(np.array([photos[n].hash for n in names], np.uint64))
    return Checked(
        photos,
        len([name for name in found.masks if name in photos]),
        found.summary(),
        dict(found.skipped) | unreadable,
        [[names[i] for i in group] for group in groups],
    )


def save_contact_sheet(checked: Checked, path: epath.PathLike) -> None:
    """Writes a picture with photos from all over the folder.

    Raises:
      UserError: it cannot be written.
    """
    names = list(checked.photos)
    names = [names[i] for i in np.unique(np.linspace(0, len(names) - 1, SHOWN).astype(int))]
    save_png(path, contact_sheet([checked.photos[name].tile for name in names], names))


def contact_sheet(
    tiles: Sequence[UInt8[np.ndarray, "t t 3"]], names: Sequence[str]
) -> UInt8[np.ndarray, "h w 3"]:
    """Returns a sheet of photos with their names."""
    return sheet({"photos": np.stack(tiles)}, names=names)


def _read(path: pathlib.Path, max_megapixels: float) -> Seen | str:
    try:
        photo = images.open_photo(path.read_bytes(), longest=256, max_megapixels=max_megapixels)
    except images.ImageError as error:
        return str(error)
    except OSError as error:
        return error.strerror or str(error)
    tile = ImageOps.pad(photo.image, (TILE, TILE), Image.Resampling.BOX)
    pixels = np.asarray(photo.image)
    bits = likeness.difference_hash(pixels)
    return Seen(photo.height, photo.width, bits, np.asarray(tile), float(pixels.std()), photo.note)


@contextlib.contextmanager
def _opened(source: epath.PathLike) -> Iterator[pathlib.Path]:
    """Gives the folder, or that of an archive's files."""
    path = pathlib.Path(resolve(source))
    if not path.exists():
        raise UserError(f"{path} does not exist: give a folder of photos or a tar archive")
    if path.is_dir():
        yield path
        return
    try:
        with tempfile.TemporaryDirectory() as folder, tarfile.open(path) as archive:
            archive.extractall(folder, filter="data")
            yield pathlib.Path(folder)
    except (tarfile.TarError, EOFError) as error:
        raise UserError(f"{path} is neither a folder nor a sound tar archive") from error


def _range(values: np.ndarray, digits: int = 0) -> str:
    low, middle, high = np.percentile(values, (0, 50, 100))
    return f"{low:.{digits}f} to {high:.{digits}f} (half below {middle:.{digits}f})"
