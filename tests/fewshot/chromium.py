"""A headless Chromium steered over a pair of pipes (DevTools protocol), standard library only."""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time


def find_chromium() -> str | None:
    """The browser's path, or None where none is installed."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for path in map(shutil.which, names) if path), None)


class Page:
    """One page of a browser of its own; a context manager."""

    def __init__(self, url: str, width: int = 1000, height: int = 700):
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        to_browser, self._send = os.pipe()
        self._receive, from_browser = os.pipe()
        flags = [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-dev-shm-usage", f"--user-data-dir={self._profile.name}",
            f"--window-size={width},{height}", "--remote-debugging-pipe",
        ]  # fmt: skip
        # The browser reads file 3 and writes file 4. They are set up by way of high numbers,
        # so that neither overwrites a pipe that is still to be moved.
        script = f'exec 103<&{to_browser} 104>&{from_browser}; exec "$0" "$@" 3<&103 4>&104'
        self._process = subprocess.Popen(
            ["bash", "-c", script, find_chromium(), *flags],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._buffer, self._last = b"", 0
        self._session: dict[str, str] = {}
        target = self.call("Target.createTarget", url=url)["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        self.wait_until_at(url)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait(30)
        os.close(self._send)
        os.close(self._receive)
        self._profile.cleanup()

    def call(self, method: str, **parameters):
        """Result of a protocol method."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters, **self._session}
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._last:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                return answer["result"]

    def _next(self):
        while b"\0" not in self._buffer:
            if not select.select([self._receive], [], [], 120)[0]:
                raise AssertionError("the browser does not answer")
            data = os.read(self._receive, 1 << 16)
            if not data:
                raise AssertionError("the browser has ended")
            self._buffer += data
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)

    def wait_until_at(self, url: str) -> None:
        """Returns once a page of this address is there."""
        there = f"location.href.startsWith({json.dumps(url)}) && document.readyState === 'complete'"
        end = time.monotonic() + 60
        while True:
            try:
                if self.evaluate(there):
                    return
            except AssertionError as error:
                # Between two pages there is none to ask.
                if "context" not in str(error) or time.monotonic() > end:
                    raise
            if time.monotonic() > end:
                raise AssertionError(f"never at {url}")
            time.sleep(0.05)

    def evaluate(self, expression: str):
        """Value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def wait_for(self, expression: str, seconds: float = 60) -> None:
        """Returns once the expression is true."""
        end = time.monotonic() + seconds
        while not self.evaluate(expression):
            if time.monotonic() > end:
                raise AssertionError(f"never true: {expression}")
            time.sleep(0.05)

    def mouse(self, kind: str, x: float, y: float, clicks: int = 1) -> None:
        """A mouse event: mousePressed, mouseMoved or mouseReleased."""
        button = {} if kind == "mouseMoved" else {"button": "left", "clickCount": clicks}
        held = 0 if kind == "mouseReleased" else 1
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, buttons=held, **button)

    def click(self, x: float, y: float) -> None:
        self.mouse("mousePressed", x, y)
        self.mouse("mouseReleased", x, y)

    def press(self, key: str, control: bool = False) -> None:
        """A key, as a person would press it outside of a field."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, modifiers=2 if control else 0)

    def screenshot(self) -> bytes:
        """What the page looks like, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
