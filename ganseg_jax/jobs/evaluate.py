"""Measures a trained run by its data set's protocols and writes metrics and report."""

import copy
import json
import logging
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from etils import epath

from ganseg_jax import loading
from ganseg_jax.config import Config, flat
from ganseg_jax.config.convert import nested
from ganseg_jax.data import pipeline
from ganseg_jax.errors import UserError
from ganseg_jax.evaluation import (
    backbone,
    embeddings,
    generated,
    inception,
    protocols,
    published,
    references,
)
from ganseg_jax.files import read_rows
from ganseg_jax.jobs.begin import prepare_data
from ganseg_jax.latents import sample_latents
from ganseg_jax.models.build import build_generator
from ganseg_jax.report.curves import curves
from ganseg_jax.report.measures import humanize
from ganseg_jax.report.page import Report, write_report
from ganseg_jax.report.plots import plot_embeddings, plot_training
from ganseg_jax.report.png import encode_png
from ganseg_jax.report.sheets import segmentation_sheet
from ganseg_jax.segmenter import Segmenter
from ganseg_jax.training import provenance

LOG = logging.getLogger(__name__)

SHEET_PHOTOS = 24

Table = tuple[str, list[str], list[list]]

UNREFINED = "without_refinement"
"""Before the names of figures of what the network says, where masks are refined as well."""

HELD_OUT = ("landmark_test", "test")
"""Splits that may hold photos of the same kind as those trained on, the fitting one first."""


def evaluate(config: Config, workdir: str) -> dict[str, float]:
    """Writes `W/evaluation/` and `W/report.html`; prints the tables.

    Returns:
      The figures, as in `W/evaluation/metrics.json`.

    Raises:
      UserError: where a stage has not been trained or the data set is missing.
    """
    workdir = epath.Path(workdir)
    prepare_data(config)
    segmenter = loading.load_segmenter(workdir)
    pictures: list[tuple[str, Any]] = []
    figures: dict[str, float] = {}
    # An auto-encoder draws nothing: its masks of test photos are all there is to measure.
    if config.model.kind == "gan":
        network = inception.load_network(config)
        generator = build_generator(config)
        variables = jax.device_put(loading.restore_generator(config, workdir))
        figures = _measure_samples(config, generator, variables, network)
        pictures.append(_embedding_picture(config, generator, variables))
    measured, tables, picture = _measure_protocols(config, segmenter)
    figures = measured | figures
    pictures.insert(0, ("Segmented photos. Each photo, its parts, and the ground truth.", picture))
    values, counts = protocols.split_counts(figures)
    folder = workdir / "evaluation"
    folder.mkdir(parents=True, exist_ok=True)
    for name, (_, picture) in zip(("segmented", "embeddings"), pictures, strict=False):
        (folder / f"{name}.png").write_bytes(encode_png(picture))
    logs = _training_logs(config, workdir)
    training = plot_training({stage: curves(rows) for stage, rows in logs.items()})
    (folder / "training.png").write_bytes(encode_png(training))
    card = _run_card(config, workdir, logs)
    _write_json(folder / "run_card.json", card)
    _write_json(folder / "metrics.json", figures)
    for table in tables:
        print(published.print_table(table), end="\n\n")
    for name, value in values.items():
        print(f"{name} = {value:.4f} (n = {counts.get(name, '?')})")
    _write_report(config, workdir, card, values, counts, tables, pictures, logs)
    LOG.info("Report: %s", workdir / "report.html")
    return figures


def _load(config: Config, split: str, limit: int | None = None) -> Any:
    dataset = config.dataset
    return pipeline.load_split(dataset.name, dataset.data_dir, split, config.image_size, limit)


