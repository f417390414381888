"""Valid files of every labelling tool for one image, and mutations of them."""

import base64
import io
import json
import zlib

import numpy as np
from PIL import Image

from ganseg_jax.data import masks

SIZE = (6, 8)
TRUTH = np.zeros(SIZE, np.uint8)
TRUTH[1:3, 2:6] = 1
TRUTH[3:5, 2:4] = 2

HEAD = [[2, 1], [6, 1], [6, 3], [2, 3]]
TORSO = [[2, 3], [4, 3], [4, 5], [2, 5]]


def read_label_map(data, legend=None):
    """The classes of a mask's file."""
    return masks.to_labels(masks.decode_mask(data), legend)


def png(array, mode=None):
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(array, np.uint8), mode).save(buffer, "PNG")
    return buffer.getvalue()


def indexed(labels, colors):
    image = Image.fromarray(np.asarray(labels, np.uint8))
    image.putpalette([channel for color in colors for channel in color])
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def blank():
    """Returns a photo for the labels."""
    return png(np.zeros((*SIZE, 3)))


def labelme():
    mask = base64.b64encode(png(np.full((2, 2), 255))).decode()
    shapes = [
        {"label": "head", "shape_type": "polygon", "points": HEAD, "group_id": 1},
        {"label": "torso", "shape_type": "mask", "points": [[2, 3], [3, 4]], "mask": mask},
    ]
    content = {"imageHeight": 6, "imageWidth": 8, "imagePath": "..\\one.png", "shapes": shapes}
    return {"one.json": json.dumps(content)}


def coco():
    # The counts are pycocotools': of TRUTH == 2.
    packed = {"size": [6, 8], "counts": "?240e0"}
    notes = [
        {"id": 1, "image_id": 7, "category_id": 3, "segmentation": [sum(HEAD, [])]},
        {"id": 2, "image_id": 7, "category_id": 5, "segmentation": packed, "iscrowd": 1},
    ]
    image = {"id": 7, "file_name": "images\\one_png.rf.5b2f.jpg", "height": 6, "width": 8}
    named = [{"id": 5, "name": "torso"}, {"id": 3, "name": "head"}, {"id": 1, "name": "tail"}]
    content = {"images": [image], "annotations": notes, "categories": named}
    return {"_annotations.coco.json": json.dumps(content)}


def cvat():
    return {
        "annotations.xml": """<?xml version="1.0" encoding="utf-8"?>
<annotations><meta><task><labels><label><name>head</name></label><label><name>torso</name></label>
</labels></task></meta><image id="0" name="a/one.png" width="8" height="6">
<mask label="torso" rle="0, 4" left="2" top="3" width="2" height="2" z_order="1"></mask>
<polygon label="head" points="2.00,1.00;6.00,1.00;6.00,3.00;2.00,3.00" z_order="0"></polygon>
<polyline label="head" points="2.00,1.00;6.00,1.00"></polyline></image></annotations>"""
    }


# Label Studio's own encoding of TRUTH == 2 (label-studio-sdk, mask2rle).
BRUSH = [0, 0, 0, 192, 57, 27, 254, 103, 0, 159, 255, 11, 128, 79, 255, 139, 192, 0]


def label_studio():
    size = {"original_height": 6, "original_width": 8}
    outline = [[25, 100 / 6], [75, 100 / 6], [75, 50], [25, 50]]
    results = [
        {"type": "polygonlabels", "value": {"points": outline, "polygonlabels": ["head"]}} | size,
        {
            "type": "brushlabels",
            "value": {"format": "rle", "rle": BRUSH, "brushlabels": ["torso"]},
        }
        | size,
    ]
    done = [{"result": results, "was_cancelled": False}]
    task = {"id": 4, "data": {"image": "/data/upload/1/5b2f01aa-one.png"}, "annotations": done}
    return {"project-1.json": json.dumps([task])}


def label_studio_brush():
    task = {"id": 4, "data": {"image": "/data/upload/1/5b2f01aa-one.png"}, "annotations": []}
    array = io.BytesIO()
    np.save(array, np.uint8(255 * (TRUTH == 2)))
    return {
        "project-1.json": json.dumps([task]),
        "task-4-annotation-9-by-1-tag-head-0.png": png(255 * (TRUTH == 1)),
        "task-4-annotation-9-by-1-tag-torso-0.npy": array.getvalue(),
    }


def label_studio_two_tags():
    """One tag draws, the other labels; the image was turned there and has a signed address."""
    (task,) = json.loads(label_studio()["project-1.json"])
    drawn, results = task["annotations"][0]["result"], []
    for index, result in enumerate(drawn):
        (kind,) = (key for key in result["value"] if key.endswith("labels"))
        label = result["value"].pop(kind)
        result |= {"id": f"r{index}", "type": kind.removesuffix("labels"), "image_rotation": 90}
        labelled = result | {"type": "labels", "value": result["value"] | {"labels": label}}
        results += [result, labelled]
    task["annotations"][0]["result"] = results
    url = "https://b.s3.amazonaws.com/a/one.png?X-Amz-Date=2024&X-Amz-Signature=a%2Fb.c"
    return {"project-1.json": json.dumps([task | {"data": {"picture": url}}])}


def via():
    x, y = zip(*HEAD, strict=True)
    polygon = {"name": "polygon", "all_points_x": x, "all_points_y": y}
    box = {"name": "rect", "x": 2, "y": 3, "width": 2, "height": 2}
    regions = [
        {"shape_attributes": polygon, "region_attributes": {"part": "head"}},
        {"shape_attributes": box, "region_attributes": {"part": {"torso": True, "head": False}}},
    ]
    entry = {"filename": "one.png", "size": 9, "regions": regions}
    return {"via_project.json": json.dumps({"_via_img_metadata": {"one.png9": entry}})}


