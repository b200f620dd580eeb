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
from bts_assets.services.work_part import in_threads
from bts_assets.settings import Settings
from bts_assets.storage.embedded.roles import WRITER
from bts_assets.storage.postgres import connect

P = TypeVar("P")
Q = TypeVar("Q")
R = TypeVar("R")

#: How a part is read, from a session that sees the snapshot; and what is done with what was read, without one.
Read = Callable[[Home, sa.Connection, P], Q]
Work = Callable[[Home, Q], R]


@contextmanager
def in_parts(
    spread: Spread,
    home: Home,
    connection: sa.Connection,
    read: Read[P, Q],
    work: Work[Q, R],
    parts: Iterable[P],
    *,
    several: bool,
) -> Iterator[Iterator[R]]:
    """`work` of what is `read` of each part, in order, wherever the engine does it; all see what `connection` sees.

    Its transaction must be REPEATABLE READ, and last until the last part is done. several: there is more than one part;
    one alone is done here. In this process parts are read one by one, and two are worked on at once.

    Raises:
        EngineError: as `Spread` says.
    """
    if several and not is_here(home.settings):
        yield spread(partial(_elsewhere, _Shared.of(home, connection), read, work), parts)
        return
    found = (read(home, connection, part) for part in parts)
    if not several:
        yield (work(home, one) for one in found)
        return
    with in_threads(partial(work, home), found) as done:
        yield done


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


def _elsewhere(shared: _Shared, read: Read[P, Q], work: Work[Q, R], part: P) -> R:
    with shared.opened() as (home, connection):
        return work(home, read(home, connection, part))
