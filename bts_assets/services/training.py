"""Model versions: training them, registering them, finding them. Which of them serves is decided elsewhere."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from bts_assets.contracts.grid import Grid
from bts_assets.contracts.panel import Panel
from bts_assets.forecasting.fit import FittedBundle, fit_bundle
from bts_assets.services import training_report as report
from bts_assets.services.home import Home
from bts_assets.services.observe import observed_span, read_settled_panel
from bts_assets.settings import Settings
from bts_assets.storage import tables
from bts_assets.storage.mlflow_registry import ModelStoreError, Registered, TrainingRecord
from bts_assets.storage.provenance import code_version, machine, packages

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelVersion:
    """A row of `bts.model_version`, as far as a night needs it."""

    model_version_id: int
    bundle_digest: str
    lstm_failure: str | None
    mlflow_run_id: str | None
    mlflow_model_uri: str | None
    registry_version: int | None
    training_end: datetime
    truncated: bool
    step_seconds: int
    context_seconds: int
    horizon_seconds: int
    metrics: Mapping[str, Mapping[str, float]]  # candidate -> figure -> value, of its backtest


@dataclass(frozen=True)
class Trained:
    """A version fresh from training, with what its asset shows."""

    version: ModelVersion
    fitted: FittedBundle
    panel: Panel
    seconds: float
    pictures: Mapping[str, bytes]  # file name -> PNG


def train(
    home: Home, issued_at: datetime, run_id: str | None, on_progress: Callable[[str, int, int], None] | None = None
) -> Trained:
    """Train a version on what was observed before `issued_at`, and register it. It serves nothing yet.

    Training that gives a version that is known already (same data, settings and seed) registers nothing anew.
    """
    settings, grid = home.settings, home.settings.grid

    def start_of(connection: sa.Connection) -> datetime:
        span = observed_span(connection, grid)
        return training_start(settings, span[0] if span else issued_at, issued_at)

    panel, ledger_seq = read_settled_panel(home.engine, home.readings, home.catalogue, grid, issued_at, start_of)
    started_at, clock = datetime.now(UTC), time.monotonic()
    fitted = fit_as_set(home, panel, on_progress)
    seconds = time.monotonic() - clock
    bundle = fitted.bundle
    home.models.keep(bundle)
    known = _find(home.engine, bundle.digest)
    drawn = report.pictures_of(fitted, panel, home.catalogue)
    if known is None:
        record = report.record_of(home, fitted, panel, started_at, seconds, ledger_seq, run_id, drawn)
        registered = _register(home, fitted, record)
        known = enter(home, fitted, panel, registered, ledger_seq, run_id)
    return Trained(known, fitted, panel, seconds, drawn)


def fit_as_set(home: Home, panel: Panel, on_progress: Callable[[str, int, int], None] | None = None) -> FittedBundle:
    """Fit a model version on a panel as the settings of the home say."""
    settings = home.settings
    return fit_bundle(
        panel,
        home.catalogue,
        effort=settings.training_effort,
        seed=settings.seed,
        zone=settings.timezone,
        hyperparameters=settings.hyperparameters,
        heavy_series=settings.heavy_series,
        on_progress=on_progress,
        max_seconds=settings.training_ceiling.total_seconds(),
        clock=time.monotonic,
    )


def training_start(settings: Settings, oldest: datetime, issued_at: datetime) -> datetime:
    """Where the training data of an origin begin: BTS_TRAINING_SPAN back or with the oldest observation, and a context
    at least.
    """
    grid = settings.grid
    return min(max(oldest, grid.floor(issued_at - settings.training_span)), issued_at - grid.context)


def find_version(engine: sa.Engine, number: int) -> ModelVersion | None:
    """The model version of a number."""
    with engine.connect() as connection:
        row = connection.execute(_columns().where(tables.model_version.c.model_version_id == number)).mappings()
        found = row.first()
    return ModelVersion(**found) if found else None


def enter(
    home: Home, fitted: FittedBundle, panel: Panel, registered: Registered | None, ledger_seq: int, run_id: str | None
) -> ModelVersion:
    """Enter a trained version into `bts.model_version`, or find it there."""
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
        "catalogue_digest": bundle.catalogue_digest,
        "metrics": report.summary_as_json(fitted),
        "mlflow_run_id": registered.run_id if registered else None,
        "mlflow_model_uri": registered.model_uri if registered else None,
        "registry_version": registered.version if registered else None,
        "packages": packages(),
        "machine": machine(),
        "code_version": code_version(),
        "dagster_run_id": run_id,
        "settings": home.settings.public(),
    }
    with home.engine.begin() as connection:
        # Two nights that train on the same data make the same version: the first to enter it stands.
        connection.execute(insert(tables.model_version).values(row).on_conflict_do_nothing())
    entered = _find(home.engine, bundle.digest)
    assert entered is not None  # noqa: S101 - it was entered a moment ago
    return entered


def champion_for(engine: sa.Engine, grid: Grid) -> ModelVersion | None:
    """The champion for a step, context and horizon, if there is one."""
    c = tables.champion.c
    of_champions = _columns().join(tables.champion, c.model_version_id == tables.model_version.c.model_version_id)
    with engine.connect() as connection:
        query = on_grid(of_champions, grid).order_by(c.champion_seq.desc()).limit(1)
        row = connection.execute(query).mappings().first()
    return ModelVersion(**row) if row else None


def fits(version: ModelVersion, grid: Grid) -> bool:
    """Whether a version is for a step, context and horizon."""
    own = (version.step_seconds, version.context_seconds, version.horizon_seconds)
    return own == tuple(int(length.total_seconds()) for length in (grid.step, grid.context, grid.horizon))


def on_grid(query: sa.Select[Any], grid: Grid) -> sa.Select[Any]:
    """A query of model versions, of those for a step, context and horizon."""
    v = tables.model_version.c
    return query.where(
        v.step_seconds == grid.step.total_seconds(),
        v.context_seconds == grid.context.total_seconds(),
        v.horizon_seconds == grid.horizon.total_seconds(),
    )


def _columns() -> sa.Select[Any]:
    v = tables.model_version.c
    return sa.select(*(v[field.name] for field in fields(ModelVersion))).select_from(tables.model_version)


def register_late(home: Home, version: ModelVersion) -> ModelVersion:
    """Register a version that was trained while MLflow did not answer; as it stands then.

    Its run says what Postgres knows of the training; curve and pictures are lost.

    Raises:
        ModelStoreError: if MLflow does not answer, or the bundle is gone or altered.
    """
    v = tables.model_version.c
    with home.engine.connect() as connection:
        row = connection.execute(sa.select(tables.model_version).where(v.model_version_id == version.model_version_id))
        record = report.late_record(home, row.mappings().one())
    registered = home.models.register(home.models.load(version.bundle_digest, None), record)
    named = {
        "mlflow_run_id": registered.run_id,
        "mlflow_model_uri": registered.model_uri,
        "registry_version": registered.version,
    }
    with home.engine.begin() as connection:
        late = sa.update(tables.model_version).where(v.model_version_id == version.model_version_id)
        connection.execute(late.where(v.registry_version.is_(None)).values(named))
    return find_version(home.engine, version.model_version_id) or version


def _register(home: Home, fitted: FittedBundle, record: TrainingRecord) -> Registered | None:
    try:
        return home.models.register(fitted.bundle, record)
    except ModelStoreError as error:
        log.warning("%s; the version serves from Postgres and the cache, without a registry entry", error)
        return None


def _find(engine: sa.Engine, bundle_digest: str) -> ModelVersion | None:
    query = _columns().where(tables.model_version.c.bundle_digest == bundle_digest)
    with engine.connect() as connection:
        row = connection.execute(query).mappings().first()
    return ModelVersion(**row) if row else None
