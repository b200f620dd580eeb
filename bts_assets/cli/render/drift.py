"""Drift and faulty sensors in the terminal: what has changed, since when, by how much. It judges nothing."""

from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa
from rich.markup import escape
from rich.table import Table

from bts_assets.cli.render.terminal import coloured, out
from bts_assets.contracts.text import counted, percent

_NIGHT: Final = sa.text("SELECT * FROM bts.drift_night ORDER BY issued_at DESC LIMIT 1")
_DRIFT: Final = sa.text("""
    SELECT * FROM bts.drift
    WHERE (alarm OR :every) AND (CAST(:region AS text) IS NULL OR region = :region)
    ORDER BY alarm DESC, array_position(ARRAY['parameter', 'station', 'series'], scope), evidence - bound DESC,
        station_id, parameter_id
""")
_FAULTS: Final = sa.text("""
    SELECT * FROM bts.sensor_fault WHERE (CAST(:region AS text) IS NULL OR region = :region)
    ORDER BY parameter_id NULLS FIRST, fault, station_id
""")
#: What a fault's figure says, and what it is in.
_FIGURES: Final = {
    "missing": "{share} of the last day observed",
    "stuck": "at {:g} {unit}",
    "flat_lined": "at {:g} {unit}",
    "mis_scaled": "about {:g} times what it was",
    "clock_shifted": "its days run {:+g} h off",
    "clock_set_back": "{:.1f} h of its readings are dated to times that it had reported before",
    "clock_ahead": "its newest reading lies {:.1f} h ahead of now",
}


def show_drift(engine: sa.Engine, every: bool, region: str | None) -> None:
    """The alarms of the newest night, whole parameters and stations first; then faults."""
    with engine.connect() as connection:
        night = connection.execute(_NIGHT).mappings().first()
        rows = connection.execute(_DRIFT, {"every": every, "region": region}).mappings().all()
        faults = connection.execute(_FAULTS, {"region": region}).mappings().all()
    if night is None:
        out.print("no night was looked at for drift yet: run bts nightly")
        return
    out.print(f"[bold]Night of {night['issued_at']:%Y-%m-%d %H:%M} UTC[/bold], {_compared(night)}")
    if rows:
        out.print(_drifting(rows))
    else:
        out.print("  nothing has changed as far as these nights tell")
    for row in faults:
        out.print(_fault(row))
    if not faults:
        out.print("  no sensor or station is seen to report wrongly")


def _compared(night: Mapping[Any, Any]) -> str:
    inputs = f"{counted(night['nights'], 'night')} of inputs beside {night['reference_nights']} of its training"
    errors = f"{night['scored_nights']} of errors beside {night['reference_scored_nights']} before"
    return f"model version {night['model_version_id']}: {inputs}, {errors}"


def _drifting(rows: Any) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("drift", "where", "what", "change", "nights", "evidence", "bound"):
        table.add_column(name, justify="left" if name in ("drift", "where", "what") else "right")
    for row in rows:
        table.add_row(
            coloured(row["kind"] or "not yet"),
            escape(_where(row)),
            f"{row['figure']} of {row['parameter']}" if row["parameter"] else str(row["figure"]),
            _change(row),
            str(row["nights"]),
            f"{row['evidence']:.1f}",
            f"{row['bound']:.1f}",
        )
    return table


def _where(row: Mapping[Any, Any]) -> str:
    if row["station_id"] is None:
        return "the whole network"
    return str(row["station"] or f"station {row['station_id']}")


def _change(row: Mapping[Any, Any]) -> str:
    if row["change"] is None:
        return ""
    return f"{row['change']:+.1f} sigma" if row["figure"] == "level" else f"{100 * row['change']:+.0f} %"


def _fault(row: Mapping[Any, Any]) -> str:
    what = f", {row['parameter']}" if row["parameter"] else ""
    since = f", since {row['since']:%Y-%m-%d %H:%M} UTC" if row["since"] else ""
    told = _FIGURES.get(row["fault"]) if row["figure"] is not None else None
    words = {"unit": row["unit"] or "", "share": "" if told is None else percent(row["figure"])}
    figure = f": {told.format(row['figure'], **words).rstrip()}" if told else ""
    fault = str(row["fault"]).replace("_", " ")
    return escape(f"  {fault}: {_where(row)}{what}{figure}{since}")
