"""The scripts that repeat the paper's tables: plans, interruptions, states and tables."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from experiments.reproduce import kit
from ganseg_jax import files
from ganseg_jax.config import file as config_file
from ganseg_jax.errors import UserError

FOLDER = pathlib.Path(kit.__file__).parent


def folders(runs, root):
    return [str(run.folder.relative_to(root)) for run in runs]


class Trainer:
    """Stands in for the command: leaves what a finished run leaves, or is stopped before."""

    def __init__(self, runs, stop_at=-1, code=143):
        self.runs, self.stop_at, self.code, self.calls = runs, stop_at, code, []

    def __call__(self, command):
        run = next(run for run in self.runs if run.command == command)
        self.calls.append(run)
        folder = files.resolve(run.folder)
        config_file.save_config(run.config, folder)
        files.write_whole(folder / "gan/metrics.jsonl", json.dumps({"step": 12_000}) + "\n")
        if len(self.calls) == self.stop_at:
            return self.code
        files.write_json(
            folder / "evaluation/metrics.json", {"landmark_error": 0.05 + 0.01 * len(self.calls)}
        )
        return 0


def test_every_table_has_a_script():
    scripts = {path.stem for path in FOLDER.glob("*.py")} - {"kit", "__init__"}
    assert scripts == set(kit.TABLES)


@pytest.mark.parametrize("table", kit.TABLES)
def test_every_run_has_a_sound_config_and_a_command(table, tmp_path):
    runs = kit.plan(table, str(tmp_path), sources={kit.TABLES[table][0][0]: "PHOTOS"})
    assert len(runs) == len(kit.TABLES[table])
    for run, (name, setting) in zip(runs, kit.TABLES[table], strict=True):
        assert run.config.dataset.name == name
        assert f"--settings={setting}" in run.command and "--seeds=0" in run.command
    assert runs[0].config.dataset.source == "PHOTOS"
    assert "--config.dataset.source=PHOTOS" in runs[0].command


def test_tables_share_runs(tmp_path):
    landmarks = folders(kit.plan("landmarks", str(tmp_path)), tmp_path)
    assert landmarks == [
        "celeba_wild/full/seed_0",
        "celeba_wild/parts_4/seed_0",
        "celeba_aligned/full/seed_0",
    ]
    parts = folders(kit.plan("num_parts", str(tmp_path), sets=["celeba_wild"]), tmp_path)
    assert parts[1:3] == ["celeba_wild/parts_4/seed_0", "celeba_wild/full/seed_0"]


def test_an_interrupted_table_resumes_and_is_told(tmp_path, capsys):
    runs = kit.plan("landmarks", str(tmp_path), seeds=[0, 1])
    first = Trainer(runs, stop_at=3)
    with pytest.raises(SystemExit) as stopped:
        kit.carry_out(runs, first)
    assert stopped.value.code == 143
    assert "parts_4/seed_0 ended with code 143: the same command resumes" in capsys.readouterr().err
    caption, _, rows = kit.status(runs)
    assert caption == "2 of 6 runs finished"
    assert [row[1] for row in rows[:4]] == [
        "finished", "finished", "gan: step 12000 of 30000", "not begun",
    ]  # fmt: skip
    again = Trainer(runs)
    assert kit.carry_out(runs, again) == []
    assert [run.folder for run in again.calls] == [run.folder for run in runs[2:]]
    assert kit.carry_out(runs, again) == [] and len(again.calls) == 4
    _, header, rows = kit.table_of("landmarks", runs)
    assert header[2:] == ["paper", "here", "seeds"]
    # Means of two seeds.
    assert rows[0][2:] == [6.18, pytest.approx(6.5), 2]
    assert rows[1][2:] == [12.26, pytest.approx(6.5), 2]
    assert rows[2][2:] == [3.98, pytest.approx(8.5), 2]


def test_a_signal_is_an_exit_code_of_its_own(tmp_path):
    runs = kit.plan("taichi", str(tmp_path))
    with pytest.raises(SystemExit) as stopped:
        kit.carry_out(runs, Trainer(runs, stop_at=1, code=-9))
    assert stopped.value.code == 137


def test_sigterm_is_passed_on():
    program = "import os, signal, sys, time\n"
    program += "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
    program += "os.kill(os.getppid(), signal.SIGTERM)\ntime.sleep(60)"
    assert kit.start_process([sys.executable, "-c", program]) == 143


def test_a_run_without_figures_is_left_out(tmp_path):
    runs = kit.plan("foreground", str(tmp_path))
    assert kit.carry_out(runs, lambda command: 0) == runs


def test_other_settings_are_another_run(tmp_path):
    runs = kit.plan("taichi", str(tmp_path))
    kit.carry_out(runs, Trainer(runs))
    longer = kit.plan("taichi", str(tmp_path), changes={"gan.num_steps": "40000"})
    assert runs[0].figures() is not None and longer[0].figures() is None


def test_ablations_stand_beside_the_papers_values(tmp_path):
    runs = kit.plan("part_scale", str(tmp_path), sets=["celeba_wild"])
    kit.carry_out(runs, Trainer(runs))
    assert [row[2:] for row in kit.table_of("part_scale", runs)[2]] == [
        [6.18, 6.0, 1],
        [26.32, 7.0, 1],
    ]
    _, _, rows = kit.table_of("num_parts", kit.plan("num_parts", str(tmp_path), sets=["taichi"]))
    assert [row[2:] for row in rows[:2]] == [[748.30, None, 0], [0.7895, None, 0]]


def test_cost_is_the_compilers_estimate_or_not_known(tmp_path):
    costs = [row[2] for row in kit.status(kit.plan("landmarks", str(tmp_path)))[2]]
    # (161.6 + 9.3 / 16) ms, 30,000 times.
    assert costs == ["GAN v5e:2x2 1.4 h in bfloat16; all else not known", "not known", "not known"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sets": ["cats"]}, "'cats' is no data set of this table: there are taichi"),
        ({"sources": {"cub": "X"}}, "'cub' is no data set of this table"),
        ({"changes": {"gan.steps": "3"}}, "there is no field gan.steps"),
        ({"changes": {"gan.num_steps": "many"}}, "gan.num_steps='many' must be a whole number"),
    ],
)
def test_mistakes_are_named(tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        kit.plan("taichi", str(tmp_path), **arguments)


def test_the_script_says_what_it_would_run(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "experiments.reproduce.taichi", "--dry_run"]
        + [f"--workdir={tmp_path}", "--source=taichi=/photos", "--set=dtype=bfloat16"],
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stderr
    assert "0 of 1 runs finished" in done.stdout
    assert "-m experiments.ablations --config=configs/taichi.py:variant=released" in done.stdout
    assert "--config.dtype=bfloat16" in done.stdout
    assert list(tmp_path.iterdir()) == []
