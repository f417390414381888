"""Files appear whole or not at all, whoever else writes them."""

import json
import multiprocessing
import os
import pathlib
import re

import pytest
from etils import epath

from ganseg_jax import files
from ganseg_jax.errors import UserError


def _write_many(path, letter):
    for _ in range(50):
        files.write_whole(path, letter * 100_000)


def test_writers_at_once_leave_one_whole_file(tmp_path):
    path = tmp_path / "new" / "file.txt"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_many, args=(path, letter)) for letter in "abc"]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        if path.exists():
            seen.add(path.read_text())
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert seen and seen <= {letter * 100_000 for letter in "abc"}
    assert os.listdir(path.parent) == ["file.txt"]


def test_a_block_that_fails_changes_nothing(tmp_path):
    path = tmp_path / "file.txt"
    files.write_whole(path, "before")
    with pytest.raises(KeyboardInterrupt), files.replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "before" and os.listdir(tmp_path) == ["file.txt"]


def test_others_can_read_what_was_written(tmp_path):
    before = os.umask(0o022)
    try:
        files.write_json(tmp_path / "a.json", {"b": 1})
    finally:
        os.umask(before)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o644
    assert json.loads((tmp_path / "a.json").read_text()) == {"b": 1}


def test_a_place_that_is_no_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write .*file/a.txt"):
        files.write_whole(tmp_path / "file" / "a.txt", "content")


def test_a_folder_is_copied_whole(tmp_path):
    files.write_whole(tmp_path / "a" / "b" / "c.txt", "content")
    files.copy_folder(tmp_path / "a", tmp_path / "x" / "copy")
    assert (tmp_path / "x" / "copy" / "b" / "c.txt").read_text() == "content"
    assert os.listdir(tmp_path / "x") == ["copy"]


@pytest.mark.parametrize("path, remote", [("gs://bucket/a", True), ("a/b", False)])
def test_remote_paths_are_told_apart(path, remote):
    assert files.is_remote(path) is remote
    assert files.is_remote(epath.Path(path)) is remote


def test_the_home_folder_may_be_a_tilde(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    files.write_whole("~/new/a.txt", "content")
    assert (tmp_path / "new" / "a.txt").read_text() == "content"
    assert not (tmp_path / "~").exists()


def test_paths_that_people_type(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RUNS", "runs")
    monkeypatch.delenv("NONE", raising=False)
    assert files.resolve("~/$RUNS/a") == epath.Path(tmp_path / "runs" / "a")
    assert files.resolve("gs://bucket/${RUNS}") == epath.Path("gs://bucket/runs")
    with pytest.raises(UserError, match="NONE/a: the environment variable NONE is not set"):
        files.resolve("$NONE/a")
    (tmp_path / "$NONE").mkdir()  # A folder may be called so.
    assert files.resolve(tmp_path / "$NONE").is_dir()


def test_a_dollar_in_the_name_of_a_photo_is_one(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNS", "runs")
    files.write_whole(tmp_path / "cash$RUNS.txt", "a")
    files.write_whole(tmp_path / "cash$NONE.txt", "a")
    assert sorted(os.listdir(tmp_path)) == ["cash$NONE.txt", "cash$RUNS.txt"]


# Scratch files of standard input, and a file inside of `files.replacing`.
DIRECT = {"files.py", "data/gather.py", "studio/server.py"}


def test_files_are_written_by_one_module():
    """A path in a bucket must not become one on the disk."""
    direct = re.compile(r"\.write_(bytes|text)\(|\bnp\.savez?\w*\((?!\s*buffer\b)")
    package = pathlib.Path(files.__file__).parent
    found = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if direct.search(path.read_text())
    }
    assert found == DIRECT
