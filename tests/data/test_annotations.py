"""What labelling tools export, read and written."""

import json

import numpy as np
import pytest
from PIL import Image

from ganseg_jax.data.annotations import coco, export, raster, rle
from ganseg_jax.data.annotations import folder as annotation_folder
from ganseg_jax.data.annotations.names import Names
from ganseg_jax.errors import UserError
from ganseg_jax.fewshot.labels import read_labels
from tests.data import annotated


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "set"
    place.mkdir()
    Image.new("RGB", annotated.SIZE[::-1]).save(place / "one.png")
    return place


@pytest.mark.parametrize("tool", annotated.TOOLS)
def test_every_tool_gives_the_same_map(folder, tool):
    annotated.write(folder, annotated.TOOLS[tool]())
    found = read_labels(folder)
    assert found.names == ["one"] and found.classes == ["background", "head", "torso"]
    np.testing.assert_array_equal(found.labels[0], annotated.TRUTH)
    assert sum(found.formats.values()) == 1
    assert not any("too: what both have" in line for line in found.summary())


@pytest.mark.parametrize(
    ("tool", "name", "change", "message"),
    [
        ("coco", "_annotations.coco.json", ('"?', '"'), "annotation 2: .*run lengths"),
        (
            "cvat",
            "annotations.xml",
            ('rle="0, 4"', 'rle="0, 5"'),
            "mask 1: .*add up to 5, not to 4",
        ),
        ("cvat", "annotations.xml", (' left="2"', ""), "mask 1: the field 'left' is missing"),
        ("cvat", "annotations.xml", ("</image>", ""), "annotations.xml cannot be read as XML"),
        (
            "label_studio",
            "project-1.json",
            ('"rle": [', '"rle": [7, '),
            "task 4: region 2: .*brush",
        ),
        ("via", "via_project.json", ('"rect"', '"star"'), "region 2: .*'star' are not read"),
        ("supervisely", "ann/one.png.json", ('"exterior"', '"x"'), "object 1: .*'exterior'"),
        ("yolo", "labels/one.txt", ("1 0.25", "7 0.25"), "one.txt, line 1 has class 7"),
        ("colour_list", "labelmap.txt", ("36,179,83", "36,179"), "labelmap.txt, line 4"),
        ("colour_list", "labelmap.txt", ("36,179,83", "1,2,3"), r"4 pixels.*\(36, 179, 83\)"),
        (
            "class_values",
            "_classes.csv",
            ("9, torso", "8, torso"),
            "value 9 is not in the list of classes",
        ),
    ],
)
def test_what_is_malformed_is_named(folder, tool, name, change, message):
    contents = annotated.TOOLS[tool]()
    assert change[0] in contents[name]
    annotated.write(folder, contents | {name: contents[name].replace(*change, 1)})
    with pytest.raises(UserError, match=message):
        read_labels(folder)


def test_what_is_left_out_is_said(folder):
    Image.new("RGB", annotated.SIZE[::-1]).save(folder / "two.png")
    annotated.write(folder, annotated.cvat() | annotated.coco() | {"notes.txt": "by Ann"})
    found = read_labels(folder)
    text = "\n".join(found.summary())
    assert "1 labelled images (COCO" in text or "1 labelled images (1 from" in text
    for reason in (
        "a polyline has no area",
        "category tail: no outline has it",
        "notes.txt: is no annotation file",
        "it is labelled by",
        "1 images: have no label map",
    ):
        assert reason in text, reason


