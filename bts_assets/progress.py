"""How far a long stage has come, told to whoever listens: the terminal does, a Dagster daemon does not."""

from collections.abc import Iterator
from contextlib import contextmanager

from bts_assets.contracts.progress import OnProgress

Listener = OnProgress

# For the whole process, not a thread or context: Dagster runs an asset's function in a context of its own.
_listeners: list[Listener] = []


def report(stage: str, done: int, total: int) -> None:
    """`done` of `total` parts of `stage` are behind us."""
    for listener in _listeners:
        listener(stage, done, total)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
