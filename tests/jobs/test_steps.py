"""Checkpoints measured one by one: which, with what weights, and beside a training."""

import json
import os
import shutil
import subprocess
import sys
import threading

import pytest

from ganseg_jax import checkpoints, files, loading
from ganseg_jax.config import with_fields
from ganseg_jax.config.file import save_config
from ganseg_jax.config.states import State
from ganseg_jax.errors import UserError
from ganseg_jax.jobs import measure, steps
from ganseg_jax.report import steps_plot
from ganseg_jax.training import gan, measured, process, segmenter
from tests.one_stage import WITH_ONE_STAGE
from tests.tiny_config import config_with
from tests.training.small import assert_equal
from tests.workdirs import save_checkpoint


@pytest.fixture(scope="module")
def config(puppets_dir):
    return config_with(
        **WITH_ONE_STAGE,
        dataset__data_dir=str(puppets_dir),
        evaluation__num_samples=32,
        gan__ema_decay=0.9,
    )


def save(config, folder, stage, step):
    """Writes a state that differs from step to step as a checkpoint."""
    if stage == "gan":
        state = gan.init_state(gan.Gan.of(config), seed=step)
        state = state.replace(average=gan.init_state(gan.Gan.of(config), seed=99).generator)
    else:
        state = segmenter.init_state(segmenter.Segmentation.of(config), seed=step)
    save_checkpoint(state, folder / stage, step)


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    """A workdir whose GAN has checkpoints 4 and 8 and whose segmenter has 2 and 4."""
    folder = tmp_path_factory.mktemp("run")
    save_config(config, folder)
    for stage, saved in {"gan": (4, 8), "segmenter": (2, 4)}.items():
        for step in saved:
            save(config, folder, stage, step)
    return folder


@pytest.fixture
def copied(run, tmp_path):
    return shutil.copytree(run, tmp_path / "w")


def keys(rows):
    return [(row["stage"], row["step"], row["weights"]) for row in rows]


def test_every_checkpoint_is_measured_once(config, copied, monkeypatch):
    rows = steps.evaluate_steps(config, copied, "all")
    assert keys(rows) == [
        ("gan", 4, "averaged"),
        ("gan", 8, "averaged"),
        ("segmenter", 2, "raw"),
        ("segmenter", 4, "raw"),
    ]
    assert rows == json.loads((copied / measured.FILE).read_text())
    assert (copied / measured.PICTURE).read_bytes().startswith(b"\x89PNG")
    assert "sliced_wasserstein" in rows[0]["figures"]
    # Each step's own weights, by the measures of a whole evaluation.
    for row in rows[2:]:
        state = State("segmenter", row["step"])
        network = loading.load_segmenter(copied, named=False, engine="jax", state=state)
        whole = measure.measure_photos(steps.Measures(config, copied).config, network)
        assert row["figures"]["foreground_iou"] == whole.figures["foreground_iou"]
        assert {"foreground_iou_low", "landmark_error_high"} < row["figures"].keys()
    assert rows[2]["figures"] != rows[3]["figures"]
    monkeypatch.setattr(steps.Measures, "row", None)  # Nothing is measured again, ...
    shutil.rmtree(copied / "segmenter" / "checkpoints" / "2")
    assert steps.evaluate_steps(config, copied, "all") == rows  # ... and nothing forgotten.
    assert keys(steps.evaluate_steps(config, copied, "newest"))[-1] == ("segmenter", 4, "raw")


def test_raw_and_averaged_weights_are_told_apart(config, copied):
    rows = steps.evaluate_steps(config, copied, [8], weights="raw")
    rows += steps.evaluate_steps(config, copied, [8], weights="averaged")
    assert keys(rows) == [("gan", 8, "raw"), ("gan", 8, "averaged")]
    assert rows[0]["figures"] != rows[1]["figures"]
    module, raw = loading.load_generator(copied, step=8, weights="raw")
    assert_equal(raw, gan.init_state(gan.Gan.of(config), seed=8).generator)
    _, averaged = loading.load_generator(copied, step=8)
    assert_equal(averaged, gan.init_state(gan.Gan.of(config), seed=99).generator)
    same_module, earlier = loading.load_generator(copied, step=4, weights="raw")
    assert same_module == module
    assert_equal(earlier, gan.init_state(gan.Gan.of(config), seed=4).generator)
    assert steps_plot.plot_steps(rows).shape[2] == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"steps": [5]}, "has no checkpoint of step 5: gan has 4, 8; segmenter has 2, 4"),
        ({"stages": ["segmenter"], "steps": [8]}, "step 8: segmenter has 2, 4"),
        ({"stages": ["gna"]}, "'gna' is no stage of this run: gan, segmenter"),
        (
            {"stages": ["segmenter"], "weights": "averaged"},
            "segmenter keeps no averaged weights: take the raw ones",
        ),
    ],
)
def test_mistakes_are_one_line(config, run, given, message):
    with pytest.raises(UserError, match=message):
        steps.evaluate_steps(config, run, **given)


