"""What the figures of an evaluation mean, in one line each, and how they are written."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """Says how a figure is shown.

    Attributes:
      title: its name for readers.
      explanation: one sentence.
      better: 'higher' or 'lower'.
      percent: whether the figure, a fraction, is written in per cent.
    """

    title: str
    explanation: str
    better: str
    percent: bool = False


MEASURES = {
    "foreground_iou": Measure(
        "Foreground IoU",
        "Overlap of everything found to be a part with the true object: intersection over union, "
        "mean over the images; 1 is perfect.",
        "higher",
    ),
    "part_nmi": Measure(
        "Part NMI",
        "Mutual information of found and true parts over all pixels, normalised to [0, 1].",
        "higher",
    ),
    "part_ari": Measure(
        "Part ARI",
        "Adjusted Rand index of found and true parts over all pixels: 1 is the same partition, "
        "0 is chance.",
        "higher",
    ),
    "foreground_nmi": Measure(
        "NMI inside the object",
        "As part NMI, over the pixels of the true object only: how well parts tell apart its "
        "regions, whatever happens to the background.",
        "higher",
    ),
    "foreground_ari": Measure(
        "ARI inside the object",
        "As part ARI, over the pixels of the true object only.",
        "higher",
    ),
    "parts_nmi": Measure(
        "NMI of parts inside the object",
        "As NMI inside the object, of the most probable part, whatever the background's "
        "probability.",
        "higher",
    ),
    "parts_ari": Measure(
        "ARI of parts inside the object",
        "As ARI inside the object, of the most probable part, whatever the background's "
        "probability.",
        "higher",
    ),
    "landmark_nmi": Measure(
        "Part NMI at landmarks",
        "Mutual information of the part found at each visible landmark with which landmark it is.",
        "higher",
    ),
    "landmark_ari": Measure(
        "Part ARI at landmarks",
        "Adjusted Rand index of the part found at each visible landmark with which landmark it is.",
        "higher",
    ),
    "landmark_fg_nmi": Measure(
        "FG-NMI at landmarks",
        "As part NMI at landmarks, of the most probable part, whatever the background's "
        "probability.",
        "higher",
    ),
    "landmark_fg_ari": Measure(
        "FG-ARI at landmarks",
        "As part ARI at landmarks, of the most probable part, whatever the background's "
        "probability.",
        "higher",
    ),
    "box_error": Measure(
        "Landmark error by the box",
        "Distance of regressed landmarks to the true ones in units of the object's bounding box.",
        "lower",
        percent=True,
    ),
    "box_error_present": Measure(
        "Landmark error by the box, parts found",
        "The same with parts that an image does not show put at their mean place.",
        "lower",
        percent=True,
    ),
    "pixel_iou": Measure(
        "Foreground IoU over pixels",
        "Overlap of everything found to be a part with the true objects, all pixels together.",
        "higher",
    ),
    "background_pixel_iou": Measure(
        "Background IoU over pixels", "The same of the background.", "higher"
    ),
    "pck": Measure(
        "Correct landmarks",
        "Share of regressed landmarks within 6 px of the true ones in a 256-px photo.",
        "higher",
        percent=True,
    ),
    "landmark_error": Measure(
        "Landmark error",
        "Distance of landmarks regressed from the part centres to the true ones, relative to the "
        "protocol's length (between the eyes, or the image's edge); regression without a constant.",
        "lower",
        percent=True,
    ),
    "taichi_mae": Measure(
        "Landmark MAE",
        "Mean absolute error of each landmark coordinate, regressed from the part centres, summed "
        "over all coordinates; in pixels of a 256-px frame.",
        "lower",
    ),
    "taichi_keypoint_error": Measure(
        "Landmark distance",
        "Distance of visible landmarks to the true ones, mean in a frame, then over frames; in "
        "pixels of a 256-px frame.",
        "lower",
    ),
    "taichi_renormalised": Measure(
        "Landmark error, renormalised", "That distance times the number of landmarks, 18.", "lower"
    ),
    "sliced_wasserstein": Measure(
        "Sliced Wasserstein distance",
        "Difference between patches of generated images and of photos over all levels of detail, "
        "times 1000; needs no pretrained network.",
        "lower",
    ),
    "sliced_wasserstein_floor": Measure(
        "Sliced Wasserstein distance of held-out photos",
        "The same between held-out photos and those trained on: what perfect samples would reach. "
        "Fewer photos make it larger.",
        "",
    ),
    "fid": Measure(
        "FID",
        "Fréchet distance between Inception features of generated images and of photos.",
        "lower",
    ),
    "kid": Measure(
        "KID",
        "Kernel distance between Inception features of generated images and of photos.",
        "lower",
    ),
    "kid_spread": Measure(
        "KID, spread", "Standard deviation of KID over random subsets of the images.", ""
    ),
    "mirror_agreement": Measure(
        "Agreement with the mirror image",
        "Overlap of what is found in a photo and in its mirror image, turned back: intersection "
        "over union, mean over the photos. It does not prove that parts are right.",
        "higher",
    ),
    "parts_present": Measure(
        "Parts found in a photo", "Share of the parts that a photo shows, mean over the photos.", ""
    ),
    "rarest_part_present": Measure(
        "Rarest part", "Share of the photos that show the part that is found least often.", ""
    ),
    "foreground_share": Measure(
        "Share of the foreground", "Share of all pixels that belong to a part.", ""
    ),
    "border_share": Measure(
        "Parts at the border",
        "Share of the outermost pixels that a part takes; parts that paint background reach there.",
        "lower",
    ),
    "mean_iou": Measure(
        "Mean IoU", "Intersection over union of each class, mean over the classes.", "higher"
    ),
    "weighted_iou": Measure(
        "Weighted IoU",
        "Intersection over union of each class, weighted by its share of the true pixels.",
        "higher",
    ),
}

_ABBREVIATIONS = {"gan", "iou", "nmi", "ari", "fid", "kid", "cub", "mae", "r1"}

_VARIANTS = {
    "_bias": ("with a constant", "As above; the regression has a constant."),
    "_standardized": ("standardised", "As above; centres and landmarks are standardised first."),
}


def measure_of(name: str) -> Measure:
    """Returns the measure of a figure by its name; an unknown one keeps its name.

    A prefix up to a '/' (a protocol or a reference) is kept in the title. 'landmark_error_bias'
    and 'landmark_error_standardized' are variants of 'landmark_error'.
    """
    prefix, _, base = name.rpartition("/")
    lead = f"{humanize(prefix)}: " if prefix else ""
    for suffix, (label, explanation) in _VARIANTS.items():
        known = MEASURES.get(base.removesuffix(suffix))
        if base.endswith(suffix) and known:
            title = f"{lead}{known.title}, {label}"
            return Measure(title, explanation, known.better, known.percent)
    if base in MEASURES:
        known = MEASURES[base]
        return Measure(lead + known.title, known.explanation, known.better, known.percent)
    for stem, known in MEASURES.items():
        if base.startswith(stem + "_"):
            detail = base.removeprefix(stem + "_").replace("_", " ")
            return Measure(
                f"{lead}{known.title} ({detail})", known.explanation, known.better, known.percent
            )
    return Measure(lead + humanize(base), "", "")


def format_value(name: str, value: float) -> str:
    """Returns a figure as text: per cent for relative errors, else four significant digits."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else str(value)
    if measure_of(name).percent:
        return f"{100 * value:.2f} %"
    return format_number(value)


def format_interval(name: str, ends: tuple[float, float]) -> str:
    """Returns the ends of a figure's interval as text."""
    low, high = (format_value(name, end) for end in ends)
    return f"{low.removesuffix(' %')} to {high}"


def format_number(value: float) -> str:
    """Returns at most four significant digits, thousands separated, no needless zeros."""
    if isinstance(value, int) or value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    magnitude = abs(value)
    if magnitude >= 1000:
        return f"{value:,.0f}"
    if magnitude < 1e-3:
        return f"{value:.3g}"
    digits = 3 - math.floor(math.log10(magnitude)) if magnitude >= 1 else 4
    return f"{value:.{max(digits, 0)}f}"


def humanize(name: str) -> str:
    """Returns a name for readers: 'part_scale' is 'Part scale', 'gan' is 'GAN'."""
    words = name.replace("_", " ").replace("/", ": ").split()
    words = [word.upper() if word in _ABBREVIATIONS else word for word in words]
    text = " ".join(words)
    return text[:1].upper() + text[1:]
