"""The SQL half of what stations come to by day (`landing.station_days`), and of a day's log, which is added up from it.

So a day of which a few stations were computed anew is logged as if it had been computed whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from bts_assets.landing.series import digest_of_stations
from bts_assets.storage import tables
from bts_assets.storage.locks import LOCK_INGEST, transaction
from bts_assets.storage.observation_blocks import SomeStations, of_stations

_TYPES: Final = {
    "day": "date",
    "station_id": "bigint",
    "digest": "bytea",
    "observations": "integer",
    "readings": "bigint",
    "first_observed_at": "timestamptz",
    "last_observed_at": "timestamptz",
    "repeated": "bigint",
    "corrected": "bigint",
    "contradicted": "bigint",
    "ids_ignored": "bigint",
}
_REMOVE: Final = "DELETE FROM bts.observed_station WHERE day = ANY(CAST(:days AS date[]))"
_INSERT: Final = sa.text(
    f"INSERT INTO bts.observed_station ({', '.join(_TYPES)})"  # noqa: S608 - names of ours
    f" SELECT * FROM unnest({', '.join(f'CAST(:{name} AS {kind}[])' for name, kind in _TYPES.items())})"
)


def replace_stations(
    connection: sa.Connection, station_days: pd.DataFrame, days: Sequence[date], stations: SomeStations
) -> None:
    """Let rows of `landing.station_days` stand for what there was of some stations on some days."""
    connection.execute(sa.text(_REMOVE + of_stations(stations)), {"days": list(days)})
    connection.execute(_INSERT, {name: station_days[name].tolist() for name in _TYPES})


def forget_days_of(engine: sa.Engine, digests: Sequence[str]) -> None:
    """Have the days of landing files computed whole when they are due next."""
    with transaction(engine, LOCK_INGEST) as connection:
        connection.execute(_FORGET, {"digests": list(digests)})


_FORGET: Final = sa.text("""
    DELETE FROM bts.observed_station WHERE day IN (
        SELECT unnest(days) FROM bts.landing_file WHERE digest = ANY(CAST(:digests AS char(64)[])))
""")


@dataclass(frozen=True)
class DayTotals:
    """What a day comes to; the fields are columns of `bts.observed_day`."""

    day: date
    digest: str
    observations: int
    readings: int
    first_observed_at: Any
    last_observed_at: Any
    repeated: int
    corrected: int
    contradicted: int
    ids_ignored: int


def _totals(connection: sa.Connection, days: Sequence[date]) -> list[DayTotals]:
    """What the stations come to together, by day, ascending."""
    found = connection.execute(_TOTALS, {"days": list(days)}).mappings()
    return [DayTotals(**{**row, "digest": digest_of_stations([bytes(row["digest"])])}) for row in found]


# A digest of digests one after the other is that of all of them together: they are told apart by their length.
_TOTALS: Final = sa.text("""
    SELECT day, coalesce(string_agg(s.digest, ''::bytea ORDER BY s.station_id), ''::bytea) AS digest,
           min(s.first_observed_at) AS first_observed_at, max(s.last_observed_at) AS last_observed_at,
           coalesce(sum(s.observations), 0)::bigint AS observations, coalesce(sum(s.readings), 0)::bigint AS readings,
           coalesce(sum(s.repeated), 0)::bigint AS repeated, coalesce(sum(s.corrected), 0)::bigint AS corrected,
           coalesce(sum(s.contradicted), 0)::bigint AS contradicted,
           coalesce(sum(s.ids_ignored), 0)::bigint AS ids_ignored
    FROM unnest(CAST(:days AS date[])) AS asked (day) LEFT JOIN bts.observed_station AS s USING (day)
    GROUP BY day ORDER BY day
""")


def log_days(connection: sa.Connection, days: Sequence[date], ledger_seq: int, rule: str) -> list[DayTotals]:
    """Log the computing of days by what their stations come to, and give it; of one ledger and another rule the new
    computing stands.
    """
    totals = _totals(connection, days)
    log = [{**vars(of_day), "ledger_seq": ledger_seq, "rule": rule} for of_day in totals]
    entry = insert(tables.observed_day)
    newer: dict[str, Any] = {name: entry.excluded[name] for name in log[0]} | {"computed_at": sa.func.clock_timestamp()}
    connection.execute(entry.on_conflict_do_update(index_elements=["day", "ledger_seq"], set_=newer), log)
    return totals


def computed_before(connection: sa.Connection, days: Sequence[date], rule: str) -> dict[date, int]:
    """Days whose last computing was by this rule, and the ledger's entry that it was computed from; none of which the
    stations do not come to what was logged: older code kept none.
    """
    last = {
        row["day"]: row for row in connection.execute(_LAST, {"days": list(days)}).mappings() if row["rule"] == rule
    }
    known = (of for of in _totals(connection, list(last)) if vars(of).items() <= last[of.day].items())
    return {of.day: last[of.day]["ledger_seq"] for of in known}


_LAST: Final = sa.text("""
    SELECT DISTINCT ON (day) * FROM bts.observed_day
    WHERE day = ANY(CAST(:days AS date[])) ORDER BY day, ledger_seq DESC
""")


def readings_of_stations(connection: sa.Connection, day: date) -> dict[int, int]:
    """How many readings of each station there were when a day was last computed, those included that gave way."""
    return {row.station_id: row.readings for row in connection.execute(_READINGS, {"day": day})}


_READINGS: Final = sa.text("""
    SELECT station_id, readings + repeated + corrected + contradicted AS readings
    FROM bts.observed_station WHERE day = :day
""")
