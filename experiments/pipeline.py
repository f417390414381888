"""The whole job: data, GAN, segmenter, evaluation, report.

python -m experiments.pipeline --config=configs/X.py --workdir=W

Finished stages are skipped; one that was cut off goes on from its last checkpoint.
"""

import logging

from experiments import app

LOG = logging.getLogger("ganseg_jax.pipeline")
CONFIG = app.define_config("configs/puppets.py")
WORKDIR = app.define_workdir()


def main() -> None:
    from ganseg_jax import settings
    from ganseg_jax.evaluation import run
    from ganseg_jax.training import stages

    config, workdir = CONFIG.value, WORKDIR.value
    settings.adopt_workdir(config, workdir)
    LOG.info("1/3 GAN: points, masks and images from photos")
    stages.train_gan(config, workdir)
    LOG.info("2/3 Segmenter: DeepLab on the GAN's images and masks")
    stages.train_segmenter(config, workdir)
    LOG.info("3/3 Evaluation and report")
    run.evaluate(config, workdir)


if __name__ == "__main__":
    app.run(main)
