"""The WebSocket of the studio: one voice each. Every message is answered by one, in order.

From the page, as text: one of

    {"load": identifier of a model, "precision": "auto", "f32" or "int8"}
    {"start": seed}    {"set": {control: value}}    {"reseed": seed}
    {"prime": samples} or {"resynthesise": samples}: the next message is the clip, float32 little-endian
    {"prime": null}
    {"branch": name, "position": samples}    {"return": name, "seed": seed or null}
    {"generate": samples, "heard": samples since the start that were played}

To the page: {"reply": name of the request, "position": samples since the start, ...} as text; {"error": text}; and for
`generate` a binary message: position and seconds of work as two float64, then the samples as float32, little-endian.

Messages are taken one at a time: while one is worked on, or its answer is not read, those that follow wait in the
network, so that a page can ask for more blocks than it takes without any cost here.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn, TypeVar

import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from wavenet.checks import is_integer, shown
from wavenet.data.errors import printable
from wavenet.extras import Unavailable
from wavenet.web.catalogue import Catalogue
from wavenet.web.streaming import Block, Loaded, Models, Stopped, Voice

MOST_SOCKETS = 16
LARGEST_TEXT = 2**16  # bytes of a message
LARGEST_CLIP = 4 * 60 * 48_000  # bytes: a minute at 48 kHz
MESSAGES_PER_SECOND, MOST_AT_ONCE = 200, 400
IDLE_SECONDS = 3_600.0  # without a message
SEND_SECONDS = 30.0  # until an answer must be read
LONGEST_ERROR = 500  # characters
GOING_AWAY, POLICY, TOO_BIG, FULL = 1001, 1008, 1009, 1013  # codes with which a WebSocket is closed

T = TypeVar("T")


class Ended(Exception):
    """The connection ends, for a reason that the page is told."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class Sockets:
    """All connections: their number is bounded, and each has a thread in which it generates."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue, self.models = catalogue, Models()
        self.executor = ThreadPoolExecutor(MOST_SOCKETS, "wavenet-voice")
        self._open: set[Connection] = set()

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one connection until it ends."""
        await websocket.accept()
        connection = Connection(self, websocket)
        if len(self._open) >= MOST_SOCKETS:
            await connection.end(Ended(FULL, f"{MOST_SOCKETS} pages are connected already, which is the most"))
            return
        self._open.add(connection)
        try:
            await connection.run()
        finally:
            self._open.discard(connection)

    def stop(self) -> None:
        """End what is generated now."""
        for connection in self._open:
            connection.stop()
        self.executor.shutdown(wait=False, cancel_futures=True)


