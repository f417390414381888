"""The whole job of one config: data, training, evaluation, report."""

import logging
from collections.abc import Callable, Collection, Sequence

from etils import epath

from ganseg_jax.config import Config
from ganseg_jax.files import resolve
from ganseg_jax.jobs import backgrounds, starts
from ganseg_jax.jobs.begin import begin, prepare_data
from ganseg_jax.jobs.evaluate import evaluate
from ganseg_jax.training import (
    autoencoder,
    gan,
    harness,
    inputs,
    partition,
    segmenter,
    self_training,
)
from ganseg_jax.training.stage import Stage

LOG = logging.getLogger(__name__)

TITLES = {
    "gan": "GAN: points, masks and images from photos",
    "segmenter": "Segmenter: DeepLab on the GAN's images and masks",
    "self_training": "Self-training: the segmenter on photos and its own labels",
    "autoencoder": "Auto-encoder: photos to masks and back",
}
"""What each stage does, by its name, in the order in which they are trained."""


def stages_of(config: Config, workdir: epath.PathLike) -> dict[str, Callable[[], Stage]]:
    """Returns what declares each stage of a config, by name, in order.

    A stage can be declared once those before it are trained.
    """
    if config.model.kind != "gan":
        return {"autoencoder": lambda: autoencoder.declare(config)}
    stages: dict[str, Callable[[], Stage]] = {
        "gan": lambda: gan.declare(config),
        "segmenter": lambda: segmenter.declare(config, workdir),
    }
    if config.self_training.num_steps:
        stages["self_training"] = lambda: self_training.declare(config, workdir)
    return stages


def run_all(
    config: Config,
    workdir: epath.PathLike,
    given: Collection[str] | None = None,
    keep: Collection[str] = (),
    retrain: Collection[str] = (),
) -> dict[str, float]:
    """Trains and measures; skips stages that have finished and resumes one that was cut off.

    Args:
      config: of the run.
      workdir: of the run.
      given: names of the fields that were given explicitly; see `config.file.adopt_workdir`.
      keep: names of stages that stay as they are even if what they were made from has changed.
      retrain: names of stages that are trained again from the start.

    Returns:
      The figures of `W/evaluation/metrics.json`.

    Raises:
      UserError: the config makes no sense or is another than the workdir was begun with, the data
        set is missing, or training cannot continue.
    """
    train_stages(config, workdir, None, given, keep, retrain)
    LOG.info("Evaluation and report")
    return evaluate(config, workdir)


@partition.undisturbed()
def train_stages(
    config: Config,
    workdir: epath.PathLike,
    names: Sequence[str] | None = None,
    given: Collection[str] | None = None,
    keep: Collection[str] = (),
    retrain: Collection[str] = (),
) -> None:
    """Trains some stages of a config, or all; arguments and errors are those of `run_all`."""
    begin(config, workdir, given, retrain)
    stages = stages_of(config, workdir)
    names = [name for name in stages if names is None or name in names]
    if set(names) != {"segmenter"}:  # It learns from generated images alone.
        prepare_data(config)
    if "gan" in names:
        if "gan" in retrain:
            starts.forget(workdir)
        stages = stages_of(starts.resolved(config, workdir), workdir)
    _record_inputs(stages, workdir)
    for number, name in enumerate(names, start=1):
        LOG.info("%d/%d %s", number, len(names), TITLES[name])
        harness.train(stages[name](), workdir, keep, retrain)
        if name == "segmenter":  # Self-training goes by it.
            backgrounds.settle(config, workdir)


def _record_inputs(stages: dict[str, Callable[[], Stage]], workdir: epath.PathLike) -> None:
    """Records the inputs of stages that an older version trained, before any of them changes."""
    for name, declare in stages.items():
        folder = resolve(workdir) / name
        if inputs.has_begun(folder) and inputs.recorded(folder) is None:
            inputs.record(declare(), folder)
