"""The stages of few-shot segmentation in one folder F: head, samples, auto-shot network.

`F/head` and `F/auto_shot` hold checkpoints and `metrics.jsonl`, `F/samples` the generated images
with the head's labels.
"""

import dataclasses
import io
import json
import logging
import pathlib
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import linen as nn
from jaxtyping import Array, Float, UInt8

from ganseg_jax import files, prng
from ganseg_jax.config import few_shot as schema
from ganseg_jax.config.setting import flat, leaves
from ganseg_jax.errors import UserError, command
from ganseg_jax.fewshot import autoshot, train
from ganseg_jax.fewshot.features import Features
from ganseg_jax.fewshot.heads import kind_of, make_head, on_raw_features
from ganseg_jax.fewshot.labels import LabelSet, read_labels
from ganseg_jax.fewshot.photos import LabelledPhotos, split
from ganseg_jax.fewshot.samples import read_latents
from ganseg_jax.fewshot.source import Source
from ganseg_jax.files import resolve
from ganseg_jax.geometry import resize_bilinear
from ganseg_jax.loading import few_shot_config
from ganseg_jax.pixels import to_uint8
from ganseg_jax.segmenter import Segmenter
from ganseg_jax.training import harness, inputs, partition
from ganseg_jax.training.stage import Stage

LOG = logging.getLogger(__name__)

CHUNK = 10
"""Images that are generated, or whose features are made, in one call."""


@dataclasses.dataclass(frozen=True)
class FewShot:
    """Holds what the stages work on.

    Attributes:
      folder: F.
      source: generator and layers.
      variables: the generator's.
      labelled: label maps of some of the generated images, perhaps of none.
      latents: of these images; None if there are none.
      settings: see `config.few_shot.FewShot`.
      photos: labelled real photos, perhaps none.
    """

    folder: epath.Path
    source: Source
    variables: Any
    labelled: LabelSet
    latents: Any
    settings: schema.FewShot
    photos: LabelledPhotos

    @property
    def uses_head(self) -> bool:
        """Says whether generated images teach something."""
        alone = len(self.photos) > 0 and self.settings.photos.use == "alone"
        return bool(self.labelled.names) and not alone

    @property
    def absent(self) -> list[str]:
        """Returns the classes that no pixel is labelled with: nothing can learn them."""
        return [name for name in self.labelled.absent if name in self.lacking]

    @property
    def lacking(self) -> list[str]:
        """Returns the classes that no pixel of a photo is labelled with."""
        named = enumerate(self.labelled.classes)
        return [name for i, name in named if i and not (self.photos.labels == i).any()]

    @property
    def head(self) -> nn.Module:
        """Returns the network from features to logits."""
        return make_head(
            kind_of(self.settings), len(self.labelled.classes), self.settings.mlp_hidden
        )


@partition.undisturbed()
def prepare(
    folder: epath.PathLike,
    source: Source,
    variables: Any,
    labels: epath.PathLike,
    settings: schema.FewShot,
    *,
    shots: int | None = None,
    classes: Sequence[str] | None = None,
    retrain: Collection[str] = (),
) -> FewShot:
    """Reads labels and latents, and keeps the settings in the folder.

    Args:
      folder: F; an unfinished or finished run there is resumed.
      source: the generator that made the labelled images.
      variables: its variables.
      labels: folder with images of `samples.write_samples`, photos, or both, and label maps (see
        `labels`).
      settings: of few-shot segmentation.
      shots: number of labelled images to use; None for all.
      classes: names without the background; None takes them from the labels.
      retrain: stages that are about to be trained again, whose settings may change.

    Raises:
      UserError: the labels do not fit, or F was begun with other settings.
    """
    folder = resolve(folder)
    size = source.image_size(variables)
    read = read_labels(labels, classes, shots, side=size)
    labelled, photos = split(labels, read, size)
    for line in read.summary():
        LOG.info(line)
    LOG.info("%d of them generated, %d photos", len(labelled.names), len(photos))
    if settings.photos.use == "together" and photos.names and not labelled.names:
        raise UserError(
            f"photos.use=together, but {labels} has no labelled generated image: label some of "
            f"`{command('sample')} --for_labelling=10`, or leave it out"
        )
    latents = read_latents(labels, labelled.names) if labelled.names else None
    content = {
        **dataclasses.asdict(settings),
        "classes": labelled.classes,
        "images": labelled.names,
        "photos_used": photos.names,
        "layers": [layer.path for layer in source.layers],
        "image_size": size,
    }
    _check_settings(folder / "config.json", settings, content["layers"], retrain)
    files.write_json(folder / "config.json", content)
    return FewShot(folder, source, variables, labelled, latents, settings, photos)


