"""Odd image files become plain RGB, damaged ones are told from good ones."""

import io
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile, features

from ganseg_jax import pixels
from ganseg_jax.data import images
from tests.data import annotated
from tests.data.made_images import chunk, encoded, png_of_16_bits, stored, tiff_of_16_bits


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
def test_plain_files_are_kept_byte_for_byte(picture, file_format):
    data = picture(file_format=file_format)
    assert images.stored_image(data) == (data, 24, 20, "")


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
    np.testing.assert_array_equal(annotated.read_label_map(buffer.getvalue()), [[0, 1]])


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
    kept, height, width, _ = images.stored_image(data, camera_rotation=False)
    assert kept == data and images.image_size(data, camera_rotation=False) == (height, width)


def test_large_images_are_downsized_without_distortion():
    rows = np.linspace(0, 255, 300).astype(np.uint8)
    data = encoded(np.repeat(rows[:, None, None], 900, axis=1).repeat(3, axis=2))
    kept, height, width, _ = images.stored_image(data, max_side=90)
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


def test_the_limit_of_pixels_is_ours(picture, monkeypatch):
    data = picture(1200, 1000)
    for read in (images.stored_image, images.open_photo):
        with pytest.raises(images.ImageError, match="1.2 megapixels, more than max_megapixels=1:"):
            read(data, max_megapixels=1)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    assert images.stored_image(data).height == 512 and Image.MAX_IMAGE_PIXELS == 200


@pytest.mark.parametrize("size", [(2**20, 2**15), (1, 2**27), (4000, 4000)])
@pytest.mark.parametrize("read", [images.upright_size, images.stored_image, images.open_image])
def test_a_png_that_promises_more_than_it_holds_is_not_decoded(monkeypatch, read, size):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0))
    rest = chunk(b"IDAT", zlib.compress(bytes(61))) + chunk(b"IEND", b"")
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(images.ImageError, match="megapixels|sides may have|is cut off"):
        read(b"\x89PNG\r\n\x1a\n" + head + rest)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "JPEG", "BMP", "PPM"])
def test_blank_images_are_not_taken_for_cut_off_ones(kind):
    blank = encoded(
        np.zeros((4000, 4000), bool), kind, **{"optimize": True} if kind == "PNG" else {}
    )
    assert images.upright_size(blank) == (4000, 4000)


def test_label_maps():
    labels = np.array([[0, 1, 2], [5, 0, 200]], np.uint8)
    grey = np.minimum(labels, 20)
    np.testing.assert_array_equal(annotated.read_label_map(encoded(grey)), grey)
    np.testing.assert_array_equal(
        annotated.read_label_map(encoded(np.repeat(grey[..., None], 3, axis=-1))), grey
    )
    palette = Image.fromarray(labels).convert("P")
    palette.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    palette.frombytes(labels.tobytes())
    buffer = io.BytesIO()
    palette.save(buffer, "PNG")
    np.testing.assert_array_equal(annotated.read_label_map(buffer.getvalue()), labels)


