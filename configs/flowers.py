"""Flowers-102 at 128 px, as published.

Command:   python -m experiments.pipeline --config=configs/flowers.py --workdir=W \\
               --config.dataset.source=FOLDER
Arguments: parts=8; variant=released or paper
           (--config=configs/flowers.py:parts=8,variant=paper)
Data:      the publisher's files under FOLDER; `python -m experiments.prepare_data
           --dataset=flowers` says which.
Hardware:  meant for one GPU or a TPU slice: 42 TFLOP an iteration, 30,000 iterations.
Published: foreground IoU 0.739; FID 38.41.
Run here:  not yet; no figure of this configuration is claimed.
"""

import ml_collections

from ganseg_jax.config import base_config
from ganseg_jax.config.presets import use_published_arg


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
    """The published settings; see the module's docstring for `arg`."""
    c = base_config()
    c.dataset.name = "flowers"
    c.dataset.augment = "flip_crop"
    c.model.stage_divisors = (4, 4, 2, 2, 1, 1)
    c.model.stage_channels = (512, 256, 256, 128, 128, 64)
    c.model.head = "single"
    return use_published_arg(c, arg, parts=8, ratio=3.75)
