"""The whole of few-shot segmentation, from a workdir and a folder of labels."""

import logging
import pathlib
import types
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from flax import linen as nn

from ganseg_jax import loading
from ganseg_jax.config import few_shot as schema
from ganseg_jax.config import file as config_file
from ganseg_jax.config import with_fields
from ganseg_jax.config.schema import STAGES
from ganseg_jax.data import pipeline as data
from ganseg_jax.errors import UserError
from ganseg_jax.fewshot import comparison, evaluate, pipeline
from ganseg_jax.fewshot import report as few_shot_report
from ganseg_jax.fewshot.labels import check_classes
from ganseg_jax.fewshot.source import LARGEST_MAP, Source
from ganseg_jax.files import resolve
from ganseg_jax.interop import torch_stylegan2, weights
from ganseg_jax.training import inputs, partition

LOG = logging.getLogger(__name__)


@partition.undisturbed()
def few_shot(
    workdir: epath.PathLike,
    labels: epath.PathLike,
    given: Mapping[str, Any] = types.MappingProxyType({}),
    *,
    preset: schema.Preset = "auto",
    output: str = "few_shot",
    generator: str | None = None,
    layers: Sequence[str] = (),
    shots: int | None = None,
    classes: Sequence[str] | None = None,
    class_map: Mapping[str, str] | None = None,
    keep: Collection[str] = (),
    retrain: Collection[str] = (),
) -> dict[str, float]:
    """Runs the stages that are not finished; writes `workdir / output`.

    Args:
      workdir: of a trained GAN; with `generator`, any folder.
      labels: folder of labelled generated images, labelled photos, or both.
      given: settings by dotted name, see `config.few_shot.FewShot`.
      preset: what all others are; see `config.few_shot.settings_for`. With "auto" a folder that is
        there keeps its own.
      output: name of the result's folder.
      generator: file of a StyleGAN2 checkpoint to use instead of the workdir's generator.
      layers: groups of layers (see `features.named_layers`); all by default.
      shots: number of labelled images to use; None for all.
      classes: names without the background; None takes them from the labels.
      class_map: class name -> name or number of the data set's part, to measure against.
      keep: stages ("head", "auto_shot") that stay as they are even if labels or generator change.
      retrain: stages that are trained again from the start.

    Returns:
      The figures measured on the data set's test photos; empty if they have no labels.

    Raises:
      UserError: something is missing or does not fit.
    """
    workdir = resolve(workdir)
    _check_output(output)
    if classes is not None:
        check_classes(classes)
    source, variables = load_source(workdir, generator, layers)
    chosen = _settings(workdir / output, source.image_size(variables), preset, given, retrain)
    few = pipeline.prepare(
        workdir / output,
        source,
        variables,
        labels,
        chosen,
        shots=shots,
        classes=classes,
        retrain=retrain,
    )
    if absent := few.absent:
        raise UserError(
            f"no label map in {labels} has a pixel of {' or '.join(absent)}: label some, or leave "
            "the class out of --classes"
        )
    _warn_of_conflicts(few)
    # Before the long stages, since names that do not fit are found here.
    photos, truth, dataset = _photos(workdir, few.labelled.classes, class_map)
    _say_how_long(few)
    taught = None
    if few.uses_head:
        params = pipeline.train_head(few, keep, retrain)
        taught = comparison.Taught(pipeline.label_samples(few, params), inputs.digest(params))
    found = comparison.compare(few, taught, keep, retrain)
    for line in found.lines():
        print(line)
    segmenter = comparison.train(
        few, taught, found.way, few.photos, few.folder, few.settings, keep, retrain
    )
    figures: dict[str, float] = {}
    if photos is not None and truth is not None:
        measured = evaluate.measure(segmenter, photos.images, truth, few.labelled.classes)
        figures = measured.figures() | {"num_images": measured.images}
    elif photos is not None and photos.segmentation is not None:
        LOG.info(
            "The parts of %s are none of these classes, so only the foreground is measured; "
            "--class_map=CLASS=PART says which is which",
            dataset,
        )
        figures = evaluate.foreground_figures(segmenter, photos)
    for name in sorted(figures.keys() - {"num_images"}):
        print(f"{name} = {figures[name]:.4f} (n = {figures['num_images']})")
    few_shot_report.write(few, segmenter, photos, truth, figures, taught, found, dataset)
    LOG.info("Report: %s", few.folder / "report.html")
    return figures


