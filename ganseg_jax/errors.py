"""The exceptions that end a program with one line."""

import pathlib
from collections.abc import Mapping

_CHECKOUT = pathlib.Path(__file__).parents[1]
_ENTRY_POINTS = "experiments" if (_CHECKOUT / "experiments").is_dir() else "ganseg_jax.cli"


_VERBS: dict[str, str] = {}


def speak_as(verbs: Mapping[str, str]) -> None:
    """Has `command` name the verbs of the console script in place of entry points.

    Args:
      verbs: entry point -> its verb.
    """
    _VERBS.update(verbs)


def command(name: str) -> str:
    """Returns how an entry point is started, such as "python -m experiments.pipeline".

    An installed package has no `experiments`, so there it is "python -m ganseg_jax.cli.pipeline".
    Under the console script it is the verb, such as "ganseg sample".
    """
    if name in _VERBS:
        return f"ganseg {_VERBS[name]}"
    return f"python -m {_ENTRY_POINTS}.{name}"


class UserError(Exception):
    """Reports a mistake the user can put right: bad flags, missing data, unreadable files.

    The message is one line that names the file or field and says what to do. Entry points print it
    without a traceback and end with exit code 2. Several lines, as of a name, are joined.
    """

    def __init__(self, message: str):
        super().__init__(" ".join(message.splitlines()))


class Stopped(Exception):
    """Reports that a run was asked to end, and from where it resumes.

    Args:
      message: one line.
      code: exit code of the program: 130 after Ctrl-C, 143 after SIGTERM.
    """

    def __init__(self, message: str, code: int):
        super().__init__(message)
        self.code = code
