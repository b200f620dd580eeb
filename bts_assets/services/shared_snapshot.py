"""One snapshot of a home's database, looked into by every worker of the engine, on whatever machine."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import sqlalchemy as sa

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.contracts.work_sharing import Spread
from bts_assets.services.engine import is_here
from bts_assets.services.home import Home
from bts_assets.settings import Settings
from bts_assets.storage.embedded.roles import WRITER
from bts_assets.storage.postgres import connect

P = TypeVar("P")
R = TypeVar("R")

#: What is done with a part: from the home and a session that sees the snapshot.
Work = Callable[[Home, sa.Connection, P], R]


def in_parts(
    spread: Spread, home: Home, connection: sa.Connection, work: Work[P, R], parts: Iterable[P], *, several: bool
) -> Iterator[R]:
    """`work` of each part, in order, wherever the engine does it; all see what `connection` sees.

    Its transaction must be REPEATABLE READ, and last until the last part is done. several: there is more than one part;
    one alone is done here.

    Raises:
        EngineError: as `Spread` says.
    """
    if not several or is_here(home.settings):
        return (work(home, connection, part) for part in parts)
    return spread(partial(_elsewhere, _Shared.of(home, connection), work), parts)


@dataclass(frozen=True)
class _Shared:
    """What a worker needs to see the same."""

    settings: Settings
    catalogue: Catalogue
    urls: Mapping[str, str]
    snapshot: str

    @classmethod
    def of(cls, home: Home, connection: sa.Connection) -> "_Shared":
        snapshot = connection.execute(sa.text("SELECT pg_export_snapshot()")).scalar_one()
        return cls(home.settings, home.catalogue, dict(home.urls), snapshot)

    @contextmanager
    def opened(self) -> Iterator[tuple[Home, sa.Connection]]:
        url = self.urls[WRITER]
        engine = connect(url, self.settings.lock_timeout, read_only=True)
        try:
            with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
                connection.exec_driver_sql(f"SET TRANSACTION SNAPSHOT '{self.snapshot}'")
                yield Home(self.settings, url, engine, self.catalogue, self.urls), connection
        finally:
            engine.dispose()


def _elsewhere(shared: _Shared, work: Work[P, R], part: P) -> R:
    with shared.opened() as (home, connection):
        return work(home, connection, part)
