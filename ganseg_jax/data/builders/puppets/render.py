"""Rendered puppets: articulated figures with known parts and joints.

Everything is drawn from signed distances to a few round shapes on the pixel grid, in float32 numpy,
many figures at once, so that edges are anti-aliased and a set of thousands takes seconds.

Lengths are in fractions of the figure's nominal height; the figure's own axes are x to the right
and y downwards, with the origin near the middle of the body.
"""

import dataclasses
import functools

import numpy as np

PART_NAMES = ("head", "torso", "left arm", "right arm", "legs")
JOINT_NAMES = (
    "head",
    "neck",
    "hip",
    "left elbow",
    "left hand",
    "right elbow",
    "right hand",
    "left knee",
    "left foot",
    "right knee",
    "right foot",
)

# Middle of each part's hue family, in turns, and the half width within which figures vary.
HUES = np.array([0.13, 0.0, 0.36, 0.56, 0.79], np.float32)
_HUE_SPREAD = 0.045

# Few enough figures at once that the arrays of 64-px images stay in the processor's cache.
BATCH = 16

# Sturdy, so that at 32 px the thinnest limb is still four pixels wide.
_NECK, _HIP = -0.18, 0.08
_HEAD_CENTER, _HEAD_RADIUS = -0.315, 0.14
_SHOULDER, _LEG_ROOT = (0.13, -0.13), (0.08, 0.10)
_ARM_LENGTHS, _ARM_RADII = (0.15, 0.13), (0.078, 0.074, 0.080)
_LEG_LENGTHS, _LEG_RADII = (0.17, 0.16), (0.096, 0.088, 0.092)
_TORSO_RADII = (0.155, 0.13)  # at the shoulders, at the hip
_MARGIN = 0.12  # room around the outermost joints


@dataclasses.dataclass(frozen=True)
class Puppets:
    """Holds rendered figures.

    Attributes:
      images: uint8 (N, S, S, 3).
      labels: uint8 (N, S, S), 0 = background, 1.. in the order of `PART_NAMES`.
      joints: float32 (N, 11, 2), (row, col) as fractions of the image's edges, in the order of
        `JOINT_NAMES`.
      visible: bool (N, 11), whether the joint lies inside the image.
    """

    images: np.ndarray
    labels: np.ndarray
    joints: np.ndarray
    visible: np.ndarray


def render(count: int, image_size: int, seed: int | tuple[int, ...]) -> Puppets:
    """Draws `count` figures of `image_size` px; the same arguments give the same figures."""
    rng = np.random.default_rng(seed)
    sizes = [min(BATCH, count - i) for i in range(0, count, BATCH)]
    batches = [_render_batch(rng, n, image_size) for n in sizes]
    return Puppets(*(np.concatenate(arrays) for arrays in zip(*batches, strict=True)))


def _render_batch(rng: np.random.Generator, n: int, size: int) -> tuple[np.ndarray, ...]:
    x, to_image, scale = _pose(rng, n)
    joints = np.stack([to_image(point) for point in x["joints"]], axis=1)  # [N, J, 2] as (x, y)

    grid = (np.arange(size, dtype=np.float32) + 0.5) / size
    px, py = np.meshgrid(grid, grid)  # [S, S]
    shapes = [(part, _distance(px, py, to_image, scale, bones)) for part, bones in x["parts"]]

    canvas = _backgrounds(rng, n, px, py)  # [N, S, S, 3]
    labels = np.zeros((n, size, size), np.uint8)
    colors = _part_colors(rng, n)  # [N, parts, 3]
    for part, (distance, radius) in shapes:
        alpha = np.clip(0.5 - distance * size, 0.0, 1.0)
        # A tube lit from the viewer's side: brightest along its axis, darker towards the edge.
        edge = np.clip(1.0 + distance / radius, 0.0, 1.0)
        light = 0.55 + 0.45 * np.sqrt(np.clip(1.0 - edge**2, 0.0, 1.0))
        color = colors[:, part - 1, None, None, :] * light[..., None]
        canvas += alpha[..., None] * (color - canvas)
        labels[alpha >= 0.5] = part
    images = np.round(255.0 * np.clip(canvas, 0.0, 1.0)).astype(np.uint8)
    visible = np.all((joints >= 0.0) & (joints <= 1.0), axis=-1)
    return images, labels, joints[..., ::-1].astype(np.float32), visible


