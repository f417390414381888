"""The stages of few-shot segmentation in one folder: head, auto-shot, evaluation.

`F/head` and `F/auto_shot` hold checkpoints and `metrics.jsonl`, `F/samples` the generated images
with the head's labels, `F/metrics.json` and `F/report.html` what was measured.
"""

import dataclasses
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grain.python as grain
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from ganseg_jax import prng
from ganseg_jax.config import few_shot as schema
from ganseg_jax.errors import UserError
from ganseg_jax.fewshot import autoshot, train
from ganseg_jax.fewshot.features import Features, largest, standardize
from ganseg_jax.fewshot.features import statistics as feature_statistics
from ganseg_jax.fewshot.heads import make_head, on_raw_features
from ganseg_jax.fewshot.labels import LabelSet, read_labels
from ganseg_jax.fewshot.samples import read_latents
from ganseg_jax.fewshot.source import Source, to_uint8
from ganseg_jax.files import write_whole
from ganseg_jax.geometry import resize_bilinear
from ganseg_jax.loading import Segmenter
from ganseg_jax.models.unet import UNet
from ganseg_jax.training import loop

LOG = logging.getLogger(__name__)

# Images that are generated, or whose features are made, in one call.
CHUNK = 10


@dataclasses.dataclass(frozen=True)
class FewShot:
    """What the stages work on.

    Attributes:
      folder: F.
      source: generator and layers.
      variables: the generator's.
      labelled: label maps of some of the generated images.
      latents: of these images.
      settings: see `config.few_shot.FewShot`.
    """

    folder: Path
    source: Source
    variables: Any
    labelled: LabelSet
    latents: Any
    settings: schema.FewShot

    @property
    def head(self) -> nn.Module:
        """The network from features to logits."""
        return make_head(
            self.settings.head_kind, len(self.labelled.classes), self.settings.mlp_hidden
        )


def prepare(
    folder: str | Path,
    source: Source,
    variables: Any,
    labels: str | Path,
    settings: schema.FewShot,
    *,
    shots: int | None = None,
    classes: list[str] | None = None,
) -> FewShot:
    """Reads labels and latents, and remembers the settings in the folder.

    Args:
      folder: F; an unfinished or finished run there is gone on with.
      source: the generator that made the labelled images.
      variables: its variables.
      labels: folder of `samples.write_samples` with label maps (see `labels`).
      settings: see `config.few_shot.FewShot`.
      shots: number of labelled images to use; None for all.
      classes: names without the background; None takes them from the labels.

    Raises:
      UserError: the labels do not fit, or F was begun with other settings or labels.
    """
    folder = Path(folder)
    labelled = read_labels(labels, classes, shots)
    latents = read_latents(labels, labelled.names)
    size = jax.eval_shape(source.images, variables, latents).shape[1:3]
    if labelled.labels.shape[1:] != size:
        raise UserError(
            f"the images in {labels} are {labelled.labels.shape[2]}x{labelled.labels.shape[1]}, "
            f"but this generator makes {size[1]}x{size[0]}"
        )
    content = {
        **dataclasses.asdict(settings),
        "classes": labelled.classes,
        "images": labelled.names,
        "layers": [layer.path for layer in source.layers],
        "image_size": size[0],
    }
    remember(folder / "config.json", json.loads(json.dumps(content)))
    return FewShot(folder, source, variables, labelled, latents, settings)


def remember(path: Path, content: dict[str, Any]) -> None:
    """Writes the config, or compares it with the one that is there."""
    if not path.exists():
        write_whole(path, json.dumps(content, indent=2) + "\n")
        return
    for field, value in json.loads(path.read_text()).items():
        if content.get(field) != value:
            raise UserError(
                f"{path.parent} was begun with {field}={value}, now it is {content.get(field)}; "
                "give the same, or another --output"
            )


def labelled_features(few: FewShot) -> Features:
    """Features of the labelled images, [N, h, w, C] each, on the device."""

    @jax.jit
    def features_of(variables, latents):
        return few.source.generate(variables, latents)[1]

    # One image at a time: the generator's other activations are larger than its features. And the
    # program is the same for any number of images.
    made = [
        features_of(few.variables, jax.tree.map(lambda x, i=i: x[i : i + 1], few.latents))
        for i in range(len(few.labelled.names))
    ]
    return tuple(jnp.concatenate(maps) for maps in zip(*made, strict=True))


