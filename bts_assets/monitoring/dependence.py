"""How the errors of one forecast hang together over its horizon, estimated from how each series strayed before."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from bts_assets.monitoring import nan_means
from bts_assets.monitoring.breach import Dependence
from bts_assets.monitoring.terms import Typical

#: Lags, in shares of the horizon, at which correlation is looked at: short for the fast part, long for the level. At
#: one step the noise of the sensor would hide how smooth the rest is.
_SHORT: Final = 1 / 12
_LONG: Final = (0.25, 0.5)

#: Roots of a second-order autoregression that are told apart.
_ROOTS: Final = np.linspace(0.0, 0.995, 400)

#: A series' own estimate counts as much as this many of its context's days do against its parameter's.
_PRIOR_DAYS: Final = 3.0

#: Level and root of a parameter none of whose series tells its own.
_ANY_LEVEL: Final = 0.3
_ANY_ROOT: Final = 0.7


@dataclass(frozen=True)
class Strays:
    """What each series' own context says of how it strays, and on how many days it was observed; each (series,).

    level: the share of what it strays by that lasts; root: that of the rest, as in `Dependence`. NaN where unknown.
    """

    level: np.ndarray
    root: np.ndarray
    days: np.ndarray


def strays_of(values: np.ndarray, day: int, horizon: int) -> Strays:
    """Estimated from the context: values (series, steps), NaN where not observed; `day` and `horizon` in steps.

    What a series strays by is its value less the median of its own phase of the day. The correlation at long lags is
    the share of the level that lasts; that at a twelfth of the horizon, beyond it, the rest's.
    """
    strayed = _strayed(values, day)
    long = np.stack([_correlation(strayed, max(1, int(share * horizon))) for share in _LONG])
    level = np.clip(nan_means.mean(long, axis=0), 0.0, 0.95)
    lag = max(1, round(_SHORT * horizon))
    rest = (_correlation(strayed, lag) - level) / np.maximum(1 - level, 0.05)
    root = np.where(np.isfinite(rest), np.interp(rest, correlation(_ROOTS, lag), _ROOTS), np.nan)
    return Strays(level, root, np.isfinite(values).sum(axis=1) / max(day, 1))


def correlation(root: np.ndarray, lag: int) -> np.ndarray:
    """The autocorrelation of a second-order autoregression with a double root, at a lag in steps."""
    return (1 + lag * (1 - root**2) / (1 + root**2)) * root**lag


def dependence_of(strays: Strays, parameter_id: np.ndarray, typical: Typical | None = None) -> Dependence:
    """The dependence of each series of a network, shrunk towards its parameter's median: less, the more days it has.

    typical: those medians, of a network of which only some series are given; every parameter of theirs is in it.
    """
    typical = typical_of(strays, parameter_id) if typical is None else typical
    weight = strays.days / (strays.days + _PRIOR_DAYS)
    medians = np.array([typical[int(parameter)] for parameter in parameter_id]).reshape(-1, 2)
    return Dependence(
        _leaning(strays.level, medians[:, 0], weight),
        _leaning(strays.root, medians[:, 1], weight),
    )


def typical_of(strays: Strays, parameter_id: np.ndarray) -> Typical:
    """Median level and root of each parameter's series; a value for all where nothing of it is known."""
    return {
        int(parameter): (
            _median(strays.level[parameter_id == parameter], _ANY_LEVEL),
            _median(strays.root[parameter_id == parameter], _ANY_ROOT),
        )
        for parameter in np.unique(parameter_id)
    }


def _strayed(values: np.ndarray, day: int) -> np.ndarray:
    """Values less the median of their phase of the day; less their own median where there are no two days."""
    steps = values.shape[1]
    if steps < 2 * day:
        return values - nan_means.median(values)[:, None]
    padded = np.pad(values, [(0, 0), (-steps % day, 0)], constant_values=np.nan)
    by_phase = padded.reshape(len(values), padded.shape[1] // day, day)  # of no series, too
    middle = nan_means.median(by_phase, axis=1)[:, None]
    return (by_phase - middle).reshape(padded.shape)[:, -steps:]


def _correlation(strayed: np.ndarray, lag: int) -> np.ndarray:
    """Correlation of signs' worth: Spearman-like, by values clipped at three median deviations; NaN if unknown."""
    if lag >= strayed.shape[1]:
        return np.full(len(strayed), np.nan)
    bound = 3 * 1.4826 * nan_means.median(np.abs(strayed))[:, None]
    clipped = np.clip(strayed, -bound, bound)
    now, later = clipped[:, :-lag], clipped[:, lag:]
    both = np.isfinite(now) & np.isfinite(later)
    count = np.maximum(both.sum(axis=1), 1)
    now, later = np.where(both, now, 0.0), np.where(both, later, 0.0)
    power = np.sqrt((now**2).sum(axis=1) * (later**2).sum(axis=1))
    product = (now * later).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((power > 0) & (count >= 8), product / power, np.nan)


def _median(own: np.ndarray, otherwise: float) -> float:
    heard = own[np.isfinite(own)]
    return float(np.median(heard)) if len(heard) else otherwise


def _leaning(own: np.ndarray, typical: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Own estimates drawn towards what is typical of their parameter, which stands in where they are unknown."""
    return np.where(np.isfinite(own), weight * own + (1 - weight) * typical, typical)
