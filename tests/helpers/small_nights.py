"""What the tests of the stores share: landing files in words, batches that need no training, digests of what rests."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from bts_assets.contracts.catalogue import load_catalogue
from bts_assets.contracts.grid import Grid, format_duration
from bts_assets.contracts.panel import Panel
from bts_assets.forecasting.batch import Batch, make_batch
from bts_assets.forecasting.bundle import Bundle
from bts_assets.forecasting.candidates import CHEAP
from bts_assets.forecasting.ensemble_weights import one_candidate
from bts_assets.forecasting.fit import FittedBundle
from bts_assets.forecasting.metrics import METRICS
from bts_assets.services import champions
from bts_assets.services import training as versions
from bts_assets.services.home import Home
from bts_assets.services.ingest import IngestReport, ingest
from bts_assets.services.observe import ObserveReport, compute_due_days
from bts_assets.storage import small_readings
from bts_assets.storage.batch_identity import BatchOrigin
from bts_assets.storage.forecasts import Published, publish
from bts_assets.storage.loading import BatchPart
from bts_assets.storage.model_versions import ModelVersion

GRID: Final = Grid(timedelta(hours=1), timedelta(days=1), timedelta(hours=6))
#: Settings of a home on that grid.
SMALL: Final = {"step": GRID.step, "context": GRID.context, "horizon": GRID.horizon}
ORIGIN: Final = datetime(2026, 3, 10, tzinfo=UTC)
#: The clock of every ingest: after all readings, within the skew allowed.
NOW: Final = datetime(2026, 3, 10, 12, tzinfo=UTC)
HEADER: Final = "id,value,station_id,parameter_id,reading_time"
#: A parameter that the catalogue lists: a gauge from 0 to some thousands.
LOAD: Final = 122


def write(folder: Path, name: str, *rows: str, header: str = HEADER) -> Path:
    """Write a landing file below a folder, made where it is missing."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return file


def hourly(
    hours: Iterable[int], station: int = 1, parameter: int = LOAD, value: float = 10, first_id: int = 1
) -> list[str]:
    """One reading per hour of the day before `ORIGIN`; hours past 23 lie after it."""
    start = ORIGIN - timedelta(days=1)
    return [
        f"{first_id + hour},{value + hour},{station},{parameter},{start + timedelta(hours=hour):%Y-%m-%d %H:%M:%S}"
        for hour in hours
    ]


def take_in(home: Home, landing: Path) -> IngestReport:
    return ingest(home, landing, now=NOW)


def observe_due(home: Home) -> ObserveReport:
    return compute_due_days(home)


@contextmanager
def small_up_to(rows: int) -> Iterator[None]:
    """Readings of landing files that have more, and are taken in meanwhile, come to rest as Parquet."""
    with patch.object(small_readings, "MOST_ROWS", rows):
        yield


def as_parquet() -> AbstractContextManager[None]:
    return small_up_to(0)


def rows_of(home: Home, query: str, **values: Any) -> list[dict[str, Any]]:
    with home.engine.connect() as connection:
        rows = connection.execute(sa.text(query), values).mappings()
        return [{k: bytes(v) if isinstance(v, memoryview) else v for k, v in row.items()} for row in rows]


