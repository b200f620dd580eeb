"""From a panel to a model version: train the LSTM, backtest every candidate, weigh and calibrate. It stores nothing."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.contracts.hyperparameters import Hyperparameters
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.progress import OnProgress
from bts_assets.contracts.work_sharing import Spread
from bts_assets.forecasting.batch import candidates, counters_of
from bts_assets.forecasting.bundle import Bundle
from bts_assets.forecasting.candidates import STATISTICAL
from bts_assets.forecasting.counters import as_shown, counter_rows
from bts_assets.forecasting.efforts import EFFORTS, Effort
from bts_assets.forecasting.fine_tuning import FineTuned, fine_tune
from bts_assets.forecasting.forecasters import Forecaster
from bts_assets.forecasting.linear import LinearForecaster, fit_linear
from bts_assets.forecasting.lstm_training import LstmTraining
from bts_assets.forecasting.out_of_sample import gather
from bts_assets.forecasting.pretrained import FINE_TUNED, PretrainedForecaster
from bts_assets.forecasting.stacking import stack
from bts_assets.forecasting.statistical import BySeries
from bts_assets.forecasting.switches import EventRate
from bts_assets.forecasting.training_plan import NO_HOLDOUT, NO_WINDOW, TooLittleHistoryError
from bts_assets.forecasting.unlisted_parameters import with_inferred_counters
from bts_assets.forecasting.windows import holdout_origins, take_series, training_windows
from bts_assets.pretraining.weights import DIGEST as PRETRAINED_DIGEST

LSTM: Final = "lstm"

#: Series that are backtested, at most, drawn by seed; the others are served by the choice of their parameter.
BACKTEST_SERIES: Final = 4096


@dataclass(frozen=True)
class FittedBundle:
    """A model version, and how it came to be.

    scores: `METRICS` of each candidate at holdout origins, the LSTM's as it was before it was trained on the holdout
    window (whose loss over all series only decided when to stop), and of what would have been `served`: mixed and
    calibrated by the other origins; over `scored_steps` of the horizon, from 0 (None: all of them). curve: seed, step,
    loss, validation_loss. figures: windows (that training could draw), windows_trained, steps, parameters, seeds,
    series, origins, fine_tuning_steps. failures: why a candidate failed, by name. truncated: the ceiling on time was
    reached.
    """

    bundle: Bundle
    scores: pd.DataFrame
    curve: pd.DataFrame
    figures: dict[str, int]
    failures: dict[str, str]
    truncated: bool
    scored_steps: tuple[int, ...] | None = None


# The limit is the process's, whoever sets it, and the linear model's bits depend on it: so it is set once, around all.
@threadpool_limits.wrap(limits=1, user_api="blas")
def fit_bundle(
    panel: Panel,
    catalogue: Catalogue,
    *,
    effort: Effort,
    seed: int,
    zone: ZoneInfo = ZoneInfo("UTC"),  # noqa: B008 - immutable
    hyperparameters: Hyperparameters = Hyperparameters(),  # noqa: B008 - immutable
    statistical_max_series: int = 0,
    fine_tuning: bool = True,
    on_progress: OnProgress | None = None,
    max_seconds: float | None = None,
    clock: Callable[[], float] | None = None,
    spread: Spread = map,
) -> FittedBundle:
    """Fit a model version on everything that the panel knows.

    The LSTM is trained on windows that end before the holdout window of the panel; every candidate forecasts that end
    from several origins, which decides weights and widths; then the LSTM takes some more steps with the end included.
    Statistical candidates are tried on `statistical_max_series` series at most, those that are forecast worst without.
    Without `fine_tuning` the pretrained network is left as it ships, whatever the effort.

    `clock` gives seconds; training stops once `max_seconds` of it have passed. `spread` hands statistical fits to
    whoever is to do them.
    """
    rng = np.random.default_rng(seed)
    catalogue = with_inferred_counters(catalogue, panel)
    # A switch has an event rate, which is not learned.
    wanted = np.array([p.forecast and p.kind != "switch" for p in catalogue.all_of(panel.parameter_id)], dtype=bool)
    panel = take_series(panel, np.flatnonzero(wanted & np.isfinite(panel.values).any(axis=1)))
    origins = holdout_origins(panel)
    counters, work = counters_of(catalogue), EFFORTS[effort]
    if not fine_tuning:
        work = replace(work, tune_steps=0)
    shown = _shown(panel, origins, counter_rows(panel, counters))
    training = LstmTraining(shown, origins, work, seed, zone, hyperparameters, on_progress)
    learned = _learn(training, _Deadline(clock, max_seconds))
    rows = np.arange(len(panel))
    if len(rows) > BACKTEST_SERIES:
        rows = np.sort(rng.choice(rows, BACKTEST_SERIES, replace=False))
    every = candidates(catalogue, *learned.judged)
    statistical = [BySeries(every.pop(f.name), spread) for f in STATISTICAL]
    every.pop(EventRate.name)
    evidence, failed = gather(take_series(panel, rows), list(every.values()), origins, counters, on_progress)
    tried = min(statistical_max_series, work.statistical_max_series, len(rows))
    stacked = stack(
        evidence, LSTM, (LSTM, FINE_TUNED), statistical, tried, work.statistical_max_fits, counters, on_progress
    )
    failures = learned.failures | failed | stacked.failures
    usable = LSTM not in learned.failures
    bundle = Bundle(
        grid=panel.grid,
        zone=zone,
        effort=effort,
        seed=seed,
        catalogue=catalogue,
        weights=stacked.weights,
        calibration=stacked.calibration,
        spreads=stacked.spreads,
        architecture=training.architecture if usable else None,
        lstm=tuple(training.refined) if usable else (),
        lstm_failure=failures.get(LSTM),
        scales=training.scales,
        linear=learned.linear.arrays() if learned.linear else {},
        pretrained=PRETRAINED_DIGEST,
        fine_tuned=learned.fine_tuned.refined if learned.fine_tuned else {},
    )
    curve = pd.DataFrame(training.curve, columns=["seed", "step", "loss", "validation_loss"])
    figures = training.figures | {"series": len(panel), "origins": len(origins), "fine_tuning_steps": learned.steps}
    steps = tuple(evidence.steps.tolist())
    return FittedBundle(bundle, stacked.scores, curve, figures, failures, learned.truncated, steps)


class _Deadline:
    """Whether the time for training is over; `passed` once somebody was told so."""

    def __init__(self, clock: Callable[[], float] | None, seconds: float | None) -> None:
        self._clock = clock
        self._at = clock() + seconds if clock and seconds is not None else None
        self.passed = False

    def __call__(self) -> bool:
        over = bool(self._clock and self._at is not None and self._clock() >= self._at)
        self.passed |= over
        return over


@dataclass(frozen=True)
class _Learned:
    """Learned candidates as the backtest may judge them, what of them serves, and why one failed, by name."""

    judged: list[Forecaster]
    linear: LinearForecaster | None
    fine_tuned: FineTuned | None
    failures: dict[str, str]
    truncated: bool

    @property
    def steps(self) -> int:
        """Optimiser steps of fine-tuning; 0 where it did not help."""
        return self.fine_tuned.steps if self.fine_tuned else 0


def _learn(training: LstmTraining, out_of_time: _Deadline) -> _Learned:
    """Train the LSTM, and beside it what does not need it: compiling and small products leave a core to others."""
    zone = training.zone
    judged: list[Forecaster] = []
    linear, tuned = None, None
    failures: dict[str, str] = {}
    with ThreadPoolExecutor(1) as beside:
        fitting = beside.submit(_fit_linear, training)
        tuning = beside.submit(_fine_tune, training, out_of_time)
        try:
            training.run(out_of_time)
            judged.append(training.forecaster())
        except Exception as error:
            failures[LSTM] = _in_words(error)
    try:
        before, linear = fitting.result()
        judged.append(before)
    except Exception as error:
        failures[LinearForecaster.name] = _in_words(error)
    judged.append(PretrainedForecaster.shipped(zone))
    try:
        if tuned := tuning.result():
            judged.append(tuned.forecaster(zone))
    except Exception as error:
        failures[FINE_TUNED] = _in_words(error)
    return _Learned(judged, linear, tuned, failures, training.truncated or out_of_time.passed)


def _fine_tune(training: LstmTraining, out_of_time: _Deadline) -> FineTuned | None:
    if not training.work.tune_steps:
        return None
    work = training.work.tune_steps
    return fine_tune(training.panel, training.origins, work, training.seed, training.zone, out_of_time)


def _shown(panel: Panel, origins: tuple[int, ...], is_counter: np.ndarray) -> Panel:
    """The panel that is trained on. Its part before the holdout window does not depend on the window's actuals."""
    whole = as_shown(panel, is_counter)
    if origins:
        before = as_shown(panel.until(panel.steps - origins[0]), is_counter)
        whole.values[:, : origins[0]] = before.values
    return whole


def _fit_linear(training: LstmTraining) -> tuple[LinearForecaster, LinearForecaster]:
    """The linear candidate as the backtest may judge it, and the one that serves."""
    panel, origins, count, seed = training.panel, training.origins, training.work.linear_windows, training.seed
    if not origins:
        raise TooLittleHistoryError(NO_HOLDOUT)
    fitted = []
    for cut, scales in ((origins[0], training.judged_scales), (panel.steps, training.scales)):
        windows = training_windows(panel, cut, np.random.default_rng(seed))
        if not len(windows):
            raise TooLittleHistoryError(NO_WINDOW)
        fitted.append(fit_linear(panel, windows, cut, count, seed, scales))
    return fitted[0], fitted[1]


def _in_words(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    known = isinstance(error, TooLittleHistoryError | FloatingPointError)
    return text.splitlines()[0] if known else f"{type(error).__name__}: {text.splitlines()[0]}"
