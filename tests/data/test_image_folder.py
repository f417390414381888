"""Any folder: all kinds of files, ground truth beside them, splits."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from ganseg_jax.data import images, pipeline, prepare
from ganseg_jax.data.builders.image_folder import builder as image_folder
from ganseg_jax.errors import UserError


@pytest.fixture
def folder(tmp_path):
    """A function that writes files below a folder and returns the folder."""

    def write(files: dict[str, bytes | str | np.ndarray], name="photos"):
        for path, content in files.items():
            target = tmp_path / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, np.ndarray):
                Image.fromarray(content).save(target)
            elif isinstance(content, str):
                target.write_text(content)
            else:
                target.write_bytes(content)
        return tmp_path / name

    return write


def prepared(source, tmp_path):
    return prepare.prepare("image_folder", source, tmp_path / "data")


def load(tmp_path, split, size=12):
    return pipeline.load_split("image_folder", tmp_path / "data", split, size)


def all_names(tmp_path, result):
    return sorted(name for split in result.counts for name in load(tmp_path, split).names)


def test_formats_nesting_and_damage(folder, picture, tmp_path):
    jpeg = picture(file_format="JPEG")
    source = folder(
        {
            "a.jpg": jpeg,
            "b.JPEG": jpeg,
            "deep/er/c.png": picture(),
            "deep/d.webp": picture(file_format="WEBP"),
            "e f ü.bmp": picture(file_format="BMP"),
            "grey.png": picture(mode="L"),
            "notes.txt": "hello",
            ".hidden.jpg": jpeg,
            "__MACOSX/a.jpg": b"resource fork",
            "cut.jpg": jpeg[:-90],
            "deep/empty.png": b"",
            "text.jpg": b"<html>not found</html>",
            "phone.heic": b"?",
            "drawing.svg": b"<svg/>",
        }
    )
    result = prepared(source, tmp_path)
    assert sum(result.counts.values()) == 6
    good = ["a.jpg", "b.JPEG", "deep/d.webp", "deep/er/c.png", "e f ü.bmp", "grey.png"]
    assert all_names(tmp_path, result) == good
    reasons = dict(result.skipped)
    assert sorted(reasons) == [
        *("cut.jpg", "deep/empty.png", "drawing.svg", "phone.heic", "text.jpg"),
    ]
    assert "truncated" in reasons["cut.jpg"] and "not supported" in reasons["drawing.svg"]
    assert reasons["phone.heic"] == "not an image" and "5 files skipped" in str(result)
    again = prepare.prepare("image_folder", None, tmp_path / "data")
    assert again.already and dict(again.skipped) == reasons and again.counts == result.counts


def test_splits_by_hash_are_deterministic_and_complete(folder, picture, tmp_path):
    source = folder({f"{i:03d}.png": picture(4, 4, seed=i) for i in range(100)})
    result = prepared(source, tmp_path)
    assert result.counts == {"train": 90, "validation": 5, "test": 5}
    names = {split: set(load(tmp_path, split).names) for split in result.counts}
    assert len(set.union(*names.values())) == 100
    prepare.prepare("image_folder", source, tmp_path / "other")
    for split in result.counts:
        other = pipeline.load_split("image_folder", tmp_path / "other", split, 12)
        assert set(other.names) == names[split]


def test_splits_by_folder(folder, picture, tmp_path):
    files = [f"train/{i}.png" for i in range(4)] + ["val/sub/1.png", "test/1.png", "stray.png"]
    result = prepared(folder({name: picture() for name in files}), tmp_path)
    assert result.counts == {"train": 4, "validation": 1, "test": 1}
    assert load(tmp_path, "validation").names == ["val/sub/1.png"]
    assert [name for name, _ in result.skipped] == ["stray.png"]


def test_split_folders_without_training_images(folder, picture, tmp_path):
    with pytest.raises(UserError, match="train has no images"):
        prepared(folder({"test/a.png": picture()}), tmp_path)


@pytest.mark.parametrize("layout", ["flat", "images_folder", "beside"])
def test_masks_are_found_and_aligned(folder, layout, tmp_path):
    image = np.zeros((20, 40, 3), np.uint8)
    mask = np.zeros((20, 40), np.uint8)
    image[5:10, 10:20], mask[5:10, 10:20] = 255, 255
    paths = {
        "flat": ("sub/{}.jpg", "masks/sub/{}.png"),
        "images_folder": ("images/sub/{}.jpg", "masks/sub/{}.jpg.png"),
        "beside": ("sub/{}.jpg", "sub/{}_mask.png"),
    }[layout]
    files = {}
    for i in range(4):
        files[paths[0].format(i)] = image
        files[paths[1].format(i)] = mask
    result = prepared(folder(files), tmp_path)
    assert sum(result.counts.values()) == 4 and not result.skipped
    split = load(tmp_path, "train", size=20)
    assert split.part_names == ["part 1"]
    np.testing.assert_array_equal(split.segmentation > 0, split.images[..., 0] > 127)
    assert split.segmentation[0, 7, 7] == 1 and split.segmentation[0, 7, 12] == 0


def test_label_maps_with_names(folder, picture, tmp_path):
    labels = np.zeros((24, 20), np.uint8)
    labels[:5], labels[5:10] = 1, 3
    files = {f"{i}.png": picture() for i in range(4)} | {"parts.txt": "hat\nhead\n"}
    files |= {f"masks/{i}.png": labels for i in range(4)}
    prepared(folder(files), tmp_path)
    split = load(tmp_path, "test", size=24)
    assert split.part_names == ["hat", "head", "part 3"]
    np.testing.assert_array_equal(split.segmentation[0, :, 3], labels[:, 3])


def test_partly_labeled_folder_tests_on_what_is_labeled(folder, picture, tmp_path):
    files = {f"{i:02d}.png": picture(seed=i) for i in range(40)}
    files |= {f"masks/{i:02d}.png": np.full((24, 20), 255, np.uint8) for i in range(4, 9)}
    result = prepared(folder(files), tmp_path)
    assert result.counts == {"train": 33, "validation": 2, "test": 5}
    test = load(tmp_path, "test")
    assert sorted(test.names) == [f"{i:02d}.png" for i in range(4, 9)]
    assert (test.segmentation == 1).all()
    assert load(tmp_path, "train").segmentation is None


def test_unlabeled_images_in_a_split_are_marked(folder, picture, tmp_path):
    files = {f"train/{i}.png": picture(seed=i) for i in range(2)}
    files["masks/train/1.png"] = np.full((24, 20), 255, np.uint8)
    prepared(folder(files), tmp_path)
    split = load(tmp_path, "train")
    values = dict(zip(split.names, split.segmentation[:, 0, 0].tolist(), strict=True))
    assert values == {"train/0.png": -1, "train/1.png": 1}


def test_unusable_ground_truth_is_reported_and_the_image_kept(folder, picture, tmp_path):
    files = {f"{i}.png": picture(seed=i) for i in range(5)}
    files |= {"masks/0.png": np.zeros((24, 60), np.uint8), "masks/1.png": b"nothing"}
    files |= {"masks/2.png": picture(), "masks/9.png": np.zeros((24, 20), np.uint8)}
    result = prepared(folder(files | {"masks/3.jpg": picture(file_format="JPEG")}), tmp_path)
    assert sum(result.counts.values()) == 5
    reasons = dict(result.skipped)
    assert "60x24" in reasons["masks/0.png"] and "not an image" in reasons["masks/1.png"]
    assert "colors" in reasons["masks/2.png"] and "PNG" in reasons["masks/3.jpg"]
    assert "without an image" in reasons["masks/9.png"]


def test_landmarks(folder, picture, tmp_path):
    table = "name,eye_x,eye_y,tail_x,tail_y\ntrain/a.png,10,6,20,24\ntrain/b.png,5,12,,\n"
    table += "train/c.png,-1,-1,40,3\ntrain/nobody.png,1,1,1,1\n"
    files = {f"train/{name}.png": picture() for name in "abcd"} | {"landmarks.csv": table}
    result = prepared(folder(files), tmp_path)
    assert result.skipped == [("landmarks.csv line 5", "no image is named 'train/nobody.png'")]
    split = load(tmp_path, "train", size=48)
    assert split.landmark_names == ["eye", "tail"]
    index = {name: i for i, name in enumerate(split.names)}
    a, b, c, d = (index[f"train/{name}.png"] for name in "abcd")
    np.testing.assert_allclose(split.landmarks[a], [[12, 24], [48, 48]])
    np.testing.assert_array_equal(split.visible[[a, b, c, d]], [[1, 1], [1, 0], [0, 0], [0, 0]])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file,eye_x,eye_y\n", "first line must be"),
        ("name,eye_y,eye_x\n", "first line must be"),
        ("name,eye_x,eye_y\na.png,3\n", "line 2: 2 cells"),
        ("name,eye_x,eye_y\na.png,3,left\n", "line 2: could not convert"),
    ],
)
def test_malformed_landmark_table(folder, picture, tmp_path, table, message):
    source = folder({"a.png": picture(), "landmarks.csv": table})
    with pytest.raises(UserError, match=message):
        prepared(source, tmp_path)


def test_landmarks_of_a_rotated_photo_are_those_of_the_upright_one(folder, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.new("RGB", (40, 20)).save(buffer, "JPEG", exif=exif)
    source = folder({"train/a.jpg": buffer.getvalue(), "landmarks.csv": ""})
    (source / "landmarks.csv").write_text("name,eye_x,eye_y\ntrain/a.jpg,5,30\n")
    prepared(source, tmp_path)
    np.testing.assert_allclose(load(tmp_path, "train", 40).landmarks[0], [[30, 10]])


def test_archive_with_a_folder_inside(folder, picture, tmp_path):
    source = folder({f"x/y/{i}.png": picture(seed=i) for i in range(5)})
    with tarfile.open(tmp_path / "photos.tar.gz", "w:gz") as tar:
        tar.add(source, "photos")
    result = prepared(tmp_path / "photos.tar.gz", tmp_path)
    assert all_names(tmp_path, result) == [f"{i}.png" for i in range(5)]
    hidden = {path.name for path in (tmp_path / "data").iterdir()}
    assert hidden == {".image_folder.lock", "image_folder"}


def test_large_photos_are_stored_small(folder, picture, tmp_path):
    wide = picture(height=100, width=1000, file_format="JPEG")
    prepared(folder({"train/a.jpg": wide, "masks/train/a.png": np.eye(1000)[:100] > 0}), tmp_path)
    example = pipeline.open_source("image_folder", tmp_path / "data", "train")[0]
    assert images.decode_rgb(example["image"]).shape == (51, 512, 3)
    assert images.decode_labels(example["segmentation"]).shape == (51, 512)


def test_nothing_usable(folder, tmp_path, picture):
    with pytest.raises(UserError, match="has no images"):
        prepared(folder({"readme.txt": "hello"}), tmp_path)
    with pytest.raises(UserError, match=r"can be read \(bad.jpg: not an image\)"):
        prepared(folder({"bad.jpg": b"no"}, name="bad"), tmp_path)
    assert prepare.find_prepared("image_folder", tmp_path / "data") is None


def test_another_folder_is_not_mistaken_for_the_prepared_one(folder, picture, tmp_path):
    first = folder({"a.png": picture()}, name="first")
    second = folder({"a.png": picture()}, name="second")
    prepared(first, tmp_path)
    assert prepared(first, tmp_path).already
    with pytest.raises(UserError, match="first.*another --data_dir"):
        prepared(second, tmp_path)


def test_metadata_is_plain_json(folder, picture, tmp_path):
    result = prepared(folder({"a.png": picture(), "b.png": b""}), tmp_path)
    metadata = json.loads((result.path / "metadata.json").read_text())
    assert metadata["skipped"] == [["b.png", "the file is empty"]]


@pytest.mark.parametrize(("count", "expected"), [(2, [2]), (3, [1, 1, 1]), (4, [2, 1, 1])])
def test_tiny_folders(folder, picture, tmp_path, count, expected):
    source = folder({f"{i}.png": picture(seed=i) for i in range(count)})
    assert list(prepared(source, tmp_path).counts.values()) == expected


def test_damaged_files_do_not_empty_the_small_splits(folder, picture, tmp_path):
    names = [f"{i}.png" for i in range(12)]
    first = sorted(names, key=image_folder._hash)[:3]
    source = folder({name: b"" if name in first else picture() for name in names})
    result = prepared(source, tmp_path)
    assert result.counts == {"train": 7, "validation": 1, "test": 1}
    assert sorted(name for name, _ in result.skipped) == sorted(first)


def test_masks_beside_a_folder_of_images_are_no_photos(folder, tmp_path, picture):
    files = {}
    for split in ("train", "val", "test"):
        for number in range(2):
            files[f"{split}/images/{number}.jpg"] = picture(16, 16, file_format="JPEG")
            files[f"{split}/masks/{number}.png"] = np.eye(16, dtype=np.uint8)
    result = prepared(folder(files), tmp_path)
    assert result.counts == {"train": 2, "validation": 2, "test": 2} and not result.skipped
    np.testing.assert_array_equal(load(tmp_path, "test", 16).segmentation[0], np.eye(16))


def test_every_image_file_is_used_or_named(folder, tmp_path, picture):
    jpeg = picture(16, 16, file_format="JPEG")
    endings = ("jpg", "jfif", "jpe", "ppm", "TIF", "heic", "dng", "CR2", "svg")
    files = {f"a{number}.{ending}": jpeg for number, ending in enumerate(endings)}
    result = prepared(folder(files | {"notes.txt": "none"}), tmp_path)
    assert sum(result.counts.values()) == 6
    reasons = dict(result.skipped)
    assert sorted(reasons) == ["a6.dng", "a7.CR2", "a8.svg"]
    assert "raw file: export it as JPEG" in reasons["a7.CR2"] and "convert" in reasons["a8.svg"]
    assert "no images: 1 .txt files" in result.summary


def test_pixels_of_255_have_no_ground_truth(folder, tmp_path, picture):
    labels = np.zeros((16, 16), np.uint8)
    labels[4:8], labels[8:12] = 2, 255
    files = {f"images/{n}.jpg": picture(16, 16, file_format="JPEG") for n in range(3)}
    files |= {f"masks/{n}.png": labels for n in range(3)}
    prepared(folder(files), tmp_path)
    split = load(tmp_path, "test", 16)
    assert list(split.part_names) == ["part 1", "part 2"]
    np.testing.assert_array_equal(
        split.segmentation[0, :, 0], [0] * 4 + [2] * 4 + [-1] * 4 + [0] * 4
    )


def classes_of(folder, tmp_path, picture, shades):
    """Prepares a folder whose masks' stripes have the given values; classes by name, and parts."""
    files = {f"train/{n}.jpg": picture(16, 16, file_format="JPEG") for n in range(len(shades))}
    for n, values in enumerate(shades):
        files[f"masks/train/{n}.png"] = np.repeat(np.uint8([values]), 16, 0).repeat(4, 1)
    prepared(folder(files), tmp_path)
    split = load(tmp_path, "train", 16)
    stripes = [labels[0, 1::4].tolist() for labels in split.segmentation]
    return dict(sorted(zip(split.names, stripes, strict=True))), list(split.part_names)