def train_head(few: FewShot) -> Any:
    """The head's parameters, trained or from where training was cut off, for raw features."""
    settings = few.settings.head
    features = labelled_features(few)
    statistics = None
    if settings.standardize:
        statistics = jax.jit(feature_statistics)(features)
        features = jax.jit(standardize, donate_argnums=0)(features, statistics)
    labels = jnp.asarray(train.resize_labels(few.labelled.labels, largest(features)), jnp.int32)
    optimizer = train.make_optimizer(settings, len(labels))
    order_key = prng.stream(prng.root_key(settings.seed), "order")

    def step(state, _):
        state, loss = train.train_step(few.head, optimizer, state, features, labels, order_key)
        return state, {"loss": loss}

    stage = loop.Stage(
        name="head",
        num_steps=settings.epochs * len(labels),
        checkpoint_every=few.settings.checkpoint_every,
        log_every=few.settings.log_every,
        sample_every=few.settings.checkpoint_every,
        step=step,
        state=train.init_state(few.head, optimizer, features, settings.seed, statistics),
    )
    state = loop.run(stage, few.folder)
    return on_raw_features(few.settings.head_kind, state.params, state.statistics)


def head_probabilities(
    few: FewShot, params: Any, variables: Any, latents: Any
) -> tuple[jax.Array, jax.Array]:
    """Images [B, S, S, 3] in [-1, 1] and the head's class probabilities [B, S, S, C]."""
    images, features = few.source.generate(variables, latents)
    logits = few.head.apply({"params": params}, features)
    return images, jax.nn.softmax(resize_bilinear(logits, *images.shape[1:3]))


def label_samples(few: FewShot, params: Any) -> tuple[np.ndarray, np.ndarray]:
    """The auto-shot training set: images, and the head's probabilities times 255, uint8.

    Made once and kept in `F/samples`; the arrays are memory maps of these files.
    """
    folder = few.folder / "samples"
    count = few.settings.auto_shot.num_samples
    paths = [folder / "images.npy", folder / "labels.npy"]
    if all(path.exists() for path in paths):
        return tuple(np.load(path, mmap_mode="r") for path in paths)
    folder.mkdir(parents=True, exist_ok=True)
    size = few.labelled.labels.shape[1]
    shapes = [(count, size, size, 3), (count, size, size, len(few.labelled.classes))]
    partial = [path.with_name(f".{path.stem}.partial.npy") for path in paths]
    arrays = [
        np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
        for path, shape in zip(partial, shapes, strict=True)
    ]

    @jax.jit
    def make(params, variables, key):
        latents = few.source.sample(variables, key, CHUNK)
        images, probabilities = head_probabilities(few, params, variables, latents)
        return to_uint8(images), jnp.round(probabilities * 255).astype(jnp.uint8)

    root = prng.stream(prng.root_key(few.settings.auto_shot.seed), "samples")
    for start in range(0, count, CHUNK):
        made = make(params, few.variables, jax.random.fold_in(root, start))
        for array, values in zip(arrays, made, strict=True):
            array[start : start + CHUNK] = np.asarray(values)[: count - start]
        if (start // CHUNK) % 50 == 0:
            LOG.info("samples: %d of %d", min(start + CHUNK, count), count)
    for array, source, target in zip(arrays, partial, paths, strict=True):
        array.flush()
        source.replace(target)
    return tuple(np.load(path, mmap_mode="r") for path in paths)


class _Samples:
    """Random access for Grain."""

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        self._images, self._labels = images, labels

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return {"image": np.array(self._images[index]), "label": np.array(self._labels[index])}


def sample_batches(images: np.ndarray, labels: np.ndarray, batch_size: int, seed: int) -> Any:
    """Endless batches {'image', 'label'}, reshuffled every epoch, whose position can be saved."""
    dataset = grain.MapDataset.source(_Samples(images, labels)).seed(seed).shuffle().repeat()
    return iter(dataset.batch(batch_size, drop_remainder=True).to_iter_dataset())


def train_auto_shot(
    folder: Path,
    images: np.ndarray,
    labels: np.ndarray,
    settings: schema.FewShot,
    classes: Sequence[str] | None = None,
) -> Segmenter:
    """Trains the U-Net on labelled images, or goes on with it.

    Args:
      folder: `folder / "auto_shot"` gets checkpoints and metrics.
      images: uint8 [N, S, S, 3].
      labels: uint8 [N, S, S, C], probabilities times 255.
      settings: see `config.few_shot.FewShot`; `auto_shot.num_samples` alone decides how many
        updates the learning rate's schedule takes for an epoch.
      classes: names, background first, for the segmenter.
    """
    network = UNet(labels.shape[-1], settings.unet_width, settings.unet_depth)
    chosen = settings.auto_shot

    def step(state, batch):
        state, loss = autoshot.train_step(network, chosen, state, batch["image"], batch["label"])
        return state, {"loss": loss}

    stage = loop.Stage(
        name="auto_shot",
        num_steps=chosen.num_steps,
        checkpoint_every=settings.checkpoint_every,
        log_every=settings.log_every,
        sample_every=settings.checkpoint_every,
        step=step,
        state=autoshot.init_state(network, images.shape[1], chosen),
        data=sample_batches(images, labels, chosen.batch_size, chosen.seed),
    )
    state = loop.run(stage, folder)
    return Segmenter(network, state.variables, image_size=images.shape[1], classes=classes)