def test_foreground_masks_become_label_one():
    binary = np.array([[0, 255], [255, 255]], np.uint8)
    np.testing.assert_array_equal(annotated.read_label_map(encoded(binary)), binary // 255)
    full = np.full((3, 3), 255, np.uint8)
    np.testing.assert_array_equal(annotated.read_label_map(encoded(full)), np.ones((3, 3)))
    soft = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(annotated.read_label_map(encoded(soft)), soft > 127)
    np.testing.assert_array_equal(annotated.read_label_map(encoded(binary > 0)), binary // 255)


def test_colored_or_wide_label_maps_are_refused(picture):
    with pytest.raises(images.ImageError, match="colors"):
        annotated.read_label_map(picture())
    with pytest.raises(images.ImageError, match="up to 255"):
        annotated.read_label_map(encoded(np.array([[0, 3000]], np.uint16)))


def test_resized_labels_stay_aligned_with_the_image():
    labels = np.zeros((40, 60), np.uint8)
    labels[10:20, 30:45] = 3
    image = Image.fromarray(np.repeat(labels[..., None] * 80, 3, axis=-1))
    small = np.asarray(image.resize((20, 20), Image.Resampling.BILINEAR))[..., 0]
    resized = pixels.resize_labels(labels, 20, 20)
    np.testing.assert_array_equal(resized == 3, small > 120)
    np.testing.assert_array_equal(np.unique(pixels.resize_labels(labels, 7, 9)), [0, 3])


@pytest.mark.parametrize("file_format", ["TIFF", "PNG"])
def test_of_several_pictures_the_first_is_taken_and_it_is_said(file_format):
    pages = [Image.new("RGB", (8, 8), (grey, 0, 0)) for grey in (40, 200)]
    buffer = io.BytesIO()
    pages[0].save(buffer, file_format, save_all=True, append_images=pages[1:])
    assert (stored(buffer.getvalue())[..., 0] == 40).all()
    note = {"TIFF": "several pages", "PNG": "frame of an animation"}[file_format]
    assert note in images.stored_image(buffer.getvalue()).note


@pytest.mark.parametrize("file_format", ["PPM", "GIF", "TIFF", "AVIF", "MPO"])
def test_more_formats(file_format):
    if file_format == "AVIF" and "avif" not in features.get_supported():
        pytest.skip("this Pillow has no AVIF")
    colours = np.zeros((32, 48, 3), np.uint8)
    colours[:, :24] = 204
    made = stored(encoded(colours, file_format))
    np.testing.assert_allclose(made, colours, atol=6)


def test_of_an_animation_the_first_frame_is_taken_and_it_is_said():
    frames = [Image.new("L", (8, 8), grey) for grey in (40, 200)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    assert (stored(buffer.getvalue()) == 40).all()
    assert images.stored_image(buffer.getvalue()).note == "the first frame of an animation"


def test_heic():
    pillow_heif = pytest.importorskip("pillow_heif")
    colours = np.full((64, 96, 3), (200, 100, 50), np.uint8)
    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(colours)).save(buffer)
    np.testing.assert_allclose(stored(buffer.getvalue()), colours, atol=6)
    assert images.image_size(buffer.getvalue()) == (64, 96)


def test_heic_without_its_library_names_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(images.ImageError, match=r'pip install "ganseg-jax\[heic\]"'):
        images._open_otherwise(b"\0\0\0\x18ftypheic" + b"\0" * 20)


TURNS = {1: 0, 3: 2, 6: -1, 8: 1}
"""Quarter turns to the left by which a viewer shows each orientation."""


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "deep PNG", "TIFF", "grey TIFF", "deep TIFF"])
def test_every_format_is_upright(orientation, kind):
    grey = np.linspace(0, 250, 32 * 48).reshape(32, 48)
    colours = np.repeat(grey[..., None], 3, -1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    if kind == "deep PNG":
        data = png_of_16_bits((colours * 257).astype(np.uint16), orientation)
    elif kind == "deep TIFF":
        data = tiff_of_16_bits(colours * 257, orientation)
    elif kind == "grey TIFF":
        values = (grey * 257).astype(np.uint16)
        data = encoded(values, "TIFF", tiffinfo={0x0112: orientation})
    elif kind == "TIFF":
        data = encoded(colours.astype(np.uint8), "TIFF", tiffinfo={0x0112: orientation})
    else:
        data = encoded(colours.astype(np.uint8), kind, exif=exif)
    upright = np.rot90(colours, TURNS[orientation])
    np.testing.assert_allclose(stored(data), upright, atol=4)
    photo = images.open_photo(data)
    np.testing.assert_allclose(np.asarray(photo.image), upright, atol=4)
    assert (photo.height, photo.width) == images.image_size(data) == upright.shape[:2]


@pytest.mark.parametrize("orientation", TURNS)
def test_a_reduced_photo_is_upright_and_knows_its_size(orientation):
    grey = np.linspace(0, 250, 400)[:, None] * np.ones(1600) * 0.5 + np.linspace(0, 120, 1600)
    colours = np.repeat(grey[..., None], 3, -1).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(colours, "JPEG", exif=exif)
    upright = np.rot90(colours, TURNS[orientation])
    photo = images.open_photo(data, longest=200)
    assert (photo.height, photo.width) == upright.shape[:2]
    assert photo.image.size == tuple(side // 4 for side in upright.shape[1::-1])
    np.testing.assert_allclose(np.asarray(photo.image), upright[2::4, 2::4], atol=4)
    kept = images.stored_image(data, max_side=200)
    assert max(kept.height, kept.width) == 200
    step = 8
    np.testing.assert_allclose(
        images.decode_rgb(kept.data), upright[step // 2 :: step, step // 2 :: step], atol=4
    )


def test_the_sides_that_are_needed_are_kept():
    data = encoded(np.zeros((160, 3200, 3), np.uint8), "JPEG")
    assert images.open_photo(data, longest=300).image.size == (800, 40)
    assert images.open_photo(data, longest=300, shortest=64).image.size == (3200, 160)
    assert images.open_photo(data).image.size == (3200, 160)


@pytest.mark.parametrize("name", ["a.DNG", "b.cr2", "c.cr3", "d.NEF", "e.arw", "f.rw2"])
def test_raw_files_are_refused_with_a_remedy(name):
    assert "raw file: export it as JPEG or TIFF" in images.refusal(name)
    assert not images.is_image(name) and images.is_image("a.JFIF") and not images.refusal("a.txt")
