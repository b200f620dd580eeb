"""Which origin a night has: the one asked for, the clock's, or the end of an old recording once that has been read."""

from datetime import datetime

from bts_assets.contracts.origin import Origin, OriginError, choose_origin
from bts_assets.services.home import Home
from bts_assets.storage.observations import observed_span


def origin_at(home: Home, now: datetime, asked: datetime | None = None, words: str = "") -> Origin:
    """The origin of a night that runs `now`. words: how `asked` was written, for people.

    Raises:
        OriginError: if nothing was observed, or `asked` lies ahead of `now` or before everything that was observed.
    """
    with home.engine.connect() as connection:
        span = observed_span(connection, home.settings.grid)
    if asked and span and asked <= span.start:
        raise OriginError(f"{words or asked} lies before the first observation, which is of {span.start}")
    ends = (span.end, span.heard_until) if span else (None, None)
    return choose_origin(home.settings.grid, now, asked, *ends)


def origin_by_the_clock(home: Home, now: datetime) -> Origin | None:
    """The newest grid instant where the network still reports. None: files that are not read yet may tell another."""
    grid = home.settings.grid
    with home.engine.connect() as connection:
        span = observed_span(connection, grid)
    if span is None or max(span.end, span.heard_until) < grid.floor(now) - grid.horizon:
        return None
    return choose_origin(grid, now, None, span.end, span.heard_until)
