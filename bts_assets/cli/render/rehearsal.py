"""What a rehearsal came to, as the terminal shows it, and its picture."""

from datetime import datetime, timedelta

from rich.markup import escape
from rich.table import Table

from bts_assets.cli.render.terminal import out
from bts_assets.monitoring.rehearsal import FaultReport, Report
from bts_assets.plots import rehearsal as plots


def show_report(report: Report) -> None:
    """A row per planted fault, a line per false alarm, and the figures of all."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("fault", "began", "harm", "noticed", "as", "before or after"):
        table.add_column(name, no_wrap=True)
    for row in report.faults:
        noticed = row.first.at if row.first else None
        table.add_row(
            _name(row),
            _at(row.fault.began_at),
            _at(row.fault.happened_at),
            _at(noticed),
            escape(row.first.how) if row.first else "not noticed",
            _apart(row),
        )
    out.print(table)
    for alarm in report.false_alarms:
        out.print(f"  false: {alarm.notice.at:%Y-%m-%d %H:%M}, {escape(alarm.notice.how)}: {escape(alarm.notice.what)}")
    lead = report.median_lead
    told = "none came true" if lead is None else f"median lead {_hours(lead)} of {len(report.leads)} that came true"
    out.print(f"expected breaches: {told}")
    out.print(
        f"{len(report.judged)} notices, {len(report.false_alarms)} false:"
        f" {report.false_per_1000:.2f} per 1,000 series-nights ({report.series_nights:,})"
    )
    if report.unplanted_drift:
        out.print(f"{len(report.unplanted_drift)} tell of drift that nobody planted and that lasted")


def picture_of(report: Report, start: datetime, end: datetime) -> bytes:
    lines = [
        plots.Line(_name(row), row.fault.began_at, row.first.at if row.first else None, row.fault.happened_at)
        for row in report.faults
    ]
    false = [alarm.notice.at for alarm in report.false_alarms]
    caption = (
        f"bts rehearse: {len(report.judged)} notices in {report.series_nights:,} series-nights, {len(false)} false"
    )
    return plots.rehearsal(lines, false, start, end, caption)


def _name(row: FaultReport) -> str:
    sensor = f" {row.fault.parameter_id}" if row.fault.parameter_id is not None else ""
    return row.fault.kind.replace("_", " ") + sensor


def _at(instant: datetime | None) -> str:
    return "" if instant is None else f"{instant:%m-%d %H:%M}"


def _apart(row: FaultReport) -> str:
    """By how much it was noticed before its harm, or after."""
    if row.first is None or row.fault.happened_at is None:
        return ""
    apart = row.fault.happened_at - row.first.at
    return f"{_hours(apart)} before" if apart >= timedelta(0) else f"{_hours(-apart)} after"


def _hours(span: timedelta) -> str:
    return f"{span / timedelta(hours=1):.1f} h"