def test_one_state_has_no_others():
    with pytest.raises(UserError, match="people is no run's folder: it has one state"):
        loading.load_generator("people", step=3)
    with pytest.raises(UserError, match="people is no run's folder: it has one state"):
        loading.load_segmenter("people", state=State(weights="raw"))


def test_rows_of_a_stage_that_was_trained_again_do_not_count(config, copied):
    steps.evaluate_steps(config, copied, [8])
    measures = steps.Measures(config, copied)
    assert keys(steps.rows_now(measures)) == [("gan", 8, "averaged")]
    files.write_whole(copied / "gan" / "starts.jsonl", '{"time": "2026-01-01", "step": 0}\n')
    assert steps.rows_now(measures) == []


def test_rows_with_other_settings_do_not_count(config, copied):
    steps.evaluate_steps(config, copied, [4], ["segmenter"])
    assert len(steps.rows_now(steps.Measures(config, copied))) == 1
    for changed in ({"evaluation.num_samples": 9}, {"segmenter.refine": True}):
        assert steps.rows_now(steps.Measures(with_fields(config, changed), copied)) == []
    same = with_fields(config, {"evaluation.references": False, "evaluation.batch_size": 5})
    assert len(steps.rows_now(steps.Measures(same, copied))) == 1


def test_following_ends_with_the_training(config, copied, monkeypatch, caplog):
    """Its schedule ends at 8 and 4; the last checkpoint comes while others are measured."""
    shutil.move(copied / "segmenter" / "checkpoints" / "4", copied / "late")
    looked = []

    def ended(*given):
        looked.append(1)
        if len(looked) == 3:
            shutil.move(copied / "late", copied / "segmenter" / "checkpoints" / "4")
        return _has_ended(*given)

    _has_ended = steps.has_ended
    monkeypatch.setattr(steps, "has_ended", ended)
    rows = steps.follow(copied, look_every=0.01)
    assert len(rows) == 4 and keys(rows)[-1] == ("segmenter", 4, "raw")


def test_following_ends_if_the_process_has(copied):
    shutil.rmtree(copied / "segmenter")
    shutil.rmtree(copied / "gan" / "checkpoints" / "8")
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    facts = process.facts() | {"pid": child.pid, "born": process.born(child.pid)}
    row = {"time": "2026-01-01T00:00:00+00:00", "process": facts}
    files.write_whole(copied / "gan" / "starts.jsonl", json.dumps(row) + "\n")
    config = config_with(gan__num_steps=8)
    assert steps.has_ended(config, copied) == ""
    child.communicate(b"\n")
    told = "The training's process has ended, in gan after step 4."
    assert steps.has_ended(config, copied) == told
    facts["node"] = "elsewhere"
    files.write_whole(copied / "gan" / "starts.jsonl", json.dumps(row) + "\n")
    assert steps.has_ended(config, copied) == ""  # Which cannot be seen from here.


def test_a_checkpoint_that_is_deleted_meanwhile_is_left_out(config, copied, monkeypatch):
    place = copied / "segmenter" / "checkpoints" / "2"
    read = checkpoints._read_from

    def deleting(manager, wanted, *given):
        if wanted == [2] and place.exists():
            os.remove(place / "state" / checkpoints.CHECKSUMS)  # As a deletion begins.
            (place / "state" / "manifest.ocdbt").unlink()
            threading.Timer(0.3, shutil.rmtree, [place]).start()
        return read(manager, wanted, *given)

    monkeypatch.setattr(checkpoints, "_read_from", deleting)
    with pytest.raises(checkpoints.Gone, match="2 was deleted while it was read"):
        loading.restore_segmenter(config, copied, State("segmenter", 2))
    shutil.copytree(copied / "segmenter" / "checkpoints" / "4", place)
    rows = steps.follow(copied, stages=["segmenter"], look_every=0.01)
    assert keys(rows) == [("segmenter", 4, "raw")]


def test_a_deletion_that_leaves_the_arrays_for_now_is_noticed(config, copied, monkeypatch):
    place = copied / "gan" / "checkpoints" / "4"
    read = checkpoints._read_from

    def deleting(*given):
        found = read(*given)
        os.remove(place / "state" / checkpoints.CHECKSUMS)
        return found

    monkeypatch.setattr(checkpoints, "_read_from", deleting)
    with pytest.raises(checkpoints.Gone):
        loading.restore_generator(config, copied, State("gan", 4))


@pytest.mark.parametrize(
    ("flags", "answer"),
    [
        ({}, None),
        ({"step": 3}, [3]),
        ({"steps": "3,5"}, [3, 5]),
        ({"steps": "all"}, "all"),
        ({"weights": "raw"}, "newest"),
        ({"step": 3, "steps": "all"}, "--step and --steps contradict each other"),
        ({"steps": "all", "follow": True}, "--steps and --follow contradict each other"),
        ({"steps": "few"}, "--steps=few must be numbers"),
    ],
)
def test_flags_name_steps(entry_point, tmp_path, flags, answer):
    module = entry_point("evaluate", workdir=tmp_path, **flags)
    if isinstance(answer, str) and answer.startswith("--"):
        with pytest.raises(UserError, match=answer):
            module.wanted_steps()
    else:
        assert module.wanted_steps() == answer
