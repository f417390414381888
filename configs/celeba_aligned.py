"""CelebA-aligned at 128 px, as published.

Command:   python -m experiments.pipeline --config=configs/celeba_aligned.py --workdir=W \\
               --config.dataset.source=FOLDER
Arguments: parts=10; variant=released or paper
           (--config=configs/celeba_aligned.py:parts=10,variant=paper)
Data:      the publisher's files under FOLDER; `python -m experiments.prepare_data
           --dataset=celeba_aligned` says which.
Hardware:  meant for one GPU or a TPU slice: 42 TFLOP an iteration, 30,000 iterations.
Published: landmark error 3.98 % of the inter-ocular distance.
Run here:  not yet; no figure of this configuration is claimed.
"""

import ml_collections

from ganseg_jax.config import base_config
from ganseg_jax.config.presets import use_published_arg


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
    """The published settings; see the module's docstring for `arg`."""
    c = base_config()
    c.dataset.name = "celeba_aligned"
    c.dataset.cache = "none"  # Too large for the memory of most hosts.
    return use_published_arg(c, arg, parts=10, ratio=1.0)
