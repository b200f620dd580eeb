"""Publishing a batch: its ledger, its forecasts and the pointer in one transaction; and reading it back."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pandas as pd
import sqlalchemy as sa

from bts_assets.contracts.digests import series_digests
from bts_assets.contracts.grid import Grid
from bts_assets.contracts.quantiles import QUANTILE_COLUMNS
from bts_assets.storage import tables
from bts_assets.storage.batch_identity import BatchOrigin
from bts_assets.storage.binary_copy import copy_out, copy_out_in_blocks
from bts_assets.storage.crash_points import crash_point
from bts_assets.storage.loading import BatchPart, forecasts_digest, load_parts, not_published, same_batch
from bts_assets.storage.locks import LOCK_PUBLISH, hold, transaction
from bts_assets.storage.postgres import DatabaseError


@dataclass(frozen=True)
class Published:
    batch_id: int
    new: bool
    serves_latest: bool


def find_batch(engine: sa.Engine, issued_at: datetime, origin: BatchOrigin, *, loaded: bool = False) -> int | None:
    """The batch of the same origin and identity, if it was published before; or `loaded`."""
    query = same_batch(issued_at, origin)
    if not loaded:
        query = query.where(tables.batch.c.batch_id.in_(sa.select(tables.publication.c.batch_id)))
    with engine.connect() as connection:
        return connection.scalar(query)


def publish(
    engine: sa.Engine,
    parts: Iterable[BatchPart],
    issued_at: datetime,
    origin: BatchOrigin,
    grid: Grid,
    *,
    as_champion: bool = False,
) -> Published:
    """Publish a batch, or find that it already is.

    One commit loads it and moves the pointer: readers see the batch before it until then. Each of its parts is checked
    before it is loaded.

    `as_champion`: it serves only if its model version is champion at that commit; a rollback may have come in between.

    Raises:
        PublishRefused: if forecasts are missing or were lost on the way.
        UnsoundForecasts: if they cross, are not finite, or otherwise break the `Forecasts` schema.
        DatabaseError: if another session held a lock for too long.
    """
    with _named_lock_timeout(issued_at), transaction(engine) as connection:
        batch_id = load_parts(connection, parts, issued_at, origin, grid)
        hold(connection, LOCK_PUBLISH)
        published = _point(connection, batch_id, issued_at, as_champion)
        crash_point("publish.before_commit")
    crash_point("publish.after_commit")
    return published


def load(engine: sa.Engine, parts: Iterable[BatchPart], issued_at: datetime, origin: BatchOrigin, grid: Grid) -> int:
    """Load a batch where no reader looks, or find it loaded; its number. The pointer may be moved to it from now on.

    Raises:
        PublishRefused, DatabaseError: as `publish`.
    """
    with _named_lock_timeout(issued_at), transaction(engine) as connection:
        return load_parts(connection, parts, issued_at, origin, grid)


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


def read_batch(connection: sa.Connection, batch_id: int, series: tuple[int, int] | None = None) -> pd.DataFrame:
    """The `Forecasts` rows of a batch, or of one series (station, parameter) of it."""
    columns = {"station_id": "int64", "parameter_id": "int32", "issued_at": "time", "target_at": "time"}
    columns |= {"step_ahead": "int16"} | dict.fromkeys(QUANTILE_COLUMNS, "float64")
    query = f"SELECT {', '.join(columns)} FROM bts.forecast WHERE batch_id = {int(batch_id)}"
    if series is not None:
        query += f" AND station_id = {int(series[0])} AND parameter_id = {int(series[1])}"
    return copy_out(connection, query, columns)


@dataclass(frozen=True)
class StoredBatch:
    """What is stored of a batch: its row of `bts.batch`, how many series each source forecast (for an excluded series:
    its status), in descending order, forecast rows, and the newest observation of its series.
    """

    row: Mapping[str, Any]
    sources: dict[str, int]
    forecasts: int
    newest_observed: datetime | None


def stored_batch(connection: sa.Connection, batch_id: int) -> StoredBatch:
    batch, ledger, series = tables.batch, tables.forecast_ledger.c, tables.forecast_series.c
    row = connection.execute(sa.select(batch).where(batch.c.batch_id == batch_id)).mappings().one()
    source = sa.func.coalesce(ledger.source, ledger.status)
    counted = sa.select(source, sa.func.count()).where(ledger.batch_id == batch_id).group_by(source)
    sources = connection.execute(counted.order_by(sa.func.count().desc()))
    forecasts = sa.select(sa.func.sum(sa.func.cardinality(series.q50))).where(series.batch_id == batch_id)
    newest = sa.select(sa.func.max(ledger.last_observed_at)).where(ledger.batch_id == batch_id)
    return StoredBatch(
        {str(name): value for name, value in row.items()},
        {str(name): int(count) for name, count in sources},
        int(connection.scalar(forecasts) or 0),
        connection.scalar(newest),
    )


@dataclass(frozen=True)
class StoredForecast:
    """What is stored of one series of a batch: quantiles (horizon, 5), in the series' unit; source: what made them."""

    station_id: int
    parameter_id: int
    source: str | None
    quantiles: np.ndarray


