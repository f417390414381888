"""Label maps in every format, and what is said about those that do not fit."""

import json

import numpy as np
import pytest
from PIL import Image

from ganseg_jax.data.annotations.raster import inside_polygon
from ganseg_jax.errors import UserError
from ganseg_jax.fewshot.labels import classes_json, read_labels

SIZE = (6, 8)


@pytest.fixture
def folder(tmp_path):
    for name in ("one", "two"):
        Image.new("RGB", (SIZE[1], SIZE[0])).save(tmp_path / f"{name}.png")
    (tmp_path / "classes.json").write_text(classes_json(["head", "torso"]))
    return tmp_path


def save_mask(path, labels):
    path.parent.mkdir(exist_ok=True)
    image = Image.fromarray(labels.astype(np.uint8)).convert("P")
    image.putdata(labels.flatten().tolist())
    image.save(path)


TRUTH = np.zeros(SIZE, np.uint8)
TRUTH[1:3, 2:6] = 1
TRUTH[3:5, 2:4] = 2


def labelme(shapes, **fields):
    shapes = [{"label": n, "points": p, "shape_type": k} for n, p, k in shapes]
    return json.dumps({"imageHeight": 6, "imageWidth": 8, "shapes": shapes} | fields)


HEAD = ("head", [[2, 1], [6, 1], [6, 3], [2, 3]], "polygon")
TORSO = ("torso", [[2, 3], [4, 5]], "rectangle")


def coco(**changes):
    content = {
        "images": [
            {"id": 7, "file_name": "one.png", "height": 6, "width": 8},
            {"id": 8, "file_name": "two.png", "height": 6, "width": 8},
        ],
        "categories": [{"id": 5, "name": "torso"}, {"id": 3, "name": "head"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 3, "segmentation": [[2, 1, 6, 1, 6, 3, 2, 3]]},
            {"id": 2, "image_id": 7, "category_id": 5, "segmentation": [[2, 3, 4, 3, 4, 5, 2, 5]]},
        ],
    }
    return json.dumps(content | changes)


def test_all_formats_give_the_same_map(folder):
    writers = {
        "indexed": lambda: save_mask(folder / "one_mask.png", TRUTH),
        "masks folder": lambda: save_mask(folder / "masks" / "one.png", TRUTH),
        "labelme": lambda: (folder / "one.json").write_text(labelme([HEAD, TORSO])),
        "coco": lambda: (folder / "annotations.json").write_text(coco()),
    }
    written = ("one_mask.png", "masks/one.png", "one.json", "annotations.json")
    for (kind, write), name in zip(writers.items(), written, strict=True):
        write()
        found = read_labels(folder)
        assert found.names == ["one"], kind
        np.testing.assert_array_equal(found.labels[0], TRUTH, err_msg=kind)
        assert found.classes == ["background", "head", "torso"]
        (folder / name).unlink()


def test_classes_without_a_list_come_from_the_files(folder):
    (folder / "classes.json").unlink()
    (folder / "one.json").write_text(labelme([TORSO, HEAD]))
    assert read_labels(folder).classes == ["background", "head", "torso"]
    (folder / "one.json").unlink()
    save_mask(folder / "two_mask.png", TRUTH)
    assert read_labels(folder).classes == ["background", "class 1", "class 2"]
    found = read_labels(folder, ["a", "b", "c"])
    assert found.classes == ["background", "a", "b", "c"]
    assert found.absent == ["c"] and found.summary()[0].endswith("c 0")


def test_later_shapes_cover_earlier_ones_and_pixels_can_stay_unlabelled(folder):
    around = [[0, 0], [8, 0], [8, 6], [0, 6]]
    shapes = [
        ("__ignore__", around, "polygon"),
        HEAD,
        ("background", [[2, 1], [3, 3]], "rectangle"),
    ]
    (folder / "one.json").write_text(labelme(shapes))
    labels = read_labels(folder).labels[0]
    assert labels[0, 0] == 255 and labels[1, 2] == 0 and labels[1, 3] == 1


