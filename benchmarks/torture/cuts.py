"""Connections cut around a COMMIT by a proxy: before it reaches the server, or before its answer comes back.

The client cannot tell the two apart. The rerun must: what rests is what an undisturbed twin has.
"""

import math
import os
import select
import socket
from random import Random
from typing import Final
from urllib.parse import urlsplit

from benchmarks.torture.campaign import FaultTrial
from benchmarks.torture.children import Child, start
from benchmarks.torture.rests import difference, latest, what_rests
from benchmarks.torture.scenes import POINTS_OF, scene
from benchmarks.torture.stage import Place, Stage

_COMMIT: Final = b"COMMIT\0"
_SCENES: Final = ("night", "night", "night", "rollback")


def trial(stage: Stage, random: Random, number: int) -> FaultTrial:
    """One cut, at the n-th COMMIT of the work, then the work again undisturbed."""
    name = _SCENES[number % len(_SCENES)]
    played, made = scene(stage, name), FaultTrial()
    commits = stage.once(f"commits of {name}", lambda: _commits(stage, name))
    nth, side = random.randint(1, commits), random.choice(("before it", "after it"))
    with stage.place(played.before) as place:
        before = latest(place)
        proxy, proxied = _proxied(place, nth, cut_after=side == "after it")
        ended = proxied.run(played.work)
        if _seen(proxy) >= nth:
            made.land(f"{name}, {side}")
        made.expect(ended.status == "failed", f"commit {nth} of {name} cut {side}: the work {ended.status}")
        told = ended.why.startswith(("bts_assets.", "sqlalchemy.exc.", "psycopg2."))
        made.expect(ended.status != "failed" or told, f"commit {nth} of {name} cut {side}: {ended.why}")
        made.expect(latest(place) in (before, played.after["latest"]), f"commit {nth}: readers saw a part of a batch")
        again = place.run(played.work)
        made.expect(again.status == "done", f"commit {nth} of {name} cut {side}, rerun: {again.why}")
        if differs := difference(what_rests(place), played.after):
            made.fail(f"commit {nth} of {name} cut {side}: {differs}")
    return made


def _commits(stage: Stage, name: str) -> int:
    """How many COMMITs the work sends, undisturbed."""
    played = scene(stage, name)
    with stage.place(played.before) as place:
        proxy, proxied = _proxied(place, math.inf, cut_after=True)
        ended = proxied.run(played.work)
        if ended.status != "done":
            raise RuntimeError(f"{name} through the proxy {ended.why}; {POINTS_OF[name][:1]}")
        return _seen(proxy)


def _proxied(place: Place, nth: float, *, cut_after: bool) -> tuple[Child, Place]:
    """A proxy before the place's server that cuts the connection of the n-th COMMIT, and the place through it."""
    server = urlsplit(place.url)
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    proxy = start(lambda: _Proxy(listening, (server.hostname or "", server.port or 0), nth, cut_after).run(), place.log)
    listening.close()
    netloc = server.netloc.replace(f":{server.port}", f":{port}")
    return proxy, Place(place.folder, server._replace(netloc=netloc).geturl(), place.settings, place.log)


def _seen(proxy: Child) -> int:
    """End the proxy; how many COMMITs it saw."""
    os.kill(proxy.pid, 15)
    return int(proxy.end().value)


class _Proxy:
    """Passes bytes on between clients and the server, in one thread."""

    def __init__(self, listening: socket.socket, server: tuple[str, int], nth: float, cut_after: bool) -> None:
        self._listening, self._server, self._nth, self._cut_after = listening, server, nth, cut_after
        self._other: dict[socket.socket, socket.socket] = {}
        self._clients: set[socket.socket] = set()
        self._seen, self._ended = 0, False

    def run(self) -> int:
        import signal

        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "_ended", True))
        while not self._ended:
            for ready in select.select([self._listening, *self._other], [], [], 0.05)[0]:
                if ready is self._listening:
                    self._accept()
                elif ready in self._other:
                    self._pass_on(ready)
        return self._seen

    def _accept(self) -> None:
        client, _ = self._listening.accept()
        server = socket.create_connection(self._server)
        self._other |= {client: server, server: client}
        self._clients.add(client)

    def _pass_on(self, source: socket.socket) -> None:
        try:
            data = source.recv(1 << 16)
        except ConnectionError:
            data = b""
        if not data:
            return self._cut(source)
        target = self._other[source]
        commits = data.count(_COMMIT) if source in self._clients else 0
        self._seen += commits
        due = commits and self._seen - commits < self._nth <= self._seen
        if due and not self._cut_after:
            return self._cut(source)
        try:
            target.sendall(data)
        except ConnectionError:
            return self._cut(source)
        if due:
            target.recv(1 << 16)  # the server has answered, and the answer is lost
            self._cut(source)
        return None

    def _cut(self, one: socket.socket) -> None:
        for end in (one, self._other.pop(one)):
            self._other.pop(end, None)
            self._clients.discard(end)
            end.close()
