"""Forecasts and their ledger beside the same made again, number by number."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from bts_assets.contracts.quantiles import QUANTILE_COLUMNS

#: The same kind of machine with the same packages gives the same bits. On another a number may differ by so much of its
#: scale: the mean width of its series' 90 % interval in the batch, or a thousandth of itself where that is more.
TOLERANCE: Final = 1e-3

_SERIES: Final = ["station_id", "parameter_id"]
_STEPS: Final = [*_SERIES, "step_ahead", "issued_at", "target_at"]
_LEDGER: Final = ["status", "source", "reason", "last_observed_at", "history_steps", "context_steps", "components"]


@dataclass(frozen=True)
class Compared:
    """Forecasts beside the same made again. beyond: how many differ by more than is allowed; largest: the largest
    difference, in scales (see `TOLERANCE`); first: the first that is beyond, in words.
    """

    numbers: int
    differing: int
    beyond: int
    largest: float
    first: str | None


def compare(stored: pd.DataFrame, rebuilt: pd.DataFrame, *, exact: bool) -> Compared:
    """Compare `Forecasts` frames bit for bit, or within the tolerance. A row that only one of them has differs."""
    both = _side_by_side(stored, rebuilt)
    was, now = (
        both[[f"{name}{suffix}" for name in QUANTILE_COLUMNS]].to_numpy(np.float64) for suffix in ("", "_again")
    )
    differing = was.view(np.int64) != now.view(np.int64)
    width = (both["q95"] - both["q05"]).groupby([both[name] for name in _SERIES]).transform("mean").to_numpy()[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = np.where(differing, np.abs(now - was) / np.maximum(width, np.abs(was) / 1000), 0.0)
    beyond = differing & (exact | ~(apart <= TOLERANCE))
    first = None
    if beyond.any():
        row, column = np.argwhere(beyond)[0]
        first = _in_words(both.iloc[row], QUANTILE_COLUMNS[column])
    largest = float(np.max(apart, initial=0.0, where=np.isfinite(apart)))
    return Compared(differing.size, int(differing.sum()), int(beyond.sum()), largest, first)


def _side_by_side(stored: pd.DataFrame, rebuilt: pd.DataFrame) -> pd.DataFrame:
    """One row per series and step, with the quantiles of both; `_merge` says which of them have it."""
    if all(np.array_equal(stored[name], rebuilt[name]) for name in _STEPS):
        again = rebuilt[list(QUANTILE_COLUMNS)].add_suffix("_again").set_axis(stored.index)
        return pd.concat([stored, again], axis=1).assign(_merge="both")
    return stored.merge(rebuilt, on=_STEPS, how="outer", suffixes=("", "_again"), indicator=True)


_SIDES: Final = {"left_only": "stored, but not rebuilt", "right_only": "rebuilt, but not stored"}


def _in_words(row: pd.Series, column: str) -> str:
    where = (
        f"station {row['station_id']}, parameter {row['parameter_id']}, target {row['target_at']:%Y-%m-%d %H:%M} UTC"
        f" (step {row['step_ahead']})"
    )
    if row["_merge"] != "both":
        return f"{where} is {_SIDES[row['_merge']]}"
    return f"{where}: {column} is stored as {float(row[column])}, rebuilt as {float(row[f'{column}_again'])}"


def compare_ledgers(stored: pd.DataFrame, rebuilt: pd.DataFrame) -> tuple[int, str | None]:
    """How many rows of `ForecastLedger` frames differ, and the first difference in words; None: none does."""
    both = stored.merge(rebuilt, on=_SERIES, how="outer", suffixes=("", "_again"), indicator=True)
    differing, first = 0, None
    for row in both.to_dict("records"):
        cells = ((name, _plain(row[name]), _plain(row[f"{name}_again"])) for name in _LEDGER)
        words = [f": {name} is stored as {was!r}, rebuilt as {now!r}" for name, was, now in cells if was != now]
        if row["_merge"] != "both":
            words = [f" is {_SIDES[row['_merge']]}"]
        differing += bool(words)
        if words and first is None:
            first = f"the ledger of station {row['station_id']}, parameter {row['parameter_id']}{words[0]}"
    return differing, first


def _plain(cell: Any) -> Any:
    """A cell of the forecast ledger, what is missing as None."""
    return cell if isinstance(cell, dict) else None if pd.isna(cell) else cell
