"""The sets that come as archives: splits and ground truth, from tiny copies of their layout."""

import io
import json
import pathlib
import tarfile

import numpy as np
import pytest
from PIL import Image

from ganseg_jax.data import builders, images, pipeline, prepare
from ganseg_jax.data.builders.faces_mtfl.builder import FacesMtfl
from ganseg_jax.data.builders.people_ccp.builder import GROUPS, group_table
from ganseg_jax.errors import UserError

SHARED = pathlib.Path(__file__).resolve().parents[3] / "shared" / "data"


def save(path: pathlib.Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def people(tmp_path):
    """Four people whose images show their labels as brightness."""
    labels = ["null", *(label for group in GROUPS.values() for label in group)]
    root = tmp_path / "source" / "people_ccp"
    for i in range(4):
        kinds = np.zeros((16, 16), np.uint8)
        kinds[4:12, 4:12] = i * 15 + 1
        save(root / f"images/{i:04d}.jpg", np.repeat(kinds[..., None], 3, axis=-1))
        if i != 1:
            save(root / f"labels/{i:04d}.png", kinds)
    splits = {"train": ["0000", "0001"], "validation": ["0002"], "test": ["0003"]}
    splits |= {"labelled": ["0000", "0002", "0003"], "labels": labels}
    (root / "splits.json").write_text(json.dumps(splits))
    return tmp_path / "source"


def test_people(people, tmp_path):
    result = prepare.prepare("people_ccp", people, tmp_path / "d", verify_counts=False)
    assert result.counts == {"train": 2, "validation": 1, "test": 1}
    test = pipeline.load_split("people_ccp", tmp_path / "d", "test", 16)
    assert test.names == ["0003.jpg"] and test.part_names == list(GROUPS)
    label = json.loads((people / "people_ccp/splits.json").read_text())["labels"][46]
    part = next(k for k, group in enumerate(GROUPS.values(), start=1) if label in group)
    assert test.segmentation[0, 8, 8] == part and test.segmentation[0, 0, 0] == 0
    train = pipeline.load_split("people_ccp", tmp_path / "d", "train", 16)
    by_name = dict(zip(train.names, train.segmentation[:, 8, 8].tolist(), strict=True))
    assert by_name == {"0000.jpg": 1, "0001.jpg": -1}
    metadata = pipeline.data_info("people_ccp", tmp_path / "d").metadata
    assert metadata["groups"]["hair and hat"] == ["hair", "hat"]


def test_counts_of_people_are_checked(people, tmp_path):
    with pytest.raises(UserError, match="should have 1497 images"):
        prepare.prepare("people_ccp", people, tmp_path / "d")


def test_every_clothing_label_has_one_group():
    labels = [label for group in GROUPS.values() for label in group]
    assert len(labels) == len(set(labels)) == 58
    np.testing.assert_array_equal(group_table(["null", "shoes", "skin", "hat"]), [0, 5, 2, 1])
    with pytest.raises(UserError, match="kilt"):
        group_table(["null", "kilt"])


def faces_tree(root: pathlib.Path, count: int = 25, test_count: int = 4) -> None:
    rng = np.random.default_rng(0)
    names = [f"face_{i:03d}.jpg" for i in rng.permutation(count)]
    names += [f"AFLW_{i}.jpg" for i in range(test_count)]
    for i, name in enumerate(names):
        array = np.full((80, 80, 3), 5 * i, np.uint8)
        save(root / "images" / name, array if i else array[..., 0])
    keypoints = rng.uniform(10, 70, (len(names), 5, 2)).astype(np.float32)
    split = np.array(["train"] * count + ["test"] * test_count)
    np.savez(root / "annotations.npz", names=names, keypoints=keypoints, split=split, image_size=80)


def test_faces(tmp_path):
    root = tmp_path / "faces_mtfl"
    faces_tree(root)
    result = prepare.prepare("faces_mtfl", root, tmp_path / "d", verify_counts=False)
    assert result.counts == {"train": 23, "landmark_test": 2, "test": 4}
    held_out = pipeline.load_split("faces_mtfl", tmp_path / "d", "landmark_test", 40)
    assert sorted(held_out.names) == ["face_009.jpg", "face_019.jpg"]
    train = pipeline.load_split("faces_mtfl", tmp_path / "d", "train", 40)
    assert not set(train.names) & set(held_out.names) and train.segmentation is None
    assert train.images.shape == (23, 40, 40, 3) and train.visible.all()
    table = np.load(root / "annotations.npz")
    index = table["names"].tolist().index(train.names[0])
    # (x, y) at 80 px -> (row, col) at 40 px
    np.testing.assert_allclose(
        train.landmarks[0], table["keypoints"][index, :, ::-1] / 2, rtol=1e-5
    )
    assert train.landmark_names == list(FacesMtfl.landmark_names)


def test_missing_image_is_named(tmp_path):
    faces_tree(tmp_path / "faces")
    (tmp_path / "faces/images/face_004.jpg").unlink()
    with pytest.raises(UserError, match="face_004.jpg"):
        prepare.prepare("faces_mtfl", tmp_path / "faces", tmp_path / "d", verify_counts=False)


def test_damaged_image_is_named(tmp_path):
    faces_tree(tmp_path / "faces")
    buffer = io.BytesIO()
    Image.new("RGB", (80, 80)).save(buffer, "JPEG")
    (tmp_path / "faces/images/face_004.jpg").write_bytes(buffer.getvalue()[:-90])
    with pytest.raises(UserError, match="face_004.jpg: .*truncated"):
        prepare.prepare("faces_mtfl", tmp_path / "faces", tmp_path / "d", verify_counts=False)


def unpack(archive: str, folder: pathlib.Path, *parts: str) -> pathlib.Path:
    """Unpacks some members of an archive, without the images where they are not needed."""
    with tarfile.open(SHARED / f"{archive}.tar") as tar:
        members = [m for m in tar if m.name.removeprefix(f"{archive}/").startswith(parts)]
        tar.extractall(folder, members, filter="data")
    return folder / archive


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="the archives are kept outside the repository")
def test_real_people(tmp_path):
    source = unpack("people_ccp", tmp_path, "splits.json", "labels/")
    builder = builders.get("people_ccp")(source=source, data_dir=tmp_path / "d")
    splits = builder.list_splits()
    assert {split: len(items) for split, items in splits.items()} == builder.EXPECTED_COUNTS
    maps = [(source / f"labels/{name}.png").read_bytes() for name in splits["test"]]
    table = group_table(json.loads((source / "splits.json").read_text())["labels"])
    parts = table[np.stack([images.decode_labels(data) for data in maps])]
    # 23 % of the pixels are foreground, says the archive's description.
    assert abs((parts > 0).mean() - 0.23) < 0.01
    assert sorted(np.unique(parts)) == list(range(7))


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="the archives are kept outside the repository")
def test_real_faces(tmp_path):
    source = unpack("faces_mtfl", tmp_path, "annotations.npz")
    builder = builders.get("faces_mtfl")(source=source, data_dir=tmp_path / "d")
    splits = builder.list_splits()
    assert {split: len(items) for split, items in splits.items()} == builder.EXPECTED_COUNTS
    truth = {
        split: np.stack([builder._landmarks[name] for name in items])
        for split, items in splits.items()
    }
    mean = truth["train"].mean(axis=0)
    # What predicting the mean landmarks gives, says the archive's description: 22.2 and 31.4 %.
    for split, expected in (("landmark_test", 22.2), ("test", 31.4)):
        distance = np.linalg.norm(truth[split] - mean, axis=-1).mean(axis=1)
        eyes = np.linalg.norm(truth[split][:, 0] - truth[split][:, 1], axis=-1)
        assert abs(100 * (distance / eyes).mean() - expected) < 0.05
