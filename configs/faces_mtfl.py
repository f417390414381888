"""Faces in the wild with eight parts, for CPUs.

Command:  python -m experiments.pipeline --config=configs/faces_mtfl.py --workdir=W \\
              --config.dataset.source=faces_mtfl.tar
Argument: size=64, the image size; 32, 64 and 128 are meant, as in
          --config=configs/faces_mtfl.py:size=32
Hardware: meant for two CPU cores at 32 and 64 px, for a GPU at 128. At 32 px, 2,000 updates took 27
          minutes on one of 2 AVX2 cores, the segmenter 4.
Measured: at 32 px, 2,000 updates, seed 0: landmark error 18.7 % of the distance between the eyes on
          the 1,000 held-out photos (mean landmarks 22.2 %), 29.6 % on AFLW (31.4 %).
          experiments/results/faces_mtfl_cpu has pictures. Nothing yet at 64 and 128 px.
"""

import ml_collections

from configs import people_ccp
from configs.common import parse_arg


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
    """The small model of `people_ccp`, its points' centres on a disc."""
    given = parse_arg(arg, size=64)
    c = people_ccp.get_config(f"size={given.size}")
    c.dataset.name = "faces_mtfl"
    c.dataset.augment = "flip"  # The photos are cropped as tightly as the test photos.
    c.dataset.cache = "host"
    c.model.num_parts = 8
    c.gan.point_layout = "disc"
    c.gan.point_spread = 0.4
    c.evaluation.num_samples = 2_048
    return c
