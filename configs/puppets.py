"""Puppets at 32 px: the demo. Parts of rendered figures, found without labels, on a CPU.

Command:  python -m experiments.pipeline --config=configs/puppets.py --workdir=W
Hardware: 2 AVX2 CPU cores, little beside it: 6 min 38 s, with `make setup` before it 8 min 4 s. 2
          AVX-512 cores, without refinement: 4 min 55 s.
Measured: foreground IoU 0.902, NMI inside the foreground 0.703, landmark error 2.0 %, on the 500
          test puppets, with seed 0 (without refinement 0.821, 0.547 and 2.5 %). On one core, whose
          sums come in another order: 0.901, 0.672 and 1.5 % with seed 0, 0.910, 0.790 and 1.7 %
          with seed 1, 0.904, 0.742 and 2.0 % with seed 2. GrabCut has an IoU of 0.848, k-means on
          colour and position an NMI of 0.669. Head, torso, each arm and the legs come apart.
          experiments/results/puppets has pictures, and the settings that were tried.
"""

import ml_collections

from ganseg_jax.config import base_config
from ganseg_jax.config.presets import use_small_networks, use_small_training


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
    """Returns a small GANSeg with the paper's heatmaps, whose points spread early."""
    if arg:
        raise ValueError(f"configs/puppets.py takes no argument, not {arg!r}")
    c = base_config()
    use_small_networks(c, 32)
    use_small_training(c)
    c.dataset.name = "puppets"
    c.dataset.augment = "none"  # An arm's colour says which one it is.
    c.model.num_parts = 5
    c.discriminator.channels = (16, 32, 64)
    c.gan.num_steps = 1_900
    c.gan.checkpoint_every = 475
    c.gan.sample_every = 475
    c.gan.point_spread = 0.35
    # Strong while the parts come apart; afterwards it would only make masks narrow.
    c.gan.concentration.final_share = 0.0
    c.gan.concentration.decay_until = 1_000
    # It asks for masks as large as heatmaps, which are wider than limbs; an ablation adds it.
    c.gan.area.weight = 0.0
    c.segmenter.num_steps = 300
    c.segmenter.batch_size = 16
    c.segmenter.checkpoint_every = 150
    c.segmenter.sample_every = 150
    c.evaluation.num_samples = 2_048
    c.evaluation.embedding_samples = 100
    return c