@pytest.mark.parametrize(
    ("shades", "expected"),
    [
        ([(0, 1, 2, 255), (0, 0, 0, 255)], [[0, 1, 2, -1], [0, 0, 0, -1]]),
        ([(0, 85, 170, 85), (0, 0, 0, 255)], [[0, 1, 2, 1], [0, 0, 0, 3]]),
        ([(0, 128, 0, 0), (0, 128, 0, 255)], [[0, 1, 0, 0], [0, 1, 0, 2]]),
        ([(0, 254, 0, 0), (0, 0, 0, 254)], [[0, 1, 0, 0], [0, 0, 0, 1]]),
    ],
)
def test_values_of_masks_mean_the_same_in_every_file(folder, tmp_path, picture, shades, expected):
    found, parts = classes_of(folder, tmp_path, picture, shades)
    assert list(found.values()) == expected
    assert len(parts) == np.max(expected)


@pytest.mark.parametrize("shades", [[(0, 50, 100, 150), (0, 50, 0, 0)], [(0, 38, 75, 0)]])
def test_shades_that_number_no_parts_are_refused(folder, tmp_path, picture, shades):
    with pytest.raises(UserError, match=r"masks/train/0\.png: .*number no classes"):
        classes_of(folder, tmp_path, picture, shades)


