"""Weight files: NumPy archives, safetensors, PyTorch's own formats and NVIDIA's pickles.

A file holds one state_dict, or several with a name each, as PyTorch training programs save them
({"generator": {...}, "discriminator": {...}}).  Archives and safetensors are flat: there, the names
of the parts stand before those of the entries, with a dot.
"""

import io
import re
import zipfile
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
from etils import epath

from ganseg_jax import files
from ganseg_jax.errors import UserError
from ganseg_jax.files import resolve
from ganseg_jax.interop import pickles

TORCH_SUFFIXES = (".model", ".pt", ".pth")
SUFFIXES = (".npz", ".safetensors", *TORCH_SUFFIXES)
READ_SUFFIXES = (*SUFFIXES, ".pkl", ".ckpt", ".bin", ".pth.tar")

_SAFETENSORS: dict[str, Any] = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": ml_dtypes.bfloat16,
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip

_PICKLE = re.compile(rb"\x80[\2-\5]", re.DOTALL)
_KNOWN_STARTS = re.compile(rb"PK|\x80[\2-\5]|.{8}\{", re.DOTALL)
"""What archives, pickles and safetensors begin with."""

_OTHER_STARTS = {
    b"\x89HDF\r\n\x1a\n": "is an HDF5 file, as Keras writes: save its arrays by name as .npz or "
    ".safetensors",
    b"\x93NUMPY": "is one array without a name: save arrays by name with numpy.savez",
    b"\x1f\x8b": "is packed by gzip: unpack it",
    b"BZh": "is packed by bzip2: unpack it",
    b"\xfd7zXZ\0": "is packed by xz: unpack it",
    b"\x28\xb5\x2f\xfd": "is packed by zstd: unpack it",
    b"GGUF": "is a GGUF file of a language model, which has no such weights",
}
_OTHER_ENDINGS = {
    ".onnx": "is a graph of ONNX (give the state_dict that it was exported from)",
    ".msgpack": "is a file of flax.serialization (save its arrays by name with numpy.savez)",
}

# Deflate makes nothing smaller than this fraction; archives that claim more are damaged.
_SMALLEST_FRACTION = 1 / 1100


def read(path: epath.PathLike) -> dict[str, Any]:
    """Reads names to arrays, nested if the file is; pickles are read without running any code.

    What the file begins with decides the format; if that says nothing, its ending does.

    Numbers, strings and settings that a training program saved beside the arrays stay as they are.
    Arrays of bfloat16 become float32.

    Raises:
      UserError: there is no such file, it is of another kind or damaged, or it holds objects other
        than arrays and settings.
    """
    path = resolve(path)
    if not path.exists() or path.is_dir():
        raise UserError(f"{path}: there is no such weight file")
    try:
        with path.open("rb") as file:
            start = file.read(512)
        if what := _other_kind(start):
            raise UserError(f"{path} {what}")
        if not (_KNOWN_STARTS.match(start) or path.name.lower().endswith(READ_SUFFIXES)):
            hint = _OTHER_ENDINGS.get(path.suffix.lower(), "is of no kind that is known")
            raise UserError(f"{path} {hint}: weight files end in {', '.join(READ_SUFFIXES)}")
        data = path.read_bytes()
        kind = _kind(data) or path.suffix.lower()
        if kind == ".npz":
            return _read_npz(data)
        if kind == ".safetensors":
            return _read_safetensors(data)
        content = pickles.load(data)
    except UserError:
        raise
    except pickles.Refused as error:
        raise UserError(f"{path} {error}") from error
    except Exception as error:  # Each format has error types of its own for damaged files.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} cannot be read as a weight file: {reason}") from error
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}, not named weights")
    return dict(content)


def _kind(data: bytes) -> str:
    """Returns the ending that a file's content calls for, or "" if it is not known."""
    if data.startswith(b"PK"):
        try:
            names = zipfile.ZipFile(io.BytesIO(data)).namelist()
        except Exception:  # Damaged: what reads it says so.
            names = []
        return ".npz" if names and all(name.endswith(".npy") for name in names) else ".pt"
    if _PICKLE.match(data):
        return ".pt"
    size = int.from_bytes(data[:8], "little")
    return ".safetensors" if data[8:9] == b"{" and size <= len(data) - 8 else ""


def _other_kind(data: bytes) -> str:
    """Returns what a file is that cannot be read, by its first bytes, and the remedy, or ""."""
    for magic, what in _OTHER_STARTS.items():
        if data.startswith(magic):
            return what
    if data[257:262] == b"ustar":
        return "is a tar archive: unpack it and give the weight file in it"
    start = data.lstrip()
    if not start:
        return "is empty: download or copy it again"
    if start.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the file: run `git lfs pull` or download it"
    if re.match(rb"<(!doctype|html|\?xml)", start, re.IGNORECASE):
        return "is a web page, not weights: download the file again"
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in start):
        return "is a text file, not weights"
    return ""


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
    path, buffer = _checked(path, SUFFIXES), io.BytesIO()
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


def _checked(path: epath.PathLike, suffixes: tuple[str, ...]) -> epath.Path:
    path = resolve(path)
    if not path.name.endswith(suffixes):
        raise UserError(f"{path}: weight files end in {', '.join(suffixes)}")
    return path


def _torch(path: epath.Path) -> Any:
    try:
        import torch
    except ImportError:
        raise UserError(
            f"{path} is to be in PyTorch's own format: install torch (pip install torch), or "
            "write .npz or .safetensors"
        ) from None
    return torch


def _read_npz(data: bytes) -> dict[str, Any]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {
            info.filename.removesuffix(".npy"): _read_npy(archive, info)
            for info in archive.infolist()
        }


def _read_npy(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    if info.compress_size < info.file_size * _SMALLEST_FRACTION:
        raise ValueError(f"{info.filename} claims an impossible size")
    content = io.BytesIO(archive.read(info))
    version = np.lib.format.read_magic(content)
    header = np.lib.format.read_array_header_1_0
    shape, _, dtype = (header if version == (1, 0) else np.lib.format.read_array_header_2_0)(
        content
    )
    # NumPy makes room for the whole array before it looks for its numbers.
    if int(np.prod(shape, dtype=object)) * dtype.itemsize > info.file_size:
        raise ValueError(f"{info.filename} is cut off")
    content.seek(0)
    return np.lib.format.read_array(content, allow_pickle=False)


def _read_safetensors(data: bytes) -> dict[str, Any]:
    from safetensors import deserialize

    arrays = {}
    for name, part in deserialize(data):
        if part["dtype"] not in _SAFETENSORS:
            raise ValueError(f"{name} is of type {part['dtype']}")
        array = np.frombuffer(part["data"], _SAFETENSORS[part["dtype"]]).reshape(part["shape"])
        arrays[name] = array.astype(np.float32) if array.dtype == ml_dtypes.bfloat16 else array
    return arrays


def _to_torch(content: Mapping[str, Any], path: epath.Path) -> dict[str, Any]:
    torch = _torch(path)
    return {
        name: _to_torch(value, path)
        if isinstance(value, Mapping)
        else torch.from_numpy(np.array(value))
        for name, value in content.items()
    }
