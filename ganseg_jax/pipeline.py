"""The whole job of one config: data, training, evaluation, report."""

import logging

import ml_collections

from ganseg_jax import settings
from ganseg_jax.evaluation import run
from ganseg_jax.training import autoencoder_stage, stages

LOG = logging.getLogger(__name__)


def run_all(config: ml_collections.ConfigDict, workdir: str) -> dict[str, float]:
    """Trains and measures; finished stages are skipped, one that was cut off goes on.

    Returns:
      The figures of `W/evaluation/metrics.json`.

    Raises:
      UserError: where the config makes no sense or is another than the workdir was begun with,
        the data set is missing, or training cannot go on.
    """
    settings.adopt_workdir(config, workdir)
    if settings.model_kind(config) != "gan":
        LOG.info("1/2 Auto-encoder: photos to masks and back")
        autoencoder_stage.train_autoencoder(config, workdir)
        LOG.info("2/2 Evaluation and report")
        return run.evaluate(config, workdir)
    LOG.info("1/3 GAN: points, masks and images from photos")
    stages.train_gan(config, workdir)
    LOG.info("2/3 Segmenter: DeepLab on the GAN's images and masks")
    stages.train_segmenter(config, workdir)
    LOG.info("3/3 Evaluation and report")
    return run.evaluate(config, workdir)
