"""Batches of an origin: the champion's is published, a challenger's runs beside it. Storing them is done elsewhere."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np

from bts_assets.contracts.nights import successor_due
from bts_assets.contracts.origin import Origin
from bts_assets.contracts.panel import Panel
from bts_assets.forecasting.batch import Batch, make_batch
from bts_assets.forecasting.bundle import Bundle
from bts_assets.forecasting.canary import canary_stations, spliced
from bts_assets.forecasting.recalibration import Recalibration
from bts_assets.services.breach import breach_rows, breach_rule
from bts_assets.services.home import Home
from bts_assets.services.known_at_origin import Given, InputPart, what_is_given
from bts_assets.storage.batch_identity import BatchOrigin, Canary
from bts_assets.storage.catalogues import keep_catalogue
from bts_assets.storage.forecasts import find_batch, load, publish, serve_again
from bts_assets.storage.loading import BatchPart
from bts_assets.storage.model_versions import ModelVersion, champion_for
from bts_assets.storage.provenance import code_version

log = logging.getLogger(__name__)

#: Times that a night is made again because another version became champion meanwhile.
_TRIES: Final = 3

_NO_STATION: Final = np.array([], dtype=np.int64)


@dataclass(frozen=True)
class NightResult:
    """What forecasting came to, and by which version. Not `new`: the same batch was published before."""

    batch_id: int
    new: bool
    serves_latest: bool
    version: ModelVersion


@dataclass(frozen=True)
class CanaryShare:
    """A challenger that is to serve a share of the stations."""

    challenger: ModelVersion
    share: float


def publish_night(
    home: Home, origin: Origin, champion: ModelVersion, run_id: str | None, canary: CanaryShare | None
) -> NightResult:
    """As `forecast_and_publish`, of whoever is champion when it is published: `NightResult.version`.

    A promotion or a rollback may come in between; what was made by then does not serve, and the night is made again.
    """
    for _ in range(_TRIES):
        night = forecast_and_publish(home, origin, champion, run_id, canary, as_champion=True)
        newest = champion_for(home.engine, home.settings.grid) or champion
        if newest.model_version_id == champion.model_version_id:
            break
        champion, canary = newest, None  # whatever was on probation ended with it
    return night


def forecast_and_publish(
    home: Home,
    origin: Origin,
    champion: ModelVersion,
    run_id: str | None,
    canary: CanaryShare | None = None,
    *,
    as_champion: bool = False,
) -> NightResult:
    """Forecast every series from `origin` with the champion and publish, unless that very batch exists.

    With a canary, some stations get the challenger's forecasts; if these fail, they get the champion's as usual.

    Raises:
        ModelStoreError: if the champion's bundle is gone or altered.
        PublishRefused: if the batch fails its checks.
    """
    with what_is_given(home, origin) as given:
        if canary is not None:
            try:
                return _publish(home, given, champion, run_id, canary, as_champion)
            except Exception as error:
                # Whatever a challenger does, the night goes on.
                log.warning(
                    "model version %s serves no station tonight: %s: %s",
                    canary.challenger.model_version_id, type(error).__name__, error,
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
    with forecast(home, given, version) as parts:
        return load(home.engine, parts, given.origin.issued_at, lineage, home.settings.grid)


@contextmanager
def forecast(
    home: Home,
    given: Given,
    version: ModelVersion,
    challenger: ModelVersion | None = None,
    stations: np.ndarray = _NO_STATION,
) -> Iterator[Iterator[BatchPart]]:
    """A version's forecasts of what is given, part by part; those of some stations are a challenger's, if there is one.
    The next parts are made while one is stored.

    The catalogue that bounds them is kept.

    Raises:
        ModelStoreError: if a bundle is gone or altered.
    """
    with home.engine.begin() as connection:
        keep_catalogue(connection, home.catalogue)
    versions = [v for v in (version, challenger) if v is not None]
    for one in versions:
        _bundle(home, one)  # what is gone is missed here, before anything is begun
    with given.each(partial(_forecast_part, versions, stations)) as parts:
        yield parts


def _forecast_part(versions: list[ModelVersion], stations: np.ndarray, home: Home, part: InputPart) -> BatchPart:
    batch, *challengers = (
        forecast_panel(home, part.panel, _bundle(home, version), part.recalibration).with_last_heard(part.heard)
        for version in versions
    )
    for other in challengers:
        batch = spliced(batch, other, stations)
    rule = breach_rule(home.settings)
    foreseen = breach_rows(batch, part.panel, part.dependence, home.catalogue, part.limits, rule)
    return BatchPart(batch, part.digests, foreseen)


def _bundle(home: Home, version: ModelVersion) -> Bundle:
    return home.models.load(version.bundle_digest, version.mlflow_model_uri)


def forecast_panel(home: Home, panel: Panel, bundle: Bundle, recalibration: Recalibration | None) -> Batch:
    """A version's forecasts of some of what is given."""
    return make_batch(bundle, panel, home.catalogue, recalibration=recalibration)


def lineage_of(home: Home, given: Given, version: ModelVersion, run_id: str | None) -> BatchOrigin:
    """What a version's batch of an origin is made from."""
    return BatchOrigin(
        model_version_id=version.model_version_id,
        input_start=given.start,
        input_ledger_seq=given.ledger_seq,
        observations_digest=given.observations_digest,
        catalogue_digest=home.catalogue.digest,
        # A version that was trained on what it is to forecast makes no forecast that anyone could have had.
        kind="in_sample" if version.training_end > given.origin.issued_at else given.origin.kind,
        settings=home.settings.public(),
        code_version=code_version(),
        dagster_run_id=run_id,
        recalibration=given.recalibration,
        terms=given.terms,
        successor_due_at=successor_due(given.origin.issued_at, home.settings.timezone, home.settings.ready_by),
    )


def _publish(
    home: Home,
    given: Given,
    champion: ModelVersion,
    run_id: str | None,
    canary: CanaryShare | None,
    as_champion: bool,
) -> NightResult:
    issued_at, lineage = given.origin.issued_at, lineage_of(home, given, champion, run_id)
    stations, challenger = _NO_STATION, None
    if canary is not None:
        challenger = canary.challenger
        stations = canary_stations(given.station_id, challenger.bundle_digest, canary.share)
        lineage = replace(lineage, canary=Canary(challenger.model_version_id, canary.share, stations))
    existing = find_batch(home.engine, issued_at, lineage)
    if existing is not None:
        serves = serve_again(home.engine, existing, issued_at, as_champion=as_champion)
        return NightResult(existing, False, serves, champion)
    with forecast(home, given, champion, challenger, stations) as parts:
        published = publish(home.engine, parts, issued_at, lineage, home.settings.grid, as_champion=as_champion)
    return NightResult(published.batch_id, published.new, published.serves_latest, champion)
