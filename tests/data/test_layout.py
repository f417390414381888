"""Photos are photos and masks are masks, however the folders are called."""

import numpy as np
import pytest
from PIL import Image

from ganseg_jax.data import layout
from ganseg_jax.errors import UserError


def photo(seed=0, size=(16, 16)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def mask(value=255):
    labels = np.zeros((16, 16), np.uint8)
    labels[4:12, 4:12] = value
    return labels


@pytest.fixture
def tree(tmp_path):
    """A function that writes arrays and texts below a folder and says what they were taken for."""

    def write(files):
        for number, (name, content) in enumerate(files.items()):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str):
                path.write_text(content)
            elif callable(content):
                Image.fromarray(content(number) if content is photo else content()).save(path)
        return layout.find(tmp_path)

    return write


PAIRS = [
    ("train/images/{}.jpg", "train/masks/{}.png"),
    ("JPEGImages/{}.jpg", "SegmentationClass/{}.png"),
    ("VOC/2012/JPEGImages/{}.jpg", "VOC/2012/SegmentationClass/{}.png"),
    ("Images/{}.JPG", "Masks/{}.PNG"),
    ("imgs/{}.jpg", "labels/{}.png"),
    ("IMGS/a b/{}.jpg", "Labels/a b/{}.png"),
    ("images/train/{}.jpg", "labels/train/{}.png"),
    ("images/training/{}.jpg", "annotations/training/{}.png"),
    ("train/{}.jpg", "train_masks/{}_mask.gif"),
    ("train_images/{}.jpg", "train_labels/{}.png"),
    ("train/{}.png", "trainannot/{}.png"),
    ("{}.jpg", "{}_mask.png"),
    ("deep/er/{}.jpg", "deep/er/{}_MASK.png"),
    ("train/{}_jpg.rf.0a1b.jpg", "train/{}_jpg.rf.0a1b_mask.png"),
    ("x/{}.jpg", "masks/x/{}.png"),
    ("{}.jpg", "mask_{}.bmp"),
    ("images/{}.jpg", "masks/{}.jpg.png"),
    ("horses/{}.jpg", "masks/{}.png"),
    ("leftImg8bit/val/c/{}_leftImg8bit.png", "gtFine/val/c/{}_gtFine_labelIds.png"),
    # The set's own name says what it is for.
    ("Kvasir-SEG/images/{}.jpg", "Kvasir-SEG/masks/{}.png"),
    ("car_parts/JPEGImages/{}.jpg", "car_parts/SegmentationClass/{}.png"),
    ("segmentation/train/images/{}.jpg", "segmentation/train/masks/{}.png"),
    ("target/photos/{}.jpg", "target/masks/{}.png"),
    ("Kvasir-SEG/{}.jpg", "Kvasir-SEG/{}_mask.png"),
]


@pytest.mark.parametrize(("photos", "masks"), PAIRS)
def test_twenty_photos_never_become_forty(tree, photos, masks):
    names = [f"p{number:02}" for number in range(20)]
    found = tree({photos.format(n): photo for n in names} | {masks.format(n): mask for n in names})
    assert found.photos == sorted(photos.format(n) for n in names)
    assert found.masks == {photos.format(n): masks.format(n) for n in names}
    assert not found.skipped
    folder = masks.rpartition("/")[0] or "."
    assert any(line.startswith(f"{folder}: ") and "20 masks" in line for line in found.summary())


@pytest.mark.parametrize(
    "names",
    [
        ["masks/a.jpg", "masks/b.jpg", "masks/c.png"],  # People who wear masks.
        ["with_mask/1.jpg", "with_mask/2.jpg", "without_mask/1.jpg", "without_mask/2.jpg"],
        ["faces/1.jpg", "faces/2.jpg", "masks/1.jpg", "masks/2.jpg"],
        ["face_mask.jpg", "b.jpg"],
        ["face.jpg", "face_mask.jpg"],
        ["shoe.jpg", "shoe_label.jpg", "hat.jpg", "hat_label.jpg"],
        ["labels/coke.jpg", "labels/beer.jpg"],
        ["valid/a.jpg", "invalid/b.jpg"],
    ],
)
def test_pictures_of_masks_and_labels_are_photos(tree, names):
    found = tree(dict.fromkeys(names, photo))
    assert found.photos == sorted(names) and not found.masks and not found.skipped


