"""A batch on its way into the database: its parts are checked, copied and forgotten one by one, in one transaction.

Moving the pointer to it, and reading it back, are `forecasts.py`'s.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pandas as pd
import sqlalchemy as sa
from pandera.errors import SchemaErrors
from sqlalchemy.dialects.postgresql import insert

from bts_assets.contracts.digests import digest_of_all, series_digests
from bts_assets.contracts.grid import Grid
from bts_assets.contracts.quantiles import QUANTILE_COLUMNS
from bts_assets.contracts.schemas import ForecastLedger, Forecasts, validate
from bts_assets.forecasting.batch import Batch
from bts_assets.forecasting.windows import in_chunks
from bts_assets.monitoring.terms import limits_digest
from bts_assets.storage import tables
from bts_assets.storage.batch_identity import BatchOrigin, Canary
from bts_assets.storage.binary_copy import copy_in, copy_rows
from bts_assets.storage.crash_points import crash_point
from bts_assets.storage.postgres import DatabaseError
from bts_assets.storage.recalibrations import keep_recalibration
from bts_assets.storage.station_limits import keep_limits

#: Series whose forecasts are checked at once: it bounds memory.
_CHECKED_AT_ONCE: Final = 8192

_STATUSES: Final = ("forecast", "fallback", "excluded")


class PublishRefused(DatabaseError):
    """A batch did not pass its checks; readers keep the last good one."""


class UnsoundForecasts(PublishRefused):
    """Its rows are not what the `Forecasts` schema says."""


@dataclass(frozen=True)
class BatchPart:
    """Some series of a batch. input_digests: of what each was made from, in the ledger's order, where it is known;
    foreseen: rows of `bts.breach_forecast` but for the batch's number.
    """

    batch: Batch
    input_digests: Sequence[bytes] | None = None
    foreseen: pd.DataFrame = field(default_factory=pd.DataFrame)


def forecast_digests(batch: Batch) -> list[bytes]:
    """SHA-256 of each series of a batch that has a forecast, and of its numbers as they are stored."""
    return series_digests(batch.station_id, batch.parameter_id, batch.quantiles)


def forecasts_digest(issued_at: datetime, digests: Iterable[bytes]) -> str:
    """SHA-256 over the digests of a batch's series, in their order."""
    return digest_of_all(f"forecasts 2 {issued_at.astimezone(UTC).isoformat()} ", digests)


def load_parts(
    connection: sa.Connection, parts: Iterable[BatchPart], issued_at: datetime, origin: BatchOrigin, grid: Grid
) -> int:
    """Load a batch and its ledger, unless they are there; its number. Parts are in order of series, and none overlap.

    Whoever loads the same batch at once waits for this transaction to end, and finds it.

    Raises:
        PublishRefused: if forecasts are missing or were lost on the way.
        UnsoundForecasts: if they cross, are not finite, or otherwise break the `Forecasts` schema.
    """
    batch_id = _entered(connection, issued_at, origin, grid)
    if batch_id is None:
        return int(connection.execute(same_batch(issued_at, origin)).scalar_one())
    crash_point("publish.after_batch")
    keep_limits(connection, origin.terms.limits)
    loaded = _Loaded(issued_at)
    for part in parts:
        _check(part.batch, grid)
        crash_point("publish.after_check")
        loaded.add(part, _load_part(connection, batch_id, part, origin.canary))
    loaded.check()
    connection.execute(sa.update(tables.batch).where(tables.batch.c.batch_id == batch_id).values(loaded.row()))
    if origin.recalibration is not None:
        keep_recalibration(connection, batch_id, origin.recalibration)
        crash_point("recalibration.after_keep")
    return batch_id


def same_batch(issued_at: datetime, origin: BatchOrigin) -> sa.Select[Any]:
    """The number of the batch of an origin and an identity."""
    t = tables.batch.c
    named = [t[name].is_not_distinct_from(value) for name, value in origin.identity.items()]
    return sa.select(t.batch_id).where(t.issued_at == issued_at, *named)


def not_published(issued_at: datetime, why: str) -> str:
    return f"the batch of {issued_at} was not published: {why}; the batch before it still serves"


