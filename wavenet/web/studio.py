"""The studio: the page served on this machine, with training runs to watch, and models that the server plays.

    /                            the page, and its files: those of `wavenet.web.site`
    /models.json                 the models of a folder as they are now
    /models/ID.safetensors       a model file
    /stream                      a WebSocket that plays a model, see `wavenet.web.sockets`
    /runs, /runs/ID              training runs, and all of one, see `wavenet.web.runs`
    /runs/ID/samples/step_N.wav  a clip, or with .svg a picture

`ID` is looked up in a `Catalogue`. Every request passes the rules of `wavenet.web.access`. Needs the extra `studio`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wavenet import web
from wavenet.config import ModelConfig
from wavenet.data.errors import printable
from wavenet.web import site
from wavenet.web.access import HEADERS, Access
from wavenet.web.catalogue import Catalogue, Model
from wavenet.web.runs import Runs
from wavenet.web.sockets import LARGEST_CLIP, LONGEST_ERROR, Sockets

TOO_MANY_MACS = 12e9  # multiply-adds in a second of audio: half of what a browser computes on a current laptop
TOO_MANY_BYTES = 32e6  # of a model file
MOST_CONNECTIONS = 128
UNREAD_MILLISECONDS = 60_000  # that a connection may leave what it was sent unread
GRACE_SECONDS = 1  # until what still runs after Ctrl-C is cancelled
PAGE = "index.html"
MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
ENTER = (
    '<!doctype html><title>WaveNet</title><meta http-equiv="refresh" content="0; url=/"><a href="/">Open the studio</a>'
)


class Studio:
    """The application, for one folder, model or run."""

    def __init__(self, catalogue: Catalogue, access: Access) -> None:
        self.catalogue, self.access = catalogue, access
        self.runs, self.sockets = Runs(catalogue), Sockets(catalogue)
        self.files = page_files()
        routes = [
            Route("/", self.page),
            Route("/models.json", self.manifest),
            Route("/models/{id}.safetensors", self.model),
            Route("/runs", self.list_runs),
            Route("/runs/{id}", self.show_run),
            Route("/runs/{id}/samples/{name}", self.run_file),
            WebSocketRoute("/stream", self.sockets.serve),
            Route("/{name}", self.file),
        ]
        errors: Any = {HTTPException: _refused, Exception: _failed}
        application = Starlette(routes=routes, exception_handlers=errors, lifespan=self._lifespan)
        application.router.redirect_slashes = False
        self.app: ASGIApp = Guard(application, access)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        yield
        self.sockets.stop()

    async def page(self, request: Request) -> Response:
        return self._static(PAGE)

    async def file(self, request: Request) -> Response:
        return self._static(request.path_params["name"])

    def _static(self, name: str) -> Response:
        path = self.files.get(name)
        if path is None:
            raise HTTPException(404)
        return FileResponse(path, media_type=MEDIA_TYPES.get(path.suffix, "application/wasm"))

    async def manifest(self, request: Request) -> Response:
        contents = await run_in_threadpool(self.catalogue.contents)
        models = [self._entry(model, model.config) for model in contents.models.values() if model.config]
        refused = [{"name": model.name, "reason": model.reason} for model in contents.models.values() if model.reason]
        more = {"unplayable": refused, "complete": contents.complete, "socket": "stream", "runs": "runs"}
        return JSONResponse({"models": models, **more})

    def _entry(self, model: Model, config: ModelConfig) -> dict[str, Any]:
        """A model in models.json."""
        macs = config.macs_per_sample * config.sample_rate
        too_large = macs > TOO_MANY_MACS or model.bytes > TOO_MANY_BYTES
        sources = ["browser", "server"] if site.WASM in self.files else ["server"]
        return site.entry_of(config, model.name, f"models/{model.id}.safetensors", model.bytes) | {
            "id": model.id,
            "source": sources[-1] if too_large else sources[0],
            "sources": sources,
        }

    async def model(self, request: Request) -> Response:
        found = await run_in_threadpool(self.catalogue.model, request.path_params["id"])
        if found is None:
            raise HTTPException(404)
        return FileResponse(found.path, media_type="application/octet-stream")

    async def list_runs(self, request: Request) -> Response:
        return JSONResponse({"runs": await run_in_threadpool(self.runs.listed)})

    async def show_run(self, request: Request) -> Response:
        found = await run_in_threadpool(self.runs.details, request.path_params["id"])
        if found is None:
            raise HTTPException(404)
        return JSONResponse(found)

    async def run_file(self, request: Request) -> Response:
        found = await run_in_threadpool(self.runs.file, request.path_params["id"], request.path_params["name"])
        if found is None:
            raise HTTPException(404)
        return FileResponse(found[0], media_type=found[1])


class Guard:
    """Refuses requests that the rules of access refuse; sends the headers of security with every answer."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        query = scope["query_string"].decode("latin-1")
        method = scope.get("method", "WEBSOCKET")
        refusal = self.access.refusal(method, query, scope["headers"])
        respond: ASGIApp = self.app
        if refusal is not None:
            respond = PlainTextResponse(refusal.reason + "\n", refusal.status)
        elif method == "GET" and scope["path"] == "/" and self.access.shows_token(query):
            respond = self._enter()
        await respond(scope, receive, _with_headers(send))

    def _enter(self) -> Response:
        """A page that keeps the token in a cookie and opens the address without it.

        Not a redirect: where a link of another site was followed, browsers would not send the cookie after it.
        """
        response = HTMLResponse(ENTER)
        assert self.access.token is not None
        response.set_cookie(self.access.cookie, self.access.token, httponly=True, samesite="strict")
        return response


