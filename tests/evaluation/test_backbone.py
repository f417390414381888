"""Feature maps of a given backbone, and their way into an evaluation."""

import json

import jax
import numpy as np
import pytest

from ganseg_jax.config import with_fields
from ganseg_jax.data import pipeline
from ganseg_jax.errors import UserError
from ganseg_jax.evaluation import backbone, protocols
from ganseg_jax.interop import torch_ganseg, weights
from ganseg_jax.jobs import begin, measure
from ganseg_jax.models.deeplab import DeepLabV3
from ganseg_jax.models.initialise import init_variables
from tests.tiny_config import config_with


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A file of a narrow ResNet-18, as classifiers have it, and the network."""
    segmenter = DeepLabV3(3, backbone="resnet18", width=0.125)
    variables = init_variables(
        segmenter, 0, jax.ShapeDtypeStruct((2, 32, 32, 3), np.float32), train=True
    )
    prefix = "model.backbone."
    state_dict = {
        key.removeprefix(prefix): np.asarray(value)
        for key, value in torch_ganseg.export_segmenter(segmenter, variables).items()
        if key.startswith(prefix)
    }
    path = tmp_path_factory.mktemp("weights") / "resnet18.npz"
    weights.write(path, state_dict)
    return path, torch_ganseg.load_backbone(state_dict)


@pytest.fixture
def config():
    return config_with()


def test_maps_are_those_of_normalised_and_enlarged_images(classifier, config):
    path, (module, variables) = classifier
    config = with_fields(config, {"evaluation.backbone_checkpoint": str(path)})
    mean = np.array([0.485, 0.456, 0.406])
    maps = backbone.load_feature_maps(config)
    # One colour everywhere stays so when enlarged.
    grey = np.full((2, 16, 16, 3), 200, np.uint8)
    x = np.broadcast_to(
        (200 / 255 - mean) / np.array([0.229, 0.224, 0.225]), (2, 128, 128, 3)
    ).astype(np.float32)
    expected = module.apply(variables, x, train=False)
    got = maps(grey)
    assert got.shape == (2, 16, 16, 64) and got.min() >= 0 and got.max() > 0
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_no_file_no_maps(config):
    assert backbone.load_feature_maps(config) is None


def test_wrong_files_are_named(config, tmp_path):
    np.savez(tmp_path / "other.npz", weight=np.zeros(3))
    name = "evaluation.backbone_checkpoint"
    config = with_fields(config, {name: str(tmp_path / "other.npz")})
    with pytest.raises(UserError, match="evaluation.backbone_checkpoint='.*other.npz': .*conv1"):
        backbone.load_feature_maps(config)
    config = with_fields(config, {name: str(tmp_path / "none.npz")})
    with pytest.raises(
        UserError, match="backbone_checkpoint='.*none.npz': .*there is no such weight file"
    ):
        begin.begin(config, tmp_path / "W")


def test_weights_to_begin_with_are_checked_before_the_gan_is_trained(classifier, config, tmp_path):
    name = "segmenter.backbone_checkpoint"
    (tmp_path / "text.pt").write_text("not found")
    fitting = {"segmenter.backbone": "resnet18", "segmenter.width": 1.0}
    for path, fields, message in (
        (tmp_path / "text.pt", {}, "text.pt is a text file"),
        (classifier[0], fitting | {"segmenter.backbone": "resnet50"}, "does not fit the segmenter"),
    ):
        with pytest.raises(UserError, match=f"{name}='.*': .*{message}"):
            begin.begin(with_fields(config, fields | {name: str(path)}), tmp_path / "W")
    assert not (tmp_path / "W").exists()


def test_an_evaluation_has_a_row_for_it(classifier, config):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 16, 16, 3), np.uint8)
    truth = np.zeros((6, 16, 16), np.int32)
    truth[:, 4:12, 4:8], truth[:, 4:12, 8:12] = 1, 2
    split = pipeline.Split(images, [str(i) for i in range(6)], segmentation=truth)
    fields = {
        "evaluation.protocols": ("people_parts",),
        "dataset.name": "people_ccp",
        "evaluation.backbone_checkpoint": str(classifier[0]),
    }

    class Segmenter:
        refine = False

        def probabilities(self, photos):
            return np.eye(4, dtype=np.float32)[np.zeros(photos.shape[:3], int)]

        def __call__(self, photos):
            return self.probabilities(photos).argmax(-1)

    assert "people_parts" in protocols.fit_protocols("people_ccp")
    measured = measure.measure_photos(
        with_fields(config, fields), Segmenter(), load=lambda config, name: split
    )
    ((_, columns, rows),) = measured.tables
    (row,) = (row for row in rows if "feature factorization" in row[0])
    assert row[0] == "reference: feature factorization"
    values = [value for value in row[1:] if value is not None]
    assert len(columns) == len(row) and all(np.isfinite(values)) and len(values) >= 3
    assert json.dumps(values)