class Connection:
    """One page and its voice."""

    def __init__(self, sockets: Sockets, websocket: WebSocket) -> None:
        self.sockets, self.websocket = sockets, websocket
        self.voice: Voice | None = None
        self._clip: Callable[[Any], object] | None = None  # takes the clip that was announced
        self._samples, self._name = 0, ""  # of that clip, and of its request
        self._tokens, self._refilled = float(MOST_AT_ONCE), time.monotonic()
        self._messages: asyncio.Queue[str | bytes | Ended | None] = asyncio.Queue(1)

    def stop(self) -> None:
        if self.voice is not None:
            self.voice.stop()

    async def run(self) -> None:
        """Answer messages until the page leaves, or is told to."""
        reading = asyncio.create_task(self._read())
        try:
            while (message := await self._messages.get()) is not None:
                if isinstance(message, Ended):
                    raise message
                answer = await self._answer(message)
                async with asyncio.timeout(SEND_SECONDS):
                    await self._send(answer)
        except Ended as ended:
            await self.end(ended)
        except (TimeoutError, WebSocketDisconnect, RuntimeError, Stopped):
            pass  # the page does not read, or has left
        finally:
            self.stop()
            reading.cancel()

    async def _send(self, answer: str | bytes) -> None:
        if isinstance(answer, bytes):
            await self.websocket.send_bytes(answer)
        else:
            await self.websocket.send_text(answer)

    async def end(self, ended: Ended) -> None:
        """Tell the page why, and close."""
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self.websocket.send_text(_text({"error": ended.reason, "closed": True}))
                await self.websocket.close(ended.code, ended.reason)
        except (TimeoutError, WebSocketDisconnect, RuntimeError):
            pass

    async def _read(self) -> None:
        """Put messages into the queue; None when the page has left."""
        while self.websocket.client_state is WebSocketState.CONNECTED:
            message: str | bytes | Ended | None
            try:
                async with asyncio.timeout(IDLE_SECONDS):
                    event = await self.websocket.receive()
                message = None if event["type"] == "websocket.disconnect" else self._checked(event)
            except TimeoutError:
                message = Ended(GOING_AWAY, f"no message for {IDLE_SECONDS:g} s")
            except Ended as ended:
                message = ended
            if message is None or isinstance(message, Ended):
                self.stop()
            await self._messages.put(message)
            if message is None or isinstance(message, Ended):
                return

    def _checked(self, event: Any) -> str | bytes:
        """The message of an event. Raises `Ended` for one that is too large, and for too many."""
        now = time.monotonic()
        self._tokens = min(MOST_AT_ONCE, self._tokens + MESSAGES_PER_SECOND * (now - self._refilled)) - 1
        self._refilled = now
        if self._tokens < 0:
            raise Ended(POLICY, f"too many messages: at most {MESSAGES_PER_SECOND} in a second")
        text, content = event.get("text"), event.get("bytes")
        if text is not None and len(text) > LARGEST_TEXT:
            raise Ended(TOO_BIG, f"a message of {len(text):,} characters: at most {LARGEST_TEXT:,}")
        message: str | bytes = text if text is not None else content or b""
        return message

    async def _answer(self, message: str | bytes) -> str | bytes:
        try:
            if isinstance(message, bytes):
                return await self._take_clip(message)
            request = _parsed(message)
            return await self._answer_request(request)
        except (ValueError, OSError, Unavailable, MemoryError, RecursionError) as error:
            return _text({"error": printable(" ".join(str(error).split()) or type(error).__name__, LONGEST_ERROR)})

    async def _answer_request(self, request: dict[str, Any]) -> str | bytes:
        name = next(iter(request))
        value = request[name]
        if self._clip is not None:
            self._clip = None
            raise ValueError(f"{self._name}: the clip was to follow")
        if name == "load":
            return await self._load(value, request.get("precision", "auto"))
        voice = self.voice
        if voice is None:
            raise ValueError(f"{name}: load a model first")
        if name in ("prime", "resynthesise") and value is not None:
            return self._announce(voice, name, value)
        if name == "generate":
            return _packed(await self._in_thread(lambda: voice.generate(value, request.get("heard"))))
        more: dict[str, Any] = {}
        if name == "branch":
            more["position"] = await self._in_thread(lambda: voice.branch(value, request.get("position", 0)))
        else:
            calls: dict[str, Callable[[], object]] = {
                "start": lambda: voice.start(value),
                "set": lambda: voice.set(_table(value)),
                "reseed": lambda: voice.reseed(value),
                "prime": lambda: voice.prime(None),
                "resynthesise": lambda: _missing("resynthesise"),
                "return": lambda: voice.return_to(value, request.get("seed")),
            }
            await self._in_thread(calls[name])
        return _text({"reply": name, "position": voice.position} | more)

    async def _load(self, identifier: Any, precision: Any) -> str:
        if not isinstance(identifier, str) or not isinstance(precision, str):
            raise ValueError("load: needs the identifier of a model, and precision as a text")
        loaded = await self._in_thread(lambda: self._loaded(identifier, precision))
        self.voice = voice = Voice(loaded.generator)
        about = {"info": voice.info, "config": voice.config.to_dict(), "sha256": loaded.sha256}
        return _text({"reply": "load", "position": 0, **about})

    def _loaded(self, identifier: str, precision: str) -> Loaded:
        model = self.sockets.catalogue.model(identifier)
        if model is None:
            raise ValueError("load: there is no such model any more; load the page again")
        return self.sockets.models.load(model.path, precision)

    def _announce(self, voice: Voice, name: str, samples: Any) -> str:
        if not is_integer(samples) or not 1 <= samples <= LARGEST_CLIP // 4:
            raise ValueError(f"{name} = {shown(samples)}: must be a number of samples up to {LARGEST_CLIP // 4:,}")
        self._clip = voice.prime if name == "prime" else voice.resynthesise
        self._samples, self._name = samples, name
        return _text({"reply": "clip", "position": voice.position})

    async def _take_clip(self, content: bytes) -> str:
        take, self._clip = self._clip, None
        if take is None or self.voice is None:
            raise ValueError("a clip was not announced: send prime or resynthesise first")
        if len(content) != 4 * self._samples:
            raise ValueError(f"{self._name}: {self._samples:,} samples were announced, not {len(content):,} bytes")
        audio = np.frombuffer(content, "<f4").astype(np.float32)
        await self._in_thread(lambda: take(audio))
        return _text({"reply": self._name, "position": self.voice.position})

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.sockets.executor, call)


REQUESTS = {  # the keys that a request may have beside its name, which comes first
    "load": {"precision"},
    "start": set(),
    "set": set(),
    "reseed": set(),
    "prime": set(),
    "resynthesise": set(),
    "branch": {"position"},
    "return": {"seed"},
    "generate": {"heard"},
}


def _parsed(text: str) -> dict[str, Any]:
    """A request, an object with a known name first. Raises `ValueError` for anything else."""
    try:
        request = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(request, dict) or not request:
        raise ValueError(f"not a request, which is an object with one of {', '.join(REQUESTS)}")
    name, *others = request
    if name not in REQUESTS:
        raise ValueError(f"{shown(name)}: there is no such request; there are {', '.join(REQUESTS)}")
    for other in others:
        if other not in REQUESTS[name]:
            raise ValueError(f"{name}: {shown(other)} does not belong to this request")
    return request


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON; null turns a control off")


def _table(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"set = {shown(value)}: must be an object of controls")
    return value


def _missing(name: str) -> NoReturn:
    raise ValueError(f"{name}: needs the number of samples of a clip")


def _packed(block: Block) -> bytes:
    return np.array([block.position, block.seconds], "<f8").tobytes() + block.audio.astype("<f4").tobytes()


def _text(answer: dict[str, Any]) -> str:
    return json.dumps(answer)
