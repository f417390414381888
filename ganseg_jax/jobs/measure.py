"""Measures a trained run by its data set's protocols; writes nothing."""

import copy
import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, UInt8

from ganseg_jax.config import Config
from ganseg_jax.data import pipeline
from ganseg_jax.evaluation import (
    backbone,
    dino,
    embeddings,
    generated,
    inception,
    protocols,
    published,
    references,
    without_labels,
)
from ganseg_jax.latents import sample_latents
from ganseg_jax.models.generator import Generator
from ganseg_jax.report.tables import Table
from ganseg_jax.segmenter import Segmenter

LOG = logging.getLogger(__name__)

SHOWN_PHOTOS = 24

UNREFINED = "without_refinement"
"""Before the names of figures of what the network says, if masks are refined as well."""

NO_FIGURES = tuple(
    f"evaluation.{name}"
    for name in ("references", "batch_size", "embedding_samples", "backbone_checkpoint")
)
"""Settings of the evaluation that change none of a run's figures."""

HELD_OUT = ("landmark_test", "test")
"""Splits that may hold photos of the same kind as those trained on, the fitting one first."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """Holds what was measured on photos.

    Attributes:
      figures: figures and counts by name; those that can be drawn again are
        `evaluation.intervals.Figure`s.
      compared: figures of the references by their name.
      tables: one for each protocol that has figures.
      photos: some of the photos.
      truth: their label maps; None if the protocol's split has none.
    """

    figures: dict[str, float]
    compared: dict[str, dict[str, float]]
    tables: list[Table]
    photos: UInt8[np.ndarray, "n s s 3"]
    truth: np.ndarray | None


def load_split(config: Config, split: str, limit: int | None = None) -> pipeline.Split:
    """Loads a split of a config's data set at its image size."""
    dataset = config.dataset
    return pipeline.load_split(dataset.name, dataset.data_dir, split, config.image_size, limit)


def photos_of(config: Config) -> dict[str, Any]:
    """Returns what tells the photos of a config's data set from others, fit for JSON."""
    splits = pipeline.data_info(config.dataset.name, config.dataset.data_dir).splits
    return {
        "dataset": config.dataset.name,
        "splits": {name: [split.num_examples, split.num_bytes] for name, split in splits.items()},
    }


def measure_photos(
    config: Config, segmenter: Segmenter, load: Callable[..., pipeline.Split] = load_split
) -> Measured:
    """Measures a segmenter by the protocols of a config's data set.

    Without ground truth it measures what photos alone allow, and no references.

    Args:
      config: of the run.
      segmenter: to be measured.
      load: (config, split) -> photos; one that remembers them serves several segmenters.

    Raises:
      UserError: a protocol is not made for the data set, or lacks ground truth.
    """
    chosen = protocols.chosen_protocols(config.evaluation.protocols, config.dataset.name)
    compare = config.evaluation.references
    feature_fn = backbone.load_feature_maps(config) if compare else None
    patch_fn = dino.load_patch_features(config) if compare else None
    parts, batch_size = config.model.num_parts, config.evaluation.batch_size
    figures: dict[str, float] = {}
    compared: dict[str, dict[str, float]] = {}
    tables: list[Table] = []
    shown: pipeline.Split | None = None
    for name, protocol in chosen.items():
        splits = {split: load(config, split) for split in protocol.splits}
        shown = shown or splits[protocol.splits[-1]]
        measured = protocol.measure(segmenter.probabilities, splits, batch_size)
        if not measured:
            LOG.info("%s: no ground truth, so masks are not measured against any", name)
            continue
        figures |= measured
        others: dict[str, dict[str, float]] = {}
        if segmenter.refine:
            alone = copy.copy(segmenter)
            alone.refine = False
            others[UNREFINED] = protocol.measure(alone.probabilities, splits, batch_size)
            figures |= {f"{UNREFINED}/{k}": value for k, value in others[UNREFINED].items()}
        if config.evaluation.references and protocol.references:
            LOG.info("Measuring the simple references of %s", name)
            others |= references.measure_references(
                protocol,
                splits,
                load(config, protocol.reference_split),
                num_parts=parts,
                batch_size=batch_size,
                seed=config.seed,
                feature_fn=feature_fn,
                patch_fn=patch_fn,
            )
        table = protocol.rows(measured, config.dataset.name, parts, others)
        tables.append(table or _own_table(name, parts, measured, others))
        for reference, values in others.items():
            compared[reference] = compared.get(reference, {}) | values
    assert shown is not None
    if not figures:
        figures = without_labels.unlabelled_figures(
            segmenter.probabilities, shown.images, batch_size
        )
    truth = shown.segmentation
    return Measured(
        figures,
        compared,
        tables,
        shown.images[:SHOWN_PHOTOS],
        None if truth is None else truth[:SHOWN_PHOTOS],
    )


