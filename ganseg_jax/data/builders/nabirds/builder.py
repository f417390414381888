"""TFDS builder of NABirds: birds of North America with 11 landmarks and bounding boxes."""

import pathlib
from collections.abc import Sequence
from typing import Any

from ganseg_jax.data.builders import base
from ganseg_jax.data.builders.cub import lists
from ganseg_jax.data.builders.cub.variants import BoxedBirds

_LANDMARKS = (
    *("bill", "crown", "nape", "left eye", "right eye", "belly", "breast", "back", "tail"),
    *("left wing", "right wing"),
)


class Nabirds(BoxedBirds):
    """Builds 48,562 birds in the official split, 23,929 / 24,633."""

    DESCRIPTION = "Birds of North America with 11 landmarks and bounding boxes."
    CITATION = (
        "Van Horn et al.: Building a bird recognition app and large scale dataset, CVPR 2015."
    )
    LAYOUT = (
        "the folder nabirds with images/, images.txt, train_test_split.txt, bounding_boxes.txt and "
        "parts/ (dl.allaboutbirds.org/nabirds)"
    )
    EXPECTED_COUNTS = {"train": 23929, "test": 24633}
    landmark_names: Sequence[str] = _LANDMARKS

    def __init__(self, *, source: str | pathlib.Path | None = None, **kwargs: Any):
        if source is not None:
            try:
                root = base.find_root(pathlib.Path(source), "parts/parts.txt")
            except FileNotFoundError:
                pass  # The names known here are taken.
            else:
                lines = lists.read_lines(root / "parts/parts.txt")
                self.landmark_names = tuple(line.split(maxsplit=1)[1] for line in lines)
        super().__init__(source=source, **kwargs)
