"""Speed of neuralforecast's LSTM, for `benchmarks.stages` to set beside ours.

    .bts-references/bin/python -m benchmarks.training_references training | forecasting SERIES

It runs in the environment of `make bench-references`, and imports nothing of ours. The network has our width, layers
and nine quantiles. Training is of 336 steps of context and 48 of horizon, 256 windows a step; the steps after the first
are timed, as the optimiser takes them. Forecasting is of 672 steps and 192, of all series at once, by a network that
was trained for a step; the second forecast is timed. Work and seconds go to standard output as JSON.
"""

import json
import logging
import resource
import sys
import time
import warnings
from typing import Any, Final

import numpy as np
import pandas as pd

WIDTH: Final = 64
BATCH: Final = 256
STEPS: Final = 5
QUANTILES: Final = [0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975]


def network(context: int, horizon: int, steps: int, series: int, *callbacks: Any) -> Any:
    """An LSTM of the library with our width and layers."""
    from neuralforecast.losses.pytorch import MQLoss
    from neuralforecast.models import LSTM

    for name in ("pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return LSTM(
        h=horizon, input_size=context, encoder_n_layers=2, encoder_hidden_size=WIDTH, decoder_hidden_size=2 * WIDTH,
        loss=MQLoss(quantiles=QUANTILES), max_steps=steps, batch_size=min(series, 32), windows_batch_size=BATCH,
        scaler_type="standard", random_seed=1, enable_progress_bar=False, enable_checkpointing=False, logger=False,
        accelerator="cpu", callbacks=list(callbacks),
    )  # fmt: skip


def long_frame(values: np.ndarray) -> pd.DataFrame:
    """As the library wants it: a row per series and step of values (series, steps)."""
    series, step = np.indices(values.shape).reshape(2, -1)
    return pd.DataFrame({"unique_id": series, "ds": step, "y": values.ravel()})


def example(series: int, per_day: int, days: int) -> np.ndarray:
    """Daily sines and noise (series, steps)."""
    step, rng = np.arange(per_day * days), np.random.default_rng(0)
    daily = np.sin(2 * np.pi * step / per_day + rng.uniform(0, 6, (series, 1)))
    return 20 + 5 * daily + rng.normal(size=(series, len(step)))


def training(series: int) -> tuple[int, float]:
    """Windows, and the seconds that they took."""
    from neuralforecast import NeuralForecast
    from pytorch_lightning.callbacks import Callback

    ticks: list[float] = []  # not the callback's own: the library trains a copy of it

    class Clock(Callback):
        def on_train_batch_end(self, *_: object) -> None:
            ticks.append(time.perf_counter())

    model = network(336, 48, STEPS + 1, series, Clock())
    NeuralForecast(models=[model], freq=1).fit(long_frame(example(series, 24, 40)))
    return STEPS * BATCH, ticks[-1] - ticks[0]


def forecasting(series: int) -> tuple[int, float]:
    """Forecast rows, and the seconds that they took."""
    from neuralforecast import NeuralForecast

    horizon, values = 192, example(series, 96, 14)
    library = NeuralForecast(models=[network(672, horizon, 1, series)], freq=1)
    library.fit(long_frame(values[:32]))
    frame = long_frame(values[:, -672:])
    library.predict(frame)
    start = time.perf_counter()
    library.predict(frame)
    return series * horizon, time.perf_counter() - start


def main() -> None:
    warnings.filterwarnings("ignore")
    work, seconds = {"training": training, "forecasting": forecasting}[sys.argv[1]](int(sys.argv[2]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write("\n" + json.dumps({"work": work, "seconds": seconds, "peak_mib": peak}) + "\n")


if __name__ == "__main__":
    main()
