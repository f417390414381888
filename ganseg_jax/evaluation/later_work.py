"""Figures of later works, and what each had to help it, as their sources state them.

A figure that no source at hand states is left out. `docs/protocols.md` repeats the sources.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """Describes a published work.

    Attributes:
      source: where its figures are stated.
      supervision: what it learns from beside photos; "none" if nothing.
      licence: of the released code and weights.
    """

    source: str
    supervision: str
    licence: str


@dataclass(frozen=True)
class LaterRow:
    """Holds one row of a table.

    Attributes:
      work: its name in `WORKS`.
      values: one a column, None if the source states none.
      num_parts: K; None if the source does not say.
      why_not: why the row cannot be compared with ours; "" if it can.
    """

    work: str
    values: Sequence[float | None]
    num_parts: int | None = None
    why_not: str = ""

    def label(self) -> str:
        """Returns the row's first cell: the work, its K and its supervision."""
        parts = "" if self.num_parts is None else f", K = {self.num_parts}"
        return f"{self.work}{parts} ({WORKS[self.work].supervision})"


_ZOO = "model_zoo.md of github.com/ananthu-aniraj/pdiscoformer"

WORKS = {
    "AutoLink": Work(
        "He, Wandt, Rhodin, NeurIPS 2022, as listed by wizwand.com (CelebA, CUB) and "
        "paperswithcode.com (CelebA, DeepFashion)",
        "pretrained VGG in the loss",
        "MIT",
    ),
    "StableKeypoints": Work(
        "Hedlin et al., CVPR 2024, as listed by paperswithcode.com",
        "pretrained Stable Diffusion",
        "Apache-2.0 (code)",
    ),
    "Unsup-Parts": Work(
        "Choudhury et al., NeurIPS 2021, outputs of the notebooks in github.com/subhc/unsup-parts",
        "foreground masks",
        "none stated",
    ),
    "dino-vit-features": Work(
        f'Amir et al., 2021, measured by the authors of PDiscoFormer ("Dino"), {_ZOO}',
        "pretrained DINO",
        "MIT",
    ),
    "Huang, Li": Work(
        f"CVPR 2020, measured by the authors of PDiscoFormer, {_ZOO}",
        "class labels",
        "none stated",
    ),
    "PDiscoNet": Work(
        f"van der Klis et al., ICCV 2023, measured by the authors of PDiscoFormer, {_ZOO}",
        "class labels, pretrained ResNet",
        "MIT",
    ),
    "PDiscoNet with ViT-B": Work(
        f"measured by the authors of PDiscoFormer, {_ZOO}",
        "class labels, pretrained DINOv2",
        "MIT",
    ),
    "PDiscoFormer": Work(
        f"Aniraj et al., ECCV 2024, {_ZOO}", "class labels, pretrained DINOv2", "MIT"
    ),
    "MPAE": Work(
        "Xia et al., ICCV 2025, README of github.com/Jiahao-UTS/MPAE (released weights)",
        "pretrained backbone",
        "GPL-2.0",
    ),
}
"""The works by name."""

_CROPPED = "the FG figures are of photos cut out at the bounding box; the background is given"

CELEBA = (LaterRow("AutoLink", [3.54, 6.11, 5.24]),)

CUB_CATEGORIES = (LaterRow("AutoLink", [20.2, 19.2, 18.5]),)

CUB_KEYPOINTS = (
    LaterRow("Unsup-Parts", [None, 46.03, 21.03, 43.52, 19.58], 4, _CROPPED),
    LaterRow("MPAE", [None, None, None, 79.00, 66.56], 16),
)

NABIRDS = (
    LaterRow("dino-vit-features", [None, 26.50, 11.30], 4),
    LaterRow("dino-vit-features", [None, 39.45, 23.20], 8),
    LaterRow("dino-vit-features", [None, 39.23, 23.37], 11),
    LaterRow("Huang, Li", [14.54, 31.99, 19.31], 4),
    LaterRow("Huang, Li", [13.47, 42.06, 27.32], 8),
    LaterRow("Huang, Li", [12.82, 44.08, 29.28], 11),
    LaterRow("PDiscoNet", [11.5, 31.93, 13.32], 4),
    LaterRow("PDiscoNet", [11.19, 37.60, 19.47], 8),
    LaterRow("PDiscoNet", [9.59, 43.57, 29.63], 11),
    LaterRow("PDiscoNet with ViT-B", [9.76, 43.02, 22.77], 4),
    LaterRow("PDiscoNet with ViT-B", [9.17, 56.50, 34.10], 8),
    LaterRow("PDiscoNet with ViT-B", [9.34, 68.92, 54.65], 11),
    LaterRow("PDiscoFormer", [11.22, 48.24, 27.73], 4),
    LaterRow("PDiscoFormer", [8.84, 60.39, 46.74], 8),
    LaterRow("PDiscoFormer", [8.36, 72.04, 63.35], 11),
)

PARTIMAGENET = (LaterRow("MPAE", [55.10, 73.52, 53.65, 74.22], 50),)

DEEPFASHION_PARTS = (
    LaterRow(
        "Unsup-Parts",
        [44.54, 46.20, 68.10, 90.60],
        4,
        "the background is given, which the figures over all pixels profit by",
    ),
)

DEEPFASHION_KEYPOINTS = (LaterRow("AutoLink", [66]), LaterRow("StableKeypoints", [70]))

TAICHI = (LaterRow("StableKeypoints", [None, None, 234.89]),)
