"""The paper's sets, built from tiny trees in their publishers' layouts."""

import pathlib
import pickle
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

from ganseg_jax.data import builders, pipeline, prepare, truth
from ganseg_jax.data.builders.taichi import tables
from ganseg_jax.errors import UserError
from tests.data import trees

PROTOCOLS = pathlib.Path(__file__).resolve().parents[3] / "shared" / "data" / "protocols.tar"
TREES = {
    "celeba_wild": trees.celeba,
    "celeba_aligned": lambda root: trees.celeba(root, aligned=True),
    "cub": trees.cub,
    "flowers": trees.flowers,
    "taichi": trees.taichi,
}


def build(name, tmp_path):
    source = tmp_path / "source"
    TREES[name](source)
    return prepare.prepare(name, source, tmp_path / "data", verify_counts=False)


def load(name, tmp_path, split, size=20):
    return pipeline.load_split(name, tmp_path / "data", split, size)


def names(name, tmp_path, split):
    return sorted(load(name, tmp_path, split).names)


def test_celeba_wild_keeps_large_faces_and_leaves_mafl_test_out(tmp_path):
    build("celeba_wild", tmp_path)
    numbers = {
        split: [int(name[:6]) for name in names("celeba_wild", tmp_path, split)]
        for split in ("train", "landmark_train", "landmark_test", "test")
    }
    assert numbers == {
        **{"train": [1, 3], "landmark_train": [3], "landmark_test": [5, 6], "test": [5, 6]},
    }


def test_celeba_aligned_keeps_all_faces(tmp_path):
    build("celeba_aligned", tmp_path)
    numbers = [int(name[:6]) for name in names("celeba_aligned", tmp_path, "train")]
    assert numbers == [1, 2, 3, 4]
    assert len(names("celeba_aligned", tmp_path, "landmark_test")) == 3


@pytest.mark.parametrize("name", ["celeba_wild", "celeba_aligned"])
def test_celeba_landmarks_follow_each_image_s_own_size(name, tmp_path):
    build(name, tmp_path)
    split = load(name, tmp_path, "landmark_train", size=100)
    # x = 20, 30, ... % of the width, y = 50 % of the height, whatever the image's shape
    expected = np.stack([np.full(5, 50.0), np.arange(20.0, 70.0, 10.0)], axis=-1)
    np.testing.assert_allclose(split.landmarks[0], expected, atol=1e-4)
    assert split.visible.all() and split.segmentation is None
    assert split.landmark_names[2] == "nose"


def test_cub(tmp_path):
    result = build("cub", tmp_path)
    assert result.counts == {"train": 3, "validation": 1, "test": 2}
    for split in result.counts:
        loaded = load("cub", tmp_path, split, size=120)
        # Columns 10 to 20 of 40. Rows 5 to 15 of 30, row 4 by two and row 15 by three of five
        # annotators: half of them are reached a sixth of a row after the middles of 4 and 15.
        columns, rows = np.zeros(120, int), np.zeros(120, int)
        columns[30:60], rows[19:63] = 1, 1
        np.testing.assert_array_equal(loaded.segmentation[0, 40], columns)
        np.testing.assert_array_equal(loaded.segmentation[0, :, 45], rows)
        assert (loaded.images[0, 30:50, 35:55] > 150).all()
        np.testing.assert_array_equal(loaded.visible[0], np.arange(1, 16) % 2 == 1)
        np.testing.assert_allclose(loaded.landmarks[0, 2], [12, 30])
    assert load("cub", tmp_path, "test").names[0].startswith("001.Black_footed_Albatross/")


def test_flowers(tmp_path):
    result = build("flowers", tmp_path)
    assert result.counts == {"train": 5, "validation": 1, "test": 2}
    assert names("flowers", tmp_path, "test") == ["image_00001.jpg", "image_00003.jpg"]
    split = load("flowers", tmp_path, "test", size=160)
    assert split.segmentation[0, 60, 60] == 1
    assert split.segmentation[0, :30].max() == 0 and split.segmentation[0, :, 125:].max() == 0


