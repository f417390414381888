"""Segments folders of photos and writes label maps, overlays, and a table of parts."""

import collections
import itertools
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps
from tqdm import tqdm

from ganseg_jax import files, pixels
from ganseg_jax.data import ahead, images
from ganseg_jax.data.annotations import export
from ganseg_jax.data.folder import Photo, Photos, open_photos, read_photo
from ganseg_jax.data.layout import skipped_lines
from ganseg_jax.errors import UserError
from ganseg_jax.files import resolve
from ganseg_jax.jobs import outputs
from ganseg_jax.report import overlays
from ganseg_jax.report.legend import with_legend
from ganseg_jax.report.png import save_label_png, save_png
from ganseg_jax.report.sheets import sheet
from ganseg_jax.segmenter import Segmenter

LOG = logging.getLogger(__name__)

BATCH_SIZE = 16
WRITERS = 2
SHEET_PHOTOS = 48
TILE = 160
"""Side of a photo in the sheet, in pixels."""


def segment_folder(
    segmenter: Segmenter,
    source: epath.PathLike | Photos,
    output: epath.PathLike,
    max_megapixels: float = images.MAX_MEGAPIXELS,
    formats: Sequence[str] = (),
    before: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Segments all photos of a folder or tar archive; see `experiments.segment` for what it writes.

    Args:
      segmenter: finds the parts.
      source: a photo, a folder or tar archive of photos, or what `open_photos` gives.
      output: folder to write to.
      max_megapixels: of a photo that is not left out.
      formats: of labelling tools, in which label maps are written too, of `export.FORMATS`; or
        `outputs.CUTOUTS`.
      before: entries of `parts.json` of photos whose results are in the output already, and stay.

    Returns:
      The content of `parts.json`, without those.

    Raises:
      UserError: there are no photos, none of them can be read, or a result cannot be written.
    """
    if not isinstance(source, Photos):
        with open_photos(source, output) as found:
            return segment_folder(segmenter, found, output, max_megapixels, formats, before)
    found, output, results = source, resolve(output), result_names(source.names, before or {})
    records: dict[str, Any] = {}
    skipped, unreadable = dict(found.skipped), dict[str, str]()
    notes: collections.Counter[str] = collections.Counter()
    shown: list[tuple[str, np.ndarray, np.ndarray]] = []
    exports: list[outputs.Output] = []

    def write(predicted: tuple[Photo, np.ndarray]) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
        name = results[predicted[0].name]
        return _write(*predicted, output, name, segmenter.classes, segmenter.colors)

    # While photos are written, the next ones are read and go through the network.
    predictions = _predictions(segmenter, found, max_megapixels, unreadable)
    for (photo, probabilities), written in ahead.in_order(write, predictions, threads=WRITERS):
        notes.update([photo.note] if photo.note else [])
        records[photo.name], overlay, labels = written
        if not exports:
            parts = probabilities.shape[-1] - 1
            exports = [
                outputs.Cutouts(
                    found.root, output / kind, names_of(segmenter, parts)[1:], max_megapixels
                )
                if kind == outputs.CUTOUTS
                else export.Export(kind, output / kind, names_of(segmenter, parts)[1:])
                for kind in formats
            ]
        for writer in exports:
            writer.add(photo.name, labels, results[photo.name])
        if len(shown) < SHEET_PHOTOS:
            shown.append((photo.name, _tile(photo.picture), _tile(overlay)))
    skipped |= unreadable
    for line in [
        *found.summary,
        *(f"{count} photos: {note}" for note, count in notes.items()),
        *skipped_lines(skipped.items(), f"all listed in {output / 'parts.json'}"),
    ]:
        print(line, file=sys.stderr)
    if not records:
        name, reason = next(iter(unreadable.items()))
        raise UserError(f"no photo in {found.source} can be read ({name}: {reason})")
    for writer in exports:
        writer.finish()
    classes = names_of(segmenter, len(next(iter(records.values()))["parts"]))
    save_png(output / "sheet.png", _sheet(shown, classes, segmenter.colors), quickly=True)
    content = {"photos": records, "skipped": skipped}
    files.write_json(output / "parts.json", content, indent=1, ensure_ascii=False)
    files.write_whole(output / "parts.csv", outputs.table(content))
    photos = "1 photo" if len(records) == 1 else f"{len(records)} photos"
    LOG.info("%s segmented in %s; %d skipped", photos, output, len(skipped))
    return content


def names_of(segmenter: Segmenter, parts: int) -> list[str]:
    """Returns the names of a segmenter's classes, the background first."""
    return list(segmenter.classes or ["background", *(f"part {i + 1}" for i in range(parts))])


def result_names(names: Sequence[str], before: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Returns the name of each photo's PNG files, of which no two are the same.

    It is the photo's without its ending if no other photo has that one, else with it.

    Args:
      names: of the photos.
      before: entries of `parts.json` of other photos, whose results keep their names.
    """
    stems = {name: _stem(name) for name in (*names, *(before or {}))}
    counts = collections.Counter(stems.values())
    used = {entry.get("file", f"{stems[name]}.png") for name, entry in (before or {}).items()}
    results = {}
    for name in names:
        alone = counts[stems[name]] == 1 and stems[name] not in stems  # No photo is called so.
        result = f"{stems[name] if alone else name}.png"
        while result in used:
            result = f"{result.removesuffix('.png')}_.png"
        used.add(result)
        results[name] = result
    return results


def _stem(name: str) -> str:
    return name.removesuffix(epath.Path(name).suffix)


def _predictions(
    segmenter: Segmenter, found: Photos, max_megapixels: float, unreadable: dict[str, str]
) -> Iterator[tuple[Photo, Float[np.ndarray, "s s c"]]]:
    """Yields photos with their probabilities at the size that the network sees.

    All photos, whatever their sizes, go through one compiled program. Why others cannot be read is
    added to `unreadable`.
    """
    assert segmenter.image_size is not None
    names, size = found.names, segmenter.image_size
    batch_size = min(BATCH_SIZE, len(names))

    def read(name: str) -> Photo | str:
        return read_photo(found.root / name, name, size, max_megapixels)

    with tqdm(total=len(names), desc="segmenting", unit=" photos", disable=None) as bar:
        reading = ahead.in_order(read, names)
        while chosen := list(itertools.islice(reading, batch_size)):
            unreadable |= {name: reason for name, reason in chosen if isinstance(reason, str)}
            photos = [photo for _, photo in chosen if isinstance(photo, Photo)]
            batch = np.zeros((batch_size, size, size, 3), np.uint8)
            for row, photo in enumerate(photos):
                batch[row] = photo.small
            if photos:
                yield from zip(photos, segmenter.probabilities_as_seen(batch), strict=False)
            bar.update(len(chosen))


def _write(
    photo: Photo,
    probabilities: Float[np.ndarray, "s s c"],
    output: epath.Path,
    name: str,
    classes: Sequence[str] | None,
    colors: UInt8[np.ndarray, "c 3"] | None,
) -> tuple[dict[str, Any], UInt8[np.ndarray, "i j 3"], UInt8[np.ndarray, "h w"]]:
    """Writes label map and overlay; returns the photo's entry of parts.json and both."""
    parts = probabilities.shape[-1] - 1
    labels = pixels.most_probable(probabilities, photo.height, photo.width, np.uint8)
    save_label_png(output / "labels" / name, labels, colors)
    small = pixels.most_probable(probabilities, *photo.picture.shape[:2])
    overlay = overlays.overlay_labels(photo.picture[None], small[None], colors)[0]
    save_png(output / "overlays" / name, overlay, quickly=True)
    centers = Segmenter.centers_of(probabilities[None], photo.height, photo.width)[0]
    areas = Image.fromarray(labels).histogram()
    entries = [
        {
            "part": part,
            **({"name": classes[part]} if classes else {}),
            "center": [round(float(x), 2) for x in centers[part - 1]],
            "area": int(areas[part]),
        }
        for part in range(1, parts + 1)
    ]
    entry = {"height": photo.height, "width": photo.width, "parts": entries}
    if name != f"{_stem(photo.name)}.png":
        entry["file"] = name
    return entry, overlay, labels


def _tile(picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "t t 3"]:
    """Returns a picture in the middle of a square tile, with its aspect."""
    tile = ImageOps.pad(Image.fromarray(picture), (TILE, TILE), Image.Resampling.LANCZOS)
    return np.asarray(tile)


def _sheet(
    shown: list[tuple[str, np.ndarray, np.ndarray]],
    classes: Sequence[str],
    colors: UInt8[np.ndarray, "c 3"] | None,
) -> UInt8[np.ndarray, "h w 3"]:
    names, pictures, overlaid = zip(*shown, strict=True)
    picture = sheet({"photo": np.stack(pictures), "parts": np.stack(overlaid)}, names=names)
    return with_legend(picture, classes, colors)
