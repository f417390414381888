"""What the page of a run says about runs that cannot be measured against masks."""

import numpy as np
import pytest

from ganseg_jax.report.run_page import Run, run_report
from tests.tiny_config import config_with

CARD = {
    "stages": {},
    "notes": [],
    "refined": False,
    "evaluation": {
        **{"num_devices": 1, "device": "cpu", "host": "one", "python": "3.12"},
        **{"packages": {"jax": "0.10"}, "commit": None, "command": "evaluate"},
    },
}


def lead_of(figures):
    run = Run(
        config=config_with(),
        card=CARD,
        figures=figures,
        counts={},
        intervals={},
        compared={},
        tables=(),
        logs={},
        pictures={"segmented": np.zeros((4, 4, 3), np.uint8)},
        has_truth=False,
        samples=(),
        sizes={"test": 3},
    )
    return run_report(run).lead


@pytest.mark.parametrize(
    ("figures", "told"),
    [
        ({"foreground_share": 1.0, "mirror_agreement": 1.0}, "parts paint background (100 %"),
        ({"foreground_share": 0.0, "mirror_agreement": 1.0}, "no part was found (0 %"),
        ({"foreground_share": 0.4, "mirror_agreement": 0.7}, None),
        ({"foreground_share": 1.0, "foreground_iou": 0.3}, None),  # Ground truth says it.
        ({"sliced_wasserstein": 20.0}, None),
    ],
)
def test_masks_that_are_no_object_are_called_a_failure(figures, told):
    lead = lead_of(figures)
    assert ("has failed" in lead) == (told is not None)
    assert told is None or told in lead
    assert ("no ground truth" in lead) == ("foreground_iou" not in figures)