def test_flower_colors():
    colors = np.array([[[0, 9, 9], [9, 0, 9], [9, 9, 254], [9, 9, 255], [9, 9, 0]]], np.uint8)
    np.testing.assert_array_equal(truth.not_blue(colors), [[False, False, False, True, True]])


def test_taichi(tmp_path):
    result = build("taichi", tmp_path)
    assert result.counts == {"train": 4, "landmark_train": 3, "test": 2}
    fit = load("taichi", tmp_path, "landmark_train", size=128)
    for name, visible, landmarks in zip(fit.names, fit.visible, fit.landmarks, strict=True):
        missing = int(name[:5])
        np.testing.assert_array_equal(visible, np.arange(18) != missing)
        seen = np.arange(18)[visible]
        expected = np.stack([np.full(17, 32.0), seen * 5.0], axis=-1)
        np.testing.assert_allclose(landmarks[visible], expected, atol=1e-4)
    assert fit.segmentation is None
    test = load("taichi", tmp_path, "test", size=256)
    expected = np.zeros((256, 256), int)
    expected[100:200, 50:150] = 1
    for segmentation in test.segmentation:
        np.testing.assert_array_equal(segmentation, expected)
    train = load("taichi", tmp_path, "train")
    assert sorted(train.names)[0] == "ab#001.mp4/0000000.png"
    assert train.landmarks is None and train.segmentation is None


@pytest.mark.parametrize("name", sorted(TREES))
def test_incomplete_sets_are_refused(name, tmp_path):
    source = tmp_path / "source"
    TREES[name](source)
    with pytest.raises(UserError, match=r"should h(ave|old) \d+ .*found \d+"):
        prepare.prepare(name, source, tmp_path / "data")
    assert prepare.find_prepared(name, tmp_path / "data") is None


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("celeba_wild", "Img/img_celeba"),
        ("celeba_wild", "Img/img_celeba/000003.jpg"),
        ("celeba_wild", "Anno/list_bbox_celeba.txt"),
        ("celeba_wild", "MAFL/testing.txt"),
        ("celeba_aligned", "Eval/list_eval_partition.txt"),
        ("celeba_aligned", "Img/img_align_celeba/000003.jpg"),
        ("cub", "cub_train_val_test_split.txt"),
        ("cub", "segmentations"),
        ("cub", "CUB_200_2011/parts/part_locs.txt"),
        ("flowers", "setid.mat"),
        ("flowers", "segmim/segmim_00005.jpg"),
        ("taichi", "landmark/taichi_test_gt.pkl"),
        ("taichi", "taichi-test-masks"),
        ("taichi", "train"),
    ],
)
def test_missing_pieces_are_named(name, path, tmp_path):
    source = tmp_path / "source"
    TREES[name](source)
    target = source / path
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    with pytest.raises(UserError) as caught:
        prepare.prepare(name, source, tmp_path / "data", verify_counts=False)
    missing = pathlib.PurePath(path).name.removeprefix("cub_")
    assert missing in str(caught.value) and "\n" not in str(caught.value)
    if not pathlib.PurePath(path).name[0].isdigit() and "segmim_" not in path:
        assert "is built from" in str(caught.value) and "." in str(caught.value)


def test_damaged_lists_are_named(tmp_path):
    source = tmp_path / "source"
    trees.celeba(source)
    (source / "Anno/list_bbox_celeba.txt").write_text("<html>quota exceeded</html>\n")
    with pytest.raises(UserError, match="list_bbox_celeba.txt is no list"):
        prepare.prepare("celeba_wild", source, tmp_path / "data", verify_counts=False)
    trees.flowers(tmp_path / "flowers")
    (tmp_path / "flowers/setid.mat").write_text("<html>")
    with pytest.raises(UserError, match="setid.mat cannot be read"):
        prepare.prepare("flowers", tmp_path / "flowers", tmp_path / "data", verify_counts=False)


class _Evil:
    def __reduce__(self):
        return print, ("this must not run",)


def test_tables_that_run_code_are_refused(tmp_path, capsys):
    path = tmp_path / "table.pkl"
    path.write_bytes(pickle.dumps(_Evil()))
    with pytest.raises(UserError, match="refers to builtins.print"):
        tables.read_table(path)
    assert capsys.readouterr().out == ""
    path.write_bytes(b"<html>")
    with pytest.raises(UserError, match="no table of landmarks"):
        tables.read_table(path)


