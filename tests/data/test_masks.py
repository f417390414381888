"""Masks as programs draw them."""

import io

import numpy as np
import pytest
from PIL import Image

from ganseg_jax.data import encodings, masks
from ganseg_jax.data.encodings import Used
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
    # Void beside labels stays void.
    found = annotated.read_label_map(annotated.png(np.array([[0, 1, 255]])))
    np.testing.assert_array_equal(found, [[0, 1, 255]])


def meaning(*files, named=0, **given):
    """The class of each value of a folder's masks, and whether 255 is void beside classes."""
    used = {f"{n}.png": Used(tuple(values), **given) for n, values in enumerate(files)}
    found = encodings.of_folder(used, named)
    assert not found.soft
    return dict(found.table), found.void


@pytest.mark.parametrize(
    ("files", "named", "table", "void"),
    [
        # Void in one file is void in all.
        ([(0, 1, 2, 255), (0, 1), (0, 255)], 0, {}, True),
        ([(0, 1, 255), (0, 255)], 1, {}, True),
        # All files together show the grey steps.
        ([(0, 85, 170), (0, 255)], 0, {0: 0, 85: 1, 170: 2, 255: 3}, False),
        ([(0, 85), (0, 255)], 3, {0: 0, 85: 1, 255: 3}, False),
        ([(0, 85, 255)], 3, {0: 0, 85: 1, 255: 3}, False),
        ([(0, 128), (0, 128, 255)], 0, {0: 0, 128: 1, 255: 2}, False),
        # Black and another shade.
        ([(0, 255), (255,), (0,)], 0, {0: 0, 255: 1}, False),
        ([(0, 254), (0,)], 0, {0: 0, 254: 1}, False),
        ([(0, 38), (0,)], 1, {0: 0, 38: 1}, False),
        # Numbers of classes.
        ([(0, 2)], 0, {}, False),
        ([(0, 5, 12, 255)], 0, {}, True),
        ([(0, 92, 181, 255)], 182, {}, True),
        ([(0, 90), (0, 4)], 90, {}, False),
        ([tuple(range(60)), (0, 30)], 0, {}, False),
    ],
)
def test_all_masks_of_a_folder_say_what_values_mean(files, named, table, void):
    assert meaning(*files, named=named) == (table, void)


@pytest.mark.parametrize(
    ("files", "named", "message"),
    [
        ([(0, 1), (0, 255)], 0, r"^0\.png holds 0, 1, 1\.png only 0 and 255: give a class"),
        ([(0, 50), (0, 50, 100, 150)], 0, r"^1\.png: .*values 50, 100, 150, .*1, 2, .*_classes"),
        ([(0, 38, 75)], 2, "values 38, 75, which number no classes"),
        ([(0, 254)], 2, "values 254, which"),
        ([(0, 85, 170, 255)], 2, "values 85, 170, 255,"),
        (
            [(*range(1, 125, 2), 255), tuple(range(125, 251, 2))],
            0,
            r"values 1, 3, 5, 7, \.\.\., 255,",
        ),
        ([(*range(100), 255), (0, 3)], 0, r"^1\.png holds 0, 3, 0\.png is a soft foreground"),
    ],
)
def test_values_that_number_no_classes_are_refused_by_name(files, named, message):
    with pytest.raises(UserError, match=message) as error:
        meaning(*files, named=named)
    assert "\n" not in str(error.value)


def test_indices_of_a_palette_are_classes_however_few():
    assert meaning((0, 38, 75), shades=False) == ({}, False)


def test_soft_masks_make_all_of_a_folder_foreground(folder):
    for name, labels in (("one", np.arange(48) * 5), ("two", [0, 90, 140, 255] * 12)):
        mask = np.concatenate([labels, np.arange(48), [255] * 4])
        Image.new("RGB", (10, 10)).save(folder / f"{name}.png")
        (folder / f"{name}_mask.png").write_bytes(annotated.png(mask.reshape(10, 10)))
    found = read_labels(folder)
    for name, labels in zip(("one", "two"), found.labels, strict=True):
        shades = np.asarray(Image.open(folder / f"{name}_mask.png"))
        np.testing.assert_array_equal(labels, shades > 127)


def write_masks(folder, one, two, suffix=".png", **options):
    for name, values in (("one", one), ("two", two)):
        image = Image.fromarray(np.array(values, np.uint8)[TRUTH])
        image.save(folder / f"{name}_mask{suffix}", **options)


def test_values_mean_the_same_in_every_file_and_whatever_the_limit(folder):
    write_masks(folder, (0, 0, 255), (85, 170, 0))
    expected = np.array([(0, 0, 3), (1, 2, 0)])[:, TRUTH]
    np.testing.assert_array_equal(read_labels(folder).labels, expected)
    np.testing.assert_array_equal(read_labels(folder, ["a", "b", "c"]).labels, expected)
    np.testing.assert_array_equal(read_labels(folder, limit=1).labels, expected[:1])
    write_masks(folder, (0, 0, 255), (1, 2, 255))
    expected = np.array([(0, 0, 255), (1, 2, 255)])[:, TRUTH]
    np.testing.assert_array_equal(read_labels(folder).labels, expected)
    np.testing.assert_array_equal(read_labels(folder, ["a", "b"]).labels, expected)


def test_the_remedy_for_values_that_number_no_classes(folder):
    write_masks(folder, (0, 50, 150), (0, 100, 50))
    with pytest.raises(UserError, match="lines Value,Class; 0,background; 50,NAME"):
        read_labels(folder)
    (folder / "_classes.csv").write_text("Value,Class\n0,background\n50,a\n100,b\n150,c\n")
    found = read_labels(folder)
    np.testing.assert_array_equal(found.labels, np.array([(0, 1, 3), (0, 2, 1)])[:, TRUTH])


def test_lossless_webp_is_read_and_a_lossy_one_only_if_black_and_white(folder):
    write_masks(folder, (0, 1, 2), (0, 2, 1), ".webp", lossless=True)
    expected = np.array([(0, 1, 2), (0, 2, 1)])[:, TRUTH]
    np.testing.assert_array_equal(read_labels(folder).labels, expected)
    write_masks(folder, (0, 1, 2), (0, 2, 1), ".webp", quality=90)
    with pytest.raises(UserError, match=r"one_mask\.webp: JPEG and lossy WebP blur"):
        read_labels(folder)
    large = np.zeros((64, 64), np.uint8)
    large[16:48, 16:48] = 255
    for name in ("one", "two"):
        Image.new("RGB", large.shape).save(folder / f"{name}.png")
        Image.fromarray(large).save(folder / f"{name}_mask.webp", quality=90)
    np.testing.assert_array_equal(read_labels(folder).labels[0], large > 0)


def test_lossy_frames_of_an_animation_and_below_an_extended_header_are_seen():
    for options, lossy in (({"quality": 80}, True), ({"lossless": True}, False)):
        picture = Image.fromarray(np.uint8(255 * (TRUTH > 0))).convert("RGB")
        frames = [picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
        for extra in ({"icc_profile": b"odd"}, {"save_all": True, "append_images": frames}):
            buffer = io.BytesIO()
            picture.save(buffer, "WEBP", **options, **extra)
            assert b"VP8X" in buffer.getvalue()
            assert masks.decode_mask(buffer.getvalue()).lossy is lossy


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