def _check_output(name: str) -> None:
    """Raises `UserError` if this is no name for a folder of results in a workdir."""
    taken = (*STAGES, "evaluation")
    if name in taken or pathlib.PurePath(name).parts != (name,) or name == "..":
        raise UserError(
            f"--output={name}: give a folder name of its own, such as few_shot; not "
            f"{', '.join(taken)}, and no path"
        )


def _settings(
    folder: epath.Path,
    image_size: int,
    preset: schema.Preset,
    given: Mapping[str, Any],
    retrain: Collection[str],
) -> schema.FewShot:
    """Returns the folder's own settings if it has some that are to stay, else the preset's.

    Raises:
      UserError: it has some, and a preset is given that has others.
    """
    new = {"head", "auto_shot"} <= set(retrain) or not loading.is_few_shot(folder)
    chosen = schema.settings_for(image_size, preset, given)
    if new:
        return chosen
    own = with_fields(loading.few_shot_config(folder)[0], dict(given))
    if preset != "auto" and chosen != own:
        raise UserError(
            f"--preset={preset} has other settings than {folder} was begun with: leave it out, or "
            "give another --output, or --retrain=head,auto_shot"
        )
    return own


def _warn_of_conflicts(few: pipeline.FewShot) -> None:
    """Says which classes only one of the two kinds of images shows."""
    if not few.uses_head or not few.photos:
        return
    if absent := few.labelled.absent:
        LOG.warning(
            "No generated image has a pixel of %s, so they teach these as background: label some, "
            "or take --photos=alone",
            " or ".join(absent),
        )


SOON = 100
"""Updates in all that need no word about how long they take."""


def _say_how_long(few: pipeline.FewShot) -> None:
    """Says at the start of new training how long each stage will take here."""
    if any((few.folder / name).exists() for name in ("head", "auto_shot", "comparison")):
        return  # Resumed: the progress lines say it.
    settings = few.settings
    per_epoch = settings.head.steps_per_epoch(len(few.labelled.names))
    if settings.head.epochs * per_epoch + settings.auto_shot.num_steps < SOON:
        return
    LOG.info("Measuring how long the stages will take ...")
    seconds = pipeline.expected_seconds(few)
    if checks := comparison.trainings(few):
        part = comparison.short(settings).auto_shot.num_steps / settings.auto_shot.num_steps
        seconds["measuring which labels help"] = checks * part * seconds["U-Net"]
    stages = ", ".join(f"{name} {_minutes(taken)}" for name, taken in seconds.items())
    LOG.info("About %s in all: %s.", _minutes(sum(seconds.values())), stages)


def _minutes(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _photos(
    workdir: epath.Path, classes: Sequence[str], class_map: Mapping[str, str] | None
) -> tuple[data.Split | None, np.ndarray | None, str]:
    """Returns the test photos of the workdir's data set, their labels if known, and its name."""
    if not (workdir / "config.json").exists():
        return None, None, "generated images"
    config = config_file.load_config(workdir)
    name, folder = config.dataset.name, config.dataset.data_dir
    try:
        photos = data.load_split(name, folder, "test", config.image_size)
    except UserError as error:  # Of no consequence for training.
        LOG.warning("Nothing will be measured: %s", error)
        return None, None, name
    truth = (
        None if photos.segmentation is None else evaluate.true_labels(photos, classes, class_map)
    )
    return photos, truth, name


def load_source(
    workdir: epath.PathLike, generator: str | None = None, layers: Sequence[str] = ()
) -> tuple[Source, Any]:
    """Returns the workdir's generator, or a StyleGAN2 checkpoint, as a source of features.

    Raises:
      UserError: it is missing or cannot be read, or has no such layers.
    """
    module: nn.Module
    if generator is None:
        module, variables = loading.load_generator(workdir)
    else:
        try:
            content = weights.read(generator)
        except UserError as error:
            raise UserError(f"--generator: {error}") from error
        try:
            module, variables = torch_stylegan2.load_generator(content)
        except UserError as error:
            raise UserError(f"--generator={generator}: {error}") from error
    try:
        source = Source.of(module, layers, max_size=LARGEST_MAP)
    except ValueError as error:
        raise UserError(f"--layers: {error}") from error
    return source, jax.device_put(variables)
