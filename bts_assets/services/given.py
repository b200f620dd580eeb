"""What is known at an origin, read from one snapshot and in parts of stations, so that no network is held whole."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import pandas as pd
import sqlalchemy as sa

from bts_assets.contracts.grid import Grid
from bts_assets.contracts.origin import Origin
from bts_assets.contracts.panel import Panel, input_digest
from bts_assets.forecasting.adaptive import Recalibration
from bts_assets.monitoring.breach import Dependence
from bts_assets.monitoring.dependence import Strays, dependence_of
from bts_assets.services.breach import Limits, station_limits, straying
from bts_assets.services.home import Home
from bts_assets.services.memory import series_at_once
from bts_assets.services.observe import settled
from bts_assets.services.recalibration import Recalibrating
from bts_assets.storage.crash_points import crash_point
from bts_assets.storage.observation_blocks import Stations, station_parts
from bts_assets.storage.observations import last_heard, read_panel


@dataclass(frozen=True)
class InputPart:
    """Some stations of what is given: the panel of their context, and last_observed_at (with station_id and
    parameter_id) of the series that are silent throughout it. dependence: how errors of each hang together.
    """

    panel: Panel
    heard: pd.DataFrame
    digests: Sequence[bytes]
    dependence: Dependence

    @property
    def series(self) -> pd.MultiIndex:
        return pd.MultiIndex.from_arrays([self.panel.station_id, self.panel.parameter_id])


@dataclass(frozen=True)
class Given:
    """What is known at an origin: the context of every series, computed up to an entry of the ingest ledger.

    station_id, parameter_id (series,), ascending; start: of the context. limits: those of stations that differ from
    their parameter's. recalibration: what the nights before taught about the widths of intervals; None: nothing.
    """

    origin: Origin
    start: datetime
    station_id: np.ndarray
    parameter_id: np.ndarray
    ledger_seq: int
    observations_digest: str
    limits: Limits
    recalibration: Recalibration | None
    _input: "_Input" = field(repr=False)

    def parts(self) -> Iterator[InputPart]:
        """All series in order, part by part; only within `what_is_given`."""
        return self._input.parts()

    def panel_of(self, series: Sequence[tuple[int, int]]) -> Panel:
        """The context of a few series (station_id, parameter_id); only within `what_is_given`."""
        return self._input.panel(series=series)


@contextmanager
def what_is_given(home: Home, origin: Origin, at_once: int | None = None) -> Iterator[Given]:
    """What is known at an origin, all of it from one snapshot, which ends with the context.

    It is read once to know what it is; and again to forecast from it, if it has more than `at_once` series (by default
    what BTS_MEMORY has room for).
    """
    grid, at_once = home.settings.grid, at_once or series_at_once(home.settings)
    with settled(home) as (connection, ledger_seq):
        limits = station_limits(connection)
        known = _Input(connection, grid, origin.issued_at, station_parts(connection, at_once))
        recalibrating = Recalibrating(connection, home.catalogue, grid, origin.issued_at)
        known.look(home, limits, recalibrating)
        series = pd.MultiIndex.from_arrays([known.station_id, known.parameter_id])
        state = recalibrating.state(series)
        crash_point("recalibration.after_update")
        yield Given(
            origin=origin,
            start=known.start,
            station_id=known.station_id,
            parameter_id=known.parameter_id,
            ledger_seq=ledger_seq,
            observations_digest=known.digest,
            limits=limits,
            recalibration=state,
            _input=known,
        )


class _Input:
    """The context of every series, as one snapshot has it."""

    def __init__(self, connection: sa.Connection, grid: Grid, end: datetime, stations: list[Stations]) -> None:
        self.connection, self.grid, self.end, self.stations = connection, grid, end, stations
        self.start = end - grid.context
        self._digests: list[list[bytes]] = []
        self._only: Panel | None = None

    def look(self, home: Home, limits: Limits, recalibrating: Recalibrating) -> None:
        """Go through all of it once: which series there are, their digests, how each strays, what came of forecasts."""
        ids: list[tuple[np.ndarray, np.ndarray]] = []
        strays: list[Strays] = []
        for stations in self.stations:
            panel = self.panel(stations=stations)
            ids.append((panel.station_id, panel.parameter_id))
            self._digests.append(panel.series_digests)
            strays.append(straying(panel, home.catalogue, limits))
            recalibrating.add(panel, stations)
            self._only = panel if len(self.stations) == 1 else None
        empty = np.empty(0)
        self.station_id = np.concatenate([s for s, _ in ids] or [empty.astype(np.int64)])
        self.parameter_id = np.concatenate([p for _, p in ids] or [empty.astype(np.int32)])
        every = {n: np.concatenate([getattr(s, n) for s in strays] or [empty]) for n in ("level", "root", "days")}
        self._dependence = dependence_of(Strays(**every), self.parameter_id)

    @property
    def digest(self) -> str:
        steps = self.grid.context_steps
        return input_digest(self.grid, self.end, steps, (one for part in self._digests for one in part))

    def panel(self, *, series: Sequence[tuple[int, int]] | None = None, stations: Stations | None = None) -> Panel:
        return read_panel(self.connection, self.grid, self.start, self.end, series, stations)

    def parts(self) -> Iterator[InputPart]:
        done = 0
        for stations, digests in zip(self.stations, self._digests, strict=True):
            panel = self._only or self.panel(stations=stations)
            silent = np.isnan(panel.values).all(axis=1)
            heard = last_heard(self.connection, panel.station_id[silent], panel.parameter_id[silent], self.end)
            mine = slice(done, done + len(panel))
            dependence = Dependence(self._dependence.level_share[mine], self._dependence.root[mine])
            yield InputPart(panel, heard, digests, dependence)
            done += len(panel)
