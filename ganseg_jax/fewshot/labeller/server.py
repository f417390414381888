"""A local page for painting label maps: static files and a small API, standard library only.

It listens on 127.0.0.1 alone, answers only requests that were addressed to that name (so that no
other site can reach it through a name of its own), and reads and writes nothing but the images
of one folder and the label maps beside them.
"""

import http
import http.server
import importlib.resources
import io
import json
import sys
import threading
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ganseg_jax.errors import UserError
from ganseg_jax.fewshot.labels import (
    CLASSES_FILE,
    MASK_SUFFIX,
    classes_json,
    image_files,
    read_class_map,
    read_classes,
)
from ganseg_jax.fewshot.train import UNLABELLED
from ganseg_jax.files import write_whole
from ganseg_jax.report.palette import palette
from ganseg_jax.report.png import save_label_png

STATIC_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/labeller.js": ("labeller.js", "text/javascript; charset=utf-8"),
    "/labeller.css": ("labeller.css", "text/css; charset=utf-8"),
}


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
        self.directory = Path(directory)
        self.images = image_files(self.directory)
        self.sizes = {name: _size(path) for name, path in self.images.items()}
        if classes is None:
            classes = read_classes(self.directory)
            if classes is None:
                raise UserError(f"--classes is missing, and {directory} has no {CLASSES_FILE}")
        self.classes = list(classes)
        write_whole(self.directory / CLASSES_FILE, classes_json(classes))
        self.write_lock = threading.Lock()
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

    def mask_path(self, name: str) -> Path:
        """Returns the path of an image's label map."""
        return self.directory / f"{name}{MASK_SUFFIX}"

    def overview(self) -> dict:
        """Returns classes with their colours, and images with their sizes, for the page."""
        names = ["background", *self.classes]
        colors = ["#{:02x}{:02x}{:02x}".format(*c) for c in palette(len(names))]
        return {
            "classes": [{"name": n, "color": c} for n, c in zip(names, colors, strict=True)],
            "unlabelled": UNLABELLED,
            "images": [
                {"name": n, "width": w, "height": h, "labelled": self.mask_path(n).exists()}
                for n, (h, w) in self.sizes.items()
            ],
        }

    def save(self, name: str, values: bytes) -> None:
        """Writes a label map given as one byte for each pixel, row by row.

        Raises:
          UserError: there are more or fewer bytes than pixels, or classes that do not exist.
        """
        height, width = self.sizes[name]
        labels = np.frombuffer(values, np.uint8)
        if labels.size != height * width:
            raise UserError(f"{name}: {labels.size} values for {width}x{height} pixels")
        if np.any((labels > len(self.classes)) & (labels != UNLABELLED)):
            raise UserError(f"{name}: a value is no class")
        with self.write_lock:
            save_label_png(self.mask_path(name), labels.reshape(height, width))


def _size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except OSError as error:
        raise UserError(f"{path} cannot be read as an image: {error}") from error


class _Handler(http.server.BaseHTTPRequestHandler):
    server: LabellerServer

    def do_GET(self):  # the name that the standard library calls
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        if not self._is_local():
            return
        if path in STATIC_FILES:
            file, kind = STATIC_FILES[path]
            content = importlib.resources.files(__package__).joinpath(file).read_bytes()
            self._answer(http.HTTPStatus.OK, content, kind)
        elif path == "/api/overview":
            self._answer(
                http.HTTPStatus.OK, json.dumps(self.server.overview()).encode(), "application/json"
            )
        elif name := self._name(path, "/api/images/"):
            buffer = io.BytesIO()
            with Image.open(self.server.images[name]) as image:
                image.convert("RGB").save(buffer, format="PNG")
            self._answer(http.HTTPStatus.OK, buffer.getvalue(), "image/png")
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
        height, width = self.server.sizes[name]
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) != height * width:
            # The body stays unread, so this connection is of no more use.
            self.close_connection = True
            self._fail(http.HTTPStatus.BAD_REQUEST, f"{name} has {height * width} pixels")
            return
        try:
            self.server.save(name, self.rfile.read(int(length)))
        except UserError as error:
            self._fail(http.HTTPStatus.BAD_REQUEST, str(error))
            return
        self._answer(http.HTTPStatus.NO_CONTENT)

    def _send_labels(self, name: str) -> None:
        path = self.server.mask_path(name)
        if not path.exists():
            self._answer(http.HTTPStatus.NO_CONTENT)
            return
        try:
            labels = read_class_map(path, self.server.sizes[name], self.server.classes)
        except UserError as error:
            self._fail(http.HTTPStatus.CONFLICT, str(error))
            return
        self._answer(http.HTTPStatus.OK, labels.tobytes(), "application/octet-stream")

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
