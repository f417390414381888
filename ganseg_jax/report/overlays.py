"""Masks and points drawn over images, on enlarged copies so that small images stay legible.

Images are uint8, (N, H, W, 3). Soft masks are floats with the background first, (N, H, W, C);
label maps are integers, background 0. The background is left transparent over images and dark
elsewhere.
"""

import numpy as np
from jaxtyping import Float, Integer, Shaped, UInt8
from PIL import Image, ImageDraw

from ganseg_jax.report.palette import palette

Images = UInt8[np.ndarray, "n h w 3"]

_SUPERSAMPLING = 4


def enlarge(values: Shaped[np.ndarray, "n h w ..."], scale: int) -> Shaped[np.ndarray, "n i j ..."]:
    """Repeats every pixel scale x scale times."""
    return np.repeat(np.repeat(np.asarray(values), scale, axis=1), scale, axis=2)


def color_masks(
    masks: Float[np.ndarray, "n h w c"], colors: UInt8[np.ndarray, "c 3"] | None = None
) -> Images:
    """Draws soft masks as the mixture of the classes' colours, the background dark."""
    masks = np.asarray(masks, np.float32)
    colors = palette(masks.shape[-1]) if colors is None else colors
    return np.clip(np.round(masks @ colors.astype(np.float32)), 0, 255).astype(np.uint8)


def color_labels(
    labels: Integer[np.ndarray, "n h w"], colors: UInt8[np.ndarray, "c 3"] | None = None
) -> Images:
    """Draws label maps in the classes' colours (`palette` by default), the background dark.

    Pixels without a label (-1) look like the background.
    """
    labels = np.maximum(labels, 0)
    if colors is None:
        colors = palette(int(labels.max(initial=0)) + 1)
    return colors[labels]


def overlay_masks(
    images: Images,
    masks: Float[np.ndarray, "n h w c"],
    colors: UInt8[np.ndarray, "c 3"] | None = None,
    opacity: float = 0.65,
) -> Images:
    """Draws soft masks over images of their size, each pixel as opaque as it is foreground."""
    masks = np.asarray(masks, np.float32)
    colors = palette(masks.shape[-1]) if colors is None else colors
    parts = masks[..., 1:]
    foreground = np.clip(parts.sum(-1, keepdims=True), 0, 1)
    colored = parts @ colors[1:].astype(np.float32)
    mixed = _pale(images, foreground) * (1 - opacity * foreground) + opacity * colored
    return np.clip(np.round(mixed), 0, 255).astype(np.uint8)


def overlay_labels(
    images: Images,
    labels: Integer[np.ndarray, "n h w"],
    colors: UInt8[np.ndarray, "c 3"] | None = None,
    opacity: float = 0.65,
) -> Images:
    """Draws label maps over images of their size, with a line in full colour at their borders."""
    labels = np.maximum(labels, 0)
    colored = color_labels(labels, colors).astype(np.float32)
    strength = (np.where(_borders(labels), 1.0, opacity) * (labels != 0))[..., None]
    mixed = _pale(images, strength > 0) * (1 - strength) + colored * strength
    return np.round(mixed).astype(np.uint8)


def draw_points(
    images: Images,
    points: Float[np.ndarray, "n k p 2"],
    part_centers: Float[np.ndarray, "n k 2"],
    pixels: int | None = None,
    grid: str = "corners",
    colors: UInt8[np.ndarray, "k 3"] | None = None,
) -> Images:
    """Draws points as small discs tied to their part's centre, a larger disc, in its colour.

    Args:
      images: enlarged images.
      points: (row, col) in [-1, 1].
      part_centers: likewise.
      pixels: side in pixels of the images before enlargement; only matters for where exactly -1
        and 1 lie. By default that of `images`.
      grid: 'corners' where -1 and 1 are the centres of the first and last pixel, 'centers' where
        they are the image's edges.
      colors: of the parts, if not those of `palette`.

    Returns:
      New images; what falls outside is not drawn.
    """
    side = images.shape[1]
    pixels = pixels or side
    span = (pixels - 1) / pixels if grid == "corners" else 1.0
    colors = palette(points.shape[1] + 1)[1:] if colors is None else colors
    rgb = [(int(r), int(g), int(b)) for r, g, b in colors]
    radius = max(2.0, side / 52)
    drawn = [
        _draw(image, _to_canvas(some, side, span), _to_canvas(center, side, span), rgb, radius)
        for image, some, center in zip(images, points, part_centers, strict=True)
    ]
    return np.stack(drawn) if drawn else images


def _pale(images: np.ndarray, foreground: np.ndarray) -> np.ndarray:
    """Turns images mostly grey where there is foreground, so that part colours keep their hue."""
    images = np.asarray(images, np.float32)
    grey = images @ np.array([[0.299], [0.587], [0.114]], np.float32)
    return images + 0.75 * foreground * (grey - images)


def _to_canvas(points: np.ndarray, side: int, span: float) -> np.ndarray:
    """Maps (row, col) in [-1, 1] to (x, y) in supersampled pixels, far outside if not finite."""
    points = np.nan_to_num(np.asarray(points, np.float64), nan=9.0, posinf=9.0, neginf=-9.0)
    return (np.clip(points, -9, 9)[..., ::-1] * span + 1) / 2 * side * _SUPERSAMPLING


def _draw(
    image: np.ndarray,
    points: np.ndarray,
    centers: np.ndarray,
    colors: list[tuple[int, int, int]],
    radius: float,
) -> np.ndarray:
    height, width = image.shape[:2]
    canvas = Image.new("RGBA", (width * _SUPERSAMPLING, height * _SUPERSAMPLING))
    draw = ImageDraw.Draw(canvas)
    unit = radius * _SUPERSAMPLING
    for some, center, color in zip(points, centers, colors, strict=True):
        for point in some:
            draw.line([tuple(center), tuple(point)], fill=(*color, 200), width=round(unit / 2))
    # Discs after all lines, so that no part's lines cross another part's points.
    for some, center, color in zip(points, centers, colors, strict=True):
        for point in some:
            _disc(draw, point, unit, color, rim=(0, 0, 0, 255), rim_width=round(unit / 3))
        _disc(draw, center, 1.7 * unit, color, rim=(255, 255, 255, 255), rim_width=round(unit / 2))
    overlay = canvas.resize((width, height), Image.Resampling.BOX)
    base = Image.fromarray(image).convert("RGBA")
    return np.asarray(Image.alpha_composite(base, overlay).convert("RGB"))


def _disc(draw, place, radius, color, rim, rim_width) -> None:
    x, y = place
    box = [x - radius, y - radius, x + radius, y + radius]
    draw.ellipse(box, fill=(*color, 255), outline=rim, width=max(1, rim_width))


def _borders(labels: np.ndarray) -> np.ndarray:
    """Marks pixels with another label right of or below them, or on their left or above."""
    border = np.zeros(labels.shape, bool)
    down = labels[:, 1:] != labels[:, :-1]
    right = labels[:, :, 1:] != labels[:, :, :-1]
    border[:, 1:] |= down
    border[:, :-1] |= down
    border[:, :, 1:] |= right
    border[:, :, :-1] |= right
    return border
