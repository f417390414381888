"""How many labels few-shot segmentation saves: the curve of CVPR 2021's Figure 6.

The same U-Net, with the same training, learns from generated images that a head labelled, after
one to ten labels, and from labelled real photos. The labels of generated images are a person's, or
with puppets made by rule: every part of one has a family of hues of its own (see `label_by_hue`).
"""

import dataclasses
import functools
import io
import json
import logging
import time
from typing import Any, Literal

import numpy as np
from etils import epath
from jaxtyping import Int, UInt8
from PIL import Image
from scipy import ndimage

from ganseg_jax import files, prng
from ganseg_jax.config import few_shot as schema
from ganseg_jax.config import file as config_file
from ganseg_jax.data import pipeline as data
from ganseg_jax.data.builders.puppets import render
from ganseg_jax.errors import UserError
from ganseg_jax.fewshot import autoshot, evaluate, pipeline, samples
from ganseg_jax.fewshot.label_files import MASK_SUFFIX
from ganseg_jax.fewshot.labels import CLASSES_FILE, classes_json, read_labels
from ganseg_jax.files import resolve, write_whole
from ganseg_jax.jobs import few_shot as run
from ganseg_jax.pixels import UNLABELLED
from ganseg_jax.report.png import save_label_png
from ganseg_jax.segmenter import Segmenter
from ganseg_jax.studies import few_shot_report as study_report

LOG = logging.getLogger(__name__)

CLASSES = ["background", *render.PART_NAMES]  # Of puppets.
FEW_SHOT, SUPERVISED, MIXED = "few-shot", "supervised", "mixed"
SHOWN = 16

# Backgrounds are rendered with saturations up to 0.38, parts from 0.65, and with values from 0.38.
SATURATION, VALUE = 0.45, 0.3
# Of the images made for each to be labelled: the smallest part that it must show, as a share of its
# pixels, and the pixels on its border that may have a part's colour.
CANDIDATES, SMALLEST_PART, MOST_ON_BORDER = 4, 0.015, 3


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


def label_by_hue(images: UInt8[np.ndarray, "n h w 3"]) -> UInt8[np.ndarray, "n h w"]:
    """Returns parts of puppets by their colours: 0 background, 1.. in the order of `PART_NAMES`.

    A pixel belongs to the part whose hue is nearest, where it is more saturated than backgrounds
    are, not dark, and in the largest patch of such pixels (a puppet is in one piece).
    """
    hue, saturation, value = hsv(images)
    distances = np.abs((hue[..., None] - render.HUES + 0.5) % 1.0 - 0.5)
    colored = (saturation > SATURATION) & (value > VALUE)
    labels = np.where(colored, np.argmin(distances, -1) + 1, 0).astype(np.uint8)
    for image in labels:
        patches, _ = ndimage.label(image > 0, structure=np.ones((3, 3)))
        sizes = np.bincount(patches.ravel())[1:]
        if sizes.size:
            image[patches != np.argmax(sizes) + 1] = 0
    return labels


