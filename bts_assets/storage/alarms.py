"""Alarm logs at rest: entered whole or not at all, the limits that they speak of, and what was alarmed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from bts_assets.landing.alarms import AlarmLog
from bts_assets.landing.corrections import Span, corrects
from bts_assets.storage import tables
from bts_assets.storage.alarm_tables import alarm, alarm_file, alarm_rejection
from bts_assets.storage.locks import LOCK_INGEST, transaction
from bts_assets.storage.provenance import code_version

#: A log begins with its first alarm and ends with its last: so long a time without one may lie beyond it.
_QUIET: Final = timedelta(hours=1)

_ALARMED: Final = sa.text("""
    SELECT station_id, parameter_id, side, started_at, until FROM bts.operator_alarm
    WHERE side IS NOT NULL AND started_at < :end AND until >= :start
""")
#: Spans that the logs which count know about.
_KNOWN: Final = sa.text(
    "SELECT first_at, last_at FROM bts.alarm_file WHERE status = 'accepted' AND superseded_by IS NULL"
    " AND first_at < :end AND last_at > CAST(:start AS timestamptz) - interval '1 hour'"
)
_THRESHOLDS: Final = sa.text("""
    SELECT station_id, parameter_id, side, mode() WITHIN GROUP (ORDER BY threshold) AS threshold
    FROM bts.alarm WHERE alarm_seq = :alarm_seq AND side IS NOT NULL
    GROUP BY station_id, parameter_id, side ORDER BY station_id, parameter_id, side
""")


@dataclass(frozen=True)
class Threshold:
    """The threshold of most alarms of one limit of a series, in the parameter's unit; side: high or low."""

    station_id: int
    parameter_id: int
    side: str
    threshold: float


def enter_log(
    engine: sa.Engine, path: str, digest: str, size: int, log: AlarmLog | None, refused: str | None, kept: int
) -> dict[str, Any]:
    """Enter an alarm log with all that belongs to it, in one transaction; the row, or `unchanged`.

    The same bytes under another name add nothing; other bytes under the same name supersede what they correct
    (`landing.corrections`).
    """
    t = alarm_file.c
    with transaction(engine, LOCK_INGEST) as connection:
        of_path = sa.select(alarm_file).where(t.path == path, t.superseded_by.is_(None)).order_by(t.alarm_seq)
        standing = connection.execute(of_path).mappings().all()
        before = standing[-1] if standing else None
        if before and before["digest"] == digest and (before["status"] != "refused" or before["reason"] == refused):
            return {"status": "unchanged", "alarm_seq": before["alarm_seq"]}
        twin = connection.execute(
            sa.select(t.path).where(
                t.digest == digest, t.status == "accepted", t.superseded_by.is_(None), t.path != path
            )
        ).scalar()
        row = _ledger_row(path, digest, size, log, refused, twin)
        row["alarm_seq"] = connection.execute(sa.insert(alarm_file).values(row).returning(t.alarm_seq)).scalar_one()
        if log is not None:
            older = [entry["alarm_seq"] for entry in standing if _supersedes(row, dict(entry))]
            connection.execute(
                sa.update(alarm_file).where(t.alarm_seq.in_(older)).values(superseded_by=row["alarm_seq"])
            )
        if log is not None and twin is None:
            _insert(connection, alarm, log.alarms, row["alarm_seq"])
            _insert(connection, alarm_rejection, log.rejected.head(kept), row["alarm_seq"])
    return row


def _supersedes(newer: dict[str, Any], older: dict[str, Any]) -> bool:
    """What has no alarm gives way to anything, and to it nothing does."""
    if not newer["first_at"]:
        return False
    return not older["first_at"] or corrects(*(Span(of["first_at"], of["last_at"]) for of in (newer, older)))


def _ledger_row(
    path: str, digest: str, size: int, log: AlarmLog | None, refused: str | None, twin: str | None
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "path": path,
        "digest": digest,
        "status": "refused" if log is None else "copy" if twin else "accepted",
        "reason": refused or (f"the same bytes as {twin}" if twin else None),
        "bytes": size,
        **dict.fromkeys(("rows", "accepted", "rejected", "duplicate"), 0),
        "rejected_by_reason": {},
        "notes": [],
        "code_version": code_version(),
    }
    if log is None:
        return row
    times = log.alarms[["started_at", "until"]]
    span = {
        "first_at": times["started_at"].min().to_pydatetime() if len(times) else None,
        "last_at": times["until"].max().to_pydatetime() if len(times) else None,
    }
    if twin:
        return row | span | {"rows": log.rows, "duplicate": log.rows}
    return (
        row
        | span
        | {
            "rows": log.rows,
            "accepted": len(log.alarms),
            "rejected": sum(log.reasons.values()),
            "duplicate": log.duplicates,
            "rejected_by_reason": log.reasons,
            "notes": list(log.notes),
        }
    )


def _insert(connection: sa.Connection, table: sa.Table, rows: pd.DataFrame, alarm_seq: int) -> None:
    if len(rows):
        plain = rows.astype(object).where(rows.notna(), None)
        connection.execute(sa.insert(table), [{**row, "alarm_seq": alarm_seq} for row in plain.to_dict("records")])


def thresholds(connection: sa.Connection, alarm_seq: int) -> list[Threshold]:
    """The limits that the alarms of an entry passed."""
    return [Threshold(**row) for row in connection.execute(_THRESHOLDS, {"alarm_seq": alarm_seq}).mappings()]


def unknown_stations(connection: sa.Connection, alarm_seq: int) -> list[int]:
    """Stations of an entry's alarms that neither a landing file nor the operator's list has named."""
    known = sa.select(tables.station.c.station_id)
    query = sa.select(alarm.c.station_id).distinct().where(
        alarm.c.alarm_seq == alarm_seq, alarm.c.station_id.not_in(known)
    )  # fmt: skip
    return sorted(connection.execute(query).scalars())


def seed_limits(connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Set limits of stations, each a row with station_id, parameter_id, low_limit, high_limit; what is set stays."""
    if not rows:
        return
    t = tables.station_limit.c
    statement = insert(tables.station_limit).values(list(rows))
    kept = {name: sa.func.coalesce(t[name], statement.excluded[name]) for name in ("low_limit", "high_limit")}
    connection.execute(statement.on_conflict_do_update(index_elements=["station_id", "parameter_id"], set_=kept))


def alarmed(connection: sa.Connection, start: datetime, end: datetime) -> pd.DataFrame | None:
    """Alarms of limits within a span: station_id, parameter_id, side, started_at, until; None where the logs leave more
    than `_QUIET` of it unknown.
    """
    given = {"start": start, "end": end}
    reached = start
    for first, last in sorted(tuple(row) for row in connection.execute(_KNOWN, given)):
        if first <= reached + _QUIET:
            reached = max(reached, last)
    if reached + _QUIET < end:
        return None
    rows = connection.execute(_ALARMED, given).mappings().all()
    return pd.DataFrame(rows, columns=["station_id", "parameter_id", "side", "started_at", "until"])
