"""What is watched, in the terminal: the state of the night, breaches that are expected, accuracy. It judges nothing."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from rich.markup import escape
from rich.table import Table

from bts_assets.cli.render.terminal import coloured, out, station_of
from bts_assets.contracts.text import counted, percent
from bts_assets.storage.accuracy import accuracy_of_week

_BATCH: Final = sa.text("SELECT * FROM bts.latest_batch")
_CHAMPION: Final = sa.text(
    "SELECT model_version_id, training_end, now() - training_end AS age FROM bts.version_status WHERE role = 'champion'"
    " ORDER BY model_version_id DESC LIMIT 1"
)
_GRAVEST: Final = sa.text(
    "SELECT how_sure, perceived_severity, count(*) FROM bts.predicted_breach WHERE probability_48h >= 0.1 GROUP BY 1, 2"
)
_FILES: Final = sa.text("""
    WITH standing AS (
        SELECT * FROM bts.ingest_ledger WHERE taken_at > now() - interval '1 day' AND superseded_by IS NULL
    ), reason AS (
        SELECT key AS reason, sum(value::bigint) AS rows FROM standing, jsonb_each_text(rejected_by_reason) GROUP BY key
        ORDER BY rows DESC, key LIMIT 1
    )
    SELECT count(*) AS files, count(*) FILTER (WHERE status = 'refused') AS refused,
           count(*) FILTER (WHERE status = 'unusable') AS unusable, coalesce(sum(rejected), 0)::bigint AS rejected,
           coalesce(sum(rejected) / nullif(sum(rows), 0), 0)::float AS share, (SELECT reason FROM reason) AS reason
    FROM standing
""")
#: From this share of rejected rows on, status shows them in yellow.
_MANY_REJECTED: Final = 0.05
_NOW: Final = sa.text("SELECT count(*) FROM bts.current_breach")
_FOUND: Final = sa.text(
    "SELECT count(*) AS findings, count(DISTINCT station_id) AS stations FROM bts.maintenance_finding"
)
_ALERTS: Final = sa.text("""
    SELECT count(*) FILTER (WHERE state = 'open') AS open, count(*) FILTER (WHERE state <> 'open') AS quiet,
           count(*) FILTER (WHERE state = 'open' AND delivery_error IS NOT NULL AND told_at IS NULL) AS untold
    FROM bts.alert_status WHERE cleared_at IS NULL
