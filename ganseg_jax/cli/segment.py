"""Segments photos with a trained segmenter.

python -m experiments.segment --workdir=W --input=FOLDER_OR_IMAGE --output=DIR
python -m experiments.segment --workdir=W --few_shot=few_shot --input=FOLDER_OR_IMAGE --output=DIR
python -m experiments.segment --pretrained=people --input=FOLDER_OR_IMAGE [--output=DIR]

The second takes the network that `experiments.few_shot` trained in W/few_shot, the third a model
that comes with the package. Results go to ./segmented unless --output is given. For a photo `a.jpg`
(folders below --input are kept) it writes

  labels/a.png     label map at the photo's own size, an indexed PNG: 0 background, 1 ... K parts
  overlays/a.png   the parts over the photo, at most 512 px a side
  sheet.png        the first photos side by side, bare and with their parts
  parts.json       {"photos": {"a.jpg": {"height", "width", "parts": [{"part": 1,
                   "center": [row, col], "area": A}, ...]}}, "skipped": {name: reason}};
                   with --few_shot each part has its "name", which sheet.png shows too

Centres are centres of mass of the parts' probabilities, in pixels of the photo; areas count pixels
of the label map. Photos are read as for training: turned as the camera noted, transparency put on
white, masks (`masks/`, `NAME_mask.png`) and hidden files left alone. Where `a.jpg` and `a.png` lie
in one folder their results are named `a.jpg.png` and `a.png.png`.
"""

import collections
import concurrent.futures
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from ganseg_jax.cli import app

LOG = logging.getLogger("ganseg_jax.segment")
MODEL = app.define_model()
INPUT = flags.DEFINE_string("input", None, "A folder of photos, or one photo.", required=True)
OUTPUT = flags.DEFINE_string("output", "segmented", "Folder to write to.")
FEW_SHOT = flags.DEFINE_string(
    "few_shot", None, "Folder of the workdir that experiments.few_shot wrote: use its network."
)
REFINE = flags.DEFINE_bool(
    "refine",
    None,
    "Bring masks to the edges of each photo's colours; left out, as the model's config says.",
)

BATCH_SIZE = 32
SHEET_PHOTOS = 48
TILE = 160  # pixels
MOST_NAMED = 20


def main() -> None:
    import jax

    from ganseg_jax.data.folder import find_photos

    # Before anything slow: most mistakes are made here.
    names, root = find_photos(Path(INPUT.value), Path(OUTPUT.value))
    segmenter = _load_segmenter()
    if REFINE.value is not None:
        segmenter.refine = REFINE.value
    if jax.process_index() == 0:
        segment(segmenter, root, names, Path(OUTPUT.value))


def _load_segmenter() -> Any:
    place = MODEL()
    if FEW_SHOT.value is None:
        from ganseg_jax import loading

        return loading.load_segmenter(place)
    from ganseg_jax.fewshot import results

    return results.load_segmenter(Path(place) / FEW_SHOT.value)


