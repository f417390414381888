"""The flag --config: an experiment of `configs/` with its overrides, from any folder."""

import collections
import difflib
import glob
import importlib.util
import os
import pathlib
import re
import sys
import typing

from absl import flags

from ganseg_jax.config.schema import Config
from ganseg_jax.config.setting import leaves
from ganseg_jax.errors import UserError
from ganseg_jax.files import expand

_PACKAGE = pathlib.Path(__file__).parents[1]

# In an installed package below it, in a checkout beside it.
_CONFIGS = next(
    folder for folder in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if folder.is_dir()
)


class ConfigFlag:
    """Gives the config of --config with its overrides."""

    def __init__(self) -> None:
        from ml_collections import config_flags

        self._holder = config_flags.DEFINE_config_file(
            "config", None, "Experiment, a file of configs/.", lock_config=True
        )

    @property
    def value(self) -> Config:
        """Returns the checked config.

        Raises:
          UserError: it is not given, or a field makes no sense.
        """
        if (config := self.optional) is None:
            raise UserError(f"--config is missing: give one of {', '.join(_known_configs())}")
        return config

    @property
    def optional(self) -> Config | None:
        """Returns the checked config, or None if it is not given.

        Raises:
          UserError: a field makes no sense.
        """
        from ganseg_jax.config import freeze

        if self._holder.value is None:
            return None
        for name, times in collections.Counter(self._overrides()).items():
            kind = leaves(Config)[name].type if name in leaves(Config) else None
            if times > 1 and typing.get_origin(kind) is tuple:
                # ml_collections would put the values behind each other.
                raise UserError(f"--config.{name} is given {times} times: give it once")
        return freeze(self._holder.value)

    @staticmethod
    def _overrides() -> list[str]:
        return re.findall(r"(?:^|\s)--?config\.([\w.]+)", " ".join(sys.argv))

    @property
    def given(self) -> set[str]:
        """Returns the names of the fields that the command line sets."""
        return set(self._overrides())


def define() -> ConfigFlag:
    """Defines --config, whose overrides are --config.field=value."""
    return ConfigFlag()


def _known_configs() -> list[str]:
    """Returns what --config may name: the files of configs/ if that is here, else their names."""
    here = sorted(glob.glob("configs/[!_]*.py"))
    return here or sorted(path.stem for path in _CONFIGS.glob("[!_]*.py"))


def _joined(argv: list[str]) -> list[str]:
    """Returns the arguments with `--config FILE` as `--config=FILE`."""
    joined: list[str] = []
    for argument in argv:
        if joined and joined[-1] in ("--config", "-config"):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _expand(argument: str) -> str:
    """Returns --flag=~/folder or --flag=$FOLDER as shells leave it, with these replaced."""
    flag, equals, value = argument.partition("=")
    if not argument.startswith("-"):  # The value of the flag before it.
        return _expand_value(argument)
    try:
        return f"{flag}{equals}{_expand_value(value)}"
    except UserError as error:
        raise UserError(f"{flag}={error}") from error


def _expand_value(value: str) -> str:
    """Returns a path, or `FIELD=PATH`, or paths with commas between, each written out."""
    if os.path.lexists(value):  # A name may have these characters.
        return expand(value)
    pieces = re.split("([,=])", value)
    return "".join(piece if piece in ",=" else expand(piece) for piece in pieces)


def _find(argument: str) -> str:
    """Returns --config=FILE[:arg] with the package's own file if FILE is the name of one.

    `puppets`, `puppets.py` and `configs/puppets.py` name it from any folder; a file that exists
    comes first.
    """
    flag, _, value = argument.partition("=")
    file, colon, rest = value.partition(":")
    own = _CONFIGS / f"{os.path.basename(file).removesuffix('.py')}.py"
    bare = os.path.dirname(file) in ("", "configs")
    if flag not in ("--config", "-config") or os.path.isfile(file) or not bare:
        return argument
    return f"{flag}={own}{colon}{rest}" if own.is_file() else argument


def written_out(argv: list[str]) -> list[str]:
    """Returns the arguments with every path and the config's file written out.

    Raises:
      UserError: an environment variable of a path is not set, or it names no user.
      flags.Error: a file of flags (--flagfile) cannot be read.
    """
    own = [_expand(argument) for argument in argv]
    read = flags.FLAGS.read_flags_from_files(own)  # Their lines no shell has seen.
    return [_find(_expand(argument)) for argument in _joined(read)]


def named(name: str, argument: str = "") -> Config:
    """Returns a config of `configs/` with its argument, from whatever folder.

    Raises:
      UserError: the argument makes no sense.
    """
    from ganseg_jax.config import freeze

    spec = importlib.util.spec_from_file_location(name, _CONFIGS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    try:
        return freeze(module.get_config(argument))
    except ValueError as error:
        raise UserError(str(error)) from error


def file_given() -> str:
    """Returns the file that --config names, or ""."""
    given = next((arg for arg in _joined(sys.argv) if arg.startswith("--config=")), "")
    return _find(_expand(given)).partition("=")[2].partition(":")[0]


def missing() -> str | None:
    """Returns what to say if --config names no file that can be read, else None."""
    if "config" not in flags.FLAGS or not flags.FLAGS["config"].present:
        return None
    file = file_given()
    if not file or os.path.exists(file):
        return None
    known = _known_configs()
    near = difflib.get_close_matches(file, known, 1)
    hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"
    return f"--config: there is no file {file}{hint}"
