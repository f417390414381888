"""The whole job of one config: data, training, evaluation, report."""

import logging
from collections.abc import Collection

from ganseg_jax.config import Config
from ganseg_jax.jobs import evaluate as run
from ganseg_jax.jobs.begin import begin
from ganseg_jax.training import autoencoder_stage, self_training_stage, stages

LOG = logging.getLogger(__name__)


def run_all(
    config: Config,
    workdir: str,
    given: Collection[str] | None = None,
    retrain: Collection[str] = (),
) -> dict[str, float]:
    """Trains and measures; finished stages are skipped, one that was cut off goes on.

    Returns:
      The figures of `W/evaluation/metrics.json`.

    Raises:
      UserError: where the config makes no sense or is another than the workdir was begun with,
        the data set is missing, or training cannot go on.
    """
    begin(config, workdir, given, retrain)
    if config.model.kind != "gan":
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
