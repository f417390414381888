"""Writes what `--help` shows: what a command does, its flags, those that matter first."""

import sys
import textwrap
from collections.abc import Collection
from typing import Any

from absl import flags

_WIDTH = 96

VERB: dict[str, Any] = {}
"""What the console script knows of the verb that runs: "usage" and "example"."""


def page(shared: Collection[str], whole: bool = False) -> str:
    """Returns the text of `--help` for the entry point that runs.

    Args:
      shared: names of flags that every entry point has.
      whole: also show the flags of libraries.
    """
    known = flags.FLAGS
    own = own_flags(shared)
    doc = description(sys.modules["__main__"].__doc__ or "")
    parts = [doc]
    if VERB:
        parts = [f"{VERB['usage']}\n\nExample: {VERB['example']}", doc]
    parts += ["Flags:\n" + "\n".join(_line(known[name]) for name in own)]
    if "config" in own:
        parts += [
            "  --config.FIELD=VALUE\n"
            + _wrapped("Any field of the config, such as --config.gan.num_steps=2000; "
                       "configs/README.md lists all.")
        ]  # fmt: skip
    ours = [name for name in known if name in shared and _is_ours(name)]
    parts += ["Flags of every command:\n" + "\n".join(_line(known[name]) for name in ours)]
    if whole:
        rest = sorted(name for name in known if name not in own and name not in ours)
        parts += ["Flags of libraries:\n" + "\n".join(_line(known[name]) for name in rest)]
    else:
        parts += ["--helpfull lists the flags of libraries too."]
    return "\n\n".join(part.rstrip() for part in parts)


def own_flags(shared: Collection[str]) -> list[str]:
    """Returns the names of an entry point's own flags in the order in which it declares them."""
    by_alias = {name for name in flags.FLAGS if _is_alias(name)}
    return [
        name
        for name in flags.FLAGS
        if name not in shared and name not in by_alias and (_is_ours(name) or name == "config")
    ]


def description(doc: str) -> str:
    """Returns an entry point's docstring; under a verb, without the lines that start it."""
    paragraphs = doc.strip().split("\n\n")
    if VERB:
        paragraphs = [p for p in paragraphs if not p.startswith("python -m ")]
    return "\n\n".join(paragraphs)


def _is_ours(name: str) -> bool:
    return "ganseg_jax" in (flags.FLAGS.find_module_defining_flag(name) or "")


def _is_alias(name: str) -> bool:
    return (flags.FLAGS[name].help or "").startswith("Alias for --")


def aliases(name: str) -> list[str]:
    """Returns the other names of a flag."""
    return [n for n in flags.FLAGS if flags.FLAGS[n].help == f"Alias for --{name}."]


def _line(flag: flags.Flag) -> str:
    """Returns a flag's name, the kind of its value, what it does, and its default."""
    kind = flag.flag_type()
    if flag.boolean:
        shown = f"--[no]{flag.name}"
    elif isinstance(flag, flags.EnumFlag):
        shown = f"--{flag.name}={'|'.join(flag.parser.enum_values)}"
    else:
        value = {"int": "N", "float": "X", "comma separated list of strings": "A,B,..."}
        shown = f"--{flag.name}={value.get(kind, 'TEXT')}"
    for other in aliases(flag.name):
        shown += f", --{other}"
    default = flag.default
    note = "" if default in (None, "", False, []) else f" (default: {str(flag.default)})"
    if flag.boolean and default:
        note = " (default: yes)"
    return f"  {shown}\n{_wrapped(' '.join((flag.help or '').split()) + note)}"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent="      ", subsequent_indent="      ")
