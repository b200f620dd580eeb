"""Real servers on loopback that receive alerts: HTTP and SMTP ones, and one that takes connections and says nothing."""

import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Receiver:
    """Where it listens, what it received, and the HTTP status that it answers with."""

    port: int
    received: list[Any] = field(default_factory=list)
    status: int = 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def mailto(self) -> str:
        return f"mailto://127.0.0.1:{self.port}/?from=bts@example.com&to=crew@example.com&mode=insecure"


@contextmanager
def http_receiver() -> Iterator[Receiver]:
    """Takes JSON by POST."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.received.append(json.loads(body))
            self.send_response(receiver.status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with _serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        receiver = Receiver(port)
        yield receiver


@contextmanager
def smtp_receiver() -> Iterator[Receiver]:
    """Takes mail without encryption or log-in; what it received are the texts of the mails."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self._say("220 test")
            while line := self.rfile.readline():
                command = line.decode().upper().split(maxsplit=1)[:1]
                if command == ["DATA"]:
                    self._say("354 go on")
                    receiver.received.append(self._mail())
                self._say("221 bye" if command == ["QUIT"] else "250 test")
                if command == ["QUIT"]:
                    return

        def _mail(self) -> str:
            lines = []
            while (line := self.rfile.readline()) not in (b".\r\n", b""):
                lines.append(line.decode())
            return "".join(lines)

        def _say(self, text: str) -> None:
            self.wfile.write(f"{text}\r\n".encode())

    with _serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)) as port:
        receiver = Receiver(port)
        yield receiver


@contextmanager
def hanging_receiver() -> Iterator[Receiver]:
    """Takes connections, and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(50)
        yield Receiver(listening.getsockname()[1])


@contextmanager
def _serving(server: socketserver.BaseServer) -> Iterator[int]:
    server.daemon_threads = True  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]  # type: ignore[misc]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
