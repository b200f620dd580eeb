"""The data sets of `benchmarks.accuracy`: panels on their grids, and the origins to forecast from. It scores nothing.

None of the recordings ships with the project: `data` is the folder that they were given in.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from benchmarks.accuracy_floor import FORESEEABLE, NOISE_FLOOR, foreseeable_signal
from bts_assets.contracts.catalogue import load_catalogue
from bts_assets.contracts.grid import DAY, Grid, context_for
from bts_assets.contracts.panel import Panel, panel_from_observations
from bts_assets.forecasting.windows import take_series
from bts_assets.landing.files import parse_landing_file
from bts_assets.landing.series import observe
from bts_assets.simulation.simulate import NetworkSpec, simulate_network
from tests.helpers.ett import PARAMETERS as ETT_PARAMETERS
from tests.helpers.ett import STATION as ETT_STATION

HOUR: Final = timedelta(hours=1)
MINUTE: Final = timedelta(minutes=1)

#: M4 says of no series when it was recorded, and all are let end here; the catalogue knows no such parameter.
M4_END: Final = datetime(2026, 11, 20, tzinfo=UTC)
M4_PARAMETER: Final = 9100
#: How far before the end of M4's training part `--validate` cuts it; each cut is trained on and forecast from alone.
M4_CUTS: Final = (48, 96, 168)

#: Kinds of `bursty`: prefixes of file names, the catalogue's unlisted parameter that stands for the kind, step, and
#: days between origins: what is short is forecast nightly.
BURSTY_KINDS: Final = {
    "volumes": (("Twitter_volume",), 9201, 15 * MINUTE, 2),
    "traffic": (("TravelTime", "occupancy", "speed"), 9202, HOUR, 1),
    "prices": (("exchange",), 9203, HOUR, 3),
}


@dataclass(frozen=True)
class BacktestCase:
    """Origins that are forecast one after the other, and how often it is trained anew before one of them.

    panel: all that is known, truths included. origins: columns of it, ascending. label: what tells this case from the
    others of its data set. signals: by name, what the panel would have been without noise and such, (series, steps).
    """

    panel: Panel
    origins: tuple[int, ...]
    refit_every: int = 1
    label: str = ""
    signals: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def issued_at(self) -> list[datetime]:
        return [self.panel.start + origin * self.panel.grid.step for origin in self.origins]

    @property
    def known(self) -> np.ndarray:
        """What precedes the first origin, (series, steps)."""
        return self.panel.values[:, : self.origins[0]]


def m4_hourly(data: Path, context: timedelta, validate: bool) -> list[BacktestCase]:
    """207 of M4's hourly series, each a station of its own; with `validate` the test values are not read."""
    grid = Grid(HOUR, context, 48 * HOUR)
    values = _right_aligned(_m4_rows(data / "m4_hourly_dev" / "hourly-train.csv"))
    if not validate:
        values = np.concatenate([values, _m4_rows(data / "m4_hourly_dev" / "hourly-test.csv")], axis=1)
    station, parameter = np.arange(1, len(values) + 1), np.full(len(values), M4_PARAMETER, np.int32)
    panel = Panel(grid, station, parameter, M4_END, values)
    horizon = grid.horizon_steps
    if not validate:
        return [BacktestCase(panel, (panel.steps - horizon,))]
    ends = {cut: panel.until(cut - horizon) for cut in M4_CUTS}
    return [BacktestCase(p, (p.steps - horizon,), label=f"{cut} h before the end") for cut, p in ends.items()]


def _m4_rows(csv: Path) -> np.ndarray:
    return pd.read_csv(csv, index_col=0).to_numpy(np.float64)


def _right_aligned(rows: np.ndarray) -> np.ndarray:
    """Rows that are padded at their end, padded at their start."""
    length = np.isfinite(rows).sum(axis=1)
    return np.stack([np.roll(row, len(row) - n) for row, n in zip(rows, length, strict=True)])


def ett_hourly(data: Path) -> list[BacktestCase]:
    """Two years of seven parameters of a transformer; 20 origins, 5 days apart, the last one's targets end the data.

    Trained once before the first, for 100 days to come, and anew every 20 days.
    """
    table = pd.read_csv(data / "ett" / "ETTh1.csv", index_col="date", parse_dates=True).tz_localize("UTC")
    grid = Grid(HOUR, context_for(HOUR), 24 * HOUR)
    table = table.asfreq(grid.step)[sorted(ETT_PARAMETERS, key=ETT_PARAMETERS.__getitem__)]
    parameter = np.array(sorted(ETT_PARAMETERS.values()), np.int32)
    end = table.index[-1].to_pydatetime() + grid.step
    panel = Panel(grid, np.full(len(parameter), ETT_STATION), parameter, end, table.to_numpy(np.float64).T)
    origins = _last_origins(panel, 20, 5 * DAY)
    return [
        BacktestCase(panel, origins, len(origins), "trained once"),
        BacktestCase(panel, origins, 4, "trained every 20 days"),
    ]


