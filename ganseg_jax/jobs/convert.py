"""Converted checkpoints as workdirs, and the way back."""

import json
import logging
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from ganseg_jax import loading
from ganseg_jax.config import Config, flat, with_fields
from ganseg_jax.config import file as config_file
from ganseg_jax.errors import UserError
from ganseg_jax.files import resolve
from ganseg_jax.interop import torch_ganseg
from ganseg_jax.interop.conversion import (
    StateDict,
    Variables,
    required_shape,
    strip_prefix,
    unwrapped,
)
from ganseg_jax.models.build import build_segmenter
from ganseg_jax.models.discriminator import Discriminator
from ganseg_jax.training import gan, partition, segmenter
from ganseg_jax.training.checkpoint import Checkpoints

LOG = logging.getLogger(__name__)

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
    config: Config,
    content: Mapping[str, StateDict],
    hyperparameters: Mapping[str, Any],
    workdir: str,
) -> None:
    """Makes a published GAN the finished GAN stage of a new workdir.

    The optimisers start again if it is trained further.

    Args:
      config: of the workdir, or the published settings for a new one; the hyperparameters go
        before it.
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
    config = configured(config, hyperparameters, module)
    if _begun(workdir, "segmenter"):
        _check_parts("GAN", config.model.num_parts, "segmenter", before, workdir)
    networks = gan.Gan.of(config)
    state = gan.state_from_variables(networks, generator, discriminator)
    config_file.save_config(config, workdir)
    _save("gan", state, config.gan.num_steps, workdir)


def import_segmenter(config: Config, state_dict: Mapping[str, Any], workdir: str) -> None:
    """Makes a published segmenter the finished segmenter stage of a workdir.

    Args:
      config: of the workdir, or the published settings for a new one; the checkpoint's classes,
        backbone and width go before it.
      state_dict: names to arrays.
      workdir: where no segmenter has been trained.

    Raises:
      UserError: it does not fit, or the workdir has a segmenter or a GAN of other parts already.
    """
    _check_empty(workdir, "segmenter")
    state_dict = strip_prefix(unwrapped(state_dict), "model.")
    parts = required_shape(state_dict, "classifier.4.bias", "segmenter")[0] - 1
    if _begun(workdir, "gan"):
        _check_parts("segmenter", parts, "GAN", config.model.num_parts, workdir)
    kind, width = torch_ganseg.backbone_settings(state_dict, "backbone.", "segmenter")
    fields = {"model.num_parts": parts, "segmenter.backbone": kind, "segmenter.width": width}
    config = with_fields(config, fields)
    networks = segmenter.Segmentation.of(config)
    _, variables = torch_ganseg.load_segmenter(state_dict, networks.segmenter)
    state = segmenter.state_from_variables(networks, variables)
    config_file.save_config(config, workdir)
    _save("segmenter", state, config.segmenter.num_steps, workdir)


def export_gan(workdir: str) -> tuple[dict[str, StateDict], dict[str, Any]]:
    """Returns a workdir's GAN as the published code has it: state_dicts and `parameters.json`.

    Raises:
      UserError: there is no GAN, or it has a setting that the published code does not know.
    """
    config = config_file.load_config(workdir)
    networks = gan.Gan.of(config)
    # Before the weights are read: it says what cannot be exported.
    hyperparameters = torch_ganseg.export_hyperparameters(networks.generator)
    generator = loading.restore_generator(config, workdir)
    _, images = gan.example_inputs(networks)
    like = jax.eval_shape(lambda x: networks.discriminator.init(jax.random.key(0), x), images)
    discriminator = loading.restore(workdir, "gan", "discriminator", like)
    content = {
        "generator": torch_ganseg.export_generator(networks.generator, generator),
        "discriminator": torch_ganseg.export_discriminator(networks.discriminator, discriminator),
    }
    names = {ours: theirs for theirs, (ours, _) in DATASETS.items()}
    name = names.get(config.dataset.name, "custom")
    published = torch_ganseg.published_class(name, networks.generator, content["generator"])
    if published is None:
        LOG.warning(
            "The published code, as it stands, builds no generator for these weights (class_name "
            "%r): its stages are fixed, or its hidden layers share weights that differ here.",
            name,
        )
    hyperparameters |= {
        "smaller_init_mask": int(config.gan.area.form == "paper"),
        "class_name": published or name,
    }
    values = flat(config)
    hyperparameters |= {theirs: values[ours] for theirs, ours in _TRAINING.items()}
    return content, hyperparameters


def export_segmenter(workdir: str) -> StateDict:
    """Returns a workdir's segmenter as the published code has it.

    Raises:
      UserError: there is none.
    """
    config = config_file.load_config(workdir)
    module = build_segmenter(config)
    return torch_ganseg.export_segmenter(module, loading.restore_segmenter(config, workdir))


def configured(
    config: Config, hyperparameters: Mapping[str, Any], discriminator: Discriminator
) -> Config:
    """Returns the config with the published hyperparameters, with which training resumes."""
    fields = torch_ganseg.generator_settings(hyperparameters)
    sizes = fields.pop("stage_sizes")
    name, augment = DATASETS.get(str(hyperparameters.get("class_name")), _FOLDER)
    changed = {f"model.{field}": value for field, value in fields.items()} | {
        "image_size": sizes[-1],
        "model.stage_divisors": tuple(sizes[-1] // size for size in sizes),
        "model.part_scale": str(fields["part_scale"]),
        "model.stage_channels": tuple(fields["stage_channels"]),
        "discriminator.channels": tuple(discriminator.channels),
        "discriminator.hidden": discriminator.hidden,
        "dataset.name": name,
        "dataset.augment": augment,
        "gan.area.form": torch_ganseg.area_form(hyperparameters),
    }
    before = flat(config)
    for theirs, ours in _TRAINING.items():
        if theirs in hyperparameters:
            kind = type(before[ours])
            try:
                changed[ours] = kind(float(hyperparameters[theirs]))
                if changed[ours] != float(hyperparameters[theirs]):
                    raise ValueError
            except (TypeError, ValueError, OverflowError):
                raise UserError(
                    f"parameters: {theirs} must be a number, not {hyperparameters[theirs]!r}"
                ) from None
    return with_fields(config, changed)


def _save(stage: str, state: Any, step: int, workdir: str) -> None:
    state = state.replace(step=jnp.asarray(step, jnp.int32))
    whole = partition.replicated(partition.make_mesh(jax.local_devices()[:1]))
    checkpoints = Checkpoints(_folder(workdir, stage))
    checkpoints.save(step, partition.place(jax.tree.map(np.asarray, state), whole))
    checkpoints.close()


def _folder(workdir: str, stage: str) -> epath.Path:
    return resolve(workdir) / stage / "checkpoints"


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


def segmenter_from(content: Variables) -> Mapping[str, Any]:
    """Returns the segmenter of a file: the published entry "detector", or the file itself."""
    nested = content.get("detector")
    if isinstance(nested, Mapping):
        return nested
    return strip_prefix(content, "detector.")


def read_parameters(path: epath.PathLike) -> dict[str, Any]:
    """Reads a published `parameters.json`.

    Raises:
      UserError: it cannot be read, or does not hold named hyperparameters.
    """
    try:
        content = json.loads(
            resolve(path).read_bytes().decode("utf-8-sig")
        )  # Some editors put a mark first.
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as parameters.json: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold named hyperparameters")
    return content
