"""Photos are photos and masks are masks, however the folders are called."""

import numpy as np
import pytest
from PIL import Image

from ganseg_jax.data import layout, layout_names, layout_parts
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
    # Each sample has a folder.
    ("data/{}/image.png", "data/{}/mask.png"),
    ("{}/img.png", "{}/label.png"),
    ("{}/image.jpg", "{}/gt.png"),
    ("{0}/{0}.jpg", "{0}/annotation.png"),
    ("{}.jpg", "{}/mask.png"),
    ("images/{}.jpg", "masks/{}/mask.png"),
    ("{}/images/image.png", "{}/masks/mask.png"),
    ("{}.jpg", "output/{}_pred.png"),
]


@pytest.mark.parametrize(("photos", "masks"), PAIRS)
def test_twenty_photos_never_become_forty(tree, photos, masks):
    names = [f"p{number:02}" for number in range(20)]
    found = tree({photos.format(n): photo for n in names} | {masks.format(n): mask for n in names})
    assert found.photos == sorted(photos.format(n) for n in names)
    assert found.masks == {photos.format(n): masks.format(n) for n in names}
    assert not found.skipped
    folder = masks.rpartition("/")[0] or "."
    if "{" in folder:
        return
    assert any(line.startswith(f"{folder}: ") and "20 masks" in line for line in found.summary())


