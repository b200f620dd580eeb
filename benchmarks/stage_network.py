"""Two stages of `benchmarks.stages`: training the network, and a batch of its forecasts that nobody stores."""

import json
import subprocess
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.stage_figures import Figures, timed

REFERENCES: Final = Path(__file__).parent.parent / ".bts-references" / "bin" / "python"
#: Series at growth 1.
TRAINED: Final = 12
FORECAST: Final = 15
#: Calls of the compiled step that are timed.
_CALLS: Final = 4


def training(role: str, growth: int) -> Figures:
    """Windows that a network is trained on, once it is compiled."""
    from benchmarks import training as ways
    from bts_assets.forecasting.architecture import design
    from bts_assets.forecasting.training_plan import STEPS_PER_CALL

    series = TRAINED * growth
    if role == "instead" and REFERENCES.exists():
        return of_references("training", series)
    panel = ways.example_panel(24, 40, 14, 2, series)
    windows = _CALLS * STEPS_PER_CALL * ways.BATCH
    if role == "ours":
        per_second, _ = ways.measure_global(panel, _CALLS)
        return {"work": windows, "seconds": windows / per_second}
    if role == "instead":
        return {"work": windows, "seconds": windows / ways.measure_tutorial(panel)}
    useful = 3 * operations(design(panel.grid, panel.parameter_id))  # twice as many backwards
    return {"work": windows, "seconds": windows * useful / peak_operations()}


def forecasting(role: str, growth: int) -> Figures:
    """Forecast rows of the default grid, from a panel in memory to quantiles in memory: the champion is one network."""
    from benchmarks import publishing as ways
    from bts_assets.forecasting.architecture import design

    series = FORECAST * growth
    panel, rows = ways.example_panel(series), series * ways.GRID.horizon_steps
    if role == "instead":
        return of_references("forecasting", series) if REFERENCES.exists() else _seasonal_naive(panel, rows)
    if role == "limit":
        useful = operations(design(panel.grid, panel.parameter_id))
        return {"work": rows, "seconds": series * useful / peak_operations()}
    with ways.prepared(series) as (home, _, bundle, _):

        def every_part(_: int) -> None:
            with ways.forecast(home, bundle, panel) as parts:
                for _part in parts:
                    pass

        return {"work": rows, "seconds": ways.median_seconds(3, every_part)}


def _seasonal_naive(panel: Any, rows: int) -> Figures:
    """Where there is no neuralforecast: yesterday again, with the intervals of statsforecast."""
    from statsforecast import StatsForecast
    from statsforecast.models import SeasonalNaive

    from benchmarks.stage_statistical import long_frame

    frame = long_frame(panel.values[:, -panel.grid.context_steps :])
    library = StatsForecast([SeasonalNaive(panel.grid.steps_per_day)], freq=1)
    return timed(rows, lambda: library.forecast(df=frame, h=panel.grid.horizon_steps, level=[80, 90]))


def operations(arch: Any) -> int:
    """Floating-point operations of the matrix products that one window takes forwards."""
    from bts_assets.forecasting.lstm import build

    total = 0
    for variable in build(arch).trainable_variables:
        layer = variable.path.split("/")[0]
        if len(variable.shape) == 2 and layer != "parameter":  # an embedding is looked up
            times = arch.tokens if layer in ("patch", "first_lstm", "second_lstm") else 1
            total += 2 * int(np.prod(variable.shape)) * times
    return total


def peak_operations() -> float:
    """Floating-point operations a second of this machine's products of float32 matrices, all cores: the best of ten."""
    a, b = (np.random.default_rng(n).normal(size=(2048, 2048)).astype(np.float32) for n in (0, 1))
    best = min(timed(1, lambda: a @ b)["seconds"] for _ in range(10))
    return float(2 * 2048**3 / best)


def of_references(stage: str, series: int) -> Figures:
    command = [str(REFERENCES), "-m", "benchmarks.training_references", stage, str(series)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 - ours
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    return found
