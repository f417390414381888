"""Published figures, and tables that put a run's own figures beside them.

The rows above ours are those of GANSeg (CVPR 2022) and of the works it compares with; beneath ours
stand later works (`later_work`), with what helps them and, where it holds, why they cannot be
compared.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ganseg_jax.evaluation import later_work
from ganseg_jax.evaluation.later_work import LaterRow

OWN_ROW = "* ganseg_jax"
"""How the first cell of a run's own rows starts; the report sets such rows off."""


@dataclass(frozen=True)
class Column:
    """Describes one column of a published table and the figure of ours that belongs into it.

    Attributes:
      title: heading of the column.
      figure: name of the figure.
      scale: what the figure is multiplied by to be in the table's unit.
      dataset: the data set the column is about; None for any.
      num_parts: the K the column is about; None for any.
    """

    title: str
    figure: str
    scale: float = 1.0
    dataset: str | None = None
    num_parts: int | None = None

    def fits(self, dataset: str, num_parts: int) -> bool:
        """Says whether a run on this data set with so many parts belongs into the column."""
        return self.dataset in (None, dataset) and self.num_parts in (None, num_parts)


@dataclass(frozen=True)
class PublishedTable:
    """Holds a table as published: `rows` of a method's name and a value (or None) a column.

    Attributes:
      caption: what is measured and in which unit.
      columns: one for each figure.
      rows: of works up to GANSeg, which stand above ours.
      later: rows of later works, which stand beneath ours.
    """

    caption: str
    columns: Sequence[Column]
    rows: Sequence[tuple[str, Sequence[float | None]]]
    later: Sequence[LaterRow] = ()

    def with_own(
        self,
        figures: Mapping[str, float],
        dataset: str,
        num_parts: int,
        variants: Sequence[tuple[str, str]] = (),
        references: Mapping[str, Mapping[str, float]] | None = None,
    ) -> tuple[str, list[str], list[list]]:
        """Returns the table with our rows between the published ones and those of later works.

        Args:
          figures: our figures by name.
          dataset: the data set they were measured on.
          num_parts: K of the run; if no column is about it, a column of its own is added.
          variants: (label, suffix) of figures that get a row of their own each, such as
            ('with a constant', '_bias').
          references: figures of simple references by their name, a row each.

        Returns:
          (caption, header, rows).
        """
        columns = list(self.columns)
        reasons = list(dict.fromkeys(row.why_not for row in self.later if row.why_not))
        published = [[name, *values] for name, values in self.rows]
        for figure in dict.fromkeys(column.figure for column in self.columns):
            about = [column for column in self.columns if column.figure == figure]
            related = [column for column in about if column.dataset in (None, dataset)]
            if related and not any(column.fits(dataset, num_parts) for column in about):
                title = f"{related[0].title.partition(', K')[0]}, K = {num_parts}"
                columns.append(Column(title, figure, about[0].scale, dataset, num_parts))
                published = [[*row, None] for row in published]

        def own(label, values, suffix=""):
            cells = [
                _scaled(values.get(column.figure + suffix), column.scale)
                if column.fits(dataset, num_parts)
                else None
                for column in columns
            ]
            return [[label, *cells]] if any(cell is not None for cell in cells) else []

        rows = published + own(f"{OWN_ROW} (K = {num_parts})", figures)
        for label, suffix in variants:
            rows += own(f"{OWN_ROW}, {label}", figures, suffix)
        for name, values in (references or {}).items():
            rows += own(f"reference: {name.replace('_', ' ')}", values)
        rows += [self._later_cells(row, reasons, len(columns)) for row in self.later]
        notes = [f"[{i}] not comparable: {reason}" for i, reason in enumerate(reasons, start=1)]
        caption = ". ".join([self.caption, *notes])
        return caption, ["Method", *(column.title for column in columns)], rows

    def _later_cells(self, row: LaterRow, reasons: list[str], count: int) -> list:
        """Returns a later work's row, filled up, with the number of why it is not comparable."""
        mark = f" [{reasons.index(row.why_not) + 1}]" if row.why_not else ""
        values = [*row.values, *([None] * (count - len(row.values)))]
        return [row.label() + mark, *values]


