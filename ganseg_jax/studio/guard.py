"""Who may ask: this machine's own browser, with the token of the address."""

import hmac
import http
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ganseg_jax.errors import UserError

_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class TooLarge(UserError):
    """Reports that a request brings more than is taken."""


class Guard:
    """Answers only requests with the token, to this machine's name, from its own pages.

    The token is the first part of the path and is taken off.

    Args:
      app: answers what is let through.
      token: that of the address.
      port: that is listened on.
    """

    def __init__(self, app: ASGIApp, token: str, port: int):
        self._app, self._token = app, token
        self._hosts = {f"{host}:{port}" for host in ("127.0.0.1", "localhost")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a request, or refuses it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message.get("headers", [])}
                message["headers"] = [
                    *message.get("headers", []),
                    *(
                        (name.lower().encode(), value.encode())
                        for name, value in HEADERS.items()
                        if name.lower().encode() not in given
                    ),
                ]
            await send(message)

        if scope["type"] != "http":
            return  # No WebSockets are spoken here: the connection is closed.
        path = scope["path"]
        token, slash, rest = path[1:].partition("/")
        if not self._is_local(scope):
            refusal = _refusal("only for this machine's own browser")
            await refusal(scope, receive, with_headers)
        elif not (slash and hmac.compare_digest(token.encode(), self._token.encode())):
            refusal = _refusal("open the address that `ganseg studio` shows in the terminal")
            await refusal(scope, receive, with_headers)
        else:
            inner = dict(scope) | {"path": f"/{rest}", "root_path": "", "raw_path": None}
            await self._app(inner, receive, with_headers)

    def _is_local(self, scope: Scope) -> bool:
        headers = _headers(scope)
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        opened = scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate"
        return (
            headers.get("host") in self._hosts
            and (origin is None or origin.removeprefix("http://") in self._hosts)
            and (site in ("same-origin", "none") or opened)
        )


async def body_of(request: Request, most: int) -> bytes:
    """Returns the body of a request, of which at most `most` bytes are read.

    Raises:
      TooLarge: it is longer.
    """
    megabytes = f"{most / 1e6:.4g}"
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > most:
        raise TooLarge(f"it is larger than {megabytes} MB")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise TooLarge(f"it is larger than {megabytes} MB")
    return bytes(body)


def _headers(scope: Scope) -> Mapping[str, str]:
    names = [name for name, _ in scope["headers"]]
    # A header that is there twice may be read differently by others: it counts as wrong.
    return {
        name.decode("latin-1"): "" if names.count(name) > 1 else value.decode("latin-1")
        for name, value in scope["headers"]
        if name in (b"host", b"origin", b"sec-fetch-site", b"sec-fetch-mode")
    }


def _refusal(text: str) -> PlainTextResponse:
    return PlainTextResponse(text, http.HTTPStatus.FORBIDDEN, headers={"Connection": "close"})
