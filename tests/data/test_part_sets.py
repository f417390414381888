"""Sets for few-shot segmentation, from tiny trees in their publishers' layouts."""

import json
import pathlib

import numpy as np
import pytest
import scipy.io

from ganseg_jax.data import builders, pipeline, prepare
from ganseg_jax.data.builders.celebamask_hq import builder as celebamask
from ganseg_jax.errors import UserError
from tests.data.trees import grey, save

SHARED = pathlib.Path(__file__).resolve().parents[3] / "shared" / "data"


def build(name, source, tmp_path):
    return prepare.prepare(name, source, tmp_path / "data", verify_counts=False)


def load(name, tmp_path, split, size):
    return pipeline.load_split(name, tmp_path / "data", split, size)


def test_every_name_leads_to_a_builder_of_that_name():
    for name in builders.names():
        assert builders.get(name).name == name
    assert {"puppets", "image_folder", "people_ccp", "faces_mtfl", "cub"} <= set(builders.names())


@pytest.fixture
def faces(tmp_path):
    """Four faces of which number 2001 lies in the second folder of masks."""
    root = tmp_path / "CelebAMask-HQ"
    originals = {0: 119614, 1: 162771, 2: 182638, 2001: 162770}
    lines = ["idx      orig_idx      orig_file"]
    for number, original in originals.items():
        lines.append(f"{number:<5} {original - 1:>12} {original:06d}.jpg")
        save(root / f"CelebA-HQ-img/{number}.jpg", grey(64, 64, 99))
        folder = root / f"CelebAMask-HQ-mask-anno/{number // 2000}"
        for name, rows in {"skin": (0, 400), "l_eye": (50, 100), "r_eye": (80, 120)}.items():
            mask = np.zeros((512, 512, 3), np.uint8)
            mask[slice(*rows)] = 255
            save(folder / f"{number:05d}_{name}.png", mask)
        hat, hair = np.zeros((512, 512, 3), np.uint8), np.zeros((512, 512), np.uint8)
        hair[350:500], hat[450:512] = 255, 255
        save(folder / f"{number:05d}_hair.png", hair)
        save(folder / f"{number:05d}_hat.png", hat)
    (root / "CelebA-HQ-to-CelebA-mapping.txt").write_text("\n".join(lines) + "\n")
    return root


def test_celebamask(faces, tmp_path):
    result = build("celebamask_hq", faces, tmp_path)
    assert result.counts == {"train": 2, "validation": 1, "test": 1}
    assert sorted(load("celebamask_hq", tmp_path, "train", 8).names) == ["0.jpg", "2001.jpg"]
    split = load("celebamask_hq", tmp_path, "test", 512)
    names = ["background", *split.part_names]
    found = {row: names[split.segmentation[0, row, 9]] for row in (20, 90, 110, 300, 380, 480)}
    assert found == {
        **{20: "skin", 90: "eye", 110: "eye", 300: "skin", 380: "hair", 480: "background"},
    }


def test_celebamask_without_masks(faces, tmp_path):
    for path in (faces / "CelebAMask-HQ-mask-anno/1").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="no masks of 2001.jpg"):
        build("celebamask_hq", faces, tmp_path)


def test_celebamask_groups_are_painted():
    masks = {mask for group in celebamask.GROUPS.values() for mask in group}
    assert masks | {"hat"} == set(celebamask._PAINT_ORDER)


@pytest.fixture
def pascal(tmp_path):
    root = tmp_path / "source"

    def mask(rows, cols):
        painted = np.zeros((120, 160), np.uint8)
        painted[slice(*rows), slice(*cols)] = 1
        return painted

    def annotate(name, *objects):
        kinds = [("class", object), ("class_ind", object), ("mask", object), ("parts", object)]
        table = np.zeros((1, len(objects)), kinds)
        for i, (kind, shape, parts) in enumerate(objects):
            pieces = np.zeros((1, len(parts)), [("part_name", object), ("mask", object)])
            for k, (part, painted) in enumerate(parts.items()):
                pieces[0, k] = (part, painted)
            table[0, i] = (kind, 7, shape, pieces if parts else np.zeros((0, 0)))
        path = root / "Annotations_Part" / f"{name}.mat"
        path.parent.mkdir(parents=True, exist_ok=True)
        scipy.io.savemat(path, {"anno": {"imname": name, "objects": table}})
        photo = grey(120, 160, 40)
        photo[20:100, 30:110] = 200
        save(root / f"VOCdevkit/VOC2010/JPEGImages/{name}.jpg", photo)

    car = mask((20, 100), (30, 110))
    wheel, light = mask((80, 100), (30, 50)), mask((40, 50), (100, 110))
    window = mask((20, 40), (40, 60))
    parts = {"wheel_1": wheel, "headlight_2": light, "window_1": window}
    parts |= {"frontside": mask((60, 100), (30, 110))}
    horse = mask((10, 90), (20, 120))
    legs = {"lfuleg": mask((60, 90), (20, 30)), "tail": mask((20, 30), (110, 120))}
    annotate("2008_000001", ("car", car, parts), ("person", horse, {}))
    annotate("2008_000002", ("horse", horse, legs | {"muzzle": mask((10, 20), (20, 30))}))
    annotate("2008_000003", ("car", mask((0, 30), (0, 30)), {}), ("car", car, {}))
    lists = root / "VOCdevkit/VOC2010/ImageSets/Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2008_000001\n2008_000002\n2008_000009\n")
    (lists / "val.txt").write_text("2008_000003\n")
    return root


