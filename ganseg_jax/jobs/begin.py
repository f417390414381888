"""The beginning of every run: a sound config, adopted by its workdir."""

import logging
from collections.abc import Collection

import jax
from etils import epath

from ganseg_jax.config import Config
from ganseg_jax.config import file as config_file
from ganseg_jax.config.convert import checked
from ganseg_jax.data import prepare
from ganseg_jax.evaluation import backbone, dino, inception
from ganseg_jax.files import resolve
from ganseg_jax.models.build import check_networks
from ganseg_jax.training import augmentation, gan, inputs, measured, partition, segmenter

LOG = logging.getLogger(__name__)


def check(config: Config) -> None:
    """Checks a config as far as that is possible before anything is written.

    A mistake in the last stage's settings must not come to light after hours of the first.

    Raises:
      UserError: naming the first field, of whatever stage, that makes no sense.
    """
    checked(config)
    augmentation.changes_of(config.gan.discriminator_augment)
    check_networks(config)
    measured.check_keep_best(config)
    if config.evaluation.protocols:
        from ganseg_jax.evaluation import protocols  # Slow to import.

        protocols.chosen_protocols(config.evaluation.protocols, config.dataset.name)


def _check_weights(config: Config, workdir: epath.PathLike) -> None:
    """Raises `UserError` for given weights that are missing, damaged, or of another network."""
    if config.model.kind == "gan" and not inputs.has_begun(resolve(workdir) / "segmenter"):
        segmenter.check_backbone(config)
        segmenter.check_start(config)
    if config.model.kind == "gan" and not inputs.has_begun(resolve(workdir) / "gan"):
        gan.check_start(config)
    if config.evaluation.backbone_checkpoint:
        backbone.load_feature_maps(config)
    if config.evaluation.dino_checkpoint:
        dino.load_patch_features(config)
    if config.evaluation.inception_checkpoint:
        inception.load_network(config)


def begin(
    config: Config,
    workdir: epath.PathLike,
    given: Collection[str] | None = None,
    retrain: Collection[str] = (),
) -> None:
    """Checks a config and has the workdir adopt it; see `config.file.adopt_workdir`."""
    check(config)
    _check_weights(config, workdir)
    config_file.adopt_workdir(config, workdir, given, retrain)


def prepare_data(config: Config) -> None:
    """Prepares the config's data set if that needs nothing but `dataset.source`.

    Raises:
      UserError: it is not prepared and no source is given.
    """
    dataset = config.dataset
    if jax.process_index() == 0:
        prepared = prepare.prepare(
            dataset.name,
            dataset.source or None,
            dataset.data_dir,
            progress=True,
            max_megapixels=dataset.max_megapixels,
        )
        if not prepared.already:
            for line in prepared.report():
                LOG.info("%s", line)
            LOG.info("%s", prepared)
    partition.wait_for_all("data prepared")
