"""The config file of a workdir: written, read, and compared with that of a run that goes on."""

import json
from pathlib import Path
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from ganseg_jax.errors import UserError
from ganseg_jax.models import build as settings

# Fields that may differ from those a workdir was begun with.
_FREE_FIELDS = {
    "dataset.data_dir",
    "dataset.source",
    "dataset.num_threads",
    "gan.num_steps",
    "gan.checkpoint_every",
    "gan.log_every",
    "gan.sample_every",
    "gan.on_nonfinite",
    "segmenter.refine",
    *(
        f"{stage}.{name}"
        for stage in ("segmenter", "self_training")
        for name in ("num_steps", "checkpoint_every", "log_every", "sample_every", "on_nonfinite")
    ),
}

# Fields that came later, with the values that older workdirs were begun with.
_LATER_FIELDS = {
    "model.kind": "gan",
    "autoencoder.unet_width": 64,
    "autoencoder.unet_depth": 4,
    "partition.fsdp": False,
    "gan.concentration.final_share": 1.0,
    "gan.concentration.decay_from": 0,
    "gan.concentration.decay_until": 0,
    "gan.point_spread": 0.0,
    "gan.point_layout": "disc",
    "gan.background_start": 0.0,
    "gan.discriminator_augment": "",
    "evaluation.backbone_checkpoint": "",
    "segmenter.learning_rate_schedule": "constant",
    "segmenter.refine": False,
    "self_training.num_steps": 0,
    "self_training.batch_size": 64,
    "self_training.checkpoint_every": 1_000,
    "self_training.log_every": 100,
    "self_training.sample_every": 1_000,
    "self_training.on_nonfinite": "stop",
    "self_training.learning_rate": 1e-4,
    "self_training.refine_labels": False,
}


def flat_fields(config: Any, prefix: str = "") -> dict[str, Any]:
    """Leaf fields by their dotted names, tuples as lists, as JSON has them."""
    flat = {}
    for name, value in config.items():
        if hasattr(value, "items"):
            flat |= flat_fields(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat


def save_config(config: ConfigDict, workdir: str | Path) -> None:
    """Writes `W/config.json`, whole."""
    path = epath.Path(workdir) / "config.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(".config.json.partial")
    partial.write_text(json.dumps(json.loads(config.to_json_best_effort()), indent=2) + "\n")
    partial.replace(path)


def load_config(workdir: str | Path) -> ConfigDict:
    """Reads `W/config.json`.

    Raises:
      UserError: where there is none.
    """
    path = epath.Path(workdir) / "config.json"
    if not path.exists():
        raise UserError(
            f"{workdir} has no config.json, so nothing was trained there: give the workdir of a "
            "run, or train one with `python -m experiments.pipeline`"
        )
    fields = json.loads(path.read_text())
    for name, value in _LATER_FIELDS.items():
        *sections, field = name.split(".")
        section = fields
        for each in sections:
            section = section.setdefault(each, {})
        section.setdefault(field, value)
    return ConfigDict(fields)


def deciding_fields(config: ConfigDict) -> dict[str, Any]:
    """The flat fields that decide a run's figures: all but paths, intervals and the like."""
    free = {name for name in _FREE_FIELDS if not name.endswith((".num_steps", ".refine"))}
    return {name: value for name, value in flat_fields(config).items() if name not in free}


def adopt_workdir(config: ConfigDict, workdir: str | Path) -> None:
    """Writes a sound config into a new workdir, or checks that it is the one this began with.

    Sections of stages that have not begun, and fields that change nothing in what was trained
    (intervals, numbers of steps, paths, refinement), may differ; the file is brought up to date
    then.

    Raises:
      UserError: naming the first field that makes no sense, or that differs, with both values.
    """
    # A mistake in the last stage's settings must not come to light after hours of the first.
    settings.check_config(config)
    workdir = epath.Path(workdir)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if (workdir / "config.json").exists():
            _check_same(config, load_config(workdir), workdir)
        save_config(config, workdir)
    except OSError as error:
        raise UserError(f"cannot write to {workdir}: {error}; choose another --workdir") from error


def _check_same(config: ConfigDict, old: ConfigDict, workdir: epath.Path) -> None:
    stages = ("gan", "segmenter", "self_training", "autoencoder")
    begun = [stage for stage in stages if (workdir / stage / "checkpoints").exists()]
    if not begun:
        return
    if "autoencoder" in begun:
        begun += ["gan", "segmenter"]  # Whose settings it is trained with.
    new_fields, old_fields = flat_fields(config), flat_fields(old)
    for name in sorted(new_fields | old_fields):
        section = name.split(".")[0]
        if name in _FREE_FIELDS or section == "evaluation":
            continue
        if section == "autoencoder" and new_fields["model.kind"] == "gan":
            continue
        if section in stages and section not in begun:
            continue
        before, now = old_fields.get(name), new_fields.get(name)
        if name == "dataset.cache" and "device" not in (before, now):
            continue  # The same photos in the same order.
        if before != now:
            raise UserError(
                f"{workdir} was begun with {name}={before!r}, not {now!r}: "
                "use that value, or another --workdir"
            )
