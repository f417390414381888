"""Traces of some steps, and Weights & Biases by a stand-in for its package."""

import logging
import sys
import types

import jax
import numpy as np
import pytest
from etils import epath

from ganseg_jax import files
from ganseg_jax.errors import UserError
from ganseg_jax.files import read_rows
from ganseg_jax.training import watch
from ganseg_jax.training.watch import Watch, watching
from tests.training.test_loop import total_after
from tests.training.toy import add_but, run, stage


@pytest.fixture
def said(monkeypatch, caplog):
    """The lines that the user sees."""
    monkeypatch.setattr(logging.getLogger("ganseg_jax"), "propagate", True)
    caplog.set_level(logging.INFO)
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.fixture
def profiler(monkeypatch):
    """What the profiler was told, in order."""
    told = []

    class Annotation:
        def __init__(self, name, step_num):
            told.append(step_num)

        def __enter__(self):
            pass

        def __exit__(self, *_):
            pass

    def start(where):
        told.append("start")
        path = epath.Path(where) / "plugins" / "profile" / "now"
        path.mkdir(parents=True)
        (path / "host.trace.json.gz").write_text("trace")

    monkeypatch.setattr(jax.profiler, "start_trace", start)
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: told.append("stop"))
    monkeypatch.setattr(jax.profiler, "StepTraceAnnotation", Annotation)
    return told


def test_range_of_steps_is_traced_and_training_is_the_same(tmp_path, profiler, said):
    with watching(Watch(profile=(3, 5))):
        assert run(stage(), tmp_path)["total"] == total_after(6)
    assert profiler == ["start", 3, 4, 5, "stop"]
    folder = tmp_path / "toy" / "profile"
    (line,) = [line for line in said() if "Trace written" in line]
    assert f"tensorboard --logdir={folder}" in line and "ui.perfetto.dev" in line
    assert watch.current() == Watch()


def test_real_profiler_writes_what_tensorboard_and_perfetto_read(tmp_path):
    with watching(Watch(profile=(2, 2))):
        run(stage(num_steps=2), tmp_path)
    made = [p.name for p in (tmp_path / "toy" / "profile" / "plugins" / "profile").glob("*/*")]
    assert {name.split(".", 1)[1] for name in made} >= {"xplane.pb", "trace.json.gz"}


def test_trace_that_is_cut_off_is_written_and_a_range_that_is_over_is_said(
    tmp_path, profiler, said
):
    def killed(state, scalars):
        raise RuntimeError("killed")

    with watching(Watch(profile=(2, 6))), pytest.raises(RuntimeError, match="killed"):
        run(stage(step=add_but(5, killed)), tmp_path)
    assert profiler == ["start", 2, 3, 4, 5, "stop"]
    profiler.clear()
    with watching(Watch(profile=(1, 4))):
        run(stage(), tmp_path)
    over = "--profile_steps=1:4: nothing is traced: the range is over, toy resumes after step 4."
    assert profiler == [] and over in said()
    with watching(Watch(profile=(10, 12))):
        run(stage(num_steps=9), tmp_path)
    assert "--profile_steps=10:12: nothing is traced: toy has only 9 steps." in said()


def test_trace_for_a_bucket_is_copied_there(tmp_path, profiler, monkeypatch):
    monkeypatch.setattr(files, "is_remote", lambda path: "toy" in str(path))
    monkeypatch.setattr(files.Rows, "flush", lambda self, whole=False: None)
    profile = watch.Profile("toy", epath.Path(tmp_path) / "toy", 0, 3, (1, 1))
    with profile.before(1, ()):
        pass
    assert not (tmp_path / "toy").exists()
    profile.after(1, ())
    trace = tmp_path / "toy" / "profile" / "plugins" / "profile" / "now" / "host.trace.json.gz"
    assert trace.read_text() == "trace" and profiler == ["start", 1, "stop"]


def test_only_the_first_process_traces(tmp_path, profiler, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    profile = watch.Profile("toy", epath.Path(tmp_path), 0, 3, (1, 1))
    with profile.before(1, ()):
        profile.after(1, ())
    assert profiler == []


@pytest.mark.parametrize("text", ["", "5", "0:3", "7:6", "a:b", "1:2:3", "-1:4", "1.5:2"])
def test_bad_ranges_are_one_line(text):
    with pytest.raises(UserError, match="is no range of steps: it looks like 100:110"):
        watch.steps_of(text)


def test_ranges():
    assert watch.steps_of("100:110") == (100, 110) and watch.steps_of("7:7") == (7, 7)


@pytest.fixture
def wandb(monkeypatch):
    """A stand-in for the package; `runs` has what each run was begun with and got."""

    class Run:
        def __init__(self, **begun):
            self.begun, self.rows, self.finished = begun, [], False
            self.id = begun["id"] or f"made{len(module.runs)}"
            module.runs.append(self)

        def define_metric(self, name, step_metric=None):
            pass

        def log(self, row):
            self.rows.append(row)

        def finish(self):
            self.finished = True

    module = types.ModuleType("wandb")
    module.runs, module.Error, module.Image = [], type("Error", (Exception,), {}), np.asarray
    module.init = Run
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_wandb_gets_what_tensorboard_gets_and_a_resumed_run_continues(tmp_path, wandb):
    files.write_json(tmp_path / "config.json", {"seed": 3})
    with watching(Watch(wandb="parts")):
        run(stage(num_steps=4), tmp_path)
        run(stage(), tmp_path)
    first, second = wandb.runs
    assert first.begun["project"] == "parts" and first.begun["config"] == {"seed": 3}
    assert first.begun["id"] is None and second.begun["id"] == "made0"
    assert first.finished and second.finished and second.begun["resume"] == "allow"
    rows = [row for each in wandb.runs for row in each.rows if "batch" in row]
    kept = read_rows(tmp_path / "toy" / "metrics.jsonl")
    assert [row["step"] for row in rows] == [row["step"] for row in kept]
    for row, other in zip(rows, kept, strict=True):
        assert row["total"] == pytest.approx(other["total"])
        assert "hardware/step_ms" in row
    pictures = [row for each in wandb.runs for row in each.rows if "samples" in row]
    assert [row["step"] for row in pictures] == [4, 6] and pictures[0]["samples"].max() == 4
    with watching(Watch(wandb="others")):  # Another project is another run.
        run(stage(num_steps=7), tmp_path)
    assert wandb.runs[2].begun["id"] is None and wandb.runs[2].id == "made2"


def test_wandb_that_cannot_begin_is_one_line(tmp_path, wandb, monkeypatch):
    def refuse(**_):
        raise wandb.Error("no API key\nconfigured")

    monkeypatch.setattr(wandb, "init", refuse)
    with watching(Watch(wandb="parts")), pytest.raises(UserError) as raised:
        run(stage(), tmp_path)
    assert "--wandb=parts: no API key configured; log in" in str(raised.value)
    assert "WANDB_MODE=offline" in str(raised.value)


def test_missing_wandb_is_one_line_before_anything_is_trained(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"--wandb needs wandb: pip install"):
        with watching(Watch(wandb="parts")):
            raise AssertionError
