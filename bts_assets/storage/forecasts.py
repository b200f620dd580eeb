"""Publishing a batch: its ledger, its forecasts and the pointer in one transaction; and reading it back."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pandas as pd
import sqlalchemy as sa
from pandera.errors import SchemaErrors

from bts_assets.contracts.grid import Grid
from bts_assets.contracts.quantiles import QUANTILE_COLUMNS
from bts_assets.contracts.schemas import ForecastLedger, Forecasts, validate
from bts_assets.forecasting.batch import Batch
from bts_assets.forecasting.windows import in_chunks
from bts_assets.storage import tables
from bts_assets.storage.batch_identity import BatchOrigin, Canary
from bts_assets.storage.binary_copy import copy_in, copy_out, copy_rows
from bts_assets.storage.crash_points import crash_point
from bts_assets.storage.locks import LOCK_PUBLISH, transaction
from bts_assets.storage.postgres import DatabaseError
from bts_assets.storage.recalibrations import keep_recalibration

#: Series whose forecasts are checked at once: it bounds memory.
_CHECKED_AT_ONCE: Final = 8192


class PublishRefused(DatabaseError):
    """A batch did not pass its checks; readers keep the last good one."""


class UnsoundForecasts(PublishRefused):
    """Its rows are not what the `Forecasts` schema says."""


@dataclass(frozen=True)
class Published:
    batch_id: int
    new: bool
    serves_latest: bool


def find_batch(engine: sa.Engine, issued_at: datetime, origin: BatchOrigin, *, loaded: bool = False) -> int | None:
    """The batch of the same origin and identity, if it was published before; or `loaded`."""
    query = _same(issued_at, origin)
    if not loaded:
        query = query.where(tables.batch.c.batch_id.in_(sa.select(tables.publication.c.batch_id)))
    with engine.connect() as connection:
        return connection.scalar(query)


def publish(
    engine: sa.Engine,
    batch: Batch,
    origin: BatchOrigin,
    grid: Grid,
    foreseen: pd.DataFrame | None = None,
    *,
    as_champion: bool = False,
) -> Published:
    """Publish a batch, or find that it already is.

    One commit loads it and moves the pointer: readers see the batch before it until then. It is checked before that.

    `as_champion`: it serves only if its model version is champion at that commit; a rollback may have come in between.
    foreseen: rows of `bts.breach_forecast` but for the batch's number; they are seen with the batch.

    Raises:
        PublishRefused: if forecasts are missing or were lost on the way.
        UnsoundForecasts: if they cross, are not finite, or otherwise break the `Forecasts` schema.
        DatabaseError: if another session held a lock for too long.
    """
    _check(batch, grid)
    with _named_lock_timeout(batch.issued_at), transaction(engine, LOCK_PUBLISH) as connection:
        batch_id = _load(connection, batch, origin, grid, foreseen)
        published = _point(connection, batch_id, batch.issued_at, as_champion)
        crash_point("publish.before_commit")
    crash_point("publish.after_commit")
    return published


def load(engine: sa.Engine, batch: Batch, origin: BatchOrigin, grid: Grid, foreseen: pd.DataFrame | None = None) -> int:
    """Load a batch where no reader looks, or find it loaded; its number. The pointer may be moved to it from now on.

    Raises:
        PublishRefused, DatabaseError: as `publish`.
    """
    _check(batch, grid)
    with _named_lock_timeout(batch.issued_at), transaction(engine, LOCK_PUBLISH) as connection:
        return _load(connection, batch, origin, grid, foreseen)


def serve_again(engine: sa.Engine, batch_id: int, issued_at: datetime, *, as_champion: bool = False) -> bool:
    """Move the pointer back to a published batch, if another of the same origin serves; whether it serves then.

    Readings that were corrected and corrected back, and champions that come again, give a batch that is there already.
    """
    with _named_lock_timeout(issued_at), transaction(engine, LOCK_PUBLISH) as connection:
        serving, newest = _pointer(connection)
        superseded = as_champion and _champion_changed(connection, batch_id)
        if serving != batch_id and issued_at == newest and not superseded:
            point(connection, batch_id, "the same input and model version again")
            serving = batch_id
    return serving == batch_id


def point(connection: sa.Connection, batch_id: int, reason: str) -> None:
    """Let readers see a loaded batch from this transaction's commit on. The caller holds `LOCK_PUBLISH`."""
    entry = {"batch_id": batch_id, "serves_latest": True, "reason": reason}
    connection.execute(sa.insert(tables.publication).values(entry))


