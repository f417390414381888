"""Tiny copies of published data sets, in their publishers' own layouts and list formats."""

import pathlib
import pickle
import sys
import types

import numpy as np
import scipy.io
from PIL import Image


def save(path: pathlib.Path, array: np.ndarray, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(array)).save(path, **options)


def grey(height: int, width: int, value: int) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


# Name: (height, width), face box (x, y, width, height), partition, part of MAFL.  The boxes of
# 1, 3, 5, 6, 8 cover at least 30 % of the image; that of 6 exactly.
CELEBA = {
    "000001.jpg": ((60, 40), (5, 5, 30, 30), 0, None),
    "000002.jpg": ((60, 40), (5, 5, 20, 20), 0, None),
    "000003.jpg": ((40, 60), (0, 0, 30, 30), 0, "training"),
    "000004.jpg": ((40, 60), (0, 0, 20, 20), 0, "training"),
    "000005.jpg": ((50, 50), (0, 0, 40, 40), 0, "testing"),
    "000006.jpg": ((50, 50), (0, 0, 25, 30), 2, "testing"),
    "000007.jpg": ((50, 50), (0, 0, 25, 29), 1, "testing"),
    "000008.jpg": ((50, 50), (0, 0, 45, 45), 1, None),
}


def celeba(root: pathlib.Path, aligned: bool = False) -> None:
    """Landmarks lie at fixed fractions: (x, y) = (0.2 + 0.1 i, 0.5) of the width and height."""
    kind = "_align" if aligned else ""
    rows, boxes, partition = [], [], []
    mafl = {"training": [], "testing": []}
    for name, (size, box, part, member) in CELEBA.items():
        save(root / f"Img/img{kind}_celeba" / name, grey(*size, 10 * int(name[:6])))
        points = [(int(size[1] * (2 + i) / 10), size[0] // 2) for i in range(5)]
        rows.append(f"{name}  " + "  ".join(f"{x:>4} {y:>4}" for x, y in points))
        boxes.append(f"{name}    " + " ".join(f"{v:>3}" for v in box))
        partition.append(f"{name} {part}")
        if member:
            mafl[member].append(name)
    (root / "Anno").mkdir(parents=True)
    header = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y "
    header += "rightmouth_x rightmouth_y"
    lines = [str(len(rows)), header, *rows]
    (root / f"Anno/list_landmarks{kind}_celeba.txt").write_text("\n".join(lines) + "\n")
    lines = [str(len(rows)), "image_id x_1 y_1 width height", *boxes]
    (root / "Anno/list_bbox_celeba.txt").write_text("\n".join(lines) + "\n")
    (root / "Eval").mkdir()
    (root / "Eval/list_eval_partition.txt").write_text("\n".join(partition) + "\n")
    (root / "MAFL").mkdir()
    for member, names in mafl.items():
        (root / f"MAFL/{member}.txt").write_text("\n".join(names))


def cub(root: pathlib.Path) -> None:
    """Birds at columns 10 to 20 of 40, rows 5 to 15 of 30; part k at x = 10, y = k, odd k seen."""
    images, codes, parts = [], [], []
    for number in range(1, 7):
        name = f"001.Black_footed_Albatross/Black_Footed_Albatross_{number:04d}_{number}"
        image, mask = grey(30, 40, 50), np.zeros((30, 40), np.uint8)
        image[5:15, 10:20], mask[5:15, 10:20] = 200, 255
        mask[4, 10:20], mask[15, 10:20] = 102, 153  # two and three of five annotators
        save(root / f"CUB_200_2011/images/{name}.jpg", image, quality=95)
        stored = np.repeat(mask[..., None], 3, axis=-1) if number == 4 else mask
        save(root / f"segmentations/{name}.png", stored)
        images.append(f"{number} {name}.jpg")
        codes.append(f"{number} {[0, 0, 0, 1, 2, 2][number - 1]}")
        for part in range(1, 16):
            seen = part % 2
            x, y = (10.0, float(part)) if seen else (0.0, 0.0)
            parts.append(f"{number} {part} {x} {y} {seen}")
    base = root / "CUB_200_2011"
    (base / "images.txt").write_text("\n".join(images) + "\n")
    (base / "parts").mkdir()
    (base / "parts/part_locs.txt").write_text("\n".join(parts) + "\n")
    (root / "cub_train_val_test_split.txt").write_text("\n".join(codes) + "\n")


def flowers(root: pathlib.Path) -> None:
    """Flowers 1 to 8; the segmented images are blue but for rows 8 to 24 of columns 10 to 30."""
    for number in range(1, 9):
        save(root / f"jpg/image_{number:05d}.jpg", grey(32, 40, 20 * number))
        segmented = np.zeros((32, 40, 3), np.uint8)
        segmented[..., 2] = 254
        segmented[8:24, 10:30] = (200, 150, 100)
        save(root / f"segmim/segmim_{number:05d}.jpg", segmented, quality=100, subsampling=0)
    ids = {"trnid": [[1, 3]], "valid": [[2]], "tstid": [[4, 5, 6, 7, 8]]}
    scipy.io.savemat(root / "setid.mat", {key: np.array(v) for key, v in ids.items()})


def taichi(root: pathlib.Path) -> None:
    """Two training videos of two frames, three frames to fit, two to test; 256 px."""
    for video in ("ab#001.mp4", "cd#002.mp4"):
        for frame in range(2):
            save(root / f"train/{video}/{frame:07d}.png", grey(256, 256, 40))
    for split, count in (("train", 3), ("test", 2)):
        names = [f"{i:05d}.png" for i in range(count)]
        values = []
        for i, name in enumerate(names):
            save(root / f"eval_images/taichi-256/{split}/{name}", grey(256, 256, 100))
            value = np.stack([np.arange(18) * 10.0, np.full(18, 64.0)], axis=-1)
            value[i] = -1.0
            values.append(value)
        write_frame(root / f"landmark/taichi_{split}_gt.pkl", names, values)
    mask = np.zeros((256, 256), np.uint8)
    mask[100:200, 50:150], mask[99, 50:150] = 255, 254
    save(root / "taichi-test-masks/00000.png", mask)
    save(root / "taichi-test-masks/00001.png", np.repeat(mask[..., None], 3, axis=-1))


def write_frame(path: pathlib.Path, names: list[str], values: list[np.ndarray]) -> None:
    """Pickles a frame of the columns file_name, frame_number, value as pandas 0.25 does."""

    def new_index(kind, state):
        raise AssertionError("only its name is pickled")

    def stub(module, name):
        return type(name, (), {"__module__": module})

    frame_type = stub("pandas.core.frame", "DataFrame")
    manager_type = stub("pandas.core.internals", "BlockManager")
    index_type = stub("pandas.core.indexes.base", "Index")
    range_type = stub("pandas.core.indexes.range", "RangeIndex")
    new_index.__module__, new_index.__qualname__ = "pandas.core.indexes.base", "_new_Index"
    new_index.__name__ = "_new_Index"

    class Index:
        def __init__(self, kind, state):
            self.kind, self.state = kind, state

        def __reduce__(self):
            return new_index, (self.kind, self.state)

    columns = np.array(["file_name", "frame_number", "value"], object)
    mixed = np.empty((2, len(names)), object)
    for i, (name, value) in enumerate(zip(names, values, strict=True)):
        mixed[:, i] = [name, value]
    numbers = np.zeros((1, len(names)), np.int64)
    axes = [
        Index(index_type, {"data": columns, "name": None}),
        Index(range_type, {"name": None, "start": 0, "stop": len(names), "step": 1}),
    ]
    blocks = [
        {"values": numbers, "mgr_locs": slice(1, 2, 1)},
        {"values": mixed, "mgr_locs": slice(0, 4, 2)},
    ]
    content = {"0.14.1": {"axes": axes, "blocks": blocks}}
    state = (axes, [numbers, mixed], [columns[1:2], columns[::2]], content)
    manager = manager_type()
    manager.__class__.__reduce__ = lambda self: (manager_type, (), state)
    frame = frame_type()
    frame.__dict__.update({"_data": manager, "_typ": "dataframe", "_metadata": []})

    modules = {"pandas": types.ModuleType("pandas")}
    for kind in (frame_type, manager_type, index_type, range_type, new_index):
        module = modules.setdefault(kind.__module__, types.ModuleType(kind.__module__))
        setattr(module, kind.__name__, kind)
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(frame, protocol=4))
    finally:
        for name, module in before.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module
