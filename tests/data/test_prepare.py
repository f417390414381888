"""Preparation: repeatable, nothing half-written, one clear line for every mistake."""

import errno
import multiprocessing
import os
import shutil
import subprocess
import sys
import tarfile
from collections import namedtuple

import pytest

from ganseg_jax.data import prepare
from ganseg_jax.data.builders.puppets.builder import Puppets
from ganseg_jax.errors import UserError


@pytest.fixture
def few_puppets(monkeypatch):
    monkeypatch.setattr(Puppets, "EXPECTED_COUNTS", {"train": 4, "validation": 2, "test": 2})


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def visible(folder) -> list[str]:
    return sorted(name for name in os.listdir(folder) if not name.endswith(".lock"))


def test_twice_the_same_files(few_puppets, tmp_path):
    first = prepare.prepare("puppets", None, tmp_path / "a")
    second = prepare.prepare("puppets", None, tmp_path / "b")
    assert first.counts == {"train": 4, "validation": 2, "test": 2} and not first.already
    assert contents(first.path) == contents(second.path)
    assert first.path == tmp_path / "a/puppets/1.0.0"


def test_second_call_says_so_and_touches_nothing(few_puppets, tmp_path):
    first = prepare.prepare("puppets", None, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in first.path.iterdir()}
    second = prepare.prepare("puppets", None, tmp_path)
    assert second.already and second.counts == first.counts
    assert "already prepared" in str(second)
    assert before == {path: path.stat().st_mtime_ns for path in first.path.iterdir()}


def test_added_photos_are_taken_up(tmp_path, picture, caplog):
    photos, data = tmp_path / "photos", tmp_path / "data"
    photos.mkdir()
    for name in "abc":
        (photos / f"{name}.png").write_bytes(picture(8, 8))
    first = prepare.prepare("image_folder", photos, data)
    assert prepare.prepare("image_folder", photos, data).already
    (photos / "d.png").write_bytes(picture(8, 8))
    with caplog.at_level("INFO"):
        second = prepare.prepare("image_folder", photos, data)
    assert f"{photos} has changed since it was prepared" in caplog.text
    assert (sum(first.counts.values()), sum(second.counts.values())) == (3, 4)
    assert not second.already and prepare.prepare("image_folder", photos, data).already
    assert visible(data) == ["image_folder"]

    # Photos that cannot be prepared leave the set as it was, and so does a folder that is gone.
    for photo in photos.iterdir():
        photo.write_bytes(b"not a photo")
    with pytest.raises(UserError, match="can be read"):
        prepare.prepare("image_folder", photos, data)
    assert visible(data) == ["image_folder"]
    shutil.rmtree(photos)
    assert prepare.prepare("image_folder", photos, data).counts == second.counts


def test_a_set_put_aside_by_a_killed_preparation_comes_back(tmp_path, picture):
    photos, data = tmp_path / "photos", tmp_path / "data"
    photos.mkdir()
    (photos / "a.png").write_bytes(picture(8, 8))
    prepare.prepare("image_folder", photos, data)
    (data / "image_folder").rename(data / ".image_folder.before")
    assert prepare.prepare("image_folder", photos, data).already
    assert visible(data) == ["image_folder"]


def test_interrupted_preparation_leaves_nothing_and_is_done_again(
    few_puppets, tmp_path, monkeypatch
):
    read_item = Puppets.read_item

    def interrupted(self, item):
        if item == ("validation", 1):
            raise KeyboardInterrupt
        return read_item(self, item)

    monkeypatch.setattr(Puppets, "read_item", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare.prepare("puppets", None, tmp_path)
    assert prepare.find_prepared("puppets", tmp_path) is None
    assert visible(tmp_path / "puppets") == []
    monkeypatch.setattr(Puppets, "read_item", read_item)
    assert not prepare.prepare("puppets", None, tmp_path).already


def test_leftovers_of_a_killed_preparation_are_removed(few_puppets, tmp_path):
    for name in ("puppets/incomplete.ABC123_1.0.0", ".unpacked-puppets-x", ".scratch-puppets-x"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "part").write_text("")
    prepare.prepare("puppets", None, tmp_path)
    assert visible(tmp_path) == ["puppets"] and visible(tmp_path / "puppets") == ["1.0.0"]


def _prepare_few(folder, results):
    Puppets.EXPECTED_COUNTS = {"train": 40, "validation": 2, "test": 2}
    results.put(prepare.prepare("puppets", None, folder).already)


def test_processes_at_once_build_only_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=_prepare_few, args=(tmp_path, results)) for _ in range(2)]
    for process in processes:
        process.start()
    answers = sorted(results.get(timeout=120) for _ in processes)
    for process in processes:
        process.join()
    assert answers == [False, True]


