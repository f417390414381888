"""The whole job as a user starts it, on `configs/tiny.py`."""

import base64
import html
import io
import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ganseg_jax import parts
from ganseg_jax.data import prepare
from ganseg_jax.data.builders.puppets.builder import Puppets
from ganseg_jax.report.palette import palette

ROOT = pathlib.Path(__file__).parents[2]


def start(module, *arguments):
    command = [sys.executable, "-m", f"experiments.{module}", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return tmp_path_factory.mktemp("run") / "w"


@pytest.fixture(scope="module")
def arguments(workdir):
    """Of a run on 46 puppets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Puppets, "EXPECTED_COUNTS", {"train": 30, "validation": 6, "test": 10})
        prepare.prepare("puppets", None, workdir.parent / "data")
    return [
        "--config=configs/tiny.py",
        f"--workdir={workdir}",
        f"--config.dataset.data_dir={workdir.parent / 'data'}",
    ]


@pytest.fixture(scope="module")
def finished(arguments):
    result = start("pipeline", *arguments)
    assert result.returncode == 0, result.stderr
    return result


def test_everything_promised_is_there(finished, workdir):
    metrics = json.loads((workdir / "evaluation" / "metrics.json").read_text())
    assert all(isinstance(value, int | float) for value in metrics.values())
    assert 0 <= metrics["foreground_iou"] <= 1 and metrics["foreground_iou_count"] == 10
    assert metrics.keys() >= {"part_nmi", "part_ari", "foreground_nmi", "sliced_wasserstein"}
    assert json.loads((workdir / "config.json").read_text())["image_size"] == 16
    for stage, steps in (("gan", 8), ("segmenter", 4)):
        rows = (workdir / stage / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(row)["step"] for row in rows] == list(range(2, steps + 1, 2))
        assert list((workdir / stage / "samples").glob("*.png"))
        assert (workdir / stage / "checkpoints" / str(steps)).is_dir()
    card = json.loads((workdir / "evaluation" / "run_card.json").read_text())
    assert (card["dataset"], card["seed"]) == ("puppets", 0)
    for stage in ("gan", "segmenter"):
        (start,) = card["stages"][stage]["starts"]
        assert start["step"] == 0 and "experiments." in start["command"]
    report = (workdir / "report.html").read_text()
    assert html.escape(start["command"]) in report
    assert "data:image/png;base64," in report
    assert not re.search(r'(src|href)="(?!data:|#)', report)


def test_finished_stages_are_skipped(finished, arguments, workdir):
    before = (workdir / "gan" / "metrics.jsonl").read_text()
    result = start("pipeline", *arguments)
    assert result.returncode == 0
    assert "gan: finished before, at step 8" in result.stderr
    assert "segmenter: finished before, at step 4" in result.stderr
    assert (workdir / "gan" / "metrics.jsonl").read_text() == before


def test_a_finished_run_takes_up_refinement_and_what_parts_are_called(finished, arguments, workdir):
    path = workdir / "evaluation" / "metrics.json"
    before = json.loads(path.read_text())
    parts.write(workdir, [parts.Part("head", "#123456"), parts.Part(into=1), parts.Part("leg")])
    result = start("pipeline", *arguments, "--config.segmenter.refine=True")
    assert result.returncode == 0, result.stderr
    after = json.loads(path.read_text())
    for name in ("foreground_iou", "part_nmi", "foreground_iou_count"):
        assert after[f"without_refinement/{name}"] == before[name]
    assert "reference: without refinement" in result.stdout
    report = html.unescape((workdir / "report.html").read_text())
    assert "brought to the photos' edges" in report
    names = re.findall(r'<span class="name">(.*?)</span>', report)
    pictures = [np.asarray(Image.open(path.parent / "segmented.png"))]
    data = re.search(r'<img alt="Samples at step 8[^"]*" src="[^,]*,([^"]+)"', report)[1]
    pictures.append(np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")))
    for picture in pictures:
        square = (picture == (0x12, 0x34, 0x56)).all(-1)
        assert square[:22].sum() >= 144  # In the legend, where part 2 has none of its own.
        assert not (picture == palette(4)[2]).all(-1).any()
    assert names.index("Foreground IoU") < names.index("Without refinement: Foreground IoU")


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        (
            ["--config.gan.batch_size=2", "--config.gan.num_step=3"],
            "--config.gan.num_step: there is no num_step; did you mean num_steps?",
        ),
        (["--config.model.num_parts=4"], "was begun with model.num_parts=3, not 4"),
        (["--workdirr=x"], "did you mean --workdir"),
        (["--process_id=0"], "belong together"),
        (["extra"], "unexpected argument 'extra'"),
    ],
)
def test_mistakes_get_one_line(finished, arguments, changes, answer):
    result = start("pipeline", *arguments, *changes)
    assert result.returncode == 2
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("error:"))
    assert answer in line
    assert "Traceback" not in result.stderr


def test_wrong_argument_of_a_config_gets_one_line():
    result = start("pipeline", "--config=configs/image_folder.py:variant=huge", "--workdir=W")
    assert result.returncode == 2
    line = "error: --config: variant='huge' is none of small, released, paper"
    assert result.stderr.splitlines() == [line]


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ("def get_config(:", 1),
        ("def get_config():\n    return {}['a']", 2),
        ("def get_config():\n    return int([])", 2),
    ],
)
def test_mistake_in_a_config_file_is_answered_with_its_place(tmp_path, config, line):
    file = tmp_path / "broken.py"
    file.write_text(config)
    result = start("pipeline", f"--config={file}", "--workdir=W")
    assert result.returncode != 0
    assert f'{file}", line {line}' in result.stderr
