"""Sets that later papers measure on, from tiny trees in their publishers' layouts."""

import json

import numpy as np
import pytest
import scipy.io
from PIL import Image

from ganseg_jax.data import pipeline, prepare
from ganseg_jax.data.builders.cub import variants
from ganseg_jax.data.builders.deepfashion.builder import COLORS
from ganseg_jax.data.builders.partimagenet import builder as partimagenet
from ganseg_jax.errors import UserError
from tests.data.trees import grey, save


def build(name, source, tmp_path):
    return prepare.prepare(name, source, tmp_path / "data", verify_counts=False)


def load(name, tmp_path, split, size):
    return pipeline.load_split(name, tmp_path / "data", split, size)


def birds(root, names, num_parts, size=(32, 48)):
    """Birds in the box x 8, y 4, 24 x 16; part k at x = 8 + k, y = 12; the second is hidden."""
    lists = {name: [] for name in ("images", "train_test_split", "bounding_boxes")}
    parts = []
    for number, (name, training) in enumerate(names, start=1):
        id_ = f"0000139e-21dc-4d0c-bfe1-{number}"
        photo = grey(*size, 50)
        photo[4:20, 8:32] = 200
        save(root / "images" / name, photo, quality=100)
        lists["images"].append(f"{id_} {name}")
        lists["train_test_split"].append(f"{id_} {int(training)}")
        lists["bounding_boxes"].append(f"{id_} 8 4 24 16")
        for k in range(1, num_parts + 1):
            place = "0 0 0" if k == 2 else f"{8 + k} 12 1"
            parts.append(f"{id_} {k} {place}")
    for name, lines in lists.items():
        (root / f"{name}.txt").write_text("\n".join(lines) + "\n")
    (root / "parts").mkdir()
    (root / "parts/part_locs.txt").write_text("\n".join(parts) + "\n")


CUB = (
    *(("001.Albatross/a b.jpg", True), ("001.Albatross/b.jpg", False)),
    *(("002.Albatross/c.jpg", True), ("002.Albatross/d.jpg", False)),
    *(("003.Albatross/e.jpg", False), ("004.Ani/f.jpg", True)),
)


def test_birds_of_the_official_split(tmp_path):
    birds(tmp_path / "source/CUB_200_2011", CUB, 15, size=(32, 40))
    assert build("cub_official", tmp_path / "source", tmp_path).counts == {"train": 3, "test": 3}
    split = load("cub_official", tmp_path, "test", 96)
    np.testing.assert_allclose(split.boxes, [[12, 19.2, 48, 57.6]] * 3, rtol=1e-6)
    np.testing.assert_array_equal(split.visible[0], np.arange(1, 16) != 2)
    np.testing.assert_allclose(split.landmarks[0, 2], [36, 26.4], rtol=1e-6)
    assert split.segmentation is None and split.landmark_names[0] == "back"


def test_nabirds_have_names_of_their_own(tmp_path):
    root = tmp_path / "nabirds"
    birds(root, (("0817/a.jpg", True), ("0817/b.jpg", False)), 11)
    names = ["bill", "crown", "nape", *(f"part {i}" for i in range(4, 12))]
    (root / "parts/parts.txt").write_text("\n".join(f"{i} {n}" for i, n in enumerate(names)))
    assert build("nabirds", root, tmp_path).counts == {"train": 1, "test": 1}
    split = load("nabirds", tmp_path, "test", 48)
    assert split.landmark_names == names and split.boxes.shape == (1, 4)
    with pytest.raises(UserError, match="should have 23929 images in its split 'train', found 1"):
        prepare.prepare("nabirds", root, tmp_path / "other")


def test_birds_lists_with_gaps_are_named(tmp_path):
    birds(tmp_path / "cub", CUB, 15)
    boxes = tmp_path / "cub/bounding_boxes.txt"
    boxes.write_text("\n".join(boxes.read_text().splitlines()[1:]))
    with pytest.raises(UserError, match="bounding_boxes.txt has no line for 0000139e-.*-1"):
        build("cub_official", tmp_path / "cub", tmp_path)
    boxes.unlink()
    with pytest.raises(UserError, match="bounding_boxes.txt is missing"):
        build("cub_three", tmp_path / "cub", tmp_path)


def test_birds_of_three_categories_are_cut_out(tmp_path):
    birds(tmp_path / "CUB_200_2011", CUB, 15)
    result = build("cub_three", tmp_path / "CUB_200_2011", tmp_path)
    assert result.counts == {"train": 2, "test_001": 1, "test_002": 1, "test_003": 1}
    split = load("cub_three", tmp_path, "test_003", 24)
    # The square of 24 px around the box is x 8 to 32, y 0 to 24.
    assert split.images.shape == (1, 24, 24, 3)
    inside = split.images[0, :, :, 0] > 125
    assert inside[4:20].all() and not inside[:4].any() and not inside[20:].any()
    np.testing.assert_allclose(split.landmarks[0, 2], [12, 3], atol=1e-5)
    assert not split.visible[0, 1] and split.visible[0, 2]