# As public sets and programs have them: the photo, the mask that is taken, and others.
PUBLIC = [
    ("a/b/A_{}.jpg", "a/b/A_{}_seg.png", "a/b/A_{}_parts_1.png"),  # ADE20K, as all of it is given.
    ("street/A_{0}.jpg", "street/A_{0}_seg.png", "street/A_{0}/instance_000_A_{0}.png"),
    ("Training/Images/{}.jpg", "Training/Category_ids/{}.png", "Training/Instance_ids/{}.png")
    + ("Training/Human_ids/{}.png", "Training/Categories/{}.png", "Training/Human/{}.png"),
    ("train_images/{}_1.jpg", "Val_parsing_annotations/train_segmentations/{}_1.png"),  # LIP.
    ("701_StillsRaw_full/01TP_{}.png", "LabeledApproved_full/01TP_{}_L.png"),  # CamVid.
    ("train/01TP_{}.png", "train_labels/01TP_{}_L.png"),
    ("images/01TP_{}.png", "labels/01TP_{}_P.png"),
    ("D/training/images/{}_training.tif", "D/training/1st_manual/{}_manual1.gif")
    + ("D/training/mask/{}_training_mask.gif",),  # DRIVE.
    ("Image_{}L.jpg", "Image_{}L_1stHO.png", "Image_{}L_2ndHO.png"),
    ("images/{}_dr.JPG", "manual1/{}_dr.tif", "mask/{}_dr_mask.tif"),
    ("images/{}.jpg", "annotations/{}_labelTrainIds.png", "annotations/{}_instanceTrainIds.png"),
    ("train2017/{}.jpg", "stuffthingmaps/train2017/{}.png"),
    ("train2017/{}.jpg", "annotations/panoptic_train2017/{}.png"),
    ("images/Abyssinian_{}.jpg", "annotations/trimaps/Abyssinian_{}.png"),
    ("p/ds0/img/{}.jpg", "p/ds0/masks_machine/{}.png", "p/ds0/masks_human/{}.png"),
    ("VOC/JPEGImages/{}.jpg", "VOC/SegmentationClassContext/{}.png"),
    ("rgb_anon/fog/{}_rgb_anon.png", "gt/fog/{}_gt_labelIds.png", "gt/fog/{}_gt_invGray.png"),
    ("training/image_2/{}_10.png", "training/semantic/{}_10.png", "training/instance/{}_10.png"),
    ("images/10k/{}.jpg", "labels/sem_seg/masks/{}.png", "labels/sem_seg/colormaps/{}.png"),
    ("train/{}_1_image.jpg", "train/{}_1_label.png", "train/{}_1_viz.png"),
    ("ISIC-2017_Training_Data/I_{}.jpg", "ISIC-2017_Part1_GroundTruth/I_{}_segmentation.png")
    + ("ISIC-2017_Training_Data/I_{}_superpixels.png",),
    ("CVC/Original/{}.tif", "CVC/Ground Truth/{}.tif"),
    ("benign/benign ({}).png", "benign/benign ({})_mask.png", "benign/benign ({})_mask_1.png"),
    ("Imgs/{}.jpg", "Imgs/{}.png"),  # MSRA10K.
    ("Dataset 1/{}.bmp", "Dataset 1/{}.png"),
    ("png_images/IMAGES/img_{}.png", "png_masks/MASKS/seg_{}.png"),
    ("2_Ortho_RGB/top_{}_RGB.tif", "5_Labels_all/top_{}_label.tif"),
    ("train/{}_sat.jpg", "train/{}_mask.png"),
    ("images/P{}.png", "images/P{}_instance_color_RGB.png"),
    ("A1/plant{}_rgb.png", "A1/plant{}_label.png", "A1/plant{}_fg.png"),
    ("S/RGB/{}.png", "S/GT/LABELS/{}.png", "S/GT/COLOR/{}.png"),
    ("data/img_dir/train/{}.jpg", "data/ann_dir/train/{}.png"),
    ("jpgs/val/{}.jpg", "uint8/val/{}.png"),
    ("R_frames-with-annotations/creek/{}.png", "R_annotations/creek/{}.png"),
    ("imagesTr/x_{}_0000.png", "labelsTr/x_{}.png"),
    ("x{}.jpg", "x{}_label_ground-truth_semantic.png", "x{}_label_ground-truth.png"),
    ("x{}.jpg", "x{}.jpg___fuse.png"),
    ("rgb_{}.png", "semantic_segmentation_{}.png", "instance_segmentation_{}.png"),
    ("d/CameraRGB/{}.png", "d/CameraSeg/{}.png"),
    ("d/img{}.png", "d/mask{}.png"),
    ("b/test/broken/{}.png", "b/ground_truth/broken/{}_mask.png"),
    ("clip_img/18/clip_00/18-{}.jpg", "matting/18/matting_00/18-{}.png"),
    ("project/set/v1/photos/{}.jpg", "project/set/v1/labels/{}.png"),
    ("stare-images/im{}.png", "labels-ah/im{}.ah.png", "labels-vk/im{}.vk.png"),
    ("{}_json/img.png", "{}_json/label.png", "{}_json/label_viz.png"),  # labelme_json_to_dataset.
    ("{}.jpg", "{}_json/label.png", "{}_json/label_viz.png", "{}_json/img.png"),
    ("{}/image.png", "{}/mask.png", "{}/overlay.png", "{}/prediction.png"),
    ("images/{}.jpg", "masks/{}.png", "predictions/{}.png"),
    ("road/ColorImage/{}_C5.jpg", "road/Label/{}_C5_bin.png", "road/Label/{}_C5.png"),
]


@pytest.mark.parametrize(("photos", "masks", "others"), [(a, b, c) for a, b, *c in PUBLIC])
def test_the_names_of_public_sets(tree, photos, masks, others):
    numbers = range(11, 15)
    found = tree(
        {photos.format(n): photo for n in numbers}
        | {pattern.format(n): mask for pattern in (masks, *others) for n in numbers}
    )
    assert found.photos == sorted(photos.format(n) for n in numbers)
    assert found.masks == {photos.format(n): masks.format(n) for n in numbers}
    assert len(found.skipped) == len(others) * len(numbers)


