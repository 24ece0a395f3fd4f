"""What stands in front of every request: which paths there are, who may ask, and how much they may send.

Gradio's own routes for files, uploads, proxies and calls are not among the paths: the page needs none of
them. Each refusal is a plain answer without a word of what lies on the disk.
"""

import asyncio
import hashlib
import hmac
import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

READ = re.compile(
    r"/|/favicon\.ico|/theme\.css|/login"
    r"|/static/(?:js/)?[\w.-]+"  # Gradio's own and ours
    r"|/assets/(?:[\w-]+/)?[\w.-]+"
    r"|/page/[\w.-]+"
    r"|/api/[\w./-]+"
    r"|/files/[^/]+(?:/[^/]+){1,2}"
)
"""Paths that may be read."""
WRITTEN = re.compile(r"/login|/api/[\w./-]+")
"""Paths that may be posted to."""
UPLOAD = "/api/upload/"
SMALL_BODY = 1 << 20
"""Bytes of a request that brings no file."""
HERE = re.compile(r"(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d+)?", re.IGNORECASE)
"""Names by which a browser on this machine asks: a stranger's page that was pointed here has another."""
COOKIE = "posedance"
TICKET = "ticket"
"""By this name the token stands in the address: what is called a token there, the log hides."""
WRONG_S = 1.0
"""Seconds that a wrong password waits for its answer."""
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; connect-src 'self'; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
"""What a browser may load for the page: nothing from elsewhere. Gradio's templates are compiled by `eval`."""
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
LOGIN = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>posedance</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 22rem; margin: 15vh auto; padding: 0 1rem;
  color-scheme: light dark; } input, button { font: inherit; width: 100%; box-sizing: border-box;
  padding: .5rem; margin: .3rem 0; }</style></head><body><h1>posedance</h1>
<form method="post" action="login"><label for="password">Password or token</label>
<input id="password" name="password" type="password" autofocus required autocomplete="current-password">
<button>Open</button></form><p role="alert">@WHY@</p></body></html>"""


@dataclass(slots=True)
class Door:
    """Who may ask: those who know `secret` where there is one, else browsers of this machine alone."""

    secret: str | None
    _salt: bytes = field(default_factory=lambda: secrets.token_bytes(32))

    def ticket(self) -> str:
        """What a browser keeps in a cookie; another one each time that the server starts."""
        return hmac.new(self._salt, (self.secret or "").encode(), hashlib.sha256).hexdigest()

    def knows(self, given: str) -> bool:
        """Whether it is the password or token."""
        return self.secret is not None and hmac.compare_digest(given.encode(), self.secret.encode())

    def lets_in(self, headers: dict[str, str]) -> bool:
        """Whether a request comes from somebody who was let in."""
        if self.secret is None:
            return HERE.fullmatch(headers.get("host", "")) is not None
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and hmac.compare_digest(cookie.value.encode(), self.ticket().encode())


class Guard:
    """An ASGI application in front of another."""

    def __init__(self, app: App, door: Door, largest: int) -> None:
        self._app, self._door, self._largest = app, door, largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = {name.decode("latin-1").lower(): text.decode("latin-1") for name, text in scope["headers"]}
        path, method = scope["path"], scope["method"]
        if not known_path(path, method):
            await answer(send, 404, "there is nothing here")
        elif foreign(headers, method):
            await answer(send, 403, "this request comes from another page")
        elif self._door.secret is not None and path == "/login":
            await self._login(scope, receive, send)
        elif not self._door.lets_in(headers):
            await self._refuse(scope, send)
        else:
            largest = self._largest if path.startswith(UPLOAD) else SMALL_BODY
            told = headers.get("content-length", "0")
            if not told.isdecimal() or int(told) > largest:
                await answer(send, 413, f"too large: at most {largest / 2**20:g} MiB are taken")
                return
            await self._app(scope, bounded(receive, largest), with_headers(send))

    async def _refuse(self, scope: Scope, send: Send) -> None:
        """Send a browser without a ticket to the login page; a token in the address opens at once."""
        if self._door.secret is None:
            await answer(send, 403, "this page answers to 127.0.0.1 and localhost alone")
            return
        given = parse_qs(scope["query_string"].decode("latin-1")).get(TICKET, [""])[0]
        if scope["path"] == "/" and given and self._door.knows(given):
            await self._open(send)
        elif scope["path"] == "/":
            await redirect(send, "login")
        else:
            await answer(send, 401, "give the password first")

    async def _login(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await answer(send, 200, LOGIN.replace("@WHY@", ""), "text/html; charset=utf-8")
            return
        body = b""
        while len(body) <= SMALL_BODY:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        given = parse_qs(body.decode("utf-8", "replace")).get("password", [""])[0]
        if self._door.knows(given):
            await self._open(send)
            return
        await asyncio.sleep(WRONG_S)
        page = LOGIN.replace("@WHY@", "That is not it.")
        await answer(send, 401, page, "text/html; charset=utf-8")

    async def _open(self, send: Send) -> None:
        cookie = f"{COOKIE}={self._door.ticket()}; HttpOnly; SameSite=Strict; Path=/"
        await redirect(send, "./", [(b"set-cookie", cookie.encode())])


def known_path(path: str, method: str) -> bool:
    """Whether there is such a path. It is decoded once: what then still holds a % was encoded twice."""
    if any(sign in path for sign in "%\\\0\r\n") or not {"", ".", ".."}.isdisjoint(path.split("/")[1:-1]):
        return False
    if path.split("/")[-1] in (".", "..") or path.split("/")[-1].startswith("."):
        return False
    if method in ("GET", "HEAD"):
        return READ.fullmatch(path) is not None
    return method in ("POST", "PUT") and WRITTEN.fullmatch(path) is not None


def foreign(headers: dict[str, str], method: str) -> bool:
    """Whether a browser sends this for a page of somebody else."""
    if method in ("GET", "HEAD"):
        return False
    site = headers.get("sec-fetch-site", "same-origin")
    origin = headers.get("origin")
    host = headers.get("host", "")
    return site not in ("same-origin", "none") or (origin is not None and origin.partition("://")[2] != host)


def bounded(receive: Receive, largest: int) -> Receive:
    """Take no more bytes of a request than that, whatever its header told: the rest counts as cut off."""
    taken = 0

    async def take() -> MutableMapping[str, Any]:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        return message if taken <= largest else {"type": "http.disconnect"}

    return take


def with_headers(send: Send) -> Send:
    """Add HEADERS to an answer."""

    async def more(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *HEADERS]
        await send(message)

    return more


async def answer(send: Send, status: int, text: str, kind: str = "text/plain; charset=utf-8") -> None:
    """A whole answer of a few bytes."""
    headers = [(b"content-type", kind.encode()), *HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})


async def redirect(send: Send, where: str, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    """Send a browser elsewhere on this page."""
    all_headers = [(b"location", where.encode()), *(headers or []), *HEADERS]
    await send({"type": "http.response.start", "status": 303, "headers": all_headers})
    await send({"type": "http.response.body", "body": b""})