def test_limit(folder):
    save_mask(folder / "one_mask.png", TRUTH)
    save_mask(folder / "two_mask.png", TRUTH)
    assert read_labels(folder, limit=1).names == ["one"]
    with pytest.raises(UserError, match="has 2 label maps, but 3 are asked for"):
        read_labels(folder, limit=3)


def test_polygons_cover_the_pixels_whose_centres_they_contain():
    triangle = np.array([(0.0, 0.0), (4.0, 0.0), (0.0, 4.0)])
    expected = np.add.outer(np.arange(4) + 0.5, np.arange(4) + 0.5) < 4
    np.testing.assert_array_equal(inside_polygon(triangle, (4, 4)), expected)
    np.testing.assert_array_equal(inside_polygon(triangle[::-1], (4, 4)), expected)


@pytest.mark.parametrize(
    "files,message",
    [
        ({"one_mask.png": np.zeros((5, 8))}, r"one_mask\.png is 8x5, its image 8x6"),
        (
            {"one_mask.png": np.full(SIZE, 3)},
            r"one_mask\.png holds class 3.*background, head, torso",
        ),
        ({"three_mask.png": TRUTH}, r"three_mask\.png is the label map of an image 'three'"),
        ({"masks/three.png": TRUTH}, "image 'three'"),
        ({}, "has no label maps"),
        ({"one_mask.png": b"no png"}, r"one_mask\.png cannot be read as an image"),
        ({"one.json": "{"}, r"one\.json cannot be read as JSON"),
        ({"one.json": "{}"}, "no LabelMe file"),
        (
            {"one.json": labelme([HEAD], imageHeight=12)},
            "drawn on an image of 8x12, this one is 8x6",
        ),
        (
            {"one.json": labelme([("tail", HEAD[1], "polygon")])},
            "class 'tail', known are head, torso",
        ),
        ({"one.json": labelme([("head", HEAD[1], "cuboid")])}, "type 'cuboid'"),
        ({"one.json": labelme([("head", [[1, 2, 3]], "polygon")])}, "pairs of numbers"),
        ({"other.json": "{}"}, r"no label maps.*other\.json: is neither a COCO file"),
        (
            {"c.json": coco(images=[{"id": 7, "file_name": "x.png", "height": 6, "width": 8}])},
            r"annotates x\.png, which the folder lacks",
        ),
        ({"c.json": coco(categories=[])}, "annotation 1 has no image or category"),
        (
            {
                "c.json": coco(
                    annotations=[
                        {"id": 4, "image_id": 7, "category_id": 3, "segmentation": {"counts": []}}
                    ]
                )
            },
            "annotation 4: the field 'size' is missing",
        ),
        ({"classes.json": "[]", "one_mask.png": TRUTH}, r"classes\.json must be"),
    ],
)
def test_what_does_not_fit_is_named(folder, files, message):
    for name, content in files.items():
        if isinstance(content, np.ndarray):
            save_mask(folder / name, content)
        elif isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            (folder / name).write_text(content)
    with pytest.raises(UserError, match=message):
        read_labels(folder)


def test_colour_pictures_and_other_folders_are_refused(folder):
    Image.new("RGB", (8, 6), "red").save(folder / "one_mask.png")
    with pytest.raises(UserError, match="label map must be an indexed or grey PNG"):
        read_labels(folder)
    with pytest.raises(UserError, match="is no folder"):
        read_labels(folder / "nowhere")


@pytest.mark.parametrize("classes", [[], ["a", ""], ["a", "a"], ["background"]])
def test_class_names_that_cannot_be(classes):
    with pytest.raises(UserError, match="--classes"):
        classes_json(classes)


