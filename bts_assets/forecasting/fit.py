"""From a panel to a model version: train the LSTM, backtest every candidate, weigh and calibrate. It stores nothing."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.contracts.hyperparameters import Hyperparameters
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.progress import OnProgress
from bts_assets.contracts.work_sharing import Spread
from bts_assets.forecasting.architecture import design
from bts_assets.forecasting.batch import candidates, counters_of
from bts_assets.forecasting.bundle import Bundle
from bts_assets.forecasting.candidates import STATISTICAL
from bts_assets.forecasting.counters import as_shown, counter_rows
from bts_assets.forecasting.forecasters import Forecaster
from bts_assets.forecasting.linear import LinearForecaster, fit_linear
from bts_assets.forecasting.out_of_sample import gather
from bts_assets.forecasting.pretrained import PretrainedForecaster
from bts_assets.forecasting.stacking import stack
from bts_assets.forecasting.statistical import BySeries
from bts_assets.forecasting.switches import EventRate
from bts_assets.forecasting.unlisted_parameters import with_inferred_counters
from bts_assets.forecasting.windows import TrainingWindows, holdout_origins, take_series, training_windows
from bts_assets.pretraining.weights import DIGEST as PRETRAINED_DIGEST

if TYPE_CHECKING:
    from bts_assets.forecasting.lstm import TrainingData

Effort = Literal["quick", "standard", "thorough"]
LSTM: Final = "lstm"


@dataclass(frozen=True)
class Work:
    """Optimiser steps before and after the holdout window is shown, and seeds: counts, so that it repeats bit for bit.

    refine_steps: at most; fewer where the holdout window is a small part of the history, or where training before it
    was best after a part of its steps.

    widen: factor on the width that the hyper-parameters give. statistical_max_series, statistical_max_fits: the most
    series on which per-series statistical models are fitted, and the most fits of each. linear_windows: the most
    windows that the linear candidate is fitted on.
    """

    steps: int
    refine_steps: int
    seeds: int
    linear_windows: int
    widen: int = 1
    statistical_max_series: int = 0
    statistical_max_fits: int = 0


EFFORTS: Final[dict[Effort, Work]] = {
    "quick": Work(240, 40, 1, 6_000, widen=1, statistical_max_series=16, statistical_max_fits=32),
    "standard": Work(400, 200, 3, 60_000, widen=1, statistical_max_series=200, statistical_max_fits=600),
    "thorough": Work(800, 700, 3, 60_000, widen=2, statistical_max_series=2000, statistical_max_fits=600),
}

#: Each training window is drawn at most about this often, so that a short history is not learned by heart: windows of
#: one series overlap. A few steps are taken in any case.
MAXIMUM_EPOCHS: Final = 8
LEAST_STEPS: Final = 60

#: The share of windows whose origin is at about the hour that is trained for; less where there are few such windows.
OF_THAT_HOUR: Final = 0.5

#: The learning rate once the holdout window is included, as a share of the peak rate.
REFINE_RATE: Final = 1.0

#: The holdout window is shown in all refining steps where it is this share of the history, in fewer where it is less.
REFINED_SHARE: Final = 0.25

#: Training stops once the holdout loss has not improved for this share of its steps; the best weights are kept.
PATIENCE: Final = 0.3

#: Series that are backtested, at most, drawn by seed; the others are served by the choice of their parameter.
BACKTEST_SERIES: Final = 4096

_VALIDATION_WINDOWS: Final = 512

_NO_HOLDOUT: Final = "too little history for a holdout window"
_NO_WINDOW: Final = "too little history: no window ends before the holdout window"


@dataclass(frozen=True)
class FittedBundle:
    """A model version, and how it came to be.

    scores: `METRICS` of each candidate at holdout origins, the LSTM's as it was before it was trained on the holdout
    window (whose loss over all series only decided when to stop), and of what would have been `served`: mixed and
    calibrated by the other origins; over `scored_steps` of the horizon, from 0 (None: all of them). curve: seed, step,
    loss, validation_loss. figures: windows (that training could draw), windows_trained, steps, parameters, seeds,
    series, origins. failures: why a candidate failed, by name. truncated: the ceiling on time was reached.
    """

    bundle: Bundle
    scores: pd.DataFrame
    curve: pd.DataFrame
    figures: dict[str, int]
    failures: dict[str, str]
    truncated: bool
    scored_steps: tuple[int, ...] | None = None


class TooLittleHistoryError(ValueError):
    """No window fits before the holdout window."""


def fit_bundle(
    panel: Panel,
    catalogue: Catalogue,
    *,
    effort: Effort,
    seed: int,
    zone: ZoneInfo = ZoneInfo("UTC"),  # noqa: B008 - immutable
    hyperparameters: Hyperparameters = Hyperparameters(),  # noqa: B008 - immutable
    statistical_max_series: int = 0,
    on_progress: OnProgress | None = None,
    max_seconds: float | None = None,
    clock: Callable[[], float] | None = None,
    spread: Spread = map,
) -> FittedBundle:
    """Fit a model version on everything that the panel knows.

    The LSTM is trained on windows that end before the holdout window of the panel; every candidate forecasts that end
    from several origins, which decides weights and widths; then the LSTM takes some more steps with the end included.
    Statistical candidates are tried on `statistical_max_series` series at most, those that are forecast worst without.

    `clock` gives seconds; training stops once `max_seconds` of it have passed. `spread` hands statistical fits to
    whoever is to do them.
    """
    rng = np.random.default_rng(seed)
    catalogue = with_inferred_counters(catalogue, panel)
    # A switch has an event rate, which is not learned.
    wanted = np.array([p.forecast and p.kind != "switch" for p in catalogue.all_of(panel.parameter_id)], dtype=bool)
    panel = take_series(panel, np.flatnonzero(wanted & np.isfinite(panel.values).any(axis=1)))
    origins = holdout_origins(panel)
    deadline = clock() + max_seconds if clock and max_seconds is not None else None
    counters, work = counters_of(catalogue), EFFORTS[effort]
    shown = _shown(panel, origins, counter_rows(panel, counters))
    training = _Training(shown, origins, work, seed, zone, hyperparameters, on_progress)
    failures: dict[str, str] = {}
    # Beside each other, for compiling the network occupies one core for seconds, and neither looks at the other.
    with ThreadPoolExecutor(1) as beside:
        fitting = beside.submit(_fit_linear, shown, origins, work.linear_windows, seed)
        try:
            training.run(lambda: bool(clock and deadline is not None and clock() >= deadline))
        except Exception as error:
            failures[LSTM] = _in_words(error)
    usable = LSTM not in failures
    judged, linear = [training.forecaster()] if usable else [], None
    try:
        before, linear = fitting.result()
        judged.append(before)
    except Exception as error:
        failures[LinearForecaster.name] = _in_words(error)
    judged.append(PretrainedForecaster.shipped(zone))
    rows = np.arange(len(panel))
    if len(rows) > BACKTEST_SERIES:
        rows = np.sort(rng.choice(rows, BACKTEST_SERIES, replace=False))
    every = candidates(catalogue, *judged)
    statistical = [BySeries(every.pop(f.name), spread) for f in STATISTICAL]
    every.pop(EventRate.name)
    evidence, failed = gather(take_series(panel, rows), list(every.values()), origins, counters, on_progress)
    tried = min(statistical_max_series, work.statistical_max_series, len(rows))
    stacked = stack(evidence, LSTM, statistical, tried, work.statistical_max_fits, counters, on_progress)
    failures |= failed | stacked.failures
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
        linear=linear.arrays() if linear else {},
        pretrained=PRETRAINED_DIGEST,
    )
    curve = pd.DataFrame(training.curve, columns=["seed", "step", "loss", "validation_loss"])
    figures = training.figures | {"series": len(panel), "origins": len(origins)}
    steps = tuple(evidence.steps.tolist())
    return FittedBundle(bundle, stacked.scores, curve, figures, failures, training.truncated, steps)


def _shown(panel: Panel, origins: tuple[int, ...], is_counter: np.ndarray) -> Panel:
    """The panel that is trained on. Its part before the holdout window does not depend on the window's actuals."""
    whole = as_shown(panel, is_counter)
    if origins:
        before = as_shown(panel.until(panel.steps - origins[0]), is_counter)
        whole.values[:, : origins[0]] = before.values
    return whole


