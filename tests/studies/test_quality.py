"""Quality against time: each run resumes from the one before, and is measured."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from ganseg_jax import loading
from ganseg_jax.config import with_fields
from ganseg_jax.errors import UserError
from ganseg_jax.jobs.train import train_stages
from ganseg_jax.report.plots import plot_quality
from ganseg_jax.studies import quality
from tests.one_stage import WITH_ONE_STAGE
from tests.tiny_config import config_with


@pytest.fixture
def fake_runs(monkeypatch):
    """Runs that are finished at once: (folder, the step their GAN began at)."""
    done = []

    def run_all(config, workdir, given=None):
        folder = quality.epath.Path(workdir)
        (folder / "gan" / "checkpoints").mkdir(parents=True, exist_ok=True)
        newest, last = folder / "gan" / "checkpoints" / "newest", config.gan.num_steps
        begun = int(newest.read_text()) if newest.exists() else 0
        done.append((folder.name, begun))
        newest.write_text(str(last))
        # Two steps a second in the first ten, five in the next.
        rows = [{"step": 10, "steps_per_second": 2.0}, {"step": 20, "steps_per_second": 5.0}]
        for stage, count in (("gan", last // 10), ("segmenter", 1)):
            (folder / stage).mkdir(exist_ok=True)
            lines = "".join(json.dumps(row) + "\n" for row in rows[:count])
            (folder / stage / "metrics.jsonl").write_text(lines)
        (folder / "evaluation").mkdir()
        figures = {"foreground_nmi": last / 100, "foreground_nmi_count": 9}
        (folder / "evaluation" / "metrics.json").write_text(json.dumps(figures))

    monkeypatch.setattr(quality.pipeline, "run_all", run_all)
    return done


def test_runs_go_on_from_each_other_and_are_not_repeated(fake_runs, tmp_path):
    config, workdir = config_with(), str(tmp_path / "curve")
    points = quality.run_quality(config, workdir, [20, 10])
    assert fake_runs == [("at_10", 0), ("at_20", 10)]
    assert [(p["step"], p["seconds"], p["seconds_gan"]) for p in points] == [
        (10, 10.0, 5.0),
        (20, 12.0, 7.0),
    ]
    assert points[1]["figures"] == {"foreground_nmi": 0.2}
    assert json.loads((tmp_path / "curve" / "quality.json").read_text()) == points
    assert "| 20 | 12 | 0.2000 |" in (tmp_path / "curve" / "quality.md").read_text()
    assert Image.open(tmp_path / "curve" / "quality.png").mode == "RGB"
    assert quality.run_quality(config, workdir, [10, 20]) == points and len(fake_runs) == 2
    quality.run_quality(config, str(tmp_path / "other"), [10], beside=[workdir])
    assert len(fake_runs) == 3


def test_bad_input_is_answered(fake_runs, tmp_path):
    config = config_with()
    with pytest.raises(UserError, match="--steps=0"):
        quality.run_quality(config, str(tmp_path), [0])
    with pytest.raises(UserError, match="no curve was measured"):
        quality.run_quality(config, str(tmp_path / "a"), [10], beside=[str(tmp_path / "b")])
    quality.run_quality(config, str(tmp_path), [10])
    config = with_fields(config, {"gan.batch_size": 2 * config.gan.batch_size})
    with pytest.raises(UserError, match="batch_size"):
        quality.run_quality(config, str(tmp_path), [10])


def test_curves_are_drawn_in_a_panel_for_each_measure():
    curve = {"seconds": [1.0, 2.0], "foreground_iou": [0.1, 0.5], "landmark_error": [0.1, np.nan]}
    one = plot_quality({"a": curve}, ["foreground_iou"])
    two = plot_quality({"a": curve, "b": curve}, ["foreground_iou", "landmark_error"])
    assert one.dtype == np.uint8 and two.shape[1] > one.shape[1]


def test_a_gan_that_resumes_is_the_one_that_was_never_stopped(monkeypatch, puppets_dir, tmp_path):
    """The GAN of `tiny` up to 6 updates: in two runs of the curve, and at once."""

    def run_all(config, workdir, given=None):
        train_stages(config, workdir, ["gan"], given)
        folder = quality.epath.Path(workdir)
        (folder / "segmenter").mkdir()
        (folder / "segmenter" / "metrics.jsonl").touch()
        (folder / "evaluation").mkdir()
        (folder / "evaluation" / "metrics.json").write_text('{"foreground_nmi": 0.5}')

    monkeypatch.setattr(quality.pipeline, "run_all", run_all)
    config = config_with(dataset__data_dir=str(puppets_dir), **WITH_ONE_STAGE)
    quality.run_quality(config, str(tmp_path / "curve"), [3, 6])
    config = with_fields(config, {"gan.num_steps": 6})
    train_stages(config, str(tmp_path / "whole"), ["gan"])
    one = loading.restore_generator(config, str(tmp_path / "whole"))
    other = loading.restore_generator(config, str(tmp_path / "curve" / "at_6"))
    for x, y in zip(*map(jax.tree.leaves, (one, other)), strict=True):
        np.testing.assert_array_equal(x, y)
