"""Waiting for what another process does in its own time: a server learns a moment later that a client has gone."""

import time
from collections.abc import Callable


def eventually(condition: Callable[[], bool], seconds: float = 15) -> bool:
    """Whether it is met before the seconds are over."""
    deadline = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return met