def test_several_masks_that_each_hold_a_part_of_the_truth_are_not_taken(tree):
    files = {f"images/{n}.jpg": photo for n in range(3)}
    for part in ("hair", "nose"):
        files |= {f"labels/{n}_{part}.png": mask for n in range(3)}
    files |= {f"images/{n}.jpg": photo for n in range(3, 6)}
    files |= {f"labels/{n}_mask_{k}.png": mask for n in range(3, 6) for k in range(2)}
    files |= {"images/x.jpg": photo} | {f"images/x_mask_{k}.png": mask for k in range(2)}
    found = tree(files)
    assert len(found.photos) == 7 and not found.masks
    assert dict(found.skipped)["labels/0_nose.png"] == "a mask without an image"


def lower():
    return np.roll(mask(), 8, 0)


@pytest.mark.parametrize(
    "masks", ["masks/{part}/{n}.png", "{n}_{part}.png", "masks_{part}/{n}.png"]
)
def test_masks_of_one_part_each_are_left_out_with_what_to_do(tree, masks):
    files = {f"{n}.jpg": photo for n in range(5)}
    files |= {masks.format(n=n, part="head"): mask for n in range(4)}
    files |= {masks.format(n=n, part="arm"): lower for n in range(1, 5)}
    found = tree(files)
    assert len(found.photos) == 5 and not found.masks
    assert len(found.skipped) == 8 and {why for _, why in found.skipped} == {layout_parts.REASON}


@pytest.mark.parametrize("masks", ["labels-{part}/{n}.png", "masks/{part}/{n}.png"])
def test_whole_masks_by_two_people_are_no_parts(tree, masks):
    files = {f"images/{n}.jpg": photo for n in range(4)}
    for part in ("ah", "vk"):
        files |= {masks.format(n=n, part=part): mask for n in range(4)}
    assert set(tree(files).masks.values()) == {masks.format(n=n, part="ah") for n in range(4)}


def test_a_second_tumour_of_a_few_photos_is_no_part(tree):
    files = {f"benign ({n}).png": photo for n in range(4)}
    files |= {f"benign ({n})_mask.png": mask for n in range(4)}
    found = tree(files | {f"benign ({n})_mask_1.png": lower for n in range(4)})
    assert len(found.masks) == 4


def drawing():
    picture = np.zeros((16, 16, 3), np.uint8)
    picture[3:9, 3:9] = 200, 10, 10
    return picture


@pytest.mark.parametrize(
    "names",
    [
        {f"{n}.{ending}": drawing for n in range(4) for ending in ("jpg", "png")},
        {f"{n}.{ending}": photo for n in range(4) for ending in ("jpg", "png")},
        {f"{place}/{n}.png": drawing for n in range(4) for place in ("train", "test")},
        {"0.jpg": photo, "0_logo.png": drawing},
        {f"{n}.jpg": photo for n in range(4)} | {f"{n}_b.jpg": drawing for n in range(4)},
    ],
)
def test_copies_and_drawings_are_photos(tree, names):
    found = tree(names)
    assert found.photos == sorted(names) and not found.masks and not found.skipped


