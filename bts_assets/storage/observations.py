"""The SQL half of observations: which days are due, what stands in a span, a day replaced whole. It computes none."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, Final

import numpy as np
import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from bts_assets.contracts.grid import Grid
from bts_assets.contracts.panel import Panel, panel_from_observations
from bts_assets.contracts.schemas import UTC_TIME
from bts_assets.landing.series import digest_observations
from bts_assets.storage import tables
from bts_assets.storage.binary_copy import copy_in, copy_out

_DUE: Final = sa.text("""
    WITH touched AS (
        SELECT unnest(days) AS day, greatest(ledger_seq, coalesce(superseded_by, 0)) AS ledger_seq
        FROM bts.landing_file WHERE status <> 'refused'
    ), computed AS (
        SELECT day, max(ledger_seq) AS ledger_seq FROM bts.observed_day GROUP BY day
    )
    SELECT DISTINCT touched.day FROM touched LEFT JOIN computed USING (day)
    WHERE (computed.ledger_seq IS NULL OR touched.ledger_seq > computed.ledger_seq)
      AND touched.day > coalesce((SELECT max(day) FROM bts.pruning), '-infinity')
    ORDER BY touched.day
""")

_FILES_OF_DAYS: Final = sa.text("""
    SELECT digest, min(days) AS days, max(accepted + duplicate) AS rows FROM bts.landing_file
    WHERE status <> 'refused' AND days && CAST(:days AS date[])
      AND ledger_seq <= :ledger_seq AND (superseded_by IS NULL OR superseded_by > :ledger_seq)
    GROUP BY digest ORDER BY digest
""")


def due_days(connection: sa.Connection) -> list[date]:
    """UTC days that a ledger entry touched after they were last computed, ascending; none that was pruned."""
    return list(connection.execute(_DUE).scalars())


def files_of(connection: sa.Connection, days: list[date], ledger_seq: int) -> list[dict[str, Any]]:
    """The landing files with readings of some UTC days, as the ledger stood at an entry."""
    found = connection.execute(_FILES_OF_DAYS, {"days": days, "ledger_seq": ledger_seq})
    return [dict(row) for row in found.mappings()]


def newest_ledger_seq(connection: sa.Connection) -> int:
    return int(connection.scalar(sa.select(sa.func.max(tables.landing_file.c.ledger_seq))) or 0)


def observed_span(connection: sa.Connection, grid: Grid) -> tuple[datetime, datetime] | None:
    """Start of the oldest and end of the newest observed interval; None: nothing was observed yet."""
    first, last = connection.execute(
        sa.text(
            "SELECT min(first_observed_at), max(last_observed_at) FROM"
            " (SELECT DISTINCT ON (day) * FROM bts.observed_day ORDER BY day, ledger_seq DESC) AS newest"
            " WHERE day > coalesce((SELECT max(day) FROM bts.pruning), '-infinity')"
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


def last_heard(
    connection: sa.Connection, station_id: np.ndarray, parameter_id: np.ndarray, before: datetime
) -> pd.DataFrame:
    """station_id, parameter_id and last_observed_at, the newest observation before an instant, of some series (n,)."""
    given = {"before": before, "stations": station_id.tolist(), "parameters": parameter_id.tolist()}
    heard = list(connection.execute(_LAST_HEARD, given).scalars()) if len(station_id) else []
    names = {"station_id": station_id, "parameter_id": parameter_id}
    return pd.DataFrame(names | {"last_observed_at": pd.Series(heard, dtype=UTC_TIME)})


_LAST_HEARD: Final = sa.text("""
    SELECT (SELECT max(observed_at) FROM bts.observation AS o WHERE o.station_id = s AND o.parameter_id = p
            AND o.observed_at < :before)
    FROM unnest(CAST(:stations AS bigint[]), CAST(:parameters AS int[])) WITH ORDINALITY AS silent (s, p, n) ORDER BY n
""")


def replace_days(
    connection: sa.Connection, rows: pd.DataFrame, days: Sequence[date], ledger_seq: int, start: datetime, end: datetime
) -> None:
    """Let the `Observations` rows stand for what was in [start, end), which are these days, and log their computing."""
    at = tables.observation.c.observed_at
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


def _plain(values: pd.Series) -> np.ndarray:
    """The column as numpy has it; instants lose their (UTC) zone, which COPY implies."""
    return values.dt.tz_localize(None).to_numpy() if isinstance(values.dtype, pd.DatetimeTZDtype) else values.to_numpy()
