"""From samples to a few-shot network through the entry points."""

import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from ganseg_jax import load_segmenter
from ganseg_jax.config import few_shot as schema
from ganseg_jax.config import flat
from ganseg_jax.data.pipeline import Split
from ganseg_jax.errors import UserError
from ganseg_jax.fewshot import pipeline, samples
from ganseg_jax.fewshot.labels import classes_json
from ganseg_jax.fewshot.source import Source
from ganseg_jax.jobs import few_shot as run
from ganseg_jax.loading import few_shot_config, load_generator

SIZES = {"epochs": 2, "num_samples": 10, "num_steps": 2, "unet_width": 2, "batch_size": 4}


@pytest.fixture
def labelled(workdir, tmp_path):
    """A workdir of its own, with two labelled images in `to_label`."""
    copy = tmp_path / "copy"
    shutil.copytree(workdir, copy)
    generator, variables = load_generator(copy)
    folder = copy / "to_label"
    for name in samples.write_samples(
        folder, Source.of(generator), variables, jax.random.key(0), 2
    ):
        mask = np.zeros((16, 16), np.uint8)
        mask[4:12, 4:9], mask[4:12, 9:12] = 1, 2
        Image.fromarray(mask).save(folder / f"{name}_mask.png")
    (folder / "classes.json").write_text(classes_json(["head", "torso"]))
    return copy


def test_a_network_is_trained_where_the_data_set_is_missing(
    entry_point, labelled, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # The data set would be looked for there.
    given = {"workdir": labelled, "labels": labelled / "to_label", "layers": "mask"}
    entry_point("few_shot", output="mine", **given, **SIZES).main()
    segmenter = load_segmenter(labelled / "mine")
    assert segmenter.classes == ("background", "head", "torso")
    assert segmenter(np.zeros((1, 20, 30, 3), np.uint8)).shape == (1, 20, 30)
    assert (labelled / "mine" / "report.html").exists()
    # At 16 px.
    assert json.loads((labelled / "mine" / "config.json").read_text())["head_kind"] == "mlp"
    assert not (labelled / "mine" / "metrics.json").exists()


def test_classes_that_the_data_set_lacks_are_said_before_training(labelled, monkeypatch):
    images = np.zeros((2, 16, 16, 3), np.uint8)
    split = Split(images, ["a", "b"], np.zeros((2, 16, 16), np.int32), part_names=["head", "legs"])
    monkeypatch.setattr(run.data, "load_split", lambda *arguments: split)
    with pytest.raises(UserError, match="class 'torso' is no part of the data set"):
        run.few_shot(labelled, labelled / "to_label", output="named")
    assert not (labelled / "named" / "head").exists()


def test_a_class_that_nobody_labelled_is_said_before_training(labelled):
    folder = labelled / "to_label"
    (folder / "classes.json").write_text(classes_json(["head", "torso", "legs", "tail"]))
    with pytest.raises(UserError, match="no label map in .* has a pixel of legs or tail: label so"):
        run.few_shot(labelled, folder, output="absent")
    assert not (labelled / "absent" / "head").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"output": "gan"}, "--output=gan: give a folder name of its own"),
        ({"output": "../x"}, "--output=.*no path"),
        ({"output": ""}, "--output=: give"),
        ({"classes": ["head", "head"]}, "--classes: every name once"),
        ({"classes": ["head", "", "torso"]}, "--classes: give at least one name, and no empty"),
    ],
)
def test_names_that_make_no_sense(workdir, given, message):
    with pytest.raises(UserError, match=message):
        run.few_shot(workdir, workdir, **given)


def test_damaged_latents_are_named(labelled):
    path = labelled / "to_label" / "latents.npz"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(UserError, match="latents.npz cannot be read as a file of latents"):
        run.few_shot(labelled, labelled / "to_label")


def test_a_folder_keeps_the_settings_it_was_begun_with(workdir, few_shot):
    def settings(preset="auto", given=(), retrain=()):
        return run._settings(workdir / few_shot, 16, preset, dict(given), retrain)

    own, _ = few_shot_config(workdir / few_shot)
    assert settings() == own and own.unet_width == 2
    assert settings(given={"unet_width": 7}).unet_width == 7  # Which `prepare` then refuses.
    with pytest.raises(UserError, match=f"--preset=small has other settings than .*{few_shot} was"):
        settings("small")
    assert settings("small", dict(flat(own))) == own
    assert settings("published", retrain=("head", "auto_shot")).unet_width == 64
    assert settings(retrain=("head", "auto_shot")).unet_width == schema.SMALL["unet_width"]


def test_it_says_at_the_start_how_long_the_stages_take(labelled, monkeypatch, caplog):
    few = pipeline.prepare(
        labelled / "timed",
        *run.load_source(labelled, layers=["mask"]),
        labelled / "to_label",
        schema.settings_for(16, "auto", {"unet_width": 2, "unet_depth": 1, "mlp_hidden": (4,)}),
    )
    updates = {"head": 400, "auto_shot": 600}
    monkeypatch.setattr(
        pipeline.harness, "seconds_per_update", lambda stage: 60 / updates[stage.name]
    )
    with caplog.at_level("INFO"):
        run._say_how_long(few)
    said = caplog.messages[-1]
    assert "head 60 s, samples" in said and "U-Net 60 s" in said and said.startswith("About")
    (few.folder / "head").mkdir()
    caplog.clear()
    run._say_how_long(few)
    assert not caplog.messages


def test_a_generator_that_is_none_is_named(workdir, tmp_path):
    (tmp_path / "g.pt").write_text("not found")
    with pytest.raises(UserError, match="--generator: .*g.pt is a text file, not weights"):
        run.load_source(workdir, tmp_path / "g.pt")
