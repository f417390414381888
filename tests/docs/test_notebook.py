"""The notebook runs from top to bottom, here with a tiny training."""

import json

import numpy as np
import pytest
from PIL import Image

from ganseg_jax.cli import config_flag
from ganseg_jax.config import flat
from tests.docs import commands
from tests.one_stage import WITH_ONE_STAGE
from tests.tiny_config import config_with

PATH = commands.ROOT / "docs" / "parts_from_photos.ipynb"
NOTEBOOK = json.loads(PATH.read_text())
CODE = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
TEXT = "".join("".join(c["source"]) + "\n" for c in NOTEBOOK["cells"] if c not in CODE)


def tiny():
    """What makes the config of the demo as small as that of the tests."""
    small, full = flat(config_with(**WITH_ONE_STAGE)), flat(config_flag.named("puppets"))
    quick = {"evaluation.references": False, "gan.num_steps": 4, "segmenter.num_steps": 2}
    return {key: value for key, value in small.items() if full[key] != value} | quick


def test_it_runs_from_top_to_bottom(tmp_path, puppets_dir):
    names: dict = {}
    for cell in CODE:
        exec(compile("".join(cell["source"]), PATH.name, "exec"), names)
        if "parameters" in cell["metadata"].get("tags", ()):
            names["WORKDIR"] = str(tmp_path / "run")
            names["SETTINGS"] = tiny() | {"dataset.data_dir": str(puppets_dir)}
    assert (tmp_path / "run" / "report.html").exists()
    assert names["figures"]["foreground_iou"] >= 0
    assert names["labels"].shape == names["photos"].shape[:3] and len(names["photos"]) == 8
    # Part 1 moved, the others stayed.
    shift = names["moved"].part_centers - names["people"].part_centers
    np.testing.assert_allclose(shift[:, 0], [[-0.2, 0.0]] * 8, atol=1e-5)
    assert abs(shift[:, 1:]).max() < 1e-6
    picture = names["show"](names["people"])
    assert isinstance(picture, Image.Image) and picture.width > 8 * 64


def test_no_output_is_kept():
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in CODE)
    assert PATH.stat().st_size < 20_000


@pytest.mark.parametrize("parts", ["text", "code"])
def test_what_it_names_is_there(parts):
    if parts == "text":
        for words in commands.commands_of(TEXT):
            commands.check(words)
        for link in commands.links_of(TEXT):
            assert (PATH.parent / link).exists(), link
    else:
        assert ["parameters"] == CODE[0]["metadata"]["tags"]
