"""What `ganseg segment` and `info` give beside label maps, with the packed model."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from ganseg_jax import load_generator, load_segmenter, packed
from ganseg_jax.data import gather
from ganseg_jax.data.folder import Photos
from ganseg_jax.errors import UserError
from ganseg_jax.jobs import arriving, familiar, info, outputs, segment, video

SIZES = {"a.png": (48, 64), "b.png": (90, 30)}


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def people():
    segmenter = load_segmenter("people")
    segmenter.refine = False
    return segmenter


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "in").mkdir()
    for name, (height, width) in SIZES.items():
        Image.fromarray(noise(height, width)).save(tmp_path / "in" / name)
    return tmp_path / "in"


def test_cutouts_and_table_agree_with_the_labels(people, photos, tmp_path):
    output = tmp_path / "out"
    content = segment.segment_folder(people, photos, output, formats=["cutouts"])
    rows = list(csv.DictReader(io.StringIO((output / "parts.csv").read_text())))
    assert len(rows) == 2 * 6 and tuple(rows[0]) == outputs.COLUMNS
    for name, (height, width) in SIZES.items():
        picture = np.asarray(Image.open(photos / name))
        labels = np.asarray(Image.open(output / "labels" / name))
        for part in range(1, 7):
            (row,) = [r for r in rows if (r["photo"], r["part"]) == (name, str(part))]
            inside = labels == part
            assert int(row["area"]) == inside.sum()
            assert float(row["share"]) == pytest.approx(inside.sum() / height / width, abs=1e-6)
            path = output / "cutouts" / name / f"part_{part}.png"
            assert path.exists() == bool(inside.any())
            if inside.any():
                cut = np.asarray(Image.open(path))
                assert (cut[..., 3] == 255).sum() == inside.sum()
                shown = cut[cut[..., 3] > 0][:, :3]
                assert (np.sort(shown, 0) == np.sort(picture[inside], 0)).all()
    assert json.loads((output / "parts.json").read_text()) == content


def test_parts_of_alike_names_are_cut_out_to_files_of_their_own(photos, tmp_path):
    labels = np.zeros(SIZES["a.png"], int)
    labels[:20], labels[30:] = 1, 2
    outputs.Cutouts(photos, tmp_path / "cut", ["left/arm", "left arm"]).add(
        "a.png", labels, "a.png"
    )
    heights = {p.name: Image.open(p).height for p in (tmp_path / "cut" / "a.png").iterdir()}
    assert heights == {"left_arm.png": 20, "left_arm_.png": 18}


def test_a_video_keeps_its_frames(people, tmp_path):
    import cv2

    path = tmp_path / "walk.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (48, 64))
    for seed in range(video.BATCH_SIZE + 3):
        writer.write(noise(64, 48, seed))
    writer.release()
    assert video.segment_video(people, path, tmp_path / "out") == video.BATCH_SIZE + 3
    capture = cv2.VideoCapture(str(tmp_path / "out" / "walk_parts.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == video.BATCH_SIZE + 3
    assert capture.get(cv2.CAP_PROP_FPS) == 10
    rows = list(csv.DictReader((tmp_path / "out" / "walk_parts.csv").open()))
    assert len(rows) == 6 * (video.BATCH_SIZE + 3)
    assert rows[-1]["frame"] == str(video.BATCH_SIZE + 2) and rows[-1]["seconds"] == "1.800"
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(UserError, match="no video that can be read"):
        video.segment_video(people, tmp_path / "bad.mp4", tmp_path / "out")
    assert not (tmp_path / "out" / "bad_parts.mp4").exists()


def test_photos_that_arrive_are_segmented_once(photos, tmp_path):
    seen = []

    def run(found: Photos, before):
        seen.append(found.names)
        if len(seen) == 1:
            Image.fromarray(noise(8, 8)).save(photos / "late.png")
        entry = {"height": 8, "width": 8, "parts": [{"part": 1, "center": [1, 2], "area": 3}]}
        return {"photos": dict.fromkeys(found.names, entry), "skipped": {}}

    output = tmp_path / "out"
    assert arriving.segment_arriving(photos, output, run, seconds=0, rounds=6) == 3
    assert seen == [["a.png", "b.png"], ["late.png"]]
    assert set(json.loads((output / "parts.json").read_text())["photos"]) == {*SIZES, "late.png"}
    assert len((output / "parts.csv").read_text().splitlines()) == 1 + 3
    assert arriving.segment_arriving(photos, output, run, seconds=0, rounds=3) == 0


def test_photos_of_one_name_that_arrive_have_results_of_their_own(people, tmp_path):
    """Each photo is one colour, so that its results can be told from the others'."""
    source, output = tmp_path / "in", tmp_path / "out"
    coming = ["a.png", "a.jpg", "sub/a.png", "a.png.jpg", "sub/a.bmp", "a_.png", "b.png"]
    shapes = {name: (20 + number, 30 - number) for number, name in enumerate(coming)}
    waiting = list(coming)

    def arrive(*_):
        if waiting:
            path = source / (name := waiting.pop(0))
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise(*shapes[name])).save(path)

    def run(found: Photos, before):
        made = segment.segment_folder(people, found, output, formats=["labelme"], before=before)
        arrive()
        return made

    arrive()
    for _ in coming:  # Started anew each time.
        arriving.segment_arriving(source, output, run, seconds=0, rounds=2)
    entries = json.loads((output / "parts.json").read_text())["photos"]
    assert set(entries) == set(coming)
    named = {name: entry.get("file", name[:-4] + ".png") for name, entry in entries.items()}
    assert named["a.png"] == "a.png" and named["a.jpg"] == "a.jpg.png"  # As they came.
    assert len(set(named.values())) == len(coming)
    for name, result in named.items():
        for kind in ("labels", "overlays"):
            assert Image.open(output / kind / result).size == shapes[name][::-1], name
        file = json.loads((output / "labelme" / result).with_suffix(".json").read_text())
        assert (file["imageHeight"], file["imageWidth"]) == shapes[name]
        assert file["imagePath"] == name.rpartition("/")[2]


