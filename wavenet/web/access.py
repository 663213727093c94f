"""Who may use the studio: hosts, origins, and the token that is needed where other machines can reach it.

A page of another site that is open in the same browser can send requests to this machine, too. It is kept out by the
Host header (a foreign name that resolves to this machine, DNS rebinding) and by the Origin header. Other machines are
kept out because the studio listens on the loopback interface, or else by a token.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

FORBIDDEN, UNAUTHORIZED = 403, 401  # HTTP status
TOKEN_BYTES = 24
SAFE_METHODS = ("GET", "HEAD")  # they change nothing; a foreign page cannot read the answer
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' blob:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",  # the first address contains the token
    "X-Content-Type-Options": "nosniff",
}


class Refusal(NamedTuple):
    """Why a request is refused, and the HTTP status that says so."""

    status: int
    reason: str


@dataclass(frozen=True)
class Access:
    """The rules of a server. host: that it listens on. token: that every request must show; None: none."""

    host: str
    port: int
    token: str | None = None

    @classmethod
    def of(cls, host: str, port: int) -> Access:
        """The rules for a host and port: with a new token, unless the host is the loopback interface."""
        return cls(host, port, None if is_loopback(host) else secrets.token_urlsafe(TOKEN_BYTES))

    @property
    def cookie(self) -> str:
        """The cookie's name. Cookies do not differ by port, so that its name does."""
        return f"wavenet-studio-{self.port}"

    @property
    def address(self) -> str:
        """The page's address for a browser on this machine, with the token."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        query = f"?token={self.token}" if self.token else ""
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/{query}"

    def refusal(self, method: str, query: str, headers: Iterable[tuple[bytes, bytes]]) -> Refusal | None:
        """Why a request is refused; None: it is not. method: of HTTP, or "WEBSOCKET"."""
        given = [(name.lower().decode("latin-1"), value.decode("latin-1")) for name, value in headers]
        hosts = [value for name, value in given if name == "host"]
        if len(hosts) != 1 or not self._is_own(hosts[0]):
            return Refusal(FORBIDDEN, "this host name is not that of the studio; open the address that it printed")
        origins = [value for name, value in given if name == "origin"]
        if method not in SAFE_METHODS and any(_host_of(origin) != hosts[0].lower() for origin in origins):
            return Refusal(FORBIDDEN, "requests of other sites are refused")
        if self.token is None or self.shows_token(query) or any(map(self._is_token, self._cookies(given))):
            return None
        return Refusal(UNAUTHORIZED, "the token is missing or wrong; open the address that wavenet studio printed")

    def shows_token(self, query: str) -> bool:
        """Whether a query string contains the token."""
        return any(map(self._is_token, parse_qs(query).get("token", [])))

    def _is_token(self, text: str) -> bool:
        return self.token is not None and hmac.compare_digest(text.encode(), self.token.encode())

    def _cookies(self, headers: list[tuple[str, str]]) -> list[str]:
        """Values of the studio's cookie. Cookies of other programs on this machine may be in any form."""
        pairs = [pair.partition("=") for name, value in headers if name == "cookie" for pair in value.split(";")]
        return [value.strip() for name, _, value in pairs if name.strip() == self.cookie]

    def _is_own(self, host: str) -> bool:
        """Whether a Host header names this server. Addresses are no names, which others could let point here."""
        name = (_host_of(f"http://{host}", port=False) or "").strip("[]")
        if is_loopback(self.host):
            return is_loopback(name)
        own = {self.host.lower(), "localhost", socket.gethostname().lower(), f"{socket.gethostname().lower()}.local"}
        return name in own or _address(name) is not None


def _host_of(url: str, port: bool = True) -> str | None:
    """Host and port, or host, of a URL in lower case; None if it has none, as the origin "null"."""
    try:
        parts = urlsplit(url)
        return (parts.netloc if port else parts.hostname or "").lower() or None
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Whether a host name or address is that of this machine only."""
    address = _address(host)
    return host.lower() == "localhost" if address is None else address.is_loopback


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
