"""A home opened: its settings, its database brought up to date, and where its data rests."""

import csv
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from bts_assets.contracts.catalogue import Catalogue, load_catalogue
from bts_assets.contracts.errors import InputError
from bts_assets.settings import Settings
from bts_assets.storage import tables
from bts_assets.storage.embedded import server as embedded
from bts_assets.storage.embedded.roles import DAGSTER, MLFLOW, OWNER, READER, WRITER
from bts_assets.storage.postgres import DatabaseError, claim_grid, connect, is_current, migrate, with_options
from bts_assets.storage.schema_state import Standing, standing
from bts_assets.storage.schema_urls import url_into_schema

if TYPE_CHECKING:
    from bts_assets.storage.mlflow_registry import ModelStore
    from bts_assets.storage.readings import ReadingStore

log = logging.getLogger(__name__)


class StationFileError(InputError):
    """The station CSV cannot be used."""


@dataclass(frozen=True)
class Home:
    """Everything that a night works with."""

    settings: Settings
    url: str
    engine: sa.Engine
    catalogue: Catalogue
    urls: Mapping[str, str]  # libpq's of every role

    @cached_property
    def readings(self) -> "ReadingStore":
        from bts_assets.storage.readings import ReadingStore  # Arrow and MLflow only where they are used

        return ReadingStore(self.settings.home / "readings", self.engine)

    @cached_property
    def models(self) -> "ModelStore":
        from bts_assets.storage.mlflow_registry import ModelStore

        return ModelStore(self.settings.home, self.mlflow_tracking_uri)

    @property
    def observing_rule(self) -> str:
        """What observations are computed by: days of another rule are computed anew."""
        from bts_assets.landing.series import rule_of

        return rule_of(self.catalogue, self.settings.reading_ids)

    @property
    def landing(self) -> Path:
        """The landing folder: the one that is set, else that of the simulated network."""
        return self.settings.landing_dir or simulated_landing(self.settings.home)

    @property
    def mlflow_tracking_uri(self) -> str:
        """Raises `DatabaseError` if MLflow's tables would not come into its schema."""
        return self.settings.mlflow_tracking_uri or self._url_into(MLFLOW)

    @property
    def dagster_database_url(self) -> str:
        """Raises `DatabaseError` if Dagster's tables would not come into its schema."""
        return self._url_into(DAGSTER)

    def _url_into(self, schema: str) -> str:
        if self.settings.database_url is None:  # our own server takes what we set
            return with_options(self.urls[schema], search_path=schema)
        return url_into_schema(self.settings.direct_database_url or self.settings.database_url, schema)


def simulated_landing(home: Path) -> Path:
    return home / "simulated" / "landing"


def simulated_stations(settings: Settings) -> Path | None:
    """Names and regions of the simulated network's stations; None: this home has files of its own."""
    listed = settings.home / "simulated" / "truth" / "stations.csv"
    return listed if settings.landing_dir in (None, simulated_landing(settings.home)) and listed.is_file() else None


def has_database(settings: Settings) -> bool:
    """Whether a server is named, or the home has an embedded one already."""
    return settings.database_url is not None or embedded.exists(settings.home)


def require_database(settings: Settings) -> None:
    """Refuse to go on where nothing was made yet: a command that only looks, in a wrong folder, leaves nothing there.

    Raises:
        DatabaseError: saying what makes it, and how to name another place.
    """
    if not has_database(settings):
        raise DatabaseError(
            f"nothing is in {settings.home} yet: run bts nightly (BTS_HOME and BTS_DATABASE_URL name another place)"
        )


def role_urls(settings: Settings, *, creates: bool = False) -> dict[str, str]:
    """The libpq URL of the database for each role, the embedded server woken if it is the one.

    A server of the user's own may have one role for everything; Dagster's and MLflow's are then found by their schemas.
    `creates`: the home may be made.

    Raises:
        DatabaseError: if nothing was made in this home yet, and the caller does not create it.
        EmbeddedPostgresError: if the embedded server does not start.
    """
    if not creates:
        require_database(settings)
    if settings.database_url is None:
        embedded.wake(settings.home, settings.idle_stop)
        return embedded.role_urls(settings.home)
    reader = settings.reader_database_url or settings.database_url
    return {OWNER: settings.database_url, WRITER: settings.database_url, READER: reader}


def wake(settings: Settings) -> None:
    """Start the embedded server again if it is gone; a server of the user's own comes back by itself, or not.

    Raises:
        EmbeddedPostgresError: if it does not start.
    """
    role_urls(settings)


def open_home(
    settings: Settings,
    *,
    to_read: bool = False,
    migrates: bool = True,
    say: Callable[[str], None] | None = None,
) -> Home:
    """Wake and connect to the database, bring its schema up to date, and claim its grid.

    `to_read`: change nothing, in sessions that cannot; a schema that this code cannot read is refused. `migrates`:
    false refuses it too, but the home may be written to. `say`: told in one line what was done to the schema.

    Raises:
        BtsError: one line on what to do, if any of it cannot be.
    """
    catalogue = load_catalogue(settings.catalogue)
    urls = role_urls(settings, creates=migrates and not to_read)
    engine = connect(urls[WRITER], settings.lock_timeout, read_only=to_read)
    if not is_current(engine, catalogue):
        _bring_up(settings, urls[OWNER], catalogue, say or log.info, changes=migrates and not to_read)
    home = Home(settings, urls[WRITER], engine, catalogue, urls)
    if not to_read:
        claim_grid(engine, settings.grid)
        if (stations := settings.stations_file or simulated_stations(settings)) is not None:
            _list_stations(engine, stations)
    return home


