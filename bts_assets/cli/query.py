"""One series' forecast with its history, and the result of any query, as the terminal shows them."""

import csv
import json
import math
import sys
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal

import sqlalchemy as sa

from bts_assets.contracts.errors import BtsError, UsageError
from bts_assets.contracts.quantiles import QUANTILE_COLUMNS
from bts_assets.contracts.text import counted, iso_duration, printable
from bts_assets.services.home import open_home, reading_engine
from bts_assets.storage.read_only_query import read_rows
from bts_assets.storage.series_names import series_meant

Form = Literal["table", "csv", "json"]

if TYPE_CHECKING:
    from bts_assets.plots.forecast import Forecast
    from bts_assets.settings import Settings


def series_forecast(
    settings: "Settings", station: int | str, parameter: int | str, batch_id: int | None = None
) -> "tuple[Forecast, str]":
    """One series of a batch, by default of the one that serves, with the history behind it, and a line about it.

    Station and parameter are numbers, or text that names them (`series_meant`).

    Raises:
        BtsError: if there is no such forecast; why, if the ledger knows.
    """
    import numpy as np

    from bts_assets.plots.forecast import Forecast
    from bts_assets.storage.station_limits import limits_of_series

    home = open_home(settings, to_read=True)
    station, parameter = series_meant(home.engine, str(station), str(parameter))
    with home.engine.connect() as connection:
        if batch_id is None:
            batch_id = connection.scalar(sa.text("SELECT batch_id FROM bts.latest_batch"))
        if batch_id is None:
            raise BtsError(f"nothing was published in {settings.home} yet: run bts nightly")
        key = {"batch": batch_id, "station": station, "parameter": parameter}
        status = connection.execute(sa.text(_STATUS), key).mappings().first()
        if status is None:
            raise UsageError(
                f"the latest batch has no series of station {station}, parameter {parameter};"
                ' see which it has: bts sql "SELECT * FROM bts.series_status"'
            )
        if status["status"] == "excluded":
            raise BtsError(
                f"station {station}, parameter {parameter} is excluded from the latest batch: {status['reason']}"
            )
        quantiles = connection.execute(sa.text(_FORECAST), key).all()
        span = {"start": status["input_start"], "end": status["issued_at"]}
        observed = connection.execute(sa.text(_HISTORY), key | span).all()
        entry = home.catalogue.of(parameter)
        low, high = limits_of_series(connection, station, entry)
    step = timedelta(seconds=status["step_seconds"])
    history = np.full((status["issued_at"] - status["input_start"]) // step, np.nan)
    for observed_at, value in observed:
        history[(observed_at - status["input_start"]) // step] = value
    shown = Forecast(
        title=f"{entry.name}, {status['station'] or f'station {station}'}",
        unit=entry.unit,
        step=step,
        issued_at=status["issued_at"],
        history=history,
        quantiles=np.array(quantiles, dtype=np.float64),
        low_limit=low,
        high_limit=high,
    )
    why = f" ({status['reason']})" if status["reason"] else ""
    about = (
        f"batch {batch_id}, origin {status['issued_at']:%Y-%m-%d %H:%M} UTC, {status['status']} by"
        f" {status['source']}{why}, model version {status['model_version_id']}"
    )
    return shown, about


_STATUS: Final = """
    SELECT l.status, l.source, l.reason, s.name AS station, b.*
    FROM bts.forecast_ledger AS l JOIN bts.batch AS b USING (batch_id) LEFT JOIN bts.station AS s USING (station_id)
    WHERE l.batch_id = :batch AND l.station_id = :station AND l.parameter_id = :parameter
"""
_FORECAST: Final = f"""
    SELECT {", ".join(QUANTILE_COLUMNS)} FROM bts.forecast
    WHERE batch_id = :batch AND station_id = :station AND parameter_id = :parameter ORDER BY step_ahead
"""
_HISTORY: Final = """
    SELECT observed_at, value FROM bts.observation
    WHERE station_id = :station AND parameter_id = :parameter AND observed_at >= :start AND observed_at < :end
"""


def one_to_show(settings: "Settings", batch_id: int) -> tuple[int, int] | None:
    """The series of a batch to draw: of those heard of in the last day, if any, a grid load, and one that is no
    fallback, if there is one.

    None: nothing was forecast, or its forecasts were pruned.
    """
    query = sa.text(
        "SELECT station_id, parameter_id FROM bts.forecast_ledger JOIN bts.batch USING (batch_id)"
        " WHERE batch_id = :batch AND status <> 'excluded' AND pruned_at IS NULL"
        " ORDER BY coalesce(last_observed_at >= issued_at - interval '1 day', false) DESC, parameter_id = 122 DESC,"
        " status = 'forecast' DESC, station_id, parameter_id LIMIT 1"
    )
    with open_home(settings, to_read=True).engine.connect() as connection:
        row = connection.execute(query, {"batch": batch_id}).first()
    return (row[0], row[1]) if row else None


def print_query(settings: "Settings", query: str, form: Form) -> None:
    """Run one query as a role that can only read, and print its rows.

    Raises:
        BtsError: what Postgres says of the query, in one line.
    """
    names, rows = read_rows(reading_engine(settings), query)
    if form == "json":
        print_json(names, rows)
        return
    cells = [[_cell(v) for v in row] for row in rows]
    if form == "table":
        _print_table(names, cells)
        return
    # A file or a program gets what is there; a terminal gets nothing that could steer it.
    shown = [[printable(c) for c in row] for row in cells] if sys.stdout.isatty() else cells
    writer = csv.writer(sys.stdout)
    writer.writerow(names)
    writer.writerows(shown)


def _print_table(names: list[str], rows: list[list[str]]) -> None:
    """Columns as wide as their widest cell, like psql's: whole rows, to be read or piped."""
    names, rows = [printable(n, "") for n in names], [[printable(cell, "") for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(names, *rows, strict=True)]
    lines = [
        " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [names, *rows]
    ]
    lines.insert(1, "-+-".join("-" * width for width in widths))
    sys.stdout.write("\n".join(lines) + f"\n({counted(len(rows), 'row')})\n")


def print_json(names: list[str], rows: Sequence[Sequence[Any]]) -> None:
    """An array of objects, a line each: numbers as numbers, times in ISO 8601, JSON of the database as it is."""
    lines = [json.dumps(dict(zip(names, map(_finite, row), strict=True)), default=_plain) for row in rows]
    sys.stdout.write("[" + ",\n ".join(lines) + "]\n")


def _finite(value: Any) -> Any:
    """JSON knows no NaN and no infinity: they are null, in arrays as well."""
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return iso_duration(value)
    return float(value) if isinstance(value, Decimal) else str(value)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict | list):
        return json.dumps(value, default=_plain)
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    if isinstance(value, timedelta):
        return iso_duration(value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)
