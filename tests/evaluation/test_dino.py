"""Clusterings of patches find what they should find, and a DINO's file gives rows of figures."""

import logging

import numpy as np
import pytest

from ganseg_jax.config import with_fields
from ganseg_jax.errors import UserError
from ganseg_jax.evaluation import dino, protocols, references
from ganseg_jax.evaluation.backbone import normalised
from ganseg_jax.interop import weights
from ganseg_jax.interop.torch_dino import load_dino
from ganseg_jax.jobs import begin
from tests.evaluation.test_references import SIZE, discs, measured
from tests.interop import dino_goldens as golden
from tests.tiny_config import config_with


def color_patches(calls=None, salient=None):
    """Patches of 2x2 pixels: red, green and blue as features, attention on what is not green."""

    def patch_fn(images):
        if calls is not None:
            calls.append(len(images))
        blocks = images.reshape(len(images), SIZE // 2, 2, SIZE // 2, 2, 3).mean((2, 4))
        unit = (blocks / np.linalg.norm(blocks, axis=-1, keepdims=True)).astype(np.float32)
        return dino.Patches(unit, unit, 1 - unit[..., 1], salient)

    return patch_fn


def fitted(split, patch_fn, name, parts=2, **settings):
    return dino.clusterings(split, patch_fn, parts, 0, 0, **settings)[name]()


@pytest.mark.parametrize("salient", [None, 0.3])
@pytest.mark.parametrize("name", dino.NAMES)
def test_parts_are_found_in_other_images(name, salient):
    split, other = discs(4, 20), discs(5, 6)
    iou, agreement = measured(fitted(split, color_patches(salient=salient), name), other)
    assert iou > 0.7 and agreement > 0.6


def test_a_cluster_needs_the_votes_of_most_images():
    # Feature 0 is background, 1 salient everywhere, 2 salient in 2 images of 4.
    kinds = np.tile(np.repeat([0, 1, 2], [8, 4, 4]).reshape(4, 4), (4, 1, 1))
    keys = np.eye(3, dtype=np.float32)[kinds]
    salient = np.where(kinds == 1, 1.0, -1.0).astype(np.float32)
    salient[:2][kinds[:2] == 2] = 1
    clusters = dino.fit_by_votes(keys, salient, 1, seed=0)
    labels = dino.segment(clusters, keys, 4, 1)
    np.testing.assert_array_equal(labels, kinds == 1)
    salient[2][kinds[2] == 2] = 1
    clusters = dino.fit_by_votes(keys, salient, 2, seed=0)
    labels = dino.segment(clusters, keys, 4, 2)
    np.testing.assert_array_equal(labels > 0, kinds > 0)


@pytest.mark.parametrize("name", dino.NAMES)
def test_images_of_one_colour_are_background(name):
    split = discs(0, 3)
    split.images[:] = 90
    assert fitted(split, color_patches(), name)(split.images).argmax(-1).max() == 0


def test_each_image_is_looked_at_once():
    split, calls = discs(1, 10), []
    made = dino.clusterings(split, color_patches(calls), 2, 0, 0, max_images=4)
    votes, border = (made[name]() for name in dino.NAMES)
    assert sum(calls) == 4
    first = votes(split.images[:6])
    border(split.images)
    np.testing.assert_array_equal(votes(split.images[:6]), first)
    assert sum(calls) == 4 + 10


def test_references_are_measured_by_the_protocol(caplog, monkeypatch):
    splits = {name: discs(seed, 9, True) for seed, name in enumerate(["validation", "test"])}
    monkeypatch.setattr(dino, "_LINE_EVERY", 0)
    logging.getLogger("ganseg_jax").propagate = True
    with caplog.at_level(logging.INFO, "ganseg_jax"):
        figures = references.measure_references(
            protocols.get_protocol("puppets_parts"),
            splits,
            splits["validation"],
            num_parts=2,
            batch_size=5,
            seed=0,
            patch_fn=color_patches(),
        )
    for name in dino.NAMES:
        assert figures[name]["foreground_iou"] > 0.7
        assert figures[name]["landmark_error_count"] == 9
    assert "DINO: 8 of 27 photos" in caplog.text
    assert "DINO: 27 of 27 photos" in caplog.text and "0:00 left" in caplog.text


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "dino.safetensors"
    weights.write(path, golden.state_dict("v1"))
    return path


def test_photos_are_normalised_and_enlarged(checkpoint):
    config = with_fields(config_with(), {"evaluation.dino_checkpoint": str(checkpoint)})
    patch_fn = dino.load_patch_features(config)
    # One colour everywhere stays so when enlarged.
    grey = np.full((3, 16, 16, 3), 200, np.uint8)
    module, variables = load_dino(golden.state_dict("v1"))
    x = np.broadcast_to(np.asarray(normalised(grey[:1, :1, :1])), (1, 128, 128, 3))
    expected = module.apply(variables, x)
    got = patch_fn(grey)
    assert got.tokens.shape == got.keys.shape == (3, 16, 16, golden.WIDTH)
    np.testing.assert_allclose(np.linalg.norm(got.tokens, axis=-1), 1, rtol=1e-5)
    for name in ("tokens", "keys"):
        value = np.asarray(getattr(expected, name))[0]
        value = value / np.linalg.norm(value, axis=-1, keepdims=True)
        np.testing.assert_allclose(getattr(got, name)[2], value, atol=2e-5)
    np.testing.assert_allclose(
        got.saliency[1], np.asarray(expected.attention)[0].mean(0), rtol=1e-3
    )
    assert got.salient == 0.065


def test_no_file_no_patches():
    assert dino.load_patch_features(config_with()) is None


def test_wrong_files_are_named_before_anything_is_trained(tmp_path):
    np.savez(tmp_path / "resnet.npz", **{"conv1.weight": np.zeros(3)})
    for name, message in (
        ("resnet.npz", "the file has none .*it holds conv1"),
        ("none.npz", "there is no such weight file"),
    ):
        fields = {"evaluation.dino_checkpoint": str(tmp_path / name)}
        config = with_fields(config_with(), fields)
        with pytest.raises(UserError, match=f"evaluation.dino_checkpoint='.*{name}': .*{message}"):
            begin.begin(config, tmp_path / "W")
    assert not (tmp_path / "W").exists()
