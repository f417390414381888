"""Studios that run in this process, with the model of people that comes with the package."""

import contextlib
import http.client
import json
import struct
import threading
import time

import numpy as np
import pytest

from ganseg_jax.studio import server
from ganseg_jax.studio.model import Model

TOKEN = "t" * 24


class Running:
    """A studio on a port of its own; `request` asks it."""

    def __init__(self, place, port=0):
        self.model, listening = Model(place), server.listen(port)
        self.port = listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/{TOKEN}/"
        self._server = server.server_of(self.model, listening, TOKEN)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listening]})
        self._thread.start()

    def wait(self):
        """Returns once everything is compiled."""
        end = time.monotonic() + 120
        while self.json("GET", "api/state")["doing"]:
            assert time.monotonic() < end
            time.sleep(0.1)
        return self

    def stop(self):
        self._server.should_exit = True
        self._thread.join(30)

    def request(self, method, path, body=None, absolute=False, **headers):
        """Status, headers and body of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {name.replace("_", "-").title(): value for name, value in headers.items()}
        try:
            path = path if absolute else f"/{TOKEN}/{path}"
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def json(self, method, path, content=None):
        body = None if content is None else json.dumps(content)
        status, _, answer = self.request(method, path, body, content_type="application/json")
        assert status == 200, answer
        return json.loads(answer)

    def refusal(self, method, path, content, **headers):
        """Status and text of an answer that is no success."""
        headers = {"content_type": "application/json"} | headers
        status, _, text = self.request(method, path, json.dumps(content), **headers)
        assert status >= 400
        return status, text.decode()

    def draw(self, **changes):
        """Header and arrays of a drawn sample."""
        content = {"seed": 0, "pose": 0, "look": 0, "background": 0, "kind": "exact"} | changes
        status, _, body = self.request(
            "POST", "api/draw", json.dumps(content), content_type="application/json"
        )
        assert status == 200, body
        return read_frame(body)


def read_frame(body):
    """Header, RGB, labels and certainty."""
    (length,) = struct.unpack("<I", body[:4])
    header = json.loads(body[4 : 4 + length])
    height = header.get("height", header.get("size"))
    width = header.get("width", header.get("size"))
    rest = np.frombuffer(body[4 + length :], np.uint8)
    rgb, labels, sure = np.split(rest, [3 * height * width, 4 * height * width])
    shape = (height, width)
    return header, rgb.reshape(*shape, 3), labels.reshape(shape), sure.reshape(shape)


@contextlib.contextmanager
def running(place, port=0):
    studio = Running(place, port)
    try:
        yield studio
    finally:
        studio.stop()


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """The folder of a user's own files."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(folder))
        yield folder / "ganseg_jax"


@pytest.fixture(scope="session")
def studio(home):
    with running("people") as made:
        yield made.wait()