""")
_ORDER: Final = ("critical", "major", "minor", "warning")


def show_status(engine: sa.Engine, home: Path) -> None:
    """One screen: the served batch, its model and recent accuracy, expected breaches, files taken in."""
    with engine.connect() as connection:
        batch = connection.execute(_BATCH).mappings().first()
        champion = connection.execute(_CHAMPION).mappings().first()
        week = accuracy_of_week(connection)
        gravest = {(sure, severity): int(number) for sure, severity, number in connection.execute(_GRAVEST)}
        beyond, files = connection.scalar(_NOW), connection.execute(_FILES).mappings().one()
        alerts = connection.execute(_ALERTS).mappings().one()
        worn = connection.execute(_FOUND).mappings().one()
    table = _plain_table()
    if batch is None:
        table.add_row("forecasts", "[red]none[/red]: nothing was ever published; run bts nightly")
    else:
        for name, text in _batch_lines(batch):
            table.add_row(name, text)
    if champion:
        table.add_row(
            "model", f"version {champion['model_version_id']}, trained on data until {_long(champion['age'])} ago"
        )
    table.add_row("accuracy", _accuracy_line(week))
    table.add_row("breaches", f"{_breaches_line(gravest)}; {beyond} series beyond a limit now")
    table.add_row("equipment", _equipment_line(worn))
    table.add_row("alerts", _alerts_line(alerts))
    table.add_row("landing files", _files_line(dict(files)))
    out.print(f"[bold]{escape(str(home))}[/bold]")
    out.print(table)
    out.print("  bts breaches, bts alerts, bts drift, bts accuracy and bts versions say more", style="dim")


def _files_line(files: Mapping[str, Any]) -> str:
    """What became of the files of the last day, each as it was read last."""
    line = f"{files['files']:,} in the last day, {files['refused']:,} refused"
    if files["unusable"]:
        line += f", {files['unusable']:,} without a reading"
    if files["rejected"]:
        line += f"; {files['rejected']:,} rows rejected ({percent(files['share'], 1)}), most of them: {files['reason']}"
    bad = files["refused"] or files["unusable"] or files["share"] >= _MANY_REJECTED
    return f"[yellow]{escape(line)}[/yellow]: bts.ingest_ledger" if bad else escape(line)


def show_breaches(engine: sa.Engine, least: float, region: str | None) -> None:
    """One line per series and limit that may be passed, the gravest first."""
    with engine.connect() as connection:
        rows = connection.execute(_BREACHES, {"least": least, "region": region}).mappings().all()
        now = connection.execute(_BEYOND, {"region": region}).mappings().all()
        batch = connection.execute(_BATCH).mappings().first()
    if batch is None:
        out.print("nothing was published yet: run bts nightly")
        return
    out.print(
        f"[bold]Batch {batch['batch_id']}, origin {batch['issued_at']:%Y-%m-%d %H:%M} UTC[/bold], {batch['state']}"
    )
    if rows:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for name in ("severity", "station", "what", "6 h", "24 h", "48 h", "likely from (UTC)", "expected worst"):
            table.add_column(name, justify="right" if name.endswith(" h") or name == "expected worst" else "left")
        for row in rows:
            table.add_row(*_breach_cells(row))
        out.print(table)
    else:
        out.print("  no limit is likely to be passed within 48 h")
    for row in now:
        side = "above" if row["side"] == "high" else "below"
        out.print(
            f"  now: {escape(station_of(row))}, {escape(str(row['parameter']))} {row['value']:.4g} {row['unit']},"
            f" {side} {row['limit_value']:g}, observed at {row['observed_at']:%Y-%m-%d %H:%M} UTC"
        )


def show_accuracy(engine: sa.Engine, days: int, worst: int) -> None:
    """A row per parameter, and per challenger in shadow, beside the baselines; then the series that were worst."""
    with engine.connect() as connection:
        rows = connection.execute(_ACCURACY, {"days": days}).mappings().all()
        series = connection.execute(_WORST, {"worst": worst}).mappings().all()
    if not rows:
        out.print("no forecast has come true yet: scores come with the night after a batch")
        return
    table = Table(box=None, padding=(0, 1, 0, 0))
    numbers = ("nights", "series", "MASE", "best baseline", "error", "80 % coverage", "90 % coverage")
    for name in ("parameter", *numbers):
        table.add_column(name, justify="left" if name == "parameter" else "right")
    for row in rows:
        table.add_row(*_accuracy_cells(row))
    past = "" if rows[0]["kind"] == "live" else f", {rows[0]['kind'].replace('_', '-')}: there are no live ones"
    out.print(
        f"[bold]Forecasts of the last {days} scored {'day' if days == 1 else 'days'}[/bold],"
        f" {counted(max(row['nights'] for row in rows), 'night')}{past}"
    )
    out.print(table)
    out.print(
        "  MASE: the mean absolute error, divided by the mean difference between values a day apart in the days",
        style="dim",
    )
    out.print(
        "  before; forecasts are worth it where it is below the best baseline's, which may itself be above 1",
        style="dim",
    )
    for row in series:
        beside = _BASELINES.get(row["best_baseline"], row["best_baseline"])
        out.print(
            f"  worst: {escape(station_of(row))}, {escape(str(row['parameter']))}:"
            f" {row['ratio_to_best_baseline']:.2f} times the error of its best baseline ({beside}), error {_error(row)}"
        )


_BREACHES: Final = sa.text("""
    SELECT * FROM bts.predicted_breach
    WHERE probability_48h >= :least AND (CAST(:region AS text) IS NULL OR region = :region)
    ORDER BY array_position(ARRAY['critical', 'major', 'minor', 'warning'], perceived_severity),
             first_likely_at NULLS LAST, probability_48h DESC, station_id, parameter_id
    LIMIT 100
""")
_BEYOND: Final = sa.text(
    "SELECT * FROM bts.current_breach WHERE CAST(:region AS text) IS NULL OR region = :region"
    " ORDER BY station_id, parameter_id LIMIT 20"
)
#: Baselines, as the terminal names them.
_BASELINES: Final = {
    "last_value": "last value",
    "seasonal_naive_day": "yesterday",
    "seasonal_naive_week": "last week",
    "window_median": "day median",
}
#: The best baseline is that of the lowest error over all nights and versions.
_ACCURACY: Final = sa.text("""
    WITH baseline AS (
        SELECT parameter_id, role, candidate,
               sum(mase * targets) / nullif(sum(targets) FILTER (WHERE mase IS NOT NULL), 0) AS mase
        FROM bts.forecast_accuracy JOIN bts.scored_kind USING (days, kind)
        WHERE days = :days AND candidate <> 'served' GROUP BY parameter_id, role, candidate
    ), best AS (
        SELECT DISTINCT ON (parameter_id, role) parameter_id, role, candidate AS baseline, mase AS baseline_mase
        FROM baseline ORDER BY parameter_id, role, mase NULLS LAST, candidate
    )
    SELECT parameter, unit, role, baseline, baseline_mase, min(kind) AS kind,
           CASE WHEN role <> 'served' THEN model_version_id END AS shadow,
           sum(nights) FILTER (WHERE candidate = 'served') AS nights, max(series) AS series,
           sum(mase * targets) FILTER (WHERE candidate = 'served')
               / nullif(sum(targets) FILTER (WHERE candidate = 'served' AND mase IS NOT NULL), 0) AS mase,
           sum(mae * targets) FILTER (WHERE candidate = 'served')
               / sum(targets) FILTER (WHERE candidate = 'served') AS mae,
           sum(coverage80 * targets) FILTER (WHERE candidate = 'served')
               / sum(targets) FILTER (WHERE candidate = 'served') AS coverage80,
           sum(coverage90 * targets) FILTER (WHERE candidate = 'served')
               / sum(targets) FILTER (WHERE candidate = 'served') AS coverage90
    FROM bts.forecast_accuracy JOIN bts.scored_kind USING (days, kind) LEFT JOIN best USING (parameter_id, role)
    WHERE days = :days
    GROUP BY parameter_id, parameter, unit, role, baseline, baseline_mase, shadow
    HAVING sum(targets) FILTER (WHERE candidate = 'served') > 0
    ORDER BY parameter_id, role <> 'served', shadow
