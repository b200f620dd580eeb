"""Breach forecasts against what happened: observations beyond a limit, and alarms of the operator's log."""

from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import pandas as pd
import sqlalchemy as sa

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.monitoring.breach_scores import BINS, BreachTally, passed, tally
from bts_assets.services.breach import HOURS, limits_of
from bts_assets.storage.alarms import alarmed
from bts_assets.storage.observation_blocks import Stations
from bts_assets.storage.scores import DueBatch, foreseen
from bts_assets.storage.station_limits import station_limits

#: Truth, hours of the window, and the sums.
ScoredBreaches = tuple[str, int, BreachTally]


def score_breaches(
    connection: sa.Connection,
    batch: DueBatch,
    stations: Stations,
    series: pd.MultiIndex,
    truth: np.ndarray,
    planned: np.ndarray,
    catalogue: Catalogue,
) -> list[ScoredBreaches]:
    """Every limit of a batch's series of some stations against the actuals, per window that is over.

    truth (series, horizon): observations, NaN where none came. planned (series, horizon): steps that lie in an outage
    that was planned; a window that holds one is left out.
    """
    sides = _sides(series, catalogue, connection)
    if not len(sides):
        return []
    seen = foreseen(connection, batch.batch_id, stations)
    sides = sides.merge(seen, how="left", on=["station_id", "parameter_id", "side"])
    for hours in HOURS:  # of a batch without a breach foreseen the column is of no type
        sides[f"probability_{hours}h"] = sides[f"probability_{hours}h"].astype(float).fillna(0.0)
    return [
        (name, hours, tally(sides[f"probability_{hours}h"].to_numpy(), came, known))
        for hours, steps in _windows(batch)
        for name, came, known in _truths(connection, batch, sides, truth, planned, hours, steps)
        if known.any()
    ]


class BreachScores:
    """What breaches of a batch were worth, added up over parts of its stations."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, int], BreachTally] = {}

    def add(self, scored: ScoredBreaches) -> None:
        truth, hours, sums = scored
        before = self._sums.get((truth, hours))
        self._sums[truth, hours] = sums if before is None else before + sums

    def rows(self, batch_id: int) -> list[dict[str, float | int | str]]:
        """Rows of `bts.breach_score`."""
        return [
            {
                "batch_id": batch_id,
                "truth": truth,
                "hours": hours,
                "bin": tenth,
                "sides": int(sums.sides[tenth]),
                "happened": int(sums.happened[tenth]),
                "expected": float(sums.expected[tenth]),
                "squared": float(sums.squared[tenth]),
            }
            for (truth, hours), sums in self._sums.items()
            for tenth in range(BINS)
            if sums.sides[tenth]
        ]


def _sides(series: pd.MultiIndex, catalogue: Catalogue, connection: sa.Connection) -> pd.DataFrame:
    """One row per limit: the series' row, its ids, side, sign and limit."""
    station, parameter = (series.get_level_values(k).to_numpy() for k in (0, 1))
    limits = limits_of(station, parameter, catalogue, station_limits(connection))
    frames = [
        pd.DataFrame(
            {"row": np.arange(len(series)), "station_id": station, "parameter_id": parameter, "side": name,
             "sign": sign, "limit": limit}
        )
        for name, sign, limit in (("low", -1, limits[0]), ("high", 1, limits[1]))
    ]  # fmt: skip
    found = pd.concat(frames, ignore_index=True)
    return found[found["limit"].notna()].reset_index(drop=True)


def _windows(batch: DueBatch) -> Iterator[tuple[int, int]]:
    """Hours and steps of every window that the horizon holds."""
    for hours in HOURS:
        if timedelta(hours=hours) <= batch.grid.horizon:
            yield hours, timedelta(hours=hours) // batch.grid.step


def _truths(
    connection: sa.Connection,
    batch: DueBatch,
    sides: pd.DataFrame,
    truth: np.ndarray,
    planned: np.ndarray,
    hours: int,
    steps: int,
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    rows = sides["row"].to_numpy()
    counted = np.asarray(~planned[rows, :steps].any(axis=1))
    came, known = passed(truth[rows], sides["limit"].to_numpy(), sides["sign"].to_numpy(), steps, batch.rule)
    yield "observed", came, known & counted
    log = alarmed(connection, batch.issued_at, batch.issued_at + timedelta(hours=hours))
    if log is not None:
        names = ["station_id", "parameter_id", "side"]
        told = pd.MultiIndex.from_frame(sides[names]).isin(pd.MultiIndex.from_frame(log[names]))
        yield "alarmed", told, counted
