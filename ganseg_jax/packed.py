"""Packed models: small folders to keep, to hand on, or to come with the package.

A packed model holds `config.json`, the run's config, and `weights.npz`, generator and segmenter in
float16, to sample from and to segment with, but not to train on; or, exported,
`weights.safetensors` in float32. That of few-shot segmentation has the few-shot settings and no
generator. Those in `pretrained/` are known by name: `ganseg_jax.load_segmenter("people")`; those of
a model hub by `hf://owner/name` (`ganseg_jax.hub`).
"""

import json
from typing import Any

import numpy as np
from etils import epath

from ganseg_jax import files, hub
from ganseg_jax.config import Config, with_fields
from ganseg_jax.config import file as config_file
from ganseg_jax.config.convert import nested
from ganseg_jax.errors import UserError
from ganseg_jax.files import resolve
from ganseg_jax.interop import weights

PARTS = ("generator", "segmenter")
WEIGHTS = "weights.npz"
SAFETENSORS = "weights.safetensors"
METRICS = "metrics.json"
"""What was measured, if it was; nothing needs it."""
ABOUT = "about.json"
"""What `about` returns, if it is there."""
PART_NAMES = "parts.json"
"""What `ganseg_jax.parts` keeps."""
_PRETRAINED = epath.Path(__file__).parent / "pretrained"


def names() -> list[str]:
    """Returns the names of the models that come with the package."""
    return sorted(path.parent.name for path in _PRETRAINED.glob(f"*/{WEIGHTS}"))


def named(name: str) -> epath.Path:
    """Returns the folder of a model that comes with the package.

    Raises:
      UserError: there is none of that name.
    """
    if name not in names():
        raise UserError(f"there is no pretrained model {name!r}; there is {', '.join(names())}")
    return _PRETRAINED / name


def find(place: epath.PathLike) -> epath.Path | None:
    """Returns the folder of the packed model that a folder or a name stands for, or None.

    A folder that holds a model or a run goes before a model of the package of the same name. A
    model of a hub is fetched.

    Raises:
      UserError: a hub has no such model; see `hub.fetch`.
    """
    if hub.is_named(place):
        needed = (("config.json",), (WEIGHTS, SAFETENSORS))
        return hub.fetch(str(place), needed, (PART_NAMES, ABOUT, METRICS))
    folder = resolve(place)
    if weights_file(folder) is not None:
        return folder
    if (folder / "config.json").exists() or str(place) not in names():
        return None
    return _PRETRAINED / str(place)


def short_name(place: epath.PathLike) -> str:
    """Returns a short name of a model for people: the last part of its place."""
    if hub.is_named(place):
        return hub.named(place).repository.split("/")[1]
    found = find(place)
    return (resolve(place) if found is None else found).resolve().name


def is_packaged(folder: epath.PathLike) -> bool:
    """Says whether a folder is that of a model which comes with the package."""
    return resolve(folder).parent == _PRETRAINED


def weights_file(folder: epath.Path) -> epath.Path | None:
    """Returns the weights of a packed model's folder, None if there are none."""
    return next((folder / n for n in (WEIGHTS, SAFETENSORS) if (folder / n).exists()), None)


def is_model(place: epath.PathLike) -> bool:
    """Says whether a folder or a name may be opened as a model: packed, a run, or few-shot."""
    return find(place) is not None or (resolve(place) / "config.json").exists()


def about(place: epath.PathLike) -> dict[str, Any]:
    """Returns what `about.json` says of a packed model, empty if there is none.

    "what", "parts", "data", "licence" and "figures" are sentences. "typical" describes the model's
    answers for photos that it is for; see `jobs.familiar`.
    """
    folder = find(place)
    path = None if folder is None else folder / ABOUT
    if path is None or not path.exists():
        return {}
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def load(place: epath.Path, part: str) -> tuple[Config, Any]:
    """Returns config and variables (float32, on the host) of a packed model.

    Args:
      place: what `find` returned.
      part: "generator" or "segmenter".

    Raises:
      UserError: the folder is damaged.
    """
    return config_file.load_config(place), variables_of(place, part)


def variables_of(place: epath.Path, part: str) -> Any:
    """Returns the variables (float32, on the host) of a part of a packed model.

    Raises:
      UserError: the folder is damaged.
    """
    path = weights_file(place) or place / WEIGHTS
    entries = weights.section(weights.read(path), part, path)
    in_float32 = {name: values.astype(np.float32) for name, values in entries.items()}
    return nested(in_float32, "/")  # As Flax names them, but without Flax.


def write(folder: epath.PathLike, config: Config, variables: dict[str, Any]) -> int:
    """Writes a packed model.

    Args:
      folder: of the model.
      config: of its run.
      variables: of "generator" and "segmenter", on the host.

    Returns:
      The size of the weights in bytes.

    Raises:
      UserError: a value does not fit into float16, or the folder cannot be written.
    """
    content = encode(WEIGHTS, {part: variables[part] for part in PARTS})
    files.write_whole(resolve(folder) / WEIGHTS, content)
    config_file.save_config(anonymous(config), folder)
    return len(content)


def anonymous(config: Config) -> Config:
    """Returns a config without where the photos were, which is nobody's business but the run's."""
    return with_fields(config, {"dataset.data_dir": "", "dataset.source": ""})


def encode(name: str, variables: dict[str, Any]) -> bytes:
    """Returns the bytes of a weight file.

    Args:
      name: of the file: `WEIGHTS`, in float16, or `SAFETENSORS`, in float32.
      variables: of each part, on the host.

    Raises:
      UserError: a value does not fit into float16.
    """
    dtype = np.float16 if name == WEIGHTS else np.float32
    return weights.encode(name, {part: _flat(part, variables[part], dtype) for part in variables})


def _flat(part: str, variables: Any, dtype: type[np.floating]) -> dict[str, np.ndarray]:
    from flax import traverse_util

    packed = {}
    for name, values in traverse_util.flatten_dict(variables, sep="/").items():
        with np.errstate(over="ignore"):
            packed[name] = np.asarray(values, dtype)
        if not np.isfinite(packed[name]).all():
            raise UserError(f"{part} {name} does not fit into float16: its values are too large")
    return packed