def test_a_copy_in_few_colours_is_no_mask(tree):
    def slope():
        return (np.add.outer(np.arange(64), 3 * np.arange(64)) % 256).astype(np.uint8)

    names = {"one.jpg": slope, "one.png": lambda: slope() // 16 * 16}
    assert tree(names).photos == ["one.jpg", "one.png"]


def test_a_png_beside_a_jpg_is_its_mask_if_it_looks_so(tree, tmp_path):
    found = tree({"one.jpg": photo, "one.png": mask, "two.jpg": photo})
    assert found.photos == ["one.jpg", "two.jpg"] and found.masks == {"one.jpg": "one.png"}
    small = Image.fromarray(mask()).resize((8, 8), Image.Resampling.NEAREST)
    small.save(tmp_path / "one.png")  # Masks have their photos' sizes.
    assert layout.find(tmp_path).photos == ["one.jpg", "one.png", "two.jpg"]


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


@pytest.mark.parametrize(
    ("masks", "expected"), [("annotated/x/1.png", 1), ("predictions/x/1.png", 1), ("b/x/1.png", 2)]
)
def test_one_pair_is_enough_if_the_folder_has_a_name_for_masks(tree, masks, expected):
    assert len(tree({"photos/x/1.jpg": photo, masks: mask}).photos) == expected


@pytest.mark.parametrize(
    "names", [["1/image.png", "1/mask.png"], ["a.jpg", "target.jpg"], ["a.jpg", "annotated/a.jpg"]]
)
def test_words_for_masks_say_nothing_of_pictures_in_many_colours(tree, names):
    found = tree(dict.fromkeys(names, photo))
    assert found.photos == sorted(names) and not found.masks and not found.skipped


def test_a_small_drawing_far_from_the_photo_is_no_mask(tree):
    small = {"logos/shoe_label.png": lambda: drawing()[:12]}
    assert len(tree({"shoe.jpg": photo} | small).photos) == 2
    found = tree({"boot.jpg": photo, "output/boot_mask.png": lambda: mask()[:12]})
    assert found.masks == {"boot.jpg": "output/boot_mask.png"}


def test_folders_of_yolo_and_roboflow(tree):
    files = {"data.yaml": "names: [a]", "README.dataset.txt": "about"}
    for split in ("train", "valid", "test"):
        for number in range(3):
            files[f"{split}/images/{number}_jpg.rf.ab.jpg"] = photo
            files[f"{split}/labels/{number}_jpg.rf.ab.txt"] = "0 0.5 0.5 0.1 0.1"
    found = tree(files)
    assert len(found.photos) == 9 and not found.masks and not found.skipped
    splits = layout_names.splits_of(found.photos)
    assert splits["valid/images/0_jpg.rf.ab.jpg"] == "validation"
    assert sorted(set(splits.values())) == ["test", "train", "validation"]
    assert found.summary() == [
        *("test/images: 3 photos", "train/images: 3 photos", "valid/images: 3 photos"),
        "no images: 10 .txt, 1 .yaml files",
    ]


def test_words_for_splits_that_mean_something_else_need_a_folder_for_training():
    assert layout_names.splits_of(["valid/a.jpg", "invalid/a.jpg"]) == {
        "valid/a.jpg": None,
        "invalid/a.jpg": None,
    }
    assert layout_names.splits_of(["images/val/a.jpg"]) == {"images/val/a.jpg": "validation"}
    assert layout_names.splits_of(["train_images/a.jpg"]) == {"train_images/a.jpg": "train"}
    inside = ["set/v1/train2017/a.jpg", "set/v1/val2017/b.jpg"]
    assert list(layout_names.splits_of(inside).values()) == ["train", "validation"]
    assert layout_names.splits_of(["horses/a.jpg", "horses/b/c.jpg"])["horses/b/c.jpg"] is None
    assert layout_names.splits_of(["train/a/1.jpg", "train/a/2.jpg"])["train/a/1.jpg"] == "train"
    assert layout_names.splits_of(["a/train/a.jpg", "train.jpg"]) == {
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
    assert "images: 4 photos, 1 image left out" in found.summary()


def test_what_was_segmented_before_is_no_photo(tree):
    before = {"out/parts.json": "{}", "out/labels/a.png": mask, "out/overlays/a.png": photo}
    found = tree({"a.jpg": photo, "out/sheet.png": photo} | before)
    assert found.photos == ["a.jpg"]
    assert {reason for _, reason in found.skipped} == {layout.RESULT}
    assert found.summary("x") == [
        *("x: 1 photo", "x/out: 1 image left out", "x/out/labels: 1 image left out"),
        *("x/out/overlays: 1 image left out", "no images: 1 .json files"),
    ]


def test_a_file_named_parts_alone_makes_no_result(tree):
    assert "set/b.jpg" in tree({"set/parts.json": "{}", "set/b.jpg": photo}).photos


def test_masks_of_other_photos_are_no_photos(tree):
    files = {f"imgs/img_{n}.jpg": photo for n in range(4)}
    found = tree(files | {f"labels/scene_{n}.png": mask for n in range(4)})
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