def _same(issued_at: datetime, origin: BatchOrigin) -> sa.Select[Any]:
    t = tables.batch.c
    named = [t[name].is_not_distinct_from(value) for name, value in origin.identity.items()]
    return sa.select(t.batch_id).where(t.issued_at == issued_at, *named)


def _load(
    connection: sa.Connection, batch: Batch, origin: BatchOrigin, grid: Grid, foreseen: pd.DataFrame | None
) -> int:
    """Load the batch and its ledger, unless they are there."""
    existing: int | None = connection.scalar(_same(batch.issued_at, origin))
    if existing is not None:
        return existing
    insert = sa.insert(tables.batch).values(_batch_row(batch, origin, grid)).returning(tables.batch.c.batch_id)
    batch_id: int = connection.execute(insert).scalar_one()
    crash_point("publish.after_batch")
    _load_ledger(connection, batch_id, batch, origin.canary)
    crash_point("publish.after_ledger")
    _load_forecasts(connection, batch_id, batch)
    crash_point("publish.after_copy")
    if origin.recalibration is not None:
        keep_recalibration(connection, batch_id, origin.recalibration)
        crash_point("recalibration.after_keep")
    if foreseen is not None and len(foreseen):
        copy_rows(connection, "bts.breach_forecast", foreseen.assign(batch_id=batch_id))
    return batch_id


def _point(connection: sa.Connection, batch_id: int, issued_at: datetime, as_champion: bool) -> Published:
    """Move the pointer to a loaded batch, unless another process did."""
    published = sa.select(tables.publication.c.batch_id).where(tables.publication.c.batch_id == batch_id)
    serving, newest = _pointer(connection)
    if connection.scalar(published) is not None:
        return Published(batch_id, new=False, serves_latest=serving == batch_id)
    serves = newest is None or issued_at >= newest
    reason = "newest origin" if serves else f"its origin is earlier than {newest}, which serves"
    if as_champion and _champion_changed(connection, batch_id):
        serves, reason = False, "its model version was superseded"
    entry = {"batch_id": batch_id, "serves_latest": serves, "reason": reason}
    connection.execute(sa.insert(tables.publication).values(entry))
    return Published(batch_id, new=True, serves_latest=serves)


_CHAMPION_OF_GRID: Final = sa.text("""
    SELECT c.model_version_id IS DISTINCT FROM b.model_version_id
    FROM bts.batch AS b JOIN bts.model_version AS own USING (model_version_id), bts.champion AS c
    JOIN bts.model_version AS m ON m.model_version_id = c.model_version_id
    WHERE b.batch_id = :batch AND (m.step_seconds, m.context_seconds, m.horizon_seconds)
        = (own.step_seconds, own.context_seconds, own.horizon_seconds)
    ORDER BY c.champion_seq DESC LIMIT 1
""")


def _champion_changed(connection: sa.Connection, batch_id: int) -> bool:
    """Whether another version is champion for the grid of a batch's version by now."""
    return bool(connection.scalar(_CHAMPION_OF_GRID, {"batch": batch_id}))


def read_batch(connection: sa.Connection, batch_id: int) -> pd.DataFrame:
    """The `Forecasts` rows of a batch."""
    columns = {"station_id": "int64", "parameter_id": "int32", "issued_at": "time", "target_at": "time"}
    columns |= {"step_ahead": "int16"} | dict.fromkeys(QUANTILE_COLUMNS, "float64")
    query = f"SELECT {', '.join(columns)} FROM bts.forecast WHERE batch_id = {int(batch_id)}"
    return copy_out(connection, query, columns)


