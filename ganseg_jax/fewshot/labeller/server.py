"""A local page for painting label maps: static files and a small API, standard library only.

It listens on 127.0.0.1 alone, answers only requests that were addressed to that name (so that no
other site can reach it through a name of its own), and reads and writes nothing but the images
of one folder and the label maps beside them.
"""

import http
import http.server
import json
import sys
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

from ganseg_jax.errors import UserError
from ganseg_jax.fewshot.labeller.folder import STATIC_FILES, LabelFolder, static_file


class LabellerServer(http.server.ThreadingHTTPServer):
    """Serves one folder of images at `url`.

    Args:
      directory: folder with the images; label maps `NAME_mask.png` and `classes.json` are
        written there.
      classes: names without the background; None takes those of the folder's `classes.json`.
      port: 0 takes a free one.

    Raises:
      UserError: the folder has no images or cannot be written, the classes cannot be, an image
        cannot be read, or the port is taken.
    """

    daemon_threads = True

    def __init__(self, directory: str | Path, classes: Sequence[str] | None, port: int = 0):
        self.folder = LabelFolder(directory, classes)
        self.directory, self.images = self.folder.directory, self.folder.images
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise UserError(f"--port={port} cannot be used: {error.strerror}") from error

    @property
    def url(self) -> str:
        """Returns the address of the page."""
        return f"http://127.0.0.1:{self.server_port}/"

    def handle_error(self, request, client_address) -> None:
        """Ignores a browser that goes away while it is answered."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: LabellerServer

    def do_GET(self):  # the name that the standard library calls
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        if not self._is_local():
            return
        if path in STATIC_FILES:
            self._answer(http.HTTPStatus.OK, *static_file(path))
        elif path == "/api/overview":
            overview = json.dumps(self.server.folder.overview()).encode()
            self._answer(http.HTTPStatus.OK, overview, "application/json")
        elif name := self._name(path, "/api/images/"):
            self._answer(http.HTTPStatus.OK, self.server.folder.picture(name), "image/png")
        elif name := self._name(path, "/api/labels/"):
            self._send_labels(name)
        else:
            self._fail(http.HTTPStatus.NOT_FOUND, f"nothing at {path}")

    def do_PUT(self):
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        if not self._is_local():
            return
        name = self._name(path, "/api/labels/")
        if name is None:
            self._fail(http.HTTPStatus.NOT_FOUND, f"nothing at {path}")
            return
        height, width = self.server.folder.sizes[name]
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) != height * width:
            # The body stays unread, so this connection is of no more use.
            self.close_connection = True
            self._fail(http.HTTPStatus.BAD_REQUEST, f"{name} has {height * width} pixels")
            return
        try:
            self.server.folder.save(name, self.rfile.read(int(length)))
        except UserError as error:
            self._fail(http.HTTPStatus.BAD_REQUEST, str(error))
            return
        self._answer(http.HTTPStatus.NO_CONTENT)

    def _send_labels(self, name: str) -> None:
        try:
            labels = self.server.folder.labels(name)
        except UserError as error:
            self._fail(http.HTTPStatus.CONFLICT, str(error))
            return
        if labels is None:
            self._answer(http.HTTPStatus.NO_CONTENT)
            return
        self._answer(http.HTTPStatus.OK, labels, "application/octet-stream")

    def _name(self, path: str, prefix: str) -> str | None:
        name = path.removeprefix(prefix)
        return name if path.startswith(prefix) and name in self.server.images else None

    def _is_local(self) -> bool:
        hosts = {f"{host}:{self.server.server_port}" for host in ("127.0.0.1", "localhost")}
        origin = self.headers.get("Origin")
        local = self.headers.get("Host") in hosts and (
            origin is None or origin.removeprefix("http://") in hosts
        )
        if not local:
            self.close_connection = True
            self._fail(http.HTTPStatus.FORBIDDEN, "only for this machine's own browser")
        return local

    def _fail(self, status: http.HTTPStatus, message: str) -> None:
        self._answer(status, message.encode(), "text/plain; charset=utf-8")

    def _answer(self, status: http.HTTPStatus, content: bytes = b"", kind: str = "") -> None:
        self.send_response(status)
        if status != http.HTTPStatus.NO_CONTENT:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Security-Policy", "default-src 'self'; img-src 'self' blob:")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format, *args):
        """Logs nothing: failures are shown on the page."""
