"""The studio in a browser: a person drags, drops, names, reloads, and the server ends meanwhile."""

import contextlib
import pathlib
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from tests.fewshot.chromium import Page, find_chromium
from tests.studio.conftest import running

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="no Chromium is installed")

ROOT = pathlib.Path(__file__).parents[2]
READY = "window.studio?.page.ready && studio.sample.drawn > 0"
CENTER = '#handles [data-part="{}"]:not([data-point])'


@pytest.fixture
def page(studio):
    with Page(studio.url) as made:
        made.wait_for(READY)
        yield made


def middle(page, selector):
    """Where an element's middle is on the screen."""
    return page.evaluate(
        f"(() => {{ const b = document.querySelector('{selector}').getBoundingClientRect();"
        "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
    )


def points(page):
    return np.array(page.evaluate("studio.sample.points"))


def column_of_part(page, part):
    """The mean column of a part's pixels in the picture that is shown."""
    labels = np.array(page.evaluate("Array.from(studio.sample.frame.labels)")).reshape(64, 64)
    return np.nonzero(labels == part)[1].mean()


def drag(page, start, way):
    page.mouse("mousePressed", *start)
    for share in (0.3, 0.6, 1):
        page.mouse("mouseMoved", start[0] + share * way[0], start[1] + share * way[1])
    page.mouse("mouseReleased", start[0] + way[0], start[1] + way[1])


def drop(page, files):
    data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        page.call("Input.dispatchDragEvent", type=kind, x=300, y=300, data=data)


def settled(page):
    """Waits until what is shown is what the points say."""
    page.wait_for("studio.sample.idle() && studio.sample.frame.exact")


def test_a_drag_moves_a_part_and_survives_a_reload(page):
    before, column = points(page), column_of_part(page, 1)
    width = page.evaluate("document.getElementById('board').clientWidth")
    drag(page, middle(page, CENTER.format(1)), (0.2 * width, 0))
    settled(page)
    after = points(page)
    np.testing.assert_allclose(after[0] - before[0], [[0, 0.4064]] * 4, atol=0.01)
    np.testing.assert_array_equal(after[1:], before[1:])
    assert column_of_part(page, 1) - column > 5
    page.wait_for("location.hash.includes('points=')")
    page.call("Page.reload")
    page.wait_until_at(page.evaluate("location.href.split('#')[0]"))
    page.wait_for(READY)
    settled(page)
    np.testing.assert_allclose(points(page), after, atol=1e-4)
    page.evaluate("document.getElementById('reset').click()")
    settled(page)
    np.testing.assert_allclose(points(page), before, atol=1e-5)


def test_a_part_is_moved_grown_and_turned_with_keys_and_handles(page):
    page.evaluate(f"document.querySelector('{CENTER.format(3)}').focus()")
    before = points(page)[2]
    page.press("ArrowRight")
    page.press("ArrowUp")
    np.testing.assert_allclose(points(page)[2] - before, [[-0.02, 0.02]] * 4, atol=1e-6)
    spread = np.ptp(points(page)[2], axis=0)
    page.press("+")
    np.testing.assert_allclose(np.ptp(points(page)[2], axis=0), 1.05 * spread, rtol=1e-4)
    page.evaluate("document.getElementById('undo').click()")
    offsets = points(page)[2] - points(page)[2].mean(0)
    for _ in range(9):
        page.evaluate("document.getElementById('turn-right').click()")
    # A quarter of a turn to the right: what was on the right is below.
    turned = points(page)[2] - points(page)[2].mean(0)
    np.testing.assert_allclose(turned, np.stack([offsets[:, 1], -offsets[:, 0]], -1), atol=1e-4)
    center = np.array(middle(page, CENTER.format(3)))
    handle = np.array(middle(page, "#handles > g:last-of-type .hit"))
    drag(page, handle.tolist(), (0.5 * (handle - center)).tolist())
    grown = points(page)[2] - points(page)[2].mean(0)
    np.testing.assert_allclose(grown, 1.5 * turned, rtol=0.02, atol=1e-3)
    settled(page)


def test_a_finger_drags_on_a_phone(studio):
    with Page(studio.url, 390, 844) as page:
        page.call(
            "Emulation.setDeviceMetricsOverride",
            width=390,
            height=844,
            deviceScaleFactor=2,
            mobile=True,
        )
        page.call("Emulation.setTouchEmulationEnabled", enabled=True)
        page.wait_for(READY)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        before, (x, y) = points(page), middle(page, CENTER.format(2))
        for kind, at in (("touchStart", 0), ("touchMove", 20), ("touchMove", 40), ("touchEnd", 0)):
            places = [] if kind == "touchEnd" else [{"x": x + at, "y": y}]
            page.call("Input.dispatchTouchEvent", type=kind, touchPoints=places)
        settled(page)
        moved = points(page) - before
        assert moved[1, 0, 1] > 0.15 and np.abs(np.delete(moved, 1, 0)).max() == 0


