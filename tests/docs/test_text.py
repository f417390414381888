"""The documents: their code runs, their links and the modules that they name are there."""

import json
import re

import pytest

from ganseg_jax.chips import CHIPS
from ganseg_jax.cli import config_flag
from tests.docs.commands import DOCUMENTS, ROOT, fenced, links_of, name_of, spans

FILE = r"(?:\w+/)*\w+\.(?:py|sh|yaml)|(?:ganseg_jax|configs|experiments|tests)/[\w/]+"


def run(path):
    """Runs the Python blocks of a document top to bottom; the names that they leave."""
    names: dict = {}
    for language, block in fenced(path.read_text()):
        if language == "python":
            exec(compile(block, name_of(path), "exec"), names)
    return names


def test_every_python_block_is_run_somewhere():
    """README's in `tests/end_to_end/test_readme.py`, the others here."""
    with_code = {name_of(path) for path in DOCUMENTS if "```python" in path.read_text()}
    assert with_code == {"README.md", "docs/jax.md"}


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_blocks_say_what_they_are(path):
    known = {"sh", "console", "python", "json", "text", "bibtex", "{toctree}", "{eval-rst}"}
    assert {language for language, _ in fenced(path.read_text())} <= known


def test_the_snippets_for_jax_programs_run_top_to_bottom():
    names = run(ROOT / "docs" / "jax.md")
    assert names["slope"].shape == names["points"].shape and abs(names["slope"]).max() > 0
    # Parts moved to the right by a tenth of the image's width.
    shift = names["moved"].part_centers - names["out"].part_centers
    assert abs(shift[..., 0]).max() < 1e-5 and abs(shift[..., 1] - 0.2).max() < 1e-5
    assert int(names["state"].step) == 1


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_and_named_files_are_there(path):
    text = path.read_text()
    for link in links_of(text):
        assert (path.parent / link).exists(), link
    places = (ROOT, ROOT / "ganseg_jax", path.parent)
    for name in spans(text):
        # Words in capitals stand for the reader's own.
        if re.fullmatch(FILE, name) and not re.search(r"\b[A-Z]+\b", name):
            assert any((place / name).exists() for place in places), name


def test_names_beside_a_file_are_defined_in_it():
    text = (ROOT / "docs" / "how_it_works.md").read_text()
    found = re.findall(r"`([\w/]+\.py)`((?:, `\w+`)+)", text)
    table = re.search(r"\| step \|.*?\n\n", text, re.DOTALL)[0].strip().splitlines()[2:]
    assert len(found) > 12 and all(re.search(r"`[\w/]+\.py`", row) for row in table)
    for file, names in found:
        code = (ROOT / "ganseg_jax" / file).read_text()
        for name in re.findall(r"\w+", names):
            assert re.search(rf"(def|class) {name}\b", code), f"{file}: {name}"


def test_the_page_of_tpu_slices_says_what_was_measured():
    text = (ROOT / "docs" / "tpu.md").read_text()
    for kind, chip in CHIPS.items():
        row = (kind, chip.flops / 1e12, chip.bandwidth / 1e9, chip.memory / 2**30)
        assert "| {} | {:g} | {:g} | {:g} |".format(*row) in text
    (line,) = (ROOT / "experiments/results/tpu/steps.jsonl").read_text().splitlines()
    known = json.loads(line)
    step, with_penalty = known["estimated_ms"], known["estimated_ms_with_gradient_penalty"]
    assert f"| {step} ms; {with_penalty} ms in every 16th" in text
    gan = config_flag.named(known["config"]).gan
    assert gan.gradient_penalty.interval == 16
    minutes = gan.num_steps * (15 * step + with_penalty) / 16 / 60_000
    assert f"{gan.num_steps:,} steps, by that estimate | {minutes:.0f} minutes" in text
