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

from ganseg_jax.config.presets import base_config, use_small_networks


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
    """A small GANSeg with the paper's heatmaps, whose points spread early."""
    if arg:
        raise ValueError(f"configs/puppets.py takes no argument, not {arg!r}")
    c = base_config()
    use_small_networks(c, 32)
    c.dataset.name = "puppets"
    c.dataset.augment = "none"  # An arm's colour says which one it is.
    c.model.num_parts = 5
    c.model.point_divisor = 5.0  # With the published 20 one part swallows the figure.
    c.model.heatmap = "gaussian"
    c.model.part_scale = "std"
    c.model.background_shift = "both"
    c.discriminator.channels = (16, 32, 64)
    c.gan.num_steps = 1_900
    c.gan.batch_size = 8
    c.gan.checkpoint_every = 475
    c.gan.log_every = 50
    c.gan.sample_every = 475
    c.gan.learning_rate_generator = 1e-3
    c.gan.learning_rate_discriminator = 2e-3
    # Without these two, a part may keep a corner of the image, or take several limbs.
    c.gan.background_start = 4.0
    c.gan.point_spread = 0.35
    c.gan.ema_decay = 0.99
    c.gan.share_fakes = True
    c.gan.gradient_penalty.kind = "r1"
    c.gan.gradient_penalty.weight = 2.0
    c.gan.gradient_penalty.interval = 4
    c.gan.concentration.interval = 1
    # Strong while the parts come apart; afterwards it would only make masks narrow.
    c.gan.concentration.final_share = 0.0
    c.gan.concentration.decay_until = 1_000
    c.gan.area.weight = 0.0  # It asks for masks as large as heatmaps, which are wider than limbs.
    c.gan.area.form = "paper"  # This and what follows are for the ablation that adds it.
    c.gan.area.counted_at = 128
    c.gan.area.interval = 1
    c.segmenter.num_steps = 300
    c.segmenter.batch_size = 16
    c.segmenter.checkpoint_every = 150
    c.segmenter.log_every = 25
    c.segmenter.sample_every = 150
    c.segmenter.learning_rate = 2e-3
    c.segmenter.refine = True
    c.evaluation.num_samples = 2_048
    c.evaluation.embedding_samples = 100
    return c
