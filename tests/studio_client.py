"""A page's side of the studio's WebSocket, and a server on a free port, for the tests of the studio."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import uvicorn
from numpy.typing import NDArray
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from wavenet.training import recipe
from wavenet.training.run_directory import RunDirectory
from wavenet.web.access import Access
from wavenet.web.catalogue import Catalogue
from wavenet.web.studio import Studio, listen, settings


class Answer(NamedTuple):
    """Of `generate`."""

    position: int
    seconds: float
    audio: NDArray[np.float32]


class Page:
    """Sends requests over a connection of `websockets`, one after the other."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.send, self.receive = connection.send, connection.recv

    def ask(self, request: str | bytes | None = None, **fields: Any) -> dict[str, Any]:
        """The answer to a request, which is JSON."""
        self.send(json.dumps(fields) if request is None else request)
        answer: dict[str, Any] = json.loads(self.receive())
        return answer

    def done(self, **fields: Any) -> dict[str, Any]:
        """The answer to a request, which is no error."""
        answer = self.ask(**fields)
        assert answer.get("reply") in (next(iter(fields)), "clip"), answer
        return answer

    def error(self, request: str | bytes | None = None, **fields: Any) -> str:
        """The error with which a request is answered: one line."""
        text = self.ask(request, **fields)["error"]
        assert isinstance(text, str) and len(text.splitlines()) == 1 and "Traceback" not in text
        return text

    def generate(self, samples: int, heard: int | None = None) -> Answer:
        self.send(json.dumps({"generate": samples} | ({} if heard is None else {"heard": heard})))
        answer = self.receive()
        assert isinstance(answer, bytes), answer
        position, seconds = np.frombuffer(answer, "<f8", 2)
        return Answer(int(position), float(seconds), np.frombuffer(answer, "<f4", offset=16))

    def clip(self, use: str, audio: NDArray[np.float32]) -> dict[str, Any]:
        """Announce a clip and send it; the answer."""
        assert self.done(**{use: len(audio)})["reply"] == "clip"
        return self.ask(audio.astype("<f4").tobytes())


class Reply(NamedTuple):
    """To an HTTP request."""

    status: int
    headers: dict[str, str]  # by their names in lower case
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Sends requests to a studio, by default as its page does."""

    def __init__(self, studio: Studio, port: int) -> None:
        self.studio, self.port = studio, port

    def get(self, path: str, method: str = "GET", **headers: str) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, found, response.read())
        finally:
            connection.close()

    def connect(
        self, path: str = "/stream", origin: str | None = None, queue: int = 16, **headers: str
    ) -> ClientConnection:
        own = f"http://127.0.0.1:{self.port}"
        return connect(
            f"ws://127.0.0.1:{self.port}{path}",
            origin=Origin(own if origin is None else origin),
            additional_headers=headers,
            open_timeout=60,
            close_timeout=0.2,
            max_queue=queue,
            max_size=None,
        )

    @contextlib.contextmanager
    def page(self, model: str | None = None, **options: Any) -> Iterator[Page]:
        """A connection, on which a model is loaded, by its name."""
        with self.connect() as connection:
            page = Page(connection)
            if model is not None:
                page.done(load=self.identifier(model), **options)
            yield page

    def identifier(self, name: str) -> str:
        """The identifier of a model."""
        found: dict[str, str] = {entry["name"]: entry["id"] for entry in self.get("/models.json").json["models"]}
        return found[name]


@contextlib.contextmanager
def client_of(folder: Path, access: Access | None = None) -> Iterator[Client]:
    """A client of a studio that is served in another thread, on a free port."""
    with listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        studio = Studio(Catalogue(folder), access or Access("127.0.0.1", port))
        server = uvicorn.Server(settings(studio))
        thread = threading.Thread(target=asyncio.run, args=(server.serve(sockets=[listening]),), daemon=True)
        thread.start()
        try:
            yield Client(studio, port)
        finally:
            studio.sockets.stop()
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive()


def write_run(path: Path, text: str = "", *settings: str) -> RunDirectory:
    """A run with a loss, and with a validation, its clip and its picture."""
    run = RunDirectory(path)
    run.create()
    run.recipe.write_text(recipe.load("tiny", ["training.steps=24", "training.minutes=0", *settings]).to_toml())
    run.append_log({"event": "train", "step": 5, "bits": 7.0, "seconds": 30.0})
    references = {"histogram": 7.5, "pairs": 4.75}
    figures = {"bits": 5.0, "seconds": 60.0, "is_best": True, "references": references, "verdict": {"text": text}}
    run.append_log({"event": "validation", "step": 10, **figures})
    run.append_log({"event": "train", "step": 12, "bits": 5.5, "seconds": 61.0})
    soundfile.write(run.sample(10), np.zeros(100), 8_000)
    run.picture(10).write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    return run
