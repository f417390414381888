"""Released checkpoints of each of the paper's sets, in one command, on tiny trees of the sets."""

import json

import numpy as np
import pytest

from ganseg_jax.config import file as config_file
from ganseg_jax.config import with_fields
from ganseg_jax.data import prepare
from ganseg_jax.errors import UserError
from ganseg_jax.interop import weights
from ganseg_jax.jobs import measure
from ganseg_jax.jobs import published as run
from ganseg_jax.loading import load_segmenter
from ganseg_jax.models.discriminator import Discriminator
from tests.data.test_published_sets import TREES
from tests.jobs.test_convert import HYPERPARAMETERS, state_dicts
from tests.tiny_config import config_with

CLASSES = {"celeba_wild": "celeba_wild", "celeba_aligned": "celeba_align", "cub": "cub"}
CLASSES |= {"flowers": "flower", "taichi": "taichi"}

FIGURES = {
    "celeba_wild": ["landmark_error"],
    "celeba_aligned": ["landmark_error"],
    "cub": ["foreground_iou", "landmark_error"],
    "flowers": ["foreground_iou"],
    "taichi": ["taichi_mae", "foreground_iou", "taichi_renormalised"],
}

# What is measured is of one size whatever the set, and compiled once.
SETTINGS = {
    "evaluation.batch_size": 2,
    "evaluation.num_samples": 2,
    "evaluation.embedding_samples": 2,
    "evaluation.references": False,
}


SIZES = {"image_size": 16, "feature_map_sizes": "8,16", "feature_map_channels": "4,4"}


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """Files as released, of small networks with three parts; parameters by the set's name."""
    folder = tmp_path_factory.mktemp("released")
    networks = state_dicts(HYPERPARAMETERS | SIZES, Discriminator((4, 4, 8), 8), 16)
    detector = networks.pop("detector")
    weights.write(folder / "gan.npz", networks)
    weights.write(folder / "segmenter.npz", {"detector": detector})

    def files(class_name, **changes):
        path = folder / f"{class_name}.json"
        path.write_text(json.dumps(HYPERPARAMETERS | SIZES | {"class_name": class_name} | changes))
        return run.Released(*map(str, (folder / "gan.npz", path, folder / "segmenter.npz")))

    return files


def measure_photos_alone(config, workdir):
    segmenter = load_segmenter(workdir, named=False, engine="jax")
    return measure.measure_photos(config, segmenter).figures


@pytest.mark.parametrize("name", TREES)
def test_one_command_from_files_to_the_papers_row(name, released, tmp_path, capsys, monkeypatch):
    if name != "cub":  # Samples and report do not depend on the set.
        monkeypatch.setattr(run.measuring, "evaluate", measure_photos_alone)
    TREES[name](tmp_path / "source")
    data = str(tmp_path / "data")
    prepare.prepare(name, tmp_path / "source", data, verify_counts=False)
    settings = SETTINGS | {"dataset.data_dir": data}
    given = name if name == "celeba_aligned" else None
    files = released(CLASSES[name])
    _, header, rows = run.evaluate(files, tmp_path / "W", given, settings)
    assert header == ["figure", "paper", "here", "difference"]
    if name == "cub":
        written = json.loads((tmp_path / "W/evaluation/metrics.json").read_text())
        assert set(FIGURES[name]) <= set(written)
    assert len(rows) == len(FIGURES[name])
    assert all(np.isfinite(row[2]) for row in rows)
    config = config_file.load_config(tmp_path / "W")
    assert (config.dataset.name, config.dtype) == (name, "float32")
    assert config.evaluation.precision == "highest"
    assert f"The published checkpoint on {name}, K = 3" in capsys.readouterr().out
    assert "| figure | paper | here | difference |" in (
        tmp_path / "W/beside_the_paper.md"
    ).read_text("utf-8")


def test_the_row_stands_beside_the_papers_of_the_same_parts():
    config = with_fields(config_with(), {"dataset.name": "celeba_wild", "model.num_parts": 8})
    _, _, rows = run.beside_the_paper(config, {"landmark_error": 0.0625, "fid": 20.0})
    assert [row[1:] for row in rows] == [[6.18, 6.25, 0.07], [21.42, 20.0, -1.42]]
    assert "wild, K = 8" in rows[0][0]
    config = with_fields(config, {"model.num_parts": 5})
    _, _, rows = run.beside_the_paper(config, {"landmark_error": 0.0625})
    assert [row[1:] for row in rows] == [[None, 6.25, None]]


def test_a_call_that_was_cut_off_resumes(released, tmp_path, monkeypatch):
    # Before the segmenter is there, then before anything is measured.
    monkeypatch.setattr(run, "prepare_data", lambda config: None)
    calls = []
    monkeypatch.setattr(run.measuring, "evaluate", lambda *given: calls.append(given) or {})

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):

        def stop(*given):
            raise KeyboardInterrupt

        patch.setattr(run.convert, "import_segmenter", stop)
        run.evaluate(released("cub"), tmp_path / "W")
    assert (tmp_path / "W/gan").exists() and not (tmp_path / "W/segmenter").exists()
    run.evaluate(released("cub"), tmp_path / "W")
    monkeypatch.setattr(run.convert, "import_gan", stop)
    monkeypatch.setattr(run.convert, "import_segmenter", stop)
    run.evaluate(released("cub"), tmp_path / "W")
    assert len(calls) == 2
    with pytest.raises(UserError, match="W holds other checkpoints: choose another --workdir"):
        run.evaluate(released("cub", lr_gen=1e-3), tmp_path / "W")


@pytest.mark.parametrize(
    ("change", "dataset", "message"),
    [
        ({"generator": "none.model"}, None, "none.model: there is no such weight file"),
        ({"segmenter": "none.model"}, None, "none.model: there is no such weight file"),
        ({"parameters": "none.json"}, None, "none.json cannot be read as parameters.json"),
        (
            {"class_name": "cub"},
            "flowers",
            "--dataset=flowers, but .*cub.json is of a model of cub",
        ),
        ({"class_name": "horse"}, None, "names the class 'horse', which is no set of the paper"),
        ({}, "cubs", "--dataset=cubs is none of the paper's: celeba_wild, "),
        (
            {"n_keypoints": 8},
            None,
            "segmenter.npz has 3 parts, but .* has 8: give the files of one",
        ),
        ({"segmenter": "generator"}, None, "segmenter: the checkpoint lacks"),
        ({}, None, "source"),
    ],
)
def test_mistakes_are_answered_before_anything_is_written(
    released, tmp_path, change, dataset, message
):
    change = dict(change)
    names = {k: change.pop(k) for k in run.Released._fields if k in change}
    files = released(change.pop("class_name", "flower"), **change)
    files = files._replace(**{k: getattr(files, v, v) for k, v in names.items()})
    settings = {"dataset.data_dir": str(tmp_path / "data")}
    with pytest.raises(UserError, match=message) as caught:
        run.evaluate(files, tmp_path / "W", dataset, settings)
    assert "\n" not in str(caught.value).strip() or message == "source"
    assert not (tmp_path / "W").exists()
