"""Observations: computed from the readings of whole UTC days, and read back as panels.

Which days are due is read off the ledgers, never remembered: so a run that was killed between taking files in
and computing their days is made good by the next one.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

import numpy as np
import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.contracts.grid import DAY, Grid
from bts_assets.contracts.panel import Panel, panel_from_observations
from bts_assets.contracts.schemas import Observations, validate
from bts_assets.landing.series import Observed, digest_observations, observe
from bts_assets.storage import tables
from bts_assets.storage.binary_copy import copy_in, copy_out
from bts_assets.storage.postgres import LOCK_INGEST, DatabaseError, transaction
from bts_assets.storage.readings import ReadingsMissing, ReadingStore

#: Looks for a snapshot in which every file that was taken in is observed.
_TRIES: Final = 5

#: About so many readings are held in memory at once.
_READINGS_AT_ONCE: Final = 6_000_000

_DUE: Final = sa.text("""
    WITH touched AS (
        SELECT unnest(days) AS day, greatest(ledger_seq, coalesce(superseded_by, 0)) AS ledger_seq
        FROM bts.landing_file WHERE status <> 'refused'
    ), computed AS (
        SELECT day, max(ledger_seq) AS ledger_seq FROM bts.observed_day GROUP BY day
    )
    SELECT DISTINCT touched.day FROM touched LEFT JOIN computed USING (day)
    WHERE computed.ledger_seq IS NULL OR touched.ledger_seq > computed.ledger_seq
    ORDER BY touched.day
""")

_FILES_OF_DAYS: Final = sa.text("""
    SELECT digest, min(days) AS days, max(accepted + duplicate) AS rows FROM bts.landing_file
    WHERE status <> 'refused' AND days && CAST(:days AS date[])
      AND ledger_seq <= :ledger_seq AND (superseded_by IS NULL OR superseded_by > :ledger_seq)
    GROUP BY digest ORDER BY digest