""")
_WORST: Final = sa.text("SELECT * FROM bts.worst_series WHERE ratio_to_best_baseline IS NOT NULL LIMIT :worst")


def _batch_lines(batch: Mapping[Any, Any]) -> list[tuple[str, str]]:
    newest = (
        ""
        if batch["last_observed_at"] is None
        else f", newest observation {batch['last_observed_at']:%Y-%m-%d %H:%M} UTC"
    )
    return [
        (
            "forecasts",
            f"{coloured(batch['state'])}: batch {batch['batch_id']} of origin {batch['issued_at']:%Y-%m-%d %H:%M} UTC,"
            f" {_long(batch['age'])} old, until {batch['forecasts_end_at']:%Y-%m-%d %H:%M} UTC",
        ),
        (
            "series",
            f"{batch['series']:,}: {batch['forecast']:,} forecast, {batch['fallback']:,} fallback,"
            f" {batch['excluded']:,} excluded{newest}",
        ),
    ]


def _breaches_line(gravest: Mapping[tuple[str, str], int]) -> str:
    """`likely within 48 h: critical 1, minor 3; possible: warning 4`; none is told as none."""
    told = []
    for sure, words in (("likely", "likely within 48 h"), ("possible", "possible")):
        counts = ", ".join(f"{coloured(k)} {gravest[sure, k]}" for k in _ORDER if (sure, k) in gravest)
        told.append(f"{words}: {counts or 'none'}")
    return "; ".join(told)


def _equipment_line(worn: Mapping[Any, Any]) -> str:
    if not worn["findings"]:
        return "nothing found that wears out"
    found, at = worn["findings"], worn["stations"]
    return (
        f"{found} finding{'s' * (found > 1)} of what wears out, at {at} station{'s' * (at > 1)}: bts.maintenance_list"
    )


def _alerts_line(alerts: Mapping[Any, Any]) -> str:
    quiet = f", {alerts['quiet']} acknowledged or suppressed" if alerts["quiet"] else ""
    untold = f", [red]{alerts['untold']} could not be told[/red]" if alerts["untold"] else ""
    return f"{alerts['open'] or 'none'} open{quiet}{untold}"


def _accuracy_line(week: Mapping[str, Mapping[Any, Any]]) -> str:
    served, naive = week.get("served"), week.get("last_value")
    if served is None or served["mase"] is None:
        return "no forecast has come true yet"
    beside = "" if naive is None or naive["mase"] is None else f" (last value {naive['mase']:.3f})"
    covers = f"the 80 % interval covers {percent(served['coverage80'], 1)}"
    over = f"over {counted(served['nights'], 'night')} of the last 7 scored days"
    return f"median MASE {served['mase']:.3f}{beside}, {covers}, {over}"


def _accuracy_cells(row: Mapping[Any, Any]) -> list[str]:
    name = str(row["parameter"]) if row["role"] == "served" else f"  version {row['shadow']} in shadow"
    own, best = ("" if row[k] is None else f"{row[k]:,.3f}" for k in ("mase", "baseline_mase"))
    scaled = [own, best and f"{_BASELINES.get(row['baseline'], row['baseline'])} {best}"]
    shares = [percent(row[k], 1) for k in ("coverage80", "coverage90")]
    return [escape(name), str(row["nights"]), f"{row['series']:,}", *scaled, _error(row), *shares]


def _error(row: Mapping[Any, Any]) -> str:
    size = f"{row['mae']:,.3g}" if row["mae"] < 1000 else f"{row['mae']:,.0f}"
    return f"{size} {row['unit'] or ''}".strip()


def _breach_cells(row: Mapping[Any, Any]) -> list[str]:
    side = "above" if row["side"] == "high" else "below"
    first = "" if row["first_likely_at"] is None else f"{row['first_likely_at']:%Y-%m-%d %H:%M}"
    return [
        coloured(row["perceived_severity"]),
        escape(station_of(row)),
        escape(f"{row['parameter']} {side} {row['limit_value']:g} {row['unit'] or ''}".rstrip()),
        *(percent(row[f"probability_{h}h"]) for h in (6, 24, 48)),
        first,
        escape(f"{row['expected_worst']:.4g} {row['unit'] or ''}".rstrip()),
    ]


def _long(age: timedelta) -> str:
    hours = age.total_seconds() / 3600
    return f"{hours:.0f} h" if hours < 72 else f"{hours / 24:.0f} days"


def _plain_table() -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
    table.add_column(style="dim")
    table.add_column()
    return table