def segment(segmenter: Any, root: Path, names: list[str], output: Path) -> None:
    """Writes all results for the photos `names` below `root`.

    Raises:
      UserError: where none of them can be read, or a result cannot be written.
    """
    from ganseg_jax.errors import UserError
    from ganseg_jax.files import write_whole
    from ganseg_jax.report.png import save_png

    results = _result_names(names)
    records: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    shown = []
    for photo, probabilities in _predictions(segmenter, root, names, skipped):
        records[photo.name], overlay = _write(
            photo, probabilities, output, results[photo.name], segmenter.classes
        )
        if len(shown) < SHEET_PHOTOS:
            shown.append((photo.name, _tile(photo.picture), _tile(overlay)))
    for name, reason in list(skipped.items())[:MOST_NAMED]:
        print(f"skipped {name}: {reason}", file=sys.stderr)
    if len(skipped) > MOST_NAMED:
        print(f"... and {len(skipped) - MOST_NAMED} more", file=sys.stderr)
    if not records:
        name, reason = next(iter(skipped.items()))
        raise UserError(f"no photo in {root} can be read ({name}: {reason})")
    save_png(output / "sheet.png", _sheet(shown, segmenter.classes))
    content = {"photos": records, "skipped": skipped}
    write_whole(output / "parts.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    LOG.info("%d photos segmented in %s; %d skipped", len(records), output, len(skipped))


def _result_names(names: list[str]) -> dict[str, str]:
    """Names of the PNG files, by photo; the ending is kept where it alone tells photos apart."""
    stems = {name: name.removesuffix(Path(name).suffix) for name in names}
    counts = collections.Counter(stems.values())
    return {n: f"{stem if counts[stem] == 1 else n}.png" for n, stem in stems.items()}


def _predictions(
    segmenter: Any, root: Path, names: list[str], skipped: dict[str, str]
) -> Iterator[tuple[Any, Any]]:
    """Yields photos with their probabilities at the training size, (S, S, K+1).

    All photos, whatever their sizes, go through one compiled program: they are resized before it,
    and the last batch is padded.
    """
    import numpy as np
    from tqdm import tqdm

    from ganseg_jax.data.folder import Photo, read_photo

    size = segmenter.image_size
    batch_size = min(BATCH_SIZE, len(names))
    segmenter.batch_size = batch_size
    with (
        concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
        tqdm(total=len(names), desc="segmenting", unit=" photos", disable=None) as bar,
    ):
        for start in range(0, len(names), batch_size):
            chosen = names[start : start + batch_size]
            read = list(pool.map(lambda name: read_photo(root / name, name, size), chosen))
            skipped |= {n: r for n, r in zip(chosen, read, strict=True) if isinstance(r, str)}
            photos = [photo for photo in read if isinstance(photo, Photo)]
            batch = np.zeros((batch_size, size, size, 3), np.uint8)
            for row, photo in enumerate(photos):
                batch[row] = photo.small
            if photos:
                yield from zip(photos, segmenter.probabilities(batch), strict=False)
            bar.update(len(chosen))


def _write(
    photo: Any, probabilities: Any, output: Path, name: str, classes: Sequence[str] | None
) -> tuple[dict, Any]:
    """Writes label map and overlay; returns the photo's entry of parts.json and the overlay."""
    import numpy as np

    from ganseg_jax.evaluation import landmarks
    from ganseg_jax.report import overlays
    from ganseg_jax.report.png import save_label_png, save_png

    size, parts = probabilities.shape[0], probabilities.shape[-1] - 1
    labels = _labels_at(probabilities, photo.height, photo.width)
    save_label_png(output / "labels" / name, labels)
    small = _labels_at(probabilities, *photo.picture.shape[:2])
    overlay = overlays.overlay_labels(photo.picture[None], small[None])[0]
    save_png(output / "overlays" / name, overlay)
    scale = np.array([photo.height, photo.width]) / size
    centers = landmarks.part_centers(probabilities[None])[0] * scale  # [K, 2]
    areas = np.bincount(labels.ravel(), minlength=parts + 1)
    entries = [
        {
            "part": part,
            **({"name": classes[part]} if classes else {}),
            "center": [round(float(x), 2) for x in centers[part - 1]],
            "area": int(areas[part]),
        }
        for part in range(1, parts + 1)
    ]
    return {"height": photo.height, "width": photo.width, "parts": entries}, overlay


def _labels_at(probabilities: Any, height: int, width: int) -> Any:
    """The most probable class at another size; uint8 (H, W).

    One class at a time, since all of them at the size of a camera's photo would take gigabytes.
    """
    import numpy as np
    from PIL import Image

    labels = np.zeros((height, width), np.uint8)
    best = np.full((height, width), -1.0, np.float32)
    for label in range(probabilities.shape[-1]):
        plane = Image.fromarray(np.ascontiguousarray(probabilities[..., label], np.float32))
        resized = np.asarray(plane.resize((width, height), Image.Resampling.BILINEAR))
        better = resized > best
        labels[better], best[better] = label, resized[better]
    return labels


def _tile(picture: Any) -> Any:
    """A picture in the middle of a square tile, its aspect kept."""
    import numpy as np
    from PIL import Image, ImageOps

    return np.asarray(
        ImageOps.pad(Image.fromarray(picture), (TILE, TILE), Image.Resampling.LANCZOS)
    )


def _sheet(shown: list[tuple[str, Any, Any]], classes: Sequence[str] | None) -> Any:
    import numpy as np

    from ganseg_jax.report.legend import with_legend
    from ganseg_jax.report.sheets import sheet

    names, pictures, overlays = zip(*shown, strict=True)
    picture = sheet({"photo": np.stack(pictures), "parts": np.stack(overlays)}, names=names)
    return with_legend(picture, classes) if classes else picture


if __name__ == "__main__":
    app.run(main)