""")


@dataclass(frozen=True)
class ObserveReport:
    """What computing the due days came to."""

    days: int = 0
    observations: int = 0
    readings: int = 0
    duplicates: int = 0
    conflicts: int = 0
    failed: dict[date, str] = field(default_factory=dict)  # day -> why; it keeps the observations that it had


def compute_due_days(
    engine: sa.Engine,
    store: ReadingStore,
    catalogue: Catalogue,
    grid: Grid,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> ObserveReport:
    """Compute the observations of every day whose files changed since it was last computed."""
    with engine.connect() as connection:
        due = list(connection.execute(_DUE).scalars())
        files = files_of(connection, due, newest_ledger_seq(connection)) if due else []
    reports: list[Observed] = []
    failed: dict[date, str] = {}
    done = 0
    for days in stretches(due, files):
        try:
            reports += _compute(engine, store, catalogue, grid, days)
        except ReadingsMissing as error:
            # One file that is gone costs its own days: they are found by trying each alone.
            for day in days:
                try:
                    reports += _compute(engine, store, catalogue, grid, [day])
                except ReadingsMissing:
                    failed[day] = str(error)
        done += len(days)
        if on_progress:
            on_progress("observing days", done, len(due))
    return ObserveReport(
        days=len(due),
        observations=sum(len(o.observations) for o in reports),
        readings=sum(o.readings for o in reports),
        duplicates=sum(o.duplicates for o in reports),
        conflicts=sum(o.conflicts for o in reports),
        failed=failed,
    )


def _compute(
    engine: sa.Engine, store: ReadingStore, catalogue: Catalogue, grid: Grid, days: list[date]
) -> list[Observed]:
    """What the days came to; nothing, if another process computed them all since they were found due."""
    start, end = _midnight(days[0]), _midnight(days[-1]) + DAY
    with transaction(engine, LOCK_INGEST) as connection:
        if set(days).isdisjoint(connection.execute(_DUE).scalars()):
            return []
        ledger_seq = newest_ledger_seq(connection)
        digests = [file["digest"] for file in files_of(connection, days, ledger_seq)]
        with ThreadPoolExecutor(2) as pool:
            readings = list(pool.map(store.read, digests))
        observed = observe(readings, catalogue, grid, start, end)
        validate(Observations, observed.observations)
        _replace(connection, observed, days, ledger_seq, start, end)
    return [observed]


def _replace(
    connection: sa.Connection, observed: Observed, days: list[date], ledger_seq: int, start: datetime, end: datetime
) -> None:
    rows, at = observed.observations, tables.observation.c.observed_at
    connection.execute(sa.delete(tables.observation).where(at >= start, at < end))
    copy_in(connection, "bts.observation", {name: _plain(rows[name]) for name in rows.columns})
    by_day = dict(list(rows.groupby(rows["observed_at"].dt.date, sort=False)))
    log = [
        {
            "day": day,
            "ledger_seq": ledger_seq,
            "digest": digest_observations(of_day),
            "observations": len(of_day),
            "first_observed_at": of_day["observed_at"].min() if len(of_day) else None,
            "last_observed_at": of_day["observed_at"].max() if len(of_day) else None,
            "readings": int(of_day["readings"].sum()),
        }
        for day in days
        for of_day in [by_day.get(day, rows.iloc[:0])]
    ]
    # Of a day that another process computed from the same ledger meanwhile, the entry stands.
    connection.execute(insert(tables.observed_day).on_conflict_do_nothing(), log)
    known = sa.text(
        "INSERT INTO bts.series (station_id, parameter_id, first_ledger_seq)"
        " SELECT s, p, :ledger_seq FROM unnest(CAST(:stations AS bigint[]), CAST(:parameters AS int[])) AS new (s, p)"
        " ON CONFLICT DO NOTHING"
    )
    series = rows[["station_id", "parameter_id"]].drop_duplicates()
    connection.execute(
        known,
        {
            "ledger_seq": ledger_seq,
            "stations": series["station_id"].tolist(),
            "parameters": series["parameter_id"].tolist(),
        },
    )


def newest_ledger_seq(connection: sa.Connection) -> int:
    return int(connection.scalar(sa.select(sa.func.max(tables.landing_file.c.ledger_seq))) or 0)


def observed_span(connection: sa.Connection, grid: Grid) -> tuple[datetime, datetime] | None:
    """Start of the oldest and end of the newest observed interval; None: nothing was observed yet."""
    first, last = connection.execute(
        sa.text(
            "SELECT min(first_observed_at), max(last_observed_at) FROM"
            " (SELECT DISTINCT ON (day) * FROM bts.observed_day ORDER BY day, ledger_seq DESC) AS newest"
        )
    ).one()
    return None if first is None else (first, last + grid.step)


def read_observations(connection: sa.Connection, start: datetime, end: datetime) -> pd.DataFrame:
    """The `Observations` rows within [start, end)."""
    query = (
        "SELECT station_id, parameter_id, observed_at, value, readings FROM bts.observation"
        f" WHERE observed_at >= '{start.isoformat()}' AND observed_at < '{end.isoformat()}'"
    )
    columns = {"station_id": "int64", "parameter_id": "int32", "observed_at": "time", "value": "float64"}
    return copy_out(connection, query, columns | {"readings": "int32"})


def read_panel(connection: sa.Connection, grid: Grid, start: datetime, end: datetime) -> Panel:
    """Every series known by `end` on the grid from `start`; one that was silent since is all missing."""
    # A scalar subquery is one look into the key per series; EXISTS may become a scan of all observations.
    query = (
        "SELECT station_id, parameter_id FROM bts.series AS s WHERE (SELECT true FROM bts.observation AS o"
        " WHERE o.station_id = s.station_id AND o.parameter_id = s.parameter_id"
        f" AND o.observed_at < '{end.isoformat()}' LIMIT 1)"
    )
    known = copy_out(connection, query, {"station_id": "int64", "parameter_id": "int32"})
    return panel_from_observations(read_observations(connection, start, end), grid, start, end, known)


def read_settled_panel(
    engine: sa.Engine,
    store: ReadingStore,
    catalogue: Catalogue,
    grid: Grid,
    end: datetime,
    start_of: Callable[[sa.Connection], datetime],
) -> tuple[Panel, int]:
    """The panel until `end`, and the number of the newest ledger entry that it was computed from: one snapshot.

    Files that another process took in meanwhile have a number before they have observations: their days are computed
    first, so that the number and the observations belong together and the batch can be made again from them.

    Raises:
        DatabaseError: if files come in faster than their days can be computed.
    """
    failed: set[date] = set()
    for _ in range(_TRIES):
        with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
            if failed.issuperset(connection.execute(_DUE).scalars()):
                panel = read_panel(connection, grid, start_of(connection), end)
                return panel, newest_ledger_seq(connection)
        failed = set(compute_due_days(engine, store, catalogue, grid).failed)
    raise DatabaseError("landing files come in faster than they can be observed; try again when they have settled")


def files_of(connection: sa.Connection, days: list[date], ledger_seq: int) -> list[dict[str, Any]]:
    """The landing files with readings of some UTC days, as the ledger stood at an entry."""
    found = connection.execute(_FILES_OF_DAYS, {"days": days, "ledger_seq": ledger_seq})
    return [dict(row) for row in found.mappings()]


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


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _plain(values: pd.Series) -> np.ndarray:
    """The column as numpy has it; instants lose their (UTC) zone, which COPY implies."""
    return values.dt.tz_localize(None).to_numpy() if isinstance(values.dtype, pd.DatetimeTZDtype) else values.to_numpy()
