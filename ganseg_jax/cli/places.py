"""Flags that name what a command reads and writes: model, workdir, inputs and output."""

import glob
import os
from collections.abc import Callable
from typing import Any

from absl import flags
from etils import epath

from ganseg_jax import files
from ganseg_jax.config.setting import nearest
from ganseg_jax.errors import UserError
from ganseg_jax.files import expand


def required(flag: flags.FlagHolder) -> Any:
    """Returns the value of a flag that must be given.

    Raises:
      UserError: it is not.
    """
    if not flag.value:
        raise UserError(f"--{flag.name} is missing; see --help")
    return flag.value


def define_workdir(required: bool = True):
    """Defines --workdir."""
    holder = flags.DEFINE_string("workdir", None, "Folder of the run; buckets (gs://) work too.")
    if required:
        flags.mark_flag_as_required("workdir")
    return holder


def define_model() -> Callable[[], str]:
    """Defines --model, --workdir and --pretrained, one of which is needed.

    Returns:
      What gives the place of the model, checked as far as that is quick.
    """
    model = flags.DEFINE_string(
        "model",
        None,
        "A trained model: a model of the package (people), the folder of a run, of a few-shot "
        "result or of a packed model, or hf://owner/name of a model hub.",
    )
    workdir = define_workdir(required=False)
    name = flags.DEFINE_string("pretrained", None, "A model of the package in place of a workdir.")
    if not takes_arguments():
        _INPUTS[:] = [ModelArgument(model)]

    def place() -> str:
        from ganseg_jax import hub, packed

        given = [flag for flag in (model, workdir, name) if flag.value]
        if len(given) != 1:
            which = " and ".join(f"--{flag.name}" for flag in given)
            raise UserError(
                f"{which} name two models: give one"
                if given
                else f"which model? Give --model={packed.names()[0]}, which comes with the "
                "package, or --model=WORKDIR"
            )
        if name.value and not hub.is_named(name.value):
            return str(packed.named(name.value))
        if model.value and not packed.is_model(model.value):
            raise UserError(no_model(model.value))
        return str(given[0].value)

    return place


def few_shot_folder(name: str) -> epath.Path:
    """Returns the folder of --workdir that --few_shot names.

    Raises:
      UserError: the name is empty, or there is no workdir.
    """
    if not name.strip():
        raise UserError("--few_shot is empty: name a folder of the workdir (--few_shot=few_shot)")
    if flags.FLAGS["workdir"].value is None:
        raise UserError(f"--few_shot={name} is a folder of a workdir: give --workdir with it")
    return epath.Path(flags.FLAGS["workdir"].value) / name


def no_model(name: str) -> str:
    """Returns what to say of a model that is not there."""
    from ganseg_jax import packed

    own = packed.names()
    return (
        f"--model={name} is neither a model of the package ({', '.join(own)}) nor a folder with a "
        f"config.json, and none of a hub (hf://owner/name){nearest(name, [*own, *_models_here()])}"
    )


def _models_here() -> list[str]:
    """Returns the folders that hold models here and in workdirs/."""
    return sorted(
        os.path.dirname(p) for p in (*glob.glob("*/config.json"), *glob.glob("*/*/config.json"))
    )


class Inputs:
    """Gives the values of a flag that arguments without a name fill too."""

    def __init__(self, name: str, doc: str, several: bool):
        self.several = several
        self.flag = (flags.DEFINE_multi_string if several else flags.DEFINE_string)(
            name, None, f"{doc} The flag's name may be left out."
        )
        self._arguments: list[str] = []

    def take(self, arguments: list[str]) -> None:
        """Takes the command line's arguments without a name."""
        self._arguments = [
            argument if argument == "-" else expand(argument) for argument in arguments
        ]

    @property
    def values(self) -> list[str]:
        """Returns what was given, with and without the flag's name.

        Raises:
          UserError: nothing was given, or more than one value if there may be one.
        """
        given = self.flag.value or []
        values = [*([given] if isinstance(given, str) else given), *self._arguments]
        if not values:
            raise UserError(f"--{self.flag.name} is missing; see --help")
        if len(values) > 1 and not self.several:
            raise UserError(
                f"unexpected argument {values[-1]!r}: --{self.flag.name} is {values[0]} already, "
                "and other flags look like --name=value"
            )
        return values

    @property
    def value(self) -> str:
        """Returns the first of `values`."""
        return self.values[0]


class ModelArgument:
    """Lets an argument without a name stand for --model where nothing else takes such ones."""

    def __init__(self, flag: flags.FlagHolder):
        self.flag = flag

    def take(self, arguments: list[str]) -> None:
        """Takes the command line's argument without a name.

        Raises:
          UserError: there are several, or --model is given too.
        """
        if len(arguments) > 1 or self.flag.value:
            raise UserError(
                f"unexpected argument {arguments[-1]!r}: one model is taken, and other flags look "
                "like --name=value"
            )
        flags.FLAGS["model"].value = arguments[0]


_INPUTS: list[Inputs | ModelArgument] = []


def define_inputs(name: str, doc: str, several: bool = False) -> Inputs:
    """Defines a flag whose name may be left out; the last one defined takes such arguments."""
    inputs = Inputs(name, doc, several)
    _INPUTS[:] = [inputs]
    return inputs


_FILES: list[str] = []
"""Names of output flags whose value may be a file."""


def define_output(
    default: str | None, doc: str, name: str = "output", folder: bool = True
) -> flags.FlagHolder:
    """Defines --output, or a flag of another name, and --out for it.

    Args:
      default: its value if it is not given.
      doc: what it is.
      name: of the flag.
      folder: whether it must be a folder.
    """
    holder = flags.DEFINE_string(name, default, doc)
    _FILES[:] = [] if folder else [name]
    flags.DEFINE_alias("out", name)
    return holder


def check_writable() -> None:
    """Raises `UserError` if what is to be written to is a file or may not be written to."""
    known = flags.FLAGS
    if "out" in known and not _FILES and (place := known["out"].value) is not None:
        files.check_writable(place, "--output" if "output" in known else "--out")
    elif "workdir" in known and (place := known["workdir"].value) and os.path.isfile(place):
        raise UserError(f"--workdir={place} is a file: give a folder")


def takes_arguments() -> bool:
    """Says whether arguments without a flag's name mean something."""
    return bool(_INPUTS) and _INPUTS[0].flag.name in flags.FLAGS


def take_arguments(arguments: list[str]) -> None:
    """Gives the arguments without a flag's name to the flag that takes them.

    Raises:
      UserError: there are too many.
    """
    _INPUTS[0].take(arguments)
