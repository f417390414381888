"""How many labels few-shot segmentation saves: the curve of CVPR 2021's Figure 6.

The same U-Net, with the same training, learns from generated images that a head labelled, after
one to ten labels, and from labelled real photos. The labels of generated images are a person's, or
with puppets made by rule (see `puppet_labels`).
"""

import dataclasses
import functools
import io
import json
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from etils import epath
from jaxtyping import Int, UInt8

from ganseg_jax import files
from ganseg_jax.config import Config
from ganseg_jax.config import few_shot as schema
from ganseg_jax.config import file as config_file
from ganseg_jax.data import pipeline as data
from ganseg_jax.errors import UserError
from ganseg_jax.fewshot import autoshot, evaluate, pipeline
from ganseg_jax.fewshot.labels import read_labels
from ganseg_jax.fewshot.source import Source
from ganseg_jax.files import resolve, write_whole
from ganseg_jax.jobs import few_shot as run
from ganseg_jax.pixels import UNLABELLED
from ganseg_jax.segmenter import Segmenter
from ganseg_jax.studies import few_shot_report as study_report
from ganseg_jax.studies.puppet_labels import CLASSES, label_by_hue
from ganseg_jax.studies.puppet_labels import labelled as by_rule

LOG = logging.getLogger(__name__)

FEW_SHOT, SUPERVISED, MIXED = "few-shot", "supervised", "mixed"
SHOWN = 16


