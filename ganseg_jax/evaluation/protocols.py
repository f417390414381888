"""Published protocols by name: which splits they need, what they measure, what was published.

A protocol sees a segmenter as a plain function from uint8 images (N, S, S, 3) to probabilities
(N, S, S, K+1), and the ground truth as `ganseg_jax.data.pipeline.Split`s, and returns a flat dict
of figures with, for each `figure`, the number of images it was measured on as `figure_count`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ganseg_jax.data.pipeline import Split
from ganseg_jax.errors import UserError
from ganseg_jax.evaluation import figures as measures
from ganseg_jax.evaluation import intervals, published
from ganseg_jax.evaluation.figures import COUNT, Figures
from ganseg_jax.evaluation.segmented import PredictFn


@dataclass(frozen=True)
class Protocol:
    """Describes a named way to measure a segmenter.

    Attributes:
      name: as in `--config.evaluation.protocols`.
      definition: what is measured, in one line (docs/protocols.md lists all of them).
      used_by: whose figures are measured this way.
      datasets: names of the data sets it fits; empty for any.
      splits: names of the splits it needs, all of them keys of what `measure` is given.
      measure: (predict_fn, splits, batch_size) -> figures and counts.
      table: the published table, if any.
      variants: (label, suffix) of the figures that get a row of their own in the table.
      references: names of the simple references that make sense
        (`ganseg_jax.evaluation.references`).
      reference_split: the split whose ground truth the references learn from.
      on_demand: whether it is measured only if it is asked for by name.
    """

    name: str
    definition: str
    used_by: str
    datasets: tuple[str, ...]
    splits: tuple[str, ...]
    measure: Callable[[PredictFn, Mapping[str, Split], int], Figures]
    table: published.PublishedTable | None = None
    variants: Sequence[tuple[str, str]] = ()
    references: tuple[str, ...] = ()
    reference_split: str = "train"
    on_demand: bool = False

    def rows(
        self,
        figures: Figures,
        dataset: str,
        num_parts: int,
        references: Mapping[str, Figures] | None = None,
    ) -> tuple[str, list[str], list[list]] | None:
        """Returns our row beneath the published rows; None if there is no published table."""
        if self.table is None:
            return None
        return self.table.with_own(figures, dataset, num_parts, self.variants, references)


def split_counts(figures: Mapping[str, float]) -> tuple[Figures, dict[str, int]]:
    """Separates a flat dict into the figures and, by the same names, their counts.

    The ends of intervals are left out; see `intervals.ends_of`.
    """
    counts = {
        name.removesuffix(COUNT): int(value)
        for name, value in figures.items()
        if name.endswith(COUNT)
    }
    left_out = (COUNT, intervals.LOW, intervals.HIGH)
    return {name: value for name, value in figures.items() if not name.endswith(left_out)}, counts


def get_protocol(name: str) -> Protocol:
    """Returns the protocol of that name.

    Raises:
      UserError: there is none; the line names those there are.
    """
    if name not in PROTOCOLS:
        known = ", ".join(PROTOCOLS)
        raise UserError(f"evaluation.protocols: there is no protocol {name!r}; known are {known}")
    return PROTOCOLS[name]


def chosen_protocols(names: Sequence[str], dataset: str) -> dict[str, Protocol]:
    """Returns the protocols of these names, or those of the data set if there are no names.

    Raises:
      UserError: there is none of a name, or it is made for other data sets.
    """
    chosen = {name: get_protocol(name) for name in names or fit_protocols(dataset)}
    for name, protocol in chosen.items():
        if protocol.datasets and dataset not in protocol.datasets:
            raise UserError(
                f"evaluation.protocols: {name} is made for {', '.join(protocol.datasets)}, "
                f"not for {dataset}"
            )
    return chosen


def fit_protocols(dataset: str) -> list[str]:
    """Returns the names of a data set's protocols; `image_folder` if it has none.

    Those that are measured on demand are left out.
    """
    fitting = [
        name
        for name, protocol in PROTOCOLS.items()
        if dataset in protocol.datasets and not protocol.on_demand
    ]
    return fitting or ["image_folder"]


_LANDMARK_VARIANTS = (("with a constant", "_bias"), ("standardised", "_standardized"))
_LANDMARK_REFERENCES = ("mean_landmarks", "kmeans", "kmeans_place")
_MASK_REFERENCES = ("mean_mask", "grabcut", "kmeans", "kmeans_place")

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "celeba_landmarks",
            "five landmarks regressed from part centres without a constant on MAFL's training "
            "images; mean distance on its test images over the distance between the eyes",
            "Thewlis et al. 2017 and all since: SCOPS, GANSeg, AutoLink, StableKeypoints",
            ("celeba_wild", "celeba_aligned"),
            ("landmark_train", "landmark_test"),
            measures.celeba,
            published.CELEBA_LANDMARKS,
            _LANDMARK_VARIANTS,
            references=_LANDMARK_REFERENCES,
            reference_split="landmark_train",
        ),
        Protocol(
            "cub_foreground",
            "IoU of everything but the background with the mask, mean over ReDO's 1,000 test "
            "images; the mask is resized first, then > 127.5",
            "ReDO, Savarese et al. 2021, GANSeg",
            ("cub",),
            ("test",),
            measures.foreground,
            published.FOREGROUND,
            references=_MASK_REFERENCES,
        ),
        Protocol(
            "cub_landmarks",
            "15 landmarks, each regressed without a constant on the training images that show it; "
            "mean distance over visible ones over the image's edge, ReDO's split",
            "GANSeg",
            ("cub",),
            ("train", "test"),
            measures.train_edge,
            published.CUB_LANDMARKS,
            _LANDMARK_VARIANTS,
            references=_LANDMARK_REFERENCES,
        ),
        Protocol(
            "cub_aligned",
            "as cub_landmarks, on birds cut out at the square around their box (lists of CMR)",
            "Lorenz et al. 2019, AutoLink, StableKeypoints",
            ("cub_aligned",),
            ("train", "test"),
            measures.train_edge,
            published.CUB_ALIGNED,
            references=_LANDMARK_REFERENCES,
        ),
        Protocol(
            "cub_categories",
            "as cub_aligned, fitted on the training images of categories 001 to 003, tested on "
            "each category alone",
            "SCOPS, Choudhury et al. 2021, AutoLink, StableKeypoints",
            ("cub_three",),
            ("train", "test_001", "test_002", "test_003"),
            measures.bird_categories,
            published.CUB_CATEGORIES,
        ),
        Protocol(
            "cub_keypoints",
            "on the 5,794 official test images: landmarks in units of the bounding box, each "
            "regressed with a constant; NMI and ARI of parts at visible landmarks, with the "
            "background as a part (NMI) and among parts alone (FG-NMI); error by the edge (all)",
            "Huang, Li 2020; Choudhury et al. 2021; PDiscoNet; PDiscoFormer; MPAE",
            ("cub_official",),
            ("train", "test"),
            measures.boxed,
            published.CUB_KEYPOINTS,
            references=_LANDMARK_REFERENCES,
        ),
        Protocol(
            "nabirds_keypoints",
            "as cub_keypoints, with the 11 landmarks of NABirds",
            "PDiscoFormer",
            ("nabirds",),
            ("train", "test"),
            measures.boxed,
            published.NABIRDS,
        ),
        Protocol(
            "flowers_foreground",
            "IoU of everything but the background with the mask, mean over 1,020 images (trnid); "
            "the segmented picture is resized first, then its colours decide",
            "ReDO, Savarese et al. 2021, GANSeg",
            ("flowers",),
            ("test",),
            measures.foreground,
            published.FOREGROUND,
            references=_MASK_REFERENCES,
        ),
        Protocol(
            "flowers_pixels",
            "IoU of foreground and of background over all pixels of the 6,149 official test "
            "images together, which the split of flowers_foreground trains on",
            "PDiscoFormer",
            ("flowers",),
            ("train",),
            measures.official_flowers,
            published.FLOWERS_PIXELS,
            on_demand=True,
        ),
        Protocol(
            "taichi",
            "taichi_mae: mean absolute error of each of 18 x 2 coordinates, regressed with a "
            "constant, summed; taichi_renormalised: distance of visible landmarks, mean in an "
            "image, then over images, times 18, regressed without a constant; in 256-px frames",
            "Siarohin et al. 2020, GANSeg, AutoLink (sum); StableKeypoints (renormalised)",
            ("taichi",),
            ("landmark_train", "test"),
            measures.taichi,
            published.TAICHI,
            references=_LANDMARK_REFERENCES,
            reference_split="landmark_train",
        ),
        Protocol(
            "partimagenet_parts",
            "NMI and ARI of found and true parts over all pixels of the test images, background "
            "included",
            "PDiscoNet, PDiscoFormer, MPAE (Seg and OOD splits)",
            ("partimagenet_seg", "partimagenet_ood"),
            ("test",),
            measures.part_agreement,
            published.PARTIMAGENET,
        ),
        Protocol(
            "deepfashion_parts",
            "NMI and ARI of found parts and clothing labels over all pixels (part_nmi), and of the "
            "most probable part inside the person (parts_nmi), query and gallery images",
            "Choudhury et al. 2021",
            ("deepfashion_parsing",),
            ("test",),
            measures.clothing,
            published.DEEPFASHION_PARTS,
        ),
        Protocol(
            "deepfashion_keypoints",
            "share of landmarks within 6 px of a 256-px photo, regressed without a constant",
            "Lorenz et al. 2019, AutoLink, StableKeypoints",
            ("deepfashion_keypoints",),
            ("train", "test"),
            measures.deepfashion_keypoints,
            published.DEEPFASHION_KEYPOINTS,
        ),
        Protocol(
            "object_parts",
            "foreground IoU, and NMI and ARI of found and true parts; with names from a few "
            "labels, experiments.few_shot measures IoU by class and weighted by area",
            "weighted IoU: Tritrong et al. 2021",
            ("pascal_part_car", "pascal_part_horse", "celebamask_hq", "car_parts"),
            ("test",),
            measures.part_agreement,
            references=_MASK_REFERENCES,
        ),
        Protocol(
            "people_parts",
            "foreground IoU, and NMI and ARI of found parts and six groups of clothing",
            "this project",
            ("people_ccp",),
            ("test",),
            measures.part_agreement,
            references=_MASK_REFERENCES,
        ),
        Protocol(
            "faces_landmarks",
            "as celeba_landmarks, on MTFL: held-out training faces, and AFLW",
            "this project",
            ("faces_mtfl",),
            ("train", "landmark_test", "test"),
            measures.faces,
            references=_LANDMARK_REFERENCES,
        ),
        Protocol(
            "puppets_parts",
            "foreground IoU, part agreement and landmarks of rendered puppets",
            "this project",
            ("puppets",),
            ("validation", "test"),
            measures.puppets,
            references=("mean_mask", "mean_landmarks", "grabcut_native", "kmeans", "kmeans_place"),
            reference_split="validation",
        ),
        Protocol(
            "image_folder",
            "whatever the ground truth of a folder allows",
            "this project",
            (),
            ("test",),
            measures.any_folder,
            references=_MASK_REFERENCES,
        ),
    )
}
"""Every protocol by its name."""
