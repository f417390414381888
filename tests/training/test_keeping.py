"""Checkpoints that stay beside the newest two: every n-th, and the best."""

import logging

import pytest

from ganseg_jax import checkpoints, files
from ganseg_jax.config.convert import checked
from ganseg_jax.errors import UserError
from ganseg_jax.training import loop, measured
from ganseg_jax.training.checkpoint import Checkpoints
from tests.tiny_config import config_with
from tests.training import toy


def train(workdir, num_steps=10, **kept):
    """The toy, which saves every second step; returns the steps whose checkpoints are left."""
    made, folder = toy.stage(num_steps), workdir / "toy"
    writer = Checkpoints(folder / "checkpoints", **kept)
    try:
        first, state = writer.restore(made.state, made.prepared.data) or (0, made.state)
        loop.run(made.prepared, folder, writer, first, state)
    finally:
        writer.close()
    return checkpoints.steps(folder / "checkpoints")


def measure(workdir, figures, beginning=None):
    """Writes what an evaluation beside the training would have."""
    began = measured.beginning(workdir / "toy") if beginning is None else beginning
    rows = [
        {"stage": "toy", "step": step, "figures": {"foreground_iou": value}, "beginning": began}
        for step, value in figures.items()
    ]
    files.write_json(workdir / measured.FILE, rows)


def test_by_default_the_newest_two_stay(tmp_path):
    assert train(tmp_path) == [8, 10]


def test_every_nth_stays(tmp_path):
    assert train(tmp_path, keep_every=4) == [4, 8, 10]
    assert train(tmp_path, 16, keep_every=4) == [4, 8, 12, 14, 16]  # After a restart too.


def test_the_smallest_loss_stays(tmp_path):
    assert train(tmp_path, keep_best="total") == [2, 8, 10]  # It only grows.
    assert train(tmp_path, 14, keep_best="total", keep_every=4) == [2, 8, 12, 14]


def test_what_was_measured_meanwhile_decides(tmp_path):
    train(tmp_path, 6, keep_every=2)
    measure(tmp_path, {2: 0.3, 4: 0.7, 6: 0.5})
    assert train(tmp_path, 12, keep_best="foreground_iou") == [4, 10, 12]
    measure(tmp_path, {4: 0.7, 10: 0.8, 12: 0.1})
    assert train(tmp_path, 18, keep_best="foreground_iou") == [10, 16, 18]


def test_figures_of_a_training_before_do_not_count(tmp_path):
    train(tmp_path, 6, keep_every=2)
    measure(tmp_path, {2: 0.3, 4: 0.7, 6: 0.5}, beginning="2020-01-01T00:00:00+00:00")
    assert train(tmp_path, 12, keep_best="foreground_iou") == [10, 12]


def test_a_figure_that_nothing_has_is_said_once(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        logging.getLogger("ganseg_jax").propagate = True
        assert train(tmp_path, keep_best="nix") == [8, 10]
    (line,) = (m for m in caplog.messages if "nix" in m)
    assert line == "toy: no checkpoint has a figure 'nix' yet, so none is kept as the best."


def test_what_no_checkpoint_can_hit_is_refused():
    checked(config_with(gan__keep_every=8, gan__checkpoint_every=4))
    with pytest.raises(UserError, match="gan.keep_every=6 must be a multiple of gan.check"):
        checked(config_with(gan__keep_every=6, gan__checkpoint_every=4))
