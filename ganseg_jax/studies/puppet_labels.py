"""Labels of generated puppets by rule: every part has a family of hues of its own."""

from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Int, UInt8
from PIL import Image
from scipy import ndimage

from ganseg_jax import prng
from ganseg_jax.data.builders.puppets import render
from ganseg_jax.errors import UserError
from ganseg_jax.fewshot import samples
from ganseg_jax.fewshot.label_files import MASK_SUFFIX
from ganseg_jax.fewshot.labels import CLASSES_FILE, classes_json
from ganseg_jax.fewshot.source import Source
from ganseg_jax.files import write_whole
from ganseg_jax.report.png import save_label_png

CLASSES = ["background", *render.PART_NAMES]

# Backgrounds are rendered with saturations up to 0.38, parts from 0.65, and with values from 0.38.
SATURATION, VALUE = 0.45, 0.3
# Of the images made for each to be labelled: the smallest part that it must show, as a share of its
# pixels, and the pixels on its border that may have a part's colour.
CANDIDATES, SMALLEST_PART, MOST_ON_BORDER = 4, 0.015, 3


def label_by_hue(images: UInt8[np.ndarray, "n h w 3"]) -> UInt8[np.ndarray, "n h w"]:
    """Returns parts of puppets by their colours: 0 background, 1.. in the order of `PART_NAMES`.

    A pixel belongs to the part whose hue is nearest, where it is more saturated than backgrounds
    are, not dark, and in the largest patch of such pixels (a puppet is in one piece).
    """
    hue, saturation, value = hsv(images)
    distances = np.abs((hue[..., None] - render.HUES + 0.5) % 1.0 - 0.5)
    colored = (saturation > SATURATION) & (value > VALUE)
    labels = np.where(colored, np.argmin(distances, -1) + 1, 0).astype(np.uint8)
    for image in labels:
        patches, _ = ndimage.label(image > 0, structure=np.ones((3, 3)))
        sizes = np.bincount(patches.ravel())[1:]
        if sizes.size:
            image[patches != np.argmax(sizes) + 1] = 0
    return labels


def hsv(images: UInt8[np.ndarray, "*s 3"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns hue in turns (0 for greys), saturation and value in [0, 1]."""
    x = np.asarray(images, np.float32) / 255
    high, low = x.max(-1), x.min(-1)
    span = high - low
    safe = np.maximum(span, 1e-6)
    r, g, b = np.moveaxis(x, -1, 0)
    sixths = np.select(
        [high == r, high == g], [((g - b) / safe) % 6, (b - r) / safe + 2], (r - g) / safe + 4
    )
    return np.where(span > 0, sixths / 6, 0), span / np.maximum(high, 1e-6), high


def rows_to_label(labels: UInt8[np.ndarray, "n h w"]) -> Int[np.ndarray, "n"]:
    """Returns all rows, those first that a person would choose to label.

    Images come last that hardly show one of the parts, or where parts' colours run into the
    background up to the border.
    """
    sizes = np.stack([(labels == i).mean((1, 2)) for i in range(1, len(CLASSES))], -1)
    figure = labels > 0
    on_border = figure.sum((1, 2)) - figure[:, 1:-1, 1:-1].sum((1, 2))
    poor = (sizes.min(-1) < SMALLEST_PART) | (on_border > MOST_ON_BORDER)
    return np.argsort(poor, kind="stable")


def labelled(
    folder: epath.Path, source: Source, variables: Any, wanted: int, seed: int
) -> epath.Path:
    """Returns the folder of generated images with labels by rule; makes it if it is missing.

    Args:
      folder: to write to.
      source: the generator, of puppets.
      variables: its variables.
      wanted: number of images with labels; `rows_to_label` decides which.
      seed: of the images.

    Raises:
      UserError: the folder has fewer images.
    """
    key = prng.stream(prng.root_key(seed), "labelled")
    if not (folder / samples.LATENTS_FILE).exists():
        samples.write_samples(folder, source, variables, key, CANDIDATES * wanted)
    names = sorted(p.stem for p in folder.glob("sample_????.png"))
    if len(names) < wanted:
        raise UserError(
            f"{folder} holds {len(names)} images, but {wanted} shots are asked for: "
            "choose another --output"
        )
    images = np.stack([np.asarray(Image.open(folder / f"{name}.png")) for name in names])
    labels = label_by_hue(images)
    for row in rows_to_label(labels)[:wanted]:
        save_label_png(folder / f"{names[row]}{MASK_SUFFIX}", labels[row])
    write_whole(folder / CLASSES_FILE, classes_json(CLASSES[1:]))
    return folder
