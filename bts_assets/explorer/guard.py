"""Who may ask and what a browser may do with an answer: names of the host, the token, headers of every response."""

import hmac
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE: Final = "bts_token"
ENTER: Final = "/enter"
#: Names by which a browser on this machine asks for us. A name of somebody's that resolves to loopback is none of them.
LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
#: Fewer characters than this can be guessed.
SHORTEST_TOKEN: Final = 16
#: A form with one field is longer than this for nobody.
_LONGEST_FORM: Final = 4096

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Guard:
    """An ASGI app around another one. Without a token it answers to names of loopback alone; `entrance` draws the page
    that asks for it, given whether a wrong one was tried."""

    def __init__(self, app: ASGIApp, token: str | None, entrance: Callable[[bool], str]) -> None:
        self._app, self._token, self._entrance = app, token, entrance

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await (self._refusal(scope) or self._app)(scope, receive, answer)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        headers = Headers(scope=scope)
        if self._token is None:
            # A page of somebody else's may not reach us through a name of its own (DNS rebinding).
            if host_of(headers.get("host", "")) not in LOOPBACK:
                return PlainTextResponse("this page answers to 127.0.0.1 and localhost alone\n", status_code=400)
            return None
        if scope["path"] == ENTER and scope["method"] == "POST":
            return self._enter
        if scope["path"].startswith("/static/") or self._may_pass(headers):
            return None
        return HTMLResponse(self._entrance(False), status_code=401, headers={"WWW-Authenticate": "Bearer"})

    def _may_pass(self, headers: Headers) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._is_token(given.strip()):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and self._is_token(cookie.value)

    async def _enter(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The form of the entrance: with the token a browser gets it as a cookie that no script sees."""
        body = await _body(receive)
        given = parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0]
        if not self._is_token(given):
            await HTMLResponse(self._entrance(True), status_code=401)(scope, receive, send)
            return
        response = RedirectResponse("/", status_code=303)
        response.set_cookie(COOKIE, given, httponly=True, samesite="strict", max_age=30 * 86400,
                            secure=scope.get("scheme") == "https")  # fmt: skip
        await response(scope, receive, send)

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), (self._token or "").encode())


async def _body(receive: Receive) -> bytes:
    body = b""
    while len(body) <= _LONGEST_FORM:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    return body[:_LONGEST_FORM]


def host_of(header: str) -> str:
    """The name in a Host header, without its port: `localhost:8080`, `[::1]:8080`."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0].lower()
