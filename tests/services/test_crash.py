"""A night whose connection the server ends says so, and the next mends it. Kills are `test_torture.py`'s."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from small_nights import (
    ORIGIN,
    SMALL,
    forecasts_digest,
    hourly,
    ledger,
    observations_digest,
    observe_due,
    publish_panel,
    rows_of,
    serving_version,
    simple_bundle,
    small_panel,
    take_in,
    write,
)

from bts_assets.contracts.errors import BtsError
from bts_assets.contracts.origin import Origin
from bts_assets.services.home import Home, open_home
from bts_assets.services.nightly import NightResult, forecast_and_publish
from bts_assets.settings import load_settings
from bts_assets.storage import forecasts, ingest_ledger, loading
from bts_assets.storage.model_versions import champion_for
from bts_assets.storage.postgres import connect

pytestmark = pytest.mark.slow


def run_night(home: Home, landing: Path) -> NightResult:
    take_in(home, landing)
    observe_due(home)
    champion = champion_for(home.engine, home.settings.grid)
    assert champion is not None
    return forecast_and_publish(home, Origin(ORIGIN, "retrospective", "the test says so"), champion, None)


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four files of one day, whose order of path is their order of time; one row of each is rejected."""
    folder = tmp_path_factory.mktemp("crash") / "landing"
    for part in range(4):
        hours = range(part * 6, part * 6 + 6)
        write(folder, f"{part}.csv", *hourly(hours), *hourly(hours, station=2 + part, first_id=100), "x,1,1,122,")
    return folder


@pytest.fixture(scope="module")
def prepared_home(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]
) -> Iterator[Callable[[], Home]]:
    """Makes homes with a champion and the batch of the night before."""
    homes: list[Home] = []

    def make() -> Home:
        folder, url = tmp_path_factory.mktemp("home"), new_database()
        home = open_home(load_settings(home=folder, database_url=url, file_stable_for=timedelta(0), **SMALL))
        homes.append(home)
        version = serving_version(home, simple_bundle())
        publish_panel(home.engine, small_panel(end=ORIGIN - timedelta(days=1)), version.model_version_id)
        return home

    yield make
    for home in homes:
        home.engine.dispose()


@pytest.fixture(scope="module")
def undisturbed(prepared_home: Callable[[], Home], landing: Path) -> Home:
    home = prepared_home()
    assert run_night(home, landing).serves_latest
    return home


def what_rests(home: Home) -> dict[str, Any]:
    """Everything that must not tell whether the night was disturbed."""
    keys = ("path", "digest", "status", "rows", "accepted", "rejected", "duplicate", "superseded_by")
    return {
        "files": [{k: row[k] for k in keys} for row in ledger(home)],
        "rejected": rows_of(home, "SELECT file, line, raw, reason FROM bts.rejected_reading ORDER BY 1, 2"),
        "stations": rows_of(home, "SELECT * FROM bts.station ORDER BY station_id"),
        "observations": observations_digest(home),
        "forecasts": forecasts_digest(home),
        "batches": rows_of(home, "SELECT issued_at, observations_digest, forecasts_digest FROM bts.batch ORDER BY 1"),
        "publications": rows_of(home, "SELECT serves_latest FROM bts.publication ORDER BY publication_seq"),
        "parquet": sorted(f.name for f in home.readings.root.rglob("*.parquet")),
        "small readings": rows_of(home, "SELECT digest, readings FROM bts.landing_reading ORDER BY digest"),
    }


def latest(home: Home) -> list[dict[str, Any]]:
    return rows_of(home, "SELECT * FROM bts.latest_forecast ORDER BY station_id, parameter_id, step_ahead")


@pytest.mark.parametrize(
    ("module", "name"), [(ingest_ledger, "_list_new"), (loading, "_load_ledger"), (forecasts, "_pointer")]
)
def test_a_night_whose_connection_is_ended_says_so_and_is_made_good_by_the_next(
    module: Any,
    name: str,
    prepared_home: Callable[[], Home],
    undisturbed: Home,
    landing: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = prepared_home()
    before = latest(home)
    original, ended = getattr(module, name), []

    def end_the_connection(connection: sa.Connection, *args: Any) -> Any:
        pid = connection.connection.dbapi_connection.info.backend_pid  # type: ignore[union-attr]
        other = connect(home.url, timedelta(seconds=5))
        with other.connect() as administrator:
            ended.append(administrator.scalar(sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid}))
        other.dispose()
        return original(connection, *args)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, end_the_connection)
        with pytest.raises(BtsError, match=r"connection"):
            run_night(home, landing)
    assert ended == [True]
    assert latest(home) == before
    run_night(home, landing)
    assert what_rests(home) == what_rests(undisturbed)
