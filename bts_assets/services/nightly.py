"""Batches of an origin: the champion's is published, a challenger's runs beside it. Storing them is done elsewhere."""

import logging
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd
import sqlalchemy as sa

from bts_assets.contracts.nights import successor_due
from bts_assets.contracts.origin import Origin
from bts_assets.contracts.panel import Panel
from bts_assets.forecasting.adaptive import Recalibration
from bts_assets.forecasting.batch import Batch, make_batch
from bts_assets.forecasting.canary import canary_stations, spliced
from bts_assets.services.breach import Limits, breach_rows, station_limits
from bts_assets.services.home import Home
from bts_assets.services.observe import read_settled
from bts_assets.services.recalibration import recalibration_at
from bts_assets.storage.batch_identity import BatchOrigin, Canary
from bts_assets.storage.catalogues import keep_catalogue
from bts_assets.storage.crash_points import crash_point
from bts_assets.storage.forecasts import find_batch, load, publish, serve_again
from bts_assets.storage.model_versions import ModelVersion, champion_for
from bts_assets.storage.observations import last_heard, read_panel
from bts_assets.storage.provenance import code_version

log = logging.getLogger(__name__)

#: Times that a night is made again because another version became champion meanwhile.
_TRIES: Final = 3


@dataclass(frozen=True)
class Given:
    """What is known at an origin: the panel of its context, computed up to an entry of the ingest ledger.

    heard: station_id, parameter_id and last_observed_at of the series that are silent throughout the context.
    limits: those of stations that differ from their parameter's. recalibration: what the nights before taught about the
    widths of intervals; None: nothing.
    """

    origin: Origin
    panel: Panel
    ledger_seq: int
    heard: pd.DataFrame
    limits: Limits
    recalibration: Recalibration | None = None


@dataclass(frozen=True)
class NightResult:
    """What forecasting came to; `given` is what it was made from, `version` by whom. Not `new`: the same batch was
    published before.
    """

    batch_id: int
    new: bool
    serves_latest: bool
    given: Given
    version: ModelVersion


@dataclass(frozen=True)
class CanaryShare:
    """A challenger that is to serve a share of the stations."""

    challenger: ModelVersion
    share: float


def what_is_given(home: Home, origin: Origin) -> Given:
    """What is known at an origin, all of it from one snapshot."""
    grid, end = home.settings.grid, origin.issued_at

    def read(connection: sa.Connection) -> tuple[Panel, pd.DataFrame, Limits, Recalibration | None]:
        panel = read_panel(connection, grid, end - grid.context, end)
        silent = np.isnan(panel.values).all(axis=1)
        heard = last_heard(connection, panel.station_id[silent], panel.parameter_id[silent], end)
        recalibration = recalibration_at(connection, home.catalogue, panel)
        crash_point("recalibration.after_update")
        return panel, heard, station_limits(connection), recalibration

    (panel, heard, limits, recalibration), ledger_seq = read_settled(home, read)
    return Given(origin, panel, ledger_seq, heard, limits, recalibration)


def publish_night(
    home: Home, origin: Origin, champion: ModelVersion, run_id: str | None, trial: CanaryShare | None
) -> NightResult:
    """As `forecast_and_publish`, of whoever is champion when it is published: `NightResult.version`.

    A promotion or a rollback may come in between; what was made by then does not serve, and the night is made again.
    """
    for _ in range(_TRIES):
        night = forecast_and_publish(home, origin, champion, run_id, trial, as_champion=True)
        newest = champion_for(home.engine, home.settings.grid) or champion
        if newest.model_version_id == champion.model_version_id:
            break
        champion, trial = newest, None  # whatever was on probation ended with it
    return night