@dataclasses.dataclass(frozen=True)
class StudySettings:
    """Holds everything that decides the figures.

    Attributes:
      shots: numbers of labelled generated images.
      supervised: numbers of labelled real photos.
      mixed: numbers of labelled real photos, used together with as many labelled generated images.
      photo_share: part of the images that are photos if they are used together.
      seeds: of all random choices; each has other labelled photos, and puppets made for it.
      head_kind: "cnn" or "mlp".
      mlp_hidden: channels of the MLP's hidden layers.
      layers: groups of the generator's layers that are the features.
      head_steps: updates of the head, however many images are labelled.
      num_samples: generated images that the U-Net learns from.
      num_steps: updates of every U-Net.
      batch_size: images in each.
      learning_rate: of the U-Nets.
      unet_width: channels at full size.
      unet_depth: halvings.
    """

    shots: tuple[int, ...] = (1, 5, 10)
    supervised: tuple[int, ...] = (1, 10, 100, 500)
    mixed: tuple[int, ...] = ()
    photo_share: float = schema.Photos.share
    seeds: tuple[int, ...] = (0,)
    head_kind: Literal["cnn", "mlp"] = "mlp"
    mlp_hidden: tuple[int, ...] = (128, 64)
    layers: tuple[str, ...] = ("mask", "foreground")
    head_steps: int = 400
    num_samples: int = 640
    num_steps: int = 450
    batch_size: int = 8
    learning_rate: float = 3e-3
    unet_width: int = 12
    unet_depth: int = 3

    def few_shot(self, shots: int, seed: int) -> schema.FewShot:
        """Returns the settings of one network; `shots` matters only if there is a head."""
        return schema.FewShot(
            head_kind=self.head_kind,
            mlp_hidden=self.mlp_hidden,
            unet_width=self.unet_width,
            unet_depth=self.unet_depth,
            log_every=100,
            checkpoint_every=200,
            head=schema.Head(epochs=-(-self.head_steps // shots), seed=seed),
            auto_shot=schema.AutoShot(
                num_samples=self.num_samples,
                num_steps=self.num_steps,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                seed=seed,
            ),
        )


def run_study(
    workdir: epath.PathLike,
    output: epath.PathLike,
    chosen: StudySettings,
    labels: epath.PathLike | None = None,
) -> list[dict]:
    """Trains and measures what is not in `output / study.json` yet.

    Args:
      workdir: of a GAN trained on photos whose parts are known.
      output: gets a folder for each network, `study.json`, `study.md`, `study.png`, and the
        sheets `labelled.png` (generated images with their labels) and `segmented.png`.
      chosen: see `StudySettings`.
      labels: folder of generated images with label maps (see `labels`), of which every seed takes
        the first ones; None has puppets labelled by rule, others for each seed.

    Returns:
      The entries of `study.json`, one for each network.

    Raises:
      UserError: without labels the workdir's photos are no puppets, the labels do not fit, there
        are too few, or the study was begun with other settings.
    """
    workdir, output = resolve(workdir), resolve(output)
    config = config_file.load_config(workdir)
    if labels is None and config.dataset.name != "puppets":
        raise UserError(
            "only puppets are labelled by rule, by their colours; the GAN in "
            f"{workdir} was trained on {config.dataset.name!r}: give --labels=DIR"
        )
    classes = CLASSES if labels is None else read_labels(labels).classes
    # More seeds may be added to a study; the other settings may not change.
    content = {k: v for k, v in dataclasses.asdict(chosen).items() if k not in _EXTENDABLE}
    content["classes"] = classes
    _adopt(output / "config.json", json.loads(json.dumps(content)))
    source = run.load_source(workdir, layers=chosen.layers)
    photos = _photos(config, chosen, classes, labels is None)
    study = _Study(output, chosen, classes, *source, photos)
    entries = _Entries(output, config.dataset.name, photos, classes)
    if labels is None:
        entries.add_rule()
    most = max((*chosen.shots, *chosen.mixed), default=1)
    for seed in chosen.seeds:
        labelled = labels or by_rule(output / f"labelled_{seed}", *source, most, seed)
        for n in chosen.shots:
            entries.finish(FEW_SHOT, n, seed, functools.partial(study.few_shot, labelled, n, seed))
        for n in chosen.mixed:
            make = functools.partial(study.few_shot, labelled, n, seed, with_photos=True)
            entries.finish(MIXED, n, seed, make)
        for n in chosen.supervised:
            entries.finish(SUPERVISED, n, seed, functools.partial(study.supervised, n, seed))
    entries.write()
    shown = resolve(labels or output / f"labelled_{min(chosen.seeds)}")
    pictures = photos.test[:SHOWN], photos.truth[:SHOWN]
    study_report.write(output, entries.summary, chosen, shown, *pictures)
    return entries.summary["entries"]


@dataclasses.dataclass(frozen=True)
class _Photos:
    """Holds the photos of a data set whose parts are known.

    Attributes:
      test: to measure on.
      truth: classes of their pixels.
      train: to learn from.
      taught: classes of their pixels, of some perhaps none.
      rows: numbers of those that have labels.
      most: of them that one network learns from.
    """

    test: UInt8[np.ndarray, "n s s 3"]
    truth: Int[np.ndarray, "n s s"]
    train: UInt8[np.ndarray, "m s s 3"]
    taught: Int[np.ndarray, "m s s"]
    rows: Int[np.ndarray, "k"]
    most: int

    def of_seed(self, count: int, seed: int) -> Int[np.ndarray, "c"]:
        """Returns numbers of labelled photos; each seed has others, as far as there are others."""
        return self.rows[np.arange(seed * self.most, seed * self.most + count) % len(self.rows)]


def _photos(
    config: Config, chosen: StudySettings, classes: Sequence[str], all_labelled: bool
) -> _Photos:
    """Reads the photos that the study needs.

    Raises:
      UserError: their parts have other names than the classes, or too few are labelled.
    """
    name, folder, size = config.dataset.name, config.dataset.data_dir, config.image_size
    test = data.load_split(name, folder, "test", size)
    most = max((*chosen.supervised, *chosen.mixed), default=0)
    limit = (max(chosen.seeds) + 1) * most if all_labelled else None
    train = data.load_split(name, folder, "train", size, limit=limit)
    truth, taught = (evaluate.true_labels(split, classes) for split in (test, train))
    if truth is None or taught is None:
        raise UserError(f"the parts of {name} are not named {', '.join(classes[1:])}")
    rows = np.flatnonzero((taught != UNLABELLED).any((1, 2)))
    if most > len(rows):
        raise UserError(
            f"--supervised={most} (or --mixed): {name} has {len(rows)} training photos with labels"
        )
    return _Photos(test.images, truth, train.images, taught, rows, most)


@dataclasses.dataclass(frozen=True)
class _Study:
    """Trains the networks that are compared."""

    output: epath.Path
    chosen: StudySettings
    classes: list[str]
    source: Source
    variables: Any
    photos: _Photos

    def few_shot(
        self,
        labelled: epath.PathLike,
        count: int,
        seed: int,
        where: epath.Path,
        *,
        with_photos: bool = False,
    ) -> Segmenter:
        """Trains a U-Net on what a head learned from labelled generated images; photos may help."""
        settings = self.chosen.few_shot(count, seed)
        # Head and generated images are the same with photos and without.
        base = self.output / f"{FEW_SHOT}_{count}_seed_{seed}"
        given = pipeline.prepare(
            *(base, self.source, self.variables, labelled, settings), shots=count
        )
        made = pipeline.label_samples(given, pipeline.train_head(given))
        photos = None
        if with_photos:
            rows = self.photos.of_seed(count, seed)
            soft = autoshot.one_hot(self.photos.taught[rows], len(self.classes))
            photos = autoshot.Photos(self.photos.train[rows], soft, self.chosen.photo_share)
        return pipeline.train_auto_shot(where, *made, settings, self.classes, photos=photos)

    def supervised(self, count: int, seed: int, where: epath.Path) -> Segmenter:
        """Trains a U-Net on labelled photos alone."""
        rows, settings = self.photos.of_seed(count, seed), self.chosen.few_shot(count, seed)
        shown = self.photos.train[rows], self.photos.taught[rows]
        return _supervised(where, *shown, settings, self.classes)


class _Entries:
    """Measures networks and keeps what was measured in `study.json`."""

    def __init__(self, output: epath.Path, dataset: str, photos: _Photos, classes: Sequence[str]):
        self._output, self._photos, self._classes = output, photos, classes
        self._path = output / "study.json"
        old = json.loads(self._path.read_text())["entries"] if self._path.exists() else []
        self.summary: dict[str, Any] = {
            "dataset": dataset,
            "images": len(photos.test),
            "classes": classes,
            "entries": old,
        }

    def _measure(self, segmenter: Any) -> evaluate.Overlap:
        return evaluate.measure(segmenter, self._photos.test, self._photos.truth, self._classes)

    def add_rule(self) -> None:
        """Measures the labels that puppets have by their colours."""
        self.summary["rule"] = _figures(self._measure(label_by_hue))

    def finish(
        self, kind: str, labels: int, seed: int, make: Callable[[epath.Path], Segmenter]
    ) -> None:
        """Trains and measures a network if that was not done before."""
        key = {"kind": kind, "labels": labels, "seed": seed}
        if any(key.items() <= entry.items() for entry in self.summary["entries"]):
            LOG.info("%s, %d labels, seed %d: finished before", kind, labels, seed)
            return
        begun = time.monotonic()
        where = self._output / f"{kind}_{labels}_seed_{seed}"
        segmenter = make(where)
        measured = self._measure(segmenter)
        buffer = io.BytesIO()
        np.save(buffer, segmenter(self._photos.test[:SHOWN]).astype(np.uint8))
        write_whole(where / "shown.npy", buffer.getvalue())
        seconds = round(time.monotonic() - begun)
        self.summary["entries"].append({**key, **_figures(measured), "seconds": seconds})
        self.write()
        print(f"{kind}, {labels} labels, seed {seed}: mean IoU {measured.mean:.4f} ({seconds} s)")

    def write(self) -> None:
        """Writes `study.json`."""
        write_whole(self._path, json.dumps(self.summary, indent=1) + "\n")


_EXTENDABLE = ("shots", "supervised", "mixed", "seeds")


def _adopt(path: epath.Path, content: dict[str, Any]) -> None:
    """Writes the study's settings, or compares them with those that are there."""
    if not path.exists():
        files.write_json(path, content)
        return
    for field, value in json.loads(path.read_text()).items():
        if content.get(field) != value:
            raise UserError(
                f"{path.parent} was begun with {field}={value}, now it is {content.get(field)}; "
                "give the same, or another --output"
            )


def _figures(measured: evaluate.Overlap) -> dict[str, Any]:
    return {
        "mean_iou": measured.mean,
        "weighted_iou": measured.weighted,
        "iou": measured.by_class,
    }


def _supervised(
    where: epath.Path,
    images: UInt8[np.ndarray, "n h w 3"],
    labels: Int[np.ndarray, "n h w"],
    chosen: schema.FewShot,
    classes: list[str],
) -> Segmenter:
    where.mkdir(parents=True, exist_ok=True)
    soft = autoshot.one_hot(labels, len(classes))
    return pipeline.train_auto_shot(where, images, soft, chosen, classes)
