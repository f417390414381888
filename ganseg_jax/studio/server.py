"""The page's server: what can be asked for, and who computes it."""

import contextlib
import functools
import importlib.resources
import json
import os
import secrets
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ganseg_jax import files, parts
from ganseg_jax.data.images import ImageError
from ganseg_jax.errors import UserError
from ganseg_jax.fewshot.labeller.folder import STATIC_FILES, LabelFolder, static_file
from ganseg_jax.studio import photos
from ganseg_jax.studio.guard import Guard, TooLarge, body_of
from ganseg_jax.studio.model import Model
from ganseg_jax.studio.work import DRAG, PHOTO, REFINE, SAMPLE, Superseded, Worker

PORT = 8417
_MOST_JSON = 300_000
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

Answer = Callable[[Request], Awaitable[Response]]


class Studio:
    """Answers a page's requests about a model.

    Args:
      model: it is prepared once the server has started.
    """

    def __init__(self, model: Model):
        self.model, self.worker = model, Worker()
        # Photos are decoded beside the drawing; each may take some hundred megabytes.
        self._decoding, self._uploads = anyio.CapacityLimiter(2), anyio.Semaphore(4)

    def app(self) -> Starlette:
        """Returns the application, without its `Guard`."""
        routes: list[tuple[str, str, Answer]] = [
            ("GET", "/api/state", self.state),
            ("POST", "/api/draw", self.draw),
            ("POST", "/api/segment", self.segment),
            ("PUT", "/api/parts", self.name_parts),
            ("GET", "/api/run", self.run_state),
            ("POST", "/api/run/{what}", self.change_run),
            ("GET", "/api/run/{stage}/{name}", self.run_picture),
            ("GET", "/api/labelling", self.labelling),
            ("POST", "/api/labelling/{what}", self.change_labelling),
            ("GET", "/label/api/overview", self.label_overview),
            ("GET", "/label/api/images/{name}", self.label_image),
            ("GET", "/label/api/labels/{name}", self.label_map),
            ("PUT", "/label/api/labels/{name}", self.save_label_map),
            ("GET", "/label/{file:path}", self.label_page),
            ("GET", "/{file:path}", self.page),
        ]
        return Starlette(
            routes=[Route(p, _answered(answer), methods=[m]) for m, p, answer in routes],
            lifespan=self._lifespan,
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self.worker.submit(DRAG, self._prepare)
        try:
            yield
        finally:
            await anyio.to_thread.run_sync(self.worker.close)

    def _prepare(self) -> None:
        try:
            self.model.prepare()
        except UserError as error:
            self.model.problems["model"], self.model.doing = str(error), ""

    def _load_newest(self) -> None:
        if not self.model.doing:
            self.model.do("waiting")
            self.worker.submit(DRAG, self._prepare)

    async def state(self, _: Request) -> Response:
        """Returns what the page needs to know of the model."""
        return JSONResponse(await anyio.to_thread.run_sync(self.model.state))

    async def draw(self, request: Request) -> Response:
        """Draws a sample: a frame of a header and RGB, labels and certainty of every pixel."""
        content = await _json(request)
        if self.model.drawing is None:
            raise UserError(self.model.problems.get("generator", f"still {self.model.doing}"))
        drawing, wanted = self.model.drawing, self.model.drawing.wanted_of(content)
        kind, page = content.get("kind"), str(content.get("page", ""))[:64]
        urgency = {"drag": DRAG, "exact": REFINE}.get(str(kind), SAMPLE)
        draft = kind != "exact"
        job = functools.partial(drawing.draw, wanted, draft)
        # What is shown large is replaced by what is asked for later; tiles are not.
        drawn = await self.worker.run(urgency, job, page if urgency != SAMPLE else None)
        header = {
            "size": drawn.image.shape[0],
            "exact": drawn.exact,
            "points": np.round(drawn.points.astype(float), 5).tolist(),
        }
        return _frame(header, drawn.image, drawn.labels, drawn.sure)

    async def segment(self, request: Request) -> Response:
        """Finds the parts of a photo, the request's body: a frame of the same kind."""
        segmenter = self.model.segmenter
        if segmenter is None:
            raise UserError(self.model.problems.get("segmenter", f"still {self.model.doing}"))
        async with self._uploads:
            data = await body_of(request, photos.MOST_BYTES)
            try:
                photo = await anyio.to_thread.run_sync(
                    photos.decode, data, segmenter.image_size or 64, limiter=self._decoding
                )
            except ImageError as error:
                raise UserError(f"this cannot be used: {error}") from error
            del data
            job = functools.partial(photos.segment, segmenter, photo)
            found = await self.worker.run(PHOTO, job)
        height, width = found.labels.shape
        header = {
            "height": height,
            "width": width,
            "file_height": photo.height,
            "file_width": photo.width,
            "note": photo.note,
            "parts": found.parts,
        }
        return _frame(header, photo.picture, found.labels, found.sure)

    async def name_parts(self, request: Request) -> Response:
        """Keeps what the parts are called."""
        content = await _json(request)
        entries = content.get("parts") if isinstance(content, dict) else None
        await anyio.to_thread.run_sync(self.model.name_parts, entries)
        return JSONResponse(await anyio.to_thread.run_sync(self.model.state))

    async def run_state(self, _: Request) -> Response:
        """Returns how far the training is."""
        return JSONResponse(await anyio.to_thread.run_sync(self._run().state))

    async def change_run(self, request: Request) -> Response:
        """Stops or resumes the training, or loads its newest networks."""
        run = self._run()
        choices = {"stop": run.stop, "resume": run.resume, "load": self._load_newest}
        await anyio.to_thread.run_sync(_choice(request, choices))
        return JSONResponse(await anyio.to_thread.run_sync(run.state))

    async def run_picture(self, request: Request) -> Response:
        """Returns a picture of a training."""
        stage, name = request.path_params["stage"], request.path_params["name"]
        content = await anyio.to_thread.run_sync(self._run().picture, stage, name)
        if content is None:
            raise FileNotFoundError
        return Response(content, media_type="image/png")

    async def labelling(self, _: Request) -> Response:
        """Returns how far the labelling is."""
        return JSONResponse(await anyio.to_thread.run_sync(self.model.labelling.state))

    async def change_labelling(self, request: Request) -> Response:
        """Makes images to label, or starts or stops few-shot training."""
        labelling, content = self.model.labelling, await _json(request)
        if request.path_params["what"] == "make":
            count, classes = content.get("count"), content.get("classes")
            if not isinstance(classes, list) or not all(isinstance(c, str) for c in classes):
                raise UserError("classes must be a list of names")
            await self.worker.run(PHOTO, functools.partial(labelling.make, count, classes))
        else:
            change = _choice(request, {"train": labelling.train, "stop": labelling.stop})
            await anyio.to_thread.run_sync(change)
        return JSONResponse(await anyio.to_thread.run_sync(labelling.state))

    async def label_overview(self, _: Request) -> Response:
        """Returns classes and images of the painting page."""
        folder = await self._label_folder()
        return JSONResponse(await anyio.to_thread.run_sync(folder.overview))

    async def label_image(self, request: Request) -> Response:
        """Returns an image to paint on."""
        folder, name = await self._label_folder(), request.path_params["name"]
        if name not in folder.images:
            raise FileNotFoundError
        content = await anyio.to_thread.run_sync(folder.picture, name)
        return Response(content, media_type="image/png")

    async def label_map(self, request: Request) -> Response:
        """Returns what was painted."""
        folder, name = await self._label_folder(), request.path_params["name"]
        if name not in folder.images:
            raise FileNotFoundError
        content = await anyio.to_thread.run_sync(folder.labels, name)
        if content is None:
            return Response(status_code=204)
        return Response(content, media_type="application/octet-stream")

    async def save_label_map(self, request: Request) -> Response:
        """Keeps what was painted."""
        folder, name = await self._label_folder(), request.path_params["name"]
        if name not in folder.images:
            raise FileNotFoundError
        height, width = folder.sizes[name]
        values = await body_of(request, height * width)
        await anyio.to_thread.run_sync(folder.save, name, values)
        return Response(status_code=204)

    async def label_page(self, request: Request) -> Response:
        """Returns a file of the painting page."""
        path = f"/{request.path_params['file']}"
        if path not in STATIC_FILES:
            raise FileNotFoundError
        content, kind = static_file(path)
        return Response(content, headers={"Content-Type": kind})

    async def page(self, request: Request) -> Response:
        """Returns a file of the page."""
        name = request.path_params["file"] or "index.html"
        content = _page_files().get(name)
        if content is None:
            raise FileNotFoundError
        return Response(content, headers={"Content-Type": _KINDS[name[name.rindex(".") :]]})

    def _run(self) -> Any:
        if self.model.run is None:
            raise UserError("this model is no workdir of a run")
        return self.model.run

    async def _label_folder(self) -> LabelFolder:
        return await anyio.to_thread.run_sync(self.model.labelling.opened)


def token_of_user() -> str:
    """Returns the token of this user's addresses, which is made when it is first needed.

    It stays the same, so that addresses that were kept still work.

    Raises:
      UserError: it cannot be kept.
    """
    path = parts.user_folder() / "studio_token"
    if path.exists() and len(text := path.read_text().strip()) >= 22 and text.isascii():
        return text
    token = secrets.token_urlsafe(24)
    with files.replacing(path) as temporary:
        temporary.write_text(token)
    os.chmod(os.fspath(path), 0o600)
    return token


def listen(port: int | None) -> socket.socket:
    """Returns a socket on this machine's own address.

    Args:
      port: 0 for a free one; None for `PORT`, or a free one if that is taken.

    Raises:
      UserError: the port cannot be used.
    """
    wanted = [PORT, 0] if port is None else [port]
    for number in wanted:
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind(("127.0.0.1", number))
            made.listen(64)
            return made
        except OSError as error:
            made.close()
            problem = error
    raise UserError(f"--port={port} cannot be used: {problem.strerror}") from problem


def server_of(model: Model, listening: socket.socket, token: str) -> uvicorn.Server:
    """Returns a server; `run(sockets=[listening])` serves until SIGINT or SIGTERM."""
    port = listening.getsockname()[1]
    app = Guard(Studio(model).app(), token, port)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        ws="none",
        limit_concurrency=100,
        timeout_graceful_shutdown=2,
    )
    return uvicorn.Server(config)


