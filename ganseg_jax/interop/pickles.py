"""Reads pickled weights as data: nothing that a file names is imported or called.

PyTorch's files and NVIDIA's networks are pickles, and a pickle is a program that may call whatever
it names. Here a name stands for one of the few objects below, which only hold what they are given,
and any other name is refused. PyTorch itself is not needed.

Formats: PyTorch's archives (a pickle and one member for each storage), its older streams (several
pickles, then the storages), and plain pickles, whose tensors are such streams.
"""

import io
import pickle
import re
import zipfile
from collections.abc import Callable
from typing import Any

from ganseg_jax.interop import pickle_parts, pickle_steps
from ganseg_jax.interop.pickle_parts import (
    Array,
    Network,
    Refused,
    Storage,
    Tensor,
    dtype_of,
    whole_numbers,
)

_STREAM = 0x1950A86A20F9469CFC6C
"""The number that PyTorch's older streams begin with."""

# Far more than the entries of any network; files that repeat their parts without end have more.
_MOST_ENTRIES = 10**6

_HINTS = {
    "dnnlib.tflib": "a TensorFlow network: convert it with legacy.py of stylegan2-ada-pytorch",
    "tensorflow": "a TensorFlow network",
    "pg_modules": "a Projected GAN or StyleGAN-XL, which is not supported",
    "torch.nn.modules": "a layer of a whole model (StyleGAN-XL's files have such), which is never "
    "loaded: save the state_dict alone",
}


def load(data: bytes) -> Any:
    """Returns the content of a PyTorch file or a pickle as plain objects.

    Args:
      data: the whole file.

    Returns:
      Dicts with names, lists, numbers, strings and NumPy arrays. A network becomes one dict of its
      parameters and buffers by their dotted names; under "attributes" are the numbers, strings and
      the like that its modules keep ("synthesis.b8.architecture"), and the name of each class.

    Raises:
      Refused: the file names what is never loaded, or is none of the known formats.
      Exception: of many types, for a damaged file.
    """
    return _Plain().convert(_read_archive(data) if data[:2] == b"PK" else _read_stream(data))


def _read_archive(data: bytes) -> Any:
    archive = zipfile.ZipFile(io.BytesIO(data))
    members = {info.filename: info for info in archive.infolist()}
    pickles = [name for name in members if re.fullmatch(r"([^/]+/)?data\.pkl", name)]
    if len(pickles) != 1:
        raise Refused("is an archive without weights: unpack it and give the file in it")
    root = pickles[0].removesuffix("data.pkl")
    if f"{root}constants.pkl" in members:
        raise Refused("is a TorchScript program: save the model's state_dict instead")
    if f"{root}byteorder" in members and archive.read(f"{root}byteorder") != b"little":
        raise Refused("has its numbers in big-endian order")

    def read(name: str) -> bytes:
        if members[name].file_size > len(data):
            raise Refused("is compressed, which PyTorch's files are not")
        return archive.read(name)

    def storage(kind: Any, key: Any, size: int) -> Storage:
        return Storage(dtype_of(kind), size, lambda: read(f"{root}data/{key}"))

    stream = io.BytesIO(read(pickles[0]))
    return _unpickle(stream, storage)


def _read_stream(data: bytes) -> Any:
    """Reads a plain pickle, or PyTorch's older format."""
    stream = io.BytesIO(data)
    parts: dict[Any, memoryview] = {}

    def storage(kind: Any, key: Any, size: int) -> Storage:
        return Storage(dtype_of(kind), size, lambda: parts[key])

    content = _unpickle(stream, storage)
    if content != _STREAM:
        return content
    version, system = _unpickle(stream), _unpickle(stream)
    if version != 1001 or not system.get("little_endian", True):
        raise Refused("is of an unknown version of PyTorch's format")
    sizes: dict[Any, int] = {}

    def sized(kind: Any, key: Any, size: int) -> Storage:
        sizes[key] = size * dtype_of(kind).itemsize
        return storage(kind, key, size)

    content, keys = _unpickle(stream, sized), _unpickle(stream)
    for key in keys:
        stream.seek(8, io.SEEK_CUR)  # The number of elements, which is known.
        parts[key] = memoryview(data)[stream.tell() : stream.tell() + sizes[key]]
        stream.seek(sizes[key], io.SEEK_CUR)
    return content


def _unpickle(stream: io.BytesIO, storage: Callable[..., Storage] | None = None) -> Any:
    """Reads the pickle at the stream's position and leaves the stream behind it."""
    start = stream.tell()
    pickle_steps.check(stream)
    end = stream.tell()
    return _Unpickler(stream.getvalue()[start:end], storage).load()


_KNOWN = pickle_parts.GLOBALS | {
    ("torch.storage", "_load_from_bytes"): pickle_parts.Call(_read_stream),
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, storage: Callable[..., Storage] | None):
        super().__init__(io.BytesIO(data), encoding="latin1")
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        known = _KNOWN.get((module, name))
        if known is None:
            hint = next((text for top, text in _HINTS.items() if module.startswith(top)), None)
            raise Refused(
                f"names {module}.{name}, which is "
                + (hint or "no part of weights and is never loaded: save the state_dict alone")
            )
        return known

    def persistent_load(self, pid: Any) -> Any:
        if self._storage is None or not isinstance(pid, tuple) or pid[:1] != ("storage",):
            raise Refused("refers to what is no storage")
        _, kind, key, _, size, *view = pid
        if view not in ([], [None]):
            raise Refused("holds views of storages, as PyTorch wrote them before version 0.4")
        return self._storage(kind, key, *whole_numbers((size,)))


class _Plain:
    """Converts what was unpickled; a part that is met again is converted once."""

    def __init__(self) -> None:
        self._done: dict[int, tuple[Any, int]] = {}
        self._open: set[int] = set()

    def convert(self, value: Any) -> Any:
        """Returns a plain object."""
        return self._convert(value)[0]

    def _convert(self, value: Any) -> tuple[Any, int]:
        """Returns a plain object and the number of entries in it."""
        if isinstance(value, Tensor):
            return value.array(), 1
        if isinstance(value, Array):
            array = value.array()
            return (array if array.shape else array[()]), 1
        if value is None or isinstance(value, (bool, int, float, str)):
            return value, 1
        if id(value) in self._done:
            return self._done[id(value)]
        if id(value) in self._open:
            raise Refused("holds a part inside itself")
        self._open.add(id(value))
        self._done[id(value)] = self._converted(value)
        return self._done[id(value)]

    def _converted(self, value: Any) -> tuple[Any, int]:
        if isinstance(value, Network):
            value = value.content()
        if isinstance(value, dict):
            parts = {str(name): self._convert(part) for name, part in value.items()}
            converted: Any = {name: part for name, (part, _) in parts.items()}
            count = sum(count for _, count in parts.values())
        elif isinstance(value, (list, tuple, set)):
            several = [self._convert(part) for part in value]
            converted = [part for part, _ in several]
            count = sum(count for _, count in several)
        else:
            return getattr(value, "name", type(value).__name__.strip("_").lower()), 1
        if count > _MOST_ENTRIES:
            raise Refused(f"holds more than {_MOST_ENTRIES} entries")
        return converted, count + 1
