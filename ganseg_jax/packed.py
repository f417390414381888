"""Trained models small enough to come with the package, and the packing of any trained model.

A packed model is a folder: `config.json`, the run's config, and `weights.npz`, generator and
segmenter in float16, to sample from and to segment with, but not to train on. Those in this folder
are known by name: `ganseg_jax.load_segmenter("people")`.
"""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from etils import epath
from flax import traverse_util

from ganseg_jax.config import file as config_file
from ganseg_jax.config import with_fields
from ganseg_jax.errors import UserError
from ganseg_jax.interop import weights
from ganseg_jax.training import stages

PARTS = ("generator", "segmenter")
WEIGHTS = "weights.npz"
_HERE = Path(__file__).parent / "pretrained"


def names() -> list[str]:
    """The models that come with the package."""
    return sorted(path.parent.name for path in _HERE.glob(f"*/{WEIGHTS}"))


def named(name: str) -> Path:
    """The folder of a model that comes with the package.

    Raises:
      UserError: there is none of that name.
    """
    if name not in names():
        raise UserError(f"there is no pretrained model {name!r}; there is {', '.join(names())}")
    return _HERE / name


def find(place: str | Path) -> Path | None:
    """The packed model that a name or a folder stands for; None where it stands for none.

    A folder that holds a model or a run goes before a model of the package of the same name.
    """
    folder = epath.Path(place)
    if (folder / WEIGHTS).exists():
        return Path(place)
    if (folder / "config.json").exists() or str(place) not in names():
        return None
    return _HERE / place


def load(place: Path, part: str) -> tuple[Any, Any]:
    """Config and variables (float32, on the host) of a packed model.

    Args:
      place: what `find` gave.
      part: "generator" or "segmenter".

    Raises:
      UserError: the folder is damaged.
    """
    config = config_file.load_config(place)
    entries = weights.section(weights.read(place / WEIGHTS), part, place / WEIGHTS)
    variables = {name: values.astype(np.float32) for name, values in entries.items()}
    return config, traverse_util.unflatten_dict(variables, sep="/")


def pack(workdir: str | Path, output: str | Path) -> int:
    """Packs a run's generator and segmenter; returns the size of the weights in bytes.

    Raises:
      UserError: the run is not finished, or the folder cannot be written.
    """
    config = config_file.load_config(workdir)
    if config.model.kind != "gan":
        raise UserError(f"{workdir} holds an auto-encoder; only GANs and segmenters are packed")
    variables = {
        "generator": stages.restore_generator(config, workdir),
        "segmenter": stages.restore_segmenter(config, workdir),
    }
    content = {part: _half(part, variables[part]) for part in PARTS}
    # Where the photos were is nobody's business but the run's.
    config = with_fields(config, {"dataset.data_dir": "", "dataset.source": ""})
    weights.write(Path(output) / WEIGHTS, content)
    config_file.save_config(config, output)
    return (Path(output) / WEIGHTS).stat().st_size


def _half(part: str, variables: Any) -> dict[str, np.ndarray]:
    flat = traverse_util.flatten_dict(jax.device_get(variables), sep="/")
    packed = {}
    for name, values in flat.items():
        with np.errstate(over="ignore"):
            packed[name] = np.asarray(values, np.float16)
        if not np.isfinite(packed[name]).all():
            raise UserError(f"{part} {name} does not fit into float16: its values are too large")
    return packed