def test_photos_are_dropped_named_and_told_apart(studio, page, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 80, 3), np.uint8)).save(
        tmp_path / "a.png"
    )
    (tmp_path / "b.png").write_text("no picture")
    drop(page, [tmp_path / name for name in ("a.png", "b.png")])
    page.wait_for("studio.photos.all.length === 2 && !document.querySelector('#strip .busy')")
    assert page.evaluate("studio.photos.shown.frame.width") == 80
    assert page.evaluate("studio.photos.all[1].problem") == "this cannot be used: not an image"
    assert "b.png" in page.evaluate("document.getElementById('banner').textContent")
    # A name that is typed is kept, and shown where the pointer is.
    page.evaluate("document.getElementById('part-name-1').focus()")
    page.call("Input.insertText", text="head")
    page.press("Enter")
    page.wait_for("document.getElementById('parts-note').textContent.startsWith('Saved')")
    assert studio.model.state()["parts"][0]["name"] == "head"
    page.evaluate("studio.photos.shown.frame.labels.fill(1)")
    page.mouse("mouseMoved", *middle(page, "#photo"))
    page.wait_for("document.querySelector('.photo-stage .tip').textContent === 'head'")
    entries = studio.model.state()["parts"]
    entries[0]["name"] = ""
    studio.json("PUT", "api/parts", {"parts": entries})


def test_a_server_that_ends_is_named_and_awaited(home, tmp_path):
    with running("people") as first:
        port = first.wait().port
        with Page(first.url) as page:
            page.wait_for(READY)
            start = middle(page, CENTER.format(1))
            first.stop()
            drag(page, start, (40, 0))
            page.wait_for("studio.page.gone && !document.getElementById('banner').hidden")
            assert "Start it again" in page.evaluate(
                "document.getElementById('banner').textContent"
            )
            moved = points(page)
            with running("people", port):
                page.wait_for("!studio.page.gone && studio.page.ready")
                settled(page)
                np.testing.assert_allclose(points(page), moved, atol=1e-4)


@contextlib.contextmanager
def process_of(workdir, port=0):
    """A studio in a process of its own; gives it and its address."""
    command = [sys.executable, "-m", "ganseg_jax.cli.studio", f"--workdir={workdir}"]
    studio = subprocess.Popen(
        [*command, f"--port={port}", "--nobrowser"], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        yield studio, studio.stdout.readline().split(": ", 1)[1].split(" ")[0]
    finally:
        studio.kill()
        studio.wait(30)
        studio.stdout.close()


def test_a_server_that_is_killed_in_the_middle_of_a_drag(home, workdir, tmp_path):
    Image.fromarray(np.full((30, 20, 3), 90, np.uint8)).save(tmp_path / "a.png")
    with process_of(workdir) as (studio, url), Page(url) as page:
        page.wait_for(READY, 120)
        before, (x, y) = points(page), middle(page, CENTER.format(1))
        page.mouse("mousePressed", x, y)
        page.mouse("mouseMoved", x + 20, y)
        studio.send_signal(signal.SIGKILL)
        studio.wait(30)
        page.mouse("mouseMoved", x + 40, y)
        page.mouse("mouseReleased", x + 40, y)
        page.wait_for("studio.page.gone && !document.getElementById('banner').hidden")
        told = page.evaluate("document.getElementById('banner').textContent")
        assert told.startswith("The studio has ended. Start it again") and "\n" not in told
        drop(page, [tmp_path / "a.png"])
        page.wait_for("studio.photos.all.length === 1")
        page.evaluate("document.querySelector('nav a[data-view=samples]').click()")
        moved = points(page)
        assert (moved != before).any()
        with process_of(workdir, int(url.split(":")[2].split("/")[0])) as (_, again):
            assert again == url
            page.wait_for("!studio.page.gone && studio.page.ready", 120)
            settled(page)
            np.testing.assert_allclose(points(page), moved, atol=1e-4)
            page.wait_for("document.getElementById('banner').hidden")
            page.wait_for("studio.photos.all[0].frame?.width === 20")
            drag(page, middle(page, CENTER.format(1)), (-20, 0))
            settled(page)
            assert (points(page) != moved).any()


def test_two_tabs_do_not_wait_for_each_other(studio, page):
    done = threading.Event()

    def work():
        while not done.is_set():
            studio.draw(kind="drag", pose=1)

    others = threading.Thread(target=work)
    others.start()
    try:
        time.sleep(0.2)
        drag(page, middle(page, CENTER.format(1)), (30, 0))
        settled(page)
        assert page.evaluate("studio.sample.latency") < 5000
    finally:
        done.set()
        others.join()
