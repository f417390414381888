"""Every command and every flag that a document names is one that our programs take."""

import re

import pytest

from ganseg_jax.cli.verbs import verbs
from ganseg_jax.config import flat
from ganseg_jax.config.schema import Config
from tests.docs import commands

SECTIONS = "model|gan|segmenter|self_training|dataset|evaluation|partition|discriminator"


@pytest.mark.parametrize("path", commands.DOCUMENTS, ids=commands.name_of)
def test_commands_are_taken(path):
    wrong = {}
    for words in commands.commands(path):
        try:
            commands.check(words)
        except Exception as error:  # Whatever a program or a check says.
            wrong[" ".join(words)] = f"{type(error).__name__}: {error}"
    assert not wrong


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ganseg segmend PHOTOS", "no verb segmend"),
        ("ganseg segment PHOTOS --modell=people", "modell"),
        ("ganseg train PHOTOS --minutes=soon", "soon"),
        ("ganseg train PHOTOS --set=gan.steps=3", "no setting gan.steps"),
        ("python -m experiments.pipelin --config=configs/tiny.py --workdir=W", "pipelin"),
        ("python -m experiments.pipeline --config=configs/none.py --workdir=W", "none.py"),
        ("X=1 python -m experiments.pipeline --config=tiny --workdir=W --config.gan.nil=3", "nil"),
        ("python -m experiments.pipeline --config=configs/tiny.py:part=3 --workdir=W", "part"),
        ("python -m experiments.doctor --workdir=W stray", "stray"),
        ("cd here && make everything", "everything"),
        ('pip install "ganseg-jax[everything]"', "everything"),
        ("pip install -r requirements-none.txt", "requirements-none.txt"),
        ("experiments/launch/none.sh CONFIG", "none.sh"),
        ("rm -r here", "rm"),
    ],
)
def test_wrong_commands_are_seen(line, said):
    (words,) = commands.lines_of(line)
    with pytest.raises(Exception, match=said):
        commands.check(words)


@pytest.mark.parametrize("verb", verbs().values(), ids=lambda verb: verb.name)
def test_examples_of_help_are_taken(verb):
    (words,) = commands.lines_of(f"ganseg {verb.name} {verb.example}")
    commands.check(words)


def test_flags_in_the_text_are_taken():
    known, fields, wrong = commands.all_flags(), flat(Config()), []
    for path in commands.DOCUMENTS:
        for span in commands.spans(path.read_text()):
            if commands.is_program(span.split()[0]):
                continue  # Checked as a command.
            for flag in re.findall(r"(?<![\w-])--([a-z][\w.-]*)", span):
                name = flag.removeprefix("config.")
                taken = name in {*fields, *commands.ANY_FIELD} if name != flag else flag in known
                if not taken and not flag.startswith("xla_"):
                    wrong.append((commands.name_of(path), span))
    assert not wrong


def test_settings_in_the_text_exist():
    fields, wrong = flat(Config()), []
    sections = {name.rpartition(".")[0] for name in fields}
    for path in commands.DOCUMENTS:
        for span in commands.spans(path.read_text()):
            name = span.partition("=")[0].removeprefix("--config.")
            if re.fullmatch(rf"(?:{SECTIONS})(?:\.[a-z_]+)+", name):
                if name not in fields and name not in sections and not name.endswith(".py"):
                    wrong.append((commands.name_of(path), span))
    assert not wrong
