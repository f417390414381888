"""Pickles are read as data: known names only, and nothing that takes memory at will."""

import argparse
import collections
import logging
import pickle
import struct

import numpy as np
import pytest

from ganseg_jax.errors import UserError
from ganseg_jax.interop import pickle_parts, pickles, torch_stylegan2, weights
from tests.interop import torch_files
from tests.interop.nvidia_goldens import GOLDENS
from tests.interop.test_torch_stylegan2 import shapes_of, zero_checkpoint


def read(tmp_path, data, name="x.pt"):
    (tmp_path / name).write_bytes(data)
    return weights.read(tmp_path / name)


@pytest.mark.parametrize("name", ["torch_2_13.pt", "torch_2_13_stream.pt"])
def test_files_of_torch_itself(name):
    content = weights.read(GOLDENS / name)
    part = content["g_ema"]
    np.testing.assert_array_equal(part["w"], np.arange(12).reshape(3, 4).T)
    np.testing.assert_array_equal(part["same"], [4, 5, 6, 7])
    np.testing.assert_array_equal(part["brain"], np.array([1, 2.5, -3], np.float32))
    assert part["half"].dtype == np.float16 and list(part["half"]) == [1.5, -2]
    assert list(part["flag"]) == [True, False] and part["n"] == 7 and list(part["p"]) == [1, 1]
    assert content["args"] == {"size": 8, "name": "x"}
    assert content["ada_aug_p"] == 0.25 and content["steps"] == [1, 2]


@pytest.mark.parametrize("part", ["g_ema", "g"])
@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod."])
def test_whole_training_files_of_stylegan2(tmp_path, caplog, part, prefix):
    state = zero_checkpoint(shapes_of(8, 2))
    content = {
        "d": {"x": np.ones(2, np.float32)},
        part: collections.OrderedDict((prefix + k, np.array(v)) for k, v in state.items()),
        "g_optim": {"state": collections.defaultdict(dict), "param_groups": [{"betas": (0, 0.9)}]},
        "args": argparse.Namespace(size=8, iter=800000, path="data"),
        "latent_avg": np.ones(4, np.float32),
    }
    with caplog.at_level(logging.INFO, "ganseg_jax"):
        logging.getLogger("ganseg_jax").propagate = True
        content = read(tmp_path, torch_files.archive(content))
        module, variables = torch_stylegan2.load_generator(content)
    assert f"took '{part}'; left out: args, d, g_optim." in caplog.text
    assert module.size == 8
    np.testing.assert_array_equal(variables["latent_statistics"]["w_mean"], np.ones(4))


def test_numpy_arrays_and_scalars(tmp_path):
    content = {
        "p": np.float64(0.1),
        "n": np.int32(3),
        "x": np.arange(6, dtype=">i4").reshape(2, 3),
        "f": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    }
    for protocol in (2, 4, 5):
        got = read(tmp_path, pickle.dumps(content, protocol))
        assert got["p"] == 0.1 and got["n"] == 3
        np.testing.assert_array_equal(got["x"], content["x"])
        np.testing.assert_array_equal(got["f"], content["f"])


def test_files_without_a_generator_say_what_they_hold(tmp_path):
    content = read(tmp_path, torch_files.archive({"d": {"x": np.ones(1, "f")}, "epoch": 3}))
    with pytest.raises(UserError, match="parts named g_ema, G_ema, g, G; it holds d, epoch"):
        torch_stylegan2.load_generator(content)


def calls(module, name, argument="hello"):
    """A pickle that would call a function."""
    return b"\x80\x02c" + f"{module}\n{name}\nX".encode() + struct.pack("<I", len(argument)) + (
        argument.encode() + b"\x85R."
    )  # fmt: skip


