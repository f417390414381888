"""Your photos: any folder or tar archive of images of one category.

Command:  python -m experiments.pipeline --config=configs/image_folder.py --workdir=W \\
              --config.dataset.source=PHOTOS --config.dataset.data_dir=W/data
Arguments: parts=6, the number of parts; size=64, the image size (32 or 64: networks for a CPU; 128:
          the published ones); layout=auto, where the parts begin: short trainings choose, or disc,
          column (one above the other, for things that stand upright) or row; variant=small,
          settings of training for a small scale, or released or paper, the published ones, without
          a layout; as in --config=configs/image_folder.py:parts=8,size=128,variant=released
"""

import ml_collections

from ganseg_jax.config import base_config, parse_arg
from ganseg_jax.config.presets import small_photo_config, use_published, use_small_networks

SPREADS = {"auto": 0.25, "disc": 0.25, "column": 0.75, "row": 0.75}
"""Layout of the part centres before training -> how far they reach, of half the image."""


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
    """The small model of `people_ccp`, at 64 px; see the module's docstring for `arg`."""
    given = parse_arg(arg, parts=6, size=64, layout="auto", variant="small")
    if given.layout not in SPREADS:
        raise ValueError(f"layout={given.layout!r} is none of {', '.join(SPREADS)}")
    if given.variant not in ("small", "released", "paper"):
        raise ValueError(f"variant={given.variant!r} is none of small, released, paper")
    if given.variant != "small":
        if given.layout != "auto":
            raise ValueError(f"layout={given.layout} is for variant=small, not {given.variant}")
        c = base_config()
        use_small_networks(c, given.size)
        use_published(c, given.parts, given.variant, ratio=1.25)
        c.dataset.name = "image_folder"
        return c
    c = small_photo_config(given.size)
    c.dataset.name = "image_folder"
    c.model.num_parts = given.parts
    c.model.grid = "centers"
    c.gan.point_layout = given.layout
    c.gan.point_spread = SPREADS[given.layout]
    c.segmenter.find_background = True
    c.evaluation.num_samples = 2_048
    return c
