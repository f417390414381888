"""Stands in for what pickled weights may name: objects that only hold what they are given."""

import pickle
import re
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np

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

# Views with fewer numbers may show some of them more than once, as expanded tensors do.
_SMALL = 2**20


class Refused(pickle.UnpicklingError):
    """Reports what in a file is not read, in one line."""


class Inert:
    """Holds what a file gives; it has no state that a file could set."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise Refused(f"sets the state of a {type(self).__name__.strip('_').lower()}")


class Call(Inert):
    """Stands for a function: only these are ever called."""

    __slots__ = ("function",)
    function: Callable[..., Any]

    def __init__(self, function: Callable[..., Any]):
        object.__setattr__(self, "function", function)

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)

    def __setattr__(self, name: str, value: Any) -> None:
        raise Refused("changes a function")


class Name(Inert):
    """Stands for a type or a constant that is only mentioned, such as torch.float32."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name

    def __call__(self, *args: Any) -> Any:
        return self  # Such as torch.device("cpu").


class Dict(dict):
    """Stands for ordered dicts and the like; attributes beside the items are passed over."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


class Namespace(dict):
    """Stands for argparse.Namespace: its attributes are the items."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.update(state)


class Storage(Inert):
    __slots__ = ("dtype", "size", "read")

    def __init__(self, dtype: np.dtype, size: int, read: Callable[[], Any]):
        self.dtype, self.size, self.read = dtype, size, read


class Tensor(Inert):
    __slots__ = ("storage", "offset", "shape", "strides")

    def __init__(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any):
        if not isinstance(storage, Storage):
            raise Refused("holds a tensor without a storage")
        self.storage = storage
        self.offset, *rest = whole_numbers((offset, *shape, *strides))
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


class Dtype(Inert):
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


class Array(Inert):
    """Stands for numpy.ndarray."""

    __slots__ = ("shape", "kind", "fortran", "data")

    def __init__(self, *_: Any):
        self.shape, self.kind, self.fortran, self.data = (), None, False, b""

    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.kind, self.fortran, self.data = state

    @classmethod
    def of(cls, data: Any, kind: Any, shape: Any = (), order: Any = "C") -> "Array":
        self = cls()
        self.shape, self.kind, self.fortran, self.data = shape, kind, order == "F", data
        return self

    def array(self) -> np.ndarray:
        """Returns the array; objects have no such type, and are refused."""
        if not isinstance(self.kind, Dtype):
            raise Refused("holds an array without a type")
        data = self.data.encode("latin1") if isinstance(self.data, str) else self.data
        order: Any = "F" if self.fortran else "C"
        return np.frombuffer(data, self.kind.dtype()).reshape(self.shape, order=order)


class Network(Inert):
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

    def _modules(self, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, "Network"]]:
        if depth > 32:
            raise Refused("holds a network inside itself")
        yield prefix, self
        for name, child in self.state.get("_modules", {}).items():
            if isinstance(child, Network):
                yield from child._modules(f"{prefix}{name}.", depth + 1)


def whole_numbers(values: Any) -> list[int]:
    """Returns the values as integers.

    Raises:
      Refused: one of them is no possible size.
    """
    if not all(isinstance(n, int) and 0 <= n < 2**48 for n in values):
        raise Refused("holds a tensor of no possible shape")
    return [int(n) for n in values]


def _rebuilt(function: Any, _: Any, args: Any, *__: Any) -> Any:
    if not isinstance(function, Call):
        raise Refused("calls what is no function")
    return function(*args)


def _scalar(kind: Any, data: Any) -> Array:
    return Array.of(data, kind)


def _encoded(text: Any, encoding: Any = "latin1") -> bytes:
    return str(text).encode("latin1")


def dtype_of(kind: Any) -> np.dtype:
    """Returns the type of the numbers in a storage.

    Raises:
      Refused: it is none of the known ones.
    """
    name = kind.name if isinstance(kind, Name) else type(kind).__name__
    if name not in _STORAGES:
        raise Refused(f"holds a storage of type {name}")
    return _STORAGES[name]


GLOBALS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): Dict,
    ("collections", "defaultdict"): Call(lambda *_: Dict()),
    ("collections", "Counter"): Dict,
    ("builtins", "dict"): Dict,
    ("builtins", "set"): Call(lambda items=(): set(items)),
    ("argparse", "Namespace"): Namespace,
    ("dnnlib.util", "EasyDict"): Dict,
    ("_codecs", "encode"): Call(_encoded),
    ("numpy", "dtype"): Call(Dtype),
    ("numpy", "ndarray"): Name("ndarray"),
    ("torch", "Size"): Call(lambda sizes=(): tuple(sizes)),
    ("torch", "device"): Name("device"),
    ("torch", "Tensor"): Name("Tensor"),
    ("torch.nn.parameter", "Parameter"): Name("Parameter"),
    ("torch._utils", "_rebuild_tensor"): Call(Tensor),
    ("torch._utils", "_rebuild_tensor_v2"): Call(Tensor),
    ("torch._utils", "_rebuild_parameter"): Call(lambda tensor, *_: tensor),
    ("torch._tensor", "_rebuild_from_type_v2"): Call(_rebuilt),
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): Call(Network),
}
GLOBALS |= {("__builtin__", name): GLOBALS["builtins", name] for name in ("dict", "set")}
GLOBALS |= {("torch", name): Name(name) for name in _STORAGES}
GLOBALS |= {
    ("torch", name): Name(name)
    for name in "float32 float64 float16 bfloat16 int64 int32 int16 int8 uint8 bool".split()
}
for _package in ("numpy.core", "numpy._core"):
    GLOBALS[f"{_package}.multiarray", "scalar"] = Call(_scalar)
    GLOBALS[f"{_package}.multiarray", "_reconstruct"] = Call(Array)
    GLOBALS[f"{_package}.numeric", "_frombuffer"] = Call(Array.of)