def via_csv():
    x, y = zip(*HEAD, strict=True)
    shapes = [
        {"name": "polygon", "all_points_x": x, "all_points_y": y},
        {"name": "rect", "x": 2, "y": 3, "width": 2, "height": 2},
    ]
    lines = [
        "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,"
        "region_attributes"
    ]
    for index, (shape, name) in enumerate(zip(shapes, ("head", "torso"), strict=True)):
        cells = [json.dumps(shape), json.dumps({"name": name})]
        quoted = ",".join('"' + cell.replace('"', '""') + '"' for cell in cells)
        lines.append(f'one.png,9,"{{}}",2,{index},{quoted}')
    return {"via_export.csv": "\n".join(lines)}


def via_1_csv():
    """Version 1 writes a # before the names of the columns."""
    return {"via_region_data.csv": "#" + via_csv()["via_export.csv"]}


def supervisely():
    data = base64.b64encode(zlib.compress(png(np.full((2, 2), 255)))).decode()
    outline = {"exterior": HEAD, "interior": []}
    objects = [
        {"classTitle": "head", "geometryType": "polygon", "points": outline},
        {
            "classTitle": "torso",
            "geometryType": "bitmap",
            "bitmap": {"data": data, "origin": [2, 3]},
        },
    ]
    content = {"size": {"height": 6, "width": 8}, "objects": objects}
    meta = {"classes": [{"title": "head"}, {"title": "torso"}]}
    return {"ann/one.png.json": json.dumps(content), "meta.json": json.dumps(meta)}


def yolo():
    def line(index, points):
        return " ".join([str(index), *(f"{x / 8:.6f} {y / 6:.6f}" for x, y in points)])

    text = line(1, HEAD) + "\n" + line(2, TORSO) + "\n"
    return {"labels/one.txt": text, "data.yaml": "names: {0: tail, 1: head, 2: torso}\n"}


def yolo_one_level_up():
    contents = yolo()
    return {"labels/one.txt": contents["labels/one.txt"], "../data.yml": contents["data.yaml"]}


def coco_loose():
    """Ids are text in one place and numbers in the other; no brackets around the one polygon."""
    content = json.loads(coco()["_annotations.coco.json"])
    content["images"][0]["id"] = "7"
    for note in content["annotations"]:
        note["category_id"] = str(note["category_id"])
    content["annotations"][0]["segmentation"] = sum(HEAD, [])
    pairs = {"id": "x", "image_id": "7", "category_id": 5, "segmentation": TORSO}
    content["annotations"][1] = pairs
    return {"instances.json": json.dumps(content)}


def colour_list():
    colors = np.array([(0, 0, 0), (250, 50, 83), (36, 179, 83)], np.uint8)[TRUTH]
    legend = "# label:color_rgb:parts:actions\nbackground:0,0,0::\nhead:250,50,83::\n"
    return {
        "SegmentationClass/one.png": png(colors),
        "labelmap.txt": legend + "torso:36,179,83::\n",
    }


def datumaro_colours():
    """As Datumaro writes CamVid's format."""
    colors = np.array([(0, 0, 0), (250, 50, 83), (36, 179, 83)], np.uint8)[TRUTH]
    legend = "0 0 0 background\n250 50 83 head\n36 179 83 torso\n"
    return {"trainannot/one.png": png(colors), "label_colors.txt": legend}


def datumaro_values():
    """As Datumaro writes KITTI's format."""
    return datumaro_colours() | {"trainannot/one.png": png(TRUTH)}


def datumaro_without_colours():
    """As Datumaro writes PASCAL VOC's format of classes that have no colours."""
    colors = np.array([(0, 0, 0), (128, 0, 0), (0, 128, 0)], np.uint8)[TRUTH]
    legend = "# label:color_rgb:parts:actions\nbackground:::\nhead:::\ntorso:::\n"
    return {"SegmentationClass/one.png": png(colors), "labelmap.txt": legend}


def class_values():
    table = "Pixel Value, Class\n0, background\n4, head\n9, torso\n"
    return {"one_mask.png": png(np.array([0, 4, 9])[TRUTH]), "_classes.csv": table}


TOOLS = {
    f.__name__: f
    for f in (
        *(labelme, coco, cvat, label_studio, label_studio_brush, via, via_csv, supervisely),
        *(yolo, colour_list, class_values, label_studio_two_tags, via_1_csv, yolo_one_level_up),
        *(coco_loose, datumaro_colours, datumaro_values, datumaro_without_colours),
    )
}


def write(folder, contents):
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


ODD = (None, True, -1, 0, 10**30, 1e308, float("nan"), "", "x", "-5", [], {}, [[]], [None], "\0")


def mutated_json(content, draw):
    """Replaces, removes or repeats one value somewhere in JSON content."""
    places = []

    def visit(node):
        keys = node if isinstance(node, dict) else range(len(node))
        for key in keys:
            places.append((node, key))
            if isinstance(node[key], dict | list):
                visit(node[key])

    visit(content)
    node, key = draw.choice(places)
    action = draw.randrange(3)
    if action == 0:
        node[key] = draw.choice(ODD)
    elif action == 1:
        del node[key]
    elif isinstance(node, list):
        node.insert(key, node[key])
    else:
        node[key] = [node[key]]
    return content
