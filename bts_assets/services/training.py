"""Model versions: training them, registering them, finding them. Which of them serves is decided elsewhere."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.contracts.grid import DAY, Grid
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.progress import OnProgress
from bts_assets.contracts.work_sharing import Spread
from bts_assets.forecasting.fit import FittedBundle, fit_bundle
from bts_assets.forecasting.sampling import drawn_series
from bts_assets.services import training_report as report
from bts_assets.services.engine import engine
from bts_assets.services.home import Home
from bts_assets.services.observe import settled
from bts_assets.settings import Settings
from bts_assets.storage.catalogues import keep_catalogue
from bts_assets.storage.crash_points import crash_point
from bts_assets.storage.mlflow_registry import ModelStoreError, Registered, TrainingRecord
from bts_assets.storage.model_versions import (
    ModelVersion,
    enter_version,
    find_by_digest,
    name_in_registry,
    version_row,
)
from bts_assets.storage.observation_blocks import known_series, read_panel
from bts_assets.storage.observations import count_series, observed_span
from bts_assets.storage.provenance import code_version, machine, packages
from bts_assets.storage.series_names import station_titles

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """A version fresh from training, with what its asset shows."""

    version: ModelVersion
    fitted: FittedBundle
    panel: Panel
    seconds: float
    pictures: Mapping[str, bytes]  # file name -> PNG


def train(
    home: Home,
    issued_at: datetime,
    run_id: str | None,
    on_progress: OnProgress | None = None,
    because: str | None = None,
) -> Trained:
    """Train a version on what was observed before `issued_at`, and register it. It serves nothing yet.

    because: what asked for it, for its MLflow run.

    Training that gives a version that is known already (same data, settings and seed) registers nothing anew.
    """
    settings, grid = home.settings, home.settings.grid

    with settled(home) as (connection, ledger_seq):
        span, every = observed_span(connection, grid), count_series(connection)
        start = training_start(settings, span.start if span else issued_at, issued_at, every)
        most = most_series(grid, start, issued_at, every)
        panel = read_sample(connection, grid, start, issued_at, most, settings.seed)
    started_at, clock = datetime.now(UTC), time.monotonic()
    fitted = fit_as_set(home, panel, on_progress)
    seconds = time.monotonic() - clock
    crash_point("training.after_fit")
    bundle = fitted.bundle
    home.models.keep(bundle)
    crash_point("training.after_keep")
    known = find_by_digest(home.engine, bundle.digest)
    with home.engine.connect() as connection:
        stations = station_titles(connection, panel.station_id)
    drawn = report.pictures_of(fitted, panel, home.catalogue, stations)
    if known is None:
        record = report.record_of(home, fitted, panel, started_at, seconds, ledger_seq, run_id, drawn, because)
        registered = _register(home, fitted, record)
        known = enter(home, fitted, panel, registered, ledger_seq, run_id, most, seconds)
        crash_point("training.after_entry")
    return Trained(known, fitted, panel, seconds, drawn)


def most_series(grid: Grid, start: datetime, end: datetime, series: int) -> int | None:
    """How many series a training from `start` reads, so that it holds `MOST_NUMBERS`; None: all of them."""
    most = max(MOST_NUMBERS // max((end - start) // grid.step, 1), 1)
    return most if most < series else None


def read_sample(
    connection: sa.Connection, grid: Grid, start: datetime, end: datetime, most: int | None, seed: int
) -> Panel:
    """The panel of all series known by `end`, or of `most` of them (`forecasting.sampling`)."""
    if most is None:
        return read_panel(connection, grid, start, end)
    station, parameter = known_series(connection, grid, end)
    drawn = drawn_series(station, parameter, most, seed)
    series = list(zip(station[drawn].tolist(), parameter[drawn].tolist(), strict=True))
    return read_panel(connection, grid, start, end, series)


def fit_as_set(home: Home, panel: Panel, on_progress: OnProgress | None = None) -> FittedBundle:
    """Fit a model version on a panel as the settings of the home say."""
    with engine(home.settings) as spread:
        return fit_by(home.settings, home.catalogue, panel, on_progress, spread)


def fit_by(
    settings: Settings, catalogue: Catalogue, panel: Panel, on_progress: OnProgress | None, spread: Spread
) -> FittedBundle:
    """Fit a model version on a panel as settings say, without a home; `spread` as `fit_bundle` has it."""
    return fit_bundle(
        panel,
        catalogue,
        effort=settings.training_effort,
        seed=settings.seed,
        zone=settings.timezone,
        hyperparameters=settings.hyperparameters,
        statistical_max_series=settings.statistical_max_series,
        on_progress=on_progress,
        max_seconds=settings.training_ceiling.total_seconds(),
        clock=time.monotonic,
        spread=spread,
    )


#: Numbers (series times steps) that a training reads where BTS_TRAINING_SPAN is unset: 192 MB of them.
MOST_NUMBERS: Final = 24_000_000

#: A training reads at least so many contexts and horizons, however many series: the holdout window and as much before.
_LEAST_SPANS: Final = 6


def training_start(settings: Settings, oldest: datetime, issued_at: datetime, series: int) -> datetime:
    """Where the training data of an origin begin, a context before it at least.

    With BTS_TRAINING_SPAN so far back, or with the oldest observation. Unset, with the oldest observation too, as far
    as `MOST_NUMBERS` reach for so many series: memory is bounded by that, and not by the years that are stored.
    """
    grid, span = settings.grid, settings.training_span
    if span is None:
        fitting = max(MOST_NUMBERS // max(series, 1), _LEAST_SPANS * (grid.context_steps + grid.horizon_steps))
        # Whole days back: the hour of the night stays what it is.
        earliest = (
            issued_at - fitting // grid.steps_per_day * DAY if issued_at - oldest > fitting * grid.step else oldest
        )
    else:
        earliest = grid.floor(issued_at - span)
    return min(max(oldest, earliest), issued_at - grid.context)


def enter(
    home: Home,
    fitted: FittedBundle,
    panel: Panel,
    registered: Registered | None,
    ledger_seq: int,
    run_id: str | None,
    most: int | None = None,
    seconds: float | None = None,
) -> ModelVersion:
    """Enter a trained version into `bts.model_version`, or find it there.

    most: as `most_series` had it; seconds: how long the training took.
    """
    grid, bundle = home.settings.grid, fitted.bundle
    row: dict[str, Any] = {
        "bundle_digest": bundle.digest,
        "step_seconds": grid.step.total_seconds(),
        "context_seconds": grid.context.total_seconds(),
        "horizon_seconds": grid.horizon.total_seconds(),
        "effort": home.settings.training_effort,
        "seed": home.settings.seed,
        "lstm_failure": bundle.lstm_failure,
        "truncated": fitted.truncated,
        "training_start": panel.start,
        "training_end": panel.end,
        "training_ledger_seq": ledger_seq,
        "observations_digest": panel.digest,
        "training_series": most,
        "training_seconds": seconds,
        "catalogue_digest": bundle.catalogue_digest,
        "metrics": report.summary_as_json(fitted),
        "mlflow_run_id": registered.run_id if registered else None,
        "mlflow_experiment_id": registered.experiment_id if registered else None,
        "mlflow_model_uri": registered.model_uri if registered else None,
        "registry_version": registered.version if registered else None,
        "packages": packages(),
        "machine": machine(),
        "code_version": code_version(),
        "dagster_run_id": run_id,
        "settings": home.settings.public(),
    }
    with home.engine.begin() as connection:
        keep_catalogue(connection, bundle.catalogue)
    return enter_version(home.engine, row)


def register_late(home: Home, version: ModelVersion) -> ModelVersion:
    """Register a version that was trained while MLflow did not answer; as it stands then.

    Its run says what Postgres knows of the training; curve and pictures are lost.

    Raises:
        ModelStoreError: if MLflow does not answer, or the bundle is gone or altered.
    """
    record = report.late_record(home, version_row(home.engine, version.model_version_id))
    registered = home.models.register(home.models.load(version.bundle_digest, None), record)
    named = {
        "mlflow_run_id": registered.run_id,
        "mlflow_experiment_id": registered.experiment_id,
        "mlflow_model_uri": registered.model_uri,
        "registry_version": registered.version,
    }
    return name_in_registry(home.engine, version.model_version_id, named) or version


def _register(home: Home, fitted: FittedBundle, record: TrainingRecord) -> Registered | None:
    try:
        return home.models.register(fitted.bundle, record)
    except ModelStoreError as error:
        log.warning("%s; the version serves from Postgres and the cache, without a registry entry", error)
        return None
