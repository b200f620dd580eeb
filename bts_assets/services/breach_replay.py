"""The breaches of a batch made again from what is kept with it, and compared with those that are stored."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import sqlalchemy as sa

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.contracts.panel import Panel
from bts_assets.forecasting.batch import Batch
from bts_assets.monitoring.dependence import dependence_of
from bts_assets.monitoring.terms import terms_of_stored
from bts_assets.services.breach import COLUMNS, HOURS, breach_rows, straying
from bts_assets.services.lineage_rebuild import of_series
from bts_assets.storage.station_limits import kept_limits

#: On another kind of machine a path or two of hundreds may pass a limit that it did not pass then.
TOLERANCE: Final = 0.02

_KEY: Final = ["station_id", "parameter_id", "side"]
_CHANCES: Final = [f"probability_{hours}h" for hours in HOURS]
#: What is stored in single precision.
_SINGLE: Final = [*_CHANCES, "expected_steps"]
_STORED: Final = sa.text("SELECT * FROM bts.breach_forecast WHERE batch_id = :batch")


@dataclass(frozen=True)
class ComparedBreaches:
    """Rows of `bts.breach_forecast`, stored or made again, and how many differ; first: the first of them that differs
    by more than is allowed, in words; why_not: why they were not compared.
    """

    rows: int = 0
    differing: int = 0
    first: str | None = None
    why_not: str | None = None


def stored_breaches(connection: sa.Connection, batch_id: int) -> pd.DataFrame:
    rows = connection.execute(_STORED, {"batch": batch_id}).mappings().all()
    return pd.DataFrame(rows, columns=["batch_id", *COLUMNS]).drop(columns="batch_id")


def replay_breaches(
    connection: sa.Connection,
    made: Mapping[str, Any],
    batch: Batch,
    context: Panel,
    catalogue: Catalogue,
    series: tuple[int, int] | None,
    *,
    exact: bool,
) -> ComparedBreaches:
    """Compare what a batch foresaw with what it foresees when it is made again: all of it, or one series.

    made: the batch's row. exact: bit for bit; else the probabilities, within `TOLERANCE`. Of one series, how errors of
    its parameter hang together is taken as it was stored: it is of the whole network.
    """
    if made["limits_digest"] is None or made["breach_terms"] is None:
        return ComparedBreaches(why_not="the limits that it was made with were not kept then")
    stored = stored_breaches(connection, made["batch_id"])
    limits = kept_limits(connection, made["limits_digest"])
    if limits is None:
        gone = "the limits that its breaches were computed with were deleted or altered (bts.limit_set)"
        return ComparedBreaches(len(stored), len(stored), gone)
    terms = terms_of_stored(made["breach_terms"], limits)
    strays = straying(context, catalogue, limits)
    dependence = dependence_of(strays, context.parameter_id, None if series is None else terms.typical)
    again = breach_rows(batch, context, dependence, catalogue, limits, terms.rule)
    if series is not None:
        stored, again = (of_series(rows, series) for rows in (stored, again))
    return _compared(_plain(stored), _plain(again), exact=exact)


def _plain(rows: pd.DataFrame) -> pd.DataFrame:
    """As numbers that are compared bit for bit: a time as its microseconds, in the precision that is stored."""
    first = pd.to_datetime(rows["first_likely_at"], utc=True)
    at = np.where(first.isna(), np.nan, first.astype("datetime64[us, UTC]").astype("int64"))
    precise = {name: rows[name].astype("float32" if name in _SINGLE else "float64") for name in (*_SINGLE, *_DOUBLE)}
    return rows[_KEY].assign(**precise, first_likely_at=at)


_DOUBLE: Final = ["limit_value", "expected_worst"]
_FIGURES: Final = ["limit_value", *_CHANCES, "first_likely_at", "expected_worst", "expected_steps"]


def _compared(stored: pd.DataFrame, again: pd.DataFrame, *, exact: bool) -> ComparedBreaches:
    both = stored.merge(again, on=_KEY, how="outer", suffixes=("", "_again"), indicator=True)
    was, now = (both[[f"{name}{suffix}" for name in _FIGURES]].to_numpy(np.float64) for suffix in ("", "_again"))
    unlike = ~((was == now) | (np.isnan(was) & np.isnan(now)))
    differs = unlike.any(axis=1) | (both["_merge"] != "both").to_numpy()
    beyond = differs if exact else differs & _far(was, now)
    first = _in_words(both.iloc[beyond.argmax()], unlike[beyond.argmax()]) if beyond.any() else None
    return ComparedBreaches(len(both), int(differs.sum()), first)


def _far(was: np.ndarray, now: np.ndarray) -> np.ndarray:
    """Whether limits or probabilities are apart by more than is allowed; a row that is missing has none."""
    chances = [_FIGURES.index(name) for name in _CHANCES]
    apart = np.abs(np.nan_to_num(was[:, chances]) - np.nan_to_num(now[:, chances])).max(axis=1, initial=0.0)
    other = np.isfinite(was[:, 0]) & np.isfinite(now[:, 0]) & (was[:, 0] != now[:, 0])
    return other | (apart > TOLERANCE)


def _in_words(row: pd.Series, unlike: np.ndarray) -> str:
    where = f"the breach of station {row['station_id']}, parameter {row['parameter_id']}, {row['side']} limit"
    if row["_merge"] != "both":
        return f"{where} is {'stored, but not rebuilt' if row['_merge'] == 'left_only' else 'rebuilt, but not stored'}"
    name = _FIGURES[int(unlike.argmax())]
    was, now = (
        pd.Timestamp(int(v), unit="us", tz="UTC") if name == "first_likely_at" and np.isfinite(v) else float(v)
        for v in (row[name], row[f"{name}_again"])
    )
    return f"{where}: {name} is stored as {was}, rebuilt as {now}"