def test_several_files_of_one_image_are_merged(folder):
    content = json.loads(annotated.coco()["_annotations.coco.json"])
    for index, note in enumerate(content["annotations"]):
        part = json.dumps(content | {"annotations": [note]})
        (folder / f"part{index}.json").write_text(part)
    found = read_labels(folder)
    np.testing.assert_array_equal(found.labels[0], annotated.TRUTH)
    assert any("part1.json: one.png: is in" in line for line in found.summary())
    content["images"][0] |= {"height": 12, "width": 16}
    content["annotations"] = content["annotations"][:1]
    (folder / "part2.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="at different sizes"):
        read_labels(folder)


@pytest.mark.parametrize(
    "name",
    ["one.png", "a/one.jpg", "C:\\a\\one.png", "5b2f01aa-one.png", "one_png.rf.5B2f01.jpg"]
    + [
        "/data/local-files/?d=a/one.png",
        "one",
        "s3://b/a/one.png?versionId=1.2#x",
        "/a/b%20c/one.png",
    ]
    + ["/tasks/4/resolve/?fileuri=czM6Ly9iL2Evb25lLnBuZw=="],
)
def test_names_of_images_as_tools_write_them(name):
    assert Names(["one.png", "two.png"]).find(name, "c.json") == "one.png"
    hashed = ["5b2f01aa-one.png", "5b2f01ab-one.png"]
    assert Names([hashed[0], "two.png"]).find("one.png", "c.json") == hashed[0]
    with pytest.raises(UserError, match="c.json: 'one.png' may be .*aa-one.png or .*ab-one.png"):
        Names(hashed).find("one.png", "c.json")


def random_labels(seed, size):
    draw = np.random.default_rng(seed)
    coarse = draw.integers(0, 4, (size[0] // 2 + 1, size[1] // 2 + 1))
    labels = np.kron(coarse, np.ones((2, 2), int))[: size[0], : size[1]]
    noisy = draw.random(size) < 0.2
    labels[noisy] = draw.integers(0, 4, noisy.sum())
    return labels.astype(np.int32)


@pytest.mark.parametrize("kind", export.FORMATS)
def test_exports_come_back_pixel_for_pixel(tmp_path, kind):
    classes, size = ["head", "lower arm", "Füße"], (23, 31)
    maps = {f"im{i}": random_labels(i, size) for i in range(3)}
    writer = export.Export(kind, tmp_path, classes)
    for name, labels in maps.items():
        Image.new("RGB", size[::-1]).save(tmp_path / f"{name}.jpg")
        writer.add(f"{name}.jpg", labels, f"{name}.png")
    writer.finish()
    assert (
        tmp_path / export.FORMATS[kind].replace("NAME", "im0").replace("IMAGE", "im0.jpg")
    ).exists()
    found = read_labels(tmp_path, classes)
    assert found.names == sorted(maps)
    for name, labels in zip(found.names, found.labels, strict=True):
        np.testing.assert_array_equal(labels, maps[name])


def test_a_piece_is_one_polygon_with_cuts_to_its_holes():
    rows = ["#####..", "#.#.#..", "#####.#", "......#", "###....", "#.#....", "###...."]
    region = np.array([[pixel == "#" for pixel in row] for row in rows])
    rings = raster.polygons(region)
    assert len(rings) == 3  # With two holes, with none, with one.
    pieces = [raster.inside_polygon(np.array(ring, np.float64), region.shape) for ring in rings]
    np.testing.assert_array_equal(sum(piece.astype(int) for piece in pieces), region)
    # An island in a hole is a piece of its own.
    island = np.pad(np.pad(np.ones((1, 1), bool), 1), 1, constant_values=True)
    assert sorted(len(ring) for ring in raster.polygons(island)) == [4, 12]
    assert raster.polygons(np.zeros((3, 3), bool)) == []


def test_run_lengths_of_long_runs():
    flat = np.zeros(90_000, bool)
    flat[30_000:80_000] = True
    packed = rle.label_studio_bytes(flat)
    np.testing.assert_array_equal(rle.label_studio_alpha(packed, flat.size) > 0, flat)
    lengths = rle.runs(flat)
    assert lengths == [30_000, 50_000, 10_000]
    assert rle.coco_counts(rle.coco_text(lengths)) == lengths
    # As pycocotools writes it.
    assert rle.coco_text(lengths) == "`Ym0`j`1`h9"


def test_holes_of_labelme_groups_and_islands_in_them():
    def square(a, b):
        return np.array([(a, a), (b, a), (b, b), (a, b)], float)

    rings = [square(0, 8), square(1, 7), square(3, 5)]
    expected = np.ones((8, 8), bool)
    expected[1:7, 1:7] = False
    expected[3:5, 3:5] = True
    np.testing.assert_array_equal(raster.nested(rings, (8, 8)), expected)


def test_predictions_count_only_if_nobody_annotated(folder):
    Image.new("RGB", annotated.SIZE[::-1]).save(folder / "two.png")
    (task,) = json.loads(annotated.label_studio()["project-1.json"])
    results = task["annotations"][0]["result"]
    guessed = {"id": 5, "data": {"image": "two.png"}, "predictions": [{"result": results}]}
    (folder / "tasks.json").write_text(json.dumps([guessed]))
    assert read_labels(folder).names == ["two"]
    (folder / "tasks.json").write_text(json.dumps([guessed, task]))
    assert read_labels(folder).names == ["one"]


def test_formats_are_found_out(folder):
    for tool, kind in {"labelme": "LabelMe", "supervisely": "Supervisely", "yolo": "YOLO"}.items():
        contents = annotated.TOOLS[tool]()
        annotated.write(folder, contents)
        assert list(annotation_folder.read(folder, ["one.png"])) == [kind]
        for name in contents:
            (folder / name).unlink()


def test_images_lie_deeper_in_a_project(folder):
    (folder / "project/ds0/img").mkdir(parents=True)
    (folder / "one.png").rename(folder / "project/ds0/img/one.png")
    (folder / "README.md").write_text("about")
    annotated.write(folder / "project/ds0", annotated.supervisely())
    np.testing.assert_array_equal(read_labels(folder).labels[0], annotated.TRUTH)
    Image.new("RGB", annotated.SIZE[::-1]).save(folder / "project/one.png")
    found = read_labels(folder)
    assert found.names == ["ds0/img/one"]
    np.testing.assert_array_equal(found.labels[0], annotated.TRUTH)


def test_outlines_of_coco_are_drawn_as_its_own_tools_draw_them():
    outline = np.array([[1.3, 0.8], [8.6, 2.2], [6.5, 5.9], [4.0, 3.5], [0.4, 6.5]])
    # What pycocotools 2.0.11 makes of it.
    expected = rle.unroll(rle.coco_counts("852O1O1010O1ON7"), 63).reshape(9, 7).T
    np.testing.assert_array_equal(raster.inside_coco_polygon(outline, (7, 9)), expected)
    np.testing.assert_array_equal(raster.inside_coco_polygon(outline[::-1], (7, 9)), expected)
    flat = [outline.ravel().tolist()]
    (region,) = coco.regions("annotation 1", flat)
    np.testing.assert_array_equal(region((7, 9)), expected)
    # Only the pixels of the image count, and a far corner costs no time.
    beyond = np.array([[-4.0, -4.0], [20.0, -4.0], [20.0, 20.0], [-4.0, 20.0]])
    assert raster.inside_coco_polygon(beyond, (7, 9)).all()
    assert raster.inside_coco_polygon(1e9 * beyond, (7, 9)).all()


@pytest.mark.parametrize("kind", ["coco", "yolo"])
def test_a_box_among_outlines_is_not_labelled(folder, kind):
    whole = annotated.TOOLS[kind]()
    if kind == "coco":
        content = json.loads(whole["_annotations.coco.json"])
        box = {"id": 3, "image_id": 7, "category_id": 1, "bbox": [0, 0, 4, 6], "segmentation": []}
        content["annotations"].append(box)
        whole["_annotations.coco.json"] = json.dumps(content)
    else:
        whole["labels/one.txt"] += "0 0.25 0.5 0.5 1\n"
    annotated.write(folder, whole)
    found = read_labels(folder)
    expected = annotated.TRUTH.copy()
    expected[:, :4][expected[:, :4] == 0] = 255
    np.testing.assert_array_equal(found.labels[0], expected)
    assert any("1 boxes: have no outline" in line for line in found.summary())
    if kind == "yolo":
        (folder / "labels/one.txt").write_text("0 0.25 0.5 0.5 1\n")
        with pytest.raises(UserError, match="no label maps.*1 boxes: have no outline"):
            read_labels(folder)


def test_a_labelme_file_without_shapes_labels_nothing(folder):
    (folder / "one.json").write_text('{"shapes": [], "imagePath": "one.png"}')
    with pytest.raises(UserError, match="no label maps.*one.json: has no shapes: not labelled"):
        read_labels(folder)


def test_regions_of_label_studio_without_a_label_are_left_out(folder):
    contents = annotated.label_studio_two_tags()
    (task,) = json.loads(contents["project-1.json"])
    task["annotations"][0]["result"].append(task["annotations"][0]["result"][0] | {"id": "r9"})
    (folder / "project-1.json").write_text(json.dumps([task]))
    found = read_labels(folder)
    np.testing.assert_array_equal(found.labels[0], annotated.TRUTH)
    assert any("region 5: has no label" in line for line in found.summary())


def test_files_of_other_formats_are_left_out(folder):
    annotated.write(folder, annotated.TOOLS["labelme"]())
    (folder / "Annotations").mkdir()
    (folder / "Annotations/one.xml").write_text("<annotation><object/></annotation>")
    panoptic = {"images": [], "categories": [], "annotations": [{"segments_info": []}]}
    (folder / "panoptic.json").write_text(json.dumps(panoptic))
    found = read_labels(folder)
    np.testing.assert_array_equal(found.labels[0], annotated.TRUTH)
    assert any(
        "one.xml: is no file of CVAT: its root is 'annotation'" in x for x in found.summary()
    )
    assert any("panoptic.json: is of COCO's panoptic format" in x for x in found.summary())


def test_names_of_several_lines_are_answered_in_one(folder):
    content = annotated.TOOLS["coco"]()["_annotations.coco.json"].replace("one", "o\\nne")
    (folder / "c.json").write_text(content)
    with pytest.raises(UserError, match="annotates .*o ne_png") as caught:
        read_labels(folder)
    assert len(str(caught.value).splitlines()) == 1


def test_two_entries_of_one_image_are_said_or_refused(folder):
    content = json.loads(annotated.coco()["_annotations.coco.json"])
    content["images"].append(content["images"][0] | {"id": 8})
    content["annotations"][1]["image_id"] = 8
    (folder / "c.json").write_text(json.dumps(content))
    found = read_labels(folder)
    np.testing.assert_array_equal(found.labels[0], annotated.TRUTH)
    assert any("is listed 2 times" in line for line in found.summary())
    names = ("one_png.rf.5b2f01.jpg", "one_png.rf.5b2f02.jpg")
    for entry, name in zip(content["images"], names, strict=True):
        entry["file_name"] = name
    (folder / "c.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="c.json has both one_png.rf.5b2f01.jpg and one_png.*02"):
        read_labels(folder)


def test_images_of_one_name_in_via_are_told_apart_by_the_size_of_their_files(folder):
    for seed, name in enumerate(("a/one.png", "b/one.png")):
        (folder / name).parent.mkdir()
        noise = np.random.default_rng(seed).integers(0, 256 >> (4 * seed), (*annotated.SIZE, 3))
        Image.fromarray(noise.astype(np.uint8)).save(folder / name)
    (folder / "one.png").unlink()
    regions = json.loads(annotated.via()["via_project.json"])["_via_img_metadata"]["one.png9"]
    length = (folder / "b/one.png").stat().st_size
    assert length != (folder / "a/one.png").stat().st_size
    (folder / "v.json").write_text(json.dumps({"one": regions | {"size": length}}))
    found = read_labels(folder)
    assert found.names == ["b/one"]
    np.testing.assert_array_equal(found.labels[0], annotated.TRUTH)
    (folder / "v.json").write_text(json.dumps({"one": regions | {"size": length + 1}}))
    with pytest.raises(UserError, match="'one.png' may be .*a/one.png or .*b/one.png"):
        read_labels(folder)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({"one.json": "", "labels/one.json": ""}, None),
        ({"v1.json": "", "v2.json": ""}, "v1.json and .*v2.json both label one.png: keep one"),
    ],
)
def test_one_of_two_files_of_an_image_is_taken_or_both_are_refused(folder, contents, message):
    (text,) = annotated.labelme().values()
    annotated.write(folder, {name: text for name in contents})
    if message:
        with pytest.raises(UserError, match=message):
            read_labels(folder)
    else:
        found = read_labels(folder)
        assert any("or labelled by" in line for line in found.summary())


def test_masks_say_which_of_two_images_they_are_of(folder):
    Image.new("RGB", annotated.SIZE[::-1]).save(folder / "one.jpg")
    mask = annotated.png(annotated.TRUTH)
    annotated.write(folder, {"one_mask.png": mask})
    with pytest.raises(UserError, match="one_mask.png may be of .* such as one.jpg_mask.png"):
        read_labels(folder)
    (folder / "one_mask.png").rename(folder / "one.png_mask.png")
    found = read_labels(folder)
    assert found.names == ["one.png"]
    np.testing.assert_array_equal(found.labels[0], annotated.TRUTH)


def test_many_files_left_out_are_one_line(folder):
    annotated.write(folder, annotated.labelme())
    annotated.write(folder, {f"note{i}.txt": "by Ann" for i in range(30)})
    lines = [line for line in read_labels(folder).summary() if "note" in line]
    assert len(lines) == 1 and "30, such as" in lines[0]