def _scaled(value: float | None, scale: float) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    # Rounded to what published tables print, so that a row reads like those above it.
    scaled = value * scale
    return round(scaled, 2 if scale > 1 or abs(scaled) >= 10 else 4)


CELEBA_LANDMARKS = PublishedTable(
    "Landmark error on CelebA, % of the inter-ocular distance",
    [
        Column("aligned, K = 10", "landmark_error", 100, "celeba_aligned", 10),
        Column("wild, K = 4", "landmark_error", 100, "celeba_wild", 4),
        Column("wild, K = 8", "landmark_error", 100, "celeba_wild", 8),
    ],
    [
        ("Thewlis et al.", [7.95, None, 31.30]),
        ("Zhang et al.", [3.46, None, 40.82]),
        ("LatentKeypointGAN", [5.85, 25.81, 21.90]),
        ("Lorenz et al.", [3.24, 15.49, 11.41]),
        ("IMM", [3.19, 19.42, 8.74]),
        ("DEF", [None, None, 31.30]),
        ("SCOPS, without saliency", [None, 46.62, 22.11]),
        ("SCOPS, with saliency", [None, 21.76, 15.01]),
        ("Liu et al.", [None, 15.39, 12.26]),
        ("Huang et al. (labels)", [None, None, 8.40]),
        ("GANSeg", [3.98, 12.26, 6.18]),
    ],
    later_work.CELEBA,
)

FOREGROUND = PublishedTable(
    "Foreground IoU on CUB and Flowers",
    [
        Column("CUB", "foreground_iou", 1, "cub"),
        Column("Flowers", "foreground_iou", 1, "flowers"),
    ],
    [
        ("GrabCut", [0.360, 0.692]),
        ("PerturbGAN", [0.380, None]),
        ("ReDO", [0.426, 0.764]),
        ("Savarese et al.", [0.551, 0.789]),
        ("SCOPS", [0.329, 0.544]),
        ("GANSeg", [0.629, 0.739]),
    ],
)

CUB_LANDMARKS = PublishedTable(
    "Landmark error on CUB, % of the image's edge",
    [Column("CUB", "landmark_error", 100, "cub")],
    [("GANSeg", [3.23])],
)

CUB_ALIGNED = PublishedTable(
    "Landmark error on CUB-aligned, % of the image's edge",
    [Column("CUB-aligned", "landmark_error", 100, "cub_aligned")],
    [],
)

CUB_CATEGORIES = PublishedTable(
    "Landmark error on single categories of CUB, % of the image's edge",
    [
        Column("CUB-001", "001/landmark_error", 100, "cub_three"),
        Column("CUB-002", "002/landmark_error", 100, "cub_three"),
        Column("CUB-003", "003/landmark_error", 100, "cub_three"),
    ],
    [],
    later_work.CUB_CATEGORIES,
)

CUB_KEYPOINTS = PublishedTable(
    "CUB, official test images: landmark error in % of the bounding box, agreement of parts in %",
    [
        Column("error", "box_error", 100, "cub_official"),
        Column("FG-NMI", "landmark_fg_nmi", 100, "cub_official"),
        Column("FG-ARI", "landmark_fg_ari", 100, "cub_official"),
        Column("NMI", "landmark_nmi", 100, "cub_official"),
        Column("ARI", "landmark_ari", 100, "cub_official"),
    ],
    [],
    later_work.CUB_KEYPOINTS,
)

NABIRDS = PublishedTable(
    "NABirds: landmark error in % of the bounding box, agreement of parts in %",
    [
        Column("error", "box_error_present", 100, "nabirds"),
        Column("NMI", "landmark_nmi", 100, "nabirds"),
        Column("ARI", "landmark_ari", 100, "nabirds"),
    ],
    [],
    later_work.NABIRDS,
)

FLOWERS_PIXELS = PublishedTable(
    "Flowers, official test images: IoU over all pixels, %",
    [
        Column("foreground", "pixel_iou", 100, "flowers"),
        Column("background", "background_pixel_iou", 100, "flowers"),
    ],
    [],
)

