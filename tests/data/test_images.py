"""Odd image files become plain RGB, damaged ones are told from good ones."""

import io

import numpy as np
import pytest
from PIL import Image

from ganseg_jax import pixels
from ganseg_jax.data import images, masks


def encoded(array, file_format="PNG", mode=None, **options) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(buffer, file_format, **options)
    return buffer.getvalue()


def stored(data: bytes, **options) -> np.ndarray:
    kept, height, width = images.stored_image(data, **options)
    with Image.open(io.BytesIO(kept)) as image:
        assert image.mode == "RGB" and image.format in ("JPEG", "PNG")
    decoded = images.decode_rgb(kept)
    assert decoded.shape == (height, width, 3) and decoded.dtype == np.uint8
    return decoded


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
def test_plain_files_are_kept_byte_for_byte(picture, file_format):
    data = picture(file_format=file_format)
    assert images.stored_image(data) == (data, 24, 20)


@pytest.mark.parametrize("file_format", ["WEBP", "BMP"])
def test_other_formats_are_converted(picture, file_format):
    options = {"lossless": True} if file_format == "WEBP" else {}
    data = picture(file_format=file_format, **options)
    np.testing.assert_array_equal(stored(data), images.decode_rgb(picture()))


def test_grey_and_bilevel():
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
    np.testing.assert_array_equal(stored(encoded(grey)), np.repeat(grey[..., None], 3, axis=-1))
    bilevel = np.eye(6, dtype=bool)
    np.testing.assert_array_equal(stored(encoded(bilevel))[..., 0], bilevel * 255)


def test_sixteen_bit_grey_is_scaled_not_clipped():
    grey = np.array([[0, 257, 25700], [32768, 65535, 514]], np.uint16)
    np.testing.assert_array_equal(stored(encoded(grey))[..., 1], [[0, 1, 100], [128, 255, 2]])


@pytest.mark.parametrize("highest", [1023, 4095, 16383])
def test_grey_of_10_to_14_bits_is_seen(highest):
    grey = np.array([[0, highest // 2, highest]], np.uint16)
    np.testing.assert_allclose(stored(encoded(grey))[..., 0], [[0, 127.5, 255]], atol=1)


def test_grey_of_floats_is_seen():
    for white in (1.0, 255.0):
        grey = np.array([[0, 0.25, 1]], np.float32) * np.float32(white)
        made = stored(encoded(grey, "TIFF"))[..., 0]
        np.testing.assert_allclose(made, [[0, 63.75, 255]], atol=1)


def test_palette_masks_of_0_and_255_are_foreground_masks():
    image = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("P")
    buffer = io.BytesIO()
    image.putdata([0, 255])
    image.save(buffer, "PNG")
    np.testing.assert_array_equal(masks.read_label_map(buffer.getvalue()), [[0, 1]])


def test_palette_with_transparent_color():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    np.testing.assert_array_equal(stored(buffer.getvalue()), [[[10, 20, 30], [200, 100, 50]]])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=1)
    np.testing.assert_array_equal(stored(buffer.getvalue()), [[[10, 20, 30], [255, 255, 255]]])


def test_alpha_is_put_on_white():
    rgba = np.array([[[100, 0, 0, 255], [100, 0, 0, 0], [100, 0, 0, 128]]], np.uint8)
    out = stored(encoded(rgba))
    np.testing.assert_array_equal(out[0, :2], [[100, 0, 0], [255, 255, 255]])
    np.testing.assert_allclose(out[0, 2], [177, 127, 127], atol=1)
    grey_alpha = np.array([[[7, 255], [7, 0]]], np.uint8)
    np.testing.assert_array_equal(stored(encoded(grey_alpha))[0, :, 0], [7, 255])


def test_transparent_color_of_a_png():
    rgb = np.array([[[1, 2, 3], [9, 9, 9]]], np.uint8)
    out = stored(encoded(rgb, transparency=(9, 9, 9)))
    np.testing.assert_array_equal(out, [[[1, 2, 3], [255, 255, 255]]])


def test_cmyk_jpeg(picture):
    cmyk = stored(picture(mode="CMYK", file_format="JPEG", quality=95))
    assert np.abs(cmyk.astype(int) - images.decode_rgb(picture())).mean() < 8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_rotation_noted_by_the_camera_is_carried_out(orientation):
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16] = 250  # the bright quarter is at the top left
    undo = {
        **{1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1]},
        **{4: lambda a: a[::-1], 5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, 1)},
        **{7: lambda a: a[::-1, ::-1].swapaxes(0, 1), 8: lambda a: np.rot90(a, -1)},
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(np.ascontiguousarray(undo(upright)), "JPEG", quality=95, exif=exif)
    out = stored(data)
    assert images.image_size(data) == (16, 32) == out.shape[:2]
    assert np.abs(out.astype(int) - upright).mean() < 6
    kept, height, width = images.stored_image(data, camera_rotation=False)
    assert kept == data and images.image_size(data, camera_rotation=False) == (height, width)


