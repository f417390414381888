"""Labels by hue, and how the study's figures become a table and a curve."""

import colorsys

import numpy as np
import pytest

from ganseg_jax.data.builders.puppets import render
from ganseg_jax.fewshot import evaluate
from ganseg_jax.studies import few_shot_report as study_report
from ganseg_jax.studies import puppet_labels


def test_hue_saturation_and_value():
    colors = np.random.default_rng(0).integers(0, 256, (50, 3), np.uint8)
    colors[:4] = [(0, 0, 0), (90, 90, 90), (200, 10, 10), (10, 10, 200)]
    expected = np.array([colorsys.rgb_to_hsv(*(color / 255)) for color in colors])
    np.testing.assert_allclose(np.stack(puppet_labels.hsv(colors), -1), expected, atol=1e-5)


def test_parts_of_puppets_are_told_by_their_colours():
    puppets = render.render(40, 32, seed=3)
    measured = evaluate.measure(
        puppet_labels.label_by_hue,
        puppets.images,
        puppets.labels.astype(int),
        puppet_labels.CLASSES,
    )
    assert min(measured.by_class.values()) > 0.85


def test_only_one_bright_patch_is_a_puppet():
    image = np.full((1, 16, 16, 3), 120, np.uint8)
    assert not puppet_labels.label_by_hue(image).any()
    image[0, 2:8, 2:8] = (220, 30, 30)  # The torso's red.
    image[0, 12:14, 12:14] = (220, 30, 30)
    image[0, 2:8, 8:10] = (60, 8, 8)  # Too dark to tell.
    labels = puppet_labels.label_by_hue(image)[0]
    assert (labels[2:8, 2:8] == 2).all() and (labels > 0).sum() == 36


def test_whole_figures_are_labelled_first():
    whole = np.zeros((20, 20), np.uint8)
    for part in range(1, len(puppet_labels.CLASSES)):
        whole[2:6, 3 * part] = part
        whole[2:6, 3 * part + 1] = part
    lacking = np.where(whole == 2, 0, whole)
    running_out = whole.copy()
    running_out[2:6, 16:] = 5
    touching = whole.copy()
    touching[3, 16:] = 5
    rows = puppet_labels.rows_to_label(np.stack([lacking, whole, running_out, touching]))
    assert rows.tolist() == [1, 3, 0, 2]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.2, "at most 1"), (0.5, "about 10"), (0.65, "about 32"), (0.9, "more than 100")],
)
def test_labels_that_supervision_needs(value, expected):
    assert study_report.equal_supervision({1: 0.3, 10: 0.5, 100: 0.8}, value) == expected


def test_seeds_are_averaged():
    entries = [
        {"kind": "supervised", "labels": n, "seed": seed, "mean_iou": iou}
        for n, seed, iou in [(10, 0, 0.4), (1, 0, 0.1), (10, 1, 0.6)]
    ]
    found = study_report.means({"entries": entries}, "supervised")
    assert list(found.items()) == [(1, pytest.approx(0.1)), (10, pytest.approx(0.5))]
    assert study_report.means({"entries": entries}, "few-shot") == {}
