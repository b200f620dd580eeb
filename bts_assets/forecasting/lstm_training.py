"""The LSTM's way from seeds to weights, with what is worth telling about it. TensorFlow is imported as it begins."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

import numpy as np

from bts_assets.contracts.hyperparameters import Hyperparameters
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.progress import OnProgress
from bts_assets.forecasting.architecture import design
from bts_assets.forecasting.efforts import Work
from bts_assets.forecasting.forecasters import Forecaster
from bts_assets.forecasting.lstm_network import LstmForecaster
from bts_assets.forecasting.scaling import AsinhScales
from bts_assets.forecasting.training_plan import (
    PATIENCE,
    STEPS_PER_CALL,
    OutOfTime,
    TrainingPlan,
    learning_rates,
    validation_windows,
)
from bts_assets.forecasting.windows import TrainingWindows, take_series

if TYPE_CHECKING:
    from bts_assets.forecasting.lstm import TrainingData

#: The learning rate once the holdout window is included, as a share of the peak rate.
REFINE_RATE: Final = 1.0

#: Share of windows of which the network is not told the parameter, so that it can forecast one that it never saw.
_UNNAMED_SHARE: Final = 0.1

#: What training before the holdout window is of a seed's work, for its progress.
_MOST: Final = 0.85


class LstmTraining:
    """One training: `judged` are each seed's weights before it was trained on the holdout window, `refined` after.

    judged_scales: of what precedes the holdout window; scales: of all that is known.
    curve: seed, step, loss, validation loss. figures: windows (that training could draw), windows_trained, steps,
    parameters, seeds. truncated: it ran out of time.
    """

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
        self.judged_scales = AsinhScales.of(panel, origins[0]) if origins else AsinhScales()
        self.scales = AsinhScales.of(panel, panel.steps) if origins else AsinhScales()
        self._lot = np.random.default_rng((seed, 1))
        self.judged: list[dict[str, np.ndarray]] = []
        self.refined: list[dict[str, np.ndarray]] = []
        self.curve: list[tuple[int, int, float, float]] = []
        self.figures = {"windows": 0, "windows_trained": 0, "steps": 0, "parameters": 0, "seeds": 0}
        self.architecture: dict[str, Any] | None = None
        self.truncated = False

    def forecaster(self) -> Forecaster:
        """The LSTM as it was before it was trained on the holdout window: the one that the backtest may judge."""
        return LstmForecaster(self.network.arch, tuple(self.judged), self.zone, self.judged_scales)

    def run(self, out_of_time: OutOfTime) -> None:
        """Train every seed, or as many as there is time for.

        Raises:
            TooLittleHistoryError: if no window fits before the holdout window.
            FloatingPointError: if the loss is no number.
        """
        rng = np.random.default_rng(self.seed)
        counts = self.work.steps, self.work.refine_steps
        plan = TrainingPlan.of(self.panel, self.origins, counts, self.chosen.batch, STEPS_PER_CALL, rng)
        from bts_assets.forecasting import lstm

        used = np.union1d(plan.before.rows, plan.after.rows)
        arch = design(self.panel.grid, self.panel.parameter_id, self.chosen, self.work.widen)
        self.architecture = arch.to_dict()
        self.network = lstm.network(arch, self.chosen.weight_decay)
        # In units of what was known then, each time: a series may have begun, or changed its units, in between.
        data, data_after = (
            lstm.TrainingData(take_series(self.panel, used), arch, self.zone, cut, scales)
            for cut, scales in ((self.origins[0], self.judged_scales), (self.panel.steps, self.scales))
        )
        before, after = (replace(w, rows=np.searchsorted(used, w.rows)) for w in (plan.before, plan.after))
        peak = self.chosen.learning_rate
        rates = learning_rates(plan.steps, peak)
        self.figures |= {"windows": len(before), "parameters": self.network.parameter_count}
        validation = validation_windows(before.rows, self.origins, rng)
        for number in range(self.work.seeds):
            self.network.start(self.seed + number)
            learned = self._phase(number, data, plan, before, rates, rng, validation, out_of_time)
            self.judged.append(self.network.weights())
            refine_rates = learning_rates(plan.refine_after(learned), REFINE_RATE * peak)
            self._phase(number, data_after, plan, after, refine_rates, rng, None, out_of_time)
            self.refined.append(self.network.weights())
            self.figures["seeds"] = number + 1
            self._tell(number + 1)
            if self.truncated:
                break

    def _phase(
        self,
        number: int,
        data: "TrainingData",
        plan: TrainingPlan,
        windows: TrainingWindows,
        rates: np.ndarray,
        rng: np.random.Generator,
        validation: tuple[np.ndarray, np.ndarray] | None,
        out_of_time: OutOfTime,
    ) -> float:
        """Train, and keep the best weights by the validation loss; the share of the steps after which they were."""
        least, best, at_best, call = np.inf, None, 0, plan.call
        for at in range(0, len(rates), call):
            if out_of_time():
                self.truncated = True
                break
            rows, origins = plan.draw(windows, len(rates), rng)
            unnamed = self._lot.random(rows.shape) < _UNNAMED_SHARE
            loss = self.network.train(data, rows, origins, rates[at : at + call], unnamed)
            if not np.isfinite(loss):
                raise FloatingPointError(f"the loss is {loss} at step {at + call} of seed {number}")
            self.figures["steps"] += call
            self.figures["windows_trained"] += call * plan.batch
            if validation is not None:
                validated = data.validation_loss(self.network, *validation)
                self.curve.append((number, at + call, loss, validated))
                if validated < least:
                    least, best, at_best = validated, self.network.weights(), at
                elif at - at_best > PATIENCE * len(rates):
                    break
            share = (at + call) / len(rates)
            self._tell(number + (_MOST * share if validation is not None else _MOST + (1 - _MOST) * share))
        if best is None:
            return 1.0
        self.network.load(best)
        return (at_best + call) / len(rates)

    def _tell(self, seeds: float) -> None:
        if self.on_progress:
            self.on_progress("training", round(100 * seeds), 100 * self.work.seeds)
