"""Converted checkpoints as workdirs that the other programs open, and the way back."""

import json
import logging
import os
import subprocess
import sys

import grain.python as grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ganseg_jax
from ganseg_jax.config import Config
from ganseg_jax.config import file as config_file
from ganseg_jax.errors import UserError
from ganseg_jax.interop import torch_ganseg, weights
from ganseg_jax.jobs import convert as workdir
from ganseg_jax.latents import sample_latents
from ganseg_jax.models.deeplab import DeepLabV3
from ganseg_jax.models.discriminator import Discriminator
from ganseg_jax.models.generator import Generator
from ganseg_jax.training import gan
from ganseg_jax.training.checkpoint import Checkpoints

HYPERPARAMETERS = {
    "z_dim": 8,
    "n_keypoints": 3,
    "n_per_kp": 4,
    "n_embedding": 6,
    "use_linear": 0,
    "smaller_init_mask": 1,
    "image_size": 8,
    "feature_map_sizes": "4,4,8",
    "feature_map_channels": "8,6,4",
    "single_final": 1,
    "class_name": "flower",
    "batch_size": 32,
    "lr_gen": 2e-4,
    "lr_disc": 3e-4,
    "con_penalty_coef": 30.0,
    "area_penalty_coef": 2.0,
}


def random_variables(module, *example, **arguments):
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *example, **arguments))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: rng.uniform(0.01, 0.1, x.shape).astype(np.float32), shapes)


def state_dicts(hyperparameters, discriminator, size):
    """State_dicts as published checkpoints have them, of small networks with three parts."""
    generator = Generator(**torch_ganseg.generator_settings(hyperparameters))
    latents = jax.eval_shape(lambda: sample_latents(jax.random.key(0), 2, 8))
    latents = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), latents)
    segmenter = DeepLabV3(4, backbone="resnet18", width=0.125)
    image = jnp.zeros((1, size, size, 3))
    return {
        "generator": torch_ganseg.export_generator(
            generator, random_variables(generator, latents, train=True)
        ),
        "discriminator": torch_ganseg.export_discriminator(
            discriminator, random_variables(discriminator, image)
        ),
        "detector": torch_ganseg.export_segmenter(
            segmenter, random_variables(segmenter, image, train=False)
        ),
    }


@pytest.fixture(scope="module")
def published():
    return state_dicts(HYPERPARAMETERS, Discriminator(channels=(8, 16), hidden=12), 8)


@pytest.fixture(scope="module")
def converted(published, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("converted"))
    workdir.import_gan(Config(), published, HYPERPARAMETERS, folder)
    workdir.import_segmenter(config_file.load_config(folder), published["detector"], folder)
    return folder