def _check_settings(
    path: epath.Path, settings: schema.FewShot, layers: list[str], retrain: Collection[str]
) -> None:
    """Raises `UserError` if the folder was begun with another setting that decides its result."""
    if not path.exists() or {"head", "auto_shot"} <= set(retrain):
        return
    before, _ = few_shot_config(path.parent)
    old, new = flat(before), flat(settings)
    old["layers"], new["layers"] = json.loads(path.read_text()).get("layers", layers), layers
    known = leaves(schema.FewShot)
    for name, value in new.items():
        free = name in known and known[name].setting.change == "anytime"
        if old[name] != value and not free:
            raise UserError(
                f"{path.parent} was begun with {name}={old[name]}, now it is {value}: give the "
                "same, another --output, or --retrain=head,auto_shot"
            )


@partition.undisturbed()
def labelled_features(few: FewShot) -> Features:
    """Returns the features of the labelled images, [N, h, w, C] each, on the device."""

    @jax.jit
    def features_of(variables: Any, latents: Any) -> Features:
        return few.source.generate(variables, latents)[1]

    # One image at a time: the generator's other activations are larger than its features. And the
    # program is the same for any number of images.
    made = [
        features_of(few.variables, jax.tree.map(lambda x, i=i: x[i : i + 1], few.latents))
        for i in range(len(few.labelled.names))
    ]
    return tuple(jnp.concatenate(maps) for maps in zip(*made, strict=True))


@partition.undisturbed()
def head_stage(few: FewShot) -> Stage:
    """Returns the stage that trains the head on the labelled images."""
    labelled, settings = few.labelled, few.settings
    made_from = {
        "labels": inputs.digest((labelled.labels, labelled.names, labelled.classes)),
        "latents": inputs.digest(few.latents),
        "generator": inputs.digest(few.variables),
        "settings": flat(settings.head) | {"kind": settings.head_kind},
    }
    return train.declare(settings, few.head, labelled_features(few), labelled.labels, made_from)


@partition.undisturbed()
def train_head(few: FewShot, keep: Collection[str] = (), retrain: Collection[str] = ()) -> Any:
    """Trains the head, or resumes; returns its parameters, for raw features, on the host."""
    state = jax.device_get(harness.train(head_stage(few), few.folder, keep, retrain))
    return jax.device_get(on_raw_features(kind_of(few.settings), state.params, state.statistics))


@partition.undisturbed()
def expected_seconds(few: FewShot) -> dict[str, float]:
    """Measures, by a few updates of each, how long the stages will take here; trains nothing.

    Returns:
      Seconds of head and samples, if there is a head, and of the U-Net, compilation aside.
    """
    chosen = few.settings.auto_shot
    size, classes = few.labelled.labels.shape[1], len(few.labelled.classes)
    images, labels = (
        np.zeros((chosen.batch_size, size, size, channels), np.uint8) for channels in (3, classes)
    )
    network = autoshot.declare(few.settings, images, labels)
    unet = {"U-Net": network.schedule.num_steps * harness.seconds_per_update(network)}
    if not few.uses_head:
        return unet
    head = head_stage(few)
    params = jax.tree.map(jnp.asarray, head.init().params)
    make, key = _sampler(few), prng.root_key(0)
    jax.block_until_ready(make(params, few.variables, key))
    start = time.perf_counter()
    jax.block_until_ready(make(params, few.variables, key))
    chunk = time.perf_counter() - start
    return {
        "head": head.schedule.num_steps * harness.seconds_per_update(head),
        "samples": chosen.num_samples / CHUNK * chunk,
        **unet,
    }


def head_probabilities(
    few: FewShot, params: Any, variables: Any, latents: Any
) -> tuple[Float[Array, "b s s 3"], Float[Array, "b s s c"]]:
    """Returns images in [-1, 1] and the head's class probabilities."""
    images, features = few.source.generate(variables, latents)
    logits: Any = few.head.apply({"params": params}, features)
    return images, jax.nn.softmax(resize_bilinear(logits, *images.shape[1:3]))