PARTIMAGENET = PublishedTable(
    "PartImageNet: agreement of parts over all pixels, %",
    [
        Column("Seg, NMI", "part_nmi", 100, "partimagenet_seg"),
        Column("Seg, ARI", "part_ari", 100, "partimagenet_seg"),
        Column("OOD, NMI", "part_nmi", 100, "partimagenet_ood"),
        Column("OOD, ARI", "part_ari", 100, "partimagenet_ood"),
    ],
    [],
    later_work.PARTIMAGENET,
)

DEEPFASHION_PARTS = PublishedTable(
    "DeepFashion: agreement of parts, %",
    [
        Column("FG-NMI", "parts_nmi", 100, "deepfashion_parsing"),
        Column("FG-ARI", "parts_ari", 100, "deepfashion_parsing"),
        Column("NMI", "part_nmi", 100, "deepfashion_parsing"),
        Column("ARI", "part_ari", 100, "deepfashion_parsing"),
    ],
    [],
    later_work.DEEPFASHION_PARTS,
)

DEEPFASHION_KEYPOINTS = PublishedTable(
    "DeepFashion: landmarks within 6 px of 256, %",
    [Column("correct", "pck", 100, "deepfashion_keypoints")],
    [],
    later_work.DEEPFASHION_KEYPOINTS,
)

TAICHI = PublishedTable(
    "Taichi: summed mean absolute error of the landmarks, foreground IoU, renormalised error",
    [
        Column("MAE, K = 10", "taichi_mae", 1, "taichi", 10),
        Column("IoU, K = 10", "foreground_iou", 1, "taichi", 10),
        Column("renormalised", "taichi_renormalised", 1, "taichi"),
    ],
    [
        ("DFF", [494.48, None, None]),
        ("SCOPS", [411.38, 0.5485, None]),
        ("Siarohin et al.", [389.78, 0.7686, None]),
        ("GANSeg", [417.17, 0.8538, None]),
    ],
    later_work.TAICHI,
)

FID = PublishedTable(
    "FID, 50,000 samples against the training images",
    [
        Column("CelebA-in-the-wild", "fid", 1, "celeba_wild"),
        Column("Taichi", "fid", 1, "taichi"),
        Column("CUB", "fid", 1, "cub"),
        Column("Flowers", "fid", 1, "flowers"),
    ],
    [("GANSeg", [21.42, 116.62, 38.74, 38.41])],
)

_ABLATION_COLUMNS = [
    Column("CelebA, %", "landmark_error", 100, "celeba_wild"),
    Column("CUB IoU", "foreground_iou", 1, "cub"),
    Column("Flowers IoU", "foreground_iou", 1, "flowers"),
    Column("Taichi MAE", "taichi_mae", 1, "taichi"),
    Column("Taichi IoU", "foreground_iou", 1, "taichi"),
]

ABLATIONS = {
    "part_scale": PublishedTable(
        "Fixed part scale",
        _ABLATION_COLUMNS,
        [("fixed sigma", [26.32, 0.467, 0.697, 657.61, 0.7452])],
    ),
    "points_per_part": PublishedTable(
        "Number of points of a part",
        _ABLATION_COLUMNS,
        [
            ("P = 3", [6.08, 0.644, 0.696, 594.73, 0.5863]),
            ("P = 4", [6.18, 0.629, 0.739, 417.17, 0.8538]),
            ("P = 6", [8.84, 0.682, 0.715, 434.47, 0.8336]),
            ("P = 8", [13.02, 0.641, 0.744, 467.69, 0.7792]),
        ],
    ),
    "num_parts": PublishedTable(
        "Number of parts, with the concentration's weight C K",
        _ABLATION_COLUMNS,
        [
            ("K = 1", [56.23, 0.631, 0.570, 748.30, 0.7895]),
            ("K = 4", [12.26, 0.607, 0.767, 652.87, 0.8176]),
            ("K = 8", [6.18, 0.629, 0.739, 420.95, 0.8481]),
            ("K = 12", [6.17, 0.663, 0.708, 450.51, 0.7939]),
            ("K = 16", [6.71, 0.692, 0.712, 441.04, 0.7475]),
            ("K = 32", [7.00, 0.380, 0.530, 1605.84, 0.1758]),
        ],
    ),
}
