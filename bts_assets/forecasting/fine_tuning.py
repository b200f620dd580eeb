"""The pretrained network fine-tuned on a network's own series: a candidate beside the one that never saw them.

It learns from windows that end before the holdout window, judged there as it was before; then from all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

import numpy as np

from bts_assets.contracts.panel import Panel
from bts_assets.forecasting.pretrained import PretrainedForecaster, bin_means, bin_width
from bts_assets.forecasting.training_plan import (
    PATIENCE,
    OutOfTime,
    TrainingPlan,
    learning_rates,
    validation_windows,
)
from bts_assets.forecasting.windows import TrainingWindows, since_monday
from bts_assets.pretraining.reading import PAST, PATCH, moves, read
from bts_assets.pretraining.weights import shipped

if TYPE_CHECKING:
    from bts_assets.pretraining.training import Examples, FineTuner

#: Windows of an optimiser step, steps between looks at the holdout loss, and the learning rate at its peak.
BATCH: Final = 64
STEPS_PER_LOOK: Final = 50
PEAK: Final = 1e-3

#: Share of the windows that are mirrored at zero: what is learned of a series is to hold for it upside down, and few
#: series are then not learned by heart as soon (as TempoPFN's sign inversion).
MIRRORED: Final = 0.5

#: Steps with the holdout window included, of those before.
REFINED: Final = 0.4


@dataclass(frozen=True)
class FineTuned:
    """Weights as the backtest may judge them, and those that serve; steps that were taken."""

    judged: Mapping[str, np.ndarray]
    refined: Mapping[str, np.ndarray]
    steps: int

    def forecaster(self, zone: ZoneInfo) -> PretrainedForecaster:
        return PretrainedForecaster.fine_tuned(self.judged, zone)


def fine_tune(
    panel: Panel, origins: tuple[int, ...], steps: int, seed: int, zone: ZoneInfo, out_of_time: OutOfTime
) -> FineTuned | None:
    """Fine-tune on a panel as training shows it; None where the holdout loss was never below the pretrained network's.

    Raises:
        TooLittleHistoryError: if no window fits before the holdout window.
        FloatingPointError: if the loss is no number.
    """
    rng = np.random.default_rng(seed)
    plan = TrainingPlan.of(panel, origins, (steps, round(REFINED * steps)), BATCH, STEPS_PER_LOOK, rng)
    from bts_assets.forecasting import lstm  # noqa: F401 - it imports TensorFlow without its greetings
    from bts_assets.pretraining.training import fine_tuner

    examples = _Examples(panel, zone)
    tuner = fine_tuner()
    tuner.start(shipped())
    held_out = examples.at(*validation_windows(plan.before.rows, origins, rng))
    learning = _Learning(tuner, examples, plan, rng, out_of_time)
    learned = learning.phase(plan.before, plan.steps, held_out)
    if not learned:
        return None
    judged = tuner.weights()
    learning.phase(plan.after, plan.refine_after(learned), None)
    return FineTuned(judged, tuner.weights(), learning.steps)


class _Learning:
    def __init__(
        self,
        tuner: "FineTuner",
        examples: "_Examples",
        plan: TrainingPlan,
        rng: np.random.Generator,
        out_of_time: OutOfTime,
    ) -> None:
        self.tuner, self.examples, self.plan, self.rng, self.out_of_time = tuner, examples, plan, rng, out_of_time
        self.steps = 0

    def phase(self, windows: TrainingWindows, steps: int, held_out: "Examples | None") -> float:
        """Train, and keep the best weights by the holdout loss; the share of the steps after which they were.

        0: they were those that it began with.
        """
        rates = learning_rates(steps, PEAK)
        best, at_best = self.tuner.weights(), 0
        least = np.inf if held_out is None else self.tuner.loss(held_out)
        for at in range(0, steps, self.plan.call):
            if self.out_of_time():
                break
            self._steps(windows, steps, rates[at : at + self.plan.call])
            if held_out is None:
                continue
            loss = self.tuner.loss(held_out)
            if loss < least:
                least, best, at_best = loss, self.tuner.weights(), at + self.plan.call
            elif at - at_best > PATIENCE * steps:
                break
        if held_out is not None:
            self.tuner.load_weights(best)
        return at_best / steps

    def _steps(self, windows: TrainingWindows, steps: int, rates: np.ndarray) -> None:
        rows, origins = self.plan.draw(windows, steps, self.rng)
        for row, origin, rate in zip(rows, origins, rates, strict=True):
            mirrored = self.rng.random(len(row)) < MIRRORED
            loss = self.tuner.train(self.examples.at(row, origin, mirrored), float(rate))
            self.steps += 1
            if not np.isfinite(loss):
                raise FloatingPointError(f"the loss of fine-tuning is {loss} at step {self.steps}")


@dataclass(frozen=True)
class _Examples:
    """Windows of a panel as the pretrained network reads them, in bins where it forecasts bins."""

    panel: Panel
    zone: ZoneInfo

    @cached_property
    def since_monday(self) -> np.ndarray:
        return since_monday(self.panel, self.zone)

    def at(self, rows: np.ndarray, origins: np.ndarray, mirrored: np.ndarray | None = None) -> "Examples":
        """The windows (n,) of these rows and origins, those of a mask mirrored at zero."""
        from bts_assets.pretraining.training import FURTHEST, LEAST_CHANGE, Examples, daily_change

        grid = self.panel.grid
        width = bin_width(grid.steps_per_day, grid.horizon_steps)
        day, past = grid.steps_per_day // width, min(grid.context_steps // width, PAST)
        patches = ceil(ceil(grid.horizon_steps / width) / PATCH)
        span = np.arange(-past * width, patches * PATCH * width)
        at = origins[:, None] + span
        known = (at >= 0) & (at < np.minimum(origins + grid.horizon_steps, self.panel.steps)[:, None])
        values = self.panel.values[rows[:, None], np.clip(at, 0, self.panel.steps - 1)]
        if mirrored is not None:
            values = np.where(mirrored[:, None], -values, values)
        bins = bin_means(np.where(known, values, np.nan), width)
        seen = bins[:, :past]
        days = np.full(len(rows), day)
        reading = read(seen, days, self.since_monday[origins], patches)
        truth = np.clip(reading.scaled(bins[:, past:]), -FURTHEST, FURTHEST).astype(np.float32)
        scaled, served = (
            np.maximum(daily_change(each, days), LEAST_CHANGE)
            for each in (reading.scaled(seen), (seen - reading.centre) / reading.scale)
        )
        # Of a context that never moved, or was never observed, there is no scale to judge an error by.
        weight, size = (np.where(moves(seen), each, 0.0).astype(np.float32) for each in (1 / scaled, 1 / served))
        return Examples(reading, truth, weight, size)