def _pose(rng: np.random.Generator, n: int):
    """Draws joint angles and placements.

    Returns a dict with `joints` (list of [N, 2] in figure coordinates) and `parts` (list of (part,
    bones), back to front; a bone is (start, end, start radius, end radius)), the map from figure
    to image coordinates, and the scales [N].
    """
    points, parts = _figure(rng, n)
    to_image, scale = _placed(rng, points)
    return {"joints": points, "parts": parts}, to_image, scale


def _figure(rng: np.random.Generator, n: int):
    """Draws joint angles; returns joints and parts as `_pose` does."""
    uniform = functools.partial(_uniform, rng, n)

    def fixed(a, b):
        return np.broadcast_to(np.array([a, b], np.float32), (n, 2))

    def limb(root, side, angle, bend, lengths):
        # Angles are measured from straight down, outwards from the body.
        middle = root + lengths[0] * _direction(side, angle)
        return middle, middle + lengths[1] * _direction(side, angle + bend)

    neck, hip, head = fixed(0, _NECK), fixed(0, _HIP), fixed(0, _HEAD_CENTER)
    head = head + np.stack([uniform(-0.03, 0.03), uniform(-0.01, 0.01)], axis=-1)
    roots, joints, bones = {}, {}, {}
    for name, side in (("left", -1.0), ("right", 1.0)):
        roots[name] = (
            fixed(side * _SHOULDER[0], _SHOULDER[1]),
            fixed(side * _LEG_ROOT[0], _LEG_ROOT[1]),
        )
        elbow, hand = limb(
            roots[name][0], side, uniform(0.3, 2.0), uniform(-0.4, 0.6), _ARM_LENGTHS
        )
        knee, foot = limb(
            roots[name][1], side, uniform(0.05, 0.6), uniform(-0.4, 0.15), _LEG_LENGTHS
        )
        joints[name] = elbow, hand, knee, foot
        bones[name] = (
            _chain((roots[name][0], elbow, hand), _ARM_RADII),
            _chain((roots[name][1], knee, foot), _LEG_RADII),
        )
    parts = [
        (5, bones["left"][1] + bones["right"][1]),
        (2, [(fixed(0, _NECK + 0.06), fixed(0, _HIP - 0.02), *_TORSO_RADII)]),
        (3, bones["left"][0]),
        (4, bones["right"][0]),
        (1, [(head, head, _HEAD_RADIUS, _HEAD_RADIUS)]),
    ]
    points = [head, neck, hip]
    for name in ("left", "right"):
        points += joints[name][:2]
    for name in ("left", "right"):
        points += joints[name][2:]
    return points, parts


def _placed(rng: np.random.Generator, points: list[np.ndarray]):
    """Draws scales, turns and places; returns the map from figure to image, and the scales [N]."""
    n = len(points[0])
    scale, turn = _uniform(rng, n, 0.74, 0.95), _uniform(rng, n, -0.35, 0.35)
    cos, sin = np.cos(turn), np.sin(turn)

    def turned(point):
        px = cos * point[:, 0] - sin * point[:, 1]
        py = sin * point[:, 0] + cos * point[:, 1]
        return scale[:, None] * np.stack([px, py], axis=-1)

    # Anywhere the whole figure fits; where it does not fit, centered.
    extent = np.stack([turned(point) for point in points], axis=1)  # [N, J, 2]
    margin = scale[:, None] * _MARGIN
    low, high = margin - extent.min(axis=1), 1.0 - margin - extent.max(axis=1)
    share = rng.uniform(0.0, 1.0, (n, 2)).astype(np.float32)
    center = np.where(low < high, low + share * (high - low), 0.5 * (low + high))

    def to_image(point):
        return center + turned(point)

    return to_image, scale