def test_large_images_are_downsized_without_distortion():
    rows = np.linspace(0, 255, 300).astype(np.uint8)
    data = encoded(np.repeat(rows[:, None, None], 900, axis=1).repeat(3, axis=2))
    kept, height, width = images.stored_image(data, max_side=90)
    assert (height, width) == (30, 90)
    np.testing.assert_allclose(images.decode_rgb(kept)[:, 40, 0], rows[5::10], atol=3)


def test_large_jpeg_decoded_at_a_fraction_of_its_size():
    rows = np.linspace(0, 255, 800).astype(np.uint8)
    data = encoded(np.repeat(rows[:, None, None], 1600, axis=1).repeat(3, axis=2), "JPEG")
    out = stored(data, max_side=80)
    assert out.shape == (40, 80, 3)
    np.testing.assert_allclose(out[:, 40, 0], rows[10::20], atol=4)


def test_damaged_files_are_refused(picture):
    data = picture(file_format="JPEG")
    cases = {b"": "empty", b"hello": "not an image", data[:-90]: "truncated"}
    png = picture()
    cases[png[:-40]] = "."
    cases[data[:30]] = "."
    for bad, reason in cases.items():
        with pytest.raises(images.ImageError, match=reason):
            images.stored_image(bad)


def test_enormous_image_is_refused(picture, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    with pytest.raises(images.ImageError, match="480 pixels"):
        images.stored_image(picture())


def test_label_maps():
    labels = np.array([[0, 1, 2], [5, 0, 200]], np.uint8)
    np.testing.assert_array_equal(masks.read_label_map(encoded(labels)), labels)
    np.testing.assert_array_equal(
        masks.read_label_map(encoded(np.repeat(labels[..., None], 3, axis=-1))), labels
    )
    palette = Image.fromarray(labels).convert("P")
    palette.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    palette.frombytes(labels.tobytes())
    buffer = io.BytesIO()
    palette.save(buffer, "PNG")
    np.testing.assert_array_equal(masks.read_label_map(buffer.getvalue()), labels)


def test_foreground_masks_become_label_one():
    binary = np.array([[0, 255], [255, 255]], np.uint8)
    np.testing.assert_array_equal(masks.read_label_map(encoded(binary)), binary // 255)
    full = np.full((3, 3), 255, np.uint8)
    np.testing.assert_array_equal(masks.read_label_map(encoded(full)), np.ones((3, 3)))
    soft = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(masks.read_label_map(encoded(soft)), soft > 127)
    np.testing.assert_array_equal(masks.read_label_map(encoded(binary > 0)), binary // 255)


def test_colored_or_wide_label_maps_are_refused(picture):
    with pytest.raises(images.ImageError, match="colors"):
        masks.read_label_map(picture())
    with pytest.raises(images.ImageError, match="up to 255"):
        masks.read_label_map(encoded(np.array([[0, 3000]], np.uint16)))


def test_resized_labels_stay_aligned_with_the_image():
    labels = np.zeros((40, 60), np.uint8)
    labels[10:20, 30:45] = 3
    image = Image.fromarray(np.repeat(labels[..., None] * 80, 3, axis=-1))
    small = np.asarray(image.resize((20, 20), Image.Resampling.BILINEAR))[..., 0]
    resized = pixels.resize_labels(labels, 20, 20)
    np.testing.assert_array_equal(resized == 3, small > 120)
    np.testing.assert_array_equal(np.unique(pixels.resize_labels(labels, 7, 9)), [0, 3])