def _answered(answer: Answer) -> Answer:
    """Has a user's mistakes answered in one line."""

    @functools.wraps(answer)
    async def guarded(request: Request) -> Response:
        try:
            return await answer(request)
        except TooLarge as error:
            return _failure(413, str(error))
        except UserError as error:
            return _failure(400, str(error))
        except FileNotFoundError:
            return _failure(404, "there is nothing here")
        except Superseded:
            return _failure(409, "a newer request has come")

    return guarded


def _failure(status: int, text: str) -> Response:
    # The body of a refused request stays unread, so the connection is of no more use.
    close = {"Connection": "close"} if status == 413 else {}
    return Response(text, status, headers=close, media_type="text/plain")


async def _json(request: Request) -> Any:
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise UserError("JSON is needed")
    try:
        return json.loads(await body_of(request, _MOST_JSON))
    except (ValueError, RecursionError) as error:
        raise UserError("this is no JSON") from error


def _choice(request: Request, choices: dict[str, Callable[[], None]]) -> Callable[[], None]:
    what = request.path_params["what"]
    if what not in choices:
        raise FileNotFoundError
    return choices[what]


def _frame(header: dict[str, Any], *arrays: np.ndarray) -> Response:
    """Returns the header's length (4 bytes, little endian), the header as JSON, and the arrays."""
    text = json.dumps(header, ensure_ascii=False).encode()
    content = b"".join([struct.pack("<I", len(text)), text, *(a.tobytes() for a in arrays)])
    return Response(content, media_type="application/octet-stream")


@functools.cache
def _page_files() -> dict[str, bytes]:
    folder = importlib.resources.files("ganseg_jax.studio").joinpath("page")
    return {file.name: file.read_bytes() for file in folder.iterdir()}
