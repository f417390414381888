"""The published checkpoints: converted, measured by the paper's protocols, beside its figures."""

import hashlib
import json
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from etils import epath

from ganseg_jax import files
from ganseg_jax.config import Config, with_fields
from ganseg_jax.config import file as config_file
from ganseg_jax.config.convert import checked
from ganseg_jax.errors import UserError
from ganseg_jax.evaluation.protocols import PROTOCOLS
from ganseg_jax.evaluation.published import OWN_ROW
from ganseg_jax.files import resolve
from ganseg_jax.interop import torch_ganseg, weights
from ganseg_jax.interop.conversion import required_shape, strip_prefix, unwrapped
from ganseg_jax.jobs import convert
from ganseg_jax.jobs import evaluate as measuring
from ganseg_jax.jobs.begin import begin, prepare_data
from ganseg_jax.jobs.measure import fid_table
from ganseg_jax.report.tables import Table, markdown_table, plain_table

LOG = logging.getLogger(__name__)

DATASETS = ("celeba_wild", "celeba_aligned", "cub", "flowers", "taichi")
"""The paper's data sets."""

PAPER = "GANSeg"
"""The paper's row in published tables."""

FEW_SAMPLES = 2_000
"""Samples to measure if no FID is asked for, which takes 50,000."""


class Released(NamedTuple):
    """Names the files that the paper's authors publish for a model.

    Attributes:
      generator: checkpoint of generator and discriminator.
      parameters: `parameters.json` beside it.
      segmenter: checkpoint of the segmenter ("detector").
    """

    generator: str
    parameters: str
    segmenter: str


