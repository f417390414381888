"""Weight files: NumPy archives, safetensors, and PyTorch's own format.

A file holds one state_dict, or several with a name each, as PyTorch training programs save them
({"generator": {...}, "discriminator": {...}}).  Archives and safetensors are flat: there, the names
of the parts stand before those of the entries, with a dot.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ganseg_jax.errors import UserError

TORCH_SUFFIXES = (".model", ".pt", ".pth")
SUFFIXES = (".npz", ".safetensors", *TORCH_SUFFIXES)


def read(path: str | Path) -> dict[str, Any]:
    """Names to arrays, nested where the file is; PyTorch files are read without running code.

    Raises:
      UserError: there is no such file, it is of another kind or damaged, or PyTorch is needed and
        not installed.
    """
    path = _checked(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no such weight file")
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        if path.suffix == ".safetensors":
            from safetensors.numpy import load_file

            return load_file(path)
        return _read_torch(path)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # Each format has error types of its own for damaged files.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} cannot be read as a weight file: {reason}") from error


def write(path: str | Path, content: Mapping[str, Any]) -> None:
    """Writes what `read` reads, whole or not at all.

    Args:
      path: its ending decides the format.
      content: names to arrays, or names of parts to such mappings.

    Raises:
      UserError: the ending is none of the known ones, PyTorch is needed and not installed, or the
        file cannot be written.
    """
    path = _checked(path)
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".npz":
            np.savez(partial, **flatten(content))
        elif path.suffix == ".safetensors":
            from safetensors.numpy import save_file

            save_file({k: np.ascontiguousarray(v) for k, v in flatten(content).items()}, partial)
        else:
            _torch(path).save(_to_torch(content, path), partial)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def section(content: Mapping[str, Any], name: str, path: str | Path) -> dict[str, Any]:
    """One named part of a file's content, nested or with its name before the entries.

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
    """Nested content to one level, names joined by dots."""
    flat = {}
    for name, value in content.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = np.asarray(value)
    return flat


def _checked(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: weight files end in {', '.join(SUFFIXES)}")
    return path


def _torch(path: Path) -> Any:
    try:
        import torch
    except ImportError:
        raise UserError(
            f"{path} is PyTorch's own format: install torch (pip install torch), or convert it to "
            ".npz or .safetensors elsewhere"
        ) from None
    return torch


def _read_torch(path: Path) -> dict[str, Any]:
    torch = _torch(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
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


def _to_torch(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    torch = _torch(path)
    return {
        name: _to_torch(value, path)
        if isinstance(value, Mapping)
        else torch.from_numpy(np.array(value))
        for name, value in content.items()
    }
