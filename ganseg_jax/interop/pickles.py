"""Reads pickled weights as data: nothing that a file names is imported or called.

PyTorch's files and NVIDIA's networks are pickles, and a pickle is a program that may call whatever
it names. Here a name stands for one of the few objects below, which only hold what they are given,
and any other name is refused. PyTorch itself is not needed.

Formats: PyTorch's archives (a pickle and one member for each storage), its older streams (several
pickles, then the storages), and plain pickles, whose tensors are such streams.
"""

import io
import pickle
import pickletools
import re
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np

_STREAM = 0x1950A86A20F9469CFC6C
"""The number that PyTorch's older streams begin with."""

_STORAGES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}

_OPCODES = frozenset(
    """PROTO FRAME STOP MARK GLOBAL STACK_GLOBAL REDUCE BUILD NEWOBJ BINPERSID
    NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT
    BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINSTRING SHORT_BINSTRING
    BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
    EMPTY_DICT SETITEM SETITEMS EMPTY_LIST APPEND APPENDS EMPTY_SET ADDITEMS
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3
    BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET""".split()
)

# Views with fewer numbers may show some of them more than once, as expanded tensors do.
_SMALL = 2**20
# Far more than the entries of any network; files that repeat their parts without end have more.
_MOST_ENTRIES = 10**6

_MARK, _DEEPEST = -1, 64

_HINTS = {
    "dnnlib.tflib": "a TensorFlow network: convert it with legacy.py of stylegan2-ada-pytorch",
    "tensorflow": "a TensorFlow network",
    "pg_modules": "a Projected GAN or StyleGAN-XL, which is not supported",
    "torch.nn.modules": "a layer of a whole model (StyleGAN-XL's files have such), which is never "
    "loaded: save the state_dict alone",
}


class Refused(pickle.UnpicklingError):
    """Reports what in a file is not read, in one line."""


class _Inert:
    """Holds what a file gives; it has no state that a file could set."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise Refused(f"sets the state of a {type(self).__name__.strip('_').lower()}")


class _Call(_Inert):
    """Stands for a function: only these are ever called."""

    __slots__ = ("function",)
    function: Callable[..., Any]

    def __init__(self, function: Callable[..., Any]):
        object.__setattr__(self, "function", function)

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)

    def __setattr__(self, name: str, value: Any) -> None:
        raise Refused("changes a function")


class _Name(_Inert):
    """Stands for a type or a constant that is only mentioned, such as torch.float32."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name

    def __call__(self, *args: Any) -> Any:
        return self  # Such as torch.device("cpu").


class _Dict(dict):
    """Stands for ordered dicts and the like; attributes beside the items are passed over."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


class _Namespace(dict):
    """Stands for argparse.Namespace: its attributes are the items."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.update(state)


class _Storage(_Inert):
    __slots__ = ("dtype", "size", "read")

    def __init__(self, dtype: np.dtype, size: int, read: Callable[[], Any]):
        self.dtype, self.size, self.read = dtype, size, read


