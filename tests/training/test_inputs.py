"""A stage knows what it was made from, and is trained again if that changes."""

import logging

import numpy as np
import pytest

from ganseg_jax.errors import UserError
from ganseg_jax.training import inputs
from ganseg_jax.training.stage import Schedule, Stage

BEFORE = {"photos": {"count": 3, "bytes": 10}, "generator": "a", "settings": {"x.y": 1}}


def stage(derived=True, **now):
    return Stage(
        name="toy",
        schedule=Schedule(1, 1, 1, 1),
        seed=0,
        init=dict,
        step=lambda *_: ({}, {}),
        inputs=BEFORE | now,
        derived=derived,
    )


@pytest.fixture
def folder(tmp_path):
    """Of a stage that was trained."""
    from etils import epath

    (tmp_path / "toy" / "checkpoints").mkdir(parents=True)
    inputs.record(stage(), tmp_path / "toy")
    return epath.Path(tmp_path / "toy")


def is_kept(folder):
    return (folder / "checkpoints").exists()


@pytest.mark.parametrize(
    ("now", "phrase"),
    [
        ({"generator": "b"}, "generator"),
        ({"photos": {"count": 97, "bytes": 99}}, r"photos \(97, was 3\)"),
        ({"settings": {"x.y": 2}}, r"x.y=2 \(was 1\)"),
    ],
)
def test_derived_stage_is_emptied_and_says_why(folder, now, phrase, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("ganseg_jax"), "propagate", True)
    caplog.set_level(logging.INFO)
    inputs.settle(stage(**now), folder, keep=(), retrain=())
    assert not is_kept(folder) and inputs.recorded(folder) == BEFORE | now
    (message,) = (record.getMessage() for record in caplog.records)
    assert message.startswith("toy: is trained again (") and "--keep=toy" in message
    assert np.any([phrase.replace("\\", "") in message])


def test_nothing_happens_if_nothing_changed(folder):
    inputs.settle(stage(more="not recorded then"), folder, keep=(), retrain=())
    assert is_kept(folder)


def test_stage_is_kept_if_asked_for(folder):
    inputs.settle(stage(generator="b"), folder, keep=["toy"], retrain=())
    assert is_kept(folder) and inputs.recorded(folder) == BEFORE


def test_stage_is_trained_again_if_asked_for(folder):
    inputs.settle(stage(derived=False), folder, keep=(), retrain=["toy"])
    assert not is_kept(folder)


def test_the_user_decides_about_hours_of_training(folder):
    changed = stage(derived=False, photos={"count": 97, "bytes": 99})
    with pytest.raises(UserError, match=r"photos \(97, was 3\).*--retrain=toy .*--keep=toy"):
        inputs.settle(changed, folder, keep=(), retrain=())
    assert is_kept(folder)


def test_stage_of_an_older_version_is_taken_as_it_is(folder):
    (folder / "inputs.json").unlink()
    inputs.settle(stage(generator="b"), folder, keep=(), retrain=())
    assert is_kept(folder) and inputs.recorded(folder)["generator"] == "b"


def test_digest_sees_values_names_shapes_and_types():
    trees = [
        {"a": np.float32([1, 2])},
        {"a": np.float32([1, 3])},
        {"b": np.float32([1, 2])},
        {"a": np.float32([[1, 2]])},
        {"a": np.int32([1, 2])},
        ["head", "torso"],
        ["torso", "head"],
    ]
    assert len({inputs.digest(tree) for tree in trees}) == len(trees)
    assert inputs.digest(trees[0]) == inputs.digest({"a": np.float32([1, 2])})