def assert_equal_trees(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_generator_opens_like_a_trained_one(published, converted):
    module, variables = ganseg_jax.load_generator(converted)
    expected_module, expected = torch_ganseg.load_generator(published["generator"], HYPERPARAMETERS)
    assert module == expected_module
    assert_equal_trees(variables, expected)


def test_segmenter_opens_like_a_trained_one(published, converted):
    segment = ganseg_jax.load_segmenter(converted)
    assert segment.module == DeepLabV3(
        4, backbone="resnet18", width=0.125, initialisation=segment.module.initialisation
    )
    photos = np.random.default_rng(0).integers(0, 256, (2, 9, 12, 3), dtype=np.uint8)
    labels = segment(photos)
    assert labels.shape == (2, 9, 12)
    assert set(np.unique(labels)) <= {0, 1, 2, 3}


def test_config_has_the_published_hyperparameters(converted):
    config = config_file.load_config(converted)
    assert config.dataset.name == "flowers"
    assert config.dataset.augment == "flip_crop"
    assert config.image_size == 8
    assert tuple(config.model.stage_divisors) == (2, 2, 1)
    assert config.gan.batch_size == 32
    assert config.gan.learning_rate_generator == 2e-4
    assert config.gan.learning_rate_discriminator == 3e-4
    assert config.gan.concentration.weight == 30.0
    assert config.gan.area.weight == 2.0
    assert config.gan.area.form == "paper"


def test_both_stages_count_as_finished(converted):
    config = config_file.load_config(converted)
    for stage in ("gan", "segmenter"):
        checkpoints = Checkpoints(f"{converted}/{stage}/checkpoints")
        assert checkpoints.latest_step() == getattr(config, stage).num_steps
        checkpoints.close()


def test_training_resumes_from_the_first_photo(converted):
    config = config_file.load_config(converted)
    data = iter(grain.MapDataset.range(10).to_iter_dataset())
    like = gan.init_state(gan.Gan.of(config), seed=0)
    checkpoints = Checkpoints(f"{converted}/gan/checkpoints")
    step, state = checkpoints.restore(like, data)
    checkpoints.close()
    assert step == config.gan.num_steps
    assert int(state.step) == step
    assert next(data) == 0


def test_export_is_what_was_imported(published, converted):
    content, hyperparameters = workdir.export_gan(converted)
    for name in ("generator", "discriminator"):
        assert_equal_trees(content[name], published[name])
    assert hyperparameters == HYPERPARAMETERS
    assert_equal_trees(workdir.export_segmenter(converted), published["detector"])


def test_what_is_there_is_never_overwritten(published, converted):
    config = config_file.load_config(converted)
    with pytest.raises(UserError, match="has a gan already"):
        workdir.import_gan(config, published, HYPERPARAMETERS, converted)
    with pytest.raises(UserError, match="has a segmenter already"):
        workdir.import_segmenter(config, published["detector"], converted)


def test_segmenter_of_other_parts_is_refused(published, tmp_path):
    workdir.import_gan(Config(), published, HYPERPARAMETERS, str(tmp_path))
    other = DeepLabV3(6, backbone="resnet18", width=0.125)
    variables = random_variables(other, jnp.zeros((1, 8, 8, 3)), train=False)
    state_dict = torch_ganseg.export_segmenter(other, variables)
    with pytest.raises(UserError, match="segmenter has 5 parts, but the GAN in .* has 3"):
        workdir.import_segmenter(config_file.load_config(tmp_path), state_dict, str(tmp_path))


def test_other_class_names_stand_for_a_folder_of_photos():
    module = Discriminator(channels=(8, 16), hidden=12)
    config = workdir.configured(Config(), {**HYPERPARAMETERS, "class_name": "custom"}, module)
    assert config.dataset.name == "image_folder"


@pytest.mark.parametrize("value", ["many", None, [1], 2.5])
def test_hyperparameters_of_training_are_numbers(value):
    module = Discriminator(channels=(8, 16), hidden=12)
    with pytest.raises(UserError, match="parameters: batch_size must be a number, not"):
        workdir.configured(Config(), {**HYPERPARAMETERS, "batch_size": value}, module)
    config = workdir.configured(Config(), {**HYPERPARAMETERS, "batch_size": "16"}, module)
    assert config.gan.batch_size == 16


def test_what_the_published_code_cannot_rebuild_is_said(converted, caplog):
    with caplog.at_level(logging.WARNING):
        logging.getLogger("ganseg_jax").propagate = True
        _, hyperparameters = workdir.export_gan(converted)
    assert "builds no generator for these weights (class_name 'flower')" in caplog.text
    assert hyperparameters["class_name"] == "flower"


def convert(*flags):
    return subprocess.run(
        [sys.executable, "-m", "experiments.convert_checkpoint", *map(str, flags)],
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )


def test_program_there_and_back(published, tmp_path):
    file, parameters = tmp_path / "epoch_29.npz", tmp_path / "parameters.json"
    weights.write(file, {name: published[name] for name in ("generator", "discriminator")})
    parameters.write_text(json.dumps(HYPERPARAMETERS), "utf-8-sig")  # As some editors save.
    folder, out = tmp_path / "workdir", tmp_path / "out"
    there = convert(
        "--kind=gan", f"--input={file}", f"--parameters={parameters}", f"--workdir={folder}"
    )
    assert there.returncode == 0, there.stderr
    out.mkdir()
    back = convert(
        "--kind=gan",
        f"--export={out / 'gan.safetensors'}",
        f"--parameters={out / 'parameters.json'}",
        f"--workdir={folder}",
    )
    assert back.returncode == 0, back.stderr
    expected = weights.flatten({k: published[k] for k in ("generator", "discriminator")})
    assert_equal_trees(weights.read(out / "gan.safetensors"), expected)
    assert json.loads((out / "parameters.json").read_text()) == HYPERPARAMETERS


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--kind=gan", "--input=a.npz"], "--parameters=parameters.json is missing"),
        (["--kind=segmenter"], "either --input=FILE or --export=FILE"),
        (["--kind=segmenter", "--input=absent.npz"], "there is no such weight file"),
    ],
)
def test_mistakes_end_with_one_line_and_code_2(tmp_path, flags, message):
    done = convert(*flags, f"--workdir={tmp_path / 'workdir'}")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "workdir").exists()
