"""What a page, or a program, can ask of the studio at most: connections, messages, time, and memory."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import save_model
from studio_client import Client, Page, client_of
from websockets.exceptions import ConnectionClosed

from wavenet.web import sockets, streaming
from wavenet.web.streaming import Voice


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    save_model(tmp_path / "m.safetensors")
    with client_of(tmp_path) as opened:
        yield opened


def until(condition: Any, seconds: float = 60) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def closed(page: Page) -> tuple[str, int]:
    """The error that a page is told before its connection is closed, and the code of that."""
    while True:
        message = json.loads(page.receive())
        if "closed" in message:
            break
    with pytest.raises(ConnectionClosed) as ended:
        page.receive()
    received = ended.value.rcvd
    assert received is not None and received.reason == message["error"]
    return message["error"], received.code


def test_a_hundred_clients(client: Client) -> None:
    with contextlib.ExitStack() as stack:
        pages = [Page(stack.enter_context(client.connect())) for _ in range(100)]
        for page in pages[sockets.MOST_SOCKETS :]:
            assert closed(page) == ("16 pages are connected already, which is the most", 1013)
        identifier = client.identifier("m")
        for page in pages[: sockets.MOST_SOCKETS]:
            page.done(load=identifier, precision="f32")
        for page in pages[: sockets.MOST_SOCKETS]:
            assert page.generate(100).audio.size == 100
        pages[0].connection.close()
        until(lambda: len(client.studio.sockets._open) < sockets.MOST_SOCKETS)
        with client.page("m") as page:
            assert page.generate(10).audio.size == 10
    until(lambda: not client.studio.sockets._open)


def test_a_client_that_never_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is generated in advance for it, and it does not keep its place."""
    monkeypatch.setattr(sockets, "SEND_SECONDS", 0.3)
    monkeypatch.setattr(streaming, "LONGEST_BLOCK", 4.0)
    generated = []
    generate = Voice.generate

    def counting(self: Voice, samples: int, heard: int | None = None) -> Any:
        generated.append(samples)
        return generate(self, samples, heard)

    monkeypatch.setattr(Voice, "generate", counting)
    save_model(tmp_path / "m.safetensors")
    with client_of(tmp_path) as client, client.connect(queue=1) as connection:
        page = Page(connection)
        page.done(load=client.identifier("m"), precision="int8")
        for _ in range(300):
            page.send('{"generate": 32000}')
        until(lambda: not client.studio.sockets._open)
        assert 0 < len(generated) < 150  # 128 kB each: what fits into the buffers of the network


def test_a_flood_of_messages(client: Client) -> None:
    def flood(page: Page) -> None:
        for _ in range(20_000):
            page.send('{"start": 1}')

    with client.page() as page:
        with contextlib.suppress(ConnectionClosed):
            flood(page)
        until(lambda: not client.studio.sockets._open)
    with client.page("m") as page:
        assert page.generate(10).audio.size == 10


def test_the_limit_of_messages_in_a_second(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "MESSAGES_PER_SECOND", 0.001)
    monkeypatch.setattr(sockets, "MOST_AT_ONCE", 5)
    with client.page() as page:
        for _ in range(5):
            page.ask(start=1)
        page.send('{"start": 1}')
        assert closed(page) == ("too many messages: at most 0.001 in a second", 1008)


def test_messages_that_are_too_large(client: Client) -> None:
    with client.page() as page:
        page.send("x" * (sockets.LARGEST_TEXT + 1))
        assert closed(page) == ("a message of 65,537 characters: at most 65,536", 1009)
    with client.page() as page:
        with contextlib.suppress(ConnectionClosed):  # while it is sent
            page.send(b"x" * (sockets.LARGEST_CLIP + 1))
        with pytest.raises(ConnectionClosed):
            page.receive()


def test_text_that_is_no_text(client: Client, capfd: pytest.CaptureFixture[str]) -> None:
    with client.page() as page:
        page.connection.send(b"\xff\xfe", text=True)
        with pytest.raises(ConnectionClosed):
            page.receive()
    assert "Traceback" not in capfd.readouterr().err


def test_a_page_that_says_nothing(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "IDLE_SECONDS", 0.05)
    with client.page() as page:
        assert closed(page) == ("no message for 0.05 s", 1001)


def test_a_page_that_leaves_ends_what_is_generated(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "LONGEST_BLOCK", 1e6)
    stopped: list[bool] = []
    generate = Voice.generate

    def watched(self: Voice, samples: int, heard: int | None = None) -> Any:
        try:
            return generate(self, samples, heard)
        except streaming.Stopped:
            stopped.append(True)
            raise

    monkeypatch.setattr(Voice, "generate", watched)
    with client.page("m") as page:
        page.send('{"generate": 4000000000}')
        time.sleep(0.1)
    until(lambda: stopped)


def test_an_unexpected_error_is_one_line(
    client: Client, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object) -> None:
        raise KeyError("two\nlines")

    monkeypatch.setattr("wavenet.web.catalogue._found", fail)
    monkeypatch.setattr("wavenet.web.catalogue.RESCAN_SECONDS", 0.0)
    reply = client.get("/models.json")
    assert reply.status == 500 and b"terminal" in reply.body and b"KeyError" not in reply.body
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert "Traceback" not in capfd.readouterr().err
