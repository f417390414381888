"""Odd photos get the same answer from `check`, `segment` and the preparation of a training."""

import io

import numpy as np
import pytest
from PIL import Image

from ganseg_jax.data import prepare
from ganseg_jax.jobs.check import check
from ganseg_jax.jobs.segment import segment_folder
from ganseg_jax.segmenter import Segmenter

PICTURE = np.random.default_rng(0).integers(0, 256, (24, 20, 3), np.uint8)


def encoded(image, file_format, **options):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, file_format, **options)
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    pages = {"save_all": True, "append_images": [Image.new("RGB", (20, 24))]}
    deep = PICTURE[..., 0].astype(np.int32)
    png = encoded(PICTURE, "PNG")
    contents = {
        "plain.jpg": encoded(PICTURE, "JPEG"),
        "wrong.jpg": png,
        "deep.tif": encoded(deep * 257, "TIFF"),
        "negative.tif": encoded(deep - 100, "TIFF"),
        "floats.tif": encoded(deep.astype(np.float32) / 255, "TIFF"),
        "pages.tif": encoded(PICTURE, "TIFF", **pages),
        "moving.gif": encoded(PICTURE, "GIF", **pages),
        "cut.png": png[: len(png) // 2],
        "empty.jpg": b"",
        "text.jpg": b"<!DOCTYPE html>",
        "raw.NEF": b"II*\0",
        "wide.png": encoded(np.zeros((1001, 1000, 3), np.uint8), "PNG"),
    }
    (tmp_path / "photos").mkdir()
    for name, content in contents.items():
        (tmp_path / "photos" / name).write_bytes(content)
    return tmp_path / "photos"


def test_odd_photos(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        Segmenter, "probabilities_as_seen", lambda self, x: np.full((*x.shape[:3], 2), 0.5)
    )

    class Two:
        num_classes = 2

    checked = check(folder, max_megapixels=1, progress=False)
    segmented = segment_folder(Segmenter(Two(), {}, 8), folder, tmp_path / "out", 1)
    printed = capsys.readouterr().err
    prepared = prepare.prepare("image_folder", folder, tmp_path / "data", max_megapixels=1)

    assert set(checked.photos) == set(segmented["photos"])
    assert len(checked.photos) == 7 and sum(prepared.counts.values()) == 7
    assert checked.skipped == segmented["skipped"] == dict(prepared.skipped)
    assert set(checked.skipped) == {"cut.png", "empty.jpg", "text.jpg", "raw.NEF", "wide.png"}
    assert checked.notes == prepared.notes and len(checked.notes) == 5
    for note, count in checked.notes.items():
        assert f"{count} photos: {note}" in printed
        assert f"{count} photos: {note}" in "\n".join(checked.lines(16))
    for name, why in checked.skipped.items():
        assert f"skipped {name}: {why}" in printed
    assert "7 photos, 0 of them with masks (for measuring only); 5 skipped" in checked.lines(16)