def _with_headers(send: Send) -> Callable[[Message], Awaitable[None]]:
    """`send`, which adds headers to the beginning of an HTTP answer."""

    async def sending(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            fixed = {name.lower(): value for name, value in ({"Cache-Control": "no-cache"} | HEADERS).items()}
            own = [(name.encode(), value.encode()) for name, value in fixed.items()]
            message = {**message, "headers": [*message.get("headers", []), *own]}
        await send(message)

    return sending


async def _refused(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    reason = "there is nothing at this address" if status == 404 else "this is not done here"
    return PlainTextResponse(reason + "\n", status)


async def _failed(request: Request, error: Exception) -> Response:
    return PlainTextResponse("this failed; the terminal of wavenet studio says why\n", 500)


def page_files() -> dict[str, Path]:
    """The files of the page by their names; without wavenet.wasm where it was not built."""
    found = site.static_files()
    with contextlib.suppress(FileNotFoundError):
        found[site.WASM] = web.file(site.WASM)
    return found


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at a host and port; port 0: any that is free.

    Raises `ValueError` for a host that is not one of this machine, and `RuntimeError` for a port that is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise ValueError(f"host {host!r}: no such host ({getattr(error, 'strerror', None) or error})") from None
    listening = socket.socket(family, kind, protocol)
    try:
        if sys.platform != "win32":  # there it would share the port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # accepted connections inherit it
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MILLISECONDS)
        listening.bind(address)
        listening.listen(MOST_CONNECTIONS)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise RuntimeError(
                f"port {port} is in use; give another one with --port, or 0 for any that is free"
            ) from None
        if error.errno == errno.EADDRNOTAVAIL:
            raise ValueError(f"host {host!r}: not an address of this machine") from None
        raise RuntimeError(f"port {port}: cannot be listened at ({(error.strerror or str(error)).lower()})") from None
    return listening


def serve(studio: Studio, listening: socket.socket) -> None:
    """Serve until Ctrl-C, which is raised as `KeyboardInterrupt`, or SIGTERM."""

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            studio.sockets.stop()
            await super().shutdown(sockets)

    _one_line_errors(logging.getLogger("uvicorn"))
    Server(settings(studio)).run(sockets=[listening])


def settings(studio: Studio) -> uvicorn.Config:
    """How a studio is served."""
    return uvicorn.Config(
        studio.app,
        log_config=None,
        access_log=False,  # addresses may contain the token
        limit_concurrency=MOST_CONNECTIONS,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        ws="websockets-sansio",  # which takes no more from the network than it has passed on
        ws_max_size=LARGEST_CLIP,
        ws_per_message_deflate=False,  # a small message could be a large one
    )


class _OneLine(logging.Handler):
    """Prints errors of the application, a line each."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not isinstance(error, asyncio.CancelledError):  # of what Ctrl-C ends
            reason = printable(" ".join(f"{type(error).__name__}: {error}".split()), LONGEST_ERROR)
            print(f"wavenet: a request failed ({reason})", file=sys.stderr)


def _one_line_errors(logger: logging.Logger) -> None:
    logger.handlers, logger.propagate = [_OneLine(logging.ERROR)], False
