"""What every worker of the engine sees of a home, on whatever machine: one snapshot of its database, or what is
committed for good.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
        snapshot = connection.execute(sa.text("SELECT pg_export_snapshot()")).scalar_one()
        yield spread(partial(_with_snapshot, _Shared.of(home), snapshot, read, work), parts)
        return
    found = (read(home, connection, part) for part in parts)
    if not several:
        yield (work(home, one) for one in found)
        return
    with in_threads(partial(work, home), found) as done:
        yield done


def in_own_sessions(spread: Spread, home: Home, work: Work[P, R], parts: Sequence[P]) -> Iterator[R]:
    """`work` of each part, in order, by `spread`; one part alone is done here, and by `map` one after the other.

    A worker sees what is committed when it looks: `work` must read nothing that changes meanwhile.

    Raises:
        EngineError: as `Spread` says.
    """
    if len(parts) > 1 and spread is not map:
        return spread(partial(_with_home, _Shared.of(home), work), parts)
    return (work(home, part) for part in parts)


@dataclass(frozen=True)
class _Shared:
    """What a worker needs to see the same."""

    settings: Settings
    catalogue: Catalogue
    urls: Mapping[str, str]

    @classmethod
    def of(cls, home: Home) -> "_Shared":
        return cls(home.settings, home.catalogue, dict(home.urls))

    @contextmanager
    def opened(self) -> Iterator[Home]:
        url = self.urls[WRITER]
        engine = connect(url, self.settings.lock_timeout, read_only=True)
        try:
            yield Home(self.settings, url, engine, self.catalogue, self.urls)
        finally:
            engine.dispose()


def _with_snapshot(shared: _Shared, snapshot: str, read: Read[P, Q], work: Work[Q, R], part: P) -> R:
    with (
        shared.opened() as home,
        home.engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection,
    ):
        connection.exec_driver_sql(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
        return work(home, read(home, connection, part))


def _with_home(shared: _Shared, work: Work[P, R], part: P) -> R:
    with shared.opened() as home:
        return work(home, part)
