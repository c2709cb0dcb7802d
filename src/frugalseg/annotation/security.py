"""Who may use the server: the page it serves itself, on this machine or with the token; and headers that bind the page.

Any web page that the user visits may send requests to 127.0.0.1. So each request must name this server as its host
(against DNS rebinding), must not come from another origin, and one that changes something needs a header that other
origins cannot send.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

COOKIE = "frugalseg_token"
MARK = "x-frugalseg"
MOST_BODY = 8 << 20
"""Largest body of a request in bytes: a slice of 2896×2896."""

TOO_LARGE = f"the body is larger than {MOST_BODY >> 20} MB"

SAFE_METHODS = {"GET", "HEAD"}

POLICY = {
    "default-src": "'self'",
    "img-src": "'self' data:",  # NiiVue has the pictures of its font and of its materials as data: addresses
    "worker-src": "'none'",
    "object-src": "'none'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
"""What a page from this server may load and do: nothing from elsewhere, no inline scripts or styles, no eval."""


def format_policy(policy: Mapping[str, str]) -> str:
    """A Content-Security-Policy."""
    return "; ".join(f"{directive} {sources}" for directive, sources in policy.items())


HEADERS = {
    "Content-Security-Policy": format_policy(POLICY),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""Headers of every response: nothing is loaded from elsewhere, and no other page may embed or read this one."""


@dataclass(frozen=True)
class AccessRules:
    """Which requests are allowed.

    Attributes:
        token: secret that a request must know; None on the loopback address, where only this machine's users connect.
        hosts: further names that requests may use for this server; None where any is allowed, with a token.
        read_only: whether nothing may be changed.
    """

    token: str | None = None
    hosts: frozenset[str] | None = field(default_factory=lambda: frozenset({"localhost", "127.0.0.1", "::1"}))

    read_only: bool = False

    def refusal(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, str, str] | None:
        """Status, message and hint for a request that is refused; None for one that is allowed, but for its token."""
        host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
        if self.hosts is not None and host not in self.hosts:
            return 421, "this server does not have that name", "open the address that the command printed"
        origin = headers.get("origin")
        if origin is not None and not self._is_own(origin, headers.get("host", "")):
            return 403, "requests from other pages are refused", "open the address that the command printed"
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return 403, "requests from other pages are refused", "open the address that the command printed"
        if method not in SAFE_METHODS and headers.get(MARK) != "1":
            return 403, "a request that changes something needs the header X-Frugalseg: 1", "use the page"
        if self.read_only and method not in SAFE_METHODS and not path.endswith("/focus"):
            return 403, "this folder was opened to look at only", "start the server without --read-only"
        if int(headers.get("content-length") or 0) > MOST_BODY:
            return 413, TOO_LARGE, "send one slice at a time"
        return None

    def knows_token(self, cookie: str) -> bool:
        """Whether a Cookie header holds the token, or none is needed."""
        if self.token is None:
            return True
        try:
            found = SimpleCookie(cookie).get(COOKIE)
        except CookieError:
            return False
        return found is not None and hmac.compare_digest(found.value.encode(), self.token.encode())

    def is_token(self, given: str) -> bool:
        """Whether a text is the token."""
        return self.token is not None and hmac.compare_digest(given.encode(), self.token.encode())

    @staticmethod
    def _is_own(origin: str, host: str) -> bool:
        parts = urlsplit(origin)
        return parts.scheme in ("http", "https") and parts.netloc == host


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """ASGI middleware that applies `AccessRules`, bounds bodies and adds `HEADERS`."""

    def __init__(self, app: Any, rules: AccessRules) -> None:
        self.app, self.rules = app, rules

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            refused = self.rules.refusal(scope["method"], scope["path"], headers)
        except ValueError:
            refused = 400, "the request has a damaged header", "use the page"
        if refused is not None:
            await _send_error(send, *refused)
        elif self.rules.knows_token(headers.get("cookie", "")):
            await self.app(scope, _bound(receive), _add_headers(send))
        elif self._brings_token(scope):
            await _send(send, 303, b"", {"Location": "/", "Set-Cookie": self._cookie()})
        else:
            await _send_error(send, 401, "the token is missing", "open the address with ?token=… that was printed")

    def _brings_token(self, scope: Any) -> bool:
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        return bool(scope["path"] == "/" and self.rules.is_token(given))

    def _cookie(self) -> str:
        return f"{COOKIE}={self.rules.token}; Path=/; HttpOnly; SameSite=Strict"


def _bound(receive: Any) -> Any:
    """`receive` that raises an error 413 once more than `MOST_BODY` bytes have come, also without a stated length."""
    total = 0

    async def bounded() -> Any:
        nonlocal total
        message = await receive()
        if message["type"] == "http.request":
            total += len(message.get("body", b""))
            if total > MOST_BODY:
                from starlette.exceptions import HTTPException  # the command is imported without it

                raise HTTPException(413, TOO_LARGE)
        return message

    return bounded


def _add_headers(send: Any) -> Any:
    """`send` that adds `HEADERS` to the response; what it says about caching stays."""

    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            names = {name.lower() for name, _ in message["headers"]}
            extra = {**HEADERS, "Cache-Control": "no-store"}
            added = [(k.lower().encode(), v.encode()) for k, v in extra.items() if k.lower().encode() not in names]
            message = {**message, "headers": [*message["headers"], *added]}
        await send(message)

    return sending


async def _send_error(send: Any, status: int, message: str, hint: str) -> None:
    body = json.dumps({"message": message, "hint": hint}).encode()
    await _send(send, status, body, {"Content-Type": "application/json"})


async def _send(send: Any, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    full = {**HEADERS, **headers, "Content-Length": str(len(body)), "Cache-Control": "no-store"}
    encoded = [(name.lower().encode(), value.encode()) for name, value in full.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