def hsv(images: UInt8[np.ndarray, "*s 3"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns hue in turns (0 for greys), saturation and value in [0, 1]."""
    x = np.asarray(images, np.float32) / 255
    high, low = x.max(-1), x.min(-1)
    span = high - low
    safe = np.maximum(span, 1e-6)
    r, g, b = np.moveaxis(x, -1, 0)
    sixths = np.select(
        [high == r, high == g], [((g - b) / safe) % 6, (b - r) / safe + 2], (r - g) / safe + 4
    )
    return np.where(span > 0, sixths / 6, 0), span / np.maximum(high, 1e-6), high


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
    name, folder, size = config.dataset.name, config.dataset.data_dir, config.image_size
    classes = CLASSES if labels is None else read_labels(labels).classes
    # More seeds may be added to a study; the other settings may not change.
    content = {k: v for k, v in dataclasses.asdict(chosen).items() if k not in _EXTENDABLE}
    content["classes"] = classes
    _adopt(output / "config.json", json.loads(json.dumps(content)))
    source, variables = run.load_source(workdir, layers=chosen.layers)
    test = data.load_split(name, folder, "test", size)
    most = max((*chosen.supervised, *chosen.mixed), default=0)
    # All puppets have labels; of other sets, perhaps only some photos.
    limit = (max(chosen.seeds) + 1) * most if labels is None else None
    train = data.load_split(name, folder, "train", size, limit=limit)
    truth, taught = (evaluate.true_labels(split, classes) for split in (test, train))
    if truth is None or taught is None:
        raise UserError(f"the parts of {name} are not named {', '.join(classes[1:])}")
    with_labels = np.flatnonzero((taught != UNLABELLED).any((1, 2)))
    if most > len(with_labels):
        raise UserError(
            f"--supervised={most} (or --mixed): {name} has {len(with_labels)} training photos "
            "with labels"
        )
    summary: dict[str, Any] = {
        "dataset": name,
        "images": len(test.images),
        "classes": classes,
        "entries": [],
    }
    if labels is None:
        by_rule = evaluate.measure(label_by_hue, test.images, truth, classes)
        summary["rule"] = _figures(by_rule)
    path = output / "study.json"
    if path.exists():
        summary["entries"] = json.loads(path.read_text())["entries"]

    def finish(kind: str, labels: int, seed: int, make: Any) -> None:
        key = {"kind": kind, "labels": labels, "seed": seed}
        if any(key.items() <= entry.items() for entry in summary["entries"]):
            LOG.info("%s, %d labels, seed %d: finished before", kind, labels, seed)
            return
        begun = time.monotonic()
        where = output / f"{kind}_{labels}_seed_{seed}"
        segmenter = make(where)
        measured = evaluate.measure(segmenter, test.images, truth, classes)
        buffer = io.BytesIO()
        np.save(buffer, segmenter(test.images[:SHOWN]).astype(np.uint8))
        write_whole(where / "shown.npy", buffer.getvalue())
        seconds = round(time.monotonic() - begun)
        summary["entries"].append({**key, **_figures(measured), "seconds": seconds})
        write_whole(path, json.dumps(summary, indent=1) + "\n")
        print(f"{kind}, {labels} labels, seed {seed}: mean IoU {measured.mean:.4f} ({seconds} s)")

    for seed in chosen.seeds:
        labelled = labels or _labelled(output / f"labelled_{seed}", source, variables, chosen, seed)

        def few_shot(where, n, photos=None, seed=seed, labelled=labelled):
            few_settings = chosen.few_shot(n, seed)
            # Head and generated images are the same with photos and without.
            base = output / f"{FEW_SHOT}_{n}_seed_{seed}"
            few = pipeline.prepare(base, source, variables, labelled, few_settings, shots=n)
            made = pipeline.label_samples(few, pipeline.train_head(few))
            return pipeline.train_auto_shot(where, *made, few_settings, classes, photos=photos)

        def rows_of(n, seed=seed):
            # Each seed has other photos, as far as there are others.
            return with_labels[np.arange(seed * most, seed * most + n) % len(with_labels)]

        for n in chosen.shots:
            finish(FEW_SHOT, n, seed, functools.partial(few_shot, n=n))
        for n in chosen.mixed:
            rows = rows_of(n)
            soft = autoshot.one_hot(taught[rows], len(classes))
            photos = autoshot.Photos(train.images[rows], soft, chosen.photo_share)
            finish(MIXED, n, seed, functools.partial(few_shot, n=n, photos=photos))
        for n in chosen.supervised:
            rows = rows_of(n)

            def supervised(where, n=n, rows=rows, seed=seed):
                return _supervised(
                    where, train.images[rows], taught[rows], chosen.few_shot(n, seed), classes
                )

            finish(SUPERVISED, n, seed, supervised)
    write_whole(path, json.dumps(summary, indent=1) + "\n")
    shown = resolve(labels or output / f"labelled_{min(chosen.seeds)}")
    study_report.write(output, summary, chosen, shown, test.images[:SHOWN], truth[:SHOWN])
    return summary["entries"]


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


def _labelled(
    folder: epath.Path, source: Any, variables: Any, chosen: StudySettings, seed: int
) -> epath.Path:
    """Returns the folder of generated images with labels by rule; makes it if it is missing.

    Which images are labelled, `rows_to_label` decides.
    """
    key, wanted = (
        prng.stream(prng.root_key(seed), "labelled"),
        max((*chosen.shots, *chosen.mixed), default=1),
    )
    if not (folder / samples.LATENTS_FILE).exists():
        samples.write_samples(folder, source, variables, key, CANDIDATES * wanted)
    names = sorted(p.stem for p in folder.glob("sample_????.png"))
    if len(names) < wanted:
        raise UserError(
            f"{folder} holds {len(names)} images, but {wanted} shots are asked for: "
            "choose another --output"
        )
    images = np.stack([np.asarray(Image.open(folder / f"{name}.png")) for name in names])
    labels = label_by_hue(images)
    for row in rows_to_label(labels)[:wanted]:
        save_label_png(folder / f"{names[row]}{MASK_SUFFIX}", labels[row])
    write_whole(folder / CLASSES_FILE, classes_json(CLASSES[1:]))
    return folder


def rows_to_label(labels: UInt8[np.ndarray, "n h w"]) -> Int[np.ndarray, "n"]:
    """Returns all rows, those first that a person would choose to label.

    Images come last that hardly show one of the parts, or where parts' colours run into the
    background up to the border.
    """
    sizes = np.stack([(labels == i).mean((1, 2)) for i in range(1, len(CLASSES))], -1)
    figure = labels > 0
    on_border = figure.sum((1, 2)) - figure[:, 1:-1, 1:-1].sum((1, 2))
    poor = (sizes.min(-1) < SMALLEST_PART) | (on_border > MOST_ON_BORDER)
    return np.argsort(poor, kind="stable")


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
