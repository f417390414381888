"""The whole job of one config: data, training, evaluation, report."""

import logging

import ml_collections

from ganseg_jax.config import file as config_file
from ganseg_jax.jobs import evaluate as run
from ganseg_jax.models import build as settings
from ganseg_jax.training import autoencoder_stage, self_training_stage, stages

LOG = logging.getLogger(__name__)


def run_all(config: ml_collections.ConfigDict, workdir: str) -> dict[str, float]:
    """Trains and measures; finished stages are skipped, one that was cut off goes on.

    Returns:
      The figures of `W/evaluation/metrics.json`.

    Raises:
      UserError: where the config makes no sense or is another than the workdir was begun with,
        the data set is missing, or training cannot go on.
    """
    config_file.adopt_workdir(config, workdir)
    if settings.model_kind(config) != "gan":
        LOG.info("1/2 Auto-encoder: photos to masks and back")
        autoencoder_stage.train_autoencoder(config, workdir)
        LOG.info("2/2 Evaluation and report")
        return run.evaluate(config, workdir)
    count = 4 if config.self_training.num_steps else 3
    LOG.info("1/%d GAN: points, masks and images from photos", count)
    stages.train_gan(config, workdir)
    LOG.info("2/%d Segmenter: DeepLab on the GAN's images and masks", count)
    stages.train_segmenter(config, workdir)
    if config.self_training.num_steps:
        LOG.info("3/4 Self-training: the segmenter on photos and its own labels")
        self_training_stage.self_train(config, workdir)
    LOG.info("%d/%d Evaluation and report", count, count)
    return run.evaluate(config, workdir)
