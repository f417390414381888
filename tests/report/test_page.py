"""The report says everything it was given, in one well-formed page that needs nothing else."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from ganseg_jax.errors import UserError
from ganseg_jax.report import measures
from ganseg_jax.report.curves import curve_svg, curves
from ganseg_jax.report.page import Report, render_report, write_report
from ganseg_jax.report.png import encode_png

VOID = {"meta", "br", "img", "line"}


class Page(HTMLParser):
    """Text, attributes and nesting of a page."""

    def __init__(self, page):
        super().__init__()
        self.open, self.text, self.attributes, self.tags = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)


def full_report():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (6, 9, 3), dtype=np.uint8)
    rows = [{"step": step, "generator_loss": 1 / (1 + step), "note": "x"} for step in range(30)]
    return Report(
        title="Parts of <puppets> & others",
        lead="What was done.",
        summary=[("Data set", "puppets"), ("Images", 6000)],
        metrics={"foreground_iou": 0.81234, "landmark_error": 0.0618, "new_measure": 12.0},
        counts={"foreground_iou": 500},
        intervals={"foreground_iou": (0.80125, 0.8241), "landmark_error": (0.0598, 0.0631)},
        curves={"gan": rows, "segmenter": []},
        figures=[("Samples. Rows: image.", picture), ("Photos", encode_png(picture[:3]))],
        tables=[
            ("Table 1", ["Method", "K=8"], [["GANSeg", 6.18], ["* ours", None], ["SCOPS", 15]])
        ],
        config={"gan": {"num_steps": 30}, "seed": 0},
    )


def test_page_is_well_formed_and_holds_everything():
    page = Page(render_report(full_report()))
    text = " ".join(page.text)
    assert page.open == []
    for expected in (
        "Parts of <puppets> & others",
        "6,000",
        "Foreground IoU",
        "0.8123",
        "500",
        "6.18 %",
        "New measure",
        "Generator loss",
        "0.0333 at step 29",
        "95 %: 0.8013 to 0.8241",
        "5.98 to 6.31 %",
        "gan.num_steps",
        "15.00",
        "Rows: image.",
    ):
        assert expected in text
    assert "segmenter" not in text.lower()
    assert ("class", "ours") in page.attributes and "* ours" not in text


def test_page_needs_nothing_from_outside():
    page = render_report(full_report())
    attributes = dict(Page(page).attributes)
    assert "script" not in Page(page).tags and "link" not in Page(page).tags
    assert attributes["src"].startswith("data:image/png;base64,")
    assert not re.search(r"https?://|url\(|@import", page)


def test_pictures_arrive_unchanged():
    report = full_report()
    sources = [value for name, value in Page(render_report(report)).attributes if name == "src"]
    decoded = [base64.b64decode(source.partition(",")[2]) for source in sources]
    np.testing.assert_array_equal(Image.open(io.BytesIO(decoded[0])), report.figures[0][1])
    assert decoded[1] == report.figures[1][1]


def test_an_almost_empty_report_has_no_empty_sections():
    page = Page(render_report(Report(title="Nothing yet")))
    assert page.open == [] and "h2" not in page.tags


def test_write_report_is_whole_or_a_clear_line(tmp_path):
    path = tmp_path / "report.html"
    write_report(path, full_report())
    assert path.read_text("utf-8") == render_report(full_report())
    with pytest.raises(UserError, match="cannot write"):
        write_report(path / "inside" / "report.html", full_report())


def test_curves_take_the_last_row_of_a_step_and_leave_out_what_is_no_scalar():
    rows = [
        {"step": 2, "loss": 5.0, "time": 1.0},
        {"step": 1, "loss": 3, "flag": True, "text": "a"},
        {"step": 2, "loss": 4.0, "once": 1.0},
        {"step": 3, "loss": float("nan"), "other": None},
        {"loss": 9.0},
    ]
    found = curves(rows)
    assert list(found) == ["loss"]
    np.testing.assert_array_equal(found["loss"], [[1, 2], [3.0, 4.0]])


def coordinates(svg, tag):
    points = re.search(rf'<{tag} class="\w+" points="([^"]+)"', svg)[1]
    return np.array([[float(v) for v in pair.split(",")] for pair in points.split()])


def test_curve_spans_the_chart_and_falls_where_values_fall():
    svg = curve_svg("loss", np.arange(1000), np.linspace(8, 2, 1000))
    line, band = coordinates(svg, "polyline"), coordinates(svg, "polygon")
    assert len(line) <= 100 and len(band) == 2 * len(line)
    assert (np.diff(line[:, 1]) > 0).all()  # y grows downwards
    assert line[0, 0] < 55 and line[-1, 0] > 320
    assert band[:, 1].min() >= 0 and band[:, 1].max() <= 190
    assert ">4</text>" in svg and ">6</text>" in svg and ">400</text>" in svg


def test_curves_over_decades_are_logarithmic():
    values = 10.0 ** np.linspace(2, -3, 50)
    line = coordinates(curve_svg("penalty", np.arange(50), values), "polyline")
    slopes = np.diff(line[:, 1])
    np.testing.assert_allclose(slopes, slopes.mean(), atol=0.2)


@pytest.mark.parametrize("values", [[0.0, 0.0], [-5.0, -5.0], [1e9, 2e9], [1e-12, 3e-12], [0, 1]])
def test_curves_of_odd_ranges_stay_in_the_chart(values):
    svg = curve_svg("loss", np.array([10, 20]), np.array(values, float))
    line = coordinates(svg, "polyline")
    assert np.isfinite(line).all() and (line >= 0).all() and (line[:, 1] <= 190).all()


@pytest.mark.parametrize(
    "name,value,shown",
    [
        ("foreground_iou", 0.62912, "0.6291"),
        ("landmark_error_bias", 0.0618, "6.18 %"),
        ("taichi_mae", 417.172, "417.2"),
        ("fid", 21.4, "21.40"),
        ("images", 45609, "45,609"),
        ("tiny", 1.23456e-7, "1.23e-07"),
        ("nothing", float("nan"), "not a number"),
        ("negative", -0.5, "-0.5000"),
    ],
)
def test_values_are_written_as_readers_expect(name, value, shown):
    assert measures.format_value(name, value) == shown


def test_measures_of_variants_and_of_prefixed_names():
    bias = measures.measure_of("landmark_error_bias")
    assert bias.title == "Landmark error, with a constant" and bias.percent
    assert measures.measure_of("mean_mask/foreground_iou").title == "Mean mask: Foreground IoU"
    assert measures.measure_of("sliced_wasserstein_32").title == "Sliced Wasserstein distance (32)"
    assert measures.measure_of("something_new").title == "Something new"
