"""Parts that paint background are hidden once, and figures leave them out."""

import dataclasses
import json

import numpy as np
import pytest

from ganseg_jax import parts
from ganseg_jax.config.file import save_config
from ganseg_jax.evaluation import evidence
from ganseg_jax.jobs import backgrounds
from ganseg_jax.loading import load_segmenter
from tests.one_stage import WITH_ONE_STAGE
from tests.tiny_config import config_with
from tests.workdirs import save_untrained


@pytest.fixture
def run(tmp_path, puppets_dir):
    config = config_with(
        **WITH_ONE_STAGE,
        segmenter__find_background=True,
        segmenter__refine=True,
        dataset__data_dir=str(puppets_dir),
    )
    save_config(config, tmp_path)
    save_untrained(config, tmp_path)
    return config, tmp_path


def finding(monkeypatch, *found):
    looks = []

    def look(photos, *maps):
        assert {labels.shape for labels in maps} == {photos.shape[:3]}
        assert len(maps) == 2  # As the network gives them, and refined.
        looks.append(len(photos))
        return list(found)

    monkeypatch.setattr(evidence, "background_parts", look)
    return looks


def test_found_parts_count_as_background(run, monkeypatch):
    config, workdir = run
    looks = finding(monkeypatch, 3, 1)
    backgrounds.settle(config, workdir)
    assert backgrounds.hidden(config, workdir) == (1, 3)
    photos = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    raw = load_segmenter(workdir, named=False, engine="jax").probabilities(photos)
    measured = backgrounds.load_measured(config, workdir)
    expected = np.stack([raw[..., [0, 1, 3]].sum(-1), raw[..., 2]], -1)
    np.testing.assert_allclose(measured.probabilities(photos), expected, atol=1e-6)
    assert load_segmenter(workdir).classes == ("background", "part 2")
    backgrounds.settle(config, workdir)
    assert len(looks) == 1  # A finished run is not looked at again.
    # Without the setting, the network's parts are measured as they are.
    plain = dataclasses.replace(
        config, segmenter=dataclasses.replace(config.segmenter, find_background=False)
    )
    assert backgrounds.load_measured(plain, workdir).groups is None


def test_what_a_person_said_stays(run, monkeypatch):
    config, workdir = run
    looks = finding(monkeypatch, 1)
    parts.write(workdir, [parts.Part("head"), parts.Part(), parts.Part()])
    backgrounds.settle(config, workdir)
    assert not looks and parts.read(workdir, 3)[0].name == "head"


def test_nothing_is_written_about_parts_that_are_right(run, monkeypatch):
    config, workdir = run
    looks = finding(monkeypatch)
    backgrounds.settle(config, workdir)
    backgrounds.settle(config, workdir)
    assert len(looks) == 1 and not parts.file_of(workdir).exists()
    seen = json.loads((workdir / "segmenter" / "background.json").read_text())
    assert seen == {"background": []}
