"""Alerts, silences and planned outages in the terminal. It judges nothing."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from rich.markup import escape
from rich.table import Table

from bts_assets.cli.render.terminal import coloured, out, station_of

if TYPE_CHECKING:
    from bts_assets.services.alarms import AlarmReport

_ALERTS: Final = sa.text("""
    SELECT * FROM bts.alert_status WHERE cleared_at IS NULL OR :every
    ORDER BY cleared_at DESC NULLS FIRST,
             array_position(ARRAY['critical', 'major', 'minor', 'warning'], perceived_severity), raised_at, alert_id
    LIMIT 200
""")
_SILENCES: Final = sa.text("SELECT * FROM bts.silence WHERE until > now() ORDER BY silence_id")
_OUTAGES: Final = sa.text("""
    SELECT o.*, s.name AS station FROM bts.planned_outage AS o LEFT JOIN bts.station AS s USING (station_id)
    WHERE ends_at > now() - interval '7 days' ORDER BY starts_at, outage_id LIMIT 500
""")


def show_alerts(engine: sa.Engine, every: bool) -> None:
    """One line per alert, the gravest first, then the silences that run."""
    with engine.connect() as connection:
        rows = connection.execute(_ALERTS, {"every": every}).mappings().all()
        silences = connection.execute(_SILENCES).mappings().all()
    if rows:
        _print(("alert", "severity", "state", "since (UTC)", "what"), map(_alert_cells, rows))
        if fresh := [row["alert_id"] for row in rows if row["state"] == "open"]:
            out.print(f"\nbts alerts ack {fresh[0]} takes the first over; bts alerts silence mutes a station")
    else:
        out.print("no alert is open" if not every else "there was never an alert")
    for error in sorted({row["delivery_error"] for row in rows if row["delivery_error"]}):
        out.print(f"  told again later: {escape(error)}")
    for row in silences:
        what = " ".join(f"{k} {row[f'{k}_id']}" for k in ("station", "parameter") if row[f"{k}_id"] is not None)
        out.print(
            f"  silence {row['silence_id']}: {what} until {row['until']:%Y-%m-%d %H:%M} UTC, {escape(row['reason'])}"
        )


def show_outages(engine: sa.Engine) -> None:
    """One line per planned outage."""
    with engine.connect() as connection:
        rows = connection.execute(_OUTAGES).mappings().all()
    if not rows:
        out.print("no outage is planned")
        return
    _print(
        ("outage", "station", "from (UTC)", "until (UTC)", "why"),
        (
            (
                str(row["outage_id"]),
                escape(station_of(row)),
                f"{row['starts_at']:%Y-%m-%d %H:%M}",
                f"{row['ends_at']:%Y-%m-%d %H:%M}",
                escape(row["reason"]),
            )
            for row in rows
        ),
    )


def show_alarm_report(name: str, report: "AlarmReport") -> None:
    """What became of an alarm log, and a line on each thing that is odd about it."""
    if report.status == "unchanged":
        out.print(f"{escape(name)}: unchanged")
        return
    out.print(
        f"{escape(name)}: {report.status}, {report.rows:,} rows: {report.accepted:,} alarms, {report.rejected:,}"
        f" rejected, {report.duplicate:,} duplicate; {report.limits:,} limits set"
    )
    for reason, rows in report.rejected_by_reason.items():
        out.print(f"  rejected: {rows:,} {reason}")
    for note in report.notes:
        out.print(f"  {note}", markup=False)


def _alert_cells(row: sa.RowMapping) -> tuple[str, ...]:
    why = row["suppressed_by"] or row["acknowledgement"]
    why = None if why == row["state"] else why  # nobody gave a reason
    told = ", told" if row["told_at"] else ", not told" if row["delivery_error"] else ""
    state = f"{row['state']}{f' ({escape(why)})' if why else told}"
    return (
        str(row["alert_id"]),
        coloured(row["perceived_severity"]),
        state,
        f"{row['raised_at']:%Y-%m-%d %H:%M}",
        escape(row["summary"]),
    )


def _print(names: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in names:
        table.add_column(name)
    for row in rows:
        table.add_row(*row)
    out.print(table)