class _Tensor(_Inert):
    __slots__ = ("storage", "offset", "shape", "strides")

    def __init__(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any):
        if not isinstance(storage, _Storage):
            raise Refused("holds a tensor without a storage")
        self.storage = storage
        self.offset, *rest = _whole_numbers((offset, *shape, *strides))
        self.shape, self.strides = rest[: len(shape)], rest[len(shape) :]

    def array(self) -> np.ndarray:
        """Returns the tensor; bfloat16, which NumPy does not have, becomes float32."""
        dtype, shape, strides = self.storage.dtype, self.shape, self.strides
        data = self.storage.read()
        flat = np.frombuffer(data, dtype, count=min(self.storage.size, len(data) // dtype.itemsize))
        count = int(np.prod([int(n) for n in shape], dtype=object))
        last = self.offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        if count and (last >= flat.size or count > max(flat.size, _SMALL)):
            raise Refused("holds a tensor that reaches beyond its storage")
        steps = [s * dtype.itemsize for s in strides]
        start = flat[self.offset :] if count else flat[:0]
        view = np.lib.stride_tricks.as_strided(start, shape, steps, writeable=False)
        return view.astype(np.float32) if dtype == ml_dtypes.bfloat16 else view


class _Dtype(_Inert):
    """Stands for numpy.dtype, of numbers alone."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any = "", *_: Any):
        self.code, self.order = code, "<"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1] if isinstance(state, tuple) and len(state) > 1 else "<"

    def dtype(self) -> np.dtype:
        code = str(self.code)
        if not re.fullmatch(r"[biufc]\d{1,2}", code):
            raise Refused(f"holds an array of type {code[:20]!r}")
        return np.dtype(code).newbyteorder(">" if self.order == ">" else "<")


class _Array(_Inert):
    """Stands for numpy.ndarray."""

    __slots__ = ("shape", "kind", "fortran", "data")

    def __init__(self, *_: Any):
        self.shape, self.kind, self.fortran, self.data = (), None, False, b""

    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.kind, self.fortran, self.data = state

    @classmethod
    def of(cls, data: Any, kind: Any, shape: Any = (), order: Any = "C") -> "_Array":
        self = cls()
        self.shape, self.kind, self.fortran, self.data = shape, kind, order == "F", data
        return self

    def array(self) -> np.ndarray:
        """Returns the array; objects have no such type, and are refused."""
        if not isinstance(self.kind, _Dtype):
            raise Refused("holds an array without a type")
        data = self.data.encode("latin1") if isinstance(self.data, str) else self.data
        order: Any = "F" if self.fortran else "C"
        return np.frombuffer(data, self.kind.dtype()).reshape(self.shape, order=order)


class _Network(_Inert):
    """Stands for a module of NVIDIA's networks; the program kept beside it is passed over."""

    __slots__ = ("class_name", "state")

    def __init__(self, meta: Any):
        self.class_name, self.state = str(meta["class_name"]), dict(meta["state"])

    def content(self) -> dict[str, Any]:
        """Returns parameters and buffers by their dotted names, and the plain "attributes"."""
        state: dict[str, Any] = {}
        attributes: dict[str, Any] = {}
        for prefix, module in self._modules():
            attributes[f"{prefix}class_name"] = module.class_name
            for name, value in module.state.items():
                if name in ("_parameters", "_buffers"):
                    state |= {f"{prefix}{k}": v for k, v in value.items() if v is not None}
                elif not name.startswith("_"):
                    attributes[prefix + name] = value
        return {**state, "attributes": attributes}

    def _modules(self, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, "_Network"]]:
        if depth > 32:
            raise Refused("holds a network inside itself")
        yield prefix, self
        for name, child in self.state.get("_modules", {}).items():
            if isinstance(child, _Network):
                yield from child._modules(f"{prefix}{name}.", depth + 1)


def _whole_numbers(values: Any) -> list[int]:
    if not all(isinstance(n, int) and 0 <= n < 2**48 for n in values):
        raise Refused("holds a tensor of no possible shape")
    return [int(n) for n in values]


def _rebuilt(function: Any, _: Any, args: Any, *__: Any) -> Any:
    if not isinstance(function, _Call):
        raise Refused("calls what is no function")
    return function(*args)


def _scalar(kind: Any, data: Any) -> _Array:
    return _Array.of(data, kind)


def _encoded(text: Any, encoding: Any = "latin1") -> bytes:
    return str(text).encode("latin1")


_PERSISTENT = ("torch_utils.persistence", "_reconstruct_persistent_obj")

_GLOBALS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _Dict,
    ("collections", "defaultdict"): _Call(lambda *_: _Dict()),
    ("collections", "Counter"): _Dict,
    ("builtins", "dict"): _Dict,
    ("builtins", "set"): _Call(lambda items=(): set(items)),
    ("argparse", "Namespace"): _Namespace,
    ("dnnlib.util", "EasyDict"): _Dict,
    ("_codecs", "encode"): _Call(_encoded),
    ("numpy", "dtype"): _Call(_Dtype),
    ("numpy", "ndarray"): _Name("ndarray"),
    ("torch", "Size"): _Call(lambda sizes=(): tuple(sizes)),
    ("torch", "device"): _Name("device"),
    ("torch", "Tensor"): _Name("Tensor"),
    ("torch.nn.parameter", "Parameter"): _Name("Parameter"),
    ("torch._utils", "_rebuild_tensor"): _Call(_Tensor),
    ("torch._utils", "_rebuild_tensor_v2"): _Call(_Tensor),
    ("torch._utils", "_rebuild_parameter"): _Call(lambda tensor, *_: tensor),
    ("torch._tensor", "_rebuild_from_type_v2"): _Call(_rebuilt),
    ("torch.storage", "_load_from_bytes"): _Call(lambda data: _read_stream(data)),
    _PERSISTENT: _Call(_Network),
}
_GLOBALS |= {("__builtin__", name): _GLOBALS["builtins", name] for name in ("dict", "set")}
_GLOBALS |= {("torch", name): _Name(name) for name in _STORAGES}
_GLOBALS |= {
    ("torch", name): _Name(name)
    for name in "float32 float64 float16 bfloat16 int64 int32 int16 int8 uint8 bool".split()
}
for _package in ("numpy.core", "numpy._core"):
    _GLOBALS[f"{_package}.multiarray", "scalar"] = _Call(_scalar)
    _GLOBALS[f"{_package}.multiarray", "_reconstruct"] = _Call(_Array)
    _GLOBALS[f"{_package}.numeric", "_frombuffer"] = _Call(_Array.of)


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
        raise Refused("is an archive without weights of PyTorch")
    root = pickles[0].removesuffix("data.pkl")
    if f"{root}constants.pkl" in members:
        raise Refused("is a TorchScript program: save the model's state_dict instead")
    if f"{root}byteorder" in members and archive.read(f"{root}byteorder") != b"little":
        raise Refused("has its numbers in big-endian order")

    def read(name: str) -> bytes:
        if members[name].file_size > len(data):
            raise Refused("is compressed, which PyTorch's files are not")
        return archive.read(name)

    def storage(kind: Any, key: Any, size: int) -> _Storage:
        return _Storage(_dtype_of(kind), size, lambda: read(f"{root}data/{key}"))

    stream = io.BytesIO(read(pickles[0]))
    return _unpickle(stream, storage)


