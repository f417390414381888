"""Predictions of photos whose names are alike, written for tools and read back."""

import shutil

import numpy as np
import pytest
from PIL import Image

from ganseg_jax.data.annotations import export
from ganseg_jax.fewshot.labeller.folder import LabelFolder
from ganseg_jax.fewshot.labels import read_labels
from ganseg_jax.jobs import segment
from ganseg_jax.jobs.outputs import CUTOUTS
from tests.cli.test_segment import BLUE, RED, WHITE, ByColor

PHOTOS = ("x.jpg", "x.png", "a/x.jpg", "a/x.png", "b/x.jpg", "b/c d/x.jpg", "b/y.v2.jpg")
NAMES = {
    **{"x.jpg": "x.jpg", "x.png": "x.png", "a/x.jpg": "a/x.jpg", "a/x.png": "a/x.png"},
    **{"b/x.jpg": "b/x", "b/c d/x.jpg": "b/c d/x", "b/y.v2.jpg": "y.v2"},
}
CELL = 5


def write_photos(folder):
    for seed, name in enumerate(PHOTOS):
        draw = np.random.default_rng(seed)
        cells = np.array([RED, BLUE, WHITE])[draw.integers(0, 3, (8, 8))]
        image = np.kron(cells, np.ones((CELL, CELL, 1), int))
        noise = draw.integers(-9, 9, image.shape)  # Without it, it would look like a mask.
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(image + noise, 0, 255).astype(np.uint8)).save(folder / name)


@pytest.fixture(scope="module")
def segmented(tmp_path_factory):
    """Photos and all outputs."""
    root = tmp_path_factory.mktemp("round")
    write_photos(root / "photos")
    formats = [*export.FORMATS, CUTOUTS]
    segment.segment_folder(ByColor(), root / "photos", root / "out", formats=formats)
    return root


def outputs_of(root, kind):
    return root / "out" / ("labels" if kind == "png" else kind)


def truth(root):
    names = segment.result_names(PHOTOS)
    return {n: np.asarray(Image.open(root / "out/labels" / names[n])) for n in PHOTOS}


@pytest.mark.parametrize("kind", [*export.FORMATS, "png"])
@pytest.mark.parametrize("place", ["beside", "among", "below"])
def test_each_photo_gets_its_own_labels_back(segmented, tmp_path, kind, place):
    root = tmp_path / "photos"
    photos = root / "photos" if place == "beside" else root
    shutil.copytree(segmented / "photos", photos)
    # Masks are known by their folder's name.
    target = root / ("masks" if kind == "png" else "labelled") if place != "among" else root
    if kind == "png" and place == "among":
        target = root / "labels"
    shutil.copytree(outputs_of(segmented, kind), target, dirs_exist_ok=True)
    found = read_labels(root, ["part 1", "part 2"])
    expected = truth(segmented)
    assert len(expected) == len({labels.tobytes() for labels in expected.values()})
    assert dict(zip(found.names, found.labels.tolist(), strict=True)) == {
        NAMES[name]: labels.tolist() for name, labels in expected.items()
    }
    assert [why for what, why in found.left_out] == []


def test_no_two_outputs_share_a_name(segmented):
    def written(folder):
        return [path for path in (segmented / "out" / folder).rglob("*") if path.is_file()]

    for folder, more in {
        "labels": 0,
        "overlays": 0,
        "labelme": 0,
        "supervisely": 1,
        "yolo": 1,
    }.items():
        assert len(written(folder)) == len(PHOTOS) + more, folder
    shown = [set(np.unique(labels)) - {0} for labels in truth(segmented).values()]
    assert len(written(CUTOUTS)) == sum(map(len, shown))


@pytest.mark.parametrize("kind", export.FORMATS)
def test_a_part_of_the_photos_is_read_from_the_export_of_all(segmented, tmp_path, kind):
    """The labels of photos that are not there are of no other photo."""
    kept = ("x.png", "b/x.jpg")
    for name in kept:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(segmented / "photos" / name, tmp_path / name)
    shutil.copytree(outputs_of(segmented, kind), tmp_path, dirs_exist_ok=True)
    found = read_labels(tmp_path, ["part 1", "part 2"])
    expected = truth(segmented)
    assert found.names == ["b/x", "x"]
    np.testing.assert_array_equal(found.labels[0], expected["b/x.jpg"])
    np.testing.assert_array_equal(found.labels[1], expected["x.png"])
    # Nothing is left out in silence: one line, or one for each file.
    reasons = ("the folder lacks", "its image is not there", "nor named after an image")
    said = [why for _, why in found.left_out if any(reason in why for reason in reasons)]
    assert len(said) == (5 if export.is_of_each(kind) else 1)


def test_maps_painted_on_the_page_come_back_to_their_photos(segmented, tmp_path):
    shutil.copytree(segmented / "photos", tmp_path, dirs_exist_ok=True)
    page, expected = LabelFolder(tmp_path, ["part 1", "part 2"]), truth(segmented)
    assert sorted(page.images) == sorted(NAMES.values())
    for name, labels in expected.items():
        page.save(NAMES[name], labels.astype(np.uint8).tobytes())
    assert all(image["labelled"] for image in page.overview()["images"])
    found = read_labels(tmp_path)
    assert dict(zip(found.names, found.labels.tolist(), strict=True)) == {
        NAMES[name]: labels.tolist() for name, labels in expected.items()
    }
    assert (tmp_path / "b/y.v2_mask.png").exists()  # Beside its photo.
    # What was painted is there if the page is opened again.
    again = LabelFolder(tmp_path, None)
    assert sorted(again.images) == sorted(NAMES.values())
    assert again.labels("b/x") == expected["b/x.jpg"].astype(np.uint8).tobytes()
