"""What the studio answers, to whom, and that nothing but its own files is written."""

import io
import json
import os
import threading

import jax
import numpy as np
import pytest
from PIL import Image

from ganseg_jax import load_generator, load_segmenter, sample_latents
from ganseg_jax.errors import UserError
from ganseg_jax.pixels import to_uint8
from ganseg_jax.studio import photos, server
from tests.fuzzing import mutations
from tests.studio.conftest import TOKEN, read_frame, running


def picture(height=40, width=60, kind="PNG"):
    buffer, rng = io.BytesIO(), np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def test_samples_are_those_of_the_sample_command(studio):
    generator, variables = load_generator("people")
    latents = sample_latents(jax.random.key(3), 70, generator.noise_dim)
    latents = jax.tree.map(lambda x: x[65:66], latents)
    out = jax.jit(lambda v, z: generator.apply(v, z, train=False))(variables, latents)
    header, rgb, labels, sure = studio.draw(seed=3, pose=65, look=65, background=65)
    assert (header["size"], header["exact"]) == (64, True)
    np.testing.assert_allclose(header["points"], out.points[0], atol=2e-5)
    np.testing.assert_array_equal(labels, np.argmax(out.masks[0], -1))
    assert np.abs(rgb.astype(int) - to_uint8(np.asarray(out.image[0]))).max() <= 1
    best = np.sort(out.masks[0], -1)
    np.testing.assert_allclose(sure / 255, best[..., -1] - best[..., -2], atol=3e-3)


def test_masks_follow_points_and_look_and_background_are_exchanged(studio):
    header, rgb, labels, _ = studio.draw()
    points = np.array(header["points"])
    points[0] += [0.0, 0.4]
    _, moved_rgb, moved, _ = studio.draw(points=points.tolist())
    columns = [np.nonzero(found == 1)[1].mean() for found in (labels, moved)]
    assert 5 < columns[1] - columns[0] < 18  # 0.4 of 64 / 2 px
    far = (labels == 0) & (moved == 0)
    # The background stays where it was: nothing of it depends on points.
    near = np.abs(moved_rgb.astype(int) - rgb)[far].mean()
    _, other, _, _ = studio.draw(background=5)
    assert np.abs(other.astype(int) - rgb)[far].mean() > 3 * near + 5
    _, _, same, _ = studio.draw(background=5)
    np.testing.assert_array_equal(same, labels)
    assert np.abs(studio.draw(look=5)[1].astype(int) - rgb)[labels == 3].mean() > 10


def test_photos_have_the_segmenters_labels(studio):
    data = picture(100, 70)
    status, _, body = studio.request("POST", "api/segment", data)
    header, rgb, labels, sure = read_frame(body)
    photo = np.asarray(Image.open(io.BytesIO(data)))
    assert status == 200 and (rgb == photo).all()
    segmenter = load_segmenter("people", named=False)
    probabilities = segmenter.probabilities(photo[None])[0]
    assert (labels == np.argmax(probabilities, -1)).mean() > 0.999
    shares = [part["share"] for part in header["parts"]]
    np.testing.assert_allclose(shares, [(labels == n).mean() for n in range(1, 7)], atol=1e-5)
    best = np.sort(probabilities, -1)
    assert np.abs(sure / 255 - (best[..., -1] - best[..., -2])).mean() < 0.02


def test_only_the_page_of_this_address_is_answered(studio):
    host = f"127.0.0.1:{studio.port}"
    good = {"host": host, "origin": f"http://{host}", "sec_fetch_site": "same-origin"}
    assert studio.request("GET", "api/state", **good)[0] == 200
    for wrong in (
        {"host": "evil.example"},
        {"host": f"evil.example:{studio.port}"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": f"http://127.0.0.1:{studio.port + 1}"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ):
        status, headers, _ = studio.request("GET", "api/state", **good | wrong)
        assert status == 403 and "content-security-policy" in headers
    followed = good | {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}
    del followed["origin"]
    assert studio.request("GET", "", **followed)[0] == 200
    for path in ("/", "/api/state", f"/{TOKEN}", f"/{TOKEN}x/", f"/{TOKEN[:-1]}/", "//"):
        status, _, text = studio.request("GET", path, absolute=True)
        assert status == 403 and b"address that" in text


def test_everything_comes_from_here_and_nothing_is_kept(studio):
    status, headers, body = studio.request("GET", "")
    assert status == 200 and b"<title>Studio</title>" in body
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy and headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    for name, content in server._page_files().items():
        text = content.replace(b"http://www.w3.org/2000/svg", b"")
        assert b"http://" not in text and b"https://" not in text, name
    for path in ("../server.py", "..%2fserver.py", "%2fetc%2fpasswd", "x.js", "page/main.js"):
        assert studio.request("GET", path)[0] == 404


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "an object is needed"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"pose": 4096}, "pose must be a whole number from 0 to 4095"),
        ({"look": 1.5}, "look must be"),
        ({"background": True}, "background must be"),
        ({"points": [[1]]}, "points must be finite numbers of shape"),
        ({"points": [[[1, float("nan")]] * 4] * 6}, "finite"),
        ({"points": [[["a", "b"]] * 4] * 6}, "numbers"),
    ],
)
def test_senseless_wishes_are_one_line(studio, content, message):
    whole = {"seed": 0, "pose": 0, "look": 0, "background": 0}
    content = whole | content if isinstance(content, dict) else content
    status, text = studio.refusal("POST", "api/draw", content)
    assert status == 400 and message in text and "\n" not in text