def test_a_mask_of_0_and_255_is_the_only_class(folder):
    (folder / "classes.json").write_text(classes_json(["head"]))
    save_mask(folder / "one_mask.png", 255 * (TRUTH == 1))
    found = read_labels(folder)
    np.testing.assert_array_equal(found.labels[0], TRUTH == 1)
    (folder / "classes.json").write_text(classes_json(["head", "torso"]))
    with pytest.raises(UserError, match="nothing but 0 and 255.*head the value 1, .*torso 2"):
        read_labels(folder)


def test_rectangles_may_have_four_corners(folder):
    corners = ("torso", [[2, 3], [4, 3], [4, 5], [2, 5]], "rectangle")
    (folder / "one.json").write_text(labelme([HEAD, corners]))
    np.testing.assert_array_equal(read_labels(folder).labels[0], TRUTH)


@pytest.mark.parametrize(
    "extra",
    [{"id": 0, "name": "parts", "supercategory": "none"}, {"id": 0, "name": "Background"}],
)
def test_categories_that_are_no_class(folder, extra):
    (folder / "classes.json").unlink()
    named = [
        {"id": 5, "name": "torso", "supercategory": "parts"},
        {"id": 3, "name": "head", "supercategory": "parts"},
    ]
    (folder / "labels.json").write_text(coco(categories=[extra, *named]))
    found = read_labels(folder)
    assert found.classes == ["background", "head", "torso"]
    np.testing.assert_array_equal(found.labels[0], TRUTH)


def test_categories_that_nobody_drew_shift_no_class(folder):
    (folder / "classes.json").unlink()
    named = [{"id": 1, "name": "tail"}, {"id": 5, "name": "torso"}, {"id": 3, "name": "head"}]
    content = coco(categories=named)
    (folder / "labels.json").write_bytes(b"\xef\xbb\xbf" + content.encode())
    found = read_labels(folder)
    assert found.classes == ["background", "head", "torso"]
    np.testing.assert_array_equal(found.labels[0], TRUTH)


def test_grey_in_equal_channels_is_grey(folder):
    Image.fromarray(np.repeat(TRUTH[..., None], 3, axis=-1)).convert("RGBA").save(
        folder / "one_mask.png"
    )
    np.testing.assert_array_equal(read_labels(folder).labels[0], TRUTH)


BOX = {"id": 1, "image_id": 7, "category_id": 3}
POLYGON = [2, 1, 6, 1, 6, 3, 2, 3]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"annotations": [BOX | {"segmentation": [[*POLYGON, 3]]}]}, "annotation 1: .*pairs"),
        ({"annotations": [BOX | {"segmentation": [POLYGON, 3]}]}, "1: .*a list of polygons"),
        ({"annotations": [BOX | {"segmentation": [[1, 2]]}]}, "annotation 1: .*three or more"),
        ({"annotations": [BOX | {"segmentation": [["a"] * 6]}]}, "annotation 1: .*numbers"),
        ({"annotations": [BOX]}, "1 boxes: have no outline"),
        ({"annotations": [{"id": 1, "image_id": 7}]}, "annotation 1 has no image or category"),
        ({"annotations": {"id": 1}}, "'annotations' must be a list"),
        ({"images": {"id": 7, "file_name": "one.png"}}, "'images' must be a list"),
        ({"categories": [{"name": "head"}]}, "no id or name"),
        ({"images": [{"id": 7}]}, "which the folder lacks"),
    ],
)
def test_malformed_coco_files_are_named(folder, changes, message):
    (folder / "labels.json").write_text(coco(**changes))
    with pytest.raises(UserError, match=f"labels.json.*{message}"):
        read_labels(folder)


def test_an_image_without_size_takes_its_own(folder):
    (folder / "labels.json").write_text(
        coco(images=[{"id": 7, "file_name": "one.png"}]).replace('"image_id": 8', '"image_id": 7')
    )
    np.testing.assert_array_equal(read_labels(folder).labels[0], TRUTH)
