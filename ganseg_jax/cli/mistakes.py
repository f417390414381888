"""Says in one line what is wrong with a command line."""

import difflib
import re
import sys

from absl import flags


def of_name(error: flags.UnrecognizedFlagError) -> str:
    """Returns a line for a flag that does not exist."""
    near = difflib.get_close_matches(error.flagname, list(flags.FLAGS), 1)
    hint = f"did you mean --{near[0]}?" if near else "--help lists them"
    return f"there is no flag --{error.flagname}; {hint}"


def of_value(text: str) -> str:
    """Returns what Python says of a number that is none in words that everyone knows."""
    found = re.fullmatch(
        r"flag (--[\w.]+)=(.*): (invalid literal for int|could not convert).*", text
    )
    if found is None:
        return text
    wanted = "a whole number" if "int" in found[3] else "a number"
    return f"{found[1]}={found[2]} must be {wanted}"


def of_config(text: str) -> str:
    """Returns what a config file raised, out of ml_collections' message, or ""."""
    if section := re.search(r"--(config\.[\w.]+)=\S+ Failed to parse .* as a ConfigDict", text):
        return f"--{section[1]} is a section: set a field of it, such as --{section[1]}.FIELD=VALUE"
    if "Traceback" not in text:
        return ""
    kind, _, message = text.strip().splitlines()[-1].partition(": ")
    if kind == "ValueError":  # An argument behind the file's name, which the message explains.
        return f"--config: {message}"
    return text.strip()  # A mistake in the file itself: the traceback says where.


def of_config_field(error: Exception) -> str:
    """Returns one line for what ml_collections raises while it reads a config."""
    text = " ".join(str(error).strip("\"'").split())
    text = text.replace("\\n", " ").replace("\\'", "'")
    name = (re.findall(r"\w+", text) or [""])[0]
    fields = re.findall(r"--config\.([\w.]+)", " ".join(sys.argv))
    unknown = next((field for field in fields if name in field.split(".")), None)
    if isinstance(error, (AttributeError, KeyError)) and unknown:
        near = re.search(r'Did you mean "(\w+)"', text)
        return f"--config.{unknown}: there is no {name}" + (
            f"; did you mean {near.group(1)}?" if near else ""
        )
    return f"{text} (in --config.{fields[0]})" if len(fields) == 1 else text
