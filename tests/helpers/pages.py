"""Pages asked for over HTTP, as a client without a browser does; no tests are here."""

import csv
import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPMessage
from typing import Final
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

import sqlalchemy as sa
import uvicorn

from bts_assets.explorer.app import make_app
from bts_assets.explorer.draw import Elsewhere
from bts_assets.explorer.server import listening_on

#: Ends any element and any attribute, runs if it is taken for markup, colours a terminal, turns a line around, and is a
#: formula to a spreadsheet and broken mathematics to who draws pictures.
HOSTILE: Final = "=1+1 $x^{$</script></textarea>'\"><img src=x onerror=document.title='owned'>\x1b[31m\u202e{{ 7 * 7 }}"


@dataclass(frozen=True)
class Answer:
    status: int
    text: str
    headers: HTTPMessage
    body: bytes

    def rows(self) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(self.text)))


class _Stay(HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


@dataclass(frozen=True)
class Site:
    address: str

    def get(self, path: str, data: bytes | None = None, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = Request(self.address + path, data, named)  # noqa: S310 - our own server on loopback
        try:
            with build_opener(_Stay).open(request, timeout=60) as answer:
                return self._read(answer.status, answer.headers, answer.read())
        except HTTPError as error:
            return self._read(error.code, error.headers, error.read())

    @staticmethod
    def _read(status: int, headers: HTTPMessage, body: bytes) -> Answer:
        return Answer(status, body.decode("utf-8", "replace"), headers, body)


@contextmanager
def served(engine: sa.Engine, token: str | None = None) -> Iterator[str]:
    """The explorer over a database, in a thread; its address."""
    listening = listening_on("127.0.0.1", 0)
    app = make_app(engine, token=token, elsewhere=Elsewhere("http://127.0.0.1:3000", "http://127.0.0.1:5000"))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()