def fid_table(config: Config, figures: Mapping[str, float]) -> Table | None:
    """Returns the published FIDs with ours, if both are known for the data set."""
    name = config.dataset.name
    if "fid" not in figures or all(column.dataset != name for column in published.FID.columns):
        return None
    return published.FID.with_own(figures, name, config.model.num_parts)


def _own_table(
    name: str, parts: int, measured: dict[str, float], others: dict[str, dict[str, float]]
) -> Table:
    """Returns a table of ours and the references, for a protocol without published rows."""
    values, _ = protocols.split_counts(measured)
    columns = list(values)
    rows: list[list[Any]] = [[f"* ganseg_jax (K = {parts})", *values.values()]]
    for reference, theirs in others.items():
        label = f"reference: {reference.replace('_', ' ')}"
        rows.append([label, *(theirs.get(column) for column in columns)])
    return f"{name.replace('_', ' ').capitalize()}, test images.", ["Method", *columns], rows


def measure_samples(config: Config, generator: Generator, variables: Any) -> dict[str, float]:
    """Measures distances of samples from the training photos; see `sample_measure`."""
    return sample_measure(config, generator)(variables)


def sample_measure(config: Config, generator: Generator) -> Callable[[Any], dict[str, float]]:
    """Returns what measures distances of a generator's samples from the training photos.

    It takes the generator's variables, and serves several states of them. FID and KID are measured
    if `evaluation.inception_checkpoint` gives a network.
    """
    count = config.evaluation.num_samples
    photos = load_split(config, "train", limit=max(count, 1)).images
    key = jax.random.key(config.seed + 1)

    @jax.jit
    def draw(variables: Any, key: jax.Array) -> jax.Array:
        latents = sample_latents(key, config.evaluation.batch_size, config.model.noise_dim)
        output: Any = generator.apply(variables, latents, train=False)
        return output.image

    sizes = pipeline.split_sizes(config.dataset.name, config.dataset.data_dir)
    held_out = next((load_split(config, s).images for s in HELD_OUT if sizes.get(s)), None)
    network = inception.load_network(config)
    real = None if network is None else inception.training_statistics(config, network)

    def measure(variables: Any) -> dict[str, float]:
        def sample_fn(batch: int) -> np.ndarray:
            return np.asarray(draw(variables, jax.random.fold_in(key, batch)))

        return generated.image_figures(
            sample_fn,
            photos,
            count,
            config.seed,
            held_out=held_out,
            feature_fn=network,
            real_statistics=real,
        )

    return measure


def embed_parts(config: Config, generator: Generator, variables: Any) -> Float[np.ndarray, "n k 2"]:
    """Returns the t-SNE of the part embeddings of some samples, and of the background's style."""
    key, count = jax.random.key(config.seed + 2), config.evaluation.embedding_samples
    latents = sample_latents(key, count, config.model.noise_dim)
    parts, background = generator.apply(variables, latents.z_app, latents.z_bg_app, method="styles")
    return embeddings.tsne(np.asarray(parts), np.asarray(background), config.seed)
