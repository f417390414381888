"""Masks as programs draw them."""

import numpy as np
import pytest
from PIL import Image

from ganseg_jax.data import masks
from ganseg_jax.errors import UserError
from ganseg_jax.fewshot.labels import read_labels
from tests.data import annotated

TRUTH = annotated.TRUTH
VOC = [(0, 0, 0), (128, 0, 0), (0, 128, 0)]


@pytest.fixture
def folder(tmp_path):
    for name in ("one", "two"):
        Image.new("RGB", annotated.SIZE[::-1]).save(tmp_path / f"{name}.png")
    return tmp_path


def rgba(colors, alpha):
    return annotated.png(np.concatenate([colors, alpha[..., None]], -1))


def test_colours_of_pascal_voc_and_its_void():
    colors = np.array([*VOC, (224, 224, 192)], np.uint8)
    labels = TRUTH.copy()
    labels[0] = 3
    found = annotated.read_label_map(annotated.png(colors[labels]))
    np.testing.assert_array_equal(found, np.where(labels == 3, 255, labels))
    with pytest.raises(masks.ImageError, match=r"\(9, 9, 9\).*labelmap.txt"):
        annotated.read_label_map(
            annotated.png(
                np.where(labels[..., None], 9, colors[labels - labels])
                + np.eye(3, dtype=int)[0] * (labels[..., None] == 3)
            )
        )


def test_transparent_pixels_are_background_and_alpha_alone_is_a_mask():
    black = np.zeros((*TRUTH.shape, 3), np.uint8)
    alpha = np.uint8(255 * (TRUTH == 1))
    for colors in (black, black + np.uint8(255)):
        np.testing.assert_array_equal(annotated.read_label_map(rgba(colors, alpha)), TRUTH == 1)
    drawn = np.repeat(TRUTH[..., None] + np.uint8(7), 3, -1)
    opaque = np.uint8(255 * (TRUTH > 0))
    found = annotated.read_label_map(rgba(drawn, opaque))
    np.testing.assert_array_equal(found, np.where(TRUTH > 0, TRUTH + 7, 0))
    with pytest.raises(masks.ImageError, match="transparent all over"):
        annotated.read_label_map(rgba(black, np.zeros_like(alpha)))


@pytest.mark.parametrize(("bits", "step"), [(1, 1), (2, 1), (4, 1)])
def test_grey_of_few_bits(tmp_path, bits, step):
    import struct
    import zlib

    labels = np.minimum(TRUTH, (1 << bits) - 1)
    rows = b"".join(
        b"\0" + np.packbits(((row[:, None] >> np.arange(bits)[::-1]) & 1).astype(bool)).tobytes()
        for row in labels
    )

    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", labels.shape[1], labels.shape[0], bits, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows))
    data += chunk(b"IEND", b"")
    np.testing.assert_array_equal(annotated.read_label_map(data), labels * step)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.uint16([[0, 1, 65535]]), [[0, 1, 255]]),
        (np.int32([[0, 2, -1]]), [[0, 2, 255]]),
        (np.float32([[0, 2, -1]]), [[0, 2, 255]]),
    ],
)
def test_void_of_wide_types(tmp_path, values, expected):
    Image.fromarray(values).save(tmp_path / "a.tif")
    found = annotated.read_label_map((tmp_path / "a.tif").read_bytes())
    np.testing.assert_array_equal(found, expected)


def test_grey_steps_are_classes():
    for steps, values in ((3, [0, 85, 170, 255]), (2, [0, 128, 255]), (4, [0, 63, 127, 191, 255])):
        found = annotated.read_label_map(annotated.png(np.array([values])))
        np.testing.assert_array_equal(found, [range(steps + 1)])
    values = annotated.png(np.array([[0, 85, 255]]))
    np.testing.assert_array_equal(annotated.read_label_map(values, known=3), [[0, 1, 3]])
    # Void beside labels stays void.
    found = annotated.read_label_map(annotated.png(np.array([[0, 1, 255]])))
    np.testing.assert_array_equal(found, [[0, 1, 255]])


def test_another_size_is_resized_to_the_nearest_and_another_aspect_refused(folder):
    (folder / "one_mask.png").write_bytes(annotated.png(np.kron(TRUTH, np.ones((3, 3)))))
    np.testing.assert_array_equal(read_labels(folder).labels[0], TRUTH)


def test_palettes_that_differ_are_merged_by_colour_or_refused(folder):
    renumbered = np.array([2, 0, 1])[TRUTH]  # Background 2, head 0, torso 1.
    other = [VOC[1], VOC[2], VOC[0]]
    (folder / "one_mask.png").write_bytes(annotated.indexed(TRUTH, VOC))
    (folder / "two_mask.png").write_bytes(annotated.indexed(renumbered, other))
    found = read_labels(folder)
    np.testing.assert_array_equal(found.labels, [TRUTH, TRUTH])
    odd = [(1, 2, 3), (4, 5, 6), (7, 8, 9)]
    (folder / "one_mask.png").write_bytes(annotated.indexed(TRUTH, odd))
    (folder / "two_mask.png").write_bytes(annotated.indexed(renumbered, [odd[1], odd[2], odd[0]]))
    with pytest.raises(UserError, match="palettes .* differ.*labelmap.txt"):
        read_labels(folder)
    names = "background:1,2,3::\nhead:4,5,6::\ntorso:7,8,9::\n"
    (folder / "labelmap.txt").write_text(names)
    found = read_labels(folder)
    np.testing.assert_array_equal(found.labels, [TRUTH, TRUTH])
    assert found.classes == ["background", "head", "torso"]


def test_colour_lists_lie_in_the_folder_of_each_split(folder):
    table = "Pixel Value, Class\n0, background\n4, head\n9, torso\n"
    for split, name in (("train", "one"), ("valid", "two")):
        (folder / split).mkdir()
        (folder / f"{name}.png").rename(folder / split / f"{name}_png.rf.0a1b.png")
        mask = annotated.png(np.array([0, 4, 9])[TRUTH])
        (folder / split / f"{name}_png.rf.0a1b_mask.png").write_bytes(mask)
        (folder / split / "_classes.csv").write_text(table)
    found = read_labels(folder)
    assert found.classes == ["background", "head", "torso"]
    np.testing.assert_array_equal(found.labels, [TRUTH, TRUTH])
    (folder / "valid/_classes.csv").write_text(table.replace("torso", "tail"))
    with pytest.raises(UserError, match="valid/_classes.csv and .*train/_classes.csv name"):
        read_labels(folder)
