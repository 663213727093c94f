"""Who may use the studio: hosts, origins, tokens; and that nothing outside of its folder is served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import save_model
from studio_client import Client, client_of
from websockets.exceptions import InvalidStatus

from wavenet.web.access import Access

TOKEN = "a-token-of-this-test"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models")
    save_model(path / "plain.safetensors")
    (path / "secret.txt").write_text("secret")
    return path


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Client]:
    with client_of(folder) as opened:
        yield opened


@pytest.fixture(scope="module")
def guarded(folder: Path) -> Iterator[Client]:
    """A studio that other machines could reach."""
    with client_of(folder, Access("0.0.0.0", 8765, TOKEN)) as opened:
        yield opened


def status_of(client: Client, path: str = "/stream", origin: str | None = None, **headers: str) -> int:
    """The status with which a WebSocket is refused."""
    with pytest.raises(InvalidStatus) as refused:
        client.connect(path, origin, **headers)
    status: int = refused.value.response.status_code
    return status


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST:1", "127.0.0.1:99", "[::1]", "[::1]:8765"])
def test_names_of_this_machine(client: Client, host: str) -> None:
    assert client.get("/models.json", host=host).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "example.com",
        "localhost.example.com",
        "127.0.0.1.nip.io",
        "192.168.0.1",
        "127.0.0.1@evil.org",
        "",
        "[::2]",
        "a b",
    ],
)
def test_foreign_host_names_are_refused(client: Client, host: str) -> None:
    reply = client.get("/models.json", host=host)
    assert reply.status == 403 and b"host name" in reply.body


def test_two_host_headers_are_refused() -> None:
    headers = [(b"host", b"localhost"), (b"Host", b"example.com")]
    assert Access("127.0.0.1", 1).refusal("GET", "", headers) is not None
    assert Access("127.0.0.1", 1).refusal("GET", "", headers[:1]) is None
    assert Access("127.0.0.1", 1).refusal("GET", "", []) is not None


@pytest.mark.parametrize(
    "origin", ["http://example.com", "null", "http://127.0.0.1", "http://127.0.0.1:1", "file://", ""]
)
def test_foreign_origins_are_refused(client: Client, origin: str) -> None:
    assert status_of(client, origin=origin) == 403
    assert client.get("/models.json", "POST", origin=origin).status == 403


def test_the_own_origin_is_served(client: Client) -> None:
    with client.page("plain") as page:
        assert len(page.generate(10).audio) == 10
    assert client.get("/models.json", "POST", origin=f"http://127.0.0.1:{client.port}").status == 405
    headers = [(b"host", b"localhost:1")]  # programs other than browsers send no origin
    assert Access("127.0.0.1", 1).refusal("WEBSOCKET", "", headers) is None
    foreign = Access("127.0.0.1", 1).refusal(
        "WEBSOCKET", "", [(b"host", b"example.com"), (b"origin", b"http://example.com")]
    )
    assert foreign is not None and foreign.status == 403


def test_headers_of_security(client: Client) -> None:
    for path in ("/", "/models.json", "/nothing", f"/models/{client.identifier('plain')}.safetensors"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy and "http:" not in policy and "*" not in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-cache"
        assert headers["cross-origin-resource-policy"] == "same-origin" and headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers and "access-control-allow-origin" not in headers


def test_loopback_needs_no_token_and_others_do() -> None:
    for host in ("127.0.0.1", "localhost", "::1", "127.9.9.9"):
        assert Access.of(host, 80).token is None
    tokens = {Access.of(host, 80).token for host in ("0.0.0.0", "::", "192.168.0.4", "my-machine", "example.com")}
    assert len(tokens) == 5 and all(token is not None and len(token) >= 32 for token in tokens)
    assert Access("0.0.0.0", 80, "t").address == "http://127.0.0.1:80/?token=t"
    assert Access("::", 80, "t").address == "http://[::1]:80/?token=t"
    assert Access("127.0.0.1", 80).address == "http://127.0.0.1:80/"


@pytest.mark.parametrize("query", ["", "?token=", "?token=wrong", f"?token={TOKEN}x", f"?tokens={TOKEN}", "?token=%ff"])
def test_without_the_token_nothing_is_served(guarded: Client, query: str) -> None:
    for path in ("/", "/models.json", "/runs", "/index.html", "/nothing"):
        reply = guarded.get(path + query)
        assert reply.status == 401 and b"token is missing or wrong" in reply.body and "set-cookie" not in reply.headers
    assert status_of(guarded, f"/stream{query}") == 401
    assert status_of(guarded, f"/stream{query}", Cookie="wavenet-studio-8765=wrong; wavenet-studio-1=" + TOKEN) == 401


def test_the_token_is_kept_in_a_cookie(guarded: Client) -> None:
    reply = guarded.get(f"/?token={TOKEN}")
    assert reply.status == 200 and b'url=/"' in reply.body and TOKEN.encode() not in reply.body
    cookie = reply.headers["set-cookie"]
    assert cookie.startswith(f"wavenet-studio-8765={TOKEN};") and "HttpOnly" in cookie and "SameSite=strict" in cookie
    kept = f'theme={{"a": [1, "b"]}}; wavenet-studio-8765={TOKEN}'  # beside one of another program, in no proper form
    assert guarded.get("/", Cookie=kept).status == 200 and b"refresh" not in guarded.get("/", Cookie=kept).body
    assert guarded.get("/models.json", Cookie=kept).status == 200
    assert guarded.get(f"/models.json?token={TOKEN}").status == 200  # for programs
    with guarded.connect(Cookie=kept), guarded.connect(f"/stream?token={TOKEN}"):
        pass


def test_hosts_and_origins_are_checked_beside_the_token(guarded: Client) -> None:
    query = f"?token={TOKEN}"
    assert guarded.get(f"/models.json{query}", host="192.168.0.7:8765").status == 200  # an address is no name
    assert guarded.get(f"/models.json{query}", host="example.com").status == 403
    assert status_of(guarded, f"/stream{query}", origin="http://example.com") == 403


@pytest.mark.parametrize(
    "path",
    [
        "/secret.txt",
        "/../secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e/secret.txt",
        "/..%5csecret.txt",
        "/static/index.html",
        "/__init__.py",
        "/../__init__.py",
        "/..%2f__init__.py",
        "//etc/passwd",
        "/%2fetc%2fpasswd",
        "/models",
        "/models/",
        "/models/plain.safetensors",
        "/models/..%2fplain.safetensors",
        "/models/../plain.safetensors",
        "/models/%2fetc%2fpasswd.safetensors",
        "/models/..%00.safetensors",
        "/runs/..",
        "/runs/../secret.txt",
        "/runs/%2e%2e/samples/step_1.wav",
        "/stream",
        "/" + "x" * 5_000,
    ],
)
def test_other_paths_are_not_served(client: Client, path: str) -> None:
    reply = client.get(path)
    assert reply.status == 404 and reply.body == b"there is nothing at this address\n"
