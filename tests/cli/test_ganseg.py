"""The console script: verbs, help, completion, arguments without a flag's name."""

import importlib.metadata
import re
import runpy
import shlex
import subprocess
import sys

import pytest

from ganseg_jax import errors
from ganseg_jax.cli import completion, ganseg, helping, places, startup
from ganseg_jax.cli.verbs import verbs
from ganseg_jax.errors import UserError


@pytest.fixture
def started(monkeypatch):
    """(module, arguments) of the entry points that verbs start, in place of running them."""
    found = []

    def run_module(name, **_):
        found.append((name.rpartition(".")[2], sys.argv[1:]))

    monkeypatch.setattr(runpy, "run_module", run_module)
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(errors, "_VERBS", {})
    monkeypatch.setattr(helping, "VERB", {})
    return found


def test_the_console_script_is_declared():
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="ganseg")
    assert script.load() is ganseg.main


def test_a_verb_starts_its_entry_point(started):
    assert ganseg.main(["teach", "labels", "--model=W"]) == 0
    assert started == [("few_shot", ["labels", "--model=W"])]
    assert errors.command("few_shot") == "ganseg teach"


def test_no_verb_and_mistyped_verbs(started, capsys):
    assert ganseg.main([]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in verbs())
    assert ganseg.main(["sgement"]) == 2
    assert "did you mean segment?" in capsys.readouterr().err
    assert not started


@pytest.mark.parametrize("verb", verbs().values(), ids=lambda verb: verb.name)
def test_examples_use_flags_that_there_are(verb):
    known = completion.flags_of(verb.module) if verb.name != "completion" else {}
    aliases = {"out", "model"}
    for text in (verb.usage, verb.example):
        for flag in re.findall(r"--(\w+)", text):
            assert {f"--{flag}=", f"--{flag}"} & known.keys() or flag in aliases
    assert verb.summary and len(shlex.split(verb.example)) < 6


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_has_verbs_and_flags(shell):
    text = completion.script(shell)
    for word in (*verbs(), "for_labelling", "watch"):
        assert word in text


def test_bash_completes_verbs_flags_and_files(tmp_path):
    (tmp_path / "done.sh").write_text(completion.script("bash"))
    (tmp_path / "photos").mkdir()

    def complete(*words):
        setting = " ".join(map(shlex.quote, words))
        code = f"""source done.sh; COMP_WORDS=({setting}); COMP_CWORD={len(words) - 1}
compopt() {{ :; }}; _ganseg; echo "${{COMPREPLY[@]}}" """
        done = subprocess.run(["bash", "-c", code], cwd=tmp_path, capture_output=True, text=True)
        assert not done.stderr
        return done.stdout.split()

    assert complete("ganseg", "seg") == ["segment"]
    assert complete("ganseg", "segment", "--wat") == ["--watch"]
    assert complete("ganseg", "segment", "ph") == ["photos"]


def test_help_shows_the_flags_that_matter_first(entry_point):
    module = entry_point("segment", workdir="W", input="a")
    names = [name for name in helping.own_flags(startup.SHARED) if name != "shell"]
    assert names[:5] == ["input", "model", "workdir", "pretrained", "output"]
    assert "--format=A,B,..." in helping.page(startup.SHARED)
    assert module.INPUT.values == ["a"]


def test_help_ends_well():
    command = [sys.executable, "-m", "ganseg_jax.cli.pipeline", "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0
    assert "--workdir=" in done.stdout and "--config.FIELD=VALUE" in done.stdout


def test_arguments_without_a_name(entry_point, monkeypatch):
    monkeypatch.setenv("HOME", "/home/a")
    module = entry_point("segment", model="people")
    module.INPUT.take(["~/b", "-"])
    assert module.INPUT.values == ["/home/a/b", "-"]
    module = entry_point("label", images="a")
    module.IMAGES.take(["b"])
    with pytest.raises(UserError, match="unexpected argument 'b': --images is a already"):
        _ = module.IMAGES.value


def test_a_model_may_be_an_argument(entry_point):
    module = entry_point("sample")
    places.take_arguments(["people"])
    assert module.MODEL() == "people"
    with pytest.raises(UserError, match="unexpected argument 'W'"):
        places.take_arguments(["W"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "which model"),
        ({"model": "peple"}, "did you mean 'people'"),
        ({"model": "people", "workdir": "W"}, "--model and --workdir name two models"),
    ],
)
def test_models_that_are_not_there(entry_point, given, said):
    module = entry_point("segment", input="a", **given)
    with pytest.raises(UserError, match=said):
        module.MODEL()
