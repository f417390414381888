"""What the report says of the hardware, against a log whose sums are done by hand."""

import html

from ganseg_jax.report.curves import curves
from ganseg_jax.report.hardware import sentences
from ganseg_jax.report.page import Report, render_report


def row(step, seconds, data, compilation=0.0, **more):
    lost = {"data": data, "checkpoints": 1.0, "logging": 0.0, "compilation": compilation}
    used = {f"lost_to_{name}": value for name, value in lost.items()} | {"seconds": seconds} | more
    return {"step": step, "loss": 1.0} | {f"hardware/{k}": v for k, v in used.items()}


ROWS = [
    row(100, 30.0, 4.0, 10.0, step_ms=150.0, images_per_second=100.0, memory_peak_bytes=2**30),
    row(200, 99.0, 98.0, step_ms=9.0, images_per_second=9.0),  # Cut off, and done again:
    row(200, 20.0, 1.0, step_ms=190.0, images_per_second=120.0, memory_peak_bytes=3 * 2**30),
]


def test_shares_are_of_the_whole_time():
    said = sentences(ROWS)
    # 50 s in all: 5 for data, 2 for checkpoints, 10 for compilation.
    assert said[0] == (
        "66.0 % of the time went to the steps, 10.0 % to waiting for data, 4.0 % to saving "
        "checkpoints, 0.0 % to logging and pictures, 20.0 % to compiling."
    )
    assert said[1:] == [
        "An update took 170 ms; with all pauses, 110 images a second were trained on.",
        "A device held at most 3 GiB.",
    ]


def test_utilization_is_said_if_it_is_known():
    rows = [{**ROWS[0], "hardware/model_flops_utilization": 0.4}]
    rows.append({**ROWS[2], "hardware/model_flops_utilization": 0.2})
    assert "That is 30.0 % of the arithmetic that the devices can do at most" in sentences(rows)[2]


def test_log_of_an_older_version_says_nothing():
    assert sentences([{"step": 1, "loss": 2.0}]) == [] == sentences([])
    page = render_report(Report("T", curves={"gan": [{"step": 1, "loss": 2.0}]}))
    assert "hardware" not in page


def test_page_has_the_sentences_folded_in_and_no_curves_of_them():
    page = render_report(Report("T", curves={"gan": ROWS}))
    folded = page.partition("<summary>How the hardware was used</summary>")[2]
    assert "<h3>GAN</h3>" in folded and html.escape(sentences(ROWS)[0]) in folded
    assert set(curves(ROWS)) == {"loss"}
