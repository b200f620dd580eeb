"""Tonight's recalibration: what the forecasts of the nights before turned out to miss, as far as it is known by now."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import sqlalchemy as sa

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.contracts.panel import Panel
from bts_assets.forecasting.adaptive import SIDES, STRETCHES, Matured, Recalibration, carried_on
from bts_assets.forecasting.batch import counters_of
from bts_assets.forecasting.counters import before_reset, counter_rows, newest_levels
from bts_assets.forecasting.windows import aligned
from bts_assets.storage.observations import read_panel
from bts_assets.storage.recalibrations import EarlierBatch, batches_before, pooled_forecasts, read_recalibration


def recalibration_at(connection: sa.Connection, catalogue: Catalogue, panel: Panel) -> Recalibration | None:
    """The recalibration that forecasts from the panel's end are given; None where nothing has come true yet.

    A pure function of the batches that were published for earlier origins, with what was applied to them, and of what
    was observed by then: it goes on from the newest of them, by the targets that have come since its origin. Nothing
    of the panel's own origin, or of later ones, counts.
    """
    earlier = batches_before(connection, panel.end, panel.grid)
    if not earlier:
        return None
    newest = earlier[-1]
    observed = _observed(connection, panel, earlier)
    series = pd.MultiIndex.from_arrays([panel.station_id, panel.parameter_id])
    elapsed = panel.end - newest.issued_at
    matured = _matured(connection, catalogue, observed, earlier)
    return carried_on(read_recalibration(connection, newest.batch_id), matured, series, elapsed, panel.grid.horizon)


def _observed(connection: sa.Connection, panel: Panel, earlier: Sequence[EarlierBatch]) -> Panel:
    """What was observed from the first origin on: of the panel, or read where that begins later."""
    start = earlier[0].issued_at - panel.grid.step
    if start >= panel.start:
        return panel
    end = max(b.issued_at + b.horizon_steps * panel.grid.step for b in earlier)
    return read_panel(connection, panel.grid, start, min(end, panel.end))


def _matured(
    connection: sa.Connection, catalogue: Catalogue, observed: Panel, earlier: Sequence[EarlierBatch]
) -> Iterator[Matured]:
    """Of each batch what has come since the origin of the newest."""
    since = earlier[-1].issued_at
    for batch in earlier:
        series, quantiles = pooled_forecasts(connection, batch)
        known = aligned(observed, series)
        first = (batch.issued_at - known.start) // known.grid.step
        truth = np.full((len(series), batch.horizon_steps), np.nan)
        came = known.values[:, first : first + batch.horizon_steps]
        truth[:, : came.shape[1]] = came
        counters = counter_rows(known, counters_of(catalogue))
        truth[counters] = before_reset(newest_levels(known.values[counters, :first]), truth[counters])
        truth[:, : (since - batch.issued_at) // known.grid.step] = np.nan
        applied = read_recalibration(connection, batch.batch_id)
        plain = np.ones((len(series), STRETCHES, len(SIDES)), dtype=np.float32)
        yield Matured(series, quantiles, truth, plain if applied is None else applied.factors_of(series))
