"""Which origin a night has: the one asked for, the clock's, or the end of an old recording once that has been read."""

from datetime import datetime
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from bts_assets.contracts.origin import Origin, OriginError, choose_origin
from bts_assets.contracts.text import counted
from bts_assets.services.home import Home
from bts_assets.services.ingest import look_for_fresh_files
from bts_assets.storage.observations import ObservedSpan, observed_span


def origin_at(home: Home, now: datetime, asked: datetime | None = None, words: str = "") -> Origin:
    """The origin of a night that runs `now`. words: how `asked` was written, for people.

    Raises:
        OriginError: if nothing was observed, or `asked` lies ahead of `now` or before everything that was observed.
    """
    with home.engine.connect() as connection:
        span = observed_span(connection, home.settings.grid)
    if asked and span and asked <= span.start:
        raise _before(span, words or str(asked))
    if span is None:
        raise _nothing(home)
    return choose_origin(home.settings.grid, now, asked, span.end, span.heard_until)


def _nothing(home: Home) -> OriginError:
    """What the largest file without a reading says of itself is most likely why there is none."""
    with home.engine.connect() as connection:
        failed = connection.execute(_FAILED).one()
    if not failed.every:
        return OriginError("nothing has been observed yet: no landing file has come")
    files = f"{counted(failed.files, 'landing file')} of {failed.every:,} gave no reading"
    why = f"; {failed.path}: {failed.reason}" if failed.path else ""
    return OriginError(f"nothing has been observed yet: {files}{why}; see bts.ingest_ledger")


_FAILED: Final = sa.text("""
    WITH newest AS (SELECT DISTINCT ON (path) * FROM bts.ingest_ledger ORDER BY path, ledger_seq DESC),
        failed AS (SELECT * FROM newest WHERE status <> 'copy' AND accepted = 0)
    SELECT (SELECT count(*) FROM newest) AS every, (SELECT count(*) FROM failed) AS files, said.path, said.reason
    FROM (SELECT) AS one LEFT JOIN LATERAL (
        SELECT path, reason FROM failed WHERE reason IS NOT NULL ORDER BY rows DESC, ledger_seq DESC LIMIT 1
    ) AS said ON true
""")


def refuse_before_data(home: Home, asked: datetime, words: str, landing: Path) -> None:
    """Tell of an origin before everything that was observed while there is no run yet. `landing`: the folder that the
    run takes in; where a file there was not read, it may hold older readings, and the run itself finds out.

    Raises:
        OriginError: if `asked`, which people wrote as `words`, lies before the first observation.
    """
    with home.engine.connect() as connection:
        span = observed_span(connection, home.settings.grid)
    if span is None or asked > span.start:
        return
    if not landing.is_dir() or not look_for_fresh_files(home, landing)[1]:
        raise _before(span, words)


def _before(span: ObservedSpan, words: str) -> OriginError:
    return OriginError(f"{words} lies before the first observation, which is of {span.start}")


def origin_by_the_clock(home: Home, now: datetime) -> Origin | None:
    """The newest grid instant where the network still reports. None: files that are not read yet may tell another."""
    grid = home.settings.grid
    with home.engine.connect() as connection:
        span = observed_span(connection, grid)
    if span is None or max(span.end, span.heard_until) < grid.floor(now) - grid.horizon:
        return None
    return choose_origin(grid, now, None, span.end, span.heard_until)
