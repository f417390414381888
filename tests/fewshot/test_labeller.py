"""The painting page: its small server, and a person's strokes in a real browser."""

import http.client
import io
import json
import threading

import numpy as np
import pytest
from PIL import Image

from ganseg_jax.errors import UserError
from ganseg_jax.fewshot.labeller.folder import LabelFolder
from ganseg_jax.fewshot.labeller.server import LabellerServer
from ganseg_jax.fewshot.labels import read_labels
from tests.fewshot.chromium import Page, find_chromium

HEIGHT, WIDTH = 24, 32


@pytest.fixture
def folder(tmp_path):
    for name in ("one", "two"):
        Image.new("RGB", (WIDTH, HEIGHT), "teal").save(tmp_path / f"{name}.png")
    return tmp_path


@pytest.fixture
def server(folder):
    with LabellerServer(folder, ["head", "torso"]) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def request(server, method, path, body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    try:
        connection.request(method, path, body, {k.title(): v for k, v in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_overview_images_and_labels(server, folder):
    status, body = request(server, "GET", "/api/overview")
    overview = json.loads(body)
    assert status == 200
    assert [c["name"] for c in overview["classes"]] == ["background", "head", "torso"]
    image = {"name": "one", "width": WIDTH, "height": HEIGHT, "labelled": False}
    assert overview["images"][0] == image
    assert request(server, "GET", "/api/images/one")[1].startswith(b"\x89PNG")
    assert request(server, "GET", "/api/labels/one") == (204, b"")
    labels = np.arange(HEIGHT * WIDTH).astype(np.uint8) % 3
    labels[5] = 255
    assert request(server, "PUT", "/api/labels/one", labels.tobytes())[0] == 204
    assert request(server, "GET", "/api/labels/one") == (200, labels.tobytes())
    found = read_labels(folder)
    assert found.names == ["one"] and found.classes == ["background", "head", "torso"]
    np.testing.assert_array_equal(found.labels[0].ravel(), labels)
    assert not list(folder.glob(".*"))


def test_only_the_local_page_is_answered(server):
    host = f"127.0.0.1:{server.server_port}"
    assert request(server, "GET", "/", host=host)[0] == 200
    assert request(server, "GET", "/", host="evil.example")[0] == 403
    labels = bytes(HEIGHT * WIDTH)
    put = ("PUT", "/api/labels/one", labels)
    assert request(server, *put, host=host, origin="http://evil.example")[0] == 403
    assert request(server, *put, host=host, origin=f"http://{host}")[0] == 204


@pytest.mark.parametrize(
    "method,path,body,status",
    [
        ("GET", "/api/labels/three", None, 404),
        ("GET", "/api/images/..%2fone", None, 404),
        ("GET", "/labels.py", None, 404),
        ("PUT", "/api/images/one", b"", 404),
        ("PUT", "/api/labels/one", bytes(7), 400),
        ("PUT", "/api/labels/one", bytes([9]) * (HEIGHT * WIDTH), 400),
    ],
)
def test_other_requests_are_refused_and_write_nothing(server, folder, method, path, body, status):
    assert request(server, method, path, body)[0] == status
    assert not list(folder.glob("*_mask.png"))


def test_a_map_that_does_not_fit_is_not_painted_over(server, folder):
    Image.new("L", (3, 3)).save(folder / "one_mask.png")
    status, body = request(server, "GET", "/api/labels/one")
    assert status == 409 and b"one_mask.png is 3x3" in body


def test_mistakes_are_named(folder, tmp_path):
    with pytest.raises(UserError, match=r"--classes is missing, and .* has no classes\.json"):
        LabellerServer(folder, None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no images"):
        LabellerServer(tmp_path / "empty", ["a"])
    with (
        LabellerServer(folder, ["head"]) as server,
        pytest.raises(UserError, match="--port=.* cannot be used"),
    ):
        LabellerServer(folder, None, server.server_port)


@pytest.mark.skipif(find_chromium() is None, reason="no Chromium is installed")
def test_painting_in_a_browser(server, folder):
    with Page(server.url) as page:
        page.wait_for("state.labels !== null && state.image !== null")
        scale = page.evaluate("Number(element('zoom').value)")
        left, top = page.evaluate(
            "(() => { const b = board.getBoundingClientRect(); return [b.left, b.top]; })()"
        )

        def at(row, col):
            return left + col * scale, top + row * scale

        def labels():
            return np.array(page.evaluate("Array.from(state.labels)")).reshape(HEIGHT, WIDTH)

        def drag(*places):
            page.mouse("mousePressed", *at(*places[0]))
            for place in places[1:]:
                page.mouse("mouseMoved", *at(*place))
            page.mouse("mouseReleased", *at(*places[-1]))

        # Brush: a horizontal stroke of class 1, four pixels thick.
        page.evaluate(
            "element('size').value = 4; element('size').dispatchEvent(new Event('input'))"
        )
        drag((6, 6), (6, 20))
        stroke = labels()
        assert set(np.unique(stroke)) == {0, 1}
        assert (stroke[4:8, 6:20] == 1).all() and not stroke[:4].any() and not stroke[8:].any()

        # Polygon: class 2, closed with Enter.
        page.press("2")
        page.press("p")
        for corner in ((12, 4), (12, 12), (20, 12), (20, 4)):
            page.click(*at(*corner))
        page.press("Enter")
        polygon = labels()
        assert (polygon[12:20, 4:12] == 2).all() and (polygon == 2).sum() == 64

        # Eraser, then undo and redo.
        page.press("e")
        drag((16, 8), (16, 8))
        erased = labels()
        assert erased[16, 8] == 0 and (erased == 2).sum() < 64
        page.press("z", control=True)
        np.testing.assert_array_equal(labels(), polygon)
        page.press("y", control=True)
        np.testing.assert_array_equal(labels(), erased)
        page.press("z", control=True)

        picture = page.screenshot()
        assert picture.startswith(b"\x89PNG")

        # Going on saves; coming back shows what was painted.
        page.press("ArrowRight")
        page.wait_for("state.index === 1 && !state.changed")
        assert not labels().any()
        page.press("ArrowLeft")
        page.wait_for("state.index === 0")
        np.testing.assert_array_equal(labels(), polygon)
        assert page.evaluate("element('status').classList.contains('error')") is False
        assert "1 of 2 labelled" in page.evaluate("element('progress').textContent")

    found = read_labels(folder)
    assert found.names == ["one"]
    np.testing.assert_array_equal(found.labels[0], polygon)


def test_turned_photos_are_painted_as_they_are_learned_from(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # To be turned by a quarter.
    Image.new("RGB", (WIDTH, HEIGHT), "teal").save(tmp_path / "one.jpg", exif=exif)
    painted = LabelFolder(tmp_path, ["head"])
    assert painted.sizes["one"] == (WIDTH, HEIGHT)
    assert Image.open(io.BytesIO(painted.picture("one"))).size == (HEIGHT, WIDTH)
    painted.save("one", bytes([1] * WIDTH * HEIGHT))
    assert read_labels(tmp_path).labels.shape == (1, WIDTH, HEIGHT)
