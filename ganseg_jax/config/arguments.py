"""Arguments behind a config file's name: `--config=configs/x.py:name=value,name=value`."""

from types import SimpleNamespace
from typing import Any

_BOOLS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def parse_arg(arg: str | None, **defaults: Any) -> SimpleNamespace:
    """Returns the arguments' values as attributes.

    Args:
      arg: the text behind the colon.
      **defaults: the known names with their defaults, whose types the values take.

    Raises:
      ValueError: naming the argument that is unknown or of another type.
    """
    values = dict(defaults)
    for item in filter(None, (arg or "").split(",")):
        name, _, value = item.partition("=")
        if name not in defaults:
            raise ValueError(f"config argument {name!r} is none of {', '.join(defaults)}")
        values[name] = _parsed(name, value, type(defaults[name]))
    return SimpleNamespace(**values)


def _parsed(name: str, value: str, kind: type) -> Any:
    try:
        # bool("False") is True.
        return _BOOLS[value.lower()] if kind is bool else kind(value)
    except (KeyError, ValueError):
        raise ValueError(f"config argument {name}={value!r} must be {kind.__name__}") from None
