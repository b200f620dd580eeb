"""How often a series passed its limit lately, and what that says beside a forecast. It knows nothing of quantiles."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import expit, logit

from bts_assets.monitoring.terms import ONE_STEP, BreachRule, began

#: Share of the log-odds that are the record's. With 0, 0.3, 0.4 and 0.5, `benchmarks/breaches.py` has a Brier score of
#: 0.1276, 0.1229, 0.1224 and 0.1226 on the simulator, and of 0.0916, 0.0845, 0.0835 and 0.0830 on ETTh1; on bursty
#: volumes, whose bursts no quantile knows, 0.1567, 0.1535 and 0.1519 with 0.3, 0.4 and 0.5.
#: Opinions are pooled by their log-odds (Satopaa et al. 2014, International Journal of Forecasting 30).
_SHARE: Final = 0.5
#: Windows of the past without which a record says nothing, and the share of a window that must have been observed.
_LEAST, _OBSERVED = 3, 0.5
#: Paths that never, or always, pass a limit know no more of its odds than their number tells.
_SUREST: Final = 0.998


@dataclass(frozen=True)
class Record:
    """Log-odds of passing within each window, of the past alone, and its share of what is told; (series, windows)."""

    odds: np.ndarray
    share: np.ndarray

    def pooled(self, probability: np.ndarray) -> np.ndarray:
        """Probabilities (series, windows) of a forecast, with what the record says; NaN stays."""
        own = logit(np.clip(probability, 1 - _SUREST, _SUREST))
        told = expit((1 - self.share) * own + self.share * self.odds)
        return np.where((self.share > 0) & (probability > 0), told, probability)

    def even(self) -> np.ndarray:
        """The probability by the forecast alone that comes to one half, (series, windows)."""
        return expit(-self.share * self.odds / (1 - self.share))


def record_of(
    values: np.ndarray, limit: np.ndarray, side: int, windows: tuple[int, ...], day: int, rule: BreachRule = ONE_STEP
) -> Record:
    """The record of a context: values (series, steps), NaN where not observed; limit (series,); side as in `breaches`.

    A window of the past begins at the origin's time of day, and counts half passed, half not, beside those that came.
    """
    beyond = side * (np.nan_to_num(values, nan=-side * np.inf) - limit[:, None]) > 0
    begins = began(beyond, rule.persistence)
    found = [_counted(begins, np.isfinite(values), window, day) for window in windows]
    passed, seen = (np.stack([part[k] for part in found], axis=1) for k in (0, 1))
    return Record(logit((passed + 0.5) / (seen + 1)), np.where(seen >= _LEAST, _SHARE, 0.0))


def _counted(begins: np.ndarray, known: np.ndarray, window: int, day: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows of the past in which the limit was passed, and those that were observed, (series,)."""
    passed, seen = np.zeros(len(begins)), np.zeros(len(begins))
    steps = begins.shape[1]
    for start in range(steps % day, steps - window + 1, day):
        observed = known[:, start : start + window].mean(axis=1) >= _OBSERVED
        seen += observed
        passed += observed & begins[:, start : start + window].any(axis=1)
    return passed, seen
