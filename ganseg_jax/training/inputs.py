"""What a stage was made from, so that it is trained again if that changes.

Each stage keeps `inputs.json` beside its checkpoints: a digest of the photos, networks and labels
it is trained on, and the settings that matter.
"""

import hashlib
import json
import logging
from collections.abc import Collection, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from ganseg_jax import files
from ganseg_jax.errors import UserError
from ganseg_jax.files import resolve
from ganseg_jax.training import partition
from ganseg_jax.training.stage import Stage

LOG = logging.getLogger(__name__)

FILE = "inputs.json"


def digest(tree: Any) -> str:
    """Returns a digest of the names, shapes and bytes of all arrays in a tree."""
    summed = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        leaf = np.ascontiguousarray(leaf)
        summed.update(f"{jax.tree_util.keystr(path)}{leaf.shape}{leaf.dtype}".encode())
        summed.update(leaf.tobytes())
    return summed.hexdigest()[:16]


def has_begun(folder: epath.PathLike) -> bool:
    """Says whether a stage has checkpoints in its folder."""
    return (resolve(folder) / "checkpoints").exists()


def record(stage: Stage, folder: epath.PathLike) -> None:
    """Writes down what a stage is made from now."""
    if jax.process_index() == 0:
        files.write_json(resolve(folder) / FILE, _plain(stage.inputs))


def recorded(folder: epath.PathLike) -> dict[str, Any] | None:
    """Returns what a stage was made from; None if that was not written down."""
    path = resolve(folder) / FILE
    return json.loads(path.read_text()) if path.exists() else None


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Describes what differs, a phrase for each input; passes over what was not recorded."""
    found = []
    for name, value in _plain(now).items():
        old = before.get(name, value)
        if old == value:
            continue
        if isinstance(value, dict) and isinstance(old, dict) and "count" in value:
            found.append(f"{name} ({value['count']}, was {old.get('count')})")
        elif isinstance(value, dict) and isinstance(old, dict):
            found += [f"{k}={v!r} (was {old[k]!r})" for k, v in value.items() if old.get(k, v) != v]
        else:
            found.append(name)
    return found


def settle(
    stage: Stage, folder: epath.Path, keep: Collection[str], retrain: Collection[str]
) -> None:
    """Decides whether a begun stage resumes or is trained again; if so, its folder is emptied.

    Args:
      stage: its declaration, with today's inputs.
      folder: of the stage.
      keep: names of stages that stay as they are even if their inputs have changed.
      retrain: names of stages that are trained again in any case.

    Raises:
      UserError: the inputs of a stage that is not derived have changed, and neither is asked for.
    """
    if has_begun(folder):
        before = recorded(folder)
        changed = changes(before, stage.inputs) if before else []
        if stage.name in retrain:
            _start_again(stage, folder, "asked for with --retrain")
        elif changed and stage.name in keep:
            LOG.warning("%s: kept, though other now: %s", stage.name, ", ".join(changed))
            return
        elif changed and stage.derived:
            reason = f"other now: {', '.join(changed)}; --keep={stage.name} would keep it"
            _start_again(stage, folder, reason)
        elif changed:
            raise UserError(
                f"{folder} was trained on other inputs; other now: {', '.join(changed)}. "
                f"--retrain={stage.name} trains it again, --keep={stage.name} keeps it"
            )
        elif before:
            return
    record(stage, folder)


def _start_again(stage: Stage, folder: epath.Path, reason: str) -> None:
    LOG.info("%s: is trained again (%s)", stage.name, reason)
    partition.wait_for_all(f"{stage.name} is decided")
    if jax.process_index() == 0:
        folder.rmtree()
    partition.wait_for_all(f"{stage.name} is emptied")


def _plain(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Returns inputs as JSON gives them back."""
    return json.loads(json.dumps(inputs))