PLACES = {(30, 40): "body", (10, 20): "window", (25, 75): "light", (70, 10): "wheel"}


def test_pascal_cars_are_cut_out(pascal, tmp_path):
    result = build("pascal_part_car", pascal, tmp_path)
    assert result.counts == {"train": 1, "test": 1}
    split = load("pascal_part_car", tmp_path, "train", 80)
    assert split.names == ["2008_000001_0.jpg"]
    assert (split.images > 150).all()
    names = ["background", *split.part_names]
    found = {at: names[split.segmentation[0][at]] for at in PLACES}
    assert found == PLACES
    test = load("pascal_part_car", tmp_path, "test", 80)
    # The smaller of the two cars is left out.
    assert test.names == ["2008_000003_1.jpg"] and (test.segmentation == 5).all()


def test_pascal_horses(pascal, tmp_path):
    assert build("pascal_part_horse", pascal, tmp_path).counts == {"train": 1}
    split = load("pascal_part_horse", tmp_path, "train", 100)
    # The cut-out is 80 x 100 px.
    counts = np.bincount(split.segmentation.ravel(), minlength=5) * 0.8
    np.testing.assert_allclose(counts, [0, 100, 7500, 300, 100], atol=25)


def test_pascal_damaged_annotation(pascal, tmp_path):
    (pascal / "Annotations_Part/2008_000001.mat").write_text("")
    with pytest.raises(UserError, match="2008_000001.mat cannot be read"):
        build("pascal_part_car", pascal, tmp_path)


def test_car_parts(tmp_path):
    root = tmp_path / "car_parts"
    categories = ["_background_", *(p.replace(" ", "_") for p in car_part_names())]
    labels = np.zeros((16, 16), np.uint8)
    labels[4:8], labels[8:12], labels[12:] = 1, 2, 19
    for name in ("train1", "train2", "te1"):
        save(root / f"images/{name}.jpg", grey(16, 16, 80))
        save(root / f"parts/{name}.png", labels)
    rows = [["train1", 16, 16, "trainingset"], ["train2", 16, 16, "trainingset"]]
    meta = {"categories": {str(i): c for i, c in enumerate(categories, start=1)}}
    meta["rows"] = [*rows, ["te1", 16, 16, "testset"]]
    (root / "meta.json").write_text(json.dumps(meta))
    assert build("car_parts", root, tmp_path).counts == {"train": 2, "test": 1}
    split = load("car_parts", tmp_path, "test", 16)
    np.testing.assert_array_equal(split.segmentation[0, ::4, 0], [0, 0, 1, 18])
    assert split.part_names[0] == "back bumper" and split.part_names[17] == "wheel"


def car_part_names():
    return builders.get("car_parts").part_names


@pytest.mark.parametrize(
    ("name", "folder", "value", "label", "second"),
    [("horses_weizmann", "masks", 255, 1, 5), ("white_blood_cells", "parts", 2, 2, 4)],
)
def test_sets_of_images_and_labels(tmp_path, name, folder, value, label, second):
    for i in range(7):
        save(tmp_path / f"set/images/{i}.jpg", grey(8, 8, 30))
        save(tmp_path / f"set/{folder}/{i}.png", np.eye(8, dtype=np.uint8) * value)
    assert build(name, tmp_path / "set", tmp_path).counts == {"train": 5, "test": 2}
    split = load(name, tmp_path, "test", 8)
    assert sorted(split.names) == ["0.jpg", f"{second}.jpg"]
    np.testing.assert_array_equal(split.segmentation[0], np.eye(8) * label)
    save(tmp_path / f"set/{folder}/0.png", np.full((8, 8), 9, np.uint8))
    if name == "white_blood_cells":
        with pytest.raises(UserError, match="unknown label 9"):
            prepare.prepare(name, tmp_path / "set", tmp_path / "d2", verify_counts=False)


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="the archives are kept outside the repository")
@pytest.mark.parametrize("name", ["car_parts", "horses_weizmann", "white_blood_cells"])
def test_real_archives_have_the_published_counts(name, tmp_path):
    result = prepare.prepare(name, SHARED / f"{name}.tar", tmp_path)
    assert result.counts == builders.get(name).EXPECTED_COUNTS
