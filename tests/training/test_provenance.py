import json
import subprocess

import pytest

from ganseg_jax.files import read_rows
from ganseg_jax.training import provenance
from ganseg_jax.training.writer import note_start


@pytest.fixture
def repository(tmp_path):
    """A Git checkout with one committed file, and a function that runs Git in it."""

    def git(*arguments):
        identity = ("-c", "user.name=n", "-c", "user.email=n@example.org")
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    (tmp_path / "package").mkdir()
    (tmp_path / "file.py").write_text("a = 1\n")
    git("add", "file.py")
    git("commit", "-qm", "first")
    return tmp_path, git


def test_commit_and_whether_files_differ_from_it(repository):
    folder, git = repository
    assert provenance.commit(folder) == git("rev-parse", "HEAD")
    (folder / "untracked.py").write_text("")
    assert provenance.commit(folder) == git("rev-parse", "HEAD")
    (folder / "file.py").write_text("a = 2\n")
    assert provenance.commit(folder) == git("rev-parse", "HEAD") + "-dirty"


def test_a_package_inside_another_checkout_has_no_commit(repository, tmp_path_factory):
    folder, _ = repository
    assert provenance.commit(folder / "package") is None
    assert provenance.commit(tmp_path_factory.mktemp("bare")) is None


def test_no_git_at_all(repository, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert provenance.commit(repository[0]) is None


def test_each_start_is_a_line_of_json(tmp_path):
    note_start(tmp_path / "gan", 0)
    note_start(tmp_path / "gan", 40)
    rows = read_rows(tmp_path / "gan" / "starts.jsonl")
    assert [row["step"] for row in rows] == [0, 40]
    facts = provenance.facts()
    assert set(facts) | {"step"} == set(rows[0])
    assert rows[0]["packages"] == facts["packages"] and rows[0]["command"].startswith("python ")
    assert json.loads(json.dumps(facts)) == facts