def _measure_protocols(
    config: Config, segmenter: Segmenter
) -> tuple[dict[str, float], list[Table], np.ndarray]:
    """Figures of all protocols, their tables, and a sheet of segmented photos."""
    names = list(config.evaluation.protocols) or protocols.fit_protocols(config.dataset.name)
    feature_fn = backbone.load_feature_maps(config)
    parts, batch_size = config.model.num_parts, config.evaluation.batch_size
    figures: dict[str, float] = {}
    tables: list[Table] = []
    shown = None
    for name in names:
        protocol = protocols.get_protocol(name)
        if protocol.datasets and config.dataset.name not in protocol.datasets:
            raise UserError(
                f"evaluation.protocols: {name} is made for {', '.join(protocol.datasets)}, "
                f"not for {config.dataset.name}"
            )
        splits = {split: _load(config, split) for split in protocol.splits}
        measured = protocol.measure(segmenter.probabilities, splits, batch_size)
        figures |= measured
        compared = {}
        if config.evaluation.references and protocol.references:
            LOG.info("Measuring the simple references of %s", name)
            compared = references.measure_references(
                protocol,
                splits,
                _load(config, protocol.reference_split),
                num_parts=parts,
                batch_size=batch_size,
                seed=config.seed,
                feature_fn=feature_fn,
            )
        if segmenter.refine:
            alone = copy.copy(segmenter)
            alone.refine = False
            plain = protocol.measure(alone.probabilities, splits, batch_size)
            compared = {UNREFINED: plain} | compared
            figures |= {f"{UNREFINED}/{figure}": value for figure, value in plain.items()}
        table = protocol.rows(measured, config.dataset.name, parts, compared)
        tables.append(table or _own_table(name, parts, measured, compared))
        shown = shown or splits[protocol.splits[-1]]
    photos = shown.images[:SHEET_PHOTOS]
    truth = None if shown.segmentation is None else shown.segmentation[:SHEET_PHOTOS]
    return figures, tables, segmentation_sheet(photos, segmenter(photos), truth)


def _own_table(name: str, parts: int, measured: dict, compared: dict[str, dict]) -> Table:
    """A table of ours and the references, where nothing was published."""
    values, _ = protocols.split_counts(measured)
    columns = list(values)
    rows = [[f"* ganseg_jax (K = {parts})", *values.values()]]
    for reference, theirs in compared.items():
        label = f"reference: {reference.replace('_', ' ')}"
        rows.append([label, *(theirs.get(column) for column in columns)])
    return f"{name.replace('_', ' ').capitalize()}, test images.", ["Method", *columns], rows


def _measure_samples(
    config: Config,
    generator: Any,
    variables: Any,
    network: inception.FeatureNetwork | None,
) -> dict[str, float]:
    """Distances of samples from the training photos; FID and KID where there is a network."""
    count = config.evaluation.num_samples
    photos = _load(config, "train", limit=max(count, 1)).images
    key = jax.random.key(config.seed + 1)

    @jax.jit
    def draw(variables: Any, key: jax.Array) -> jax.Array:
        latents = sample_latents(key, config.evaluation.batch_size, config.model.noise_dim)
        return generator.apply(variables, latents, train=False).image

    def sample_fn(batch: int) -> np.ndarray:
        return np.asarray(draw(variables, jax.random.fold_in(key, batch)))

    sizes = pipeline.split_sizes(config.dataset.name, config.dataset.data_dir)
    held_out = next((_load(config, split).images for split in HELD_OUT if sizes.get(split)), None)
    real = None if network is None else inception.training_statistics(config, network)
    return generated.image_figures(
        sample_fn,
        photos,
        count,
        config.seed,
        held_out=held_out,
        feature_fn=network,
        real_statistics=real,
    )


def _embedding_picture(config: Config, generator: Any, variables: Any) -> tuple[str, np.ndarray]:
    key = jax.random.key(config.seed + 2)
    count = config.evaluation.embedding_samples
    latents = sample_latents(key, count, config.model.noise_dim)
    parts, background = generator.apply(variables, latents.z_app, latents.z_bg_app, method="styles")
    points = embeddings.tsne(np.asarray(parts), np.asarray(background), config.seed)
    caption = (
        f"Part embeddings. t-SNE of {count} samples; each colour is a part, grey the background."
    )
    return caption, plot_embeddings(points)


def _trained_stages(config: Config) -> dict[str, Any]:
    """Stage -> its schedule."""
    if config.model.kind != "gan":
        return {"autoencoder": config.gan}
    trained = {"gan": config.gan, "segmenter": config.segmenter}
    if config.self_training.num_steps:
        trained["self_training"] = config.self_training
    return trained


