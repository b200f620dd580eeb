"""Observations: computed from the readings of whole UTC days, and read back as panels.

Which days are due is read off the ledgers, never remembered: so a run that was killed between taking files in
and computing their days is made good by the next one.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Final, TypeVar

import pandas as pd
import sqlalchemy as sa

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.contracts.grid import DAY, Grid
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.progress import OnProgress
from bts_assets.contracts.schemas import Observations, validate
from bts_assets.landing.duplicates import MERGED, ReadingIds
from bts_assets.landing.series import Observed, observe
from bts_assets.services.home import Home
from bts_assets.storage.crash_points import crash_point
from bts_assets.storage.locks import LOCK_INGEST, transaction
from bts_assets.storage.observations import due_days, files_of, midnight_of, newest_ledger_seq, read_panel, replace_days
from bts_assets.storage.postgres import DatabaseError, check_grid, hold_grid
from bts_assets.storage.readings import ReadingsMissing

T = TypeVar("T")

#: Looks for a snapshot in which every file that was taken in is observed.
_TRIES: Final = 5

#: About so many readings are held in memory at once.
_READINGS_AT_ONCE: Final = 6_000_000


@dataclass(frozen=True)
class ObserveReport:
    """What computing the due days came to. merged: as `landing.duplicates.Resolved` counts them, over all days."""

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
    """Compute the observations of every day whose files changed since it was last computed.

    Raises:
        DatabaseError: if observations of another step are stored here.
    """
    with home.engine.connect() as connection:
        check_grid(connection, home.settings.grid)  # where nothing is due, too: what is stored is read next
        due = due_days(connection, home.observing_rule)
        files = files_of(connection, due, newest_ledger_seq(connection)) if due else []
    reports: list[Observed] = []
    failed: dict[date, str] = {}
    done = 0
    for days in stretches(due, files):
        try:
            reports += _compute(home, days)
        except ReadingsMissing as error:
            # One file that is gone costs its own days: they are found by trying each alone.
            for day in days:
                try:
                    reports += _compute(home, [day])
                except ReadingsMissing:
                    failed[day] = str(error)
        done += len(days)
        if on_progress:
            on_progress("observing days", done, len(due))
    return ObserveReport(
        days=len(due),
        observations=sum(len(o.observations) for o in reports),
        readings=sum(o.readings for o in reports),
        merged={name: sum(int(o.merged[name].sum()) for o in reports) for name in MERGED},
        failed=failed,
    )


def _compute(home: Home, days: list[date]) -> list[Observed]:
    """What the days came to; nothing, if another process computed them all since they were found due."""
    rule = home.observing_rule
    with transaction(home.engine, LOCK_INGEST) as connection:
        hold_grid(connection, home.settings.grid)
        if set(days).isdisjoint(due_days(connection, rule)):
            return []
        ledger_seq = newest_ledger_seq(connection)
        files = files_of(connection, days, ledger_seq)
        observed = observe_files(home, home.catalogue, home.settings.grid, days, files, home.settings.reading_ids)
        crash_point("observe.after_read")
        validate(Observations, observed.observations)
        replace_days(connection, home.settings.grid, observed, days, ledger_seq, rule)
        crash_point("observe.before_commit")
    crash_point("observe.after_commit")
    return [observed]


def observe_files(
    home: Home,
    catalogue: Catalogue,
    grid: Grid,
    days: list[date],
    files: list[dict[str, Any]],
    reading_ids: ReadingIds,
    only: pd.DataFrame | None = None,
) -> Observed:
    """What neighbouring days are by the files that count (`storage.observations.files_of`); of all stations, or of
    those in `only` (station_id): ids are judged by station, so that none depends on another.

    Raises:
        ReadingsMissing: if the Parquet file of one is gone or damaged.
    """
    with ThreadPoolExecutor(2) as pool:
        readings = list(pool.map(home.readings.read, [file["digest"] for file in files]))
    if only is not None:
        readings = [frame[frame["station_id"].isin(only["station_id"])] for frame in readings]
    start, end = midnight_of(days[0]), midnight_of(days[-1]) + DAY
    entries = [file["entry"] for file in files]
    return observe(readings, catalogue, grid, start, end, entries=entries, reading_ids=reading_ids)


def read_settled(home: Home, read: Callable[[sa.Connection], T]) -> tuple[T, int]:
    """What `read` finds, and the number of the newest ledger entry that it was computed from: one snapshot.

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
                return read(connection), newest_ledger_seq(connection)
        failed = set(compute_due_days(home).failed)
    raise DatabaseError("landing files come in faster than they can be observed; try again when they have settled")


def read_settled_panel(home: Home, end: datetime, start_of: Callable[[sa.Connection], datetime]) -> tuple[Panel, int]:
    """The panel until `end`, as `read_settled` reads."""
    return read_settled(home, lambda c: read_panel(c, home.settings.grid, start_of(c), end))


def stretches(due: list[date], files: list[dict[str, Any]]) -> Iterator[list[date]]:
    """Split the due days into runs of neighbouring days whose files fit into memory together."""
    load: dict[date, float] = {}
    for file in files:
        for day in file["days"]:
            load[day] = load.get(day, 0) + file["rows"] / len(file["days"])
    stretch: list[date] = []
    held = 0.0
    for day in due:
        if stretch and (day - stretch[-1] > timedelta(days=1) or held + load.get(day, 0) > _READINGS_AT_ONCE):
            yield stretch
            stretch, held = [], 0.0
        stretch.append(day)
        held += load.get(day, 0)
    if stretch:
        yield stretch
