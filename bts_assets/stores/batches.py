"""One night's batch: the champion's forecasts of the newest context, published."""

from dataclasses import dataclass
from datetime import datetime

import pandas as pd
import sqlalchemy as sa

from bts_assets.contracts.origin import Origin
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.schemas import UTC_TIME
from bts_assets.forecasting.batch import Batch, make_batch
from bts_assets.stores.forecasts import BatchOrigin, find_batch, publish
from bts_assets.stores.home import Home
from bts_assets.stores.observations import read_settled_panel
from bts_assets.stores.provenance import code_version
from bts_assets.stores.versions import ModelVersion


@dataclass(frozen=True)
class Night:
    """What forecasting came to; `panel` is what it was made from. Not `new`: the same batch was published before."""

    batch_id: int
    new: bool
    serves_latest: bool
    panel: Panel


def forecast_and_publish(home: Home, origin: Origin, champion: ModelVersion, run_id: str | None) -> Night:
    """Forecast every series from `origin` with the champion and publish, unless that very batch exists.

    Raises:
        ModelStoreError: if the champion's bundle is gone or altered.
        PublishRefused: if the batch fails its checks.
    """
    grid = home.settings.grid
    start = origin.issued_at - grid.context
    panel, ledger_seq = read_settled_panel(
        home.engine, home.readings, home.catalogue, grid, origin.issued_at, lambda _: start
    )
    existing = find_batch(home.engine, origin.issued_at, panel.digest, home.catalogue.digest, champion.model_version_id)
    if existing is not None:
        return Night(existing, False, _serving(home.engine) == existing, panel)
    bundle = home.models.load(champion.bundle_digest, champion.mlflow_model_uri)
    batch = _with_silent_series(home.engine, make_batch(bundle, panel, home.catalogue))
    lineage = BatchOrigin(
        model_version_id=champion.model_version_id,
        input_start=start,
        input_ledger_seq=ledger_seq,
        observations_digest=panel.digest,
        catalogue_digest=home.catalogue.digest,
        # A version that was trained on what it is to forecast makes no forecast that anyone could have had.
        kind="hindcast" if champion.training_end > origin.issued_at else origin.kind,
        settings=home.settings.public(),
        code_version=code_version(),
        dagster_run_id=run_id,
    )
    published = publish(home.engine, batch, lineage, grid)
    return Night(published.batch_id, published.new, published.serves_latest, panel)


def _with_silent_series(engine: sa.Engine, batch: Batch) -> Batch:
    """Fill in when a series that was silent throughout the context was last heard of."""
    silent = batch.ledger["last_observed_at"].isna()
    if not silent.any():
        return batch
    heard = _last_heard(engine, batch.ledger[silent], batch.issued_at)
    batch.ledger.loc[silent, "last_observed_at"] = heard.to_numpy()
    return batch


def _last_heard(engine: sa.Engine, series: pd.DataFrame, before: datetime) -> pd.Series:
    query = sa.text(
        "SELECT (SELECT max(observed_at) FROM bts.observation AS o WHERE o.station_id = s AND o.parameter_id = p"
        " AND o.observed_at < :before) FROM unnest(CAST(:stations AS bigint[]), CAST(:parameters AS int[]))"
        " WITH ORDINALITY AS silent (s, p, n) ORDER BY n"
    )
    values = {
        "before": before,
        "stations": series["station_id"].tolist(),
        "parameters": series["parameter_id"].tolist(),
    }
    with engine.connect() as connection:
        return pd.Series(list(connection.execute(query, values).scalars()), dtype=UTC_TIME)


def _serving(engine: sa.Engine) -> int | None:
    with engine.connect() as connection:
        return connection.scalar(sa.text("SELECT batch_id FROM bts.latest_batch"))