@pytest.mark.shared
@pytest.mark.skipif(not PROTOCOLS.exists(), reason="the archives are kept outside the repository")
def test_original_taichi_tables(tmp_path):
    with tarfile.open(PROTOCOLS) as tar:
        tar.extractall(tmp_path, filter="data")
    folder = tmp_path / "protocols" / "taichi"
    for split, count in (("train", 5000), ("test", 300)):
        names, values = tables.read_table(folder / f"taichi_{split}_gt.pkl")
        assert len(set(names)) == count and values.shape == (count, 18, 2)
        with np.load(folder / f"taichi_{split}_gt.npz") as plain:
            np.testing.assert_array_equal(values, plain["value"])


@pytest.mark.shared
@pytest.mark.skipif(not PROTOCOLS.exists(), reason="the archives are kept outside the repository")
def test_original_cub_lists_give_the_published_counts(tmp_path):
    with tarfile.open(PROTOCOLS) as tar:
        tar.extractall(tmp_path, filter="data")
    source = tmp_path / "source"
    (source / "segmentations").mkdir(parents=True)
    lists = tmp_path / "protocols"
    shutil.copytree(lists / "cub", source / "CUB_200_2011")
    shutil.copy(lists / "redo" / "cub_train_val_test_split.txt", source)
    builder = builders.get("cub")(source=source, data_dir=tmp_path / "data")
    splits = builder.list_splits()
    assert {split: len(items) for split, items in splits.items()} == builder.EXPECTED_COUNTS
    first = builder._landmarks["001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg"]
    np.testing.assert_array_equal(first[:2], [[0, 0, 0], [312, 182, 1]])


def test_celeba_as_kaggle_packs_it(tmp_path):
    source = tmp_path / "source"
    trees.celeba(source, aligned=True)
    folder = source / "Img/img_align_celeba"
    folder.rename(source / "Img/inner")
    folder.mkdir()
    (source / "Img/inner").rename(folder / "img_align_celeba")
    for path in [*source.glob("Anno/*.txt"), *source.glob("Eval/*.txt")]:
        lines = [",".join(line.split()) for line in path.read_text().splitlines()]
        path.with_suffix(".csv").write_text("\n".join(lines))
        path.unlink()
    prepare.prepare("celeba_aligned", source, tmp_path / "data", verify_counts=False)
    numbers = [int(name[:6]) for name in names("celeba_aligned", tmp_path, "train")]
    assert numbers == [1, 2, 3, 4]


def test_large_photos_are_resized_once(tmp_path):
    trees.flowers(tmp_path / "source")
    pixels = np.random.default_rng(0).integers(0, 256, (700, 900, 3), np.uint8)
    trees.save(tmp_path / "source/jpg/image_00001.jpg", pixels)
    prepare.prepare("flowers", tmp_path / "source", tmp_path / "data", verify_counts=False)
    split = load("flowers", tmp_path, "test", size=32)
    with Image.open(tmp_path / "source/jpg/image_00001.jpg") as photo:
        expected = np.asarray(photo.resize((32, 32), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(split.images[split.names.index("image_00001.jpg")], expected)


def test_landmarks_outside_of_their_image_stay_there(tmp_path):
    trees.celeba(tmp_path / "source")
    path = tmp_path / "source/Anno/list_landmarks_celeba.txt"
    lines = path.read_text().splitlines()
    number = next(i for i, line in enumerate(lines) if line.startswith("000005.jpg"))
    lines[number] = "000005.jpg -5 10 60 20 25 30 10 40 40 55"  # of 50 x 50 px
    path.write_text("\n".join(lines))
    prepare.prepare("celeba_wild", tmp_path / "source", tmp_path / "data", verify_counts=False)
    split = load("celeba_wild", tmp_path, "test", size=100)
    found = split.landmarks[split.names.index("000005.jpg")]
    np.testing.assert_allclose(found, [[20, -10], [40, 120], [60, 50], [80, 20], [110, 80]])
