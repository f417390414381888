"""Finds the commands of documents, and says what is wrong with one without running it."""

import importlib
import pathlib
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator

import pytest
from absl import flags

from ganseg_jax.cli import config_flag, places
from ganseg_jax.cli.verbs import verbs
from ganseg_jax.config import flat
from ganseg_jax.config.schema import Config

ROOT = pathlib.Path(__file__).parents[2]
DOCUMENTS = sorted(
    [
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
        *(ROOT / "experiments" / "results").rglob("*.md"),
    ]
)
SHELLS = ("sh", "bash", "console")
ANY_FIELD = ("FIELD", "NAME")
"""What stands for the name of any setting."""


def name_of(path: pathlib.Path) -> str:
    return str(path.relative_to(ROOT))


def fenced(text: str) -> list[tuple[str, str]]:
    """(language, text) of each fenced block."""
    return re.findall(r"^```(\S*)[^\n]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def lines_of(text: str, prompt: bool = False) -> list[list[str]]:
    """The words of each command of a shell block; of a console's, those behind a $."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        if prompt and not line.startswith("$ "):
            continue
        if words := shlex.split(line.removeprefix("$ "), comments=True):
            found.append(words)
    return found


def commands(path: pathlib.Path) -> list[list[str]]:
    """The words of all commands of a document."""
    return commands_of(path.read_text())


def commands_of(text: str) -> list[list[str]]:
    """Those in blocks, indented ones too, and in the text."""
    found = []
    for language, block in fenced(text):
        if language in SHELLS:
            found += lines_of(block, prompt=language == "console")
    rest = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    for block in re.findall(r"(?:^    \S.*\n(?:^ {4,}.*\n)*)", rest, re.MULTILINE):
        first = shlex.split(block.splitlines()[0].rstrip("\\"), comments=True)
        if first and is_program(first[0]):
            found += lines_of(re.sub(r"^    ", "", block, flags=re.MULTILINE))
    for span in spans(text):
        words = span.split()
        if len(words) > 1 and is_program(words[0]):
            found.append(shlex.split(span))
    return found


def links_of(text: str) -> list[str]:
    """The files that a document links to, without the place in them."""
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", text)
    return [link for link in links if "://" not in link]


def spans(text: str) -> list[str]:
    """What stands between backticks in the text."""
    rest = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", rest)]


def is_program(word: str) -> bool:
    return pathlib.PurePath(word).name in PROGRAMS or word.startswith("experiments/launch/")


# What follows raises AssertionError, or what the program itself would answer with.


def check(words: list[str]) -> None:
    """Checks a command: its program, flags, values, fields, and the files that it names."""
    words = list(words)
    while re.match(r"[A-Z_]+=", words[0]):
        del words[0]
    program = pathlib.PurePath(words[0]).name
    if words[0].startswith("experiments/launch/"):
        assert (ROOT / words[0]).exists(), words[0]
        return
    assert program in PROGRAMS, f"nobody checks {program}"
    for part in split(words[1:]):
        PROGRAMS[program](part)


def split(words: list[str]) -> Iterator[list[str]]:
    """A command's arguments up to &&, then the commands behind it."""
    parts: list[list[str]] = [[]]
    for word in words:
        if word == "&&":
            parts.append([])
        else:
            parts[-1].append(word)
    yield parts[0]
    for part in parts[1:]:
        check(part)


def python(words: list[str]) -> None:
    if words[0] != "-m":
        assert (ROOT / words[0]).exists(), words[0]
        return
    module, arguments = words[1], words[2:]
    if module in ("pip", "pytest"):
        PROGRAMS[module](arguments)
    elif module.startswith("experiments.reproduce."):
        with pytest.MonkeyPatch.context() as patch, no_flags_left():
            kit = importlib.import_module("experiments.reproduce.kit")
            patch.setattr(kit.app, "run", lambda main, **_: None)
            kit.main(module.rpartition(".")[2])
            parse(module, arguments)
    elif module.startswith(("experiments.", "ganseg_jax.cli.")):
        assert importlib.util.find_spec(module), module
        entry_point(module.rpartition(".")[2], arguments)
    else:
        assert importlib.util.find_spec(module), module


def ganseg(words: list[str]) -> None:
    verb, *arguments = words
    if verb == "VERB":
        return
    assert verb in verbs(), f"no verb {verb}"
    entry_point(verbs()[verb].module, arguments)


def entry_point(name: str, arguments: list[str]) -> None:
    """Parses arguments as an entry point does: unknown flags, values and fields raise."""
    import ganseg_jax.cli.app  # noqa: F401  Its flags are everyone's.

    if "--help" in arguments:
        return
    # A place that the reader fills in.
    arguments = ["--config=configs/tiny.py" if a == "--config=C" else a for a in arguments]
    path = f"ganseg_jax.cli.{name}"
    with no_flags_left():
        imported = sys.modules.pop(path, None)
        module = importlib.import_module(path)
        try:
            if not arguments:  # Named in passing.
                return
            bare = parse(name, arguments)
            assert not bare or places.takes_arguments(), f"{name} takes no {bare}"
            setting_of(module)
        finally:
            del sys.modules[path]
            if imported is not None:
                sys.modules[path] = imported


def setting_of(module) -> None:
    """Looks at the config, and at the fields of --set."""
    if "config" in flags.FLAGS and flags.FLAGS["config"].present:
        holder = next(v for v in vars(module).values() if isinstance(v, config_flag.ConfigFlag))
        assert holder.optional is not None
    for entry in flags.FLAGS["set"].value if "set" in flags.FLAGS else []:
        known_setting(entry.partition("=")[0])


def known_setting(name: str) -> None:
    """Fails for a setting that is none."""
    assert name in ANY_FIELD or name in flat(Config()), f"no setting {name}"


def parse(name: str, arguments: list[str]) -> list[str]:
    """Gives absl the arguments; returns those without a flag's name."""
    flags.FLAGS.set_gnu_getopt(True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", config_flag.written_out([name, *arguments]))
        patch.chdir(ROOT)
        return flags.FLAGS(sys.argv)[1:]


class no_flags_left:
    """Removes the flags that a block defines, and forgets their values.

    Those of commands that other tests have imported are away in the meantime.
    """

    def __enter__(self):
        self.others = {
            flag.name: (module, flag)
            for module, defined in flags.FLAGS.flags_by_module_dict().items()
            if module.startswith("ganseg_jax.cli.") and module != "ganseg_jax.cli.startup"
            for flag in defined
        }
        for name in self.others:
            delattr(flags.FLAGS, name)
        self.before, self.inputs = set(flags.FLAGS), places._INPUTS[:]

    def __exit__(self, *_):
        flags.FLAGS.unparse_flags()
        flags.FLAGS.set_gnu_getopt(False)
        for name in set(flags.FLAGS) - self.before:
            delattr(flags.FLAGS, name)
        for name, (module, flag) in self.others.items():
            flags.FLAGS[name] = flag
            flags.FLAGS.register_flag_by_module(module, flag)
        places._INPUTS[:] = self.inputs


def make(words: list[str]) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = [word for word in words if "=" not in word]
    assert set(named) <= targets, named


def pip(words: list[str]) -> None:
    assert words[0] in ("install", "freeze"), words
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for word, before in zip(words[1:], words, strict=False):
        if before in ("-r", "-c"):
            assert (ROOT / word).exists(), word
        if match := re.search(r"(?:^\.|^ganseg-jax)\[(.*)\]", word):
            wanted = set(match[1].split(","))
            assert wanted <= set(project["optional-dependencies"]), word


def pytest_(words: list[str]) -> None:
    for word in words:
        assert word.startswith("-") or (ROOT / word.partition("::")[0]).exists(), word


def anything(words: list[str]) -> None:
    """Programs that are not ours; the files of ours that they are given are there."""
    for word in words:
        assert not word.startswith(("experiments/", "configs/")) or (ROOT / word).exists(), word


PROGRAMS = {
    "python": python,
    "ganseg": ganseg,
    "make": make,
    "pip": pip,
    "pytest": pytest_,
    "cd": anything,
    "git": anything,
    "hf": anything,
    "kubectl": anything,
    "npm": anything,
    "sbatch": anything,
}


def all_flags() -> set[str]:
    """The names of all entry points' flags; `no` stands before those that are yes or no, too."""
    import ganseg_jax.cli.app  # noqa: F401

    known: set[str] = set()
    for path in sorted((ROOT / "ganseg_jax" / "cli").glob("*.py")):
        if "\n    app.run(" not in path.read_text():
            continue
        with no_flags_left():
            importlib.import_module(f"ganseg_jax.cli.{path.stem}")
            for name in flags.FLAGS:
                known |= {name, f"no{name}"} if flags.FLAGS[name].boolean else {name}
            del sys.modules[f"ganseg_jax.cli.{path.stem}"]
    with pytest.MonkeyPatch.context() as patch, no_flags_left():
        kit = importlib.import_module("experiments.reproduce.kit")
        patch.setattr(kit.app, "run", lambda main, **_: None)
        kit.main("landmarks")
        known |= set(flags.FLAGS)
    return known
