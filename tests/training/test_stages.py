"""What the stages give the loop: keys, photos, steps. Their steps are replaced by short ones."""

import json

import jax
import jax.numpy as jnp
import pytest

from configs import tiny
from ganseg_jax import prng
from ganseg_jax.config import file as config_file
from ganseg_jax.data import prepare
from ganseg_jax.data.builders.puppets.builder import Puppets
from ganseg_jax.errors import UserError
from ganseg_jax.training import loop, partition, photos, stages
from ganseg_jax.training.writer import read_rows
from tests.training.small import assert_equal


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Puppets, "EXPECTED_COUNTS", {"train": 30, "validation": 6, "test": 10})
        prepare.prepare("puppets", None, folder)
    return folder


@pytest.fixture
def config(data_dir):
    config = tiny.get_config()
    config.dataset.data_dir = str(data_dir)
    config.gan.log_every = 1
    config.gan.sample_every = 100
    return config


@pytest.fixture
def short_step(monkeypatch):
    """A GAN step that draws a number and adds up the photos; NaN in step 6 with the first key."""

    def step(networks, root, state, batch, batch_sharding):
        drawn = jax.random.uniform(prng.step_key(root, state.step, "generator"))
        same = jnp.all(jax.random.key_data(root) == jax.random.key_data(prng.root_key(0)))
        drawn = jnp.where(same & (state.step == 5), jnp.nan, drawn)
        photos = jnp.sum(batch["image"].astype(jnp.float32), axis=(1, 2, 3))
        scalars = {"loss": drawn, "photos": jnp.sum(photos * jnp.arange(len(photos)))}
        return state.replace(step=state.step + 1), scalars

    monkeypatch.setattr(stages.gan, "step", step)
    # No sheet: the generator is not to be compiled.
    run = loop.run
    monkeypatch.setattr(loop, "run", lambda stage, workdir: run(_undrawn(stage), workdir))


def _undrawn(stage):
    stage.draw = None
    return stage


def rows(workdir, *names):
    metrics = read_rows(workdir / "gan" / "metrics.jsonl")
    return [[row[name] for name in names] for row in metrics]


def test_retry_takes_other_keys_and_the_same_photos(config, short_step, tmp_path):
    with pytest.raises(loop.NonFiniteError, match="gan: loss is nan at step 6;"):
        stages.train_gan(config, tmp_path / "stop")
    config.gan.on_nonfinite = "retry"
    assert stages.train_gan(config, tmp_path / "retry").step == 8
    assert json.loads((tmp_path / "retry" / "gan" / "retries.json").read_text()) == [[4, 1]]
    stopped = rows(tmp_path / "stop", "step", "loss", "photos")
    retried = rows(tmp_path / "retry", "step", "loss", "photos")
    assert [row[0] for row in retried] == list(range(1, 9))
    assert retried[:4] == stopped[:4] and len(stopped) == 5
    # Step 5 again: the same photos with another key.
    assert retried[4][2] == stopped[4][2] and retried[4][1] != stopped[4][1]


def test_unknown_answer_to_nan_is_named(config, tmp_path):
    config.gan.on_nonfinite = "retyr"
    with pytest.raises(UserError, match="gan.on_nonfinite='retyr' is none of stop, retry; did you"):
        stages.train_gan(config, tmp_path)


def test_photos_on_the_devices_resume_and_retry_as_those_of_the_host(config, short_step, tmp_path):
    config.dataset.cache = "device"
    config.gan.on_nonfinite = "retry"
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    stages.train_gan(config, whole)
    config.gan.num_steps = 3
    stages.train_gan(config, cut)
    config.gan.num_steps = 8
    stages.train_gan(config, cut)
    expected = rows(whole, "step", "loss", "photos")
    assert rows(cut, "step", "loss", "photos") == expected
    assert [row[0] for row in expected] == list(range(1, 9))
    assert len({row[2] for row in expected}) == 8
    made = [json.loads((w / "gan" / "retries.json").read_text()) for w in (whole, cut)]
    assert made[0] == made[1] == [[4, 1]]
    assert not list(whole.glob("gan/checkpoints/8/data"))


def test_photos_cannot_be_moved_within_a_run(config, tmp_path):
    config_file.adopt_workdir(config, tmp_path)
    (tmp_path / "gan" / "checkpoints").mkdir(parents=True)
    config.dataset.cache = "none"
    config_file.adopt_workdir(config, tmp_path)  # The same photos in the same order.
    config.dataset.cache = "device"
    with pytest.raises(UserError, match="begun with dataset.cache='none', not 'device'"):
        config_file.adopt_workdir(config, tmp_path)
    config.dataset.augment = "flip_crop"
    with pytest.raises(UserError, match="dataset.cache='device' mirrors photos but does not crop"):
        stages.train_gan(config, tmp_path)


def test_photos_that_do_not_fit_on_a_device_are_refused(config, tmp_path, monkeypatch):
    config.dataset.cache = "device"
    monkeypatch.setattr(
        photos, "_memory", lambda device: {"bytes_limit": 9_000, "bytes_in_use": 1_000}
    )
    with pytest.raises(UserError, match="needs 0.0 GiB on each device, .*dataset.cache to 'host'"):
        stages.train_gan(config, tmp_path)


def test_sharded_state_is_trained_saved_and_taken_up(config, short_step, tmp_path, monkeypatch):
    monkeypatch.setattr(partition, "MIN_SHARDED", 64)
    config.partition.fsdp = True
    config.gan.num_steps = config.segmenter.num_steps = 2

    def step(networks, root, teacher, sharding, state):
        return state.replace(step=state.step + 1), {"loss": jnp.float32(1)}

    monkeypatch.setattr(stages.segmenter, "step", step)
    for train in (stages.train_gan, stages.train_segmenter):
        once = train(config, tmp_path)
        again = train(config, tmp_path)  # Restored, to the same places.
        for state in (once, again):
            whole = sum(x.nbytes for x in jax.tree.leaves(state))
            mine = sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(state))
            assert state.step == 2 and mine < 0.6 * whole
        assert_equal(once, again)
