"""What the doctor finds, and that nothing keeps it waiting."""

import time

import pytest

from ganseg_jax.cli import processes


@pytest.fixture
def doctor(entry_point, monkeypatch):
    """The doctor's module with flags given; JAX has started already, and exits raise."""

    def enter(**given):
        module = entry_point("doctor", **given)
        monkeypatch.setattr(module.startup, "start", lambda watched: None)

        def end(code):
            raise SystemExit(code)

        monkeypatch.setattr(module.os, "_exit", end)
        return module

    return enter


def test_a_sound_machine(doctor, tmp_path, capsys):
    doctor(workdir=tmp_path / "run").main()
    said = capsys.readouterr().out
    assert "Nothing is wrong." in said and "4 x cpu" in said and "exact" in said
    assert f"{tmp_path / 'run'}, a file written and read in" in said
    assert not list((tmp_path / "run").iterdir())  # What it writes it deletes.


def test_a_workdir_that_cannot_be_written(doctor, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as end:
        doctor(workdir=tmp_path / "file" / "run").main()
    assert end.value.code == 1
    said = capsys.readouterr().out
    assert "PROBLEM" in said and "run cannot be written" in said and "Remedy: " in said


def test_what_does_not_answer_is_a_problem(doctor):
    module = doctor()
    found = module.Findings()
    assert found.check("the bucket", 0.01, "look at the network", lambda: time.sleep(5)) is None
    assert found.problems == [("the bucket: no answer within 0 s", "look at the network")]


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("Forbidden: 403", "storage.objectAdmin"),
        ("Please install gcsfs", "ganseg-jax[gcs]"),
        ("The specified bucket does not exist", "buckets create"),
        ("something else", "otherwise"),
    ],
)
def test_remedies(doctor, text, remedy):
    assert remedy in doctor().remedy_of(text, "otherwise")


def test_an_accelerator_that_jax_does_not_use(doctor, monkeypatch):
    module = doctor()
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    found = module.Findings()
    module.devices(found, tpu=False, nvidia=True)
    assert ("a NVIDIA GPU is here, but JAX computes on the CPU") in dict(found.problems)
    assert "JAX_PLATFORMS" in found.problems[0][1]


def test_an_old_driver_and_a_full_gpu(doctor, monkeypatch):
    module = doctor()
    monkeypatch.setattr(module, "_installed", lambda name: name == "jax-cuda12-plugin")
    output = "470.10, 60000, 80000\n"
    monkeypatch.setattr(
        module.subprocess, "run", lambda *a, **k: type("Done", (), {"stdout": output})
    )
    found = module.Findings()
    module._nvidia(found)
    assert ["too old" in found.problems[0][0], "60000 MiB" in found.problems[1][0]] == [True] * 2


def test_alone_nobody_is_waited_for():
    processes.finish()
    processes.part()
    assert processes.loss(RuntimeError("Gloo: Connection closed by peer")) is None
