"""Packs a finished run into a small folder to keep or to hand on: config and float16 weights.

python -m experiments.pack --workdir=W --output=DIR

`experiments.segment --workdir=DIR`, `experiments.sample --workdir=DIR`,
`ganseg_jax.load_segmenter(DIR)` and `ganseg_jax.load_generator(DIR)` open it as they open W.
"""

import logging

from absl import flags

from ganseg_jax.cli import app, places

LOG = logging.getLogger("ganseg_jax.pack")
WORKDIR = places.define_workdir()
OUTPUT = flags.DEFINE_string("output", None, "Folder to write to.", required=True)


def main() -> None:
    from ganseg_jax.jobs.pack import pack

    size = pack(WORKDIR.value, OUTPUT.value)
    LOG.info("generator and segmenter in %s: %.1f MB", OUTPUT.value, size / 1e6)


if __name__ == "__main__":
    app.run(main)
