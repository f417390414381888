"""TFDS builder of the built-in set."""

import functools
from collections.abc import Mapping

from ganseg_jax.data import images
from ganseg_jax.data.builders import base
from ganseg_jax.data.builders.puppets import render

IMAGE_SIZE = 64
_SPLIT_SEEDS = {"train": 0, "validation": 1, "test": 2}


class Puppets(base.SetBuilder):
    """Renders puppets: 6,000 training, 500 validation and 500 test images of 64 x 64 px."""

    DESCRIPTION = "Rendered articulated figures of five parts, with label maps and joints."
    EXPECTED_COUNTS = {"train": 6000, "validation": 500, "test": 500}

    THREADS = 1  # A batch of them is rendered at once.

    part_names = render.PART_NAMES
    landmark_names = render.JOINT_NAMES

    def list_splits(self) -> Mapping[str, list[tuple[str, int]]]:
        counts = self.EXPECTED_COUNTS.items()
        return {split: [(split, i) for i in range(count)] for split, count in counts}

    def read_item(self, item: tuple[str, int]) -> base.Example:
        split, index = item
        puppets, i = _rendered(split, index // render.BATCH), index % render.BATCH
        return base.Example(
            name=f"{split}_{index:05d}.png",
            image=images.encode_rgb(puppets.images[i]),
            labels=puppets.labels[i],
            landmarks=puppets.joints[i],
            visible=puppets.visible[i],
        )


@functools.lru_cache(maxsize=1)
def _rendered(split: str, batch: int) -> render.Puppets:
    """Renders one batch; the figures of a split do not depend on how many it has."""
    seed = _SPLIT_SEEDS[split]
    return render.render(render.BATCH, IMAGE_SIZE, (seed, batch))
