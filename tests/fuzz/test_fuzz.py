"""Damaged files of every kind are read or refused in one line, and nothing else happens."""

import tracemalloc

import pytest
from PIL import Image

from ganseg_jax.data.images import ImageError
from tests.data import annotated
from tests.fuzz import harness, readers

MOST_BYTES = 64 * 2**20

watch = harness.Watch()


@pytest.mark.parametrize("kind", readers.READERS)
def test_damaged_files_are_read_or_refused_in_one_line(tmp_path, monkeypatch, kind):
    folder = tmp_path / "files"
    folder.mkdir()
    monkeypatch.chdir(folder)
    if kind.startswith("labels"):
        annotated.write(folder, {"one.png": annotated.blank()})
    count = 4 if kind.startswith("prepared") or kind.endswith("NVIDIA") else 25
    tracemalloc.start()
    result = harness.answers(kind, count, 0, folder, watch)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MOST_BYTES or kind.startswith("prepared")
    assert not result["faults"]
    assert result["read"] + result["refused"] == count
    # Damage shows; but not of one photo of a folder, which is left out.
    assert result["refused"] or kind.startswith("prepared")
    assert ("whole_is_refused" in result) == (kind == "weights: pickle with code")


@pytest.fixture
def reading(monkeypatch, tmp_path):
    """Answers for a reader of photos that does something."""

    def answers(read):
        folder = tmp_path / "files"
        folder.mkdir()
        monkeypatch.chdir(folder)
        make = readers.READERS["photo: bmp"].make
        monkeypatch.setitem(readers.READERS, "photo: bmp", readers.Reader(make, read))
        return harness.answers("photo: bmp", 2, 0, folder, watch)["faults"]

    return answers


def _refuses(folder):
    raise ImageError("two\nlines")


def _writes(folder):
    Image.new("L", (1, 1)).save("left.png")


@pytest.mark.parametrize(
    ("read", "fault"),
    [
        (_refuses, "answer of 2 lines"),
        (lambda folder: [][1], "IndexError"),
        (_writes, "did open"),
        (lambda folder: exec("pass"), "did exec"),
    ],
)
def test_faults_are_seen(reading, read, fault):
    assert fault in reading(read)[0]
