"""Converted checkpoints as workdirs, and the way back."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from etils import epath

from ganseg_jax import checkpoints as checkpoint
from ganseg_jax.config import file as config_file
from ganseg_jax.errors import UserError
from ganseg_jax.interop import torch_ganseg
from ganseg_jax.interop.conversion import StateDict, Variables, required_shape, strip_prefix
from ganseg_jax.models import build as settings
from ganseg_jax.models.discriminator import Discriminator
from ganseg_jax.training import gan, partition, segmenter, stages

# `class_name` of the published parameters to our builder and augmentation; any other is a folder.
DATASETS = {
    "celeba_wild": ("celeba_wild", "flip"),
    "cub": ("cub", "flip_crop"),
    "flower": ("flowers", "flip_crop"),
    "taichi": ("taichi", "flip"),
}
_FOLDER = ("image_folder", "flip")

# Names of hyperparameters of training, where they differ, with the config field that they set.
_TRAINING = {
    "batch_size": "gan.batch_size",
    "lr_gen": "gan.learning_rate_generator",
    "lr_disc": "gan.learning_rate_discriminator",
    "con_penalty_coef": "gan.concentration.weight",
    "area_penalty_coef": "gan.area.weight",
}


def import_gan(
    config: ml_collections.ConfigDict,
    content: Mapping[str, StateDict],
    hyperparameters: Mapping[str, Any],
    workdir: str,
) -> None:
    """Makes a published GAN the finished GAN stage of a new workdir.

    The optimisers start anew if it is trained further.

    Args:
      config: of the workdir, or the published settings for a new one; changed to those of the
        hyperparameters.
      content: {"generator", "discriminator"}, state_dicts.
      hyperparameters: the published `parameters.json`.
      workdir: where no GAN has been trained.

    Raises:
      UserError: something is missing or does not fit, or the workdir has a GAN or a segmenter of
        other parts already.
    """
    _check_empty(workdir, "gan")
    _, generator = torch_ganseg.load_generator(content["generator"], hyperparameters)
    module, discriminator = torch_ganseg.load_discriminator(content["discriminator"])
    before = config.model.num_parts
    configure(config, hyperparameters, module)
    if _begun(workdir, "segmenter"):
        _check_parts("GAN", config.model.num_parts, "segmenter", before, workdir)
    networks = settings.build_gan(config)
    state = gan.state_from_variables(networks, generator, discriminator)
    config_file.save_config(config, workdir)
    _save("gan", state, config.gan.num_steps, workdir)


def import_segmenter(
    config: ml_collections.ConfigDict, state_dict: Mapping[str, Any], workdir: str
) -> None:
    """Makes a published segmenter the finished segmenter stage of a workdir.

    Args:
      config: of the workdir, or the published settings for a new one; its classes, backbone and
        width are changed to the checkpoint's.
      state_dict: names to arrays.
      workdir: where no segmenter has been trained.

    Raises:
      UserError: it does not fit, or the workdir has a segmenter or a GAN of other parts already.
    """
    _check_empty(workdir, "segmenter")
    state_dict = strip_prefix(state_dict, "module.", "model.")
    parts = required_shape(state_dict, "classifier.4.bias", "segmenter")[0] - 1
    if _begun(workdir, "gan"):
        _check_parts("segmenter", parts, "GAN", config.model.num_parts, workdir)
    config.model.num_parts = parts
    kind, width = torch_ganseg.backbone_settings(state_dict, "backbone.", "segmenter")
    config.segmenter.backbone, config.segmenter.width = kind, width
    networks = settings.build_segmentation(config)
    _, variables = torch_ganseg.load_segmenter(state_dict, networks.segmenter)
    state = segmenter.state_from_variables(networks, variables)
    config_file.save_config(config, workdir)
    _save("segmenter", state, config.segmenter.num_steps, workdir)


def export_gan(workdir: str) -> tuple[dict[str, StateDict], dict[str, Any]]:
    """A workdir's GAN as the published code has it: state_dicts and `parameters.json`.

    Raises:
      UserError: there is no GAN, or it has a setting that the published code does not know.
    """
    config = config_file.load_config(workdir)
    networks = settings.build_gan(config)
    # Before the weights are read: it says what cannot be exported.
    hyperparameters = torch_ganseg.export_hyperparameters(networks.generator)
    like = gan.init_state(networks, config.seed)
    state = jax.device_get(stages.restore_state("gan", like, workdir))
    content = {
        "generator": torch_ganseg.export_generator(networks.generator, state.sampling_variables),
        "discriminator": torch_ganseg.export_discriminator(
            networks.discriminator, state.discriminator
        ),
    }
    names = {ours: theirs for theirs, (ours, _) in DATASETS.items()}
    hyperparameters |= {
        "smaller_init_mask": int(config.gan.area.form == "paper"),
        "class_name": names.get(config.dataset.name, "custom"),
    }
    for theirs, ours in _TRAINING.items():
        hyperparameters[theirs] = _get(config, ours)
    return content, hyperparameters


def export_segmenter(workdir: str) -> StateDict:
    """A workdir's segmenter as the published code has it.

    Raises:
      UserError: there is none.
    """
    config = config_file.load_config(workdir)
    module = settings.build_segmenter(config)
    return torch_ganseg.export_segmenter(module, stages.restore_segmenter(config, workdir))


def configure(
    config: ml_collections.ConfigDict,
    hyperparameters: Mapping[str, Any],
    discriminator: Discriminator,
) -> None:
    """Sets a config to the published hyperparameters; further training goes on with them."""
    fields = torch_ganseg.generator_settings(hyperparameters)
    sizes = fields.pop("stage_sizes")
    config.image_size = sizes[-1]
    config.model.stage_divisors = tuple(sizes[-1] // size for size in sizes)
    for name, value in fields.items():
        config.model[name] = value
    config.discriminator.channels = tuple(discriminator.channels)
    config.discriminator.hidden = discriminator.hidden
    name, augment = DATASETS.get(hyperparameters.get("class_name"), _FOLDER)
    config.dataset.name, config.dataset.augment = name, augment
    config.gan.area.form = torch_ganseg.area_form(hyperparameters)
    for theirs, ours in _TRAINING.items():
        if theirs in hyperparameters:
            _set(config, ours, hyperparameters[theirs])


def _save(stage: str, state: Any, step: int, workdir: str) -> None:
    state = state.replace(step=jnp.asarray(step, jnp.int32))
    whole = partition.replicated(partition.make_mesh(jax.local_devices()[:1]))
    checkpoints = checkpoint.Checkpoints(_folder(workdir, stage))
    checkpoints.save(step, partition.place(jax.tree.map(np.asarray, state), whole))
    checkpoints.close()


def _folder(workdir: str, stage: str) -> epath.Path:
    return epath.Path(workdir) / stage / "checkpoints"


def _begun(workdir: str, stage: str) -> bool:
    folder = _folder(workdir, stage)
    return folder.exists() and any(folder.iterdir())


def _check_empty(workdir: str, stage: str) -> None:
    if _begun(workdir, stage):
        raise UserError(f"{workdir} has a {stage} already: choose another --workdir")


def _check_parts(new: str, parts: int, old: str, old_parts: int, workdir: str) -> None:
    if parts != old_parts:
        raise UserError(
            f"the {new} has {parts} parts, but the {old} in {workdir} has {old_parts}: "
            "choose another --workdir"
        )


def _get(config: ml_collections.ConfigDict, field: str) -> Any:
    for name in field.split("."):
        config = config[name]
    return config


def _set(config: ml_collections.ConfigDict, field: str, value: Any) -> None:
    *sections, name = field.split(".")
    for section in sections:
        config = config[section]
    config[name] = type(config[name])(value)


def segmenter_from(content: Variables) -> Mapping[str, Any]:
    """The segmenter of a file: the published entry "detector", or the file itself."""
    nested = content.get("detector")
    if isinstance(nested, Mapping):
        return nested
    return strip_prefix(content, "detector.")