@pytest.mark.parametrize(
    ("size", "box", "expected"),
    [
        # Nothing is cut off; the square reaches beyond the top.
        ((32, 48), (8, 4, 24, 16), (8, 0, 32, 24, (0, 0))),
        # 7 and 9 px are cut off, 3 and 4 of them at the top and the left.
        ((39, 57), (20, 10, 10, 20), (11, 7, 35, 30, (4, 3))),
        # At the far edges the square ends with the cut photo.
        ((39, 57), (40, 20, 17, 19), (35, 17, 48, 32, (4, 3))),
    ],
)
def test_the_square_that_is_cut_out_by_hand(size, box, expected):
    assert variants.square(*size, np.array(box, float)) == expected


def test_aligned_birds_come_from_the_lists_of_cmr(tmp_path):
    birds(tmp_path / "CUB_200_2011", CUB, 15)
    kind = np.dtype([("rel_path", object), ("bbox", object), ("parts", object)])
    parts = np.tile([[12.0], [8.0], [1.0]], 15)
    for split, names in (("train", [CUB[0][0], CUB[1][0]]), ("test", [CUB[5][0]])):
        table = np.zeros(len(names), kind)
        for i, name in enumerate(names):
            corners = {"x1": 8.0, "y1": 4.0, "x2": 32.0, "y2": 20.0}
            table[i] = (name, corners, parts)
        path = tmp_path / f"cachedir/cub/data/{split}_cub_cleaned.mat"
        path.parent.mkdir(parents=True, exist_ok=True)
        scipy.io.savemat(path, {"images": table})
    assert build("cub_aligned", tmp_path, tmp_path).counts == {"train": 2, "test": 1}
    split = load("cub_aligned", tmp_path, "test", 24)
    assert split.names == ["004.Ani/f.jpg"]
    np.testing.assert_allclose(split.landmarks[0, 5], [8, 4], atol=1e-5)
    path.write_text("<html>")
    with pytest.raises(UserError, match="test_cub_cleaned.mat cannot be read"):
        build("cub_aligned", tmp_path, tmp_path / "again")


def box(x, y, width, height):
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def coco_file(path, names, folder=""):
    """Two parts of every image: rows 2 to 10 of number 0, rows 8 to 14 of number 3, as a box."""
    entries, annotations = [], []
    for number, name in enumerate(names):
        entries.append({"id": number, "file_name": folder + name, "height": 16, "width": 20})
        for category, drawing in ((0, [box(0, 2, 20, 8)]), (3, [[0, 8, 20, 14]])):
            annotations.append(
                {
                    **{"id": len(annotations), "image_id": number, "category_id": category},
                    **{"segmentation": drawing, "bbox": [0, 8, 20, 6], "area": 160, "iscrowd": 0},
                }
            )
    entries.append({"id": 99, "file_name": "n01_none.JPEG", "height": 16, "width": 20})
    categories = [{"id": i, "name": f"{n}, a part"} for i, n in enumerate(partimagenet.PARTS)]
    content = {"images": entries, "categories": categories, "annotations": annotations}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def columns_of(split):
    assert (split.segmentation == split.segmentation[:, :, :1]).all()
    return split.segmentation[0, :, 0]


# Where both cover a pixel, the first number wins.
PART_ROWS = [0] * 2 + [1] * 8 + [4] * 4 + [0] * 2


@pytest.mark.parametrize("nested", [False, True])
def test_partimagenet_seg(tmp_path, nested):
    root = tmp_path / "PartImageNet_Seg/PartImageNet"
    for split, count in (("train", 3), ("val", 1), ("test", 2)):
        names = [f"n0{i % 2}_{split}{i}.JPEG" for i in range(count)]
        for name in names:
            folder = root / "images" / split / (name[:3] if nested else "")
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(grey(16, 20, 90)).save(path, "JPEG")
        coco_file(root / f"annotations/{split}/{split}.json", names, "n00\\" if nested else "")
    counts = build("partimagenet_seg", tmp_path, tmp_path).counts
    assert counts == {"train": 3, "validation": 1, "test": 2}
    split = load("partimagenet_seg", tmp_path, "test", 16)
    np.testing.assert_array_equal(columns_of(split), PART_ROWS)
    assert len(split.part_names) == 40 and split.part_names[0] == "Quadruped Head, a part"