class _Loaded:
    """What the parts of a batch come to together."""

    def __init__(self, issued_at: datetime) -> None:
        self._issued_at = issued_at
        self._status: Counter[str] = Counter()
        self._digests: list[bytes] = []
        self._newest: list[pd.Timestamp] = []

    def add(self, part: BatchPart, digests: list[bytes]) -> None:
        self._status.update(part.batch.ledger["status"].tolist())
        self._newest.append(part.batch.ledger["last_observed_at"].max())
        self._digests += digests

    def check(self) -> None:
        if not self._digests:
            newest = pd.Series(self._newest, dtype="datetime64[us, UTC]").max()
            why = f"none of {self._status.total()} series could be forecast; newest observation: {newest}"
            raise PublishRefused(not_published(self._issued_at, why))

    def row(self) -> dict[str, Any]:
        counts = {status: self._status[status] for status in _STATUSES}
        digest = forecasts_digest(self._issued_at, self._digests)
        return {"forecasts_digest": digest, "series": self._status.total(), **counts}


def _entered(connection: sa.Connection, issued_at: datetime, origin: BatchOrigin, grid: Grid) -> int | None:
    """The number of a new row for the batch, whose sums follow; None: there is one."""
    row = {
        "issued_at": issued_at,
        "kind": origin.kind,
        **origin.identity,
        "step_seconds": int(grid.step.total_seconds()),
        "horizon_steps": grid.horizon_steps,
        "input_start": origin.input_start,
        "input_ledger_seq": origin.input_ledger_seq,
        **_Loaded(issued_at).row(),
        "settings": origin.settings,
        "code_version": origin.code_version,
        "dagster_run_id": origin.dagster_run_id,
        "successor_due_at": origin.successor_due_at,
        "limits_digest": limits_digest(origin.terms.limits),
        "breach_terms": origin.terms.stored(),
    }
    unless_there = insert(tables.batch).values(row).on_conflict_do_nothing().returning(tables.batch.c.batch_id)
    batch_id: int | None = connection.scalar(unless_there)
    return batch_id


def _load_part(connection: sa.Connection, batch_id: int, part: BatchPart, canary: Canary | None) -> list[bytes]:
    """Copy a part into its tables; the digests of its forecasts."""
    digests = forecast_digests(part.batch)
    _load_ledger(connection, batch_id, part, digests, canary)
    crash_point("publish.after_ledger")
    _load_forecasts(connection, batch_id, part.batch)
    crash_point("publish.after_copy")
    if len(part.foreseen):
        copy_rows(connection, "bts.breach_forecast", part.foreseen.assign(batch_id=batch_id))
    return digests


def _check(batch: Batch, grid: Grid) -> None:
    validate(ForecastLedger, batch.ledger)
    _check_complete(batch, grid)
    _check_sound(batch)


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
            raise UnsoundForecasts(not_published(batch.issued_at, why)) from None


def _check_complete(batch: Batch, grid: Grid) -> None:
    """Every series that the ledger calls forecast must have all its steps, and no other series any."""
    served = batch.ledger.loc[batch.ledger["status"] != "excluded", ["station_id", "parameter_id"]]
    given = pd.DataFrame({"station_id": batch.station_id, "parameter_id": batch.parameter_id})
    complete = batch.quantiles.shape == (len(given), grid.horizon_steps, len(QUANTILE_COLUMNS))
    order = list(given.columns)
    if not complete or not np.array_equal(served.sort_values(order), given.sort_values(order)):
        raise PublishRefused(not_published(batch.issued_at, "its forecasts are not those that its ledger lists"))


def _load_ledger(
    connection: sa.Connection, batch_id: int, part: BatchPart, digests: list[bytes], canary: Canary | None
) -> None:
    batch, ledger = part.batch, part.batch.ledger
    served = pd.array([pd.NA] * len(ledger), dtype="Int64")
    if canary is not None:
        served[ledger["station_id"].isin(canary.stations).to_numpy()] = canary.model_version_id
    own = dict(zip(zip(batch.station_id.tolist(), batch.parameter_id.tolist(), strict=True), digests, strict=True))
    series = zip(ledger["station_id"].tolist(), ledger["parameter_id"].tolist(), strict=True)
    made_from: Sequence[bytes | None] = part.input_digests or [None] * len(ledger)
    rows = ledger.assign(
        batch_id=batch_id,
        components=[None if c is None else json.dumps(c, sort_keys=True) for c in ledger["components"]],
        last_observed_at=ledger["last_observed_at"].dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
        model_version_id=served,
        input_digest=[_as_bytea(digest) for digest in made_from],
        forecast_digest=[_as_bytea(own.get(one)) for one in series],
    )
    copy_rows(connection, "bts.forecast_ledger", rows)


def _as_bytea(digest: bytes | None) -> str | None:
    return None if digest is None else f"\\x{digest.hex()}"


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
        raise PublishRefused(not_published(batch.issued_at, f"{arrived} of {sent} series arrived"))
