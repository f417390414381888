"""Weights of another run, a packed model or a file as the start of a stage (`init_from`)."""

import fnmatch
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath
from flax import traverse_util

from ganseg_jax import checkpoints, loading, packed
from ganseg_jax.config import Config
from ganseg_jax.config import file as config_file
from ganseg_jax.config.convert import nested
from ganseg_jax.errors import UserError, command
from ganseg_jax.files import resolve
from ganseg_jax.interop import weights
from ganseg_jax.training.inputs import digest

FILE = "started_from.json"
"""What a stage started from, in its folder."""

AVERAGE, GENERATOR = "average", "generator"
_MOST_NAMED = 3

Networks = dict[str, Any]
"""Variables by the name of the network, as in a stage's state."""


def networks_from(
    stage: str, config: Config, own: Networks, shapes_of: Callable[[Config], Networks]
) -> tuple[Networks, dict[str, Any]]:
    """Returns a stage's networks with the weights that `init_from` names.

    Args:
      stage: "gan" or "segmenter", whose section has the settings.
      config: of the run.
      own: the networks as they are initialised, or their shapes.
      shapes_of: config of a run -> shapes of its networks.

    Returns:
      The networks, and what they started from, fit for JSON: `init_from`, `dont_load`, `kind`
      ("run", "packed model" or "file"), `step` of a run's checkpoint, a `digest` of the weights
      found there, how many were `loaded`, and the names of those `left` as they are initialised.

    Raises:
      UserError: there is nothing, or weights that do not fit and are not left out, all named.
    """
    section = getattr(config, stage)
    source, patterns = section.init_from, _patterns(section.dont_load)
    try:
        found, facts = _read(stage, source, list(own), shapes_of)
        networks, left = _merged(own, found, patterns, stage)
    except UserError as error:
        raise UserError(f"{stage}.init_from={source!r}: {error}") from error
    total = len(jax.tree.leaves(own))
    told = {"init_from": source, "dont_load": section.dont_load, **facts}
    return networks, told | {
        "digest": digest(found),
        "loaded": total - len(left),
        "left": sorted(left),
    }


def _patterns(text: str) -> list[str]:
    return [pattern.strip() for pattern in text.split(",") if pattern.strip()]


def _read(
    stage: str, source: str, names: list[str], shapes_of: Callable[[Config], Networks]
) -> tuple[Networks, dict[str, Any]]:
    """Returns the networks that a source has, of those with these names."""
    place, path = packed.find(source), resolve(source)
    if place is not None:
        return _in_file(packed.weights_file(place) or place, names), {"kind": "packed model"}
    if path.exists() and not path.is_dir():
        return _in_file(path, names), {"kind": "file"}
    if not (path / "config.json").exists():
        raise UserError("there is no run's folder, packed model or weight file of that name")
    if loading.is_few_shot(path):
        raise UserError("a few-shot result has no such networks: give the folder of its run")
    config, folder = config_file.load_config(path), path / stage / "checkpoints"
    like = {name: shapes for name, shapes in shapes_of(config).items()}
    part = {name: name for name in like}
    if stage == "segmenter" and checkpoints.steps(path / "self_training" / "checkpoints"):
        folder, part = path / "self_training" / "checkpoints", {stage: "student/segmenter"}
    read = checkpoints.read(folder, {part[name]: shapes for name, shapes in like.items()})
    if read is None:
        raise UserError(f"that run has no checkpoint of {stage} yet")
    step, state = read
    facts = {"kind": "run", "stage": folder.parent.name, "step": step}
    return {name: state[part[name]] for name in like}, facts


def _in_file(path: epath.Path, names: list[str]) -> Networks:
    """Returns the networks of a weight file that has this package's names."""
    content, found = weights.read(path), {}
    for name in names:
        try:
            entries = weights.section(content, name, path)
        except UserError:
            continue
        if all("/" in entry for entry in entries):
            in_float32 = {k: np.asarray(v, np.float32) for k, v in entries.items()}
            found[name] = nested(in_float32, "/")
    if not found:
        raise UserError(
            f"it holds no {' or '.join(names)} with this package's names: bring weights of other "
            f"programs into a workdir with `{command('convert_checkpoint')}`, and name that"
        )
    return found


def _merged(
    own: Networks, found: Networks, patterns: list[str], stage: str
) -> tuple[Networks, set[str]]:
    """Returns our networks with what was found in their places, and the names of the rest."""
    here, there = _flat(own), _flat(found)
    if AVERAGE in own and AVERAGE not in found:
        there |= {
            f"{AVERAGE}{name.removeprefix(GENERATOR)}": value
            for name, value in there.items()
            if name.startswith(f"{GENERATOR}/")
        }
    there = {name: value for name, value in there.items() if name.split("/")[0] in own}
    names = sorted(here.keys() | there.keys())
    for pattern in patterns:
        if not any(_matches(name, [pattern]) for name in names):
            raise UserError(f"{stage}.dont_load: no weight matches {pattern!r}")
    left = {name for name in names if _matches(name, patterns)}
    wrong = [
        name for name in names if name not in left and _shape(here, name) != _shape(there, name)
    ]
    if wrong:
        raise UserError(_told(here, there, wrong, stage))
    taken = {name: value if name in left else there[name] for name, value in here.items()}
    if all(name in left for name in here):
        raise UserError(f"{stage}.dont_load leaves nothing to load")
    return traverse_util.unflatten_dict(taken, sep="/"), left & here.keys()


def _matches(name: str, patterns: list[str]) -> bool:
    """Says whether a pattern means a weight; the average's are those of the generator."""
    if name.startswith(f"{AVERAGE}/"):
        name = GENERATOR + name.removeprefix(AVERAGE)
    return any(
        fnmatch.fnmatchcase(name, pattern) or name.startswith(f"{pattern.rstrip('/')}/")
        for pattern in patterns
    )


def _told(here: Mapping[str, Any], there: Mapping[str, Any], wrong: list[str], stage: str) -> str:
    """Returns one line about the weights that do not fit."""
    said = [name for name in wrong if not name.startswith(f"{AVERAGE}/")] or wrong
    whole = {name.split("/")[0] for name in said} - {name.split("/")[0] for name in there}
    lines = [f"it has no {network}" for network in sorted(whole)]
    rest = [name for name in said if name.split("/")[0] not in whole]
    for name in rest[:_MOST_NAMED]:
        lines.append(f"{name} is {_described(there, name)} there and {_described(here, name)} here")
    if len(rest) > _MOST_NAMED:
        lines.append(f"and {len(rest) - _MOST_NAMED} more ({', '.join(rest[_MOST_NAMED:][:9])})")
    remedy = ",".join([*sorted(whole), *rest[:_MOST_NAMED]]) + (
        ",..." if len(rest) > _MOST_NAMED else ""
    )
    return f"{'; '.join(lines)}. {stage}.dont_load={remedy} leaves these as they are initialised"


def _flat(networks: Networks) -> dict[str, Any]:
    return dict(traverse_util.flatten_dict(networks, sep="/"))


def _shape(tree: Mapping[str, Any], name: str) -> tuple[int, ...] | None:
    return tuple(tree[name].shape) if name in tree else None


def _described(tree: Mapping[str, Any], name: str) -> str:
    return f"of shape {_shape(tree, name)}" if name in tree else "missing"
