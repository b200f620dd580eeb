"""Versions that compete in a home of steadily rising readings, without training or MLflow; no tests are here."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from small_nights import ORIGIN, fitted, hourly, observe_due, rows_of, simple_bundle, small_panel, take_in, write

from bts_assets.contracts.origin import Origin
from bts_assets.services import champions
from bts_assets.services import training as versions
from bts_assets.services.home import Home
from bts_assets.services.nightly import CanaryShare, forecast_and_publish
from bts_assets.storage.decisions import Decision
from bts_assets.storage.model_versions import ModelVersion

HOUR: Final = timedelta(hours=1)
STATIONS: Final = range(1, 9)
#: Readings rise by one an hour. So of six steps the last value is 1 to 6 off, and that of a day ago 24.
NEAR, FAR = "last_value", "seasonal_naive_day"
NEAR_MAE, FAR_MAE = 3.5, 24.0


def observe(home: Home, landing: Path, hours: int = 24, shift: float = 0.0, since: int = 0) -> None:
    """Take in what the stations reported, from `since` to `hours` after the day before `ORIGIN` began."""
    rows = [
        row
        for station in STATIONS
        for row in hourly(range(since, hours), station, value=10 * station + shift, first_id=1000 * station)
    ]
    write(landing, "a.csv", *rows)
    take_in(home, landing)
    observe_due(home)


def entered(home: Home, seed: int, default: str = NEAR, trained_until: datetime = ORIGIN) -> ModelVersion:
    """A version that serves nothing yet."""
    bundle = simple_bundle(seed, default)
    home.models.keep(bundle)
    return versions.enter(home, fitted(bundle), small_panel(end=trained_until), None, 0, None)


def promoted(home: Home, version: ModelVersion) -> ModelVersion:
    champions.decide(home, version, Decision("promoted", "hand", "the test says so"))
    return version


def night(home: Home, champion: ModelVersion, hours: int = 0, canary: CanaryShare | None = None) -> int:
    """Forecast and publish so many hours after `ORIGIN`; the batch."""
    origin = Origin(ORIGIN + hours * HOUR, "live", "the test says so")
    return forecast_and_publish(home, origin, champion, None, canary).batch_id


def serving(home: Home) -> tuple[int, int]:
    """The champion, and the batch that readers see, as another session knows them in one statement."""
    (row,) = rows_of(
        home,
        "SELECT (SELECT model_version_id FROM bts.champion ORDER BY champion_seq DESC LIMIT 1) AS champion,"
        " (SELECT min(batch_id) FROM bts.latest_forecast) AS batch",
    )
    return row["champion"], row["batch"]


def decisions(home: Home) -> list[dict[str, Any]]:
    return rows_of(home, "SELECT * FROM bts.model_decision ORDER BY decision_id")
