"""Names, colours and groups that a person gives parts, and what `load_segmenter` makes of them."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from ganseg_jax import files, packed, parts
from ganseg_jax.errors import UserError
from ganseg_jax.jobs.pack import pack
from ganseg_jax.jobs.segment import segment_folder
from ganseg_jax.loading import load_segmenter

PHOTOS = np.random.default_rng(0).integers(0, 256, (2, 20, 30, 3), np.uint8)
HEAD = parts.Part("head", "#ff0080")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "ganseg_jax"


def people(*known):
    """Six parts, the first of which are given."""
    return [*known, *[parts.Part()] * (6 - len(known))]


def test_merged_parts_add_up_and_hidden_ones_are_background(home):
    raw = load_segmenter("people")
    hidden = parts.Part(hidden=True), parts.Part(), parts.Part(into=4, hidden=True)
    known = people(HEAD, parts.Part(into=1), *hidden)
    assert parts.write("people", known) == home / "parts" / "people.json"
    named = load_segmenter("people")
    assert named.classes == ("background", "head", "part 4", "part 6")
    assert named.colors[1].tolist() == [255, 0, 128] and raw.classes is None
    before, after = raw.probabilities(PHOTOS), named.probabilities(PHOTOS)
    expected = [before[..., [0, 3, 5]].sum(-1), before[..., [1, 2]].sum(-1)]
    expected += [before[..., n] for n in (4, 6)]
    np.testing.assert_allclose(after, np.stack(expected, -1), atol=1e-6)
    assert named.part_centers(PHOTOS).shape == (2, 3, 2)
    assert load_segmenter("people", named=False).classes is None


def test_names_and_colours_reach_results_and_exports(tmp_path):
    parts.write("people", people(HEAD, parts.Part(into=1)))
    Image.fromarray(PHOTOS[0]).save(tmp_path / "a.png")
    out = tmp_path / "out"
    segment_folder(load_segmenter("people"), tmp_path / "a.png", out, formats=["coco"])
    entries = json.loads((out / "parts.json").read_text())["photos"]["a.png"]["parts"]
    assert [entry["name"] for entry in entries] == ["head", *(f"part {n}" for n in (3, 4, 5, 6))]
    coco = json.loads((out / "coco" / "annotations.coco.json").read_text())
    assert coco["categories"][0]["name"] == "head"
    palette = Image.open(out / "labels" / "a.png").getpalette()
    assert palette[3:6] == [255, 0, 128]


def test_few_shot_classes_stay_until_they_are_named(workdir, few_shot):
    place = workdir / few_shot
    assert load_segmenter(place).classes == ("background", "round", "long")
    file = parts.write(place, [parts.Part("round"), parts.Part("tail")])
    try:
        assert file == place / parts.FILE
        assert load_segmenter(place).classes == ("background", "round", "tail")
    finally:
        file.unlink()


def test_the_file_lies_with_the_gan_or_in_the_users_folder(workdir, tmp_path, home):
    assert parts.file_of(workdir) == workdir / "gan" / parts.FILE
    copy = tmp_path / "model"
    files.copy_folder(packed.named("people"), copy)
    assert parts.file_of(copy) == copy / parts.FILE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "a\nb"}, "the name of part 1"),
        ({"name": "x" * 61}, "the name of part 1"),
        ({"name": "Background"}, "cannot be named"),
        ({"name": "part 2"}, "two parts are named 'part 2'"),
        ({"color": "red"}, "the colour of part 1"),
        ({"into": 1}, "cannot belong to part 1"),
        ({"into": 7}, "cannot belong to part 7"),
        ({"into": True}, "hidden is true or false"),
        ({"hidden": 1}, "hidden is true or false"),
        ({"size": 3}, "other fields"),
    ],
)
def test_senseless_parts_are_refused(change, message):
    entries = [dataclasses.asdict(part) for part in people()]
    entries[0] |= change
    with pytest.raises(UserError, match=message):
        parts.checked(entries, 6)


@pytest.mark.parametrize("content", ["{", "[]", '{"parts": []}', '{"parts": 3}', "\xff"])
def test_a_damaged_file_is_named(home, content):
    parts.write("people", people(HEAD))
    (home / "parts" / "people.json").write_text(content)
    with pytest.raises(UserError, match=r"people.json does not fit the model's 6 parts"):
        load_segmenter("people")


def test_names_go_with_a_packed_model(workdir, tmp_path):
    count = load_segmenter(workdir).num_classes - 1
    file = parts.write(workdir, [HEAD, *[parts.Part()] * (count - 1)])
    try:
        pack(workdir, tmp_path / "packed")
    finally:
        file.unlink()
    assert load_segmenter(tmp_path / "packed").classes[:2] == ("background", "head")
    assert load_segmenter(workdir).classes is None


def test_hidden_parts_leave_the_others_with_new_numbers():
    known = [parts.Part(), parts.Part(hidden=True), parts.Part("leg"), parts.Part(hidden=True)]
    assert parts.hidden(known) == (2, 4) and parts.hidden(None) == ()
    assert parts.groups_without((2, 4), 4) == (0, 1, 0, 2, 0)
    assert parts.groups_without((), 4) is None
