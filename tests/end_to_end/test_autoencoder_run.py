"""An auto-encoder from photos to figures, on `configs/tiny.py`."""

import json

import jax
import numpy as np
import pytest

import ganseg_jax
from ganseg_jax.config import with_fields
from ganseg_jax.errors import UserError
from ganseg_jax.files import read_rows
from ganseg_jax.jobs import train as pipeline
from ganseg_jax.jobs.begin import begin
from ganseg_jax.training import partition
from tests.tiny_config import config_with


@pytest.fixture(scope="module")
def run(tmp_path_factory, puppets_dir):
    """Config, workdir and figures of a run of two steps."""
    folder = tmp_path_factory.mktemp("run")
    config = config_with(
        model__kind="autoencoder_points",
        dataset__data_dir=str(puppets_dir),
        gan__num_steps=2,
        gan__sample_every=2,
        gan__log_every=1,
        evaluation__references=False,
    )
    with pytest.MonkeyPatch.context() as patch:
        # A program for one device compiles quicker.
        mesh = partition.make_mesh(jax.local_devices()[:1])
        patch.setattr(partition, "make_mesh", lambda devices=None: mesh)
        figures = pipeline.run_all(config, str(folder / "W"))
    return config, folder / "W", figures


def test_masks_of_test_photos_are_measured(run):
    _, workdir, figures = run
    assert json.loads((workdir / "evaluation" / "metrics.json").read_text()) == figures
    assert 0 <= figures["foreground_iou"] <= 1 and figures["foreground_iou_count"] == 10
    # It draws nothing that could be compared with photos.
    assert not {"sliced_wasserstein", "fid"} & figures.keys()
    assert (workdir / "evaluation" / "segmented.png").exists()
    rows = read_rows(workdir / "autoencoder" / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2]
    assert all(row["reconstruction"] > 0 for row in rows)
    assert len(list((workdir / "autoencoder" / "samples").iterdir())) == 1
    report = (workdir / "report.html").read_text()
    assert "Autoencoder" in report and "Reconstruction" in report
    assert not (workdir / "gan").exists() and not (workdir / "segmenter").exists()


def test_it_segments_and_does_not_draw(run):
    config, workdir, _ = run
    photos = np.random.default_rng(0).integers(0, 256, (2, 20, 24, 3), np.uint8)
    segment = ganseg_jax.load_segmenter(workdir)
    probabilities = segment.probabilities(photos)
    assert probabilities.shape == (2, 20, 24, config.model.num_parts + 1)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-4)
    with pytest.raises(UserError, match="holds an auto-encoder, which draws nothing"):
        ganseg_jax.load_generator(workdir)


def test_workdir_stays_with_its_settings(run):
    config, workdir, _ = run
    for name, value in (("model.kind", "gan"), ("gan.area.weight", 2.0)):
        changed = with_fields(config, {name: value})
        with pytest.raises(UserError, match=f"was begun with {name}="):
            begin(changed, workdir)
