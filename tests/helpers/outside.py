"""Watches for connections and look-ups of names beyond this machine, made by Python code of this process; no tests."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

_watching: list[list[str]] = []


def _hook(event: str, given: tuple[Any, ...]) -> None:
    if not _watching or event not in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        return
    address = given[1] if event == "socket.connect" else given[0]
    host = address[0] if isinstance(address, tuple) else address
    if host is not None and not _is_here(host):
        for seen in _watching:
            seen.append(f"{event} {host!r}")


def _is_here(host: Any) -> bool:
    if isinstance(host, (bytes, str)) and host in ("", b"", "localhost", b"localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return isinstance(host, str) and host.startswith("/")  # a Unix socket


sys.addaudithook(_hook)


@contextmanager
def watched() -> Iterator[list[str]]:
    """What was reached for beyond loopback, from here on until the end."""
    seen: list[str] = []
    _watching.append(seen)
    try:
        yield seen
    finally:
        _watching.remove(seen)
