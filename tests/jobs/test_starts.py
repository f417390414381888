"""How parts begin is chosen by short trainings, once, and resumes."""

import dataclasses
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

SHOWN = starts.SHOWN
FOUR = tuple(
    starts.Start(layout, spread)
    for layout, spread in (("disc", 0.25), ("column", 0.75), ("row", 0.75), ("disc", 0.5))
)


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
    """Trains nothing and scores starts by their layout; returns what was to be trained."""
    trained = []
    photos = np.random.default_rng(0).integers(0, 256, (SHOWN, 8, 8, 3), np.uint8)

    class Trial(starts.Trial):
        def __init__(self, config):
            self.config, self.photos = config, photos

        def train(self, start, seed, steps):
            for step in steps:
                shift = len(start.name) + step
                yield lambda images, shift=shift: np.roll(np.eye(4)[images[..., 0] % 4], shift, 1)

        def refine(self, images, probabilities):
            return probabilities

        def measure(self, start, steps, predict):
            trained.append((start.name, steps))
            found, picture = super().measure(start, steps, predict)
            # After more updates a row comes out best.
            score = {"column": 3.0, "row": 2.0 * steps / 2, "disc": 1.0}[start.layout]
            return dataclasses.replace(found, score=score), picture

    monkeypatch.setattr(starts, "Trial", Trial)
    monkeypatch.setattr(starts, "CANDIDATES", FOUR)
    return trained


ALL = [("disc 0.25", 2), ("column 0.75", 2), ("row 0.75", 2), ("disc 0.5", 2)]


def test_the_better_half_goes_on_and_the_best_is_chosen_once(config, scored, tmp_path):
    chosen = starts.resolved(config, tmp_path)
    assert (chosen.gan.point_layout, chosen.gan.point_spread) == ("row", 0.75)
    assert scored == [*ALL, ("column 0.75", 6), ("row 0.75", 6)]
    content = json.loads((tmp_path / "starts" / "starts.json").read_text())
    assert content["chosen"] == {"layout": "row", "spread": 0.75}
    terms = [row["terms"] for row in content["tried"]]
    assert set(evidence.NAMES) == set(terms[0]) and terms[0] != terms[1] != terms[4]
    captions = [caption for caption, png in starts.pictures(tmp_path) if png[1:4] == b"PNG"]
    assert captions[0].startswith("A row 0.75, chosen: score 6.000 after 6 updates.")
    assert len(captions) == 4
    # What was chosen stays; nothing is trained for it again, until it is forgotten.
    assert starts.resolved(config, tmp_path) == chosen and len(scored) == 6
    starts.forget(tmp_path)
    assert not (tmp_path / "starts").exists()


def test_a_choice_for_other_settings_is_not_taken_over(config, scored, tmp_path):
    starts.resolved(config, tmp_path)
    scored.clear()
    other = with_fields(config, {"model.num_parts": 2})
    for changed, trained in ((config, 0), (other, 6), (config, 6)):
        starts.resolved(changed, tmp_path)
        assert len(scored) == trained, changed
        scored.clear()
    # Once the GAN has begun, what it began with counts.
    (tmp_path / "gan" / "checkpoints" / "5").mkdir(parents=True)
    assert starts.resolved(other, tmp_path).gan.point_layout == "row" and not scored


def test_a_choice_that_was_cut_off_resumes_with_the_same_figures(
    config, scored, tmp_path, monkeypatch
):
    starts.resolved(config, tmp_path / "whole")
    save, count = starts.save_png, len(scored)

    def cut_off(path, picture):
        save(path, picture)
        if len(scored) == count + 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(starts, "save_png", cut_off)
    with pytest.raises(KeyboardInterrupt):
        starts.resolved(config, tmp_path / "cut")
    scored.clear()
    starts.resolved(config, tmp_path / "cut")
    assert scored == [("column 0.75", 6), ("row 0.75", 6)]
    whole, cut = (tmp_path / name / "starts" / "starts.json" for name in ("whole", "cut"))
    assert json.loads(whole.read_text()) == json.loads(cut.read_text())


def test_what_there_is_no_time_for_is_left_out(config, scored, tmp_path, caplog):
    caplog.set_level("INFO")
    assert starts.resolved(config, tmp_path, seconds=0).gan.point_layout == "disc"
    assert scored == [("disc 0.25", 2)]
    assert "no further trainings: column 0.75 left out" in caplog.text


def test_what_needs_no_choice_is_left_alone(config, tmp_path):
    given = with_fields(config, {"gan.point_layout": "row", "gan.point_spread": 0.5})
    assert starts.resolved(given, tmp_path) is given
    (tmp_path / "gan" / "checkpoints" / "5").mkdir(parents=True)
    assert starts.resolved(config, tmp_path) is config  # An older run's GAN.
    (tmp_path / "gan" / "checkpoints" / "5").rmdir()
    (tmp_path / "gan" / "checkpoints").rmdir()
    (tmp_path / "starts").mkdir()
    (tmp_path / "starts" / "starts.json").write_text("{")
    with pytest.raises(UserError, match="starts.json is damaged .*: remove it to choose again"):
        starts.resolved(config, tmp_path)


def test_the_gan_begins_as_chosen(config, tmp_path, monkeypatch):
    (tmp_path / "starts").mkdir()
    chosen = {"tried": [], "chosen": {"layout": "row", "spread": 0.5}}
    chosen["decided_by"] = starts._deciding(config)
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
    begun = program.place(gan.init_state(gan.Gan.of(config), 0))
    state, position = program.train(begun, 1, config.seed)
    other = gan.init_state(gan.Gan.of(FOUR[1].of(config)), 7)
    program.train(program.place(other), 1, seed=7)  # In between; it changes nothing.
    state, _ = program.train(state, 1, config.seed, position=position)
    for mine, theirs in zip(leaves(state), leaves(trained), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert program.program._cache_size() == 1


def test_a_longer_training_is_that_which_goes_on(config):
    config = with_fields(config, {"starts.num_steps": 1})
    trial = starts.Trial(starts.small(config))
    on = [predict(trial.photos) for predict in trial.train(FOUR[1], 0, [1, 3])]
    (alone,) = (predict(trial.photos) for predict in trial.train(FOUR[1], 0, [3]))
    np.testing.assert_array_equal(on[1], alone)
    assert not np.array_equal(on[0], on[1])
    found, picture = trial.measure(FOUR[1], 3, lambda images: alone[: len(images)])
    assert set(found.terms) == set(evidence.NAMES) and found.score == evidence.score(found.terms)
    assert picture.ndim == 3


def leaves(state):
    return jax.tree.leaves(jax.device_get(state))
