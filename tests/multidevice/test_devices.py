"""The same training on one device and on several."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tests.multidevice.six_steps import trained

ROOT = pathlib.Path(__file__).parents[2]


def assert_same_training(together, first_together):
    alone, first_alone = trained(1)
    for name, value in first_alone.items():
        np.testing.assert_allclose(first_together[name], value, rtol=1e-5, atol=1e-6)
    # As whole vectors: a bias before a batch normalisation has no gradient but rounding, whose sign
    # is all that Adam's first steps look at.
    for a, b in zip(alone, together, strict=True):
        assert np.linalg.norm(a - b) <= 2e-3 * np.linalg.norm(a)


@pytest.mark.parametrize("count", [2, 4])
def test_several_devices_compute_what_one_does(count):
    assert_same_training(*trained(count))


def test_eight_devices_compute_what_one_does(tmp_path):
    """In a process of its own, because the tests' have four."""
    flags = [flag for flag in os.environ["XLA_FLAGS"].split() if "device_count" not in flag]
    flags.append("--xla_force_host_platform_device_count=8")
    command = [sys.executable, "-m", "tests.multidevice.six_steps", "8", tmp_path / "8.npz"]
    environment = os.environ | {"XLA_FLAGS": " ".join(flags)}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=500)
    with np.load(tmp_path / "8.npz") as saved:
        assert_same_training([saved["arr_0"], saved["arr_1"]], saved)