def found_by_settings(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the environment name a home of `SMALL` spans, as whoever opens it by its settings finds it."""
    for name in ("home", "database_url"):
        monkeypatch.setenv(f"BTS_{name.upper()}", str(getattr(home.settings, name)))
    for name in SMALL:
        monkeypatch.setenv(f"BTS_{name.upper()}", format_duration(getattr(home.settings, name)))


def ledger(home: Home) -> list[dict[str, Any]]:
    """The ingest ledger in order of entry, each row's sum checked."""
    rows = rows_of(home, "SELECT * FROM bts.ingest_ledger ORDER BY ledger_seq")
    assert all(row["accepted"] + row["rejected"] + row["duplicate"] == row["rows"] for row in rows)
    return rows


def in_force(home: Home) -> list[tuple[str, str, int]]:
    """Path, status and accepted rows of the entries that nothing superseded."""
    return [(r["path"], r["status"], r["accepted"]) for r in ledger(home) if r["superseded_by"] is None]


def values(home: Home) -> list[float]:
    """All observations, ascending."""
    return [row["value"] for row in rows_of(home, "SELECT value FROM bts.observation ORDER BY 1")]


def observations_digest(home: Home) -> str:
    """A digest of every stored observation and known series of a home."""
    observed = rows_of(home, "SELECT * FROM bts.observation ORDER BY station_id, parameter_id, observed_at")
    known = rows_of(home, "SELECT station_id, parameter_id FROM bts.series ORDER BY 1, 2")
    return _digest([*observed, *known])


def forecasts_digest(home: Home) -> str:
    """A digest of every forecast and ledger row that readers can reach, whatever number its batch has."""
    forecasts = rows_of(
        home,
        "SELECT b.issued_at, b.observations_digest, f.* FROM bts.forecast AS f JOIN bts.batch AS b USING (batch_id)"
        " JOIN bts.publication AS p USING (batch_id) ORDER BY 1, 2, f.station_id, f.parameter_id, f.step_ahead",
    )
    entries = rows_of(home, "SELECT * FROM bts.forecast_ledger ORDER BY batch_id, station_id, parameter_id")
    return _digest({k: v for k, v in row.items() if k != "batch_id"} for row in [*forecasts, *entries])


def _digest(rows: Iterable[dict[str, Any]]) -> str:
    return hashlib.sha256("\n".join(repr(sorted(row.items())) for row in rows).encode()).hexdigest()


def simple_bundle(seed: int = 1, default: str = "last_value", grid: Grid = GRID) -> Bundle:
    """A model version without an LSTM: it needs no training. Another seed is another version."""
    return Bundle(
        grid=grid,
        zone=ZoneInfo("UTC"),
        effort="quick",
        seed=seed,
        catalogue=load_catalogue(),
        weights=one_candidate(tuple(f.name for f in CHEAP), default),
    )


def fitted(bundle: Bundle) -> FittedBundle:
    """The bundle as if a training without scores had given it."""
    curve = pd.DataFrame({"seed": [0, 0], "step": [40, 80], "loss": [0.5, 0.4], "validation_loss": [0.6, 0.5]})
    scores = pd.DataFrame(columns=["candidate", "station_id", "parameter_id", "origin", *METRICS])
    return FittedBundle(bundle, scores, curve, {"windows_trained": 80, "steps": 80}, {}, truncated=False)


def small_panel(level: float = 10, end: datetime = ORIGIN, series: int = 3) -> Panel:
    """Series of station 1, 2...: a context of one level each, so that forecasts tell which panel they are of."""
    values = np.repeat(level + np.arange(series)[:, None] / 8, GRID.context_steps, axis=1)
    return Panel(GRID, np.arange(1, series + 1), np.full(series, LOAD, np.int32), end, values)


def serving_version(home: Home, bundle: Bundle) -> ModelVersion:
    """Keep and enter a version, and make it champion, without MLflow."""
    home.models.keep(bundle)
    version = versions.enter(home, fitted(bundle), small_panel(), None, 0, None)
    champions.decide(home, version, champions.Decision("promoted", "hand", "the test says so"))
    return version


def small_batch(panel: Panel, bundle: Bundle | None = None) -> Batch:
    return make_batch(bundle or simple_bundle(), panel, load_catalogue())


def lineage(panel: Panel, version: int) -> BatchOrigin:
    return BatchOrigin(
        model_version_id=version,
        input_start=panel.start,
        input_ledger_seq=0,
        observations_digest=panel.digest,
        catalogue_digest=load_catalogue().digest,
        kind="retrospective",
        settings={},
        code_version="test",
        dagster_run_id=None,
    )


def publish_panel(engine: sa.Engine, panel: Panel, version: int) -> Published:
    return publish_whole(engine, small_batch(panel), lineage(panel, version))


def publish_whole(engine: sa.Engine, batch: Batch, origin: BatchOrigin, grid: Grid = GRID) -> Published:
    """Publish a batch in one part."""
    return publish(engine, [BatchPart(batch)], batch.issued_at, origin, grid)
