"""Labels as people report them: read as they were meant, or answered with the reason."""

import io
import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from ganseg_jax.errors import UserError
from ganseg_jax.fewshot.labels import read_labels
from tests.data import annotated

GOLDENS = pathlib.Path(__file__).parent / "goldens"
HEIGHT, WIDTH = 60, 80
SQUARE = [[20, 10], [60, 10], [60, 30], [20, 30]]
TRUTH = np.zeros((HEIGHT, WIDTH), np.uint8)
TRUTH[10:30, 20:60] = 1
SHARES = " ".join(f"{x / WIDTH} {y / HEIGHT}" for x, y in SQUARE)


def yolo(line, names="names: [head]"):
    return {"labels/one.txt": line, "data.yaml": names}


def labelme(*changes, **fields):
    shape = {"label": "head", "points": SQUARE, "shape_type": "polygon", "group_id": None}
    content = {"shapes": [shape | change for change in changes], "imagePath": "one.png"}
    return {"one.json": json.dumps(content | {"imageHeight": 60, "imageWidth": 80} | fields)}


def coco(more=(), **fields):
    names = ["one.png", *more]
    images = [{"id": i, "file_name": n, "height": 60, "width": 80} for i, n in enumerate(names)]
    note = {"id": 1, "image_id": 0, "category_id": 1, "segmentation": [sum(SQUARE, [])]}
    notes = [note, *({**note, "id": 2 + i, "image_id": 1 + i} for i in range(len(more)))]
    named = [{"id": 1, "name": "head"}]
    return {"c.json": json.dumps({"images": images, "annotations": notes, "categories": named})}


def coco_with(field, **change):
    """Two exports joined: the first entry once more, with its id and another name."""
    content = json.loads(coco()["c.json"])
    content[field].append(content[field][0] | change)
    return {"c.json": json.dumps(content)}


def cvat(*names):
    points = ";".join(f"{x},{y}" for x, y in SQUARE)
    text = "".join(
        f'<image id="0" name="{name}" width="80" height="60">'
        f'<polygon label=" head" points="{points}"/></image>'
        for name in names
    )
    return {"annotations.xml": f"<annotations>{text}</annotations>"}


def via(*names):
    x, y = zip(*SQUARE, strict=True)
    shape = {"name": "polygon", "all_points_x": x, "all_points_y": y}
    regions = [{"shape_attributes": shape, "region_attributes": {"part": "head"}}]
    return {"via.json": json.dumps({n: {"filename": n, "regions": regions} for n in names})}


def result(**value):
    points = [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in SQUARE]
    region = {"points": points, "polygonlabels": ["head"]} | value
    size = {"original_height": HEIGHT, "original_width": WIDTH}
    return {"id": "a", "type": "polygonlabels", "value": region} | size


def task(name="one.png", key="annotations", **value):
    return {"id": 4, "data": {"image": name}, key: [{"id": 9, "result": [result(**value)]}]}


def label_studio(content):
    return {"export.json": json.dumps(content)}


def jpeg():
    buffer = io.BytesIO()
    Image.fromarray(255 * TRUTH).save(buffer, "JPEG")
    return buffer.getvalue()


READ = {
    "YOLO: the class is a float": yolo(f"0.0 {SHARES}"),
    "YOLO: names are numbered by text": yolo(f"0 {SHARES}", "names: {'0': head}"),
    "YOLO: spaces around a name": yolo(f"0 {SHARES}", "names: [' head ']"),
    "YOLO: names in a file of another name": {
        "labels/one.txt": f"0 {SHARES}",
        "coco8.yaml": "path: .\nnames:\n  0: head\n",
    },
    "YOLO: an empty line has a number": {"one.txt": f"1 {SHARES}", "classes.txt": "\nhead\n"},
    "LabelMe: background drawn": labelme({"label": "bg"}, {}),
    "LabelMe: no label": labelme({}, {"label": " "}),
    "LabelMe: a turned rectangle": labelme({"shape_type": "oriented_rectangle"}),
    "LabelMe: spaces around a name": labelme({"label": "head "}, {"points": SQUARE[:3]}),
    "LabelMe: drawn on a copy twice as large": labelme(
        {"points": (2 * np.array(SQUARE)).tolist()}, imageHeight=120, imageWidth=160
    ),
    "COCO: of more images": coco(["two.png", "three.png"]),
    "COCO: beside an array": coco() | {"two.npy": b"\x93NUMPY", "two.jsonl": "{}"},
    "CVAT: of more images": cvat("one.png", "two.png"),
    "VIA: of more images": via("two.png", "one.png"),
    "Label Studio: of more images": label_studio([task("two.png"), task()]),
    "Label Studio: two labels": label_studio([task(polygonlabels=["head", "dark"])]),
    "Label Studio: before 1.0": label_studio([task(key="completions")]),
    "Label Studio: one task": label_studio(task()),
    "Label Studio: target storage": label_studio(
        {"id": 9, "result": [result()], "task": {"id": 4, "data": {"image": "one.png"}}}
    ),
    "a mask as JPEG": {"masks/one.jpg": jpeg(), "classes.json": '{"classes": ["head"]}'},
}
SAID = {
    "LabelMe: no label": "shape 2: has no label",
    "COCO: beside an array": "two.npy: is an array: save label maps as PNG",
    "COCO: of more images": "2 images: the folder lacks two.png, three.png",
    "CVAT: of more images": "1 images: the folder lacks two.png",
    "VIA: of more images": "1 images: the folder lacks two.png",
    "Label Studio: of more images": "1 images: the folder lacks two.png",
    "Label Studio: two labels": "has the labels head, dark: the first is taken",
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (WIDTH, HEIGHT), (9, 90, 200)).save(tmp_path / "images/one.png")
    return tmp_path


