"""Weight files: all formats that are read, parts of a checkpoint, and refused files."""

import builtins
import gzip
import io
import json
import tarfile
import zipfile

import numpy as np
import pytest

from ganseg_jax.errors import UserError
from ganseg_jax.interop import weights
from tests.interop import torch_files

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


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("weights.onnx", "is a graph of ONNX .*state_dict.*: weight files end in .npz, .safe"),
        ("weights", "is of no kind that is known: weight files end in .npz, .safetensors, .model"),
        ("weights.dat", "is of no kind that is known: weight files end in"),
    ],
)
def test_unknown_kinds_are_refused(tmp_path, name, message):
    (tmp_path / name).write_bytes(b"\x08\x01\xff" * 50)
    with pytest.raises(UserError, match=f"{name} {message}"):
        weights.read(tmp_path / name)
    with pytest.raises(UserError, match="weight files end in"):
        weights.write(tmp_path / name, CONTENT)


FORMS = {
    "npz": lambda content: weights.encode("w.npz", content),
    "safetensors": lambda content: weights.encode("w.safetensors", content),
    "archive": torch_files.archive,
    "stream": torch_files.stream,
    "pickle": torch_files.pickled,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("ending", [".PTH", ".NPZ", ".SafeTensors", ".th", ".tar", ".pt", ""])
def test_the_content_decides_whatever_the_ending_says(tmp_path, form, ending):
    path = tmp_path / f"weights{ending}"
    path.write_bytes(FORMS[form](CONTENT))
    part = weights.section(weights.read(path), "generator", path)
    np.testing.assert_array_equal(part["a.weight"], [[0, 1, 2], [3, 4, 5]])


def tar_of(content):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("w.pth"), io.BytesIO(content))
    return buffer.getvalue()


def zipped(content):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("w.pth", content)
    return buffer.getvalue()


def npy():
    buffer = io.BytesIO()
    np.save(buffer, np.ones(3))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89HDF\r\n\x1a\n" + bytes(60), "is an HDF5 file.*: save its arrays by name as .npz"),
        (npy(), "is one array without a name: .* numpy.savez"),
        (gzip.compress(npy(), mtime=0), "is packed by gzip: unpack it"),
        (tar_of(b""), "is a tar archive: unpack it"),
        (zipped(b""), "is an archive without weights: unpack it"),
    ],
    ids=["hdf5", "npy", "gzip", "tar", "zip"],  # gzip writes the time of day.
)
@pytest.mark.parametrize("ending", [".pth", ".safetensors", ".npz", ".h5", ".pth.tar"])
def test_what_else_a_file_is_is_said_with_the_remedy(tmp_path, content, message, ending):
    (tmp_path / f"w{ending}").write_bytes(content)
    with pytest.raises(UserError, match=f"w{ending} {message}"):
        weights.read(tmp_path / f"w{ending}")


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_damaged_files_are_named(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    weights.write(path, CONTENT)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError, match=f"weights{suffix} cannot be read as a weight file"):
        weights.read(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: download"),
        (b"hello", "is a text file, not weights"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:1",
            "is a pointer of Git LFS.*git lfs pull",
        ),
        (b"\n<!DOCTYPE html><html>", "is a web page, not weights"),
    ],
)
@pytest.mark.parametrize("suffix", [".pt", ".npz", ".safetensors"])
def test_what_a_failed_download_leaves_is_named(tmp_path, suffix, content, message):
    (tmp_path / f"w{suffix}").write_bytes(content)
    with pytest.raises(UserError, match=f"w{suffix} {message}"):
        weights.read(tmp_path / f"w{suffix}")


def test_objects_in_an_archive_are_not_unpickled(tmp_path):
    path = tmp_path / "weights.npz"
    np.savez(path, x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError, match="cannot be read as a weight file"):
        weights.read(path)


@pytest.mark.parametrize("suffix", [".pth", ".pth.tar", ".ckpt", ".bin", ".model"])
@pytest.mark.parametrize("form", [torch_files.archive, torch_files.stream, torch_files.pickled])
def test_torch_files_are_read_without_torch(tmp_path, suffix, form):
    path = tmp_path / f"epoch_29{suffix}"
    path.write_bytes(form(CONTENT))
    content = weights.read(path)
    assert content["generator"]["a.weight"].dtype == np.float32
    np.testing.assert_array_equal(content["generator"]["a.weight"], [[0, 1, 2], [3, 4, 5]])


def test_torch_is_asked_for_where_its_files_are_written(tmp_path, monkeypatch):
    real_import = builtins.__import__

    def without_torch(name, *args, **kwargs):
        if name == "torch":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_torch)
    with pytest.raises(UserError, match="epoch_29.pt is to be in PyTorch's own.*install torch"):
        weights.write(tmp_path / "epoch_29.pt", CONTENT)
    assert not any(tmp_path.iterdir())


def test_what_is_only_read_is_not_written(tmp_path):
    with pytest.raises(UserError, match="weight files end in"):
        weights.write(tmp_path / "x.pkl", CONTENT)


def test_bfloat16_of_safetensors_is_read(tmp_path):
    header = json.dumps({"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "half.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\x80\x3f\x20\xc0")
    content = weights.read(path)
    np.testing.assert_array_equal(content["a"], np.array([1, -2.5], np.float32))
    assert content["a"].dtype == np.float32


@pytest.mark.parametrize("compressed", [True, False])
def test_archives_that_claim_too_much_take_no_memory(tmp_path, compressed):
    """The header of an array promises 2**40 numbers."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (2**20, 2**20)}
    )
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if compressed else 0) as archive:
        archive.writestr("x.npy", header.getvalue() + b"\0" * 64)
    with pytest.raises(UserError, match="bomb.npz cannot be read.*x.npy is cut off"):
        weights.read(path)
