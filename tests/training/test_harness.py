"""What the harness gives a stage: keys, photos, placement. The GAN's step is a short one here."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganseg_jax import prng
from ganseg_jax.errors import UserError
from ganseg_jax.files import read_rows
from ganseg_jax.jobs.begin import begin
from ganseg_jax.training import batches, gan, harness, loop, partition, segmenter
from ganseg_jax.training.stage import Schedule, Stage
from tests.tiny_config import config_with
from tests.training.small import assert_equal


@pytest.fixture
def train(monkeypatch, puppets_dir, tmp_path):
    """Trains a GAN whose step draws a number and adds up the photos; NaN in step 6 with one key."""

    def step(networks, root, state, batch, batch_sharding):
        drawn = jax.random.uniform(prng.step_key(root, state.step, "generator"))
        same = jnp.all(jax.random.key_data(root) == jax.random.key_data(prng.root_key(0)))
        drawn = jnp.where(same & (state.step == 5), jnp.nan, drawn)
        photos = jnp.sum(batch["image"].astype(jnp.float32), axis=(1, 2, 3))
        scalars = {"loss": drawn, "photos": jnp.sum(photos * jnp.arange(len(photos)))}
        return state.replace(step=state.step + 1), scalars

    monkeypatch.setattr(gan, "step", step)

    def run(name, **fields):
        chosen = {"dataset__data_dir": str(puppets_dir), "gan__log_every": 1} | fields
        # No picture: the generator is not to be compiled.
        stage = dataclasses.replace(gan.declare(config_with(**chosen)), view=None)
        return harness.train(stage, tmp_path / name)

    return run


def rows(workdir, *names):
    metrics = read_rows(workdir / "gan" / "metrics.jsonl")
    return [[row[name] for name in names] for row in metrics]


def test_retry_takes_other_keys_and_the_same_photos(train, tmp_path):
    with pytest.raises(loop.NonFiniteError, match="gan: loss is nan at step 6;"):
        train("stop")
    assert train("retry", gan__on_nonfinite="retry").step == 8
    assert json.loads((tmp_path / "retry" / "gan" / "retries.json").read_text()) == [[4, 1]]
    stopped = rows(tmp_path / "stop", "step", "loss", "photos")
    retried = rows(tmp_path / "retry", "step", "loss", "photos")
    assert [row[0] for row in retried] == list(range(1, 9))
    assert retried[:4] == stopped[:4] and len(stopped) == 5
    # Step 5 again: the same photos with another key.
    assert retried[4][2] == stopped[4][2] and retried[4][1] != stopped[4][1]


def test_photos_on_the_devices_resume_and_retry_as_those_of_the_host(train, tmp_path):
    fields = {"dataset__cache": "device", "gan__on_nonfinite": "retry"}
    train("whole", **fields)
    train("cut", gan__num_steps=3, **fields)
    train("cut", **fields)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    expected = rows(whole, "step", "loss", "photos")
    assert rows(cut, "step", "loss", "photos") == expected
    assert [row[0] for row in expected] == list(range(1, 9))
    assert len({row[2] for row in expected}) == 8
    made = [json.loads((w / "gan" / "retries.json").read_text()) for w in (whole, cut)]
    assert made[0] == made[1] == [[4, 1]]
    assert not list(whole.glob("gan/checkpoints/8/data"))


def test_photos_cannot_be_moved_within_a_run(tmp_path):
    begin(config_with(), tmp_path)
    (tmp_path / "gan" / "checkpoints").mkdir(parents=True)
    begin(config_with(dataset__cache="none"), tmp_path)  # The same photos in the same order.
    with pytest.raises(UserError, match="begun with dataset.cache='none', not 'device'"):
        begin(config_with(dataset__cache="device"), tmp_path)
    cropped = config_with(dataset__cache="device", dataset__augment="flip_crop")
    with pytest.raises(UserError, match="dataset.cache='device' mirrors photos but does not crop"):
        begin(cropped, tmp_path)


def test_photos_that_do_not_fit_on_a_device_are_refused(train, monkeypatch):
    monkeypatch.setattr(
        batches, "_memory", lambda device: {"bytes_limit": 9_000, "bytes_in_use": 1_000}
    )
    with pytest.raises(UserError, match="needs 0.0 GiB on each device, .*dataset.cache to 'host'"):
        train("large", dataset__cache="device")


@pytest.mark.parametrize(("size", "answer"), [(64, "is larger"), (6, "cannot be split")])
def test_batches_that_do_not_fit_are_refused(train, size, answer):
    with pytest.raises(UserError, match=f"gan.batch_size={size} {answer}"):
        train("batch", gan__batch_size=size)


def test_sharded_state_is_trained_saved_and_taken_up(train, tmp_path, puppets_dir, monkeypatch):
    monkeypatch.setattr(partition, "MIN_SHARDED", 64)

    def step(networks, root, teacher, sharding, state):
        return state.replace(step=state.step + 1), {"loss": jnp.float32(1)}

    monkeypatch.setattr(segmenter, "step", step)
    fields = {"partition__fsdp": True, "gan__num_steps": 2, "segmenter__num_steps": 2}
    config = config_with(dataset__data_dir=str(puppets_dir), **fields)

    def train_segmenter():
        stage = dataclasses.replace(segmenter.declare(config, tmp_path / "run"), view=None)
        return harness.train(stage, tmp_path / "run")

    for run in (lambda: train("run", **fields), train_segmenter):
        once, again = run(), run()  # The second is restored, to the same places.
        for state in (once, again):
            whole = sum(x.nbytes for x in jax.tree.leaves(state))
            mine = sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(state))
            assert state.step == 2 and mine < 0.6 * whole
        assert_equal(once, again)


def test_an_update_is_timed_once_it_is_warm(monkeypatch):
    now = [0.0]

    def prepared(*_):
        made = iter(range(100))

        def step(root, state, given):
            now[0] += 1.0 if next(made) < 8 else 0.125  # Seconds.
            return state, {}

        return loop.Prepared("toy", Schedule(9, 9, 9, 9), step, roots=lambda fold: fold)

    monkeypatch.setattr(harness, "prepare", prepared)
    monkeypatch.setattr(harness.time, "perf_counter", lambda: now[0])
    toy = Stage(
        "toy", Schedule(9, 9, 9, 9), 0, lambda: {"x": np.float32(0)}, step=lambda *given: given
    )
    assert harness.seconds_per_update(toy) == 0.125
    before = now[0]
    assert harness.seconds_per_update(toy, limit=3.0) == 1.0
    assert now[0] - before == 7.0
