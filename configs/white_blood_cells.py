"""White blood cells under the microscope at 64 px, with few-shot parts in mind.

Command:  python -m experiments.pipeline --config=configs/white_blood_cells.py --workdir=W \\
              --config.dataset.source=white_blood_cells.tar
Hardware: one of 2 AVX2 CPU cores, beside other programs: the GAN in 25 minutes. The segmenter of
          its one part has not been trained yet.
Measured: parts from labels: experiments/results/few_shot_white_blood_cells.

The cell is one part: cytoplasm and nucleus come from labels of generated images.
"""

import ml_collections

from ganseg_jax.config.presets import small_photo_config


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
    """The small model of `people_ccp` with a single part, for 300 photos that have no upright."""
    if arg:
        raise ValueError(f"configs/white_blood_cells.py takes no argument, not {arg!r}")
    c = small_photo_config(64)
    c.dataset.name = "white_blood_cells"
    c.model.num_parts = 1  # With three, cells became trefoils.
    c.gan.num_steps = 1_200
    c.gan.batch_size = 8
    c.gan.checkpoint_every = 200
    c.gan.sample_every = 200
    c.gan.point_layout = "disc"
    c.gan.point_spread = 0.2
    c.gan.concentration.weight = 3.0
    c.gan.concentration.decay_until = 600
    c.gan.discriminator_augment = "color,translation"
    # Not tried on cells.
    c.segmenter.refine = False
    c.self_training.num_steps = 0
    c.evaluation.num_samples = 400
    return c
