"""Tonight's recalibration: what the forecasts of the nights before turned out to miss, as far as it is known by now."""

from collections.abc import Iterable, Iterator
from datetime import datetime

import numpy as np
import pandas as pd
import sqlalchemy as sa

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.contracts.grid import Grid
from bts_assets.contracts.panel import Panel
from bts_assets.forecasting.batch import counters_of
from bts_assets.forecasting.counters import before_reset, counter_rows, newest_levels
from bts_assets.forecasting.recalibration import SIDES, STRETCHES, Asked, Matured, Recalibration, asked_of, carried_on
from bts_assets.forecasting.windows import aligned
from bts_assets.storage.observation_blocks import Stations, read_panel
from bts_assets.storage.recalibrations import batches_before, pooled_forecasts, read_recalibration


class Recalibrating:
    """Tonight's recalibration, from panels of the context that come part by part, each to an object of its own or not.

    A pure function of the batches that were published for earlier origins, with what was applied to them, and of what
    was observed by then: it goes on from the newest of them, by the targets that have come since its origin. Nothing
    of the origin itself, or of later ones, counts.
    """

    def __init__(self, connection: sa.Connection, catalogue: Catalogue, grid: Grid, origin: datetime) -> None:
        self._connection, self._catalogue, self._grid, self._origin = connection, catalogue, grid, origin
        self._earlier = batches_before(connection, origin, grid)

    def asked(self, panel: Panel, stations: Stations) -> Asked | None:
        """The actuals of some stations' forecasts, all of whose series `panel` has; None: there were no forecasts."""
        if not self._earlier:
            return None
        series = pd.MultiIndex.from_arrays([panel.station_id, panel.parameter_id])
        return asked_of(self._matured(self._observed(panel, stations), stations), series)

    def state(self, series: pd.MultiIndex, asked: Iterable[Asked | None]) -> Recalibration | None:
        """What forecasts of these series, all that were asked of, are given; None where nothing has come true yet."""
        if not self._earlier:
            return None
        newest = self._earlier[-1]
        before, known = read_recalibration(self._connection, newest.batch_id), [one for one in asked if one is not None]
        return carried_on(before, known, series, self._origin - newest.issued_at, self._grid.horizon)

    def _observed(self, panel: Panel, stations: Stations) -> Panel:
        """What was observed from the first origin on: of the panel, or read where that begins later."""
        start = self._earlier[0].issued_at - self._grid.step
        if start >= panel.start:
            return panel
        end = max(b.issued_at + b.horizon_steps * self._grid.step for b in self._earlier)
        return read_panel(self._connection, self._grid, start, min(end, panel.end), stations=stations)

    def _matured(self, observed: Panel, stations: Stations) -> Iterator[Matured]:
        """The actuals of each batch's forecasts since the origin of the newest batch."""
        since = self._earlier[-1].issued_at
        for batch in self._earlier:
            series, quantiles = pooled_forecasts(self._connection, batch, stations)
            known = aligned(observed, series)
            first = (batch.issued_at - known.start) // known.grid.step
            truth = np.full((len(series), batch.horizon_steps), np.nan)
            came = known.values[:, first : first + batch.horizon_steps]
            truth[:, : came.shape[1]] = came
            counters = counter_rows(known, counters_of(self._catalogue))
            truth[counters] = before_reset(newest_levels(known.values[counters, :first]), truth[counters])
            truth[:, : (since - batch.issued_at) // known.grid.step] = np.nan
            applied = read_recalibration(self._connection, batch.batch_id, stations)
            plain = np.ones((len(series), STRETCHES, len(SIDES)), dtype=np.float32)
            yield Matured(series, quantiles, truth, plain if applied is None else applied.factors_of(series))
