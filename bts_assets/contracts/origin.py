"""Which instant separates what was known from what is forecast. The clock is an argument."""

from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Literal

from bts_assets.contracts.errors import UsageError
from bts_assets.contracts.grid import Grid, instant_of

BatchKind = Literal["live", "retrospective"]


class OriginError(UsageError):
    """No origin follows from what was given and observed."""


@dataclass(frozen=True)
class Origin:
    """`issued_at` is a grid instant, UTC; `why` says how it was chosen, for people."""

    issued_at: datetime
    kind: BatchKind
    why: str


def asked_origin(text: str, zone: tzinfo, now: datetime) -> datetime:
    """The instant that a user wrote after `--as-of`; one without an offset is of `zone`.

    Raises:
        OriginError: if it is not an ISO 8601 time, or lies ahead of `now`.
    """
    try:
        instant = instant_of(text, zone)
    except ValueError:
        raise OriginError(f"--as-of {text} is not a time; write for example 2026-11-20T02:00+00:00") from None
    _refuse_ahead(instant, now)
    return instant


def choose_origin(
    grid: Grid,
    now: datetime,
    as_of: datetime | None,
    observed_until: datetime | None,
    heard_until: datetime | None = None,
) -> Origin:
    """The origin that was asked for, else the newest grid instant, else the end of an old recording.

    Args:
        now: the instant of the run.
        as_of: the origin asked for; taken down to the grid.
        observed_until: end of what most series were observed for, None if nothing was observed.
        heard_until: end of what some are still observed for, a network with a large outage among them: while that is
            recent, it is no recording. By default the same.

    Raises:
        OriginError: if nothing was observed, or `as_of` lies ahead of `now`.
    """
    if observed_until is None:
        raise OriginError("nothing has been observed yet: no landing file gave a valid reading; see bts.ingest_ledger")
    if as_of is not None:
        _refuse_ahead(as_of, now)
        return at_grid(grid, as_of, now)
    newest = grid.floor(now)
    if max(observed_until, heard_until or observed_until) < newest - grid.horizon:
        return at_grid(grid, observed_until, now, "the end of the recording, which is older than a horizon")
    return at_grid(grid, newest, now, "the newest grid instant")


def _refuse_ahead(instant: datetime, now: datetime) -> None:
    if instant > now:
        raise OriginError(
            f"--as-of {instant.isoformat()} lies in the future; now is {now.isoformat(timespec='seconds')}"
        )


def at_grid(grid: Grid, instant: datetime, now: datetime, why: str = "as asked") -> Origin:
    """The origin at the grid instant before `instant`; retrospective where `now` is more than a horizon after it."""
    issued_at = grid.floor(instant)
    return Origin(issued_at, "retrospective" if now - issued_at > grid.horizon else "live", why)
