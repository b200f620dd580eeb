"""The training of neuralforecast's LSTM for `benchmarks.race`, in the environment of `make bench-references`.

    .bts-references/bin/python -m benchmarks.race_references FOLDER

FOLDER has `panel.npy` (series, steps) and `request.json`: origins (columns of the panel; all before the first is
trained on), context, horizon, seconds. Beside them come to lie `seconds.json`, when weights were kept, and
`medians.npy` (times, origins, series, horizon).
"""

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.training_references import long_frame, network

#: Weights are kept after so many seconds of training, then each time after this factor of them.
_FIRST: Final = 5.0
_FACTOR: Final = 1.4


def trained(panel: np.ndarray, request: dict[str, Any]) -> tuple[Any, list[tuple[float, dict[str, Any]]]]:
    """The library after its training, and its weights on the way."""
    from neuralforecast import NeuralForecast
    from pytorch_lightning.callbacks import Callback

    kept: list[tuple[float, dict[str, Any]]] = []  # not the callback's own: the library trains a copy of it

    class Keep(Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, *_: object) -> None:
            seconds = time.perf_counter() - start
            over = seconds > request["seconds"]
            if seconds >= (kept[-1][0] * _FACTOR if kept else _FIRST) or over:
                kept.append((seconds, {name: value.clone() for name, value in module.state_dict().items()}))
            trainer.should_stop = over

    model = network(request["context"], request["horizon"], 100_000, len(panel), Keep())
    library = NeuralForecast(models=[model], freq=1)
    start = time.perf_counter()
    library.fit(long_frame(panel[:, : request["origins"][0]]))
    return library, kept


def medians_of(library: Any, panel: np.ndarray, request: dict[str, Any]) -> np.ndarray:
    """(origins, series, horizon) by the library's present weights."""
    given = []
    for origin in request["origins"]:
        frame = library.predict(long_frame(panel[:, origin - request["context"] : origin]))
        given.append(frame["LSTM-median"].to_numpy().reshape(len(panel), request["horizon"]))
    return np.stack(given)


def main(folder: Path) -> None:
    warnings.filterwarnings("ignore")
    request, panel = json.loads((folder / "request.json").read_text()), np.load(folder / "panel.npy")
    library, kept = trained(panel, request)
    medians = []
    for _, weights in kept:
        library.models[0].load_state_dict(weights)
        medians.append(medians_of(library, panel, request))
    np.save(folder / "medians.npy", np.stack(medians))
    (folder / "seconds.json").write_text(json.dumps([seconds for seconds, _ in kept]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