def bts_recording(data: Path) -> list[BacktestCase]:
    """A day of two series; 5 origins, half an hour apart: trained once before the first, and anew before each."""
    grid = Grid(5 * MINUTE, 6 * HOUR, 2 * HOUR)
    files = sorted((data / "bts" / "landing").glob("*.csv"))
    start = datetime(2017, 4, 18, tzinfo=UTC)
    observations = observed(files, grid, start, start + DAY)
    end = observations["observed_at"].max().to_pydatetime() + grid.step
    panel = panel_from_observations(observations, grid, start, end)
    origins = _last_origins(panel, 5, 30 * MINUTE)
    return [
        BacktestCase(panel, origins, len(origins), "trained once"),
        BacktestCase(panel, origins, 1, "trained at every origin"),
    ]


def bursty(data: Path) -> list[BacktestCase]:
    """23 short, bursty or drifting series of three kinds, each a station; 10 origins, trained anew at every fifth.

    Recordings end at different times; each is let end with its kind's last, moved by whole days.
    """
    return [_bursty(data / "nab_dev", label, *kind) for label, kind in BURSTY_KINDS.items()]


def _bursty(
    folder: Path, label: str, prefixes: tuple[str, ...], parameter: int, step: timedelta, apart: int
) -> BacktestCase:
    grid = Grid(step, context_for(step), DAY)
    tables = [pd.read_csv(p, parse_dates=["timestamp"]) for x in prefixes for p in sorted(folder.glob(f"{x}_*.csv"))]
    tables = tables or [pd.read_csv(p, parse_dates=["timestamp"]) for p in sorted(folder.glob(f"{prefixes[0]}-*.csv"))]
    means = [t.set_index("timestamp")["value"].resample(step).mean() for t in tables]
    end = max(m.index[-1] for m in means)
    moved = pd.concat([m.shift(freq=(end - m.index[-1]).floor("1D")) for m in means], axis=1).asfreq(step)
    values = moved.to_numpy(np.float64).T
    last = moved.index[-1].tz_localize("UTC").to_pydatetime() + step
    panel = Panel(grid, np.arange(1, len(values) + 1), np.full(len(values), parameter, np.int32), last, values)
    return BacktestCase(panel, _last_origins(panel, 10, apart * DAY), 5, label)


def simulated(networks: int, steady: bool) -> list[BacktestCase]:
    """Networks of 50 stations, each with dirt and 14 days before the first origin.

    Of a steady network only the noise cannot be foreseen; it is forecast from four nights, trained before the first.
    """
    return [_simulated(seed, steady, 4 if steady else 1) for seed in range(1, networks + 1)]


def _simulated(seed: int, steady: bool, origins: int) -> BacktestCase:
    grid = Grid(15 * MINUTE, 7 * DAY, 48 * HOUR)
    end, days = datetime(2026, 11, 20, tzinfo=UTC), 15 + origins
    spec = NetworkSpec(50, days, end, seed, truth_step=grid.step, steady=steady)
    with TemporaryDirectory(prefix="bts-benchmark-") as folder:
        simulation = simulate_network(spec, Path(folder) / "landing")
        files = [simulation.landing / file.name for file in simulation.files if file.copy_of is None]
        observations = observed(files, grid, spec.start, spec.end)
        truth = pd.read_parquet(simulation.folder / "truth.parquet")
    signals = {NOISE_FLOOR: truth}
    if not steady:
        signals[FORESEEABLE] = foreseeable_signal(spec, spec.end - grid.horizon)
    # All three have every series of the network, in the same order.
    panel = panel_from_observations(observations, grid, spec.start, spec.end, known=truth)
    # What is forecast of a switch is how likely it is on: that has no absolute error.
    parameters = load_catalogue().all_of(panel.parameter_id)
    kept = np.flatnonzero([p.forecast and p.kind != "switch" for p in parameters])
    values = {n: panel_from_observations(s, grid, spec.start, spec.end).values[kept] for n, s in signals.items()}
    panel = take_series(panel, kept)
    return BacktestCase(panel, _last_origins(panel, origins, DAY), origins, f"network {seed}", values)


def observed(files: list[Path], grid: Grid, start: datetime, end: datetime) -> pd.DataFrame:
    """Landing files to observations, by the steps of the main job but without its stores."""
    catalogue = load_catalogue()
    taken = (
        parse_landing_file(f.read_bytes(), catalogue, landing_timezone=ZoneInfo("UTC"), now=end, max_skew=DAY)
        for f in files
    )
    return observe([file.readings for file in taken], catalogue, grid, start, end).observations


def _last_origins(panel: Panel, count: int, apart: timedelta) -> tuple[int, ...]:
    """The columns of `count` origins, the last of which has targets that end with the panel."""
    last = panel.steps - panel.grid.horizon_steps
    return tuple(last - back * (apart // panel.grid.step) for back in reversed(range(count)))
