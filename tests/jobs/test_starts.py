"""How parts begin is chosen by short trainings, once, and resumes."""

import json

import jax
import numpy as np
import pytest

from ganseg_jax.config import with_fields
from ganseg_jax.errors import UserError
from ganseg_jax.evaluation import evidence
from ganseg_jax.jobs import starts, train
from ganseg_jax.training import brief, gan, harness
from tests.one_stage import WITH_ONE_STAGE
from tests.tiny_config import config_with

TWO = (starts.Start("disc", 0.25), starts.Start("column", 0.75))


@pytest.fixture
def config(puppets_dir):
    return config_with(
        **WITH_ONE_STAGE,
        gan__point_layout="auto",
        starts__image_size=8,
        starts__num_steps=2,
        starts__segmenter_steps=1,
        starts__photos=3,
        dataset__data_dir=str(puppets_dir),
    )


@pytest.fixture
def scored(monkeypatch):
    """Has the first start score 0, the next 1, and so on; returns how many were trained."""
    trained = []

    class Trial(starts.Trial):
        def run(self, start):
            trained.append(start.name)
            found, picture = super().run(start)
            return starts.Tried(start, found.terms, float(len(trained))), picture

    monkeypatch.setattr(starts, "Trial", Trial)
    monkeypatch.setattr(starts, "CANDIDATES", TWO)
    return trained


def test_the_best_start_is_chosen_once(config, scored, tmp_path, monkeypatch):
    chosen = starts.resolved(config, tmp_path)
    assert (chosen.gan.point_layout, chosen.gan.point_spread) == ("column", 0.75)
    assert scored == ["disc 0.25", "column 0.75"]
    content = json.loads((tmp_path / "starts" / "starts.json").read_text())
    assert content["chosen"] == {"layout": "column", "spread": 0.75}
    terms = content["tried"][0]["terms"]
    assert set(evidence.WEIGHTS) <= set(terms) and terms != content["tried"][1]["terms"]
    assert (tmp_path / "starts" / "disc_0.25.png").exists()
    # What was chosen stays; nothing is trained for it again, until it is forgotten.
    assert starts.resolved(config, tmp_path) == chosen and len(scored) == 2
    starts.forget(tmp_path)
    assert not (tmp_path / "starts").exists()


def test_a_choice_that_was_cut_off_resumes(config, scored, tmp_path, monkeypatch):
    save = starts.save_png

    def cut_off(path, picture):
        if path.name.startswith("column"):
            raise KeyboardInterrupt
        save(path, picture)

    monkeypatch.setattr(starts, "save_png", cut_off)
    with pytest.raises(KeyboardInterrupt):
        starts.resolved(config, tmp_path)
    monkeypatch.setattr(starts, "save_png", save)
    scored.clear()
    starts.resolved(config, tmp_path)
    assert scored == ["column 0.75"]


def test_what_there_is_no_time_for_is_left_out(config, scored, tmp_path, caplog):
    caplog.set_level("INFO")
    assert starts.resolved(config, tmp_path, seconds=0).gan.point_layout == "disc"
    assert scored == ["disc 0.25"]
    assert "no further starts: column 0.75 left out" in caplog.text


def test_what_needs_no_choice_is_left_alone(config, tmp_path):
    given = with_fields(config, {"gan.point_layout": "row", "gan.point_spread": 0.5})
    assert starts.resolved(given, tmp_path) is given
    (tmp_path / "gan" / "checkpoints" / "5").mkdir(parents=True)
    assert starts.resolved(config, tmp_path) is config  # An older run's GAN.
    (tmp_path / "starts").mkdir()
    (tmp_path / "starts" / "starts.json").write_text("{")
    with pytest.raises(UserError, match="starts.json is damaged .*: remove it to choose again"):
        starts.resolved(config, tmp_path)


def test_the_gan_begins_as_chosen(config, tmp_path, monkeypatch):
    (tmp_path / "starts").mkdir()
    chosen = {"tried": [], "chosen": {"layout": "row", "spread": 0.5}}
    (tmp_path / "starts" / "starts.json").write_text(json.dumps(chosen))
    begun = {}
    monkeypatch.setattr(harness, "train", lambda stage, *_: begun.update({stage.name: stage}))
    train.train_stages(config, tmp_path, ["gan"])
    given = with_fields(config, {"gan.point_layout": "row", "gan.point_spread": 0.5})
    wanted = gan.init_state(gan.Gan.of(given), config.seed).generator["params"]
    got = begun["gan"].init().generator["params"]
    bias = lambda params: params["point_generator"]["mlp"]["out"]["bias"].tolist()  # noqa: E731
    assert (
        bias(got) == bias(wanted) != bias(gan.init_state(gan.Gan.of(config), 0).generator["params"])
    )
    assert json.loads((tmp_path / "config.json").read_text())["gan"]["point_layout"] == "auto"


def test_brief_trainings_are_those_of_the_harness_and_share_a_program(config, tmp_path):
    config = with_fields(config, {"gan.point_layout": "disc", "gan.num_steps": 2})
    trained = harness.train(gan.declare(config), tmp_path)
    program = brief.Brief.of(gan.declare(config))
    state = program.train(program.place(gan.init_state(gan.Gan.of(config), 0)), 2, config.seed)
    for mine, theirs in zip(leaves(state), leaves(trained), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    other = gan.init_state(gan.Gan.of(TWO[1].of(config)), 7)
    program.train(program.place(other), 1, seed=7)
    assert program.program._cache_size() == 1


def leaves(state):
    return jax.tree.leaves(jax.device_get(state))
