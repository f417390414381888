"""Functions and files are short enough to be read in one go."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]

MOST_LINES_OF_A_FUNCTION = 70
"""Without the docstring."""

MOST_LINES_OF_A_FILE = 450


def files():
    for folder in ("ganseg_jax", "configs", "experiments", "tests"):
        yield from (ROOT / folder).rglob("*.py")


def length(function):
    """Lines from the first statement after the docstring to the last."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return function.end_lineno - body[0].lineno + 1 if body else 0


def test_no_function_is_long():
    long = [
        f"{path.relative_to(ROOT)}: {node.name}, {length(node)} lines"
        for path in files()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if length(node) > MOST_LINES_OF_A_FUNCTION
    ]
    assert not long


def test_no_file_is_long():
    counts = {path: len(path.read_text().splitlines()) for path in files()}
    long = {str(p.relative_to(ROOT)): n for p, n in counts.items() if n > MOST_LINES_OF_A_FILE}
    assert not long
