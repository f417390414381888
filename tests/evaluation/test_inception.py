"""Inception features for FID: from the user's weight file to statistics of the training photos."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from ganseg_jax.config import with_fields
from ganseg_jax.data import pipeline
from ganseg_jax.errors import UserError
from ganseg_jax.evaluation import inception
from ganseg_jax.evaluation.statistics_cache import collect
from ganseg_jax.jobs.begin import begin
from tests.tiny_config import config_with


class MeanColor:
    """Stands for the network: its features are the mean colour, times a weight."""

    def apply(self, variables, images):
        return types.SimpleNamespace(pool3=jnp.mean(images, (1, 2)) * variables["weight"])


def mean_color(weight=2.0, batch_size=4, fingerprint="a"):
    return inception.FeatureNetwork(MeanColor(), {"weight": weight}, fingerprint, batch_size)


@pytest.fixture(scope="module")
def config(puppets_dir):
    """The tiny config, with 46 puppets prepared."""
    return config_with(dataset__data_dir=str(puppets_dir))


def with_file(config, path):
    return with_fields(config, {"evaluation.inception_checkpoint": str(path)})


def test_features_are_those_of_images_in_0_to_1_whatever_the_batches():
    images = np.random.default_rng(0).integers(0, 256, (10, 5, 5, 3), np.uint8)
    expected = 2 * images.mean((1, 2), dtype=np.float64) / 255
    for batch_size in (4, 10, 32):
        got = mean_color(batch_size=batch_size)(images)
        assert got.shape == (10, 3)
        np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_training_statistics_are_of_every_photo_and_kept(config):
    statistics = inception.training_statistics(config, mean_color())
    photos = pipeline.load_split("puppets", config.dataset.data_dir, "train", 16).images
    expected = collect([mean_color()(photos)]).statistics
    assert statistics.statistics.count == len(photos) == 30
    np.testing.assert_allclose(statistics.statistics.mean, expected.mean, rtol=1e-6)
    np.testing.assert_allclose(statistics.statistics.covariance, expected.covariance, rtol=1e-4)
    np.testing.assert_allclose(statistics.sample, mean_color()(photos), rtol=1e-6)

    # The same weights find them again, so that this one is never called; others do not.
    uncallable = types.SimpleNamespace(fingerprint="a", batch_size=4)
    again = inception.training_statistics(config, uncallable)
    np.testing.assert_array_equal(again.statistics.mean, statistics.statistics.mean)
    other = inception.training_statistics(config, mean_color(weight=4.0, fingerprint="b"))
    np.testing.assert_allclose(other.statistics.mean, 2 * statistics.statistics.mean, rtol=1e-6)


def test_no_file_no_network(config):
    assert inception.load_network(config) is None


def test_wrong_files_are_named(config, tmp_path):
    torch_names = tmp_path / "classifier.npz"
    np.savez(torch_names, **{"fc.weight": np.zeros((1000, 2048), np.float32)})
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 no archive")
    (tmp_path / "weights.onnx").write_bytes(b"\x08\x07\x12\x04")
    for name, message in (
        ("none.npz", "none.npz': .*there is no such weight file"),
        ("broken.npz", "broken.npz': .*cannot be read as a weight file"),
        ("weights.onnx", "weights.onnx': .*weight files end in .npz"),
        ("classifier.npz", "classifier.npz': .*FID Inception"),
    ):
        with pytest.raises(UserError, match=f"evaluation.inception_checkpoint='.*{message}"):
            inception.load_network(with_file(config, tmp_path / name))


def test_missing_file_comes_to_light_before_training(config, tmp_path):
    with pytest.raises(
        UserError, match="inception_checkpoint='.*none.npz': .*there is no such weight file"
    ):
        begin(with_file(config, tmp_path / "none.npz"), tmp_path / "W")
    assert not (tmp_path / "W").exists()


def test_fingerprint_is_the_file_s(config, tmp_path, monkeypatch):
    monkeypatch.setattr(
        inception, "load_fid_inception", lambda content: (MeanColor(), dict(content))
    )
    networks = []
    for name, weight in (("a", 2.0), ("b", 3.0)):
        np.savez(tmp_path / f"{name}.npz", weight=np.float32(weight))
        networks.append(inception.load_network(with_file(config, tmp_path / f"{name}.npz")))
    assert networks[0].fingerprint != networks[1].fingerprint
    assert networks[0].batch_size == config.evaluation.batch_size
    white = np.full((1, 4, 4, 3), 255, np.uint8)
    np.testing.assert_allclose(networks[1](white), [[3, 3, 3]], rtol=1e-6)