def evaluate(
    released: Released,
    workdir: epath.PathLike,
    dataset: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Table:
    """Converts released files, measures them in float32, and sets our row beside the paper's.

    What is converted is kept: the same call measures again, one that was cut off resumes.

    Args:
      released: the files.
      workdir: gets the stages, `evaluation/`, `report.html` and `beside_the_paper.md`.
      dataset: its name; by default the one that the parameters name.
      settings: further fields of the config by dotted name.

    Returns:
      (caption, header, rows) of figure, the paper's value, ours, and the difference.

    Raises:
      UserError: a file is missing or damaged, or belongs to another data set or number of parts
        than the others; the workdir holds other weights; the data set cannot be prepared.
    """
    workdir = resolve(workdir)
    hyperparameters = convert.read_parameters(released.parameters)
    dataset = _dataset_of(hyperparameters, dataset, released.parameters)
    contents = _read(released, hyperparameters)
    fields = {"evaluation.num_samples": FEW_SAMPLES} | dict(settings or {})
    if fields.get("evaluation.inception_checkpoint"):
        fields["evaluation.num_samples"] = (settings or {}).get(
            "evaluation.num_samples", Config().evaluation.num_samples
        )
    fields |= {"dtype": "float32", "evaluation.precision": "highest", "dataset.name": dataset}
    fields["evaluation.protocols"] = tuple(paper_protocols(dataset))
    prepare_data(checked(with_fields(Config(), fields)))
    _convert(released, contents, hyperparameters, workdir, fields)
    config = config_file.load_config(workdir)
    LOG.info("Measuring on %s, float32, products exact", jax.devices()[0].device_kind)
    figures = measuring.evaluate(config, workdir)
    table = beside_the_paper(config, figures)
    if jax.process_index() == 0:
        _, header, rows = table
        text = markdown_table(header, [["–" if c is None else str(c) for c in r] for r in rows])
        files.write_whole(workdir / "beside_the_paper.md", text)
    print("\n" + plain_table(table))
    return table


def paper_protocols(dataset: str) -> list[str]:
    """Returns the names of the protocols by which the paper gives figures of a data set."""
    return [
        name
        for name, protocol in PROTOCOLS.items()
        if dataset in protocol.datasets
        and protocol.table is not None
        and any(row[0] == PAPER for row in protocol.table.rows)
    ]


def beside_the_paper(config: Config, figures: Mapping[str, float]) -> Table:
    """Returns the paper's figures of a data set and K with ours and the difference.

    Figures that the paper gives for other K alone are there with no value of the paper.
    """
    name, parts = config.dataset.name, config.model.num_parts
    tables = [
        PROTOCOLS[protocol].rows(dict(figures), name, parts) for protocol in paper_protocols(name)
    ]
    rows: list[list[Any]] = []
    for table in [*tables, fid_table(config, figures)]:
        if table is None:
            continue
        caption, header, cells = table
        paper = next(row for row in cells if row[0] == PAPER)
        own = next((row for row in cells if str(row[0]).startswith(f"{OWN_ROW} (")), None)
        for title, theirs, ours in zip(header[1:], paper[1:], own[1:] if own else (), strict=False):
            if ours is not None:
                less = None if theirs is None else round(ours - theirs, 4)
                rows.append([f"{caption}: {title}", theirs, ours, less])
    if rows and all(row[1] is None for row in rows):
        LOG.warning("The paper has no figure of %s with K = %d.", name, parts)
    caption = f"The published checkpoint on {name}, K = {parts}"
    return caption, ["figure", "paper", "here", "difference"], rows


def _dataset_of(hyperparameters: Mapping[str, Any], given: str | None, path: str) -> str:
    """Returns the data set of a model; one that the parameters name cannot be another."""
    named = str(hyperparameters.get("class_name"))
    known = convert.DATASETS.get(named, (None,))[0]
    if given is not None and given not in DATASETS:
        raise UserError(f"--dataset={given} is none of the paper's: {', '.join(DATASETS)}")
    if known and given not in (None, known):
        raise UserError(f"--dataset={given}, but {path} is of a model of {known}: leave it out")
    if not (known or given):
        raise UserError(
            f"{path} names the class {named!r}, which is no set of the paper: say with --dataset "
            f"which of {', '.join(DATASETS)} it was trained on"
        )
    return given or known or ""


def _read(released: Released, hyperparameters: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Reads the networks' state_dicts, whose numbers of parts must agree."""
    content = weights.read(released.generator)
    found = {
        name: weights.section(content, name, released.generator)
        for name in ("generator", "discriminator")
    }
    segmenter = convert.segmenter_from(weights.read(released.segmenter))
    found["segmenter"] = dict(segmenter)
    plain = strip_prefix(unwrapped(segmenter), "model.")
    try:
        parts = required_shape(plain, "classifier.4.bias", "segmenter")[0] - 1
    except UserError as error:
        raise UserError(f"{released.segmenter}: {error}") from error
    expected = torch_ganseg.generator_settings(hyperparameters)["num_parts"]
    if parts != expected:
        raise UserError(
            f"{released.segmenter} has {parts} parts, but {released.parameters} has {expected}: "
            "give the files of one model"
        )
    return found


def _convert(
    released: Released,
    contents: Mapping[str, dict[str, Any]],
    hyperparameters: Mapping[str, Any],
    workdir: epath.Path,
    fields: Mapping[str, Any],
) -> None:
    """Makes the stages that are not there yet; whose weights a workdir holds is written first."""
    record = workdir / "published.json"
    made_from = {
        name: hashlib.sha256(resolve(path).read_bytes()).hexdigest()
        for name, path in released._asdict().items()
    }
    stages = {
        stage: (folder := workdir / stage / "checkpoints").exists() and any(folder.iterdir())
        for stage in ("gan", "segmenter")
    }
    if record.exists():
        if json.loads(record.read_text()) != made_from:
            raise UserError(f"{workdir} holds other checkpoints: choose another --workdir")
    elif any(stages.values()):
        raise UserError(f"{workdir} is another run's: choose another --workdir")
    else:
        files.write_json(record, made_from)
    if not stages["gan"]:
        convert.import_gan(Config(), contents, hyperparameters, str(workdir))
    if not stages["segmenter"]:
        config = config_file.load_config(workdir)
        convert.import_segmenter(config, contents["segmenter"], str(workdir))
    config = checked(with_fields(config_file.load_config(workdir), dict(fields)))
    config_file.save_config(config, workdir)
    begin(config, workdir)
