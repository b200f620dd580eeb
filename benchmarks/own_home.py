"""A home and an embedded Postgres of a benchmark's own, gone when it is over."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bts_assets.services.home import Home
from bts_assets.services.temporary_home import temporary_home
from bts_assets.settings import load_settings
from bts_assets.storage.embedded import server as embedded


@contextmanager
def own_home(**settings: Any) -> Iterator[Home]:
    """A new home with these settings."""
    with temporary_home(load_settings(**settings)) as home:
        yield home


@contextmanager
def stopped(home: Path) -> Iterator[None]:
    """The server of a home does not outlive what is done within."""
    try:
        yield
    finally:
        with suppress(embedded.EmbeddedPostgresError):
            embedded.stop(home)
