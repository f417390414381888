"""Sheets: many images with their points, masks or labels in one picture."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Integer, UInt8
from PIL import Image, ImageDraw, ImageFont

from ganseg_jax.evaluation.overlap import contingency
from ganseg_jax.pixels import to_uint8
from ganseg_jax.report import overlays
from ganseg_jax.report.classes import Classes
from ganseg_jax.report.legend import with_legend
from ganseg_jax.report.palette import palette

Picture = UInt8[np.ndarray, "y x 3"]

SAMPLE_ROWS = ("image", "points", "overlay", "masks")

_GAP, _BLOCK_GAP = 3, 12  # pixels
_PAPER, _TEXT = (14, 16, 20), (205, 210, 220)


def sample_sheet(
    images: Float[np.ndarray, "n s s 3"],
    masks: Float[np.ndarray, "n s s c"],
    points: Float[np.ndarray, "n k p 2"],
    part_centers: Float[np.ndarray, "n k 2"],
    columns: int = 8,
    scale: int | None = None,
    grid: str = "corners",
    photos: UInt8[np.ndarray, "n s s 3"] | None = None,
    classes: Classes | None = None,
    rows: Sequence[str] = SAMPLE_ROWS,
) -> Picture:
    """Shows generated samples: rows of images, images with points, masks overlaid, and masks.

    Args:
      images: (N, S, S, 3) in [-1, 1].
      masks: (N, S, S, K+1), background first.
      points: (N, K, P, 2), (row, col) in [-1, 1].
      part_centers: (N, K, 2), likewise.
      columns: samples side by side; more samples continue in another block of rows.
      scale: enlargement of each pixel; by default such that a tile has about 128 px a side.
      grid: the generator's, see `overlays.draw_points`.
      photos: what the images reconstruct, (N, S, S, 3) uint8, for a row above them.
      classes: what the parts are shown as, for a legend too; parts that count as background have no
        points.
      rows: those to show.

    Returns:
      (H, W, 3) uint8.
    """
    size, colors, of_points = images.shape[1], None, None
    masks = np.asarray(masks, np.float32)
    if classes is not None:
        masks, colors = classes.of_masks(masks), classes.colors
        left = [k for k in range(points.shape[1]) if classes.groups[k + 1]]
        points, part_centers = points[:, left], part_centers[:, left]
        of_points = colors[[classes.groups[k + 1] for k in left]]
    scale = scale or default_scale(size)
    pictures = overlays.enlarge(to_uint8(images), scale)
    soft = overlays.enlarge(masks, scale)
    above = {} if photos is None else {"photo": overlays.enlarge(photos, scale)}
    drawn = {
        "image": lambda: pictures,
        "points": lambda: overlays.draw_points(
            pictures, points, part_centers, size, grid, of_points
        ),
        "overlay": lambda: overlays.overlay_masks(pictures, soft, colors),
        "masks": lambda: overlays.color_masks(soft, colors),
    }
    picture = sheet(above | {name: drawn[name]() for name in rows}, columns)
    return picture if classes is None else with_legend(picture, classes.names, classes.colors)


def segmentation_sheet(
    images: UInt8[np.ndarray, "n h w 3"],
    predictions: Integer[np.ndarray, "n h w"],
    truth: Integer[np.ndarray, "n h w"] | None = None,
    names: Sequence[str] | None = None,
    columns: int = 8,
    scale: int | None = None,
    classes: Classes | None = None,
) -> Picture:
    """Shows segmented photos: rows of photos, of predictions, and of the true parts.

    The true parts take the colours of the predicted parts that they overlap most with, one to one
    over the whole sheet, since the numbering of discovered parts is arbitrary.

    Args:
      images: (N, S, S, 3) uint8.
      predictions: labels, (N, S, S), background 0.
      truth: labels, (N, S, S), background 0; without it the last row shows the predictions alone.
      names: a caption for each image.
      columns: photos side by side; more photos continue in another block of rows.
      scale: as in `sample_sheet`.
      classes: what the predicted parts are shown as, for a legend too.

    Returns:
      (H, W, 3) uint8.
    """
    predictions = np.asarray(predictions)
    colors = None
    if classes is not None:
        predictions, colors = classes.of_labels(predictions), classes.colors
    scale = scale or default_scale(images.shape[1])
    pictures = overlays.enlarge(images, scale)
    labels = overlays.enlarge(predictions, scale)
    rows = {"photo": pictures, "predicted": overlays.overlay_labels(pictures, labels, colors)}
    if truth is None:
        rows["parts alone"] = overlays.color_labels(labels, colors)  # No labels of a person.
    else:
        matched = matched_colors(predictions, truth, colors)
        true_labels = overlays.enlarge(np.asarray(truth), scale)
        rows["truth"] = overlays.overlay_labels(pictures, true_labels, matched)
    picture = sheet(rows, columns, names)
    return picture if classes is None else with_legend(picture, classes.names, classes.colors)


def default_scale(size: int) -> int:
    """Returns the enlargement that brings an image of `size` pixels to about 128."""
    return max(1, round(128 / size))


def matched_colors(
    predictions: Integer[np.ndarray, "n h w"],
    truth: Integer[np.ndarray, "n h w"],
    colors: UInt8[np.ndarray, "c 3"] | None = None,
) -> UInt8[np.ndarray, "t 3"]:
    """Returns colours of true labels: those of the predicted parts matched to them by overlap.

    The matching is one to one and maximises the number of pixels in common; true parts left over
    get the palette's next colours.

    Args:
      predictions: labels, (N, H, W), background 0.
      truth: likewise.
      colors: of the predicted classes, if not those of `palette`.
    """
    # Here, since it takes a second to import, and training never comes here.
    from scipy.optimize import linear_sum_assignment

    num_pred = int(np.max(predictions, initial=0)) + 1
    num_truth = int(np.max(truth, initial=0)) + 1
    table = contingency(predictions, truth, num_pred, num_truth, truth >= 0)[1:, 1:]
    spare = iter(range(num_pred, num_pred + num_truth))
    index = np.zeros(num_truth, int)
    for part, label in zip(*linear_sum_assignment(-table), strict=True):
        if table[part, label]:
            index[label + 1] = part + 1
    for label in range(1, num_truth):
        index[label] = index[label] or next(spare)
    shown = palette(num_pred + num_truth)
    if colors is not None:
        shown[: min(len(colors), num_pred)] = colors[:num_pred]
    return shown[index]


def sheet(
    rows: dict[str, UInt8[np.ndarray, "n h w 3"]],
    columns: int = 8,
    names: Sequence[str] | None = None,
) -> Picture:
    """Places tiles in blocks of `columns` columns, one row for each entry of `rows`, titled by key.

    Args:
      rows: arrays of as many equal tiles each.
      columns: tiles side by side.
      names: a caption under each column of a block.

    Raises:
      ValueError: there is no tile.
    """
    first = next(iter(rows.values()))
    count, height, width = first.shape[:3]
    if count == 0:
        raise ValueError("a sheet needs at least one image")
    columns = min(columns, count)
    # The title strip lies outside of the tiles, so that nothing covers a pixel of them.
    strip, caption = 22, 18 if names is not None else 0
    block_height = len(rows) * (height + _GAP) + caption
    blocks = -(-count // columns)
    size = (
        strip + columns * (width + _GAP),
        blocks * block_height + (blocks - 1) * _BLOCK_GAP + _GAP,
    )
    canvas = Image.new("RGB", size, _PAPER)
    for block in range(blocks):
        top = block * (block_height + _BLOCK_GAP) + _GAP
        chosen = range(block * columns, min((block + 1) * columns, count))
        for row, (title, tiles) in enumerate(rows.items()):
            y = top + row * (height + _GAP)
            _title(canvas, title, y, height, strip)
            for column, index in enumerate(chosen):
                x = strip + column * (width + _GAP)
                canvas.paste(Image.fromarray(np.ascontiguousarray(tiles[index])), (x, y))
        if names is not None:
            y = top + len(rows) * (height + _GAP)
            for column, index in enumerate(chosen):
                _caption(canvas, str(names[index]), strip + column * (width + _GAP), y, width)
    return np.asarray(canvas)


def _title(canvas: Image.Image, text: str, y: int, height: int, strip: int) -> None:
    """Draws text turned to read upwards, in the middle of a row's strip."""
    font = ImageFont.load_default(13)
    left, top, right, bottom = font.getbbox(text)
    if right - left > height:
        return
    label = Image.new("RGB", (height, strip), _PAPER)
    place = ((height - right + left) // 2 - left, (strip - bottom + top) // 2 - top)
    ImageDraw.Draw(label).text(place, text, fill=_TEXT, font=font)
    canvas.paste(label.rotate(90, expand=True), (0, y))


def _caption(canvas: Image.Image, text: str, x: int, y: int, width: int) -> None:
    font = ImageFont.load_default(11)
    shown = text
    while shown and font.getlength(shown) > width:
        text = text[1:]
        shown = "\u2026" + text
    ImageDraw.Draw(canvas).text((x + 1, y + 1), shown, fill=_TEXT, font=font)
