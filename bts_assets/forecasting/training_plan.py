"""How long a network is trained: optimiser steps before and after the holdout window is shown. It trains nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from bts_assets.contracts.panel import Panel
from bts_assets.forecasting.windows import TrainingWindows, training_windows

#: Each training window is drawn at most about this often, so that a short history is not learned by heart: windows of
#: one series overlap. A few steps are taken in any case.
MAXIMUM_EPOCHS: Final = 8
LEAST_STEPS: Final = 60

#: The share of windows whose origin is at about the hour that is trained for; less where there are few such windows.
OF_THAT_HOUR: Final = 0.5

#: The holdout window is shown in all refining steps where it is this share of the history, in fewer where it is less.
REFINED_SHARE: Final = 0.25

#: Training stops once the holdout loss has not improved for this share of its steps; the best weights are kept.
PATIENCE: Final = 0.3

_VALIDATION_WINDOWS: Final = 512

NO_HOLDOUT: Final = "too little history for a holdout window"
NO_WINDOW: Final = "too little history: no window of a series that moves ends before the holdout window"

#: Optimiser steps of the LSTM in one call into its compiled function.
STEPS_PER_CALL: Final = 20

OutOfTime = Callable[[], bool]


class TooLittleHistoryError(ValueError):
    """No window fits before the holdout window."""


@dataclass(frozen=True)
class TrainingPlan:
    """Windows before the holdout window and all of them, and the steps that are taken on either, in whole calls of
    `call` steps, `batch` windows each.
    """

    before: TrainingWindows
    after: TrainingWindows
    steps: int
    refine_steps: int
    batch: int
    call: int

    @classmethod
    def of(
        cls,
        panel: Panel,
        origins: tuple[int, ...],
        counts: tuple[int, int],
        batch: int,
        call: int,
        rng: np.random.Generator,
    ) -> "TrainingPlan":
        """counts: steps before and after the holdout window is shown; fewer are taken where windows are few.

        Raises:
            TooLittleHistoryError: if no window fits before the holdout window.
        """
        if not origins or not len(panel):
            raise TooLittleHistoryError(NO_HOLDOUT)
        before = training_windows(panel, origins[0], rng)
        after = training_windows(panel, panel.steps, rng)
        if not len(before):
            raise TooLittleHistoryError(NO_WINDOW)
        share = min(1.0, max(MAXIMUM_EPOCHS * len(before) / batch, LEAST_STEPS) / counts[0])
        news = min(1.0, (1 - origins[0] / panel.steps) / REFINED_SHARE)
        steps, refine = (max(1, round(n / call)) * call for n in (counts[0] * share, counts[1] * share * news))
        return cls(before, after, steps, refine, batch, call)

    def refine_after(self, learned: float) -> int:
        """Steps with the holdout window included, of a network that was best after the share `learned` of its steps.

        What is learned by heart after a tenth of the steps would be after a tenth of these as well: weights and widths
        were judged before, and a network that then learns by heart is worse and surer than they know.
        """
        return max(1, round(self.refine_steps * learned / self.call)) * self.call

    def draw(self, windows: TrainingWindows, steps: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Rows and origins (call, batch) of one call, of `steps` in all."""
        enough = MAXIMUM_EPOCHS * windows.of_that_hour / (steps * self.batch)
        return windows.draw(rng, self.call, self.batch, of_that_hour=min(OF_THAT_HOUR, enough))


def validation_windows(
    series: np.ndarray, origins: tuple[int, ...], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and origins (windows,) of the holdout window that decide when to stop; drawn where there are too many.

    series: rows that were trained on before it.
    """
    rows, columns = np.repeat(series, len(origins)), np.tile(np.array(origins), len(series))
    kept = np.sort(rng.permutation(len(rows))[:_VALIDATION_WINDOWS])
    return rows[kept], columns[kept]


def learning_rates(steps: int, peak: float) -> np.ndarray:
    """A short warm-up, then half a cosine to nothing."""
    progress = (np.arange(steps) + 1) / steps
    return (peak * np.minimum(progress / 0.05, 0.5 * (1 + np.cos(np.pi * progress)))).astype(np.float32)
