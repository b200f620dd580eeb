"""What quick, standard and thorough training come to, as counts: so that a training repeats bit for bit."""

from dataclasses import dataclass
from typing import Final, Literal

Effort = Literal["quick", "standard", "thorough"]


@dataclass(frozen=True)
class Work:
    """Optimiser steps before and after the holdout window is shown, and seeds, of the LSTM.

    refine_steps: at most; fewer where the holdout window is a small part of the history, or where training before it
    was best after a part of its steps.

    widen: factor on the width that the hyper-parameters give. statistical_max_series, statistical_max_fits: the most
    series on which per-series statistical models are fitted, and the most fits of each. linear_windows: the most
    windows that the linear candidate is fitted on. tune_steps: optimiser steps in which the pretrained network is
    fine-tuned before the holdout window is shown; 0: it is not.
    """

    steps: int
    refine_steps: int
    seeds: int
    linear_windows: int
    widen: int = 1
    statistical_max_series: int = 0
    statistical_max_fits: int = 0
    tune_steps: int = 0


EFFORTS: Final[dict[Effort, Work]] = {
    "quick": Work(240, 40, 1, 6_000, widen=1, statistical_max_series=16, statistical_max_fits=32),
    "standard": Work(
        400, 200, 3, 60_000, widen=1, statistical_max_series=200, statistical_max_fits=600, tune_steps=300
    ),
    "thorough": Work(
        800, 700, 2, 60_000, widen=2, statistical_max_series=2000, statistical_max_fits=600, tune_steps=1600
    ),
}
