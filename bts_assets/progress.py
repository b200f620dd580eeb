"""How far a long stage has come, told to whoever listens: the terminal does, a Dagster daemon does not."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Listener = Callable[[str, int, int], None]

_listener: ContextVar[Listener | None] = ContextVar("bts_progress", default=None)


def report(stage: str, done: int, total: int) -> None:
    """`done` of `total` parts of `stage` are behind us."""
    listener = _listener.get()
    if listener is not None:
        listener(stage, done, total)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
