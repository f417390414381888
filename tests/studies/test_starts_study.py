"""The study of what can be told without labels: ranks, choices, fitted weights, rows."""

import numpy as np
import pytest

from ganseg_jax.config import freeze, with_fields
from ganseg_jax.errors import UserError
from ganseg_jax.evaluation import evidence
from ganseg_jax.jobs.starts import Start, small
from ganseg_jax.studies import starts
from tests.one_stage import WITH_ONE_STAGE
from tests.tiny_config import config_with


def made(category, qualities, **terms):
    """Rows of trainings at 200 and 600 updates; a term is a function of the last IoU."""
    rows = []
    for seed, quality in enumerate(qualities):
        found = dict.fromkeys(evidence.NAMES, 0.5) | {k: f(quality) for k, f in terms.items()}
        common = {"category": category, "start": "disc 0.25", "seed": seed, "nmi": quality / 2}
        rows.append(common | {"step": 200, "iou": 1 - quality} | found)
        rows.append(common | {"step": 600, "iou": quality} | dict.fromkeys(evidence.NAMES, 0.0))
    return rows


QUALITIES = [0.3, 0.8, 0.5, 0.6]
ROWS = [
    *made("people", QUALITIES, separation=lambda q: q, border=lambda q: -(q**3)),
    *made("horses", QUALITIES[::-1], separation=lambda q: q + 5, border=lambda q: 1 - q),
]


def test_terms_are_ranked_against_the_last_figure():
    found = starts.correlations(ROWS, 200)
    assert found["separation"] == pytest.approx({"people": 1, "horses": 1})
    assert found["border"] == pytest.approx({"people": -1, "horses": -1})
    assert found["mirror"] == {"people": 0, "horses": 0}  # It says nothing.
    assert starts.correlations(ROWS, 200, "nmi")["separation"]["people"] == pytest.approx(1)
    # By hand: ranks 1 2 3 4 and 2 1 4 3 differ by one each: 1 - 6 * 4 / (4 * 15).
    assert starts.spearman([1, 2, 3, 4], [5, 3, 9, 8]) == pytest.approx(0.6)


def test_weights_are_fitted_inside_categories_and_tried_on_others():
    weights = starts.fitted(ROWS, 200, ("separation", "mirror"), ridge=1e-6)
    assert weights["separation"] == pytest.approx(1, abs=1e-4)
    assert weights["mirror"] == pytest.approx(0, abs=1e-4)
    assert starts.held_out(ROWS, 200, ("separation", "border")) == {
        "people": (0.8, 0.8),
        "horses": (0.8, 0.8),
    }
    wrong = starts.regrets(ROWS, 200, {"separation": -1.0})
    assert wrong == {"people": (0.3, 0.8), "horses": (0.3, 0.8)}


def test_the_table_names_the_best_term_first():
    table = starts.table_of(ROWS, 200)
    first = next(line for line in table.splitlines() if line.startswith("| separation"))
    assert first.split("|")[2].strip() == "1.00"
    assert "| people | 0.800 | 0.800 |" in table
    picture = starts.picture_of(ROWS, 200)
    assert picture.std() > 10 and picture.shape[1] > picture.shape[0]  # Two panels.


def test_rows_are_measured_once(puppets_dir, tmp_path):
    config = config_with(
        **WITH_ONE_STAGE,
        starts__image_size=8,
        starts__num_steps=1,
        starts__segmenter_steps=1,
        starts__photos=3,
        dataset__data_dir=str(puppets_dir),
    )
    asked = (config, tmp_path, [Start("disc", 0.25)], [0], [1, 2], "puppets")
    rows = starts.collect(*asked)
    assert [row["step"] for row in rows] == [1, 2] and rows[0]["labelled"] == 3
    for row in rows:
        assert all(np.isfinite(row[name]) for name in evidence.NAMES)
        assert 0 <= row["iou"] <= 1 and 0 <= row["nmi"] <= 1
    before = (tmp_path / "rows.jsonl").read_text()
    starts.collect(*asked)
    assert (tmp_path / "rows.jsonl").read_text() == before


def test_short_trainings_are_the_beginning_of_a_longer_one():
    from configs import image_folder

    config = freeze(image_folder.get_config())
    short = small(config)
    assert (short.image_size, short.gan.num_steps) == (32, 200)
    share = config.gan.concentration.decay_until / config.gan.num_steps
    assert short.gan.concentration.decay_until == pytest.approx(600 * share, abs=1)


def test_photos_without_masks_are_refused(puppets_dir, tmp_path, monkeypatch):
    config = config_with(**WITH_ONE_STAGE, dataset__data_dir=str(puppets_dir))
    config = with_fields(config, {"starts.image_size": 8, "starts.num_steps": 1})
    split = starts.pipeline.load_split("puppets", str(puppets_dir), "train", 8, 2)
    bare = starts.pipeline.Split(split.images, split.names)
    monkeypatch.setattr(starts.pipeline, "load_split", lambda *_: bare)
    monkeypatch.setattr(starts, "Trial", None)  # Nothing is trained.
    with pytest.raises(UserError, match="no photo of puppets has a mask"):
        starts.collect(config, tmp_path, [Start("disc", 0.25)], [0], [1], "puppets")
