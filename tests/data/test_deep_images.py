"""Images of more than 8 bits a channel are seen as they are meant, or refused."""

import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from ganseg_jax.data import depth, images
from tests.data.made_images import encoded, png_of_16_bits, stored, tiff_of_16_bits

COLOURS = np.random.default_rng(0).integers(0, 4096, (6, 8, 3)).astype(np.uint16)
COLOURS[0, 0] = 4095
SEEN = COLOURS / 4095 * 255


def test_colours_of_12_bits_are_seen_and_said():
    """Pillow takes the upper eight of sixteen bits, of which a camera of 12 bits fills four."""
    data = png_of_16_bits(COLOURS)
    assert np.asarray(Image.open(io.BytesIO(data))).max() == 15
    np.testing.assert_allclose(stored(data), SEEN, atol=1)
    assert images.stored_image(data).note == "12-bit values scaled to 8 bits"
    np.testing.assert_allclose(np.asarray(images.open_photo(data).image), SEEN, atol=1)


def test_deep_images_that_are_cut_off_are_refused_unread():
    """OpenCV would make room for what the file promises."""
    data = png_of_16_bits(COLOURS)
    start = data.index(b"IDAT") - 4
    with pytest.raises(images.ImageError, match="cut off"):
        depth._check_png(data[:start] + b"\x7f\xff\xff\xff" + data[start + 4 :], 96)
    with pytest.raises(images.ImageError, match="cut off"):
        depth._check_png(data, 2**30)
    depth._check_png(data, 96)


def test_deep_images_with_transparency_are_put_on_white():
    alpha = np.full((6, 8, 1), 65535, np.uint16)
    alpha[:3] = 0
    made = stored(png_of_16_bits(np.concatenate([COLOURS, alpha], -1)))
    np.testing.assert_allclose(made[3:], SEEN[3:], atol=1)
    assert (made[:3] == 255).all()
    grey = stored(png_of_16_bits(np.concatenate([COLOURS[..., :1], alpha], -1)))
    np.testing.assert_allclose(grey[3:, :, 1], SEEN[3:, :, 0], atol=1)


@pytest.mark.parametrize(
    ("values", "note"),
    [
        (COLOURS, "12-bit values scaled to 8 bits"),
        (COLOURS * 16, "16-bit values scaled to 8 bits"),
        ((COLOURS / 4095).astype(np.float32), "floats from 0 to 1 scaled to 8 bits"),
        ((COLOURS / 4095 * 255).astype(np.float32), "floats from 0 to 255 scaled to 8 bits"),
        ((COLOURS / 819).astype(np.float32), "floats from 0 to 5 scaled to 8 bits"),
        (COLOURS[..., 0] * 16, "16-bit values scaled to 8 bits"),
        (COLOURS[..., 0].astype(np.int32), "12-bit values scaled to 8 bits"),
    ],
)
def test_deep_tiffs_are_scaled_and_it_is_said(values, note):
    if values.ndim == 3:
        plain = [cv2.IMWRITE_TIFF_COMPRESSION, 1]  # Older versions of OpenCV round floats else.
        data = cv2.imencode(".tiff", values[..., ::-1], plain)[1].tobytes()
    else:
        data = encoded(values, "TIFF")
    expected = SEEN if values.ndim == 3 else np.repeat(SEEN[..., :1], 3, -1)
    np.testing.assert_allclose(stored(data), expected, atol=1)
    assert images.stored_image(data).note == note
    assert images.image_size(data) == (6, 8)


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"colours": 5}, "a TIFF of 16-bit values in CMYK: save it as RGB"),
        ({"colours": 8}, "a TIFF of 16-bit values in Lab: save it as RGB"),
        ({"planar": 2}, "one channel behind the other .planar.: save it interleaved"),
        ({"kind": 3}, "a TIFF of 16-bit floats: save it with 32-bit floats"),
    ],
)
def test_deep_tiffs_that_would_be_misread_are_refused(tags, reason):
    with pytest.raises(images.ImageError, match=reason):
        images.stored_image(tiff_of_16_bits(COLOURS * 16, **tags))


def test_deep_tiffs_where_white_is_0():
    black_is_0 = encoded(65535 - COLOURS[..., 0] * 16, "TIFF")
    colours = [struct.pack("<HHII", 262, 3, 1, kind) for kind in (1, 0)]
    assert colours[0] in black_is_0
    np.testing.assert_allclose(stored(black_is_0.replace(*colours))[..., 0], SEEN[..., 0], atol=1)


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_of_negative_values_the_lowest_is_black(kind):
    values = COLOURS[..., 0].astype(kind) - 1000
    low, high = values.min(), values.max()
    seen = (values - low) / (high - low) * 255
    data = encoded(values, "TIFF")
    np.testing.assert_allclose(stored(data)[..., 0], seen, atol=1)
    note = f"values from {low:.4g} to {high:.4g} scaled to 8 bits"
    assert images.stored_image(data).note == note