def test_results_have_names_of_their_own():
    names = ["a.jpg", "a.png", "a.png.jpg", "a.png.jpg.gif", "b.jpg", "s/a.jpg", "s/b"]
    assert segment.result_names(names) == {
        "a.jpg": "a.jpg.png",
        "a.png": "a.png.png",
        "a.png.jpg": "a.png.jpg.png",
        "a.png.jpg.gif": "a.png.jpg.gif.png",
        "b.jpg": "b.png",
        "s/a.jpg": "s/a.png",
        "s/b": "s/b.png",
    }
    before = {"a.jpg": {}, "b.png.jpg": {"file": "b.png.png"}}
    assert segment.result_names(["a.png", "b.jpg", "b.png"], before) == {
        "a.png": "a.png.png",
        "b.jpg": "b.jpg.png",
        "b.png": "b.png_.png",
    }


def test_several_inputs_keep_their_places(photos, tmp_path):
    (tmp_path / "more").mkdir()
    Image.fromarray(noise(8, 8)).save(tmp_path / "more" / "a.png")
    (tmp_path / "v.MP4").write_bytes(b"")
    given = gather.sort([str(photos / "*.png"), str(tmp_path / "more"), str(tmp_path / "v.MP4")])
    assert given.videos == [str(tmp_path / "v.MP4")]
    with gather.opened(given.sources, tmp_path / "out") as found:
        assert found.names == ["in/a.png", "in/b.png", "more/a.png"]
        assert all((found.root / name).exists() for name in found.names)
    (tmp_path / "v.mov").write_bytes(b"")
    with pytest.raises(UserError, match=r"v.MP4 and .*v.mov would have results of one name"):
        gather.sort([str(tmp_path / "v.MP4"), str(tmp_path / "v.mov")])
    with pytest.raises(UserError, match="no file matches .*zz"):
        gather.sort([str(photos / "zz*.png")])


def test_standard_input_is_a_photo_or_names(photos, tmp_path):
    (path,) = gather.from_stream((photos / "a.png").read_bytes(), tmp_path)
    assert Image.open(path).size == (64, 48)
    names = f"{photos / 'a.png'}\n\n{photos / 'b.png'}\n"
    assert gather.from_stream(names.encode(), tmp_path) == names.split()
    for content, said in (
        (b" \n", "is empty"),
        (b"none.jpg", "names 'none.jpg'"),
        (b"\xff", "nei"),
    ):
        with pytest.raises(UserError, match=said):
            gather.from_stream(content, tmp_path)


def test_a_model_says_what_it_is_for():
    about = packed.about("people")
    typical = about["typical"]
    parts = [
        {"area": a**2 * 100 * 50, "center": [c[0] * 100, c[1] * 50]}
        for a, c in zip(
            typical["mean"][:6], np.reshape(typical["mean"][6:], (6, 2)).tolist(), strict=True
        )
    ]
    own = {"photos": {"a": {"height": 100, "width": 50, "parts": parts}}}
    assert familiar.unusual_share(own, typical) == 0
    assert familiar.warning(own, about, "people") == ""
    for part in parts:  # Upside down.
        part["center"][0] = 100 - part["center"][0]
    assert familiar.warning(own, about, "people").startswith("note: this photo looks unlike")
    several = {"photos": {name: own["photos"]["a"] for name in "abc"}}
    assert familiar.warning(several, about, "people").startswith("note: 100 % of these photos look")
    assert familiar.warning(own, {}, "people") == ""
    for entry in own["photos"].values():  # A person has merged two parts in the studio.
        entry["parts"].pop()
    assert familiar.warning(own, about, "people") == ""


def test_info_of_packed_models_and_runs(workdir, few_shot):
    facts = dict(info.info("people"))
    assert facts["classes"] == "background and 6 parts" and facts["licence"] == "MIT"
    assert "segmenter 252,767" in facts["parameters"]
    assert dict(info.info(workdir))["image size"].startswith("16 px")
    assert dict(info.info(workdir / few_shot))["classes"] == "background, round, long"
    with pytest.raises(UserError, match="a few-shot result, which draws nothing"):
        load_generator(workdir / few_shot)


def test_one_photo_and_lists_of_mixed_sizes(people):
    many = [noise(48, 64), noise(90, 30)]
    found = people(many)
    assert [labels.shape for labels in found] == [(48, 64), (90, 30)]
    for photo, labels in zip(many, found, strict=True):
        np.testing.assert_array_equal(people(photo), labels)
        np.testing.assert_array_equal(people(photo[None])[0], labels)
    assert people([]) == []