@pytest.mark.parametrize("case", READ)
def test_what_can_be_understood_is(folder, case):
    annotated.write(folder, READ[case])
    found = read_labels(folder)
    assert found.classes == ["background", "head"]
    np.testing.assert_array_equal(found.labels, TRUTH[None])
    assert SAID.get(case, "") in "\n".join(found.summary())


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (yolo("0 " + " ".join(f"{x} {y}" for x, y in SQUARE)), "line 1 .* up to 60: .*not pixels"),
        (yolo(f"0 {SHARES} 0.93"), "no confidence behind them"),
        (yolo(f"head {SHARES}"), "must be a number, not 'head'"),
        (yolo(f"0.5 {SHARES}"), "class 0.5, which is no whole number"),
        (labelme({}, imageHeight=80, imageWidth=60), "an image of 60x80, this one is 80x60"),
        (labelme({}, imageHeight=-60), "an image of 80x-60 is not possible"),
        ({"via.json": '{"_via_img_metadata": {}}'}, "has no images: not labelled"),
        (cvat("two.png"), "annotates two.png, which the folder lacks"),
        (label_studio([{"image_id": 1, "category_id": 1}]), "COCO's results"),
        (
            {"c.json": json.dumps({"images": [], "annotations": [{"caption": "a"}]})},
            "holds captions, no outlines",
        ),
        (coco_with("images", file_name="two.png"), "image 0 is both one.png and two.png"),
        (coco_with("categories", name="arm"), "category 1 is both head and arm"),
        (
            {"one.txt": f"0 {SHARES}", "a.yaml": "names: [a]", "b.yml": "names: [b]"},
            "a.yaml and .*b.yml both name classes",
        ),
        ({"masks/one.jpg": jpeg()[:200]}, "masks/one.jpg cannot be read"),
    ],
)
def test_what_cannot_be_is_answered_with_the_reason(folder, files, message):
    annotated.write(folder, files)
    with pytest.raises(UserError, match=message):
        read_labels(folder)


CAPTIONS = ("a woman in a park", "\n 2 people on a bench, smiling", "1girl, solo, hat")


@pytest.mark.parametrize("caption", CAPTIONS)
def test_captions_beside_masked_photos_are_left_out(folder, caption):
    written = {"images/one.txt": caption, "masks/one.png": annotated.png(TRUTH)}
    annotated.write(folder, written)
    found = read_labels(folder)
    np.testing.assert_array_equal(found.labels, TRUTH[None])
    assert "images/one.txt: is text, not YOLO's lines of numbers" in "\n".join(found.summary())
    for names in ("data.yaml", "classes.txt", "images/obj.names"):
        annotated.write(folder, written | {names: "names: [head]"})
        with pytest.raises(UserError, match="images/one.txt, line [12]"):
            read_labels(folder)
        (folder / names).unlink()


def test_a_caption_alone_is_no_label(folder):
    annotated.write(folder, {"images/one.txt": CAPTIONS[0]})
    with pytest.raises(UserError, match="one.txt: is text, not YOLO"):
        read_labels(folder)


@pytest.mark.parametrize("line", ["0 0.1 0.2 0.3", f"0 {SHARES} x", "0 0,1 0.2 0.3 0.4 0.5 0.6"])
def test_damaged_lines_of_yolo_stay_errors(folder, line):
    annotated.write(folder, {"images/one.txt": line})
    with pytest.raises(UserError, match="images/one.txt, line 1"):
        read_labels(folder)


def test_a_jpeg_of_classes_is_refused(folder):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 3, (60, 80), np.uint8)).save(
        buffer, "JPEG"
    )
    annotated.write(folder, {"masks/one.jpg": buffer.getvalue()})
    with pytest.raises(UserError, match="one.jpg: JPEG and lossy WebP blur .* save it as PNG"):
        read_labels(folder)


def test_files_and_pixels_of_cvats_own_library(folder):
    """Datumaro 1.13 wrote the same shapes for CVAT and, with pycocotools' pixels, as masks."""
    annotated.write(folder, {"cvat.xml": (GOLDENS / "datumaro_cvat.xml").read_bytes()})
    drawn = read_labels(folder)
    assert drawn.classes == ["background", "head", "torso", "legs"]
    (folder / "cvat.xml").unlink()
    mask = (GOLDENS / "datumaro_voc.png").read_bytes()
    annotated.write(folder, {"SegmentationClass/one.png": mask})
    painted = read_labels(folder, ["head", "torso", "legs"]).labels
    # Three outlines of 1,600 pixels; they differ in where a pixel on an outline belongs.
    assert (drawn.labels != painted).sum() <= 11 and (painted > 0).sum() == 1675
