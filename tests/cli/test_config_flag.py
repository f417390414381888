"""What the command line may leave out: whole paths, and where the configs lie."""

import pytest

from ganseg_jax.cli import config_flag, mistakes
from ganseg_jax.errors import UserError


def test_paths_may_hold_a_tilde_and_variables(monkeypatch):
    monkeypatch.setenv("HOME", "/home/a")
    monkeypatch.setenv("SCRATCH", "/scratch")
    monkeypatch.delenv("NONE", raising=False)
    for given, expected in {
        "--workdir=~/run": "--workdir=/home/a/run",
        "--config.dataset.data_dir=~": "--config.dataset.data_dir=/home/a",
        "--config.dataset.source=$SCRATCH/in": "--config.dataset.source=/scratch/in",
        "--config=${SCRATCH}/my.py:size=32": "--config=/scratch/my.py:size=32",
        "$SCRATCH/run": "/scratch/run",
        "--classes=a~b": "--classes=a~b",
        "--classes=US$,$5": "--classes=US$,$5",
        "--norefine": "--norefine",
    }.items():
        assert config_flag.written_out([given]) == [expected]
    with pytest.raises(UserError, match="--output=.NONE/a: the environment variable NONE is not"):
        config_flag.written_out(["--output=$NONE/a"])


def test_configs_are_found_from_any_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("puppets", "puppets.py", "configs/puppets.py"):
        [found] = config_flag.written_out([f"--config={name}:size=32"])
        found = found.removeprefix("--config=")
        assert found.endswith("configs/puppets.py:size=32") and found.startswith("/")
    for other in ("--config=none", "--config=mine/puppets.py", "--workdir=puppets"):
        assert config_flag.written_out([other]) == [other]
    (tmp_path / "puppets").write_text("")
    assert config_flag.written_out(["--config=puppets"]) == ["--config=puppets"]


def test_a_section_is_no_field():
    text = "flag --config.gan=3: Failed to parse '3' as a ConfigDict: `3` is not a dict."
    assert mistakes.of_config(text) == (
        "--config.gan is a section: set a field of it, such as --config.gan.FIELD=VALUE"
    )