def test_folders_of_yolo_and_roboflow(tree):
    files = {"data.yaml": "names: [a]", "README.dataset.txt": "about"}
    for split in ("train", "valid", "test"):
        for number in range(3):
            files[f"{split}/images/{number}_jpg.rf.ab.jpg"] = photo
            files[f"{split}/labels/{number}_jpg.rf.ab.txt"] = "0 0.5 0.5 0.1 0.1"
    found = tree(files)
    assert len(found.photos) == 9 and not found.masks and not found.skipped
    splits = layout.splits_of(found.photos)
    assert splits["valid/images/0_jpg.rf.ab.jpg"] == "validation"
    assert sorted(set(splits.values())) == ["test", "train", "validation"]
    assert found.summary() == [
        *("test/images: 3 photos", "train/images: 3 photos", "valid/images: 3 photos"),
        "no images: 10 .txt, 1 .yaml files",
    ]


def test_words_for_splits_that_mean_something_else_need_a_folder_for_training():
    assert layout.splits_of(["valid/a.jpg", "invalid/a.jpg"]) == {
        "valid/a.jpg": None,
        "invalid/a.jpg": None,
    }
    assert layout.splits_of(["images/val/a.jpg"]) == {"images/val/a.jpg": "validation"}
    assert layout.splits_of(["train_images/a.jpg"]) == {"train_images/a.jpg": "train"}
    assert layout.splits_of(["a/train/a.jpg", "train.jpg"]) == {
        "a/train/a.jpg": None,
        "train.jpg": None,
    }


def test_of_two_masks_the_classes_are_taken_and_the_other_is_named(tree):
    names = [f"JPEGImages/{number}.jpg" for number in range(3)]
    files = dict.fromkeys(names, photo)
    for kind in ("SegmentationObject", "SegmentationClass"):
        files |= {f"{kind}/{number}.png": mask for number in range(3)}
    found = tree(files)
    assert found.masks == {n: f"SegmentationClass/{n[11:12]}.png" for n in names}
    reason = "JPEGImages/0.jpg has the mask SegmentationClass/0.png"
    assert ("SegmentationObject/0.png", reason) in found.skipped and len(found.skipped) == 3


def test_class_maps_go_before_maps_of_instances_and_overlays(tree):
    found = tree(
        {
            "leftImg8bit/c/a_leftImg8bit.png": photo,
            "gtFine/c/a_gtFine_instanceIds.png": mask,
            "gtFine/c/a_gtFine_labelIds.png": mask,
            "b.jpg": photo,
            "SegmentationClassVisualization/b.jpg": photo,
            "SegmentationClass/b.png": mask,
        }
    )
    assert found.photos == ["b.jpg", "leftImg8bit/c/a_leftImg8bit.png"]
    assert found.masks == {
        "b.jpg": "SegmentationClass/b.png",
        "leftImg8bit/c/a_leftImg8bit.png": "gtFine/c/a_gtFine_labelIds.png",
    }


def test_what_is_left_out_is_named(tree):
    files = {f"images/{n}.jpg": photo for n in range(4)} | {"preview/all.jpg": photo}
    files |= {"masks/0.png": mask, "masks/none.png": mask, "images/x.cr2": "raw"}
    found = tree(files | {"parts.txt": "head"})
    assert len(found.photos) == 4 and found.masks == {"images/0.jpg": "masks/0.png"}
    assert dict(found.skipped) == {
        "masks/none.png": "a mask without an image",
        "preview/all.jpg": "lies outside of the folder images",
        "images/x.cr2": ".cr2 is a camera's raw file: export it as JPEG or TIFF",
    }
    assert "images: 4 photos, 1 images left out" in found.summary()


def test_masks_of_other_photos_are_no_photos(tree):
    files = {f"imgs/img_{n}.jpg": photo for n in range(4)}
    found = tree(files | {f"labels/lab_{n}.png": mask for n in range(4)})
    assert len(found.photos) == 4 and len(found.skipped) == 4 and not found.masks


def test_damaged_masks_stay_masks(tree, tmp_path):
    files = {f"images/{n}.jpg": photo for n in range(3)} | {
        "masks/0.png": "none",
        "masks/7.png": "",
    }
    found = tree(files)
    assert len(found.photos) == 3 and found.masks == {"images/0.jpg": "masks/0.png"}


def test_damaged_images_in_a_folder_of_masks_are_masks(tree):
    found = tree({f"images/{n}.jpg": photo for n in range(3)} | {"masks/7.png": "none"})
    assert len(found.photos) == 3
    assert found.skipped == [("masks/7.png", "a mask without an image")]


def test_a_folder_without_photos_says_what_is_there(tree):
    with pytest.raises(UserError, match=r"no images \(labels: 2 images left out; no images: 1 .t"):
        tree({"labels/a.png": mask, "labels/b.png": mask, "labels/c.txt": "1"})
