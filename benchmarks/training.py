"""Training speed: our global LSTM against one Keras LSTM per series, both in windows per second, measured in one run.

The way compared with is the tutorial's: two LSTM layers of 32 on six lags, batch size 4, one model per series.
Run with `python -m benchmarks.training`. Medians of five rounds, in each of which all are measured in turn.
"""

import time
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np

from bts_assets.contracts.grid import Grid
from bts_assets.contracts.hyperparameters import Hyperparameters
from bts_assets.contracts.panel import Panel
from bts_assets.forecasting import lstm
from bts_assets.forecasting.architecture import design
from bts_assets.forecasting.scaling import AsinhScales
from bts_assets.forecasting.training_plan import STEPS_PER_CALL, learning_rates
from bts_assets.forecasting.windows import training_windows

_SERIES: Final = 120
BATCH: Final = Hyperparameters.batch
_LAGS: Final = 6
_ROUNDS: Final = 5

#: Name, steps per day, and days of history, context and horizon.
_SHAPES: Final = (("hourly, as M4", 24, 40, 14, 2), ("default", 96, 14, 7, 2))


def example_panel(per_day: int, days: int, context: int, horizon: int, series: int = _SERIES) -> Panel:
    """Series of a daily sine and noise; `per_day` in steps, the others in days."""
    rng = np.random.default_rng(0)
    step = np.arange(per_day * days)
    daily = np.sin(2 * np.pi * step / per_day + rng.uniform(0, 6, (series, 1)))
    values = 20 + 5 * daily + rng.normal(size=(series, len(step)))
    grid = Grid(timedelta(days=1) / per_day, timedelta(days=context), timedelta(days=horizon))
    parameter = np.full(series, 122, np.int32)
    return Panel(grid, np.arange(series), parameter, datetime(2026, 11, 20, tzinfo=UTC), values)


def measure_global(panel: Panel, calls: int = 4) -> tuple[float, float]:
    """Windows a second once compiled, and seconds until the first call had returned."""
    started = time.perf_counter()
    arch = design(panel.grid, panel.parameter_id)
    network = lstm.LstmNetwork(arch, Hyperparameters.weight_decay)
    network.start(0)
    data = lstm.TrainingData(panel, arch, ZoneInfo("UTC"), panel.steps, AsinhScales())
    rng = np.random.default_rng(0)
    windows = training_windows(panel, panel.steps, rng)
    rates = learning_rates(STEPS_PER_CALL, 1e-3)
    network.train(data, *windows.draw(rng, STEPS_PER_CALL, BATCH), rates)
    compiled = time.perf_counter() - started
    started = time.perf_counter()
    for _ in range(calls):
        network.train(data, *windows.draw(rng, STEPS_PER_CALL, BATCH), rates)
    return calls * STEPS_PER_CALL * BATCH / (time.perf_counter() - started), compiled


def measure_tutorial(panel: Panel, epochs: int = 3) -> float:
    """Windows a second of one model for one series, after the first epoch, which compiles."""
    keras = lstm.keras
    values = panel.values[0].astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(values, _LAGS + 1)
    inputs, targets = windows[:, :_LAGS, None], windows[:, _LAGS]
    layers = [keras.layers.LSTM(32, return_sequences=True), keras.layers.LSTM(32), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((_LAGS, 1)), *layers])
    model.compile(loss="mse", optimizer="adam")
    model.fit(inputs, targets, batch_size=4, epochs=1, verbose=0)
    started = time.perf_counter()
    model.fit(inputs, targets, batch_size=4, epochs=epochs, verbose=0)
    return epochs * len(inputs) / (time.perf_counter() - started)


def main() -> None:
    panels = [(name, example_panel(*shape)) for name, *shape in _SHAPES]
    tutorial: list[float] = []
    ours: dict[str, list[float]] = {name: [] for name, _ in panels}
    compiled: dict[str, float] = {}
    # In turn, so that a machine whose speed drifts drifts under all of them.
    for _ in range(_ROUNDS):
        tutorial.append(measure_tutorial(panels[-1][1]))
        for name, panel in panels:
            speed, seconds = measure_global(panel)
            ours[name].append(speed)
            compiled.setdefault(name, seconds)
    print(f"{'one Keras LSTM per series, 6 lags, batch 4':<50} {median(tutorial):>9,.0f} windows/s")  # noqa: T201
    for name, panel in panels:
        label = f"global LSTM, {name} ({panel.grid.context_steps} -> {panel.grid.horizon_steps} steps)"
        ratios = [a / b for a, b in zip(ours[name], tutorial, strict=True)]
        print(  # noqa: T201
            f"{label:<50} {median(ours[name]):>9,.0f} windows/s  {median(ratios):5.1f} x"
            f" ({min(ratios):.1f} to {max(ratios):.1f}; {compiled[name]:.1f} s to compile)"
        )


if __name__ == "__main__":
    main()
