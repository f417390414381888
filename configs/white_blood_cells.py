"""White blood cells under the microscope at 64 px, with few-shot parts in mind.

Command:  python -m experiments.pipeline --config=configs/white_blood_cells.py --workdir=W \\
              --config.dataset.source=white_blood_cells.tar
Hardware: meant for two CPU cores.
Measured: nothing yet.

The set has two parts (cytoplasm, nucleus); a third takes up the red cells around them.
"""

import ml_collections

from configs import people_ccp


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
    """The small model of `people_ccp` with three parts, for few photos that have no upright."""
    if arg:
        raise ValueError(f"configs/white_blood_cells.py takes no argument, not {arg!r}")
    c = people_ccp.get_config("size=64")
    c.dataset.name = "white_blood_cells"
    c.model.num_parts = 3
    c.gan.point_layout = "disc"
    c.gan.point_spread = 0.2
    c.evaluation.num_samples = 400
    return c
