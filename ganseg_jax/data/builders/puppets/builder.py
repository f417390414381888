"""TFDS builder of the built-in set."""

from collections.abc import Iterator, Sequence
from typing import Any

from ganseg_jax.data import images
from ganseg_jax.data.builders import base
from ganseg_jax.data.builders.puppets import render


class Puppets(base.SetBuilder):
    """Rendered puppets: 6,000 training, 500 validation and 500 test images of 64 x 64 px."""

    DESCRIPTION = "Rendered articulated figures of five parts, with label maps and joints."
    IMAGE_SIZE = 64
    EXPECTED_COUNTS = {"train": 6000, "validation": 500, "test": 500}

    part_names = render.PART_NAMES
    landmark_names = render.JOINT_NAMES

    def list_splits(self) -> dict[str, Sequence[Any]]:
        return {split: range(count) for split, count in self.EXPECTED_COUNTS.items()}

    def read_items(self, split: str, items: Sequence[Any]) -> Iterator[base.Example]:
        # Each split has figures of its own, and a longer split begins with the shorter one's.
        seed = list(self.EXPECTED_COUNTS).index(split)
        for start in range(0, len(items), render.BATCH):
            puppets = render.render(
                min(render.BATCH, len(items) - start), self.IMAGE_SIZE, (seed, start)
            )
            for i in range(len(puppets.images)):
                yield base.Example(
                    name=f"{split}_{start + i:05d}.png",
                    image=images.encode_rgb(puppets.images[i]),
                    labels=puppets.labels[i],
                    landmarks=puppets.joints[i],
                    visible=puppets.visible[i],
                )
