"""Stages that start from the weights of another run, a packed model or a file."""

import json
import shutil

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from ganseg_jax import loading, packed
from ganseg_jax.config.convert import checked
from ganseg_jax.config.file import save_config
from ganseg_jax.errors import UserError
from ganseg_jax.interop import weights
from ganseg_jax.jobs.begin import begin
from ganseg_jax.training import gan, harness, segmenter, start
from tests.one_stage import WITH_ONE_STAGE
from tests.tiny_config import config_with
from tests.training.small import assert_equal, differ
from tests.workdirs import save_checkpoint


def config_of(**fields):
    return config_with(**WITH_ONE_STAGE, seed=5, **fields)


def initialised(config):
    return gan.init_state(gan.Gan.of(config), config.seed)


def begun(config):
    return gan.begin_from(config, initialised(config))


@pytest.fixture(scope="module")
def packed_model(workdir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    config = config_with(**WITH_ONE_STAGE)
    variables = {
        "generator": loading.restore_generator(config, workdir),
        "segmenter": loading.restore_segmenter(config, workdir),
    }
    packed.write(folder, config, variables)
    return folder


def test_a_gan_starts_from_another_run(workdir):
    config = config_of(gan__init_from=str(workdir))
    state, facts = begun(config)
    source = gan.init_state(gan.Gan.of(config), 0)
    assert_equal((state.generator, state.discriminator), (source.generator, source.discriminator))
    assert differ(state.generator, initialised(config).generator)
    assert int(state.step) == 0 and state.average is None
    assert facts["kind"] == "run" and facts["step"] == 0 and facts["left"] == []
    assert facts["loaded"] == len(jax.tree.leaves((source.generator, source.discriminator)))


def test_an_average_starts_from_the_generator_of_a_run_without(workdir):
    config = config_of(gan__init_from=str(workdir), gan__ema_decay=0.9)
    state, _ = begun(config)
    assert_equal(state.average, loading.load_generator(workdir)[1])
    config = config_of(
        gan__init_from=str(workdir), gan__ema_decay=0.9, gan__dont_load="generator/batch_stats"
    )
    state, facts = begun(config)
    assert_equal(state.average, state.generator)
    assert {name.split("/")[1] for name in facts["left"]} == {"batch_stats"}


def test_an_average_starts_from_an_average(tmp_path):
    config = config_of(gan__ema_decay=0.9)
    source = initialised(config).replace(average=gan.init_state(gan.Gan.of(config), 7).generator)
    save_config(config, tmp_path)
    save_checkpoint(source, tmp_path / "gan", step=3)
    state, facts = begun(config_of(gan__ema_decay=0.9, gan__init_from=str(tmp_path)))
    assert_equal((state.generator, state.average), (source.generator, source.average))
    assert facts["step"] == 3


def test_what_is_not_to_be_loaded_stays_as_initialised(workdir):
    config = config_of(gan__init_from=str(workdir), gan__dont_load="discriminator, */*embed*/*")
    state, facts = begun(config)
    own = initialised(config)
    assert_equal(state.discriminator, own.discriminator)
    taken, first = flatten_dict(state.generator, sep="/"), flatten_dict(own.generator, sep="/")
    source = flatten_dict(loading.load_generator(workdir)[1], sep="/")
    left = {name.removeprefix("generator/") for name in facts["left"]} & taken.keys()
    assert left and left < taken.keys()
    for name, value in taken.items():
        np.testing.assert_array_equal(value, (first if name in left else source)[name])


def test_packed_models_and_files(workdir, packed_model):
    everything = config_of(gan__init_from=str(packed_model))
    with pytest.raises(UserError, match="it has no discriminator. gan.dont_load=discriminator l"):
        begun(everything)
    for source in (packed_model, packed_model / "weights.npz"):
        config = config_of(gan__init_from=str(source), gan__dont_load="discriminator")
        state, facts = begun(config)
        expected = packed.variables_of(packed_model, "generator")
        assert_equal(dict(flatten_dict(state.generator)), dict(flatten_dict(expected)))
        config = config_of(segmenter__init_from=str(source))
        own = segmenter.init_state(segmenter.Segmentation.of(config), 5)
        state, _ = segmenter.begin_from(config, own)
        expected = packed.variables_of(packed_model, "segmenter")
        assert_equal(dict(flatten_dict(state.segmenter)), dict(flatten_dict(expected)))
    assert facts["kind"] == "file"


def test_a_segmenter_starts_from_another_run(workdir):
    config = config_of(segmenter__init_from=str(workdir))
    own = segmenter.init_state(segmenter.Segmentation.of(config), 5)
    state, facts = segmenter.begin_from(config, own)
    assert_equal(state.segmenter, loading.restore_segmenter(config, workdir))
    assert facts["stage"] == "segmenter" and int(state.step) == 0


def test_what_does_not_fit_is_named_before_anything_is_trained(workdir, tmp_path):
    config = config_of(gan__init_from=str(workdir), model__embedding_dim=6)
    with pytest.raises(UserError) as error:
        begin(config, tmp_path / "w")
    line = str(error.value)
    assert line.startswith(f"gan.init_from={str(workdir)!r}: generator/")
    assert "is of shape (4,) there and of shape (6,) here" in line and "more (generator/" in line
    assert "gan.dont_load=generator/" in line
    assert "\n" not in line and not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gan__init_from": "nix"}, "there is no run's folder, packed model or weight file"),
        ({"gan__init_from": "W", "gan__dont_load": "nix*"}, "no weight matches 'nix\\*'"),
        ({"gan__init_from": "W", "gan__dont_load": "*"}, "leaves nothing to load"),
        ({"gan__init_from": "EMPTY"}, "that run has no checkpoint of gan yet"),
        ({"gan__init_from": "OTHER"}, "it holds no generator or discriminator with this package's"),
    ],
)
def test_mistakes_are_one_line(fields, message, workdir, tmp_path):
    save_config(config_of(), tmp_path / "empty")
    weights.write(tmp_path / "other.npz", {"conv.weight": np.zeros(3, np.float32)})
    places = {"W": workdir, "EMPTY": tmp_path / "empty", "OTHER": tmp_path / "other.npz"}
    given = {name: str(places.get(value, value)) for name, value in fields.items()}
    with pytest.raises(UserError, match=message):
        gan.check_start(config_of(**given))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gan__dont_load": "x"}, "gan.dont_load='x' needs gan.init_from"),
        (
            {"gan__init_from": "x", "model__kind": "autoencoder_points"},
            "gan.init_from='x': auto-encoders start afresh",
        ),
    ],
)
def test_senseless_settings_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        checked(config_of(**fields))


def test_a_resumed_run_needs_its_source_no_more(workdir, puppets_dir, tmp_path):
    source = shutil.copytree(workdir, tmp_path / "source")

    def train(name, num_steps):
        config = config_of(
            gan__init_from=str(source),
            gan__num_steps=num_steps,
            gan__checkpoint_every=1,
            gan__sample_every=9,
            dataset__data_dir=str(puppets_dir),
        )
        return jax.device_get(harness.train(gan.declare(config), tmp_path / name))

    whole = train("whole", 2)
    train("cut", 1)
    shutil.rmtree(source)
    assert_equal(train("cut", 2), whole)
    facts = json.loads((tmp_path / "cut" / "gan" / start.FILE).read_text())
    assert facts == json.loads((tmp_path / "whole" / "gan" / start.FILE).read_text())
    assert facts["init_from"] == str(source) and len(facts["digest"]) == 16