def test_other_requests_are_refused(studio):
    assert studio.refusal("POST", "api/draw", {}, content_type="text/plain")[1] == "JSON is needed"
    deep = "[" * 100_000
    status, _, text = studio.request("POST", "api/draw", deep, content_type="application/json")
    assert (status, text) == (400, b"this is no JSON")
    assert studio.refusal("POST", "api/draw", "x" * 400_000)[0] == 413
    assert studio.refusal("POST", "api/run/stop", {}) == (400, "this model is no workdir of a run")
    assert studio.request("GET", "api/run/gan/samples_0000000.png")[0] == 400
    assert studio.request("DELETE", "api/state")[0] in (404, 405)
    assert studio.request("GET", "label/labeller.py")[0] == 404


def test_uploads_that_are_too_large_or_no_images_are_refused(studio):
    for data in (b"", b"hello", picture()[:200], b"\x89PNG\r\n\x1a\n" + bytes(99)):
        status, _, text = studio.request("POST", "api/segment", data)
        assert status == 400 and text.startswith(b"this cannot be used: ")
    status, _, text = studio.request("POST", "api/segment", None, content_length="48000001")
    assert (status, text) == (413, b"it is larger than 48 MB")
    buffer = io.BytesIO()
    Image.new("1", (11000, 11000)).save(buffer, "PNG")
    status, _, text = studio.request("POST", "api/segment", buffer.getvalue())
    assert status == 400 and b"megapixels" in text


def fuzz(studio, folder, count, seed=0):
    """Uploads damaged images; returns how many were taken, and the growth of memory in MB."""
    whole = [picture(kind=kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")]
    before, files, taken = _memory(), _files(folder), 0
    for number, data in enumerate(mutations_of(whole, count, seed)):
        status, _, body = studio.request("POST", "api/segment", data)
        assert status in (200, 400), (number, status, body[:200])
        taken += status == 200
        assert status == 200 or (body.count(b"\n") == 0 and len(body) < 500), body
    assert studio.request("GET", "api/state")[0] == 200
    assert _files(folder) == files
    return taken, _memory() - before


def mutations_of(whole, count, seed):
    each = -(-count // len(whole))
    return (d for i, data in enumerate(whole) for d in mutations(data, each, seed + i))


def _files(folder):
    return {(p, p.stat().st_size) for p in folder.rglob("*") if p.is_file()}


def _memory():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def test_damaged_uploads_are_answered_and_write_nothing(studio, home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    taken, grown = fuzz(studio, home.parent, 210)
    assert 20 < taken < 200 and grown < 400
    assert not list(tmp_path.iterdir())


def test_a_photo_does_not_hold_up_a_drag(studio, monkeypatch):
    started, go_on = threading.Event(), threading.Event()
    decode = photos.decode

    def slowly(data, size):
        started.set()
        assert go_on.wait(30)
        return decode(data, size)

    monkeypatch.setattr(photos, "decode", slowly)
    answers = []
    thread = threading.Thread(
        target=lambda: answers.append(studio.request("POST", "api/segment", picture())[0])
    )
    thread.start()
    assert started.wait(30)
    studio.draw(kind="drag")
    assert not answers
    go_on.set()
    thread.join(30)
    assert answers == [200]


def test_names_are_kept_with_the_model(studio, home):
    state = studio.json("GET", "api/state")
    entries = state["parts"]
    entries[0] |= {"name": "head", "color": "#ff0080"}
    entries[1] |= {"into": 1}
    file = home / "parts" / "people.json"
    try:
        assert studio.json("PUT", "api/parts", {"parts": entries})["parts"] == entries
        assert json.loads(file.read_text()) == {"parts": entries}
        assert load_segmenter("people").classes[:3] == ("background", "head", "part 3")
        entries[2] |= {"name": "head"}
        status, text = studio.refusal("PUT", "api/parts", {"parts": entries})
        assert status == 400 and "two parts are named 'head'" in text
    finally:
        file.unlink(missing_ok=True)
        studio.model._read_parts()


def test_an_untrained_few_shot_model_names_its_classes(workdir, few_shot, home):
    with running(workdir / few_shot) as studio:
        state = studio.wait().json("GET", "api/state")
        assert [part["name"] for part in state["parts"]] == ["round", "long"]
        assert not state["own_parts"] and state["generator_parts"] != 2
        header = read_frame(studio.request("POST", "api/segment", picture())[2])[0]
        assert len(header["parts"]) == 2


def test_token_and_port(home, tmp_path):
    token = server.token_of_user()
    assert server.token_of_user() == token and len(token) >= 22
    assert (home / "studio_token").stat().st_mode & 0o077 == 0
    with server.listen(0) as taken:
        port = taken.getsockname()[1]
        assert taken.getsockname()[0] == "127.0.0.1"
        with pytest.raises(UserError, match=rf"--port={port} cannot be used"):
            server.listen(port)


def test_a_folder_without_a_model_is_a_mistake(tmp_path):
    from ganseg_jax.studio.model import Model

    with pytest.raises(UserError, match="has no config.json"):
        Model(tmp_path)
