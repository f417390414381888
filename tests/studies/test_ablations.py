"""Ablations: what each setting changes, what is run, what is written."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from configs import celeba_wild, people_ccp, puppets
from ganseg_jax.config import file as config_file
from ganseg_jax.config import flat, freeze, with_fields
from ganseg_jax.data import prepare
from ganseg_jax.data.builders.puppets.builder import Puppets
from ganseg_jax.errors import UserError
from ganseg_jax.evaluation import inception
from ganseg_jax.evaluation.protocols import split_counts
from ganseg_jax.jobs import train as pipeline
from ganseg_jax.jobs.begin import begin, check
from ganseg_jax.latents import sample_latents
from ganseg_jax.models import build
from ganseg_jax.studies import ablations
from ganseg_jax.training.loop import NonFiniteError
from tests.evaluation.test_inception import MeanColor
from tests.tiny_config import config_with


def changes(config, name):
    """Fields in which a setting's config differs from the given one, with their values."""
    setting = ablations.paper_settings(config)[name]
    before = flat(config)
    after = flat(ablations.config_of(config, setting, config.seed))
    return {field: value for field, value in after.items() if before[field] != value}


def test_settings_change_what_they_are_named_after():
    config = freeze(celeba_wild.get_config())
    assert changes(config, "full") == changes(config, "points_4") == {}
    assert changes(config, "no_points") == {"model.use_points": False}
    assert changes(config, "no_points_no_background") == {
        "model.use_points": False,
        "model.separate_background": False,
    }
    assert changes(config, "no_concentration") == {"gan.concentration.weight": 0.0}
    assert changes(config, "no_area") == {"gan.area.weight": 0.0}
    without = with_fields(config, {"gan.area.weight": 0.0})
    assert changes(without, "area") == {"gan.area.weight": 1.0}
    fixed = {"model.heatmap": "gaussian", "model.part_scale": "0.00725"}
    assert changes(config, "fixed_scale") == fixed
    assert changes(config, "points_6") == {"model.points_per_part": 6}
    # GANSeg eq. 26: C_con is 1.25 for this set.
    assert changes(config, "parts_16") == {
        "model.num_parts": 16,
        "gan.concentration.weight": 20.0,
    }


def test_every_setting_fits_together():
    for full in (config_with(), freeze(puppets.get_config())):
        for setting in ablations.paper_settings(full).values():
            config = ablations.config_of(full, setting, seed=7)
            assert config.seed == 7 and full.seed == 0
            check(config)


@pytest.mark.parametrize("name", ["no_points_no_background", "fixed_scale", "parts_1"])
def test_unusual_generators_make_images_and_masks(name):
    config = config_with()
    config = ablations.config_of(config, ablations.paper_settings(config)[name], 0)
    generator = build.build_generator(config)
    latents = jax.eval_shape(lambda: sample_latents(jax.random.key(0), 2, 8))
    made = jax.eval_shape(
        lambda x: generator.init_with_output(jax.random.key(0), x, train=False)[0], latents
    )
    assert made.image.shape == (2, 16, 16, 3) and made.image.dtype == jnp.float32
    assert made.masks.shape == (2, 16, 16, config.model.num_parts + 1)


@pytest.fixture
def fake_runs(monkeypatch):
    """Runs that are finished at once; their figures are made of the seed. The list of them."""
    done = []

    def run_all(config, workdir):
        parts, seed = config.model.num_parts, config.seed
        done.append(workdir.split("/")[-2:])
        begin(config, workdir)
        if parts == 32:
            raise NonFiniteError("gan: generator is nan at step 3")
        figures = {"foreground_iou": 0.5 + 0.1 * seed, "foreground_iou_count": 9}
        if config.model.use_points:
            figures["landmark_error"] = 0.25 / parts
        (Path(workdir) / "evaluation").mkdir(exist_ok=True)
        with open(f"{workdir}/evaluation/metrics.json", "w") as file:
            json.dump(figures, file)
        return figures

    monkeypatch.setattr(pipeline, "run_all", run_all)
    return done


