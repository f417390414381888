"""The machinery of settings: how one is described, listed, read, changed and checked."""

import dataclasses
import difflib
import functools
import typing
from typing import Any, Literal, cast

from ganseg_jax.errors import UserError

LARGEST = float.fromhex("0x1.fffffep127")
"""The largest number that float32 has, in which networks compute."""

Change = Literal["never", "steps", "anytime"]
"""When a workdir may go against the value it was begun with: never, because it decides what was
trained; only if it is given explicitly ("steps": more of them train a stage longer); anytime."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """Describes one setting; kept in the metadata of its dataclass field.

    Attributes:
      doc: what it does, as a sentence.
      minimum: the smallest value.
      above: a value that it must exceed.
      below: a value that it must stay under.
      unit: of numbers.
      change: see `Change`.
      before: what workdirs without this field were begun with.
      file: what to do if the named file does not exist; empty if the setting names no file.
      since: the first version of the package that has it.
    """

    doc: str
    minimum: float | None = None
    above: float | None = None
    below: float | None = None
    unit: str = ""
    change: Change = "never"
    before: Any = None
    file: str = ""
    since: str = "0.1"


def setting(default: Any, doc: str, *, before: Any = None, **facts: Any) -> Any:
    """Returns a dataclass field with its `Setting`; `before` is the default if not given."""
    before = default if before is None else before
    described = Setting(doc, before=before, **facts)
    return dataclasses.field(default=default, metadata={"setting": described})


def counts(default: tuple[int, ...], doc: str, **facts: Any) -> Any:
    """Returns a field for several numbers of things, each at least 1."""
    return setting(default, doc, minimum=1, **facts)


def seed(doc: str) -> Any:
    """Returns a field for what random numbers begin with; more bits would be cut off."""
    return setting(0, doc, minimum=0, below=2**32)


def count(default: int, doc: str, **facts: Any) -> Any:
    """Returns a field for a number of things, at least 1 unless `minimum` says otherwise."""
    return setting(default, doc, **{"minimum": 1} | facts)


@dataclasses.dataclass(frozen=True)
class Leaf:
    """Holds one setting of a schema.

    Attributes:
      type: of its value; that of the choices if they are given by a `Literal`.
      default: its value if nothing is said.
      setting: its description.
      choices: the values it may have; empty for any.
    """

    type: Any
    default: Any
    setting: Setting
    choices: tuple = ()


def leaves(schema: type, prefix: str = "") -> dict[str, Leaf]:
    """Returns every setting of a schema by its dotted name, in the order of declaration."""
    return _leaves(schema, prefix)


@functools.cache
def _leaves(schema: type, prefix: str) -> dict[str, Leaf]:
    found: dict[str, Leaf] = {}
    for field in dataclasses.fields(schema):
        if "setting" in field.metadata:
            kind: Any = field.type
            choices = typing.get_args(kind) if typing.get_origin(kind) is Literal else ()
            kind = type(choices[0]) if choices else kind
            described = field.metadata["setting"]
            found[prefix + field.name] = Leaf(kind, field.default, described, choices)
        else:
            found |= leaves(cast(type, field.type), f"{prefix}{field.name}.")
    return found


def flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """Returns the values of a schema's instance by their dotted names."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            values |= flat(value, f"{prefix}{field.name}.")
        else:
            values[prefix + field.name] = value
    return values


def with_fields(config: Any, values: dict[str, Any]) -> Any:
    """Returns a copy with some fields changed, unchecked.

    Args:
      config: an instance of a schema.
      values: new values by dotted name.

    Raises:
      TypeError: a name is not a field.
    """
    here: dict[str, Any] = {}
    below: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        first, _, rest = name.partition(".")
        if rest:
            below.setdefault(first, {})[rest] = value
        else:
            here[first] = value
    for first, inner in below.items():
        here[first] = with_fields(getattr(config, first), inner)
    return dataclasses.replace(config, **here)


def check(config: Any) -> None:
    """Checks every value of a schema's instance by itself.

    Raises:
      UserError: naming the first field whose value has another type or breaks a limit.
    """
    values = flat(config)
    for name, leaf in leaves(type(config)).items():
        problem = _problem(values[name], leaf)
        if problem:
            raise UserError(f"{name}={values[name]!r} {problem}")


def _problem(value: Any, leaf: Leaf) -> str:
    """Returns what is wrong with a value, or ""; the limits of a tuple are those of its entries."""
    setting, kind = leaf.setting, leaf.type
    if typing.get_origin(kind) is not tuple:
        if type(value) is not kind:
            return f"must be of type {kind.__name__}"
        if leaf.choices and value not in leaf.choices:
            return f"is none of {', '.join(map(str, leaf.choices))}{nearest(value, leaf.choices)}"
        return _broken_limit(value, setting)
    entries = typing.get_args(kind)
    if type(value) is not tuple:
        return "must be of type tuple"
    if entries[-1] is not ... and len(value) != len(entries):
        return f"must have {len(entries)} entries"
    for entry in value:
        if type(entry) is not entries[0]:
            return f"must be a tuple of {entries[0].__name__} alone"
        if problem := _broken_limit(entry, setting):
            return f"has the entry {entry!r}, which {problem}"
    return ""


def _broken_limit(value: Any, setting: Setting) -> str:
    if isinstance(value, float) and not abs(value) <= LARGEST:
        return "must be a finite number"
    if setting.minimum is not None and value < setting.minimum:
        return f"must be at least {setting.minimum}"
    if setting.above is not None and not value > setting.above:
        return f"must be above {setting.above}"
    if setting.below is not None and not value < setting.below:
        return f"must be below {setting.below}"
    return ""


_BOOLS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def parsed(name: str, text: str, schema: type) -> Any:
    """Returns the value that a person typed for a setting, unchecked but for its type.

    Args:
      name: dotted.
      text: its value; entries of a tuple have commas between.
      schema: that has the setting.

    Raises:
      UserError: there is no such setting, or the text is of another type.
    """
    known = leaves(schema)
    if name not in known:
        raise UserError(f"there is no field {name}{nearest(name, known)}")
    kind = known[name].type
    try:
        if typing.get_origin(kind) is tuple:
            entry = typing.get_args(kind)[0]
            return tuple(entry(word) for word in text.strip("()[] ").split(",") if word.strip())
        return _BOOLS[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        wanted = {bool: "True or False", int: "a whole number", float: "a number"}.get(
            kind, "numbers with commas between"
        )
        raise UserError(f"{name}={text!r} must be {wanted}") from None


def nearest(value: Any, known: typing.Iterable) -> str:
    """Returns "; did you mean X?" for the known value that is spelled most like one, or ""."""
    near = difflib.get_close_matches(str(value), [str(each) for each in known], 1)
    return f"; did you mean {near[0]!r}?" if near else ""