def reading_engine(settings: Settings) -> sa.Engine:
    """The database as its reader sees it, for queries that others wrote; the schema is not changed.

    Raises:
        BtsError: if it cannot be reached, or holds no schema that this code reads.
    """
    urls = role_urls(settings)
    engine = connect(urls[READER], settings.lock_timeout, read_only=True)
    catalogue = load_catalogue(settings.catalogue)
    if not is_current(engine, catalogue):
        _bring_up(settings, urls[OWNER], catalogue, log.info, changes=False)
    return engine


def schema_standing(settings: Settings) -> Standing:
    """What the schema of a database is to this code; it is not changed.

    Raises:
        BtsError: if the database cannot be reached.
    """
    engine = connect(role_urls(settings)[OWNER], settings.lock_timeout, read_only=True)
    try:
        with engine.connect() as connection:
            return standing(connection, load_catalogue(settings.catalogue))
    finally:
        engine.dispose()


def may_create_schemas(settings: Settings) -> bool:
    """Whether the owner's role may make schema `bts` in the database.

    Raises:
        BtsError: if the database cannot be reached.
    """
    engine = connect(role_urls(settings)[OWNER], settings.lock_timeout, read_only=True)
    try:
        with engine.connect() as connection:
            may = sa.text("SELECT has_database_privilege(current_database(), 'CREATE')")
            return bool(connection.scalar(may))
    finally:
        engine.dispose()


def migrate_home(settings: Settings) -> str:
    """Bring the schema of a home up to date, as its owner; what was done, in a line.

    Raises:
        BtsError: one line on what is in the way.
    """
    engine = connect(role_urls(settings, creates=True)[OWNER], settings.lock_timeout)
    try:
        return migrate(engine, load_catalogue(settings.catalogue))
    finally:
        engine.dispose()


def _bring_up(settings: Settings, url: str, catalogue: Catalogue, say: Callable[[str], None], *, changes: bool) -> None:
    """As the owner: a writer need not be able to look at what it was not granted yet."""
    engine = connect(url, settings.lock_timeout, read_only=not changes)
    try:
        if changes:
            say(migrate(engine, catalogue))
            return
        with engine.connect() as connection:
            refusal = standing(connection, catalogue).refusal()
        if refusal:
            raise refusal
    finally:
        engine.dispose()


def _list_stations(engine: sa.Engine, file: Path) -> None:
    """Fill `bts.station` from the operator's CSV: station_id and any of the table's columns.

    Raises:
        StationFileError: naming the line that cannot be used.
    """
    rows = _read_stations(file)
    if not rows:
        return
    statement = insert(tables.station).values(rows)
    columns = {c.name: statement.excluded[c.name] for c in tables.station.columns if not c.primary_key}
    with engine.begin() as connection:
        connection.execute(statement.on_conflict_do_update(index_elements=["station_id"], set_=columns))


def _read_stations(file: Path) -> list[dict[str, Any]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise StationFileError(f"BTS_STATIONS_FILE={file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise StationFileError(f"BTS_STATIONS_FILE={file} is not UTF-8 text; save it as CSV in UTF-8") from None
    lines = csv.DictReader(StringIO(text, newline=""))
    rows: dict[int, dict[str, Any]] = {}
    try:
        if "station_id" not in (lines.fieldnames or ()):
            raise ValueError("column station_id is missing")
        for line in lines:
            row = _station_row(line)
            if row["station_id"] in rows:
                raise ValueError(f"station {row['station_id']} is listed twice")
            rows[row["station_id"]] = row
    except (ValueError, csv.Error) as error:
        raise StationFileError(f"{file}, line {lines.line_num}: {error}") from None
    return list(rows.values())


def _station_row(line: dict[str, str | None]) -> dict[str, Any]:
    row: dict[str, Any] = {"listed": True}
    for name, (read, wanted) in _CELLS.items():
        cell = (line.get(name) or "").strip()
        try:
            row[name] = read(cell) if cell or name == "station_id" else None
        except (ValueError, KeyError, OSError):
            raise ValueError(f"{name} is {cell!r}; it must be {wanted}") from None
    return row


def _within(low: float, high: float, kind: Callable[[str], Any]) -> Callable[[str], Any]:
    def read(cell: str) -> Any:
        value = kind(cell)
        if not low <= value <= high:
            raise ValueError
        return value

    return read


def _text(cell: str) -> str:
    if "\0" in cell:
        raise ValueError
    return cell


#: Column of the station file -> how its cells are read, and what they must be.
_CELLS: Final[dict[str, tuple[Callable[[str], Any], str]]] = {
    "station_id": (_within(0, (1 << 63) - 1, int), "a number from 0 to 2^63 - 1"),
    "name": (_text, "text without NUL"),
    "region": (_text, "text without NUL"),
    "latitude": (_within(-90, 90, float), "degrees from -90 to 90"),
    "longitude": (_within(-180, 180, float), "degrees from -180 to 180"),
    "timezone": (lambda cell: ZoneInfo(cell).key, "an IANA name, for example Asia/Ho_Chi_Minh"),
    "in_service_since": (date.fromisoformat, "a day, for example 2015-03-01"),
}