def test_table_has_mean_and_spread_over_the_seeds(fake_runs, tmp_path):
    names = ["full", "no_points", "parts_32"]
    summary = ablations.run_ablations(config_with(), str(tmp_path), names, (0, 2))
    assert fake_runs == [[name, f"seed_{seed}"] for name in names for seed in (0, 2)]
    assert json.loads((tmp_path / "ablations.json").read_text()) == summary
    # P = 3 is what the tiny config has: its runs are those of the full model.
    assert list(summary["settings"]) == ["full", "no_points", "points_3"]
    row = summary["settings"]["full"]
    assert row["seeds"] == [0, 2] and row["values"]["foreground_iou"] == [0.5, 0.7]
    assert row["mean"]["foreground_iou"] == pytest.approx(0.6)
    assert row["spread"]["foreground_iou"] == pytest.approx(0.02**0.5)
    assert summary["diverged"] == ["parts_32/seed_0", "parts_32/seed_2"]
    table = (tmp_path / "ablations.md").read_text()
    assert "| setting | what differs | seeds | Foreground IoU ↑ | Landmark error ↓ |" in table
    assert "| `full` | the config as it is | 0, 2 | 0.6000 ± 0.1414 | 8.33 % ± 0.00 % |" in table
    assert "| `no_points` | no points | 0, 2 | 0.6000 ± 0.1414 | – |" in table
    assert "infinite in parts_32/seed_0, parts_32/seed_2" in table
    picture = Image.open(tmp_path / "ablations.png")
    assert picture.mode == "RGB" and min(picture.size) > 100


def write_settings(tmp_path, rows):
    path = tmp_path / "settings.json"
    path.write_text(rows if isinstance(rows, str) else json.dumps(rows))
    return str(path)


def test_settings_of_ones_own_take_the_papers_place(fake_runs, tmp_path):
    rows = {
        "batch_2": {"description": "half the batch", "fields": {"gan.batch_size": 2}},
        "wide": {"fields": {"model.stage_channels": [8, 8], "gan.area.weight": 0}},
    }
    config = config_with()
    known = ablations.read_settings(write_settings(tmp_path, rows), config)
    workdir = tmp_path / "W"
    summary = ablations.run_ablations(config, str(workdir), seeds=(0,), known=known)
    assert fake_runs == [["full", "seed_0"], ["batch_2", "seed_0"], ["wide", "seed_0"]]
    assert [row["description"] for row in summary["settings"].values()] == [
        "the config as it is",
        "half the batch",
        "model.stage_channels = [8, 8], gan.area.weight = 0",
    ]
    assert config_file.load_config(workdir / "batch_2" / "seed_0").gan.batch_size == 2
    wide = config_file.load_config(workdir / "wide" / "seed_0")
    assert tuple(wide.model.stage_channels) == (8, 8) and wide.gan.area.weight == 0.0
    # What ran is found again, and nothing else runs.
    again = ablations.run_ablations(config, str(workdir), ["wide"], (0,), known)
    assert again == summary and len(fake_runs) == 3


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("{", "settings.json cannot be read as JSON"),
        ([], "must hold"),
        ({"a": {"model.heatmap": "linear"}}, "'a' needs \"fields\""),
        ({"a b": {"fields": {"seed": 1}}}, "'a b' cannot be a setting's name"),
        ({"full": {"fields": {"seed": 1}}}, "'full' cannot be a setting's name"),
        (
            {"a": {"fields": {"gan.batchsize": 1}}},
            "'a' changes 'gan.batchsize', which is no field; did you mean 'gan.batch_size'",
        ),
        ({"a": {"fields": {"gan.batch_size": "x"}}}, "setting a: .*batch_size"),
        ({"a": {"fields": {"model.heatmap": "x"}}}, "setting a: .*heatmap"),
    ],
)
def test_wrong_settings_files_are_answered(fake_runs, entry_point, tmp_path, rows, message):
    given = {"config": "configs/tiny.py", "workdir": tmp_path / "W"}
    given["settings_file"] = write_settings(tmp_path, rows)
    with pytest.raises(UserError, match=message):
        entry_point("ablations", **given).main()
    assert fake_runs == [] and not (tmp_path / "W").exists()


def test_committed_settings_fit_their_config():
    config = freeze(people_ccp.get_config("size=32"))
    known = ablations.read_settings("experiments/results/small_scale/settings.json", config)
    for setting in known.values():
        check(ablations.config_of(config, setting, seed=1))


def test_one_seed_has_no_spread(fake_runs, tmp_path):
    summary = ablations.run_ablations(config_with(), str(tmp_path), ["no_area"], [1])
    assert summary["settings"]["no_area"]["spread"] == {
        "foreground_iou": None,
        "landmark_error": None,
    }
    assert "| `no_area` | no area loss | 1 | 0.6000 | 8.33 % |" in ablations.table_of(summary)


def test_the_paper_s_figures_stand_below_ours():
    parts, points, numbers = ablations.published_tables("celeba_wild")
    assert "P = 3" in points and "6.08" in points and "0.644" not in points
    assert "K = 32" in numbers and parts.count("|") > 6
    assert ablations.published_tables("image_folder") == []