def test_wrong_counts_are_refused(few_puppets, tmp_path, monkeypatch):
    monkeypatch.setattr(Puppets, "list_splits", lambda self: {"train": [("train", 0)]})
    with pytest.raises(UserError, match="should have 4 images in its split 'train', found 1"):
        prepare.prepare("puppets", None, tmp_path)
    assert prepare.find_prepared("puppets", tmp_path) is None


def test_bad_sources(tmp_path, picture):
    data_dir = tmp_path / "data"
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.png").write_bytes(picture())
    cut = tmp_path / "cut.tar"
    with tarfile.open(cut, "w") as tar:
        tar.add(other, "people")
    cut.write_bytes(cut.read_bytes()[:700])
    cases = [
        (None, "--source is missing"),
        (tmp_path / "nowhere", "does not exist"),
        (text, "neither a folder nor a complete tar"),
        (cut, "tar"),
        (other, "no splits.json"),
    ]
    for source, expected in cases:
        with pytest.raises(UserError) as caught:
            prepare.prepare("people_ccp", source, data_dir)
        assert expected in str(caught.value) and "\n" not in str(caught.value)
    assert visible(data_dir) == []


@pytest.mark.parametrize(
    "source, data_dir", [("gs://bucket/photos", "data"), ("photos", "gs://bucket/data")]
)
def test_buckets_are_refused(source, data_dir):
    with pytest.raises(UserError, match="gs://bucket/.* is in a bucket"):
        prepare.prepare("image_folder", source, data_dir)


def test_archive_with_members_outside_is_refused(tmp_path):
    archive = tmp_path / "evil.tar"
    (tmp_path / "x").write_text("")
    with tarfile.open(archive, "w") as tar:
        tar.add(tmp_path / "x", "../../outside")
    with pytest.raises(UserError, match="outside"):
        prepare.prepare("people_ccp", archive, tmp_path / "data")
    assert not (tmp_path / "outside").exists()


def test_places_that_cannot_be_written(few_puppets, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file where a folder is needed"):
        prepare.prepare("puppets", None, tmp_path / "file")
    with pytest.raises(UserError, match="is a file where a folder is needed"):
        prepare.prepare("puppets", None, tmp_path / "file" / "data")

    for code, message in (
        (errno.ENOSPC, "disk of .* is full"),
        (errno.EACCES, "no permission for"),
        (errno.EROFS, "no permission for"),
        (errno.EIO, "Input/output error"),
    ):

        def failing(*args, code=code, **kwargs):
            raise OSError(code, os.strerror(code))

        with monkeypatch.context() as patch, pytest.raises(UserError, match=message):
            patch.setattr(Puppets, "read_item", failing)
            prepare.prepare("puppets", None, tmp_path / "data")
    assert visible(tmp_path / "data" / "puppets") == []


def test_lack_of_space_is_noticed_before_the_work(tmp_path, picture, monkeypatch):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.png").write_bytes(picture())
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(100, 90, 10))
    with pytest.raises(UserError, match="make room"):
        prepare.prepare("image_folder", tmp_path / "photos", tmp_path / "data")


def run(*arguments):
    command = [sys.executable, "-m", "experiments.prepare_data", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_command_line(tmp_path, picture):
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(5):
        (photos / f"{i}.png").write_bytes(picture(seed=i))
    (photos / "bad.jpg").write_bytes(b"no image")
    flags = ["--dataset=image_folder", f"--source={photos}", f"--data_dir={tmp_path / 'data'}"]
    first = run(*flags)
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines()[-1].endswith(
        "train 3, validation 1, test 1 images; 1 files skipped"
    )
    assert "skipped bad.jpg: not an image" in first.stderr
    second = run(*flags)
    assert second.returncode == 0 and "already prepared" in second.stdout


def test_command_line_mistakes(tmp_path):
    cases = {
        ("--dataset=image_folder", f"--source={tmp_path}", f"--data_dir={tmp_path / 'd'}"): (
            "has no images"
        ),
        ("--dataset=puppet", f"--data_dir={tmp_path}"): "did you mean 'puppets'",
        ("--dataset=puppets",): "--data_dir is missing",
        ("--datasets=puppets",): "datasets",
    }
    for flags, expected in cases.items():
        answer = run(*flags)
        assert answer.returncode == 2, answer.stderr
        lines = answer.stderr.strip().splitlines()
        assert len(lines) == 1 and expected in lines[0]
