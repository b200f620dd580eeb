"""What is known at an origin, read from one snapshot and in parts of stations, so that no network is held whole."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

import numpy as np
import pandas as pd
import sqlalchemy as sa

from bts_assets.contracts.grid import Grid
from bts_assets.contracts.origin import Origin
from bts_assets.contracts.panel import Panel, input_digest
from bts_assets.contracts.work_sharing import Spread
from bts_assets.forecasting.recalibration import Asked, Recalibration
from bts_assets.monitoring.breach import Dependence
from bts_assets.monitoring.dependence import Strays, dependence_of, typical_of
from bts_assets.monitoring.terms import BreachTerms, Limits
from bts_assets.services.breach import breach_rule, straying
from bts_assets.services.engine import engine
from bts_assets.services.home import Home
from bts_assets.services.memory import series_a_part
from bts_assets.services.observe import settled
from bts_assets.services.recalibration import Recalibrating
from bts_assets.services.shared_snapshot import Read, Work, in_parts
from bts_assets.storage.crash_points import crash_point
from bts_assets.storage.observation_blocks import Stations, station_parts
from bts_assets.storage.observations import count_series, last_heard, read_panel
from bts_assets.storage.station_limits import station_limits

P = TypeVar("P")
Q = TypeVar("Q")
R = TypeVar("R")


@dataclass(frozen=True)
class InputPart:
    """Some stations of what is given: the panel of their context, and last_observed_at (with station_id and
    parameter_id) of the series that are silent throughout it. dependence: how errors of each hang together; limits and
    recalibration: as `Given` has them.
    """

    panel: Panel
    heard: pd.DataFrame
    digests: Sequence[bytes]
    dependence: Dependence
    limits: Limits
    recalibration: Recalibration | None


@dataclass(frozen=True)
class Given:
    """What is known at an origin: the context of every series, computed up to an entry of the ingest ledger.

    station_id, parameter_id (series,), ascending; start: of the context. terms: what breaches are computed with.
    recalibration: what the nights before taught about the widths of intervals; None: nothing.
    """

    origin: Origin
    start: datetime
    station_id: np.ndarray
    parameter_id: np.ndarray
    ledger_seq: int
    observations_digest: str
    terms: BreachTerms
    recalibration: Recalibration | None
    _input: "_Input" = field(repr=False)

    def each(self, work: Callable[[Home, InputPart], R]) -> AbstractContextManager[Iterator[R]]:
        """`work` of all series, part by part in their order, wherever the engine does it; only within `what_is_given`.

        Raises:
            EngineError: as `Spread` says.
        """
        return self._input.each(work, self.terms.limits, self.recalibration)

    def panel_of(self, series: Sequence[tuple[int, int]]) -> Panel:
        """The context of a few series (station_id, parameter_id); only within `what_is_given`."""
        return self._input.panel_of(series)


@contextmanager
def what_is_given(home: Home, origin: Origin, at_once: int | None = None) -> Iterator[Given]:
    """What is known at an origin, all of it from one snapshot, which ends with the context.

    It is read once to know what it is; and again to forecast from it, if it has more than `at_once` series (by default
    what BTS_MEMORY has room for, or a worker's share).
    """
    with settled(home) as (connection, ledger_seq), engine(home.settings) as spread:
        limits = station_limits(connection)
        at_once = at_once or series_a_part(home.settings, count_series(connection))
        known = _Input(spread, home, connection, origin.issued_at, station_parts(connection, at_once))
        asked = known.look(limits)
        series = pd.MultiIndex.from_arrays([known.station_id, known.parameter_id])
        recalibrating = Recalibrating(connection, home.catalogue, home.settings.grid, origin.issued_at)
        state = recalibrating.state(series, asked)
        crash_point("recalibration.after_update")
        yield Given(
            origin=origin,
            start=known.start,
            station_id=known.station_id,
            parameter_id=known.parameter_id,
            ledger_seq=ledger_seq,
            observations_digest=known.digest,
            terms=BreachTerms(limits, breach_rule(home.settings), known.typical),
            recalibration=state,
            _input=known,
        )


@dataclass(frozen=True)
class _Some:
    """Some stations whose context ends at an instant; panel: what was read of it already."""

    stations: Stations
    end: datetime
    limits: Limits
    panel: Panel | None = None

    def read(self, connection: sa.Connection, grid: Grid) -> Panel:
        return self.panel or read_panel(connection, grid, self.end - grid.context, self.end, stations=self.stations)


@dataclass(frozen=True)
class _Looked:
    """What is kept of some stations once they were looked at. asked: the factors that their past forecasts needed."""

    station_id: np.ndarray
    parameter_id: np.ndarray
    digests: Sequence[bytes]
    strays: Strays
    asked: Asked | None


def _read_to_look(home: Home, connection: sa.Connection, some: _Some) -> tuple[Panel, Limits, Asked | None]:
    grid = home.settings.grid
    panel = some.read(connection, grid)
    asked = Recalibrating(connection, home.catalogue, grid, some.end).asked(panel, some.stations)
    return panel, some.limits, asked


def _look(home: Home, read: tuple[Panel, Limits, Asked | None]) -> _Looked:
    panel, limits, asked = read
    strays = straying(panel, home.catalogue, limits)
    return _Looked(panel.station_id, panel.parameter_id, panel.series_digests, strays, asked)


@dataclass(frozen=True)
class _Known:
    """Some stations with what is known of their series once all were looked at."""

    some: _Some
    digests: Sequence[bytes]
    dependence: Dependence
    recalibration: Recalibration | None


def _read_known(home: Home, connection: sa.Connection, known: _Known) -> InputPart:
    panel = known.some.read(connection, home.settings.grid)
    silent = np.isnan(panel.values).all(axis=1)
    heard = last_heard(connection, panel.station_id[silent], panel.parameter_id[silent], known.some.end)
    return InputPart(panel, heard, known.digests, known.dependence, known.some.limits, known.recalibration)


class _Input:
    """The context of every series, as one snapshot has it."""

    def __init__(
        self, spread: Spread, home: Home, connection: sa.Connection, end: datetime, stations: list[Stations]
    ) -> None:
        self._spread = spread
        self._home, self._connection, self._end, self._stations = home, connection, end, stations
        self._grid = home.settings.grid
        self.start = end - self._grid.context
        self._digests: list[Sequence[bytes]] = []
        self._only: Panel | None = None
        if len(stations) == 1:
            self._only = read_panel(connection, self._grid, self.start, end, stations=stations[0])

    def look(self, limits: Limits) -> list[Asked | None]:
        """Go through all of it once: which series there are, their digests, how each strays; what was asked."""
        parts = (self._some(stations, limits) for stations in self._stations)
        with self._in_parts(_read_to_look, _look, parts) as found:
            looked = list(found)
        self._digests = [one.digests for one in looked]
        empty = np.empty(0)
        self.station_id = np.concatenate([one.station_id for one in looked] or [empty.astype(np.int64)])
        self.parameter_id = np.concatenate([one.parameter_id for one in looked] or [empty.astype(np.int32)])
        strays = [one.strays for one in looked]
        every = {n: np.concatenate([getattr(s, n) for s in strays] or [empty]) for n in ("level", "root", "days")}
        self.typical = typical_of(Strays(**every), self.parameter_id)
        self._dependence = dependence_of(Strays(**every), self.parameter_id, self.typical)
        return [one.asked for one in looked]

    @property
    def digest(self) -> str:
        steps = self._grid.context_steps
        return input_digest(self._grid, self._end, steps, (one for part in self._digests for one in part))

    def panel_of(self, series: Sequence[tuple[int, int]]) -> Panel:
        return read_panel(self._connection, self._grid, self.start, self._end, series)

    def each(
        self, work: Callable[[Home, InputPart], R], limits: Limits, recalibration: Recalibration | None
    ) -> AbstractContextManager[Iterator[R]]:
        return self._in_parts(_read_known, work, self._known(limits, recalibration))

    def _in_parts(self, read: Read[P, Q], work: Work[Q, R], parts: Iterable[P]) -> AbstractContextManager[Iterator[R]]:
        several = len(self._stations) > 1
        return in_parts(self._spread, self._home, self._connection, read, work, parts, several=several)

    def _some(self, stations: Stations, limits: Limits) -> _Some:
        theirs = {pair: limit for pair, limit in limits.items() if stations[0] <= pair[0] <= stations[1]}
        return _Some(stations, self._end, theirs, self._only)

    def _known(self, limits: Limits, recalibration: Recalibration | None) -> Iterator[_Known]:
        done = 0
        for stations, digests in zip(self._stations, self._digests, strict=True):
            mine = slice(done, done + len(digests))
            series = pd.MultiIndex.from_arrays([self.station_id[mine], self.parameter_id[mine]])
            dependence = Dependence(self._dependence.level_share[mine], self._dependence.root[mine])
            theirs = recalibration.of(series) if recalibration is not None else None
            yield _Known(self._some(stations, limits), digests, dependence, theirs)
            done += len(digests)
