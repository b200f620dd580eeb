"""Training speed of neuralforecast's LSTM, for `benchmarks.stages` to set beside ours.

    .bts-references/bin/python -m benchmarks.training_references SERIES

It runs in the environment of `make bench-references`, and imports nothing of ours. The network has our width and
layers, 336 steps of context, 48 of horizon, nine quantiles and 256 windows a step; the steps after the first are timed,
as the optimiser takes them. Windows and seconds go to standard output as JSON.
"""

import json
import logging
import resource
import sys
import time
from typing import Final

import numpy as np
import pandas as pd

CONTEXT: Final = 336
HORIZON: Final = 48
WIDTH: Final = 64
BATCH: Final = 256
STEPS: Final = 5


def main() -> None:
    from neuralforecast import NeuralForecast
    from neuralforecast.losses.pytorch import MQLoss
    from neuralforecast.models import LSTM
    from pytorch_lightning.callbacks import Callback

    ticks: list[float] = []  # not the callback's own: the library trains a copy of it

    class Clock(Callback):
        def on_train_batch_end(self, *_: object) -> None:
            ticks.append(time.perf_counter())

    for name in ("pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    series = int(sys.argv[1])
    model = LSTM(
        h=HORIZON, input_size=CONTEXT, encoder_n_layers=2, encoder_hidden_size=WIDTH, decoder_hidden_size=2 * WIDTH,
        loss=MQLoss(quantiles=[0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975]), max_steps=STEPS + 1,
        batch_size=min(series, 32), windows_batch_size=BATCH, scaler_type="standard", random_seed=1,
        enable_progress_bar=False, enable_checkpointing=False, logger=False, callbacks=[Clock()],
    )  # fmt: skip
    step = np.arange(24 * 40)
    rng = np.random.default_rng(0)
    daily = np.sin(2 * np.pi * step / 24 + rng.uniform(0, 6, (series, 1)))
    values = 20 + 5 * daily + rng.normal(size=(series, len(step)))
    frame = pd.DataFrame({
        "unique_id": np.repeat(np.arange(series), len(step)),
        "ds": np.tile(pd.date_range("2026-10-01", periods=len(step), freq="h"), series),
        "y": values.ravel(),
    })  # fmt: skip
    NeuralForecast(models=[model], freq="h").fit(frame)
    seconds = ticks[-1] - ticks[0]
    found = {
        "work": STEPS * BATCH,
        "seconds": seconds,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    sys.stdout.write("\n" + json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
