"""Seconds on one CPU core: 16 px, a few channels, puppets. For tests and for trying things out.

Command:  python -m experiments.pipeline --config=configs/tiny.py --workdir=W
Hardware: anything.
Expected: nothing; it is far too small and short to find parts.
"""

import ml_collections

from ganseg_jax.config import base_config


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
    """A run of a few steps through every stage."""
    if arg:
        raise ValueError(f"configs/tiny.py takes no argument, not {arg!r}")
    c = base_config()
    c.image_size = 16
    c.dataset.name = "puppets"
    c.model.num_parts = 3
    c.model.points_per_part = 3
    c.model.noise_dim = 8
    c.model.embedding_dim = 4
    c.model.stage_divisors = (2, 1)
    c.model.stage_channels = (8, 4)
    c.model.margin = 2
    c.model.spade_hidden = 4
    c.discriminator.channels = (4, 8)
    c.discriminator.hidden = 8
    c.gan.num_steps = 8
    c.gan.batch_size = 8
    c.gan.checkpoint_every = 4
    c.gan.log_every = 2
    c.gan.sample_every = 8
    c.gan.gradient_penalty.interval = 4
    c.segmenter.num_steps = 4
    c.segmenter.batch_size = 8
    c.segmenter.checkpoint_every = 2
    c.segmenter.log_every = 2
    c.segmenter.sample_every = 4
    c.segmenter.backbone = "resnet18"
    c.segmenter.width = 1 / 16
    c.segmenter.stem_pool = False
    c.segmenter.atrous_rates = (1, 2)
    c.self_training.batch_size = 8
    c.self_training.checkpoint_every = 2
    c.self_training.log_every = 2
    c.self_training.sample_every = 4
    c.autoencoder.unet_width = 2
    c.autoencoder.unet_depth = 2
    c.evaluation.num_samples = 64
    c.evaluation.embedding_samples = 16
    return c