def _uniform(rng: np.random.Generator, n: int, low: float, high: float) -> np.ndarray:
    return rng.uniform(low, high, n).astype(np.float32)


def _direction(side: float, angle: np.ndarray) -> np.ndarray:
    return np.stack([side * np.sin(angle), np.cos(angle)], axis=-1)


def _chain(points, radii) -> list[tuple]:
    pairs = zip(points[:-1], points[1:], radii[:-1], radii[1:], strict=True)
    return [(start, end, r0, r1) for start, end, r0, r1 in pairs]


def _distance(px, py, to_image, scale, bones) -> tuple[np.ndarray, np.ndarray]:
    """Returns signed distances [N, S, S] to the union of tapered bones, and the nearest radius."""
    best = np.full(px.shape, np.inf, np.float32)
    best_radius = np.zeros(px.shape, np.float32)
    for start, end, r0, r1 in bones:
        a, b = to_image(start)[:, None, None], to_image(end)[:, None, None]  # [N, 1, 1, 2]
        dx, dy = px - a[..., 0], py - a[..., 1]  # [N, S, S]
        bx, by = b[..., 0] - a[..., 0], b[..., 1] - a[..., 1]
        along = np.clip((dx * bx + dy * by) / np.maximum(bx * bx + by * by, 1e-12), 0.0, 1.0)
        radius = scale[:, None, None] * (r0 + (r1 - r0) * along)
        distance = np.sqrt((dx - along * bx) ** 2 + (dy - along * by) ** 2) - radius
        nearer = distance < best
        best = np.where(nearer, distance, best)
        best_radius = np.where(nearer, radius, best_radius)
    return best, best_radius


def _part_colors(rng: np.random.Generator, n: int) -> np.ndarray:
    shape = (n, len(HUES))
    hue = HUES + rng.uniform(-_HUE_SPREAD, _HUE_SPREAD, shape)
    saturation, value = rng.uniform(0.65, 1.0, shape), rng.uniform(0.7, 1.0, shape)
    return _hsv_to_rgb(hue, saturation, value)


def _backgrounds(rng: np.random.Generator, n: int, px: np.ndarray, py: np.ndarray) -> np.ndarray:
    """Draws gradients and stripes between two colors, [N, S, S, 3]; muted, so figures stand out."""
    hue = rng.uniform(0.0, 1.0, (n, 2))
    value = rng.uniform(0.15, 0.95, (n, 1)) + rng.uniform(-0.22, 0.22, (n, 2))
    colors = _hsv_to_rgb(hue, rng.uniform(0.0, 0.38, (n, 2)), np.clip(value, 0.08, 1.0))
    angle = rng.uniform(0.0, 2.0 * np.pi, n).astype(np.float32)
    position = np.cos(angle)[:, None, None] * (px - 0.5) + np.sin(angle)[:, None, None] * (py - 0.5)
    frequency = rng.uniform(2.0, 5.0, n).astype(np.float32)[:, None, None]
    phase = rng.uniform(0.0, 1.0, n).astype(np.float32)[:, None, None]
    waves = np.sin(2.0 * np.pi * (frequency * position + phase))
    stripes = 0.5 + 0.5 * np.clip(3.0 * waves, -1.0, 1.0)
    gradient = np.clip(0.5 + 0.8 * position, 0.0, 1.0)
    striped = (rng.uniform(size=n) < 0.5)[:, None, None]
    mix = np.where(striped, stripes, gradient)[..., None]  # [N, S, S, 1]
    return colors[:, None, None, 0] * (1.0 - mix) + colors[:, None, None, 1] * mix


def _hsv_to_rgb(hue, saturation, value) -> np.ndarray:
    """Maps hue in turns, saturation and value in [0, 1], any shape, to RGB (..., 3) in [0, 1]."""
    offsets = (hue[..., None] * 6.0 + np.array([5.0, 3.0, 1.0])) % 6.0
    ramp = np.clip(np.minimum(offsets, 4.0 - offsets), 0.0, 1.0)
    return (value[..., None] * (1.0 - saturation[..., None] * ramp)).astype(np.float32)