def _training_logs(config: Config, workdir: epath.Path) -> dict[str, list[dict]]:
    """Stage -> its logged rows."""
    return {
        stage: read_rows(workdir / stage / "metrics.jsonl") for stage in _trained_stages(config)
    }


def _write_json(path: epath.Path, content: dict[str, Any]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    partial.replace(path)


def _run_card(config: Config, workdir: epath.Path, logs: dict[str, list[dict]]) -> dict[str, Any]:
    """What was trained on what, for how long, from which command and commit."""
    return {
        "dataset": config.dataset.name,
        "image_size": config.image_size,
        "num_parts": config.model.num_parts,
        "seed": config.seed,
        "refined": config.segmenter.refine,
        "stages": {
            name: {
                "num_steps": schedule.num_steps,
                "batch_size": schedule.batch_size,
                "minutes": round(_training_minutes(logs[name]), 1),
                "starts": read_rows(workdir / name / "starts.jsonl"),
            }
            for name, schedule in _trained_stages(config).items()
        },
        "evaluation": provenance.facts(),
    }


def _write_report(
    config: Config,
    workdir: epath.Path,
    card: dict[str, Any],
    values: dict[str, float],
    counts: dict[str, int],
    tables: list[Table],
    pictures: list[tuple[str, Any]],
    logs: dict[str, list[dict]],
) -> None:
    trained = _trained_stages(config)
    sheets = sorted((workdir / next(iter(trained)) / "samples").glob("*.png"))
    chosen = sorted({0, len(sheets) // 2, len(sheets) - 1}) if sheets else []
    for index in reversed(chosen):
        step = int(sheets[index].stem.rsplit("_", 1)[1])
        caption = f"Samples at step {step}. Image, points of each part, masks overlaid, masks."
        pictures.append((caption, sheets[index].read_bytes()))
    dataset = config.dataset
    sizes = pipeline.split_sizes(dataset.name, dataset.data_dir)
    summary = [
        ("Data set", dataset.name),
        ("Images", ", ".join(f"{count} {split}" for split, count in sizes.items())),
        ("Image size", f"{config.image_size} px"),
        ("Parts", config.model.num_parts),
        *(
            (humanize(name), f"{schedule.num_steps} updates of batch {schedule.batch_size}")
            for name, schedule in trained.items()
        ),
        (
            "Training time",
            ", ".join(f"{name} {stage['minutes']} min" for name, stage in card["stages"].items()),
        ),
        ("Masks", "brought to the photos' edges" if card["refined"] else "as the network says"),
        *_origin(card),
        ("Seed", config.seed),
        ("Written", time.strftime("%Y-%m-%d %H:%M")),
    ]
    report = Report(
        title=f"Parts of {dataset.name}",
        lead=(
            f"{config.model.num_parts} parts, learned from unlabelled images; ground truth was "
            "used for measuring only."
        ),
        summary=summary,
        metrics=values,
        counts=counts,
        curves=logs,
        figures=pictures,
        tables=tables,
        config=nested(flat(config)),
    )
    write_report(workdir / "report.html", report)


def _origin(card: dict[str, Any]) -> list[tuple[str, str]]:
    """Rows of the report: devices, software and commit that the last start of each stage had."""
    starts = [stage["starts"][-1] for stage in card["stages"].values() if stage["starts"]]
    starts = starts or [card["evaluation"]]

    def row(label: str, describe: Callable[[dict[str, Any]], str]) -> tuple[str, str]:
        return label, ", then ".join(dict.fromkeys(map(describe, starts)))

    return [
        row("Device", lambda start: f"{start['num_devices']} x {start['device']}"),
        row("Host", lambda start: start["host"]),
        row("Software", lambda start: f"Python {start['python']}, JAX {start['packages']['jax']}"),
        row("Commit", lambda start: start["commit"] or "unknown"),
        row("Command", lambda start: start["command"]),
    ]


def _training_minutes(rows: list[dict]) -> float:
    """Sum of the steps' times: pauses between a kill and a resume do not count."""
    previous, seconds = 0, 0.0
    for row in rows:
        if row.get("steps_per_second"):
            seconds += (row["step"] - previous) / row["steps_per_second"]
        previous = row["step"]
    return seconds / 60
