"""Docstrings are plain: they begin with a verb, and conditions say "if"."""

import ast
import pathlib
import re

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "ganseg_jax"
FILES = sorted(PACKAGE.rglob("*.py"))

# "Returns", "Holds", ... Words that look like it and are none:
VERB = re.compile(r"[A-Z][a-z]*s\b")
NO_VERBS = {"Always", "Images", "Its", "Labels", "Latents", "Losses", "Masks", "Points"}
NO_VERBS |= {"Errors", "Features", "Samples", "This", "Thus", "Weights"}
NO_VERBS |= {"Activations", "Atrous", "Bytes", "Channels", "Class", "Collectives", "Coordinates"}
NO_VERBS |= {"Cores", "Facts", "Figures", "Frames", "Gradients", "Indices", "Levels", "Logits"}
NO_VERBS |= {"Objects", "Parts", "Pixels", "Settings", "Shapes", "Shardings", "Statistics"}
NO_VERBS |= {"Colours", "Steps", "Tiles", "Variables"}

RIDDLES = {
    "a condition is said with 'if'": r"(None|Error:|True|False|default|empty),? where\b",
    "a run that continues 'resumes'": r"\b([Gg]oes|went|go) on\b",
    "'again' is the plain word": r"\banew\b",
    "old words": r"\b(thereof|therein|wherein|whilst|hitherto)\b",
}


def documented(file: pathlib.Path):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            if text := ast.get_docstring(node):
                yield f"{file.relative_to(PACKAGE)}:{node.lineno} {node.name}", text


def test_docstrings_begin_with_a_verb():
    found = [entry for file in FILES for entry in documented(file)]
    assert len(found) > 500
    wrong = {
        place: text.splitlines()[0]
        for place, text in found
        if not VERB.match(text) or VERB.match(text)[0] in NO_VERBS
    }
    assert not wrong


@pytest.mark.parametrize("rule", RIDDLES)
def test_docstrings_need_no_second_reading(rule):
    found = [entry for file in FILES for entry in documented(file)]
    wrong = {place: m[0] for place, text in found if (m := re.search(RIDDLES[rule], text))}
    assert not wrong
