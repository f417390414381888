"""Files as PyTorch and NVIDIA's programs write them, made of NumPy arrays without either."""

import contextlib
import io
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from unittest import mock

import numpy as np

STORAGES = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}


class Network:
    """Stands for a module of NVIDIA's networks."""

    def __init__(self, class_name, arrays, attributes=(), source="raise SystemExit"):
        """Nests the arrays and attributes by their dotted names."""
        self.meta = {"type": "class", "version": 6, "module_src": source, "class_name": class_name}
        self.meta["state"] = {"training": False, "_parameters": {}, "_buffers": {}, "_modules": {}}
        for name, value in {**arrays, **dict(attributes)}.items():
            *above, last = name.split(".")
            state = self.meta["state"]
            for part in above:
                children = state["_modules"]
                if part not in children:
                    children[part] = Network("Layer", {})
                state = children[part].meta["state"]
            if name in arrays:
                state["_parameters" if last in ("weight", "bias") else "_buffers"][last] = value
            else:
                state[last] = value


class _Storage:
    def __init__(self, array):
        self.array = array


def _global(module, name):
    def function(*_):
        raise AssertionError("only named, never called")

    function.__module__, function.__qualname__ = module, name
    return function


_NAMES = {
    "tensor": _global("torch._utils", "_rebuild_tensor_v2"),
    "parameter": _global("torch._utils", "_rebuild_parameter"),
    "storage": _global("torch.storage", "_load_from_bytes"),
    "network": _global("torch_utils.persistence", "_reconstruct_persistent_obj"),
    **{name: _global("torch", name) for name in STORAGES.values()},
}


@contextlib.contextmanager
def _modules():
    fakes = {name: types.ModuleType(name) for name in ("torch", "torch_utils")}
    for function in _NAMES.values():
        module = fakes.setdefault(function.__module__, types.ModuleType(function.__module__))
        setattr(module, function.__qualname__, function)
    with mock.patch.dict(sys.modules, fakes):
        yield


class _Pickler(pickle.Pickler):
    def __init__(self, file, storages=None, protocol=2, more=()):
        super().__init__(file, protocol=protocol)
        self.storages, self.more = storages, more

    def reducer_override(self, value):
        if isinstance(value, np.ndarray):
            flat = _Storage(value.reshape(-1))
            steps = tuple(int(np.prod(value.shape[i + 1 :])) for i in range(value.ndim))
            return _NAMES["tensor"], (flat, 0, value.shape, steps, False, OrderedDict())
        if isinstance(value, Network):
            return _NAMES["network"], (value.meta,)
        if isinstance(value, _Storage):
            return _NAMES["storage"], (stream(value),)
        return NotImplemented

    def persistent_id(self, value):
        if self.storages is None or not isinstance(value, _Storage):
            return None
        key = str(len(self.storages))
        self.storages[key] = value.array
        name = STORAGES[value.array.dtype.name]
        return ("storage", _NAMES[name], key, "cpu", value.array.size, *self.more)


def _dumped(content, *options):
    file = io.BytesIO()
    with _modules():
        _Pickler(file, *options).dump(content)
    return file.getvalue()


def archive(content):
    """Returns the bytes of PyTorch's format since 1.6."""
    file, storages = io.BytesIO(), {}
    with zipfile.ZipFile(file, "w") as members:
        members.writestr("archive/data.pkl", _dumped(content, storages))
        members.writestr("archive/byteorder", "little")
        for key, array in storages.items():
            members.writestr(f"archive/data/{key}", array.tobytes())
        members.writestr("archive/version", "3\n")
    return file.getvalue()


def stream(content):
    """Returns the bytes of PyTorch's older format."""
    storages = {}
    head = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True}]
    parts = [pickle.dumps(part, 2) for part in head]
    parts += [_dumped(content, storages, 2, (None,)), pickle.dumps(list(storages), 2)]
    for array in storages.values():
        parts += [np.int64(array.size).tobytes(), array.tobytes()]
    return b"".join(parts)


def pickled(content):
    """Returns the bytes of a plain pickle, as NVIDIA's programs write networks."""
    return _dumped(content, None, 4)
