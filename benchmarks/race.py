"""Time to accuracy: how long neuralforecast's LSTM trains until its best MASE, and ours until it reaches that.

    python -m benchmarks.race [--stations 12] [--seconds 600] [--effort quick]

Gauges of a simulated network, hourly means of forty days with gaps filled, 336 to 48 steps. Both are trained on what is
known before the last four nights, and forecast these from what each would know; MASE is that of the medians, the mean
over series and nights. neuralforecast (`make bench-references`) has our width and layers, its own learning rate, and
trains for `--seconds`; its weights are kept at growing intervals, and judged afterwards: the clock runs from the call
of its training, and stands while it is judged. Ours is the training of a night (validation and the start of compiled
code included), its weights kept at every call of 20 steps.
"""

import argparse
import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np

from benchmarks.accuracy_data import observed
from benchmarks.stage_network import REFERENCES
from bts_assets.contracts.catalogue import load_catalogue
from bts_assets.contracts.grid import DAY, Grid
from bts_assets.contracts.hyperparameters import Hyperparameters
from bts_assets.contracts.panel import Panel, panel_from_observations
from bts_assets.contracts.quantiles import MEDIAN
from bts_assets.forecasting.efforts import EFFORTS
from bts_assets.forecasting.metrics import mase_scale
from bts_assets.forecasting.windows import at_origin, holdout_origins
from bts_assets.simulation.simulate import NetworkSpec, simulate_network

GRID: Final = Grid(timedelta(hours=1), 14 * DAY, 2 * DAY)
_DAYS: Final = 40
_NIGHTS: Final = 4
_UTC: Final = ZoneInfo("UTC")
#: Seconds of training, and MASE then.
Curve = list[tuple[float, float]]


def simulated(stations: int) -> Panel:
    """Gauges that were heard of in nine hours of ten, gaps filled by straight lines."""
    spec = NetworkSpec(stations, _DAYS, datetime(2026, 11, 20, tzinfo=UTC), 1, readings_per_hour=4.0)
    with TemporaryDirectory(prefix="bts-benchmark-") as folder:
        made = simulate_network(spec, Path(folder) / "landing")
        files = [made.landing / file.name for file in made.files if file.copy_of is None]
        panel = panel_from_observations(observed(files, GRID, spec.start, spec.end), GRID, spec.start, spec.end)
    gauge = np.array([p.kind == "gauge" and p.forecast for p in load_catalogue().all_of(panel.parameter_id)])
    panel = panel.take(np.flatnonzero(gauge & (np.isfinite(panel.values).mean(axis=1) > 0.9)))
    steps = np.arange(panel.steps)
    for row in panel.values:
        known = np.isfinite(row)
        row[:] = np.interp(steps, steps[known], row[known])
    return panel


def nights(panel: Panel) -> list[int]:
    """Columns to forecast from: training knows what precedes the first."""
    last = panel.steps - GRID.horizon_steps
    return [last - back * GRID.steps_per_day for back in reversed(range(_NIGHTS))]


def mase(medians: np.ndarray, panel: Panel) -> float:
    """medians (nights, series, horizon)."""
    origins = nights(panel)
    scale = mase_scale(panel.values[:, : origins[0]], GRID.steps_per_day)
    truth = np.stack([panel.values[:, at : at + GRID.horizon_steps] for at in origins])
    return float(np.nanmean(np.abs(medians - truth).mean(axis=2) / scale))


def ours(panel: Panel, effort: str) -> Curve:
    from bts_assets.forecasting.lstm_network import LstmForecaster
    from bts_assets.forecasting.lstm_training import LstmTraining

    known = panel.until(panel.steps - nights(panel)[0])
    kept: list[tuple[float, dict[str, np.ndarray]]] = []

    def keep(*_: object) -> None:
        kept.append((time.perf_counter() - start, training.network.weights()))

    work = EFFORTS[effort]  # type: ignore[index]
    training = LstmTraining(known, holdout_origins(known), work, 1, _UTC, Hyperparameters(), keep)
    start = time.perf_counter()
    training.run(lambda: False)
    given = [at_origin(panel, at) for at in nights(panel)]

    def judged(weights: dict[str, np.ndarray]) -> float:
        forecaster = LstmForecaster(training.network.arch, (weights,), _UTC, training.judged_scales)
        return mase(np.stack([forecaster.forecast(one)[:, :, MEDIAN] for one in given]), panel)

    return [(seconds, judged(weights)) for seconds, weights in kept]


def theirs(panel: Panel, seconds: float) -> Curve:
    with TemporaryDirectory(prefix="bts-benchmark-") as folder:
        np.save(Path(folder) / "panel.npy", panel.values)
        asked = {"origins": nights(panel), "context": GRID.context_steps, "horizon": GRID.horizon_steps}
        (Path(folder) / "request.json").write_text(json.dumps(asked | {"seconds": seconds}))
        command = [str(REFERENCES), "-m", "benchmarks.race_references", folder]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - ours
        at = json.loads((Path(folder) / "seconds.json").read_text())
        medians = np.load(Path(folder) / "medians.npy")
    return [(when, mase(given, panel)) for when, given in zip(at, medians, strict=True)]


def reached(curve: Curve, level: float) -> float | None:
    """Seconds until a curve is at a MASE of `level` or less."""
    return next((seconds for seconds, at in curve if at <= level), None)


def summary(mine: Curve, other: Curve) -> str:
    """How long the other took to its best, and ours to the same."""
    best_at, best = min(other, key=lambda point: point[1])
    own_at, own = min(mine, key=lambda point: point[1])
    took = reached(mine, best)
    going_on = ", its last: it was still improving" if best_at == other[-1][0] else ""
    said = [
        f"neuralforecast: best MASE {best:.3f} after {best_at:.0f} s of {other[-1][0]:.0f}{going_on}",
        f"ours: best MASE {own:.3f} after {own_at:.1f} s of {mine[-1][0]:.1f}",
        "ours never reaches neuralforecast's best"
        if took is None
        else f"ours reaches {best:.3f} after {took:.1f} s: {best_at / took:.1f} times as fast",
    ]
    return "\n".join(said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stations", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=600, help="that neuralforecast trains")
    parser.add_argument("--effort", choices=EFFORTS, default="quick", help="of our training")
    arguments = parser.parse_args()
    if not REFERENCES.exists():
        raise SystemExit("there is no neuralforecast: make bench-references")
    panel = simulated(arguments.stations)
    sys.stdout.write(f"{len(panel)} series of {arguments.stations} stations\n")
    curves = {"ours": ours(panel, arguments.effort), "neuralforecast": theirs(panel, arguments.seconds)}
    for name, curve in curves.items():
        for seconds, at in curve:
            sys.stdout.write(f"{name:16}{seconds:8.1f} s  MASE {at:.3f}\n")
    sys.stdout.write(summary(curves["ours"], curves["neuralforecast"]) + "\n")


if __name__ == "__main__":
    main()
