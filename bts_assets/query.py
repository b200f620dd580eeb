"""Reading back for people: one series' forecast with its history, and any query as a table."""

import csv
import sys
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from bts_assets.contracts.errors import BtsError
from bts_assets.contracts.panel import panel_from_observations
from bts_assets.pictures import Forecast
from bts_assets.settings import Settings
from bts_assets.stores.forecasts import QUANTILE_COLUMNS
from bts_assets.stores.home import open_home


def series_forecast(settings: Settings, station: int, parameter: int) -> tuple[Forecast, str]:
    """One series of the batch that serves, with as much history as a model sees, and a line about it.

    Raises:
        BtsError: if there is no such forecast; why, if the ledger knows.
    """
    home, grid = open_home(settings), settings.grid
    key = {"station": station, "parameter": parameter}
    with home.engine.connect() as connection:
        status = connection.execute(
            sa.text("SELECT * FROM bts.series_status WHERE station_id = :station AND parameter_id = :parameter"), key
        ).mappings().first()  # fmt: skip
        if status is None or status["status"] == "excluded":
            raise BtsError(_no_forecast(station, parameter, dict(status) if status else None))
        rows = pd.read_sql(
            sa.text(
                "SELECT * FROM bts.latest_forecast WHERE station_id = :station AND parameter_id = :parameter"
                " ORDER BY step_ahead"
            ),
            connection,
            params=key,
        )
        issued_at = rows["issued_at"].iloc[0].to_pydatetime()
        observed = pd.read_sql(
            sa.text(
                "SELECT station_id, parameter_id, observed_at, value, readings FROM bts.observation"
                " WHERE station_id = :station AND parameter_id = :parameter"
                " AND observed_at >= :start AND observed_at < :end"
            ),
            connection,
            params=key | {"start": issued_at - grid.context, "end": issued_at},
        )
    known = pd.DataFrame({"station_id": [station], "parameter_id": [parameter]})
    panel = panel_from_observations(observed, grid, issued_at - grid.context, issued_at, known)
    entry = home.catalogue.of(parameter)
    shown = Forecast(
        title=f"{entry.name}, station {status['station'] or station}",
        unit=entry.unit,
        step=grid.step,
        issued_at=issued_at,
        history=panel.values[0],
        quantiles=rows[list(QUANTILE_COLUMNS)].to_numpy(np.float64),
        low_limit=entry.low_limit,
        high_limit=entry.high_limit,
    )
    why = f" ({status['reason']})" if status["reason"] else ""
    about = (
        f"batch {rows['batch_id'].iloc[0]}, origin {issued_at:%Y-%m-%d %H:%M} UTC, {status['status']} by"
        f" {status['source']}{why}, model version {rows['model_version_id'].iloc[0]}"
    )
    return shown, about


def one_to_show(settings: Settings) -> tuple[int, int] | None:
    """A series of the latest batch worth drawing: one that the LSTM serves, and a grid load, if there is any."""
    query = sa.text(
        "SELECT station_id, parameter_id FROM bts.series_status WHERE status <> 'excluded'"
        " ORDER BY source = 'lstm' DESC, parameter_id = 122 DESC, station_id, parameter_id LIMIT 1"
    )
    with open_home(settings).engine.connect() as connection:
        row = connection.execute(query).first()
    return (row[0], row[1]) if row else None


def print_query(settings: Settings, query: str, *, as_csv: bool) -> None:
    """Run one query in a read-only transaction, and print its rows.

    Raises:
        BtsError: what Postgres says of the query, in one line.
    """
    with open_home(settings).engine.connect() as connection:
        connection.exec_driver_sql("SET TRANSACTION READ ONLY")
        try:
            result = connection.exec_driver_sql(query.replace("%", "%%"))
            names, rows = (list(result.keys()), list(result)) if result.returns_rows else ([], [])
        except DBAPIError as error:
            raise BtsError(f"the query failed: {str(error.orig).strip().splitlines()[0]}") from None
    if as_csv:
        writer = csv.writer(sys.stdout)
        writer.writerow(names)
        writer.writerows([[_cell(v) for v in row] for row in rows])
    else:
        _print_table(names, [[_cell(v) for v in row] for row in rows])


def _print_table(names: list[str], rows: list[list[str]]) -> None:
    """Columns as wide as their widest cell, like psql's: whole rows, to be read or piped."""
    widths = [max(len(cell) for cell in column) for column in zip(names, *rows, strict=True)]
    lines = [
        " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [names, *rows]
    ]
    lines.insert(1, "-+-".join("-" * width for width in widths))
    sys.stdout.write("\n".join(lines) + f"\n({len(rows)} row{'' if len(rows) == 1 else 's'})\n")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _no_forecast(station: int, parameter: int, status: dict[str, Any] | None) -> str:
    if status is None:
        return (
            f"the latest batch has no series of station {station}, parameter {parameter};"
            ' see which it has: bts sql "SELECT * FROM bts.series_status"'
        )
    return f"station {station}, parameter {parameter} is excluded from the latest batch: {status['reason']}"
