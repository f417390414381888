"""Tells what a model is: its kind, classes, size, figures, licence, and how it was trained."""

import json
import textwrap
from typing import Any

import jax
import numpy as np
from etils import epath

from ganseg_jax import loading, packed, parts
from ganseg_jax.config import file as config_file
from ganseg_jax.errors import UserError
from ganseg_jax.files import read_rows, resolve

_FIGURES = ("foreground_iou", "part_nmi", "foreground_nmi", "landmark_error", "sliced_wasserstein")


def info(place: epath.PathLike) -> list[tuple[str, str]]:
    """Returns what is known of a model, as names and values.

    Args:
      place: a model of the package, or the folder of a run, a few-shot result or a packed model.

    Raises:
      UserError: there is no model.
    """
    folder = packed.find(place)
    if loading.is_few_shot(folder or place):
        return _few_shot(folder or resolve(place))
    if folder is not None:
        return _packed(folder)
    return _run(resolve(place))


def _packed(folder: epath.Path) -> list[tuple[str, str]]:
    about = packed.about(folder)
    config, generator = packed.load(folder, "generator")
    _, segmenter = packed.load(folder, "segmenter")
    weights = packed.weights_file(folder) or folder / packed.WEIGHTS
    facts = [("kind", "packed model: generator and segmenter")]
    facts += [
        (name, about[name]) for name in ("what", "parts", "figures", "licence") if name in about
    ]
    facts += _settings(folder, config)
    facts += [
        ("parameters", f"generator {_count(generator)}, segmenter {_count(segmenter)}"),
        ("file", f"{folder} ({weights.stat().length / 1e6:.1f} MB)"),
        ("trained on", about.get("data", config.dataset.name)),
        ("steps", _steps(config)),
    ]
    return facts


def _run(folder: epath.Path) -> list[tuple[str, str]]:
    config = config_file.load_config(folder)
    facts = [("kind", f"run of {config.model.kind}"), *_settings(folder, config)]
    for stage in ("gan", "segmenter", "self_training", "autoencoder"):
        rows = read_rows(folder / stage / "metrics.jsonl")
        if rows:
            wanted = getattr(config, stage).num_steps if stage != "autoencoder" else None
            facts.append((stage, f"{rows[-1]['step']} of {wanted or '?'} steps"))
    facts += _figures(folder / "evaluation" / "metrics.json")
    facts.append(("trained on", config.dataset.source or config.dataset.name))
    starts = read_rows(folder / "gan" / "starts.jsonl")
    if starts:
        given = textwrap.shorten(str(starts[0].get("command")), 160, placeholder=" ...")
        facts.append(("begun", f"{starts[0].get('time')}, with `{given}`"))
    facts.append(("licence", "yours: the weights come from your photos; the code is MIT"))
    return facts


def _few_shot(folder: epath.Path) -> list[tuple[str, str]]:
    settings, known = loading.few_shot_config(folder)
    labelled = len(known["images"]) + len(known.get("photos_used", []))
    named = parts.read(folder, len(known["classes"]) - 1)
    names = known["classes"] if named is None else parts.classes_of(named).names
    facts = [
        ("kind", "few-shot segmenter"),
        ("classes", ", ".join(names)),
        ("image size", f"{known['image_size']} px"),
        ("labelled images", str(labelled)),
        ("steps", f"network {settings.auto_shot.num_steps}"),
    ]
    return facts + _figures(folder / "metrics.json")


def _settings(folder: epath.Path, config: Any) -> list[tuple[str, str]]:
    count = config.model.num_parts
    known = parts.read(folder, count)
    names = f"background and {count} parts"
    return [
        ("classes", names if known is None else ", ".join(parts.classes_of(known).names)),
        ("image size", f"{config.image_size} px, photos of any size are brought to it"),
    ]


def _steps(config: Any) -> str:
    stages = [("gan", config.gan), ("segmenter", config.segmenter)]
    stages += [("self-training", config.self_training)] if config.self_training.num_steps else []
    return ", ".join(f"{name} {stage.num_steps}" for name, stage in stages)


def _figures(path: epath.Path) -> list[tuple[str, str]]:
    if not path.exists():
        return []
    try:
        metrics = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): evaluate again") from error
    return [(name, f"{metrics[name]:.3f}") for name in _FIGURES if name in metrics]


def _count(variables: Any) -> str:
    return f"{sum(np.size(x) for x in jax.tree.leaves(variables)):,}"
