"""Folders of generated images that wait for a person's labels.

A folder holds `sample_0000.png`, `sample_0001.png`, ... and `latents.npz` with the latents that
they were made from, by name. Labels are put beside the images (see `labels`).
"""

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from ganseg_jax import rules
from ganseg_jax.errors import UserError, command
from ganseg_jax.fewshot.source import Source, latents_from_arrays, latents_to_arrays
from ganseg_jax.files import resolve, write_whole
from ganseg_jax.pixels import to_uint8
from ganseg_jax.report.png import save_png

LATENTS_FILE = "latents.npz"


@rules.usual()
def write_samples(
    directory: epath.PathLike, source: Source, variables: Any, key: jax.Array, count: int
) -> list[str]:
    """Makes `count` images to label; returns their names (without ending).

    Raises:
      UserError: the folder holds samples already (labels would no longer fit), or cannot be
        written.
    """
    directory = resolve(directory)
    if (directory / LATENTS_FILE).exists():
        raise UserError(
            f"{directory} holds images to label already; choose another folder, or remove it"
        )
    latents = source.sample(variables, key, count)
    images = np.asarray(to_uint8(jax.jit(source.images)(variables, latents)))
    names = [f"sample_{i:04d}" for i in range(count)]
    for name, image in zip(names, images, strict=True):
        save_png(directory / f"{name}.png", image)
    # The latents last: a folder with this file is complete.
    save_latents(directory, names, latents_to_arrays(latents))
    return names


def save_latents(directory: epath.PathLike, names: list[str], arrays: Mapping[str, Any]) -> None:
    """Writes the latents of named samples into their folder.

    Raises:
      UserError: the file cannot be written.
    """
    buffer = io.BytesIO()
    np.savez(buffer, names=np.array(names), **arrays)
    write_whole(resolve(directory) / LATENTS_FILE, buffer.getvalue())


def read_latents(directory: epath.PathLike, names: list[str]) -> Any:
    """Returns the latents of the named samples, in this order.

    Raises:
      UserError: the folder has no latents, or not those of a name.
    """
    path = resolve(directory) / LATENTS_FILE
    if not path.exists():
        raise UserError(
            f"{directory} has no {LATENTS_FILE}: labels must lie in a folder written by "
            f"`{command('sample')} --for_labelling=10`"
        )
    known, arrays = _read(path)
    missing = [name for name in names if name not in known]
    if missing:
        raise UserError(f"{path} has no latents of {missing[0]!r}; it has {', '.join(known)}")
    rows = [known.index(name) for name in names]
    return latents_from_arrays({k: x[rows] for k, x in arrays.items()}, str(path))


def generated_names(directory: epath.PathLike) -> list[str]:
    """Returns the names of the images of a folder whose latents it has; none without a file.

    Raises:
      UserError: the file of latents cannot be read.
    """
    path = resolve(directory) / LATENTS_FILE
    return _read(path)[0] if path.exists() else []


def _read(path: epath.Path) -> tuple[list[str], dict[str, np.ndarray]]:
    try:
        arrays = dict(np.load(io.BytesIO(path.read_bytes())))
        return [str(name) for name in arrays.pop("names")], arrays
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} cannot be read as a file of latents: {error}; write the samples again"
        ) from error
