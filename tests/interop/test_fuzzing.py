"""Damaged weight files end in one line or are read, whatever the damage, in little memory.

    python -m tests.interop.test_fuzzing 2000

tries more of them.
"""

import io
import sys
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from ganseg_jax.errors import UserError
from ganseg_jax.interop import torch_stylegan2, weights
from tests.fuzzing import mutations
from tests.interop import torch_files
from tests.interop.nvidia_goldens import GOLDENS, shapes, weight

CONTENT = {
    "g_ema": {"a.weight": np.arange(12, dtype=np.float32).reshape(3, 4), "b": np.ones((2, 1, 3))},
    "step": np.int64(3) * np.ones((), np.int64),
}
MOST_BYTES = 64 * 2**20


def _npz(compressed):
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **weights.flatten(CONTENT))
    return buffer.getvalue()


def _nvidia():
    arrays = {name: weight(name, shape) for name, shape in shapes(4, 0, most=2).items()}
    return torch_files.pickled({"G_ema": torch_files.Network("Generator", arrays)})


FILES = {
    "npz": (".npz", lambda: _npz(False)),
    "compressed npz": (".npz", lambda: _npz(True)),
    "safetensors": (".safetensors", lambda: weights.encode("x.safetensors", CONTENT)),
    "PyTorch": (".pt", lambda: torch_files.archive(CONTENT)),
    "PyTorch's own": (".pt", lambda: (GOLDENS / "torch_2_13.pt").read_bytes()),
    "PyTorch before 1.6": (".pt", lambda: (GOLDENS / "torch_2_13_stream.pt").read_bytes()),
    "NVIDIA": (".pkl", _nvidia),
}


def answers(name, count, seed, folder):
    """Reads mutations of a file, and loads them where they are networks.

    Returns:
      How many files were read, and the lines that refused a file or a network.
    """
    suffix, make = FILES[name]
    path, read, lines = Path(folder) / f"damaged{suffix}", 0, []
    for data in mutations(make(), count, seed):
        path.write_bytes(data)
        tracemalloc.reset_peak()
        try:
            content = weights.read(path)
            read += 1
            torch_stylegan2.load_generator(content)
        except UserError as error:
            lines.append(str(error))
        peak = tracemalloc.get_traced_memory()[1]
        assert peak < MOST_BYTES, f"{peak} bytes for a file of {len(data)}"
    assert not any("\n" in line for line in lines)
    return read, lines


@pytest.fixture
def traced():
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.parametrize("name", FILES)
def test_damaged_files_are_answered_in_one_line(tmp_path, traced, name):
    suffix, make = FILES[name]
    (tmp_path / f"whole{suffix}").write_bytes(make())
    assert weights.read(tmp_path / f"whole{suffix}")
    read, lines = answers(name, 25, 0, tmp_path)
    assert any("damaged" in line for line in lines)


if __name__ == "__main__":
    tracemalloc.start()
    with tempfile.TemporaryDirectory() as folder:
        for name in FILES:
            read, lines = answers(name, int(sys.argv[1]), 1, folder)
            print(f"{name}: {read} files read, {len(lines)} answered in one line")