def test_finished_runs_are_skipped_and_stay_in_the_table(fake_runs, tmp_path):
    config = config_with()
    first = ablations.run_ablations(config, str(tmp_path), ["full"], (0, 1))
    assert ablations.run_ablations(config, str(tmp_path), ["points_3"], (0, 1)) == first
    assert len(fake_runs) == 2
    config = with_fields(config, {"dataset.data_dir": "elsewhere"})  # Changes no figure.
    later = ablations.run_ablations(config, str(tmp_path), ["no_area"], (0,))
    assert fake_runs[2:] == [["no_area", "seed_0"]]
    assert list(later["settings"]) == ["full", "no_area", "points_3"]
    # A longer training is another run; figures of the shorter one are no longer shown.
    config = with_fields(config, {"gan.num_steps": 16})
    assert "full" not in ablations.run_ablations(config, str(tmp_path), ["no_area"])["settings"]


def test_mistakes_are_named_before_anything_is_run(fake_runs, tmp_path):
    with pytest.raises(UserError, match="'no_point' is none of full, no_points, .* mean 'no_point"):
        ablations.run_ablations(config_with(), str(tmp_path), ["full", "no_point"])
    config = config_with(
        model__heatmap="gaussian", model__part_scale="std", model__points_per_part=1
    )
    with pytest.raises(UserError, match="setting full: .* needs points_per_part of at least 2"):
        ablations.run_ablations(config, str(tmp_path), ["fixed_scale", "full"])
    assert fake_runs == [] and not list(tmp_path.iterdir())


def test_entry_point_answers_mistakes_with_one_line(entry_point, tmp_path):
    given = {"config": "configs/tiny.py", "workdir": tmp_path}
    for changed, message in (
        ({"settings": "no_pionts"}, "--settings: 'no_pionts' is none of full, no_points"),
        ({"seeds": "0,x"}, "--seeds=0,x must be whole numbers"),
        ({"seeds": ""}, "--seeds= must be whole numbers"),
    ):
        with pytest.raises(UserError, match=message):
            entry_point("ablations", **given, **changed).main()
    with pytest.raises(UserError, match="--config is missing"):
        entry_point("ablations", workdir=tmp_path).main()


def test_real_runs_are_trained_once(entry_point, tmp_path, capsys, monkeypatch):
    """One setting of a few steps, with a stand-in for Inception, through the entry point."""
    monkeypatch.setattr(Puppets, "EXPECTED_COUNTS", {"train": 30, "validation": 6, "test": 10})
    prepare.prepare("puppets", None, tmp_path / "data")
    np.savez(tmp_path / "inception.npz", weight=np.float32(2))
    monkeypatch.setattr(
        inception, "load_fid_inception", lambda content: (MeanColor(), dict(content))
    )
    given = {
        "config": "configs/tiny.py",
        "config.evaluation.inception_checkpoint": tmp_path / "inception.npz",
        "workdir": tmp_path / "W",
        "settings": "no_points",
        "seeds": "1",
        "config.dataset.data_dir": tmp_path / "data",
        "config.gan.num_steps": 2,
        "config.gan.share_fakes": True,  # What is left out takes long to compile.
        "config.gan.gradient_penalty.weight": 0.0,
        "config.segmenter.num_steps": 1,
        "config.evaluation.references": False,
    }
    entry_point("ablations", **given).main()
    assert "| `no_points` | no points | 1 | " in capsys.readouterr().out
    run = tmp_path / "W" / "no_points" / "seed_1"
    config = config_file.load_config(run)
    assert config.seed == 1 and config.model.use_points is False
    metrics = json.loads((run / "evaluation" / "metrics.json").read_text())
    assert metrics["fid"] > 0 and metrics["fid_count"] == metrics["kid_count"] == 64
    assert metrics.keys() >= {"kid", "kid_spread", "sliced_wasserstein", "foreground_iou"}
    summary = json.loads((tmp_path / "W" / "ablations.json").read_text())
    mean = summary["settings"]["no_points"]["mean"]
    assert mean == split_counts(metrics)[0]
    before = (run / "gan" / "metrics.jsonl").stat().st_mtime_ns

    def never(*_):
        raise AssertionError("run again")

    monkeypatch.setattr(pipeline, "run_all", never)
    entry_point("ablations", **given).main()
    assert (run / "gan" / "metrics.jsonl").stat().st_mtime_ns == before