@dataclass(frozen=True)
class StoredForecast:
    """What is stored of one series of a batch: quantiles (horizon, 5), in the series' unit."""

    station_id: int
    parameter_id: int
    quantiles: np.ndarray


def some_forecasts(connection: sa.Connection, batch_id: int, count: int) -> list[StoredForecast]:
    """At most `count` series of a batch, each of another parameter: the first station that has it."""
    rows = connection.execute(_ONE_A_PARAMETER, {"batch": batch_id, "count": count})
    return [StoredForecast(station, parameter, np.array(levels).T) for station, parameter, *levels in rows]


# The parameters from the ledger, whose rows are short, and of each the first station by the key: rows of forecasts fill
# a page each, and only those that are drawn are read.
_ONE_A_PARAMETER: Final = sa.text(f"""
    WITH parameters AS MATERIALIZED (
        SELECT DISTINCT parameter_id FROM bts.forecast_ledger WHERE batch_id = :batch AND status <> 'excluded'
    ), chosen AS MATERIALIZED (
        SELECT first.station_id, parameter_id FROM parameters AS p CROSS JOIN LATERAL (
            SELECT station_id FROM bts.forecast_series AS s
            WHERE s.batch_id = :batch AND s.parameter_id = p.parameter_id ORDER BY station_id LIMIT 1) AS first
        ORDER BY 1, 2 LIMIT :count
    )
    SELECT station_id, parameter_id, {", ".join(QUANTILE_COLUMNS)}
    FROM bts.forecast_series JOIN chosen USING (station_id, parameter_id)
    WHERE batch_id = :batch ORDER BY station_id, parameter_id
""")


def forecasts_digest(batch: Batch) -> str:
    """SHA-256 over the numbers as they are stored, in order of series."""
    digest = hashlib.sha256(batch.issued_at.isoformat().encode())
    for values in (batch.station_id, batch.parameter_id, batch.quantiles):
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def stored_digest(connection: sa.Connection, batch_id: int, issued_at: datetime, horizon_steps: int) -> str | None:
    """As `forecasts_digest`, of what is stored of a batch now; None: its rows are not whole series, or are none."""
    stored = read_batch(connection, batch_id).sort_values(["station_id", "parameter_id", "step_ahead"])
    if stored.empty or len(stored) % horizon_steps:
        return None
    digest = hashlib.sha256(issued_at.astimezone(UTC).isoformat().encode())
    for name in ("station_id", "parameter_id"):
        digest.update(np.ascontiguousarray(stored[name].to_numpy()[::horizon_steps]).data)
    digest.update(np.ascontiguousarray(stored[list(QUANTILE_COLUMNS)].to_numpy()).data)
    return digest.hexdigest()


def _batch_row(batch: Batch, origin: BatchOrigin, grid: Grid) -> dict[str, Any]:
    counts = batch.ledger["status"].value_counts()
    return {
        "issued_at": batch.issued_at,
        "kind": origin.kind,
        **origin.identity,
        "step_seconds": int(grid.step.total_seconds()),
        "horizon_steps": grid.horizon_steps,
        "input_start": origin.input_start,
        "input_ledger_seq": origin.input_ledger_seq,
        "forecasts_digest": forecasts_digest(batch),
        "series": len(batch.ledger),
        **{status: int(counts.get(status, 0)) for status in ("forecast", "fallback", "excluded")},
        "settings": origin.settings,
        "code_version": origin.code_version,
        "dagster_run_id": origin.dagster_run_id,
        "successor_due_at": origin.successor_due_at,
    }


def _pointer(connection: sa.Connection) -> tuple[int | None, datetime | None]:
    """The batch that serves, and its origin."""
    p, b = tables.publication.c, tables.batch.c
    query = sa.select(b.batch_id, b.issued_at).join(tables.publication, p.batch_id == b.batch_id)
    row = connection.execute(query.where(p.serves_latest).order_by(p.publication_seq.desc()).limit(1)).first()
    return (row[0], row[1]) if row else (None, None)


