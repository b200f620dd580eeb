"""Which stations files that came late can have changed on days that were computed before. It computes none of them.

Whether ids name readings, and which reading gives way, is decided by station and day: of a station that no changed file
has readings of on that day, everything is what it was.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby
from typing import Final

import pandas as pd
import sqlalchemy as sa

from bts_assets.contracts.grid import DAY, EPOCH
from bts_assets.landing.reading_arrays import ReadingArrays
from bts_assets.services.home import Home
from bts_assets.services.memory import readings_at_once
from bts_assets.storage.observations import files_of
from bts_assets.storage.observed_stations import computed_before, readings_of_stations
from bts_assets.storage.readings import ReadingsMissing

_DAY: Final = DAY // timedelta(microseconds=1)

#: By station, how many readings there are of it, as far as that is known.
_Load = dict[int, int]


@dataclass(frozen=True)
class Due:
    """Neighbouring days to compute. readings: by station that is to be computed, how many it has; None: all are."""

    days: list[date]
    readings: Mapping[int, int] | None


def what_is_due(connection: sa.Connection, home: Home, days: Sequence[date], ledger_seq: int) -> list[Due]:
    """What must be computed of neighbouring days, so that they are what the ledger's files make of them as of an entry.

    Whole days: those that were never computed by this rule, and those of which more than half of the readings are of
    stations that may have changed.
    """
    loads = _loads(connection, home, days, ledger_seq)
    due = []
    for partly, run in groupby(days, key=lambda day: day in loads):
        together = list(run)
        readings: _Load = defaultdict(int)
        for day in together:
            for station, count in loads.get(day, {}).items():
                readings[station] += count
        due.append(Due(together, dict(readings) if partly else None))
    return due


def _loads(connection: sa.Connection, home: Home, days: Sequence[date], ledger_seq: int) -> dict[date, _Load]:
    """The readings of the stations that may have changed, of each day that need not be computed whole."""
    since = computed_before(connection, days, home.observing_rule)
    changed = _changed_files(connection, since, ledger_seq)
    try:
        seen = _stations_of(home, changed)
    except ReadingsMissing:
        return {}  # perhaps of a file that no longer counts: of the others whoever computes whole days says it
    loads = {}
    for day in since:
        new = seen.get(day, {})
        before = readings_of_stations(connection, day) if new else {}
        load = {station: before.get(station, 0) + count for station, count in new.items()}
        if 2 * sum(load.values()) <= sum(before.values()) + sum(new.values()):
            loads[day] = load
    return loads


@dataclass(frozen=True)
class _Changed:
    """A file whose readings count on some days otherwise than when these were computed last. counts: they count now."""

    days: set[date]
    rows: int
    counts: bool


def _changed_files(connection: sa.Connection, since: Mapping[date, int], ledger_seq: int) -> dict[str, _Changed]:
    """By digest. A file is the same if it counts under the same entry: a greater number lets its corrections win."""
    changed: dict[str, _Changed] = {}
    for entry in set(since.values()):
        days = [day for day in since if since[day] == entry]
        then, now = (
            {(file["digest"], file["entry"]): file for file in files_of(connection, days, seq)}
            for seq in (entry, ledger_seq)
        )
        for key in then.keys() ^ now.keys():
            digest, file = key[0], (then | now)[key]
            mine = set(days).intersection(file["days"])
            known = changed.get(digest, _Changed(set(), file["rows"], False))
            changed[digest] = _Changed(known.days | mine, known.rows, known.counts or key in now)
    return changed


def _stations_of(home: Home, changed: Mapping[str, _Changed]) -> dict[date, _Load]:
    """By day the stations that changed files have, and how many readings those that count have of them.

    Raises:
        ReadingsMissing: if the readings of one are gone or damaged.
    """
    seen: dict[date, _Load] = defaultdict(lambda: defaultdict(int))
    for digests in _together(changed, readings_at_once(home.settings)):
        for digest, readings in zip(digests, home.readings.each(digests), strict=True):
            file = changed[digest]
            for day, station, count in _counted(readings):
                if day in file.days:
                    seen[day][station] += count * file.counts
    return seen


def _together(changed: Mapping[str, _Changed], at_once: int) -> Iterator[list[str]]:
    """The files in portions of so many readings, where no single one has more."""
    portion: list[str] = []
    held = 0
    for digest, file in changed.items():
        if portion and held + file.rows > at_once:
            yield portion
            portion, held = [], 0
        portion.append(digest)
        held += file.rows
    if portion:
        yield portion


def _counted(readings: ReadingArrays) -> Iterator[tuple[date, int, int]]:
    """Day, station, and how many readings there are of both."""
    by = pd.DataFrame({"day": readings.time // _DAY, "station": readings.station_id}).value_counts()
    for (day, station), count in by.items():
        yield EPOCH.date() + timedelta(days=int(day)), int(station), int(count)
