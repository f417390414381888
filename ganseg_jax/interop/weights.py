"""Weight files: NumPy archives, safetensors, and PyTorch's own format.

A file holds one state_dict, or several with a name each, as PyTorch training programs save them
({"generator": {...}, "discriminator": {...}}).  Archives and safetensors are flat: there, the names
of the parts stand before those of the entries, with a dot.
"""

import io
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from ganseg_jax import files
from ganseg_jax.errors import UserError
from ganseg_jax.files import resolve

TORCH_SUFFIXES = (".model", ".pt", ".pth")
SUFFIXES = (".npz", ".safetensors", *TORCH_SUFFIXES)


def read(path: epath.PathLike) -> dict[str, Any]:
    """Reads names to arrays, nested if the file is; PyTorch files are read without running code.

    Raises:
      UserError: there is no such file, it is of another kind or damaged, or PyTorch is needed and
        not installed.
    """
    path = _checked(path)
    if not path.exists() or path.is_dir():
        raise UserError(f"{path}: there is no such weight file")
    try:
        data = path.read_bytes()
        if path.suffix == ".npz":
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        if path.suffix == ".safetensors":
            from safetensors.numpy import load

            return load(data)
        return _read_torch(path, data)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # Each format has error types of its own for damaged files.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} cannot be read as a weight file: {reason}") from error


def write(path: epath.PathLike, content: Mapping[str, Any]) -> None:
    """Writes what `read` reads, whole or not at all.

    Args:
      path: its ending decides the format.
      content: names to arrays, or names of parts to such mappings.

    Raises:
      UserError: the ending is none of the known ones, PyTorch is needed and not installed, or the
        file cannot be written.
    """
    files.write_whole(path, encode(path, content))


def encode(path: epath.PathLike, content: Mapping[str, Any]) -> bytes:
    """Returns the bytes of a weight file, in the format of `path`'s ending.

    Raises:
      UserError: the ending is none of the known ones, or PyTorch is needed and not installed.
    """
    path, buffer = _checked(path), io.BytesIO()
    if path.suffix == ".npz":
        arrays: dict[str, Any] = {**flatten(content)}
        np.savez(buffer, **arrays)
    elif path.suffix == ".safetensors":
        from safetensors.numpy import save

        return save({k: np.ascontiguousarray(v) for k, v in flatten(content).items()})
    else:
        _torch(path).save(_to_torch(content, path), buffer)
    return buffer.getvalue()


def section(content: Mapping[str, Any], name: str, path: epath.PathLike) -> dict[str, Any]:
    """Returns one named part of a file's content, nested or with its name before the entries.

    Raises:
      UserError: the file has no such part.
    """
    if isinstance(content.get(name), Mapping):
        return dict(content[name])
    prefix = f"{name}."
    part = {k.removeprefix(prefix): v for k, v in content.items() if k.startswith(prefix)}
    if not part:
        raise UserError(f"{path} has no {name!r}; it holds {', '.join(sorted(content)[:4])}, ...")
    return part


def flatten(content: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """Returns nested content at one level, names joined by dots."""
    flat: dict[str, np.ndarray] = {}
    for name, value in content.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = np.asarray(value)
    return flat


def _checked(path: epath.PathLike) -> epath.Path:
    path = resolve(path)
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: weight files end in {', '.join(SUFFIXES)}")
    return path


def _torch(path: epath.Path) -> Any:
    try:
        import torch
    except ImportError:
        raise UserError(
            f"{path} is PyTorch's own format: install torch (pip install torch), or convert it to "
            ".npz or .safetensors elsewhere"
        ) from None
    return torch


def _read_torch(path: epath.Path, data: bytes) -> dict[str, Any]:
    torch = _torch(path)
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # PyTorch's own message advises to load without this safeguard.
        raise UserError(
            f"{path} is damaged, or holds objects other than tensors, which are never loaded"
        ) from error
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}, not named weights")

    def to_numpy(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(name): to_numpy(item) for name, item in value.items()}
        if not isinstance(value, torch.Tensor):
            return value
        # NumPy has no bfloat16.
        value = value.detach()
        return (value.float() if value.dtype == torch.bfloat16 else value).numpy()

    return to_numpy(content)


def _to_torch(content: Mapping[str, Any], path: epath.Path) -> dict[str, Any]:
    torch = _torch(path)
    return {
        name: _to_torch(value, path)
        if isinstance(value, Mapping)
        else torch.from_numpy(np.array(value))
        for name, value in content.items()
    }
