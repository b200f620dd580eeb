"""Which stations files that came late can have changed on days that were computed before. It computes none of them.

Whether ids name readings, and which reading gives way, is decided by station and day: of a station that no changed file
has readings of on that day, everything is what it was.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby
from typing import Final

import numpy as np
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

#: By station, how many readings it has.
_Load = dict[int, int]


@dataclass(frozen=True)
class Due:
    """Neighbouring days of which the same stations are to be computed. readings: how many each has; None: all stations
    are.
    """

    days: list[date]
    readings: Mapping[int, int] | None


def what_is_due(connection: sa.Connection, home: Home, days: Sequence[date], ledger_seq: int) -> list[Due]:
    """What must be computed of neighbouring days, so that they are what the ledger's files make of them as of an entry.

    Whole days: those that were never computed by this rule, and those of which more than half of the readings are of
    stations that may have changed.
    """
    loads = _loads(connection, home, days, ledger_seq)
    due = []
    for stations, run in groupby(days, key=lambda day: loads[day].keys() if day in loads else None):
        together = list(run)
        few = None if stations is None else {n: sum(loads[day][n] for day in together) for n in stations}
        due.append(Due(together, few))
    return due


def _loads(connection: sa.Connection, home: Home, days: Sequence[date], ledger_seq: int) -> dict[date, _Load]:
    """The readings of the stations that may have changed, of each day that need not be computed whole."""
    since = computed_before(connection, days, home.observing_rule)
    try:
        added = _added(home, _changed_files(connection, since, ledger_seq))
    except ReadingsMissing:
        return {}  # perhaps of a file that no longer counts: of the others whoever computes whole days says it
    loads = {}
    for day in since:
        more = added.get(day, {})
        before = readings_of_stations(connection, day) if more else {}
        load = {station: before.get(station, 0) + count for station, count in more.items()}
        if 2 * sum(load.values()) <= sum(before.values()) + sum(more.values()):
            loads[day] = load
    return loads


@dataclass(frozen=True)
class _Changed:
    """A file that counts otherwise than when days were computed last. times: by such a day, how many times more its
    readings count now: 1, -1, or 0 where they count under another entry.
    """

    rows: int
    times: dict[date, int]


def _changed_files(connection: sa.Connection, since: Mapping[date, int], ledger_seq: int) -> dict[str, _Changed]:
    """By digest. Of two entries of one content the greater lets its corrections win: another one is a change."""
    changed: dict[str, _Changed] = {}
    for seq in set(since.values()):
        days = {day for day in since if since[day] == seq}
        then, now = (
            {(file["digest"], file["entry"]): file for file in files_of(connection, sorted(days), entry, seq)}
            for entry in (seq, ledger_seq)
        )
        for key in then.keys() ^ now.keys():
            file = now[key] if key in now else then[key]
            known = changed.setdefault(file["digest"], _Changed(file["rows"], {}))
            for day in days.intersection(file["days"]):
                known.times[day] = known.times.get(day, 0) + (1 if key in now else -1)
    return changed


def _added(home: Home, changed: Mapping[str, _Changed]) -> dict[date, _Load]:
    """By day the stations that changed files have, and how many readings more there are of each.

    Raises:
        ReadingsMissing: if the readings of one are gone or damaged.
    """
    added: dict[date, _Load] = defaultdict(lambda: defaultdict(int))
    for digests in _portions(changed, readings_at_once(home.settings)):
        for (number, since_epoch, station), count in _counted(home.readings.each(digests)).items():
            day, times = EPOCH.date() + timedelta(days=since_epoch), changed[digests[number]].times
            if day in times:
                added[day][station] += count * times[day]
    return added


def _portions(changed: Mapping[str, _Changed], at_once: int) -> Iterator[list[str]]:
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


def _counted(files: Iterable[ReadingArrays]) -> dict[tuple[int, int, int], int]:
    """How many readings there are of each file, by its number, day since 1970 and station."""
    runs: list[tuple[np.ndarray, ...]] = []
    for number, readings in enumerate(files):
        day, station = readings.time // _DAY, readings.station_id
        begins = np.ones(len(day), bool)
        begins[1:] = (day[1:] != day[:-1]) | (station[1:] != station[:-1])
        first = np.flatnonzero(begins)  # in canonical order there are few: one of each series and day
        runs.append((np.full(len(first), number), day[first], station[first], np.diff(first, append=len(day))))
    columns = (np.concatenate(parts) for parts in zip(*runs, strict=True))
    frame = pd.DataFrame(dict(zip(("file", "day", "station", "readings"), columns, strict=True)))
    return frame.groupby(["file", "day", "station"])["readings"].sum().to_dict()
