"""Forecasts of other libraries, statsforecast and neuralforecast, for `benchmarks.accuracy` to score beside ours.

    .bts-references/bin/python -m benchmarks.accuracy_references FOLDER

It runs in an environment of its own (`make bench-references`), for neuralforecast needs torch and pandas below 3; so
nothing of ours is imported. FOLDER has `panel.npy` (series, steps) and `request.json` (origins as columns of the panel;
horizon, context and seasons in steps; quantile levels). Beside them comes to lie one file per candidate, of shape
(origins, series, horizon, levels), NaN where it gives no such level. What lies there already is not made again.

statsforecast is fitted anew at every origin, on one context and on longer histories, so that it is not held to what
suits us. neuralforecast's networks have their default settings and the context as input, and are trained once on all
that precedes the first origin. A fit that fails leaves no forecast, and is told.
"""

import json
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

#: Histories that statsforecast is given, in contexts.
HISTORIES: Final = (1, 4, 12)

Request = dict[str, Any]
Candidate = Callable[[np.ndarray, Request], np.ndarray]


def candidates(request: Request) -> Iterator[tuple[str, Candidate]]:
    """Every candidate by name, the quick ones first."""
    day, week = request["seasons"]
    models = {"AutoETS": day, "AutoTheta": day, "AutoCES": day, "MSTL": day, "MSTL with weeks": [day, week]}
    for name, season in models.items():
        for contexts in HISTORIES:
            label = f"statsforecast {name}, {contexts * request['context']} steps"
            yield label, statsforecast_candidate(name.split()[0], season, contexts * request["context"])
    yield "neuralforecast NHITS", neuralforecast_candidate("NHITS")
    yield "neuralforecast LSTM", neuralforecast_candidate("LSTM")


def statsforecast_candidate(model: str, season: int | list[int], history: int) -> Candidate:
    def forecast(panel: np.ndarray, request: Request) -> np.ndarray:
        import statsforecast.models

        levels, horizon = request["levels"], request["horizon"]
        # Whole numbers: the library names its columns after them as they are written.
        widths = [round(100 * abs(1 - 2 * q)) for q in levels]
        sides = ["mean" if not w else f"{'lo' if q < 0.5 else 'hi'}-{w}" for q, w in zip(levels, widths, strict=True)]
        quantiles = _empty(panel, request)
        failures = []
        for number, origin in enumerate(request["origins"]):
            for i, past in enumerate(panel[:, max(0, origin - history) : origin]):
                try:
                    fitted = getattr(statsforecast.models, model)(season_length=season)
                    given = fitted.forecast(y=past, h=horizon, level=sorted({w for w in widths if w}))
                    quantiles[number, i] = np.stack([given[side] for side in sides], axis=1)
                except Exception as error:
                    failures.append(f"series {i}, origin {origin}: {type(error).__name__}: {error}")
        if failures:
            sys.stderr.write(f"{model}: {len(failures)} fits failed, the last one {failures[-1]}\n")
        return quantiles

    return forecast


def neuralforecast_candidate(model: str) -> Candidate:
    """With the library's default loss, the absolute error: it gives a point alone."""

    def forecast(panel: np.ndarray, request: Request) -> np.ndarray:
        import neuralforecast.models

        logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
        quiet = {"enable_progress_bar": False, "logger": False, "enable_checkpointing": False, "accelerator": "cpu"}
        network = getattr(neuralforecast.models, model)(h=request["horizon"], input_size=request["context"], **quiet)
        library = neuralforecast.NeuralForecast(models=[network], freq=1)
        library.fit(_long(panel[:, : request["origins"][0]]))
        quantiles = _empty(panel, request)
        middle = request["levels"].index(0.5)
        for number, origin in enumerate(request["origins"]):
            given = library.predict(_long(panel[:, :origin])).drop(columns=["unique_id", "ds"]).to_numpy()
            quantiles[number, :, :, middle] = given.reshape(len(panel), request["horizon"])
        return quantiles

    return forecast


def _empty(panel: np.ndarray, request: Request) -> np.ndarray:
    return np.full((len(request["origins"]), len(panel), request["horizon"], len(request["levels"])), np.nan)


def _long(panel: np.ndarray) -> pd.DataFrame:
    series, step = np.indices(panel.shape).reshape(2, -1)
    return pd.DataFrame({"unique_id": series, "ds": step, "y": panel.ravel()})


def main(folder: Path) -> None:
    warnings.filterwarnings("ignore")
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    panel = np.load(folder / "panel.npy")
    for name, candidate in candidates(request):
        kept = folder / f"{name}.npy"
        if kept.exists():
            continue
        started = time.perf_counter()
        quantiles = candidate(panel, request)
        partial = folder / f"{name}.partial"
        with partial.open("wb") as file:
            np.save(file, quantiles)
        partial.rename(kept)
        sys.stderr.write(f"{time.perf_counter() - started:7.1f} s  {name}\n")
        sys.stderr.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