def _fit_linear(
    panel: Panel, origins: tuple[int, ...], count: int, seed: int
) -> tuple[LinearForecaster, LinearForecaster]:
    """The linear candidate as the backtest may judge it, and the one that serves."""
    if not origins:
        raise TooLittleHistoryError(_NO_HOLDOUT)
    fitted = []
    for cut in (origins[0], panel.steps):
        windows = training_windows(panel, cut, np.random.default_rng(seed))
        if not len(windows):
            raise TooLittleHistoryError(_NO_WINDOW)
        fitted.append(fit_linear(panel, windows, cut, count, seed))
    return fitted[0], fitted[1]


class _Training:
    """The LSTM's way from seeds to weights, with what is worth telling about it."""

    def __init__(
        self,
        panel: Panel,
        origins: tuple[int, ...],
        work: Work,
        seed: int,
        zone: ZoneInfo,
        hyperparameters: Hyperparameters,
        on_progress: OnProgress | None,
    ) -> None:
        self.panel, self.origins, self.work, self.seed, self.zone = panel, origins, work, seed, zone
        self.chosen = hyperparameters
        self.on_progress = on_progress
        self.judged: list[dict[str, np.ndarray]] = []
        self.refined: list[dict[str, np.ndarray]] = []
        self.curve: list[tuple[int, int, float, float]] = []
        self.figures = {"windows": 0, "windows_trained": 0, "steps": 0, "parameters": 0, "seeds": 0}
        self.architecture: dict[str, Any] | None = None
        self.truncated = False

    def forecaster(self) -> Forecaster:
        """The LSTM as it was before it was trained on the holdout window: the one that the backtest may judge."""
        from bts_assets.forecasting.lstm import LstmForecaster

        return LstmForecaster(self.network, tuple(self.judged), self.zone)

    def run(self, out_of_time: Callable[[], bool]) -> None:
        rng = np.random.default_rng(self.seed)
        if not self.origins or not len(self.panel):
            raise TooLittleHistoryError(_NO_HOLDOUT)
        before = training_windows(self.panel, self.origins[0], rng)
        after = training_windows(self.panel, self.panel.steps, rng)
        if not len(before):
            raise TooLittleHistoryError(_NO_WINDOW)
        from bts_assets.forecasting import lstm

        used = np.union1d(before.rows, after.rows)
        arch = design(self.panel.grid, self.panel.parameter_id, self.chosen, self.work.widen)
        self.architecture = arch.to_dict()
        self.network = lstm.network(arch, self.chosen.weight_decay)
        data = lstm.TrainingData(take_series(self.panel, used), arch, self.zone, self.origins[0])
        windows = [replace(w, rows=np.searchsorted(used, w.rows)) for w in (before, after)]
        call = lstm.STEPS_PER_CALL
        enough = max(MAXIMUM_EPOCHS * len(before) / lstm.BATCH, LEAST_STEPS)
        share = min(1.0, enough / self.work.steps)
        news = min(1.0, (1 - self.origins[0] / self.panel.steps) / REFINED_SHARE)
        counts = (self.work.steps * share, self.work.refine_steps * share * news)
        before_steps, refine_steps = (max(1, round(n / call)) * call for n in counts)
        peak = self.chosen.learning_rate
        rates = lstm.learning_rates(before_steps, peak)
        self.figures |= {"windows": len(before), "parameters": self.network.parameter_count}
        validation = self._validation(used, rng)
        for number in range(self.work.seeds):
            self.network.start(self.seed + number)
            learned = self._phase(number, data, windows[0], rates, rng, validation, out_of_time)
            self.judged.append(self.network.weights())
            # What is learned by heart after a tenth of the steps would be after a tenth of these as well: weights and
            # widths were judged before, and a network that then learns by heart is worse and surer than they know.
            refine = max(1, round(refine_steps * learned / call)) * call
            refine_rates = lstm.learning_rates(refine, REFINE_RATE * peak)
            self._phase(number, data, windows[1], refine_rates, rng, None, out_of_time)
            self.refined.append(self.network.weights())
            self.figures["seeds"] = number + 1
            if self.on_progress:
                self.on_progress("training", 100 * (number + 1), 100 * self.work.seeds)
            if self.truncated:
                break

    def _validation(self, used: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        rows = np.repeat(np.arange(len(used)), len(self.origins))
        columns = np.tile(np.array(self.origins), len(used))
        kept = np.sort(rng.permutation(len(rows))[:_VALIDATION_WINDOWS])
        return rows[kept], columns[kept]

    def _phase(
        self,
        number: int,
        data: "TrainingData",
        windows: TrainingWindows,
        rates: np.ndarray,
        rng: np.random.Generator,
        validation: tuple[np.ndarray, np.ndarray] | None,
        out_of_time: Callable[[], bool],
    ) -> float:
        """Train, and keep the best weights by the validation loss; the share of the steps after which they were."""
        from bts_assets.forecasting.lstm import BATCH, STEPS_PER_CALL

        least, best, at_best = np.inf, None, 0
        enough = MAXIMUM_EPOCHS * windows.of_that_hour / (len(rates) * BATCH)
        of_that_hour = min(OF_THAT_HOUR, enough)
        for at in range(0, len(rates), STEPS_PER_CALL):
            if out_of_time():
                self.truncated = True
                break
            rows, origins = windows.draw(rng, STEPS_PER_CALL, BATCH, of_that_hour=of_that_hour)
            loss = self.network.train(data, rows, origins, rates[at : at + STEPS_PER_CALL])
            if not np.isfinite(loss):
                raise FloatingPointError(f"the loss is {loss} at step {at + STEPS_PER_CALL} of seed {number}")
            self.figures["steps"] += STEPS_PER_CALL
            self.figures["windows_trained"] += STEPS_PER_CALL * BATCH
            if validation is not None:
                validated = data.validation_loss(self.network, *validation)
                self.curve.append((number, at + STEPS_PER_CALL, loss, validated))
                if validated < least:
                    least, best, at_best = validated, self.network.weights(), at
                elif at - at_best > PATIENCE * len(rates):
                    break
            if self.on_progress:
                share = (at + STEPS_PER_CALL) / len(rates) * (0.85 if validation is not None else 0.15)
                done = number + share + (0.0 if validation is not None else 0.85)
                self.on_progress("training", round(100 * done), 100 * self.work.seeds)
        if best is None:
            return 1.0
        self.network.load(best)
        return (at_best + STEPS_PER_CALL) / len(rates)


def _in_words(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    known = isinstance(error, TooLittleHistoryError | FloatingPointError)
    return text.splitlines()[0] if known else f"{type(error).__name__}: {text.splitlines()[0]}"
