"""One trial of a search: train with given hyper-parameters and say what the LSTM was worth. It remembers none.

Trials run in a process of their own: TensorFlow keeps tens of megabytes of every network that it ever compiled, and one
that is too large for the machine must not take the search with it.
"""

import multiprocessing
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.contracts.hyperparameters import Hyperparameters
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.progress import OnProgress
from bts_assets.forecasting.efforts import Effort
from bts_assets.forecasting.fit import LSTM, fit_bundle
from bts_assets.services.work_part import ended, heed_the_asker

#: What one horizon of one series may cost at most. Saying of each day that it will be like the last costs about 0.5.
CAP: Final = 1.0

#: A process serves so many trials and is then replaced: what TensorFlow keeps of them stays below a gigabyte.
_TRIALS_PER_PROCESS: Final = 10


@dataclass(frozen=True)
class Task:
    """What all trials of a search have in common."""

    panel: Panel
    catalogue: Catalogue
    effort: Effort
    seed: int
    zone: ZoneInfo


@dataclass(frozen=True)
class TrialOutcome:
    """What a trial came to. loss: see `scaled_pinball`; None where there is none to compare, for the `reason` given."""

    loss: float | None
    reason: str | None = None
    figures: Mapping[str, float] = field(default_factory=dict)


#: Tries hyper-parameters for at most so many seconds.
TryOut = Callable[[Hyperparameters, float, OnProgress | None], TrialOutcome]


def try_out(
    task: Task, chosen: Hyperparameters, max_seconds: float, on_progress: OnProgress | None = None
) -> TrialOutcome:
    """Train, and score the LSTM on the holdout window. Whatever goes wrong is the outcome."""
    try:
        fitted = fit_bundle(
            task.panel,
            task.catalogue,
            effort=task.effort,
            seed=task.seed,
            zone=task.zone,
            hyperparameters=chosen,
            statistical_max_series=0,
            fine_tuning=False,  # it knows none of the hyper-parameters
            on_progress=on_progress,
            max_seconds=max_seconds,
            clock=time.monotonic,
        )
    except Exception as error:
        return TrialOutcome(None, f"{type(error).__name__}: {error}".splitlines()[0])
    if LSTM in fitted.failures:
        return TrialOutcome(None, fitted.failures[LSTM])
    if fitted.truncated:
        return TrialOutcome(None, "cut short: the time was up")
    scores = fitted.scores[fitted.scores["candidate"] == LSTM]
    loss = scaled_pinball(scores)
    if not np.isfinite(loss):
        return TrialOutcome(None, "no series moved before the holdout window: nothing to measure errors by")
    median = {f"median_{name}": scores[name].median() for name in ("mase", "wql")}
    mean = {name: scores[name].mean() for name in ("mase", "coverage80", "coverage90")}
    return TrialOutcome(loss, None, {k: float(v) for k, v in (median | mean | fitted.figures).items()})


def scaled_pinball(scores: pd.DataFrame) -> float:
    """The mean over series of each one's mean over origins of pinball loss / scale of MASE, of at most `CAP` each.

    Without the cap a series that hardly ever moves, and so has a scale near 0, would rule the mean by the one night on
    which it does. `scores` are rows of one candidate, as `backtest` gives them. NaN: no series has a scale.
    """
    series = [scores["station_id"], scores["parameter_id"]]
    # The scale is that of a series, so a horizon that was forecast without error (0 / 0) has its neighbours'.
    scale = (scores["mae"] / scores["mase"]).groupby(series).transform("median")
    return float((scores["pinball"] / scale).clip(upper=CAP).groupby(series).mean().mean())


class Worker:
    """Tries out in a spawned process, which is replaced now and then, and whenever it dies; a context manager."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._process: multiprocessing.process.BaseProcess | None = None

    def __enter__(self) -> TryOut:
        return self._try_out

    def __exit__(self, *error: object) -> None:
        self._end()

    def _try_out(
        self, chosen: Hyperparameters, max_seconds: float, on_progress: OnProgress | None = None
    ) -> TrialOutcome:
        if self._process is None or not self._process.is_alive() or self._served >= _TRIALS_PER_PROCESS:
            self._start()
        self._served += 1
        try:
            self._connection.send((chosen, max_seconds))
            while not isinstance(heard := self._connection.recv(), TrialOutcome):
                if on_progress:
                    on_progress(*heard)
        except (EOFError, OSError):
            assert self._process is not None  # noqa: S101 - it was started above
            self._process.join()
            code = self._process.exitcode
            return TrialOutcome(None, f"the process of the trial ended with {code}; -9 is often a lack of memory")
        return heard

    def _end(self) -> None:
        if self._process is not None:
            self._connection.close()
            ended(self._process)

    def _start(self) -> None:
        self._end()
        spawn = multiprocessing.get_context("spawn")
        self._connection, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(theirs, self._task), daemon=True)
        self._process.start()
        theirs.close()
        self._served = 0


def _serve(connection: Connection, task: Task) -> None:
    """Try out whatever is asked for until nobody asks any more."""
    heed_the_asker()

    def on_progress(stage: str, done: int, total: int) -> None:
        connection.send((stage, done, total))

    try:
        while True:
            chosen, max_seconds = connection.recv()
            connection.send(try_out(task, chosen, max_seconds, on_progress))
    except (EOFError, OSError):
        return
