"""The README's commands for own photos do the job, and so does its code."""

import pathlib
import re
import subprocess
import sys

import numpy as np

from configs import image_folder
from ganseg_jax.config import flat, freeze
from ganseg_jax.data.builders.puppets import render
from ganseg_jax.report.png import save_png
from tests.docs import commands
from tests.one_stage import WITH_ONE_STAGE
from tests.tiny_config import config_with

ROOT = pathlib.Path(__file__).parents[2]


def command(name):
    """The arguments of the first command that starts an entry point and reads PHOTOS or `mine`."""
    return next(
        words[3:]
        for words in commands.commands(ROOT / "README.md")
        if words[1:3] == ["-m", f"experiments.{name}"] and "mine" in str(words)
    )


def overrides():
    """Flags that make `configs/image_folder.py` as small as `configs/tiny.py`."""
    small, full = flat(config_with(**WITH_ONE_STAGE)), flat(freeze(image_folder.get_config()))
    keep = ("dataset.", "seed")
    return [
        f"--config.{key}={value}"
        for key, value in small.items()
        if full[key] != value and not key.startswith(keep)
    ]


def test_own_photos(tmp_path):
    photos = tmp_path / "PHOTOS"
    photos.mkdir()
    for i, image in enumerate(render.render(24, 32, seed=0).images):
        save_png(photos / f"{i}.png", image)

    def start(name, *more):
        given = [
            word.replace("PHOTOS", str(photos)).replace("workdirs/", f"{tmp_path}/")
            for word in command(name)
        ]
        given = [re.sub(r"=(parts|samples)$", rf"={tmp_path}/\1", word) for word in given]
        result = subprocess.run(
            [sys.executable, "-m", f"ganseg_jax.cli.{name}", *given, *more],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=500,
        )
        assert result.returncode == 0, result.stderr

    start("pipeline", *overrides())
    assert (tmp_path / "mine" / "report.html").stat().st_size > 10_000
    start("segment")
    assert len(list((tmp_path / "parts").rglob("*.png"))) >= 24
    start("sample")
    assert list((tmp_path / "samples").rglob("*.png"))

    (block,) = [
        text
        for language, text in commands.fenced((ROOT / "README.md").read_text())
        if language == "python"
    ]
    names = {}
    exec(block.replace("workdirs/demo", str(tmp_path / "mine")), names)
    assert names["labels"].shape == (2, 100, 80) and names["labels"].dtype == np.int32
    assert names["probabilities"].shape == (2, 100, 80, 4)
    assert names["centers"].shape == (2, 3, 2)
    assert names["out"].image.shape == (4, 16, 16, 3)
