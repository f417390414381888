"""Weight files: formats that need no PyTorch, parts of a checkpoint, and refused files."""

import builtins

import numpy as np
import pytest

from ganseg_jax.errors import UserError
from ganseg_jax.interop import weights

CONTENT = {
    "generator": {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.int64(4)},
    "discriminator": {"b": np.ones(3, np.float32)},
}


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_written_files_are_read_back(tmp_path, suffix):
    path = tmp_path / f"folder/weights{suffix}"
    weights.write(path, CONTENT)
    content = weights.read(path)
    for name, expected in CONTENT.items():
        part = weights.section(content, name, path)
        assert set(part) == set(expected)
        for key, value in expected.items():
            np.testing.assert_array_equal(part[key], value)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_nested_content_has_sections_too():
    part = weights.section(CONTENT, "discriminator", "x.model")
    np.testing.assert_array_equal(part["b"], np.ones(3))


def test_missing_section_is_named(tmp_path):
    with pytest.raises(UserError, match="x.npz has no 'detector'; it holds discriminator"):
        weights.section(CONTENT, "detector", "x.npz")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="absent.npz: there is no such weight file"):
        weights.read(tmp_path / "absent.npz")


@pytest.mark.parametrize("name", ["weights.bin", "weights"])
def test_unknown_endings_are_refused(tmp_path, name):
    with pytest.raises(UserError, match="weight files end in .npz, .safetensors, .model"):
        weights.read(tmp_path / name)
    with pytest.raises(UserError, match="weight files end in"):
        weights.write(tmp_path / name, CONTENT)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_damaged_files_are_named(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    weights.write(path, CONTENT)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError, match=f"weights{suffix} cannot be read as a weight file"):
        weights.read(path)


def test_objects_in_an_archive_are_not_unpickled(tmp_path):
    path = tmp_path / "weights.npz"
    np.savez(path, x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError, match="cannot be read as a weight file"):
        weights.read(path)


def test_torch_files_ask_for_torch_where_it_is_missing(tmp_path, monkeypatch):
    path = tmp_path / "epoch_29.model"
    path.write_bytes(b"anything")
    real_import = builtins.__import__

    def without_torch(name, *args, **kwargs):
        if name == "torch":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_torch)
    with pytest.raises(UserError, match="epoch_29.model is PyTorch's own format: install torch"):
        weights.read(path)
    with pytest.raises(UserError, match="install torch"):
        weights.write(path.with_suffix(".pt"), CONTENT)
    assert not path.with_suffix(".pt").exists()