def _check(batch: Batch, grid: Grid) -> None:
    validate(ForecastLedger, batch.ledger)
    _check_complete(batch, grid)
    _check_sound(batch)
    crash_point("publish.after_check")


def _check_sound(batch: Batch) -> None:
    """Every row must be what the `Forecasts` schema says: checked as arrays, before anything is stored."""
    for part in in_chunks(len(batch.station_id), _CHECKED_AT_ONCE):
        some = replace(
            batch,
            station_id=batch.station_id[part],
            parameter_id=batch.parameter_id[part],
            quantiles=batch.quantiles[part],
        )
        try:
            validate(Forecasts, some.to_frame())
        except SchemaErrors as error:
            cases = error.failure_cases
            first = cases.iloc[0]
            why = f"its forecasts break the schema in {len(cases)} cases, first {first['check']} ({first['column']})"
            raise UnsoundForecasts(_not_published(batch.issued_at, why)) from None


def _check_complete(batch: Batch, grid: Grid) -> None:
    """Every series that the ledger calls forecast must have all its steps, and no other series any."""
    if not len(batch.station_id):
        newest = batch.ledger["last_observed_at"].max()
        raise PublishRefused(
            _not_published(
                batch.issued_at, f"none of {len(batch.ledger)} series could be forecast; newest observation: {newest}"
            )
        )
    served = batch.ledger.loc[batch.ledger["status"] != "excluded", ["station_id", "parameter_id"]]
    given = pd.DataFrame({"station_id": batch.station_id, "parameter_id": batch.parameter_id})
    complete = batch.quantiles.shape == (len(given), grid.horizon_steps, len(QUANTILE_COLUMNS))
    order = list(given.columns)
    if not complete or not np.array_equal(served.sort_values(order), given.sort_values(order)):
        raise PublishRefused(_not_published(batch.issued_at, "its forecasts are not those that its ledger lists"))


@contextmanager
def _named_lock_timeout(issued_at: datetime) -> Iterator[None]:
    try:
        yield
    except sa.exc.OperationalError as error:
        if getattr(error.orig, "pgcode", None) != "55P03":  # lock_not_available
            raise
        raise DatabaseError(
            _not_published(issued_at, "another session holds a lock on bts.forecast (see pg_locks); try again")
        ) from None


def _not_published(issued_at: datetime, why: str) -> str:
    return f"the batch of {issued_at} was not published: {why}; the batch before it still serves"


def _load_ledger(connection: sa.Connection, batch_id: int, batch: Batch, canary: Canary | None) -> None:
    served = pd.array([pd.NA] * len(batch.ledger), dtype="Int64")
    if canary is not None:
        served[batch.ledger["station_id"].isin(canary.stations).to_numpy()] = canary.model_version_id
    rows = batch.ledger.assign(
        batch_id=batch_id,
        components=[None if c is None else json.dumps(c, sort_keys=True) for c in batch.ledger["components"]],
        last_observed_at=batch.ledger["last_observed_at"].dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
        model_version_id=served,
    )
    copy_rows(connection, "bts.forecast_ledger", rows)


def _load_forecasts(connection: sa.Connection, batch_id: int, batch: Batch) -> None:
    sent = len(batch.station_id)
    columns: dict[str, np.ndarray] = {
        "batch_id": np.broadcast_to(np.int64(batch_id), sent),
        "station_id": batch.station_id.astype(np.int64),
        "parameter_id": batch.parameter_id.astype(np.int32),
        **{name: batch.quantiles[:, :, k] for k, name in enumerate(QUANTILE_COLUMNS)},
    }
    arrived = copy_in(connection, "bts.forecast_series", columns)
    if arrived != sent:
        raise PublishRefused(_not_published(batch.issued_at, f"{arrived} of {sent} series arrived"))
