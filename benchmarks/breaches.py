"""How far probabilities of breaches can be trusted: on the simulator, the bts recording, ETTh1 and volumes of nab_dev.

    python -m benchmarks.breaches [--only ett] [--kept FOLDER] [--plot docs/breaches.png] [--data ../shared/data]

A version is trained once, at quick effort, and forecasts origin after origin; intervals are recalibrated as nights do
it, but on the recording, which is too short. Limits are those that 2 % of each series' values before the first origin
lay below, and above. For every series, side and window the probability of a breach is compared with what happened:
reliability is the part of the Brier score that says how far probabilities are from frequencies (Murphy, 1973; by
tenths), skill the share by which the score is below that of the same marginals taken as independent from step to step,
and of the forecast median alone, which is either beyond a limit or not.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import pandas as pd

from benchmarks.accuracy_data import HOUR, MINUTE, bursty, ett_hourly, observed
from benchmarks.recalibration_data import Nights, forecast_all
from benchmarks.recalibration_methods import METHODS
from bts_assets.contracts.catalogue import load_catalogue
from bts_assets.contracts.grid import DAY, Grid
from bts_assets.contracts.panel import Panel, panel_from_observations
from bts_assets.contracts.quantiles import QUANTILES, STORED_QUANTILES
from bts_assets.forecasting.windows import take_series
from bts_assets.monitoring.breach import Dependence, breaches
from bts_assets.monitoring.breach_history import record_of
from bts_assets.monitoring.breach_scores import BINS, passed, tally
from bts_assets.monitoring.dependence import dependence_of, strays_of
from bts_assets.plots import style
from bts_assets.simulation.simulate import NetworkSpec, simulate_network

#: Share of a series' values beyond each limit.
_BEYOND: Final = 0.02
#: Windows as shares of the horizon: 6, 24 and 48 h of 48.
_WINDOWS: Final = (1 / 8, 1 / 2, 1.0)
_STORED: Final = [QUANTILES.index(q) for q in STORED_QUANTILES]
_MEDIAN: Final = STORED_QUANTILES.index(0.5)

JOINT, INDEPENDENT, POINT = "joint", "independent", "point forecast"


@dataclass(frozen=True)
class Cases:
    """Probabilities of each way and whether the breach came, (cases,); one for each origin, series, side and window."""

    probability: dict[str, np.ndarray]
    came: np.ndarray
    known: np.ndarray
    window: np.ndarray

    def of(self, way: str) -> tuple[np.ndarray, np.ndarray]:
        return self.probability[way][self.known], self.came[self.known].astype(float)


def brier(probability: np.ndarray, came: np.ndarray) -> float:
    return float(np.mean((probability - came) ** 2))


def reliability(probability: np.ndarray, came: np.ndarray) -> float:
    """The reliability part of the Brier score, by tenths of the probability."""
    sums = tally(probability, came, np.ones(len(came), bool))
    held = sums.sides > 0
    return float((((sums.expected - sums.happened)[held]) ** 2 / sums.sides[held]).sum() / len(came))


def cases_of(nights: Nights, served: np.ndarray) -> Cases:
    """Every series, side and window of every origin. served: (origins, series, horizon, levels of `QUANTILES`)."""
    known = nights.panel.values[:, : nights.origins[0]]
    low, high = np.nanquantile(known, [_BEYOND, 1 - _BEYOND], axis=1)
    parts = [part for night in range(len(nights.origins)) for part in _of_night(nights, served, night, low, high)]
    ways = {way: np.concatenate([part.probability[way] for part in parts]) for way in parts[0].probability}
    rest = (np.concatenate([getattr(part, name) for part in parts]) for name in ("came", "known", "window"))
    return Cases(ways, *rest)


def _of_night(nights: Nights, served: np.ndarray, night: int, low: np.ndarray, high: np.ndarray) -> Iterator[Cases]:
    panel, origin = nights.panel, nights.origins[night]
    grid, truth = panel.grid, nights.truth[night]
    context = panel.values[:, max(0, origin - grid.context_steps) : origin]
    rows = np.flatnonzero(np.isfinite(served[night][..., _STORED]).all(axis=(1, 2)))
    quantiles = served[night][rows][..., _STORED]
    strays = strays_of(context[rows], grid.steps_per_day, grid.horizon_steps)
    joint = dependence_of(strays, panel.parameter_id[rows])
    none = Dependence(np.zeros(len(rows)), np.zeros(len(rows)))
    windows = tuple(max(1, round(share * grid.horizon_steps)) for share in _WINDOWS)
    middle = np.nanmedian(panel.values[:, : nights.origins[0]], axis=1)
    for limit, side in ((low, -1), (high, 1)):
        own = np.where(side * (limit - middle) > 0, limit, np.nan)[rows]
        record = record_of(context[rows], own, side, windows, grid.steps_per_day)
        found = {
            JOINT: breaches(quantiles, own, side, joint, windows, record=record),
            INDEPENDENT: breaches(quantiles, own, side, none, windows),
        }
        for k, steps in enumerate(windows):
            came, seen = passed(truth[rows][:, :steps], own, np.full(len(rows), side))
            beyond = (side * (quantiles[:, :steps, _MEDIAN] - own[:, None]) > 0).any(axis=1)
            ways = {way: f.probability[:, k] for way, f in found.items()} | {POINT: beyond.astype(float)}
            yield Cases(ways, came, seen & np.isfinite(own), np.full(len(rows), _WINDOWS[k]))


def figures(cases: Cases) -> dict[str, float]:
    """Cases, share that came, the Brier score and its reliability part, skill over the two others."""
    scores = {way: brier(*cases.of(way)) for way in cases.probability}
    joint = cases.of(JOINT)
    return {
        "cases": float(cases.known.sum()),
        "came %": 100 * float(joint[1].mean()),
        "Brier": scores[JOINT],
        "reliability": reliability(*joint),
        "reliability, independent": reliability(*cases.of(INDEPENDENT)),
        "skill over independent": 1 - scores[JOINT] / scores[INDEPENDENT],
        "skill over point forecast": 1 - scores[JOINT] / scores[POINT],
    }


def _simulated(_: Path) -> tuple[Panel, tuple[int, ...]]:
    """20 stations by the hour, 30 nights after 35 days."""
    grid, days = Grid(HOUR, 7 * DAY, 48 * HOUR), 67
    end = datetime(2026, 11, 20, tzinfo=UTC)
    spec = NetworkSpec(20, days, end, 3, readings_per_hour=6.0)
    with TemporaryDirectory(prefix="bts-benchmark-") as folder:
        simulation = simulate_network(spec, Path(folder) / "landing")
        files = [simulation.landing / file.name for file in simulation.files if file.copy_of is None]
        panel = panel_from_observations(observed(files, grid, spec.start, spec.end), grid, spec.start, spec.end)
    parameters = load_catalogue().all_of(panel.parameter_id)
    panel = take_series(panel, np.flatnonzero([p.forecast and p.kind == "gauge" for p in parameters]))
    return panel, _last(panel, 30, DAY)


def _recorded(data: Path) -> tuple[Panel, tuple[int, ...]]:
    """A day of two series by five minutes, 2 h ahead, from every quarter of an hour of its second half."""
    grid = Grid(5 * MINUTE, 6 * HOUR, 2 * HOUR)
    start = datetime(2017, 4, 18, tzinfo=UTC)
    observations = observed(sorted((data / "bts" / "landing").glob("*.csv")), grid, start, start + DAY)
    end = observations["observed_at"].max().to_pydatetime() + grid.step
    panel = panel_from_observations(observations, grid, start, end)
    return panel, _last(panel, 40, timedelta(minutes=15))


def _transformer(data: Path) -> tuple[Panel, tuple[int, ...]]:
    """ETTh1, 48 h ahead, 120 nights."""
    known = ett_hourly(data)[0].panel
    grid = Grid(HOUR, known.grid.context, 48 * HOUR)
    panel = Panel(grid, known.station_id, known.parameter_id, known.end, known.values)
    return panel, _last(panel, 120, DAY)


def _volumes(data: Path) -> tuple[Panel, tuple[int, ...]]:
    """Volumes by 15 minutes, bursty, a day ahead, 30 nights."""
    panel = bursty(data)[0].panel
    return panel, _last(panel, 30, DAY)


def _last(panel: Panel, count: int, apart: timedelta) -> tuple[int, ...]:
    last = panel.steps - panel.grid.horizon_steps
    return tuple(last - back * (apart // panel.grid.step) for back in reversed(range(count)))


_SETS: Final[dict[str, Callable[[Path], tuple[Panel, tuple[int, ...]]]]] = {
    "simulator": _simulated,
    "bts": _recorded,
    "ett": _transformer,
    "volumes": _volumes,
}


def measure(name: str, data: Path, kept: Path) -> Cases:
    """The cases of a set."""
    panel, origins = _SETS[name](data)
    nights = forecast_all(kept / f"breaches-{name}.npy", name, panel, origins)
    served = nights.quantiles if name == "bts" else METHODS["recalibrated"](nights)
    return cases_of(nights, served)


def draw(measured: dict[str, Cases]) -> bytes:
    """The share of breaches by tenths of the probability, a panel per data set; calibrated forecasts: the diagonal."""
    figure = style.figure_of(style.WIDTH, 3.4)
    for number, (name, cases) in enumerate(measured.items(), start=1):
        axes = figure.add_subplot(1, len(measured), number)
        axes.plot([0, 1], [0, 1], color=style.QUIET, linewidth=0.8, linestyle=":")
        for way, colour in ((INDEPENDENT, style.INTERVAL_80), (JOINT, style.ACTUALS)):
            probability, came = cases.of(way)
            sums = tally(probability, came, np.ones(len(came), bool))
            held = sums.sides > 0
            sizes = 12 + 90 * sums.sides[held] / sums.sides.max()
            axes.plot(sums.expected[held] / sums.sides[held], sums.happened[held] / sums.sides[held], color=colour)
            axes.scatter(
                sums.expected[held] / sums.sides[held], sums.happened[held] / sums.sides[held], sizes, colour, label=way
            )
        axes.set(title=f"{name} ({int(cases.known.sum()):,} cases)", xlabel="probability", xlim=(0, 1), ylim=(0, 1))
        if number == 1:
            axes.set_ylabel("share that came")
            axes.legend(frameon=False, fontsize=8)
        style.plain(axes)
    style.caption(figure, f"python -m benchmarks.breaches: {BINS} tenths, dots by number of cases")
    return style.png_of(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--kept", type=Path, help="folder of forecasts, kept for another run; by default none are")
    parser.add_argument("--only", help="sets whose name has this in it")
    parser.add_argument("--plot", type=Path, help="write the reliability plot into this PNG file")
    arguments = parser.parse_args()
    start = time.process_time()
    with TemporaryDirectory(prefix="bts-benchmark-") as folder:
        kept = arguments.kept or Path(folder)
        names = [name for name in _SETS if arguments.only is None or arguments.only in name]
        measured = {name: measure(name, arguments.data, kept) for name in names}
    table = pd.DataFrame({name: figures(cases) for name, cases in measured.items()}).T
    sys.stdout.write(table.to_string(float_format=lambda value: f"{value:.4g}") + "\n")
    sys.stdout.write(f"{time.process_time() - start:.0f} CPU seconds\n")
    if arguments.plot:
        arguments.plot.write_bytes(draw(measured))


if __name__ == "__main__":
    main()
