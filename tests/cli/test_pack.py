"""Packed models: small, opened by folder and by name, and as good as what was packed."""

import jax
import numpy as np
import pytest

import ganseg_jax
from ganseg_jax import packed as pretrained
from ganseg_jax.config import file as config_file
from ganseg_jax.errors import UserError
from ganseg_jax.latents import sample_latents
from ganseg_jax.prng import root_key


@pytest.fixture
def packed(entry_point, workdir, tmp_path):
    entry_point("pack", workdir=workdir, output=tmp_path / "packed").main()
    return tmp_path / "packed"


def test_a_packed_model_works_as_its_run_does(workdir, packed):
    images = np.random.default_rng(0).integers(0, 256, (2, 20, 30, 3), np.uint8)
    expected = ganseg_jax.load_segmenter(workdir).probabilities(images)
    np.testing.assert_allclose(
        ganseg_jax.load_segmenter(packed).probabilities(images), expected, atol=5e-3
    )
    module, variables = ganseg_jax.load_generator(workdir)
    again, rounded = ganseg_jax.load_generator(packed)
    assert again == module
    latents = sample_latents(root_key(0), 2, module.noise_dim)
    draw = jax.jit(lambda variables: module.apply(variables, latents, train=False).image)
    # Rounding the weights moves single pixels of a network that was never trained by more.
    difference = draw(rounded) - draw(variables)
    assert 0 < np.abs(difference).mean() < 2e-3


def test_it_is_half_as_large_and_names_no_place(workdir, packed):
    module, variables = ganseg_jax.load_generator(workdir)
    segmenter = ganseg_jax.load_segmenter(workdir)
    count = sum(np.size(x) for x in jax.tree.leaves((variables, segmenter.variables)))
    assert (packed / "weights.npz").stat().st_size < 2 * count + 400 * 1024
    config = config_file.load_config(packed)
    assert config.dataset.data_dir == config.dataset.source == ""


def test_models_of_the_package_are_found_by_name(monkeypatch, packed, tmp_path):
    monkeypatch.setattr(pretrained, "_PRETRAINED", packed.parent)
    assert pretrained.names() == ["packed"]
    assert pretrained.find("packed") == pretrained.named("packed") == packed
    # A run in a folder of that name goes first, any other folder does not.
    monkeypatch.chdir(tmp_path / "packed")
    (tmp_path / "packed" / "packed").mkdir()
    assert pretrained.find("packed") == packed
    (tmp_path / "packed" / "packed" / "config.json").write_text("{}")
    assert pretrained.find("packed") is None


def test_an_unknown_name_is_answered_with_those_there_are(monkeypatch, packed):
    monkeypatch.setattr(pretrained, "_PRETRAINED", packed.parent)
    with pytest.raises(UserError, match="'cats'; there is packed"):
        pretrained.named("cats")


def test_a_damaged_model_is_named(packed):
    for content, answer in ((b"nothing", "is a text file"), (b"PK\x03\x04\0", "cannot be read")):
        (packed / "weights.npz").write_bytes(content)
        with pytest.raises(UserError, match=f"weights.npz {answer}"):
            ganseg_jax.load_segmenter(packed)


def test_values_beyond_float16_are_refused():
    with pytest.raises(UserError, match="generator a/b does not fit"):
        pretrained.encode("weights.npz", {"generator": {"a": {"b": np.array([1e6], np.float32)}}})
