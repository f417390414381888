"""Weights that are a function of their names, and how golden tensors are compared.

The goldens were computed by the published PyTorch models with these weights, which therefore need
not be stored: an entry's numbers are drawn from a generator seeded with the CRC-32 of its name.
"""

import json
import zlib
from pathlib import Path

import numpy as np

GOLDENS = Path(__file__).parent / "goldens"


def golden(name):
    """The arrays of `goldens/NAME.npz`."""
    with np.load(GOLDENS / f"{name}.npz") as file:
        return {key: file[key] for key in file.files}


def shapes(name):
    """Names and shapes of `goldens/NAME.json`, or of one table in it ("FILE/TABLE")."""
    file, _, table = name.partition(":")
    content = json.loads((GOLDENS / f"{file}.json").read_text())
    return content[table] if table else content


def fill(shapes_by_name, statistics=None, batch_norm_weights=False):
    """A state_dict of the given shapes.

    Args:
      shapes_by_name: names to shapes.
      statistics: running statistics (`bn/NAME` in a golden file), taken as they are; 0 and 1 where
        a file has none.
      batch_norm_weights: one-dimensional weights are those of batch normalisations, 1 + 0.1 x.
    """
    statistics = statistics or {}
    return {
        key: _entry(key, tuple(shape), statistics, batch_norm_weights)
        for key, shape in shapes_by_name.items()
    }


def _entry(key, shape, statistics, batch_norm_weights):
    if f"bn/{key}" in statistics:
        return statistics[f"bn/{key}"].astype(np.float32)
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if key.endswith("running_mean"):
        return np.zeros(shape, np.float32)
    if key.endswith("running_var"):
        return np.ones(shape, np.float32)
    if key == "init_extend_coord":
        return extended_grid(shape)
    x = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
    if len(shape) == 1:
        x = 1 + 0.1 * x if batch_norm_weights and key.endswith("weight") else 0.1 * x
    elif not key.endswith("embedding.weight"):
        x = x * np.sqrt(2 / (1.04 * np.prod(shape[1:])))
    return x.astype(np.float32)


def extended_grid(shape, margin=10):
    """(row, col) of the first stage's pixels and a margin around them, 2 / (n - 1) apart."""
    side = int(round(np.sqrt(shape[1])))
    size = side - 2 * margin
    axis = np.linspace(-1 - margin * 2 / (size - 1), 1 + margin * 2 / (size - 1), side)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)
    return grid.reshape(shape).astype(np.float32)


def relative_error(got, expected):
    """Largest absolute difference over the largest absolute value."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    assert got.shape == expected.shape, (got.shape, expected.shape)
    return float(np.max(np.abs(got - expected)) / np.max(np.abs(expected)))


def nhwc(x):
    """NCHW to NHWC, float32."""
    return np.ascontiguousarray(np.moveaxis(x.astype(np.float32), 1, -1))
