"""`wavenet studio`: its address, errors in one line, Ctrl-C, and what is missing."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import urllib.request
import webbrowser
from pathlib import Path

import pytest
from commands import Capture, error_of, run, save_model
from websockets.sync.client import connect

from wavenet.web.studio import listen


def started(*arguments: object) -> tuple[subprocess.Popen[str], str]:
    """A process, and the address that it prints."""
    process = subprocess.Popen(
        [sys.executable, "-m", "wavenet", "studio", "--no-browser", "--port", "0", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


@pytest.mark.parametrize("ends", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_interrupted(tmp_path: Path, ends: signal.Signals) -> None:
    save_model(tmp_path / "m.safetensors")
    process, address = started(tmp_path)
    try:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
        with urllib.request.urlopen(f"{address}models.json", timeout=60) as reply:
            assert b'"name":"m"' in reply.read()
        with connect(f"{address.replace('http', 'ws')}stream", open_timeout=60) as page:
            page.send('{"start": 1}')
            page.recv(60)
            process.send_signal(ends)  # with a page that is connected
            _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors.strip()) == (130, "")
    finally:
        process.kill()


def test_other_machines_need_the_token(tmp_path: Path) -> None:
    process, address = started(tmp_path, "--host", "0.0.0.0")
    try:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{32}", address)
        with urllib.request.urlopen(address, timeout=60) as reply:
            assert reply.status == 200
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(address.partition("?")[0], timeout=60)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 130 and "not encrypted" in errors and len(errors.strip().splitlines()) == 1
    finally:
        process.kill()


def test_errors_are_one_line(tmp_path: Path, capsys: Capture) -> None:
    assert "no such file or folder" in error_of(capsys, "studio", tmp_path / "nothing")
    (tmp_path / "text.txt").write_text("text")
    assert "text.txt: not a complete .safetensors file" in error_of(capsys, "studio", tmp_path / "text.txt")
    assert "host 'no.such.host.invalid'" in error_of(capsys, "studio", tmp_path, "--host", "no.such.host.invalid")
    assert "not an address of this machine" in error_of(capsys, "studio", tmp_path, "--port", 0, "--host", "192.0.2.1")
    assert "--port" in error_of(capsys, "studio", tmp_path, "--port", 70_000)


def test_a_port_that_is_taken(tmp_path: Path, capsys: Capture) -> None:
    with listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        assert run("studio", tmp_path, "--port", port, "--no-browser") == 1
    message = f"wavenet: port {port} is in use; give another one with --port, or 0 for any that is free"
    assert capsys.readouterr().err.strip() == message


def test_what_is_not_installed(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert error_of(capsys, "studio", tmp_path).endswith("needs uvicorn: pip install 'wavenet-toolkit[studio]'")


def test_the_browser_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setattr("wavenet.web.studio.serve", lambda studio, listening: None)
    assert run("studio", tmp_path, "--port", 0) == 0
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", opened[0])


def test_importing_the_package_needs_no_server() -> None:
    code = "import sys, wavenet.web; assert not {'starlette', 'uvicorn', 'websockets'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_port_is_reused_at_once() -> None:
    with listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            pass
    listen("127.0.0.1", port).close()
