"""Observations: computed from the readings of UTC days, and read back as panels.

Which days are due is read off the ledgers, never remembered: so a run that was killed between taking files in
and computing their days is made good by the next one.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any, Final, TypeVar

import pandas as pd
import sqlalchemy as sa

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.contracts.grid import DAY, Grid
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.progress import OnProgress
from bts_assets.contracts.schemas import Observations, validate
from bts_assets.contracts.work_sharing import Spread
from bts_assets.landing.duplicates import MERGED, ReadingIds
from bts_assets.landing.series import Observed, observe
from bts_assets.landing.station_days import station_days
from bts_assets.services.engine import engine
from bts_assets.services.home import Home
from bts_assets.services.late_files import Due, what_is_due
from bts_assets.services.memory import readings_a_part, readings_at_once, return_memory
from bts_assets.services.shared_snapshot import in_own_sessions
from bts_assets.storage.crash_points import crash_point
from bts_assets.storage.first_day import keep_first_day
from bts_assets.storage.locks import LOCK_INGEST, transaction
from bts_assets.storage.observation_blocks import ALL_STATIONS, SomeStations, neighbours, station_parts
from bts_assets.storage.observations import (
    due_days,
    files_of,
    midnight_of,
    newest_ledger_seq,
    observed_since,
    read_observations,
    read_panel,
    replace_days,
)
from bts_assets.storage.observed_stations import DayTotals, log_days, replace_stations
from bts_assets.storage.postgres import DatabaseError, check_grid, hold_grid
from bts_assets.storage.readings import ReadingsMissing

T = TypeVar("T")

#: Looks for a snapshot in which every file that was taken in is observed.
_TRIES: Final = 5
#: Series that are read back of a day's observations.
_SERIES_READ_BACK: Final = 4096


@dataclass(frozen=True)
class ObserveReport:
    """What the due days came to, of a few of their stations or of all. merged: as `landing.duplicates.Resolved` counts
    them, over all days.
    """

    days: int = 0
    observations: int = 0
    readings: int = 0
    merged: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(MERGED, 0))
    failed: dict[date, str] = field(default_factory=dict)  # day -> why; it keeps the observations that it had

    @property
    def duplicates(self) -> int:
        return self.merged["repeated"]

    @property
    def conflicts(self) -> int:
        return self.merged["corrected"] + self.merged["contradicted"]


def compute_due_days(home: Home, on_progress: OnProgress | None = None) -> ObserveReport:
    """Compute what changed files may have changed of the observations since their days were last computed.

    Raises:
        DatabaseError: if observations of another step are stored here.
    """
    with home.engine.connect() as connection:
        check_grid(connection, home.settings.grid)  # where nothing is due, too: what is stored is read next
        due = due_days(connection, home.observing_rule)
        files = files_of(connection, due, newest_ledger_seq(connection)) if due else []
    reports: list[DayTotals] = []
    failed: dict[date, str] = {}
    done = 0
    with engine(home.settings) as spread:
        for days in stretches(due, files, readings_at_once(home.settings)):
            try:
                reports += _compute(home, days, spread)
            except ReadingsMissing as error:
                # One file that is gone costs its own days: they are found by trying each alone; here, for workers on
                # another machine may lack files that are not gone.
                for day in days:
                    try:
                        reports += _compute(home, [day], map)
                    except ReadingsMissing:
                        failed[day] = str(error)
            done += len(days)
            if on_progress:
                on_progress("observing days", done, len(due))
    _keep_first_day(home)
    return ObserveReport(
        days=len(due),
        observations=sum(day.observations for day in reports),
        readings=sum(day.readings for day in reports),
        merged={name: sum(getattr(day, name) for day in reports) for name in MERGED},
        failed=failed,
    )


def _keep_first_day(home: Home) -> None:
    """Nights are listed from the day of the oldest observation on (`defs/partitions.py`)."""
    with home.engine.connect() as connection:
        first = observed_since(connection)
    if first is not None:
        keep_first_day(home.settings.home, first.astimezone(home.settings.timezone).date())


def _compute(home: Home, days: list[date], spread: Spread) -> list[DayTotals]:
    """What the days came to; nothing, if another process computed them all since they were found due.

    Parts are computed wherever the engine does it, and stored here, in their order. A worker needs no snapshot for it:
    the readings of a file were there before the file's entry was committed, and never change.
    """
    rule, grid = home.observing_rule, home.settings.grid
    with transaction(home.engine, LOCK_INGEST) as connection:
        hold_grid(connection, home.settings.grid)
        if set(days).isdisjoint(due_days(connection, rule)):
            return []
        ledger_seq = newest_ledger_seq(connection)
        for due in what_is_due(connection, home, days, ledger_seq):
            files = files_of(connection, due.days, ledger_seq)
            for part in in_own_sessions(spread, home, partial(_part, due.days, files), _parts(home, files, due)):
                crash_point("observe.after_read")
                replace_days(connection, grid, part.observations, due.days, ledger_seq, part.stations)
                replace_stations(connection, part.station_days, due.days, part.stations)
                del part
                return_memory()
        totals = log_days(connection, days, ledger_seq, rule)
        crash_point("observe.before_commit")
    crash_point("observe.after_commit")
    return totals


@dataclass(frozen=True)
class _Part:
    """What some stations were observed to be on some days, and what each comes to (`landing.station_days`)."""

    stations: SomeStations
    observations: pd.DataFrame
    station_days: pd.DataFrame


def _part(days: list[date], files: list[dict[str, Any]], home: Home, stations: SomeStations) -> _Part:
    settings = home.settings
    observed = observe_files(home, home.catalogue, settings.grid, days, files, settings.reading_ids, stations)
    validate(Observations, observed.observations)
    return _Part(stations, observed.observations, station_days(observed))


def _parts(home: Home, files: list[dict[str, Any]], due: Due) -> Sequence[SomeStations]:
    """The stations to compute in parts, ascending, so that the readings of a part fit into memory, and each worker has
    some; in one, where all fit.
    """
    rows = sum(file["rows"] for file in files) if due.readings is None else sum(due.readings.values())
    at_once = readings_a_part(home.settings, rows)
    if due.readings is not None:
        few = sorted(due.readings)
        parts = neighbours(((station, due.readings[station]) for station in few), at_once)
        return [[station for station in few if first <= station <= last] for first, last in parts]
    if rows <= at_once:
        return [ALL_STATIONS]
    counts = home.readings.count_by_station([file["digest"] for file in files])
    begins = [first for first, _ in neighbours(sorted(counts.items()), at_once)][1:]
    # From the least number there is to the greatest: of stations without readings nothing is to stay either.
    return list(zip([ALL_STATIONS[0], *begins], [*(first - 1 for first in begins), ALL_STATIONS[1]], strict=True))


def observe_files(
    home: Home,
    catalogue: Catalogue,
    grid: Grid,
    days: list[date],
    files: list[dict[str, Any]],
    reading_ids: ReadingIds,
    stations: SomeStations | Collection[int] = ALL_STATIONS,
) -> Observed:
    """What neighbouring days are by the files that count (`storage.observations.files_of`); of all stations, from one
    to another, or a few: ids are judged by station, so that none depends on another.

    Raises:
        ReadingsMissing: if the Parquet file of one is gone or damaged.
    """
    wanted = None if stations == ALL_STATIONS else stations
    found = zip(home.readings.each([file["digest"] for file in files], wanted), files, strict=True)
    # Each file costs something, however few of its readings are wanted; most have none of a few stations.
    some = [(readings, file["entry"]) for readings, file in found if len(readings)]
    start, end = midnight_of(days[0]), midnight_of(days[-1]) + DAY
    entries = [entry for _, entry in some]
    return observe([own for own, _ in some], catalogue, grid, start, end, entries=entries, reading_ids=reading_ids)


def read_newest_day_back(home: Home, end: datetime) -> int:
    """How many observations of the day before `end` were read back and held against the schema: of a large network
    those of one part of the stations, each day another, for all were held against it before they were stored.

    Raises:
        SchemaErrors: if one is not as the schema says.
    """
    with home.engine.connect() as connection:
        parts = station_parts(connection, _SERIES_READ_BACK) or [ALL_STATIONS]
        part = parts[end.toordinal() % len(parts)]
        return len(validate(Observations, read_observations(connection, end - DAY, end, part)))


@contextmanager
def settled(home: Home) -> Iterator[tuple[sa.Connection, int]]:
    """One snapshot in which every file that was taken in is observed, and the number of its newest ledger entry.

    Files that another process took in meanwhile have a number before they have observations: their days are computed
    first, so that the number and the observations belong together and the batch can be made again from them.

    Raises:
        DatabaseError: if files come in faster than their days can be computed.
    """
    failed: set[date] = set()
    for _ in range(_TRIES):
        with home.engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
            check_grid(connection, home.settings.grid)
            if failed.issuperset(due_days(connection, home.observing_rule)):
                yield connection, newest_ledger_seq(connection)
                return
        failed = set(compute_due_days(home).failed)
    raise DatabaseError("landing files come in faster than they can be observed; try again when they have settled")


def read_settled(home: Home, read: Callable[[sa.Connection], T]) -> tuple[T, int]:
    """What `read` finds in a snapshot as of `settled`, and the number of its newest ledger entry."""
    with settled(home) as (connection, ledger_seq):
        return read(connection), ledger_seq


def read_settled_panel(home: Home, end: datetime, start_of: Callable[[sa.Connection], datetime]) -> tuple[Panel, int]:
    """The panel until `end`, as `read_settled` reads."""
    return read_settled(home, lambda c: read_panel(c, home.settings.grid, start_of(c), end))


def stretches(due: list[date], files: list[dict[str, Any]], at_once: int) -> Iterator[list[date]]:
    """Split the due days into runs of neighbouring days that have at most so many readings together, if no single one
    has more.
    """
    load: dict[date, float] = {}
    for file in files:
        for day in file["days"]:
            load[day] = load.get(day, 0) + file["rows"] / len(file["days"])
    stretch: list[date] = []
    held = 0.0
    for day in due:
        if stretch and (day - stretch[-1] > timedelta(days=1) or held + load.get(day, 0) > at_once):
            yield stretch
            stretch, held = [], 0.0
        stretch.append(day)
        held += load.get(day, 0)
    if stretch:
        yield stretch