def forecast_and_publish(
    home: Home,
    origin: Origin,
    champion: ModelVersion,
    run_id: str | None,
    trial: CanaryShare | None = None,
    *,
    as_champion: bool = False,
) -> NightResult:
    """Forecast every series from `origin` with the champion and publish, unless that very batch exists.

    In a trial some stations get the challenger's forecasts; where that fails, they get the champion's as ever.

    Raises:
        ModelStoreError: if the champion's bundle is gone or altered.
        PublishRefused: if the batch fails its checks.
    """
    given = what_is_given(home, origin)
    if trial is not None:
        try:
            return _publish(home, given, champion, run_id, trial, as_champion)
        except Exception as error:
            # Whatever a challenger does, the night goes on.
            log.warning(
                "model version %s serves no station tonight: %s: %s",
                trial.challenger.model_version_id, type(error).__name__, error,
            )  # fmt: skip
    return _publish(home, given, champion, run_id, None, as_champion)


def forecast_beside(home: Home, given: Given, version: ModelVersion, run_id: str | None) -> int:
    """Make a version's batch of an origin and load it where no reader looks, or find it; its number.

    Raises:
        ModelStoreError: if its bundle is gone or altered.
        PublishRefused: if the batch fails its checks.
    """
    lineage = lineage_of(home, given, version, run_id)
    existing = find_batch(home.engine, given.origin.issued_at, lineage, loaded=True)
    if existing is not None:
        return existing
    batch = forecast(home, given, version)
    return load(home.engine, batch, lineage, home.settings.grid, _foreseen(home, given, batch))


def _foreseen(home: Home, given: Given, batch: Batch) -> pd.DataFrame:
    return breach_rows(batch, given.panel, home.catalogue, given.limits)


def forecast(home: Home, given: Given, version: ModelVersion) -> Batch:
    """A version's forecasts of what is given; the catalogue that bounds them is kept.

    Raises:
        ModelStoreError: if its bundle is gone or altered.
    """
    with home.engine.begin() as connection:
        keep_catalogue(connection, home.catalogue)
    bundle = home.models.load(version.bundle_digest, version.mlflow_model_uri)
    batch = make_batch(bundle, given.panel, home.catalogue, recalibration=given.recalibration)
    return batch.with_last_heard(given.heard)


def lineage_of(home: Home, given: Given, version: ModelVersion, run_id: str | None) -> BatchOrigin:
    """What a version's batch of an origin is made from."""
    return BatchOrigin(
        model_version_id=version.model_version_id,
        input_start=given.panel.start,
        input_ledger_seq=given.ledger_seq,
        observations_digest=given.panel.digest,
        catalogue_digest=home.catalogue.digest,
        # A version that was trained on what it is to forecast makes no forecast that anyone could have had.
        kind="in_sample" if version.training_end > given.origin.issued_at else given.origin.kind,
        settings=home.settings.public(),
        code_version=code_version(),
        dagster_run_id=run_id,
        recalibration=given.recalibration,
        successor_due_at=successor_due(given.origin.issued_at, home.settings.timezone, home.settings.ready_by),
    )


def _publish(
    home: Home,
    given: Given,
    champion: ModelVersion,
    run_id: str | None,
    trial: CanaryShare | None,
    as_champion: bool,
) -> NightResult:
    issued_at, lineage = given.origin.issued_at, lineage_of(home, given, champion, run_id)
    if trial is not None:
        stations = canary_stations(given.panel.station_id, trial.challenger.bundle_digest, trial.share)
        lineage = replace(lineage, canary=Canary(trial.challenger.model_version_id, trial.share, stations))
    existing = find_batch(home.engine, issued_at, lineage)
    if existing is not None:
        serves = serve_again(home.engine, existing, issued_at, as_champion=as_champion)
        return NightResult(existing, False, serves, given, champion)
    batch = forecast(home, given, champion)
    if trial is not None:
        batch = spliced(batch, forecast(home, given, trial.challenger), stations)
    foreseen = _foreseen(home, given, batch)
    published = publish(home.engine, batch, lineage, home.settings.grid, foreseen, as_champion=as_champion)
    return NightResult(published.batch_id, published.new, published.serves_latest, given, champion)