def test_lossy_masks_are_foreground_or_left_out_by_name(folder, tmp_path, picture):
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:48] = 255
    drawn = {"0.webp": (mask // 255, {"lossless": True}), "1.webp": (mask, {"quality": 90})}
    drawn |= {"2.jpg": (mask, {}), "3.webp": (mask // 100, {"quality": 90})}
    source = folder({f"train/{n}.png": picture(64, 64) for n in range(4)})
    (source / "masks/train").mkdir(parents=True)
    for name, (values, options) in drawn.items():
        Image.fromarray(values).save(source / "masks/train" / name, **options)
    result = prepared(source, tmp_path)
    assert [name for name, reason in result.skipped if "lossy" in reason] == ["masks/train/3.webp"]
    split = load(tmp_path, "train", 64)
    found = dict(zip(split.names, split.segmentation, strict=True))
    for n in range(3):
        np.testing.assert_array_equal(found[f"train/{n}.png"], mask // 255)
    assert (found["train/3.png"] == -1).all()


def test_depths_and_limits_are_reported(folder, tmp_path, picture):
    files = {f"train/{n}.png": np.full((8, 8), 1023, np.uint16) for n in range(3)}
    files |= {"train/a.jpg": picture(file_format="JPEG"), "train/large.png": picture(1100, 1000)}
    source = folder(files)
    result = prepare.prepare("image_folder", source, tmp_path / "data", max_megapixels=1)
    assert result.counts == {"train": 4} and load(tmp_path, "train").images.max() == 255
    *lines, left_out = result.report()
    assert lines == ["train: 5 photos", "3 images: 10-bit values scaled to 8 bits"]
    assert "train/large.png: it has 1.1 megapixels, more than max_megapixels=1" in left_out
    again = prepare.prepare("image_folder", source, tmp_path / "data")
    assert again.already and again.report() == result.report()


def test_folders_of_roboflow_are_its_splits(folder, tmp_path, picture):
    files = {}
    for split, count in (("train", 4), ("valid", 2), ("test", 1)):
        for number in range(count):
            files[f"{split}/images/{number}.rf.a.jpg"] = picture(file_format="JPEG")
            files[f"{split}/labels/{number}.rf.a.txt"] = "0 0.5 0.5 0.1 0.1"
    result = prepared(folder(files), tmp_path)
    assert result.counts == {"train": 4, "validation": 2, "test": 1} and not result.skipped
    assert "no images: 7 .txt files" in result.summary