def some_forecasts(connection: sa.Connection, batch_id: int, count: int) -> list[StoredForecast]:
    """At most `count` series of a batch, each of another parameter: the first station that has it."""
    rows = connection.execute(_ONE_A_PARAMETER, {"batch": batch_id, "count": count})
    return [StoredForecast(place, parameter, source, np.array(q).T) for place, parameter, source, *q in rows]


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
    SELECT station_id, parameter_id, l.source, {", ".join(QUANTILE_COLUMNS)}
    FROM bts.forecast_series AS s JOIN chosen USING (station_id, parameter_id)
    JOIN bts.forecast_ledger AS l USING (batch_id, station_id, parameter_id)
    WHERE s.batch_id = :batch ORDER BY station_id, parameter_id
""")


def is_as_published(
    connection: sa.Connection, batch_id: int, issued_at: datetime, horizon_steps: int, digest: str
) -> bool:
    """Whether what is stored of a batch now is what its digest is of; its rows are read in blocks."""
    digests: list[bytes] = []

    def take(rows: dict[str, np.ndarray]) -> None:
        quantiles = np.stack([rows[name] for name in QUANTILE_COLUMNS], axis=2)
        digests.extend(series_digests(rows["station_id"], rows["parameter_id"], quantiles))

    columns = {"station_id": ("int64", 0), "parameter_id": ("int32", 0)}
    columns |= dict.fromkeys(QUANTILE_COLUMNS, ("float64", horizon_steps))
    query = (
        f"SELECT {', '.join(columns)} FROM bts.forecast_series WHERE batch_id = {int(batch_id)}"
        " ORDER BY station_id, parameter_id"
    )
    try:
        copy_out_in_blocks(connection, query, columns, take)
    except ValueError:  # rows of another length were never published
        return False
    if not digests:
        return False
    same = digest == forecasts_digest(issued_at, digests)
    return same or digest == _digest_of_format_1(connection, batch_id, issued_at)


def _digest_of_format_1(connection: sa.Connection, batch_id: int, issued_at: datetime) -> str:
    """As batches had it before their series had digests of their own; all of it is read at once."""
    stored = read_batch(connection, batch_id).sort_values(["station_id", "parameter_id", "step_ahead"])
    first = stored[stored["step_ahead"] == 1]
    digest = hashlib.sha256(issued_at.astimezone(UTC).isoformat().encode())
    for numbers in (first["station_id"], first["parameter_id"], stored[list(QUANTILE_COLUMNS)]):
        digest.update(np.ascontiguousarray(numbers.to_numpy()).data)
    return digest.hexdigest()


def _pointer(connection: sa.Connection) -> tuple[int | None, datetime | None]:
    """The batch that serves, and its origin."""
    p, b = tables.publication.c, tables.batch.c
    query = sa.select(b.batch_id, b.issued_at).join(tables.publication, p.batch_id == b.batch_id)
    row = connection.execute(query.where(p.serves_latest).order_by(p.publication_seq.desc()).limit(1)).first()
    return (row[0], row[1]) if row else (None, None)


@contextmanager
def _named_lock_timeout(issued_at: datetime) -> Iterator[None]:
    try:
        yield
    except sa.exc.OperationalError as error:
        if getattr(error.orig, "pgcode", None) != "55P03":  # lock_not_available
            raise
        raise DatabaseError(
            not_published(issued_at, "another session holds a lock on bts.forecast (see pg_locks); try again")
        ) from None
