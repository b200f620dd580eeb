"""A panel: every series side by side on one stretch of the grid. What storage hands to the forecasters."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

import numpy as np
import pandas as pd

from bts_assets.contracts.digests import digest_of_all, series_digests
from bts_assets.contracts.grid import Grid


@dataclass(frozen=True)
class Panel:
    """`values[i, t]` is series i in step t of [start, end); NaN where the step has no observation.

    Shapes: station_id, parameter_id (series,); values (series, steps) float64. Series are in ascending order of
    (station_id, parameter_id), so that the order of landing files cannot reach the forecasts.
    """

    grid: Grid
    station_id: np.ndarray
    parameter_id: np.ndarray
    end: datetime
    values: np.ndarray

    def __post_init__(self) -> None:
        if self.values.shape[0] != len(self.station_id) or len(self.station_id) != len(self.parameter_id):
            raise ValueError(f"{len(self.station_id)} series, but values of shape {self.values.shape}")

    def __len__(self) -> int:
        return len(self.station_id)

    @property
    def steps(self) -> int:
        return int(self.values.shape[1])

    @property
    def start(self) -> datetime:
        return self.end - self.steps * self.grid.step

    @cached_property
    def series_digests(self) -> list[bytes]:
        """SHA-256 of each series and its values."""
        return series_digests(self.station_id, self.parameter_id, self.values)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over series, span and values: equal input, equal digest."""
        return input_digest(self.grid, self.end, self.steps, self.series_digests)

    def has_digest(self, digest: str) -> bool:
        """Whether a digest is this panel's, as it is made now or as it was made before series had their own."""
        return digest == self.digest or digest == self._digest_of_format_1()

    def _digest_of_format_1(self) -> str:
        digest = hashlib.sha256(f"panel 1 {self.grid.step} {self.end.isoformat()} {self.steps}".encode())
        for values, dtype in ((self.station_id, "<i8"), (self.parameter_id, "<i4"), (self.values, "<f8")):
            digest.update(np.ascontiguousarray(values, dtype=dtype).data)
        return digest.hexdigest()

    def take(self, rows: np.ndarray) -> "Panel":
        """The panel of some of its series."""
        return Panel(self.grid, self.station_id[rows], self.parameter_id[rows], self.end, self.values[rows])

    def until(self, steps_back: int) -> "Panel":
        """The panel as it was known `steps_back` steps before its end."""
        values = self.values[:, : self.steps - steps_back]
        return Panel(self.grid, self.station_id, self.parameter_id, self.end - steps_back * self.grid.step, values)


def input_digest(grid: Grid, end: datetime, steps: int, digests: Iterable[bytes]) -> str:
    """`Panel.digest` of a panel that is read part by part: `digests` are those of all its series, in their order."""
    return digest_of_all(f"panel 2 {grid.step} {end.isoformat()} {steps} ", digests)


def panel_from_observations(
    observations: pd.DataFrame, grid: Grid, start: datetime, end: datetime, known: pd.DataFrame | None = None
) -> Panel:
    """Lay `Observations` rows within [start, end) side by side. Rows outside are not used.

    `known` lists series (station_id, parameter_id) that are in the panel even if they were silent all along.

    Raises:
        ValueError: if start or end is off the grid.
    """
    first, last = grid.index(start), grid.index(end)
    if grid.instant(first) != start or grid.instant(last) != end:
        raise ValueError(f"{start} to {end} is off the {grid.step} grid")
    step_us = grid.step // timedelta(microseconds=1)
    column = observations["observed_at"].to_numpy("datetime64[us]").astype("int64") // step_us - first
    inside = (column >= 0) & (column < last - first)
    station, parameter = observations["station_id"].to_numpy()[inside], observations["parameter_id"].to_numpy()[inside]
    if known is not None:
        station = np.concatenate([station, known["station_id"].to_numpy()])
        parameter = np.concatenate([parameter, known["parameter_id"].to_numpy()])
    stations, station_code = np.unique(station, return_inverse=True)
    parameters, parameter_code = np.unique(parameter, return_inverse=True)
    # One integer per series that sorts like (station_id, parameter_id): far cheaper than sorting pairs.
    series, row = np.unique(station_code * max(len(parameters), 1) + parameter_code, return_inverse=True)
    station_id = stations[series // max(len(parameters), 1)].astype("int64")
    parameter_id = parameters[series % max(len(parameters), 1)].astype("int32")
    values = np.full((len(series), last - first), np.nan)
    values[row[: inside.sum()], column[inside]] = observations["value"].to_numpy()[inside]
    return Panel(grid, station_id, parameter_id, end, values)
