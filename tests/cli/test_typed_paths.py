"""`~` and `$VARIABLES` in every path that a person types, whatever command takes it."""

import importlib
import pathlib
import pkgutil
import sys
from types import SimpleNamespace

import pytest
from absl import flags

import ganseg_jax.cli
import ganseg_jax.cli.app  # noqa: F401  (its flags are everyone's)
from ganseg_jax.cli import config_flag, startup
from ganseg_jax.config import base_config, freeze
from ganseg_jax.config.schema import Config
from ganseg_jax.config.setting import flat, leaves
from ganseg_jax.errors import UserError

ENTRY_POINTS = sorted(
    path.stem
    for path in pathlib.Path(ganseg_jax.cli.__file__).parent.glob("*.py")
    if '__name__ == "__main__"' in path.read_text() and path.stem != "ganseg"
)

TEXTS = {"string": "{}", "comma separated list of strings": "{0},{0}", "multi string": "NAME={}"}
"""Type of a flag -> a value of it with a path in its place."""

PATHS = {"~/a": "/home/me/a", "$SCRATCH/a": "/scratch/a"}


@pytest.fixture(autouse=True)
def home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("SCRATCH", "/scratch")
    monkeypatch.delenv("NONE", raising=False)


def test_all_entry_points_are_walked():
    everything = {module.name for module in pkgutil.iter_modules(ganseg_jax.cli.__path__)}
    assert {"train", "segment", "few_shot", "export", "push", "published"} < set(ENTRY_POINTS)
    assert set(ENTRY_POINTS) < everything


@pytest.fixture
def defined():
    """Imports an entry point; gives all of its flags by name, and those of every command."""
    before, known, imported = set(flags.FLAGS), flags.FLAGS, []

    def define(name):
        imported.append(f"ganseg_jax.cli.{name}")
        importlib.import_module(imported[-1])
        return {flag: known[flag] for flag in {*known} - before | startup.SHARED}

    yield define
    known.unparse_flags()
    for flag in set(known) - before:
        delattr(known, flag)
    for name in imported:
        del sys.modules[name]


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_every_flag_takes_a_tilde_and_variables(defined, name):
    source = pathlib.Path(ganseg_jax.cli.__file__).with_name(f"{name}.py").read_text()
    assert "app.run(" in source and "argparse" not in source  # Which reads flags as below.
    own = defined(name)
    kinds = {flag: TEXTS[kind] for flag in own if (kind := own[flag].flag_type()) in TEXTS}
    assert {flag for flag in own if "path" in flag or flag.endswith(("dir", "file"))} <= {*kinds}
    for flag, text in kinds.items():
        for typed, whole in PATHS.items():
            for given in ([f"--{flag}={text.format(typed)}"], [f"--{flag}", text.format(typed)]):
                own[flag].unparse()
                own[flag].parse(config_flag.written_out(given)[-1].removeprefix(f"--{flag}="))
                value = own[flag].value
                assert (value if isinstance(value, str) else ",".join(value)) == text.format(whole)
        with pytest.raises(UserError, match=f"--{flag}=.*NONE is not set"):
            config_flag.written_out([f"--{flag}={text.format('$NONE/a')}"])
        with pytest.raises(UserError, match=f"--{flag}=.*no user 'nobody_here'"):
            config_flag.written_out([f"--{flag}={text.format('~nobody_here/a')}"])


@pytest.mark.parametrize(
    ("typed", "whole"),
    [
        ("--config=~/my.py:dir=~/a,size=32", "--config=/home/me/my.py:dir=/home/me/a,size=32"),
        ("--config.dataset.source=$SCRATCH/a.tar", "--config.dataset.source=/scratch/a.tar"),
        ("--set=dataset.data_dir=~/a", "--set=dataset.data_dir=/home/me/a"),
        ("--source=cub=~/cub", "--source=cub=/home/me/cub"),
        ("--beside=~/a,$SCRATCH/b", "--beside=/home/me/a,/scratch/b"),
        ("~/photos", "/home/me/photos"),
        ("-", "-"),
        ("--model=hf://owner/name", "--model=hf://owner/name"),
        ("--classes=a~b,c", "--classes=a~b,c"),
    ],
)  # fmt: skip
def test_paths_inside_values(typed, whole):
    assert config_flag.written_out([typed]) == [whole]


def test_a_file_with_such_a_name_is_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a,~b", "x=~y", "~nobody_here"):
        (tmp_path / name).write_text("")
        assert config_flag.written_out([name]) == [name]


def test_a_file_of_flags_holds_paths_too(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "flags").write_text("--workdir=~/run\n--config=puppets\n--config.seed=3\n")
    workdir, config, seed = config_flag.written_out(["--flagfile=~/flags"])
    assert workdir == f"--workdir={tmp_path}/run" and config.endswith("configs/puppets.py")
    assert seed == "--config.seed=3"


def test_every_text_of_a_config_file_is_written_out():
    names = [name for name, leaf in leaves(Config).items() if leaf.type is str and not leaf.choices]
    assert {"dataset.data_dir", "gan.init_from", "evaluation.dino_checkpoint"} < set(names)
    config = base_config()
    names.remove("model.part_scale")  # A word or a number; any other text is refused.
    for name in names:
        with config.unlocked():
            config.update_from_flattened_dict({name: "$SCRATCH/a"})
    frozen = flat(freeze(config))
    assert {frozen[name] for name in names} == {"/scratch/a"}
    config.dataset.data_dir = "~nobody_here/a"
    with pytest.raises(UserError, match="dataset.data_dir=~nobody_here/a: .*no user"):
        freeze(config)


def test_the_cache_of_compiled_programs_may_be_below_home(monkeypatch):
    monkeypatch.setattr(startup, "_CACHE", SimpleNamespace(value="~/xla"))  # As of a variable.
    assert startup.cache_folder() == "/home/me/xla"
    monkeypatch.setattr(startup, "_CACHE", SimpleNamespace(value=""))
    assert startup.cache_folder() is None
