"""CelebA-in-the-wild at 128 px, as published.

Command:   python -m experiments.pipeline --config=configs/celeba_wild.py --workdir=W \\
               --config.dataset.source=FOLDER
Arguments: parts=8 (published: 4 and 8); variant=released or paper
           (--config=configs/celeba_wild.py:parts=8,variant=paper)
Data:      the publisher's files under FOLDER; `python -m experiments.prepare_data
           --dataset=celeba_wild` says which.
Hardware:  meant for one GPU or a TPU slice: 42 TFLOP an iteration, 30,000 iterations.
Published: landmark error 6.18 % of the inter-ocular distance (K = 8), 12.26 % (K = 4); FID 21.42.
Run here:  not yet; no figure of this configuration is claimed.
"""

import ml_collections

from ganseg_jax.config import base_config
from ganseg_jax.config.presets import use_published_arg


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
    """The published settings; see the module's docstring for `arg`."""
    c = base_config()
    c.dataset.name = "celeba_wild"
    return use_published_arg(c, arg, parts=8, ratio=1.25)
