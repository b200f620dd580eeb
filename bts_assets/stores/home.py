"""A home opened: its settings, its database brought up to date, and the stores that rest in it."""

import csv
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from bts_assets.contracts.catalogue import Catalogue, load_catalogue
from bts_assets.contracts.errors import BtsError
from bts_assets.settings import Settings
from bts_assets.stores import embedded, tables
from bts_assets.stores.models import ModelStore
from bts_assets.stores.postgres import claim_grid, connect, is_current, migrate, sqlalchemy_url
from bts_assets.stores.readings import ReadingStore


class StationFileError(BtsError):
    """The station CSV cannot be used."""


@dataclass(frozen=True)
class Home:
    """Everything that a night works with."""

    settings: Settings
    url: str
    engine: sa.Engine
    catalogue: Catalogue

    @cached_property
    def readings(self) -> ReadingStore:
        return ReadingStore(self.settings.home / "readings")

    @cached_property
    def models(self) -> ModelStore:
        return ModelStore(self.settings.home, self.mlflow_tracking_uri)

    @property
    def landing(self) -> Path:
        """The landing folder: the one that is set, else that of the simulated network."""
        return self.settings.landing_dir or simulated_landing(self.settings.home)

    @property
    def mlflow_tracking_uri(self) -> str:
        return self.settings.mlflow_tracking_uri or schema_url(self.url, "mlflow")

    @property
    def dagster_url(self) -> str:
        return schema_url(self.url, "dagster")


def simulated_landing(home: Path) -> Path:
    return home / "simulated" / "landing"


def schema_url(url: str, schema: str) -> str:
    """The same database seen from another schema; Dagster's and MLflow's tables must not meet ours."""
    separator = "&" if "?" in url else "?"
    return f"{sqlalchemy_url(url)}{separator}options=-csearch_path%3D{schema}"


def database_url(settings: Settings) -> str:
    """The libpq URL of the database, the embedded server woken if it is the one."""
    return settings.database_url or embedded.wake(settings.home, settings.idle_stop)


def open_home(settings: Settings) -> Home:
    """Wake and connect to the database, migrate it if need be, and claim its grid.

    Raises:
        BtsError: one line on what to do, if any of it cannot be.
    """
    url = database_url(settings)
    catalogue = load_catalogue()
    engine = connect(url, settings.lock_timeout)
    if not is_current(engine, catalogue):
        migrate(engine, catalogue)
    claim_grid(engine, settings.grid)
    if settings.stations_file:
        _list_stations(engine, settings.stations_file)
    return Home(settings, url, engine, catalogue)


def _list_stations(engine: sa.Engine, file: Path) -> None:
    """Fill `bts.station` from the operator's CSV: station_id and any of the table's columns.

    Raises:
        StationFileError: naming the line that cannot be used.
    """
    try:
        lines = list(csv.DictReader(file.read_text(encoding="utf-8-sig").splitlines()))
    except OSError as error:
        raise StationFileError(f"BTS_STATIONS_FILE={file} cannot be read: {error.strerror}") from None
    rows = []
    for number, line in enumerate(lines, start=2):
        try:
            rows.append(_station_row(line))
        except (KeyError, ValueError) as error:
            raise StationFileError(f"{file}, line {number}: {error}") from None
    if not rows:
        return
    statement = insert(tables.station).values(rows)
    columns = {c.name: statement.excluded[c.name] for c in tables.station.columns if not c.primary_key}
    with engine.begin() as connection:
        connection.execute(statement.on_conflict_do_update(index_elements=["station_id"], set_=columns))


def _station_row(line: dict[str, str]) -> dict[str, Any]:
    if "station_id" not in line:
        raise ValueError("column station_id is missing")
    since = line.get("in_service_since")
    return {
        "station_id": int(line["station_id"]),
        **{name: line.get(name) or None for name in ("name", "region", "timezone")},
        **{name: float(line[name]) if line.get(name) else None for name in ("latitude", "longitude")},
        "in_service_since": date.fromisoformat(since) if since else None,
        "listed": True,
    }
