"""Evaluated runs in one table, on workdirs that hold figures alone."""

import json

import numpy as np
import pytest
from scipy import stats

from ganseg_jax import files
from ganseg_jax.config.file import save_config
from ganseg_jax.errors import UserError
from ganseg_jax.evaluation import intervals
from ganseg_jax.jobs import compare
from ganseg_jax.report.tables import plain_table
from tests.tiny_config import config_with

PHOTOS = {"dataset": "puppets", "splits": {"test": [40, 1000]}}
HARD = np.random.default_rng(0).uniform(0.3, 0.7, 40)


def evaluated(folder, gain=0.0, photos=PHOTOS, fid=30.0, **fields):
    """A workdir whose images are measured as HARD plus about `gain`."""
    save_config(config_with(**fields), folder)
    noise = np.random.default_rng(int(1e4 * gain)).normal(0, 0.01, 40)
    figures = {
        "foreground_iou": intervals.mean_of(HARD + gain + noise),
        "foreground_iou_count": 40,
        "fid": fid,
    }
    files.write_json(folder / "evaluation" / "metrics.json", intervals.with_intervals(figures))
    intervals.save(folder / "evaluation" / "per_image.npz", figures, photos)
    return str(folder)


def text_of(content):
    return plain_table(compare.table_of(content))


def test_two_runs_are_tested_image_by_image(tmp_path):
    one = evaluated(tmp_path / "one")
    other = evaluated(tmp_path / "other", 0.02, fid=28.0, gan__num_steps=50)
    content = compare.compare([one, other], tmp_path / "out")
    found = content["differences"]["other"]["foreground_iou"]
    assert found["value"] == pytest.approx(0.02, abs=0.01)
    assert 0 < found["low"] < found["value"] < found["high"]
    assert found["p"] < 0.01 and found["over"] == "images"
    assert content["differences"]["other"]["fid"] == {"value": -2.0}
    assert [run["settings"] for run in content["runs"]] == [
        {"gan.num_steps": 8},
        {"gan.num_steps": 50},
    ]
    figure = content["runs"][1]["figures"]["foreground_iou"]
    assert figure["low"] < figure["value"] < figure["high"] and figure["count"] == 40
    text = text_of(content)
    assert "gan.num_steps" in text and "p ≤ 0.001" in text and "less one" in text
    assert json.loads((tmp_path / "out" / "compare.json").read_text()) == content
    assert "| gan.num_steps | 8 | 50 |" in (tmp_path / "out" / "compare.md").read_text()


def test_runs_of_other_seeds_are_put_together_and_tested_over_them(tmp_path):
    gains = {"a": (0.0, 0.03, 0.01), "b": (0.1, 0.13, 0.12)}
    places = [
        evaluated(tmp_path / f"{name}{seed}", gain, seed=seed, segmenter__width=width)
        for (name, given), width in zip(gains.items(), (0.5, 0.25), strict=True)
        for seed, gain in enumerate(given)
    ]
    # How it was evaluated, as far as no figure depends on it, does not set runs apart.
    save_config(
        config_with(seed=2, segmenter__width=0.25, evaluation__references=False),
        tmp_path / "b2",
    )
    content = compare.compare(places)
    first, second = (run["figures"]["foreground_iou"] for run in content["runs"])
    assert [run["seeds"] for run in content["runs"]] == [[0, 1, 2], [0, 1, 2]]
    assert first["value"] == pytest.approx(np.mean(first["values"]))
    assert first["spread"] == pytest.approx(np.std(first["values"], ddof=1))
    found = content["differences"]["b0"]["foreground_iou"]
    expected = stats.ttest_ind(second["values"], first["values"], equal_var=False)
    assert found["p"] == pytest.approx(expected.pvalue) and found["over"] == "seeds"
    assert found["low"] < found["value"] < found["high"]
    assert "a0 (3 seeds)" in text_of(content) and "±" in text_of(content)
    assert content["differences"]["b0"]["fid"] == {"value": 0.0}  # Equal in all seeds.


def test_one_seed_beside_several_is_not_tested(tmp_path):
    places = [evaluated(tmp_path / f"a{seed}", 0.01 * seed, seed=seed) for seed in (0, 1)]
    places.append(evaluated(tmp_path / "b", 0.1, segmenter__width=0.5))
    content = compare.compare(places)
    assert content["differences"]["b"]["foreground_iou"].keys() == {"value"}
    assert "a test takes two of each run" in " ".join(compare.notes_of(content))


def test_figures_of_an_older_version_are_shown_without_a_test(tmp_path):
    one, other = evaluated(tmp_path / "one"), evaluated(tmp_path / "other", 0.1, seed=1)
    (tmp_path / "other" / "evaluation" / "per_image.npz").unlink()
    files.write_json(tmp_path / "other" / "evaluation" / "metrics.json", {"foreground_iou": 0.6})
    save_config(config_with(gan__num_steps=50), tmp_path / "other")
    content = compare.compare([one, other])
    assert content["runs"][1]["figures"] == {"foreground_iou": {"value": 0.6}}
    assert content["differences"]["other"]["foreground_iou"].keys() == {"value"}


def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path):
    places = [evaluated(tmp_path / d / "w", gan__num_steps=n) for d, n in (("a", 5), ("b", 6))]
    assert [run["name"] for run in compare.compare(places)["runs"]] == places


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: (w / "config.json").unlink(), "has no config.json, so nothing was trained"),
        (lambda w: (w / "evaluation/metrics.json").unlink(), "was not evaluated: run `.*evaluate"),
        (lambda w: (w / "evaluation/metrics.json").write_text("{"), "metrics.json is damaged"),
        (
            lambda w: save_config(config_with(dataset__name="cub"), w),
            "one was measured on puppets and other on cub: compare runs of one data set",
        ),
        (
            lambda w: evaluated(w, photos=PHOTOS | {"splits": {"test": [40, 999]}}),
            "were measured on different photos of puppets",
        ),
    ],
)
def test_mistakes_are_one_line(tmp_path, change, message):
    one, other = evaluated(tmp_path / "one"), evaluated(tmp_path / "other")
    change(tmp_path / "other")
    with pytest.raises(UserError, match=message) as error:
        compare.compare([one, other])
    assert "\n" not in str(error.value)


def test_two_workdirs_are_needed(tmp_path):
    one = evaluated(tmp_path / "one")
    with pytest.raises(UserError, match="name two or more"):
        compare.compare([one])
    with pytest.raises(UserError, match="one is given twice"):
        compare.compare([one, one + "/"])


def test_the_program_prints_the_table(tmp_path, entry_point, capsys):
    places = [evaluated(tmp_path / "one"), evaluated(tmp_path / "other", 0.02, gan__num_steps=50)]
    module = entry_point("compare", output=tmp_path / "out")
    module.WORKDIRS.take(places)
    module.main()
    printed = capsys.readouterr().out
    assert "Foreground IoU (higher is better)" in printed and "paired bootstrap" in printed
    assert (tmp_path / "out" / "compare.md").exists()
