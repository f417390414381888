import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ganseg_jax
from ganseg_jax import load_segmenter
from ganseg_jax.data.annotations.common import paint
from ganseg_jax.data.annotations.folder import read
from ganseg_jax.errors import UserError
from ganseg_jax.jobs import segment
from ganseg_jax.report.palette import palette

RED, BLUE, WHITE = (220, 30, 30), (30, 30, 220), (255, 255, 255)


class ByColor:
    """A segmenter of 8-px images that knows its parts by their colour: red 1, blue 2."""

    image_size, batch_size, classes, colors = 8, 99, None, None

    def __init__(self):
        self.shapes = []

    def probabilities_as_seen(self, images):
        self.shapes.append(images.shape)
        near = [np.abs(images.astype(int) - c).sum(-1) < 150 for c in (RED, BLUE)]
        return np.stack([~(near[0] | near[1]), *near], -1).astype(np.float32)


def picture(height=48, width=64):
    """Red on the left, blue at the right edge (a quarter of the width), white between."""
    image = np.full((height, width, 3), WHITE, np.uint8)
    image[:, : width // 2] = RED
    image[:, -(width // 4) :] = BLUE
    return Image.fromarray(image)


@pytest.fixture
def segmented(tmp_path, capsys, monkeypatch):
    """Segments the photos of tmp_path/photos by colour; (parts.json, segmenter, errors)."""

    def run(batch_size=4):
        photos, output = tmp_path / "photos", tmp_path / "out"
        monkeypatch.setattr(segment, "BATCH_SIZE", batch_size)
        segmenter = ByColor()
        segment.segment_folder(segmenter, photos, output)
        return json.loads((output / "parts.json").read_text()), segmenter, capsys.readouterr().err

    (tmp_path / "photos").mkdir()
    return run


def test_labels_overlays_centres_and_areas(segmented, tmp_path):
    picture().save(tmp_path / "photos" / "a.png")
    parts, _, _ = segmented()
    entry = parts["photos"]["a.png"]
    assert (entry["height"], entry["width"]) == (48, 64)
    assert [p["part"] for p in entry["parts"]] == [1, 2]
    # The border of bilinear upsampling from 8 px lies exactly between two pixels.
    assert [p["area"] for p in entry["parts"]] == [48 * 32, 48 * 16]
    # Centres weigh linspace(0, 8, 8), scaled by 8: columns 0 to 3 and 6 to 7.
    expected = [(24, 64 / 7 * 1.5), (24, 64 / 7 * 6.5)]
    np.testing.assert_allclose([p["center"] for p in entry["parts"]], expected, atol=0.01)
    image = Image.open(tmp_path / "out" / "labels" / "a.png")
    assert image.mode == "P" and image.getpalette()[:9] == palette(3).ravel().tolist()
    labels = np.asarray(image)
    assert (labels[:, :32] == 1).all() and (labels[:, 48:] == 2).all()
    assert (labels[:, 32:48] == 0).all()
    overlay = np.asarray(Image.open(tmp_path / "out" / "overlays" / "a.png"))
    assert overlay.shape == (48, 64, 3)
    assert (overlay[:, 36:44] == 255).all() and (overlay[20, 10] != RED).any()


WITHOUT = """
import runpy, sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {packages}:
            raise ImportError(name + " is not installed here")

sys.meta_path.insert(0, Nothing())
sys.argv = ["segment", "--pretrained=people", "--input=photos", "--output=out"]
runpy.run_module("ganseg_jax.cli.segment", run_name="__main__", alter_sys=True)
"""


def test_a_packed_model_segments_without_jax_and_training_code(tmp_path):
    (tmp_path / "photos").mkdir()
    picture(90, 70).save(tmp_path / "photos" / "a.png")
    packages = {"jax", "jaxlib", "flax", "optax", "orbax", "clu", "grain", "cv2", "scipy"}
    packages |= {"tensorflow_datasets", "tensorboardX", "matplotlib", "sklearn", "safetensors"}
    root = Path(ganseg_jax.__file__).parents[1]
    subprocess.run(
        [sys.executable, "-c", WITHOUT.format(packages=packages)],
        check=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    labels = np.asarray(Image.open(tmp_path / "out" / "labels" / "a.png"))
    image = np.asarray(picture(90, 70))[None]
    expected = load_segmenter("people", engine="jax")(image)[0]
    assert (labels == expected).mean() > 0.999


def test_photos_of_all_sizes_go_through_one_shape(segmented, tmp_path):
    sizes = {"a": (9, 5), "b": (700, 520), "c": (48, 64), "d": (2, 300), "e": (8, 8)}
    for name, (height, width) in sizes.items():
        picture(height, width).save(tmp_path / "photos" / f"{name}.png")
    parts, segmenter, _ = segmented(batch_size=2)
    assert segmenter.shapes == [(2, 8, 8, 3)] * 3
    for name, (height, width) in sizes.items():
        labels = np.asarray(Image.open(tmp_path / "out" / "labels" / f"{name}.png"))
        assert labels.shape == (height, width)
        areas = [p["area"] for p in parts["photos"][f"{name}.png"]["parts"]]
        assert areas == [(labels == 1).sum(), (labels == 2).sum()]
    overlay = Image.open(tmp_path / "out" / "overlays" / "b.png")
    assert overlay.size == (380, 512)
    assert Image.open(tmp_path / "out" / "sheet.png").width > 5 * 160


def test_odd_images_are_read_as_in_data_preparation(segmented, tmp_path):
    photos = tmp_path / "photos"
    turned = Image.Exif()
    turned[0x0112] = 6  # To be shown turned clockwise: the left edge is shown at the top.
    picture().save(photos / "turned.jpg", exif=turned, quality=95)
    picture().convert("P", palette=Image.Palette.ADAPTIVE).save(photos / "indexed.png")
    picture().convert("L").save(photos / "grey.png")
    clear = picture().convert("RGBA")
    clear.putalpha(Image.fromarray(np.repeat(np.uint8([[255] * 32 + [0] * 32]), 48, 0)))
    clear.save(photos / "clear.png")
    parts, _, _ = segmented()
    areas = {n: [p["area"] for p in e["parts"]] for n, e in parts["photos"].items()}
    assert areas["grey.png"] == [0, 0]
    assert areas["indexed.png"] == [48 * 32, 48 * 16]
    assert areas["clear.png"] == [48 * 32, 0]  # What was transparent is white.
    turned = np.asarray(Image.open(tmp_path / "out" / "labels" / "turned.png"))
    assert turned.shape == (64, 48)
    assert (turned[:30] == 1).all() and (turned[-14:] == 2).all()


def test_masks_beside_photos_are_no_photos(segmented, tmp_path):
    for number in range(3):
        for kind in ("images", "Labels"):
            (tmp_path / "photos" / kind).mkdir(exist_ok=True)
        picture().save(tmp_path / "photos" / "images" / f"{number}.jpg")
        picture().convert("1").save(tmp_path / "photos" / "Labels" / f"{number}.png")
    parts, _, errors = segmented()
    assert list(parts["photos"]) == [f"images/{number}.jpg" for number in range(3)]
    assert not parts["skipped"]
    assert "photos/Labels: 3 masks\nphotos/images: 3 photos\n" in errors


def test_an_archive_is_read_and_named(tmp_path, monkeypatch):
    place, archive = tmp_path / "photos", tmp_path / "photos.tar.gz"
    (place / "images").mkdir(parents=True)
    (place / "masks").mkdir()
    picture().save(place / "images/a.png")
    picture().convert("1").save(place / "masks/a.png")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(place, "set")
    content = segment.segment_folder(ByColor(), archive, tmp_path / "out")
    assert list(content["photos"]) == ["set/images/a.png"]
    assert (tmp_path / "out/labels/set/images/a.png").exists()
    (place / "images/a.png").write_bytes(b"none")
    (place / "masks/a.png").unlink()
    for name, packed in (("broken", "images"), ("nothing", "masks")):
        with tarfile.open(tmp_path / f"{name}.tar", "w") as tar:
            tar.add(place / packed, packed)
    for name, message in (
        ("broken.tar", "no photo in .*/broken.tar can be read .images/a.png: not an image"),
        ("nothing.tar", "/nothing.tar has no images"),
        ("x.bin", "x.bin is neither a folder nor a complete tar archive; unpack it"),
    ):
        (tmp_path / "x.bin").write_bytes(b"PK")
        with pytest.raises(UserError, match=message):
            segment.segment_folder(ByColor(), tmp_path / name, tmp_path / "out2")
    assert not list((tmp_path / "scratch").iterdir())


def test_few_shot_needs_a_name_and_a_workdir(entry_point, tmp_path):
    given = {"input": tmp_path, "output": tmp_path / "out"}
    with pytest.raises(UserError, match="--few_shot=x is a folder of a workdir: give --workdir"):
        entry_point("segment", pretrained="people", few_shot="x", **given).main()
    for name in ("segment", "project"):
        with pytest.raises(UserError, match="--few_shot is empty: name a folder"):
            entry_point(name, workdir=tmp_path, few_shot="", **given).main()


def test_raw_files_and_too_many_pixels_are_refused_by_name(segmented, tmp_path):
    photos = tmp_path / "photos"
    picture().save(photos / "a.jpg")
    picture(1100, 1000).save(photos / "large.png")
    Image.fromarray(np.full((8, 8), 4095, np.uint16)).save(photos / "deep.png")
    (photos / "b.NEF").write_bytes((photos / "a.jpg").read_bytes())
    content = segment.segment_folder(ByColor(), photos, tmp_path / "out", max_megapixels=1)
    assert list(content["photos"]) == ["a.jpg", "deep.png"]
    assert "export it as JPEG" in content["skipped"]["b.NEF"]
    assert "max_megapixels=1" in content["skipped"]["large.png"]
    with pytest.raises(UserError, match="b.NEF: .nef is a camera's raw file"):
        segment.segment_folder(ByColor(), photos / "b.NEF", tmp_path / "out")
    assert "1 photos: 12-bit values scaled to 8 bits" in segmented()[2]


def test_unreadable_files_are_named_and_skipped(segmented, tmp_path):
    photos = tmp_path / "photos"
    picture().save(photos / "good.png")
    whole = (photos / "good.png").read_bytes()
    (photos / "cut.png").write_bytes(whole[: len(whole) // 2])
    (photos / "text.jpg").write_text("no picture")
    (photos / "empty.webp").touch()
    parts, _, errors = segmented()
    assert list(parts["photos"]) == ["good.png"]
    assert sorted(parts["skipped"]) == ["cut.png", "empty.webp", "text.jpg"]
    assert "skipped text.jpg: not an image" in errors
    assert "skipped empty.webp: the file is empty" in errors
    assert not (tmp_path / "out" / "labels" / "cut.png").exists()


def test_nothing_readable_is_a_mistake_that_writes_nothing(segmented, tmp_path):
    (tmp_path / "photos" / "text.jpg").write_text("no picture")
    with pytest.raises(UserError, match=r"no photo in .* \(text.jpg: not an image\)"):
        segmented()
    assert not (tmp_path / "out").exists()


def test_folders_are_kept_and_masks_left_alone(segmented, tmp_path):
    photos = tmp_path / "photos"
    for name in ("a.png", "a.jpg", "sub/a.png", "masks/a.png", "b_mask.png", ".hidden.png"):
        (photos / name).parent.mkdir(exist_ok=True)
        picture().save(photos / name)
    parts, _, _ = segmented()
    assert sorted(parts["photos"]) == ["a.jpg", "a.png", "sub/a.png"]
    labels = tmp_path / "out" / "labels"
    written = sorted(p.relative_to(labels).as_posix() for p in labels.rglob("*.png"))
    assert written == ["a.jpg.png", "a.png.png", "sub/a.png"]


def test_a_trained_workdir_and_a_single_photo(entry_point, workdir, tmp_path):
    coarse = np.random.default_rng(0).integers(0, 256, (5, 5, 3), np.uint8)
    photo = Image.fromarray(coarse).resize((40, 24), Image.Resampling.BICUBIC)
    photo.save(tmp_path / "photo.png")
    output = tmp_path / "out"
    entry_point("segment", workdir=workdir, input=tmp_path / "photo.png", output=output).main()
    labels = np.asarray(Image.open(output / "labels" / "photo.png"))
    segmenter = load_segmenter(workdir)
    images = np.asarray(photo)[None]
    np.testing.assert_array_equal(labels, segmenter(images)[0])
    entry = json.loads((output / "parts.json").read_text())["photos"]["photo.png"]
    centers = [p["center"] for p in entry["parts"]]
    np.testing.assert_allclose(centers, segmenter.part_centers(images)[0], atol=0.7)


def test_results_for_labelling_tools_are_the_label_maps(tmp_path):
    (tmp_path / "photos" / "sub").mkdir(parents=True)
    picture().save(tmp_path / "photos" / "a.png")
    picture(30, 20).save(tmp_path / "photos" / "sub" / "b.png")
    formats = ["coco", "cvat", "label_studio", "labelme"]
    out = tmp_path / "out"
    segment.segment_folder(ByColor(), tmp_path / "photos", out, formats=formats)
    for kind in formats:
        found = read(out / kind, ["a.png", "sub/b.png"])
        (annotations,) = found.values()
        assert annotations.classes == ["part 1", "part 2"]
        for name in ("a", "sub/b"):
            labels = np.asarray(Image.open(out / "labels" / f"{name}.png"))
            drawing = annotations.drawings[f"{name}.png"]
            np.testing.assert_array_equal(paint(drawing, labels.shape, annotations.classes), labels)


def test_formats_that_are_not_known_are_named(entry_point, tmp_path):
    picture().save(tmp_path / "a.png")
    given = {"workdir": "none", "input": tmp_path / "a.png", "output": tmp_path / "out"}
    with pytest.raises(UserError, match="--format=voc is not known: give some of coco, cvat"):
        entry_point("segment", format="voc", **given).main()


def test_a_few_shot_network_names_its_parts(entry_point, workdir, few_shot, tmp_path):
    (tmp_path / "photos").mkdir()
    picture().save(tmp_path / "photos" / "a.png")
    picture(30, 20).save(tmp_path / "photos" / "b.png")
    given = {"workdir": workdir, "input": tmp_path / "photos", "output": tmp_path / "out"}
    entry_point("segment", few_shot=few_shot, **given).main()
    photos = json.loads((tmp_path / "out" / "parts.json").read_text())["photos"]
    for entry in photos.values():
        assert [(p["part"], p["name"]) for p in entry["parts"]] == [(1, "round"), (2, "long")]
    labels = np.asarray(Image.open(tmp_path / "out" / "labels" / "a.png"))
    segmenter = load_segmenter(workdir / few_shot)
    np.testing.assert_array_equal(labels, segmenter(np.asarray(picture())[None])[0])
    # The legend is above the sheet that there is without names.
    assert Image.open(tmp_path / "out" / "sheet.png").height == 22 + 2 * (160 + 3) + 18 + 3


def test_a_missing_few_shot_network_is_named(entry_point, workdir, tmp_path):
    picture().save(tmp_path / "a.png")
    given = {"workdir": workdir, "input": tmp_path / "a.png", "output": tmp_path / "out"}
    with pytest.raises(UserError, match="none holds no few-shot result"):
        entry_point("segment", few_shot="none", **given).main()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("source", "output", "message"),
    [
        ("missing", "out", "does not exist"),
        ("empty", "out", "has no images"),
        ("photos", "photos/out", "lies in"),
        ("photos", "photos/a.png", "is a file"),
    ],
)
def test_folders_that_do_not_fit(entry_point, tmp_path, source, output, message):
    (tmp_path / "photos").mkdir()
    (tmp_path / "empty").mkdir()
    picture().save(tmp_path / "photos" / "a.png")
    module = entry_point(
        "segment", workdir="none", input=tmp_path / source, output=tmp_path / output
    )
    with pytest.raises(UserError, match=message):
        module.main()


def test_a_mistake_is_one_line_and_exit_code_2(tmp_path):
    picture().save(tmp_path / "a.png")
    command = [sys.executable, "-m", "experiments.segment", f"--workdir={tmp_path}"]
    command += [f"--input={tmp_path / 'a.png'}", f"--output={tmp_path / 'out'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path} has no config.json")
    assert done.stderr.count("\n") == 1 and not (tmp_path / "out").exists()