@partition.undisturbed()
def label_samples(
    few: FewShot, params: Any
) -> tuple[UInt8[np.ndarray, "n s s 3"], UInt8[np.ndarray, "n s s c"]]:
    """Makes the auto-shot training set: images, and the head's probabilities times 255.

    It is kept in `F/samples`, and made again if the head or the generator has changed. On a disk
    the arrays are memory maps of these files.
    """
    folder, chosen = few.folder / "samples", few.settings.auto_shot
    paths = (folder / "images.npy", folder / "labels.npy")
    made_from = {
        "head": inputs.digest(params),
        "generator": inputs.digest(few.variables),
        "count": chosen.num_samples,
        "seed": chosen.seed,
    }
    there = all(path.exists() for path in paths)
    if there and (inputs.recorded(folder) or made_from) == made_from:
        files.write_json(folder / inputs.FILE, made_from)
        return _opened(paths)
    with files.replacing(paths[0]) as images, files.replacing(paths[1]) as labels:
        _write_samples(few, params, images, labels)
    files.write_json(folder / inputs.FILE, made_from)
    return _opened(paths)


def _sampler(few: FewShot) -> Callable[[Any, Any, jax.Array], tuple[jax.Array, jax.Array]]:
    """Returns what makes `CHUNK` images and the head's probabilities times 255, compiled."""

    @jax.jit
    def make(params: Any, variables: Any, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        latents = few.source.sample(variables, key, CHUNK)
        made, probabilities = head_probabilities(few, params, variables, latents)
        return to_uint8(made), jnp.round(probabilities * 255).astype(jnp.uint8)

    return make


def _write_samples(few: FewShot, params: Any, images: pathlib.Path, labels: pathlib.Path) -> None:
    count, size = few.settings.auto_shot.num_samples, few.labelled.labels.shape[1]
    arrays = [
        np.lib.format.open_memmap(
            path, mode="w+", dtype=np.uint8, shape=(count, size, size, channels)
        )
        for path, channels in ((images, 3), (labels, len(few.labelled.classes)))
    ]

    make = _sampler(few)
    root = prng.stream(prng.root_key(few.settings.auto_shot.seed), "samples")
    for start in range(0, count, CHUNK):
        made = make(params, few.variables, jax.random.fold_in(root, start))
        for array, values in zip(arrays, made, strict=True):
            array[start : start + CHUNK] = np.asarray(values)[: count - start]
        if (start // CHUNK) % 50 == 0:
            LOG.info("samples: %d of %d", min(start + CHUNK, count), count)
    for array in arrays:
        array.flush()


def _opened(paths: Sequence[epath.Path]) -> tuple[np.ndarray, np.ndarray]:
    images, labels = (
        np.load(io.BytesIO(path.read_bytes()))
        if files.is_remote(path)
        else np.load(path, mmap_mode="r")
        for path in paths
    )
    return images, labels


@partition.undisturbed()
def train_auto_shot(
    folder: epath.PathLike,
    images: UInt8[np.ndarray, "n s s 3"],
    labels: UInt8[np.ndarray, "n s s c"],
    settings: schema.FewShot,
    classes: Sequence[str] | None = None,
    *,
    photos: autoshot.Photos | None = None,
    made_from: Any = None,
    keep: Collection[str] = (),
    retrain: Collection[str] = (),
) -> Segmenter:
    """Trains the U-Net on labelled images, or resumes.

    Args:
      folder: `folder / "auto_shot"` gets checkpoints and metrics.
      images: the training set.
      labels: probabilities of the classes times 255.
      settings: of few-shot segmentation.
      classes: names, background first, for the segmenter.
      photos: labelled photos to learn from beside these images.
      made_from: what the training set is made from; see `training.inputs`.
      keep: see `harness.train`.
      retrain: see `harness.train`.
    """
    stage = autoshot.declare(settings, images, labels, made_from, photos)
    state = jax.device_get(harness.train(stage, folder, keep, retrain))
    network = autoshot.network_of(settings, labels.shape[-1])
    return Segmenter(network, state.variables, image_size=images.shape[1], classes=classes)
