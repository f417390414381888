"""The building itself is tested with the data sets; here, how the entry point starts."""

import subprocess
import sys

import numpy as np
from PIL import Image

# Runs the entry point and then says whether JAX was imported.
_RUN = """
import runpy, sys
try:
    runpy.run_module("experiments.prepare_data", run_name="__main__", alter_sys=True)
finally:
    print("jax" in sys.modules)
"""


def run(*arguments):
    command = [sys.executable, "-c", _RUN, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_data_is_prepared_without_jax(tmp_path):
    source = tmp_path / "photos"
    source.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (4, 12, 12, 3), np.uint8)
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(source / f"{index}.png")
    done = run("--dataset=image_folder", f"--source={source}", f"--data_dir={tmp_path / 'data'}")
    assert done.returncode == 0, done.stderr
    first, last = done.stdout.splitlines()
    assert first.startswith("image_folder prepared in") and last == "False"


def test_mistakes_are_answered_as_everywhere():
    for arguments, message in (
        (["--dataset=puppet", "--data_dir=d"], "error: unknown data set 'puppet', did you mean"),
        (["--datset=puppets"], "error: there is no flag --datset; did you mean --dataset?"),
        (["puppets"], "error: unexpected argument 'puppets'"),
        (["--data_dir=d"], "error: --dataset is missing"),
    ):
        done = run(*arguments)
        assert done.returncode == 2
        assert done.stderr.startswith(message) and done.stderr.count("\n") == 1