@pytest.mark.parametrize("split_file", ["newdset.txt", "train_test_split_pimagenet_ood.txt"])
def test_partimagenet_ood_is_split_by_pdisconet_s_list(tmp_path, split_file):
    root = tmp_path / "source"
    names = [f"n0{i % 2}_{i}.JPEG" for i in range(4)]
    for name in names:
        path = root / "train" / name[:3] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(grey(16, 20, 90)).save(path, "JPEG")
    coco_file(root / "train.json", names)
    lines = [f"{i}\t{int(i == 2)}\t0\tn00\t{name}" for i, name in enumerate(names)]
    (root / split_file).write_text("\n".join(lines))
    assert build("partimagenet_ood", root, tmp_path).counts == {"train": 3, "test": 1}
    split = load("partimagenet_ood", tmp_path, "test", 16)
    assert split.names == ["n00/n00_2.JPEG"]
    np.testing.assert_array_equal(columns_of(split), PART_ROWS)
    (root / split_file).write_text("\n".join(lines[:-1]))
    with pytest.raises(UserError, match="the split has no line for n01_3.JPEG"):
        build("partimagenet_ood", root, tmp_path / "again")


def test_partimagenet_says_what_is_wrong(tmp_path):
    root = tmp_path / "source"
    coco_file(root / "train.json", ["n00_0.JPEG"])
    (root / "newdset.txt").write_text("0\t1\t0\tn00\tn00_0.JPEG")
    (root / "train").mkdir()
    with pytest.raises(UserError, match="train has no n00_0.JPEG"):
        build("partimagenet_ood", root, tmp_path)
    save(root / "train/n00_0.JPEG.png", grey(8, 8, 9))
    (root / "train/n00_0.JPEG.png").rename(root / "train/n00_0.JPEG")
    with pytest.raises(UserError, match="n00_0.JPEG is not of the size that its annotation says"):
        build("partimagenet_ood", root, tmp_path)
    (root / "train.json").write_text("<html>")
    with pytest.raises(UserError, match="train.json is no COCO file of PartImageNet"):
        build("partimagenet_ood", root, tmp_path)


def test_clothing_labels(tmp_path):
    root = tmp_path / "In-shop Clothes Retrieval Benchmark"
    anno = root / "Anno/segmentation"
    for part, count in (("train", 2), ("query", 1), ("gallery", 1)):
        names = [f"img/WOMEN/{part}/id_{i}.jpg" for i in range(count)]
        for name in names:
            # Some have the photos beside their masks, some in the benchmark's own folder.
            save((root if part == "train" else anno) / name, grey(16, 8, 90))
            mask = np.zeros((16, 8, 3), np.uint8)
            mask[4:8], mask[8:12] = COLORS[0], COLORS[14]
            save(anno / name.replace(".jpg", "_segment.png"), mask)
        listed = {"images": [{"file_name": name} for name in names]}
        (anno / f"DeepFashion_segmentation_{part}.json").write_text(json.dumps(listed))
    assert build("deepfashion_parsing", tmp_path, tmp_path).counts == {"train": 2, "test": 2}
    split = load("deepfashion_parsing", tmp_path, "test", 16)
    np.testing.assert_array_equal(columns_of(split), np.repeat([0, 1, 15, 0], 4))
    assert split.part_names[0] == "#006400" and len(split.part_names) == 15
    mask[0] = 7
    save(anno / name.replace(".jpg", "_segment.png"), mask)
    with pytest.raises(UserError, match="unknown colour #070707"):
        build("deepfashion_parsing", tmp_path, tmp_path / "again")


def test_body_landmarks_from_csv_lists(tmp_path):
    root = tmp_path / "deepfashion"
    for split, count in (("train", 3), ("test", 2)):
        names = [f"{split}/{i}.jpg" for i in range(count)]
        for name in names:
            save(root / "img" / name, grey(256, 256, 90))
        rows = [",filename", *(f"{i},{name}" for i, name in enumerate(names))]
        (root / f"data_{split}.csv").write_text("\n".join(rows) + "\n")
        joints = [{"keypoints": [[64, 128], [0, 192 + i]]} for i in range(count)]
        (root / f"data_{split}.json").write_text(json.dumps(joints))
    assert build("deepfashion_keypoints", tmp_path, tmp_path).counts == {"train": 3, "test": 2}
    split = load("deepfashion_keypoints", tmp_path, "test", 128)
    first = split.names.index("test/1.jpg")
    np.testing.assert_allclose(split.landmarks[first], [[64, 32], [96.5, 0]])
    assert split.visible.all()
    with pytest.raises(UserError, match="10604 images in its split 'train', found 3"):
        prepare.prepare("deepfashion_keypoints", root, tmp_path / "other")
    (root / "data_test.json").write_text(json.dumps(joints[:1]))
    with pytest.raises(UserError, match="names 2 photos, data_test.json has landmarks .* of 1"):
        build("deepfashion_keypoints", root, tmp_path / "again")
