"""The README's commands are ones that the programs take, and those for own photos do the job."""

import importlib
import pathlib
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
from absl import flags

from configs import image_folder
from ganseg_jax.cli import completion
from ganseg_jax.cli.verbs import verbs
from ganseg_jax.config import flat, freeze
from ganseg_jax.data.builders.puppets import render
from ganseg_jax.report.png import save_png
from tests.one_stage import WITH_ONE_STAGE
from tests.tiny_config import config_with

ROOT = pathlib.Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def programs():
    """(name, arguments) of every entry point that the README's shell blocks start."""
    found = []
    for block in blocks("sh"):
        text = block.replace("\\\n", " ")
        for line in text.splitlines():
            for name, rest in re.findall(r"-m experiments\.(\w+)([^\"#;&]*)", line):
                found.append((name, shlex.split(rest)))
    return found


def command(name):
    """The arguments of the first command that starts an entry point and reads PHOTOS or `mine`."""
    return next(given for program, given in programs() if program == name and "mine" in str(given))


@pytest.mark.parametrize(("name", "arguments"), programs())
def test_programs_take_these_flags(name, arguments, monkeypatch):
    import ganseg_jax.cli.app  # noqa: F401  Its flags are everyone's.

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    before = set(flags.FLAGS)
    importlib.import_module(f"ganseg_jax.cli.{name}")
    try:
        # Raises for an unknown flag, a missing required one, and a config field that is not there.
        without_a_name = flags.FLAGS(sys.argv)[1:]
        assert not without_a_name or "workdirs" in flags.FLAGS
    finally:
        flags.FLAGS.unparse_flags()
        for flag in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, flag)
        del sys.modules[f"ganseg_jax.cli.{name}"]


def verbs_used():
    """(verb, arguments) of each `ganseg` in the README's shell blocks."""
    lines = "".join(blocks("sh")).replace("\\\n", " ").splitlines()
    found = [re.search(r"bin/ganseg (\w+)(.*)", line) for line in lines]
    return [(match[1], shlex.split(match[2])) for match in found if match]


@pytest.mark.parametrize(("verb", "arguments"), verbs_used())
def test_verbs_take_these_flags(verb, arguments):
    known = completion.flags_of(verbs()[verb].module)
    given = [word.partition("=")[0] for word in arguments if word.startswith("--")]
    assert all(f"{name}=" in known or name == "--out" for name in given)
    (place,) = [word for word in arguments if not word.startswith("--")]
    assert (
        place == "PHOTOS" or place in ("people", "workdirs/mine") and verb in ("studio", "export")
    )


def test_make_targets_exist():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`?make ([a-z-]+)`?", README)) - {"from"}
    assert {"setup", "demo", "test", "lint"} <= named
    assert named <= targets


def test_named_files_exist():
    paths = re.findall(
        r"(?:configs|experiments|ganseg_jax)/[\w/]+(?:\.py|\.png|\.webp|\.md|\.sh|\.yaml)?", README
    )
    assert paths
    for path in paths:
        assert (ROOT / path).exists(), path


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

    (block,) = blocks("python")
    names = {}
    exec(block.replace("workdirs/demo", str(tmp_path / "mine")), names)
    assert names["labels"].shape == (2, 100, 80) and names["labels"].dtype == np.int32
    assert names["probabilities"].shape == (2, 100, 80, 4)
    assert names["centers"].shape == (2, 3, 2)
    assert names["out"].image.shape == (4, 16, 16, 3)
