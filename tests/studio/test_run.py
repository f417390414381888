"""A training as the studio shows it: progress, pictures, stop and resume."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from ganseg_jax import files
from ganseg_jax.config.file import save_config
from ganseg_jax.errors import UserError
from ganseg_jax.studio import run
from ganseg_jax.training import process
from tests.studio.conftest import running
from tests.tiny_config import config_with

DESCRIBE = "import json, time; from ganseg_jax.training import process; \
print(json.dumps(process.facts()), flush=True); time.sleep(60)"


@pytest.fixture
def other():
    """A process that describes itself as trainings do, and what it says."""
    made = subprocess.Popen([sys.executable, "-c", DESCRIBE], stdout=subprocess.PIPE, text=True)
    assert made.stdout
    yield made, json.loads(made.stdout.readline())
    made.kill()
    made.wait()


@pytest.fixture
def workdir(tmp_path):
    """A run that is a third of the way through its GAN."""
    save_config(config_with(gan__num_steps=30, segmenter__num_steps=10), tmp_path)
    rows = [{"step": n, "time": n, "loss": 1.0 / n, "steps_per_second": 2.0} for n in (5, 10)]
    files.write_whole(
        tmp_path / "gan" / "metrics.jsonl", "".join(f"{json.dumps(r)}\n" for r in rows)
    )
    for step, age in ((0, 9000), (4, 4000), (8, 3000), (10, 0)):
        path = tmp_path / "gan" / "samples" / f"samples_{step:07d}.png"
        files.write_whole(path, b"\x89PNG")
        os.utime(path, (time.time() - age,) * 2)
    return tmp_path


def record(workdir, facts):
    row = {"step": 0, "time": "2026-01-01T00:00:00+00:00", "process": facts}
    files.write_whole(workdir / "gan" / "starts.jsonl", json.dumps(row) + "\n")


def test_progress_time_left_and_the_pictures_an_hour_apart(workdir):
    state = run.Run(workdir).state()
    gan, segmenter = state["stages"][:2]
    assert (gan["step"], gan["total"], gan["seconds_left"]) == (10, 30, 10.0)
    assert [curve["name"] for curve in gan["curves"]] == ["Loss"]
    assert gan["curves"][0]["svg"].startswith("<svg ")
    assert (gan["newest"]["step"], gan["hour_before"]["step"]) == (10, 4)
    assert segmenter["step"] == 0 and segmenter["newest"] is None
    assert not state["alive"] and state["can_resume"] and not state["can_stop"]


def test_only_the_recorded_process_is_asked_to_end(workdir, other):
    made, facts = other
    shown = run.Run(workdir)
    for wrong in (
        None,
        {},
        facts | {"born": "1"},
        facts | {"born": None},
        facts | {"node": "elsewhere"},
        facts | {"pid": 1},
        facts | {"pid": -made.pid},
        facts | {"pid": str(made.pid)},
    ):
        record(workdir, wrong)
        assert not shown.state()["can_stop"]
        with pytest.raises(UserError, match="no training of this workdir runs"):
            shown.stop()
    assert made.poll() is None
    record(workdir, facts)
    assert shown.state()["alive"]
    with pytest.raises(UserError, match="runs already"):
        shown.resume()
    shown.stop()
    assert made.wait(10) == -signal.SIGTERM
    assert not process.lives(facts)


def test_a_resumed_run_that_fails_says_why(workdir, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    shown = run.Run(workdir)
    shown.resume()
    files.write_whole(workdir / run.LOG_FILE, "one\nerror: the data set is missing\n")
    while shown.state()["alive"]:
        time.sleep(0.01)
    state = shown.state()
    assert state["note"] == "error: the data set is missing" and state["can_resume"]


def test_the_page_reads_nothing_but_pictures_of_samples(workdir, home):
    with running(workdir) as studio:
        state = studio.wait().json("GET", "api/state")
        assert state["is_run"] and "no gan checkpoint yet" in state["problems"]["generator"]
        assert studio.json("GET", "api/run")["stages"][0]["step"] == 10
        picture = "api/run/gan/samples_0000010.png"
        assert studio.request("GET", picture)[2] == b"\x89PNG"
        for path in (
            "api/run/gan/samples_0000011.png",
            "api/run/gan/metrics.jsonl",
            "api/run/../gan/samples_0000010.png",
            "api/run/gan/..%2fmetrics.jsonl",
            "api/run/evaluation/samples_0000010.png",
        ):
            assert studio.request("GET", path)[0] == 404
        assert studio.refusal("POST", "api/draw", {})[0] == 400
        assert studio.refusal("POST", "api/run/stop", {})[0] == 400
