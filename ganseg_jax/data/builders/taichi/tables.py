"""Reads the landmark tables of the Taichi set: pickled pandas frames, without pandas.

Unpickling runs whatever a file says, so only the few harmless types that such a frame consists of
are let through.
"""

import io
import pathlib
import pickle

import numpy as np

from ganseg_jax.errors import UserError


class _Record:
    """Stands for a pandas object: takes its state and does nothing."""

    def __setstate__(self, state):
        self.state = state


def _new_index(kind, state):
    del kind
    return state


_ALLOWED = {
    ("pandas.core.frame", "DataFrame"): _Record,
    ("pandas.core.internals", "BlockManager"): _Record,
    ("pandas.core.internals.managers", "BlockManager"): _Record,
    ("pandas.core.indexes.base", "_new_Index"): _new_index,
    ("pandas.core.indexes.base", "Index"): _Record,
    ("pandas.core.indexes.range", "RangeIndex"): _Record,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("builtins", "slice"): slice,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str):
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name in (
            "_reconstruct",
            "scalar",
        ):
            # Its place depends on numpy's version, both in the file and here.
            return super().find_class("numpy._core.multiarray", name)
        raise pickle.UnpicklingError(f"it refers to {module}.{name}")


def read_table(path: pathlib.Path) -> tuple[list[str], np.ndarray]:
    """Reads a landmark table.

    Returns:
      The file names and the landmarks (N, L, 2), (x, y) in pixels, -1 = missing.

    Raises:
      UserError: if the file is no such table.
    """
    try:
        columns = _columns(_Unpickler(io.BytesIO(path.read_bytes())).load())
        names = [str(name) for name in columns["file_name"]]
        values = np.stack([np.asarray(value, np.float32) for value in columns["value"]])
    except UserError:
        raise
    # A damaged pickle can fail in any way.
    except Exception as error:  # noqa: BLE001
        raise UserError(f"{path} is no table of landmarks ({error}); get it again") from error
    return names, values


def _columns(frame: _Record) -> dict[str, np.ndarray]:
    """Takes a pickled frame's columns out of the blocks that pandas keeps them in."""
    state = frame.state
    manager = state.get("_data", state.get("_mgr")).state
    content = manager[3]["0.14.1"]
    labels = content["axes"][0]["data"]
    columns = {}
    for block in content["blocks"]:
        places = block["mgr_locs"]
        indices = range(len(labels))[places] if isinstance(places, slice) else places
        for index, values in zip(indices, block["values"], strict=True):
            columns[labels[index]] = values
    return columns