def _read_stream(data: bytes) -> Any:
    """Reads a plain pickle, or PyTorch's older format."""
    stream = io.BytesIO(data)
    parts: dict[Any, memoryview] = {}

    def storage(kind: Any, key: Any, size: int) -> _Storage:
        return _Storage(_dtype_of(kind), size, lambda: parts[key])

    content = _unpickle(stream, storage)
    if content != _STREAM:
        return content
    version, system = _unpickle(stream), _unpickle(stream)
    if version != 1001 or not system.get("little_endian", True):
        raise Refused("is of an unknown version of PyTorch's format")
    sizes: dict[Any, int] = {}

    def sized(kind: Any, key: Any, size: int) -> _Storage:
        sizes[key] = size * _dtype_of(kind).itemsize
        return storage(kind, key, size)

    content, keys = _unpickle(stream, sized), _unpickle(stream)
    for key in keys:
        stream.seek(8, io.SEEK_CUR)  # The number of elements, which is known.
        parts[key] = memoryview(data)[stream.tell() : stream.tell() + sizes[key]]
        stream.seek(sizes[key], io.SEEK_CUR)
    return content


def _unpickle(stream: io.BytesIO, storage: Callable[..., _Storage] | None = None) -> Any:
    """Reads the pickle at the stream's position and leaves the stream behind it."""
    start = stream.tell()
    _check(stream)
    end = stream.tell()
    return _Unpickler(stream.getvalue()[start:end], storage).load()


def _check(stream: io.BytesIO) -> None:
    """Looks at every step of a pickle before any is taken.

    Python's own reader makes room for any place that an object is to be kept at, and computes the
    hash of tuples inside tuples, however many, on the stack.

    Raises:
      Refused: a step is none of those that weights need.
      Exception: the pickle is damaged.
    """
    kept: dict[int, int] = {}
    stack: list[int] = []  # For each object, how many tuples lie one inside the other.
    for steps, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        name, before = opcode.name, opcode.stack_before
        if name not in _OPCODES:
            raise Refused(f"is no pickle of weights (it uses {name})")
        if "PUT" in name or name == "MEMOIZE":
            place = len(kept) if argument is None else argument
            if place > steps:
                raise Refused("is a damaged pickle")
            kept[place] = stack[-1]
            continue
        depth, single = 0, len(before)
        if pickletools.markobject in before:
            single = before.index(pickletools.markobject)
            while (inner := stack.pop()) != _MARK:
                depth = max(depth, inner)
        for _ in range(single):
            depth = max(depth, stack.pop())
        if "GET" in name:
            depth = kept[int(argument or 0)]
        elif name == "MARK":
            depth = _MARK
        elif "TUPLE" in name:
            depth += 1
        elif name not in ("REDUCE", "NEWOBJ", "BUILD"):
            depth = 0  # What these give may be a tuple that they were given.
        if depth > _DEEPEST:
            raise Refused("is a damaged pickle")
        stack += [depth] * len(opcode.stack_after)


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, storage: Callable[..., _Storage] | None):
        super().__init__(io.BytesIO(data), encoding="latin1")
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        known = _GLOBALS.get((module, name))
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
        return self._storage(kind, key, *_whole_numbers((size,)))


def _dtype_of(kind: Any) -> np.dtype:
    name = kind.name if isinstance(kind, _Name) else type(kind).__name__
    if name not in _STORAGES:
        raise Refused(f"holds a storage of type {name}")
    return _STORAGES[name]


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
        if isinstance(value, _Tensor):
            return value.array(), 1
        if isinstance(value, _Array):
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
        if isinstance(value, _Network):
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