@pytest.mark.parametrize(
    ("module", "name"),
    [("builtins", "print"), ("__builtin__", "print"), ("unknown.module", "thing"),
     ("collections", "OrderedDict.fromkeys"), ("torch.storage", "print"),
     ("numpy", "load"), ("ganseg_jax.files", "write_whole")],
)  # fmt: skip
def test_other_names_are_refused_and_nothing_is_called(tmp_path, capsys, module, name):
    with pytest.raises(UserError) as error:
        read(tmp_path, calls(module, name), "x.pkl")
    line = str(error.value)
    assert f"names {module}.{name}, which is no part of weights" in line and "\n" not in line
    assert capsys.readouterr().out == ""


def test_names_inside_a_storage_are_refused_too(tmp_path):
    inner = calls("builtins", "print")
    data = b"\x80\x04\x8c\x0dtorch.storage\x8c\x10_load_from_bytes\x93B"
    data += struct.pack("<I", len(inner)) + inner + b"\x85R."
    with pytest.raises(UserError, match="names builtins.print"):
        read(tmp_path, data)


@pytest.mark.parametrize(
    ("module", "hint"),
    [
        ("dnnlib.tflib.network", "a TensorFlow network: convert it with legacy.py"),
        ("pg_modules.discriminator", "StyleGAN-XL, which is not supported"),
        ("torch.nn.modules.linear", "save the state_dict alone"),
    ],
)
def test_known_kinds_of_other_files_are_named(tmp_path, module, hint):
    with pytest.raises(UserError, match=f"names {module}.Network, which is .*{hint}"):
        read(tmp_path, calls(module, "Network"))


def test_states_of_what_a_file_may_name_cannot_be_set(tmp_path):
    """Else a file could change how the next one is read."""
    for module, name, message in (
        ("torch._utils", "_rebuild_tensor_v2", "sets the state of a call"),
        ("torch", "FloatStorage", "sets the state of a name"),
        ("collections", "OrderedDict", "cannot be read as a weight file"),
    ):
        state = b"N}X\x0c\x00\x00\x00__defaults__)s\x86b."
        with pytest.raises(UserError, match=message):
            read(tmp_path, b"\x80\x02c" + f"{module}\n{name}\n".encode() + state)
    test_files_of_torch_itself("torch_2_13.pt")


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02Nr\xff\xff\xff\xff.",  # Keeps an object at place 2**32.
        b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".",  # A bytearray of a terabyte.
        b"\x80\x04B" + struct.pack("<I", 2**31) + b".",  # Bytes that are not there.
        b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.",  # A dict inside itself.
        b"\x80\x02(lp0\n.",
        b"\x80\x02})" + b"\x85" * 10**6 + b"Ns.",  # A million tuples inside each other, hashed.
        b"\x80\x02}" + b")\x85q\x00h\x00\x85" * 10**5 + b"Ns.",
        b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b".",
        b"",
    ],
)
def test_damaged_pickles_are_one_line(tmp_path, data):
    with pytest.raises(UserError) as error:
        read(tmp_path, data)
    assert "\n" not in str(error.value)


def test_parts_that_repeat_each_other_do_not_grow(tmp_path):
    """Forty lists, each twice the one before."""
    nested = [1]
    for _ in range(40):
        nested = [nested, nested]
    with pytest.raises(UserError, match="more than 1000000 entries"):
        read(tmp_path, pickle.dumps({"x": nested}, 2))


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [((2, 2**40), (0, 0), 0), ((5,), (1,), 0), ((4,), (1,), 1), ((2, 2), (3, 1), 0)],
)
def test_tensors_stay_inside_their_storages(shape, strides, offset):
    data = np.arange(4, dtype=np.float32).tobytes()
    storage = pickle_parts.Storage(np.dtype("<f4"), 4, lambda: data)
    with pytest.raises(pickles.Refused, match="beyond its storage"):
        pickle_parts.Tensor(storage, offset, shape, strides).array()
    assert pickle_parts.Tensor(storage, 0, (3, 2), (1, 1)).array().tolist() == [
        [0, 1],
        [1, 2],
        [2, 3],
    ]
    assert pickle_parts.Tensor(storage, 0, (8, 0), (1, 1)).array().shape == (8, 0)
