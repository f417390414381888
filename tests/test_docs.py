"""The documents: their code runs, their links and the modules that they name are there."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
DOCUMENTS = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


def test_the_snippets_for_jax_programs_run_top_to_bottom():
    text = (ROOT / "docs" / "jax.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict = {}
    for block in blocks:
        exec(compile(block, "docs/jax.md", "exec"), names)
    assert names["slope"].shape == names["points"].shape and abs(names["slope"]).max() > 0
    # Parts moved to the right by a tenth of the image's width.
    shift = names["moved"].part_centers - names["out"].part_centers
    assert abs(shift[..., 0]).max() < 1e-5 and abs(shift[..., 1] - 0.2).max() < 1e-5
    assert int(names["state"].step) == 1


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_named_files_are_there(path):
    text = path.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    for link in links:
        assert (path.parent / link).exists(), link
    for name in re.findall(r"`((?:[\w]+/)*[\w]+\.py)`", text):
        assert (ROOT / name).exists() or (ROOT / "ganseg_jax" / name).exists(), name


def test_names_beside_a_file_are_defined_in_it():
    text = (ROOT / "docs" / "how_it_works.md").read_text()
    found = re.findall(r"`([\w/]+\.py)`((?:, `\w+`)+)", text)
    assert len(found) > 8
    for file, names in found:
        code = (ROOT / "ganseg_jax" / file).read_text()
        for name in re.findall(r"\w+", names):
            assert re.search(rf"(def|class) {name}\b", code), f"{file}: {name}"


def test_named_settings_exist():
    from ganseg_jax.config import flat
    from ganseg_jax.config.schema import Config

    text = (ROOT / "docs" / "how_it_works.md").read_text()
    named = re.findall(r"`((?:model|gan|segmenter)\.[\w.]+)`", text)
    assert named and set(named) <= set(flat(Config()))
