"""The classical candidates: AutoETS, AutoTheta, AutoCES and MSTL of statsforecast, fitted to every series by itself.

They learn nothing across series and take tens of milliseconds for each: the choice of whom to fit is not made here.
The library is an optional extra, and is imported when the first series is fitted.

A fit sees the newest context of one series, standardised, its gaps filled by straight lines and the newest one by the
observation before it. Where a day has more than 24 steps, hourly means are fitted (see `_in_bins`). Intervals are
the library's own, but for AutoCES.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any, Final

import numpy as np

from bts_assets.contracts.errors import BtsError
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.quantiles import MEDIAN, QUANTILES
from bts_assets.contracts.work_sharing import Spread
from bts_assets.forecasting.forecasters import Forecaster, forecast_each
from bts_assets.forecasting.scaling import centre_and_spread
from bts_assets.forecasting.windows import in_chunks, latest_context, recent_context, take_series

#: Fewer observations than this do not carry a fit.
MINIMUM_OBSERVATIONS: Final = 16

#: A season of more steps than this is fitted on means: every step of it would be a parameter of its own.
LONGEST_SEASON: Final = 24

#: A series has a daily rhythm if its differences from one day to the next are smaller than those from one to three
#: quarters of a day by this factor: below 1, so that chance does not make a rhythm of noise.
RHYTHM: Final = 0.9

#: How far beyond the context's extremes a forecast may go, in units of the distance between these: trends end.
MAXIMUM_EXCURSION: Final = 1.0

#: Series that a worker fits before it is given others: seconds of work.
_FITTED_AT_ONCE: Final = 16

_LEVELS: Final = [50, 80, 90, 95]
_COLUMNS: Final = ("lo-95", "lo-90", "lo-80", "lo-50", "mean", "hi-50", "hi-80", "hi-90", "hi-95")

#: Filters of warnings are the whole process's: of two fits that set them aside at once, one would leave them so.
_QUIET: Final = Lock()

#: Standard normal quantiles, one for each of `QUANTILES`.
_NORMAL: Final = np.array([-1.96, -1.645, -1.2816, -0.6745, 0.0, 0.6745, 1.2816, 1.645, 1.96])

#: From values (steps,), how many steps to forecast and the steps of a day (0: the values have no room for a season)
#: to quantiles (horizon, levels).
Fit = Callable[[np.ndarray, int, int], np.ndarray]


class NothingToAdd(Exception):
    """Raised by a fit that would be another candidate's on this series: it is left to that one, and is no failure."""


class LibraryMissing(BtsError, ImportError):
    """statsforecast is not there."""


@dataclass(frozen=True)
class Statistical:
    """A candidate that fits every series by itself. A series that cannot be fitted is not served, and nothing else.

    whole: it sees all of a long context, for its seasons are long; else the newest two weeks, to which a level and a
    day's season are better fitted.
    """

    name: str
    fit: Fit
    whole: bool = False

    def forecast(self, panel: Panel) -> np.ndarray:
        return self.forecast_each(panel)[0]

    def forecast_each(self, panel: Panel) -> tuple[np.ndarray, dict[int, str]]:
        """As `forecasters.forecast_each` says. Series of fewer than `MINIMUM_OBSERVATIONS` are not tried.

        Raises:
            LibraryMissing: if statsforecast is not installed.
        """
        try:
            import statsforecast.models  # noqa: F401
        except ImportError as error:
            raise LibraryMissing(
                f"{self.name} needs statsforecast ({error}); install it with: pip install 'bts-assets[statistical]'"
            ) from error
        panel = latest_context(panel) if self.whole else recent_context(panel)
        horizon, day = panel.grid.horizon_steps, panel.grid.steps_per_day
        values = np.where(np.isfinite(panel.values), panel.values, np.nan)
        centre, spread = centre_and_spread(values)
        quantiles = np.full((len(panel), horizon, len(QUANTILES)), np.nan)
        failures: dict[int, str] = {}
        for row in np.flatnonzero(np.isfinite(values).sum(axis=1) >= MINIMUM_OBSERVATIONS):
            try:
                # The library speaks of what it tries on the way; what counts is whether a forecast comes of it.
                with _QUIET, warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    scaled = (values[row] - centre[row]) / spread[row]
                    given = centre[row] + spread[row] * _forecast(self.fit, scaled, horizon, day)
                if not np.isfinite(given).all():
                    raise FloatingPointError("the fit gave no finite forecast")
                quantiles[row] = given
            except NothingToAdd:
                continue
            except Exception as error:
                failures[int(row)] = f"{type(error).__name__}: {error}".splitlines()[0]
        return quantiles, failures


@dataclass(frozen=True)
class BySeries:
    """A forecaster that fits every series by itself, a few of them at a time by each of several workers."""

    forecaster: Forecaster
    spread: Spread

    @property
    def name(self) -> str:
        return self.forecaster.name

    def forecast(self, panel: Panel) -> np.ndarray:
        return self.forecast_each(panel)[0]

    def forecast_each(self, panel: Panel) -> tuple[np.ndarray, dict[int, str]]:
        """As `forecasters.forecast_each` says."""
        panel, chunks = latest_context(panel), in_chunks(len(panel), _FITTED_AT_ONCE)
        some = (take_series(panel, np.arange(chunk.start, chunk.stop)) for chunk in chunks)
        done = list(self.spread(partial(forecast_each, self.forecaster), some))
        failures = {
            chunk.start + row: why
            for chunk, (_, failed) in zip(chunks, done, strict=True)
            for row, why in failed.items()
        }
        none = np.empty((0, panel.grid.horizon_steps, len(QUANTILES)))
        return np.concatenate([quantiles for quantiles, _ in done] or [none]), failures


def ets(values: np.ndarray, horizon: int, day: int) -> np.ndarray:
    """Exponential smoothing; trend, damping and smoothing chosen by AICc. Hyndman and Khandakar (2008).

    Errors and seasons are additive: with multiplicative ones let in, points and intervals were worse in backtests, and
    a fit took up to three times as long.
    """
    from statsforecast.models import AutoETS

    model = AutoETS(day, model="AZA") if has_daily_rhythm(values, day) else AutoETS(model="AZN")
    return _quantiles(model, values, horizon)


def theta(values: np.ndarray, horizon: int, day: int) -> np.ndarray:
    """The best of four theta methods, on what an STL decomposition leaves of the day. Fiorucci et al. (2016).

    Not with the library's own seasonal adjustment, which puts the season into the width of its intervals.
    """
    from statsforecast.models import AutoTheta

    return _deseasoned(AutoTheta(season_length=1), values, horizon, [day] if has_daily_rhythm(values, day) else [])


def ces(values: np.ndarray, horizon: int, day: int) -> np.ndarray:
    """Complex exponential smoothing; its sort of season chosen by AICc. Svetunkov, Kourentzes and Ord (2022).

    The library's intervals are simulated by shifting the fitted states, which is no forecast error: they covered 75 %
    for 80 %, and took ten times the fit. These are the model's own (see `_ces_spread`).
    """
    from statsforecast.models import AutoCES

    model = AutoCES(day) if has_daily_rhythm(values, day) else AutoCES(1, model="N")
    fitted = model.fit(values)
    points = fitted.predict(horizon)["mean"]
    return points[:, None] + _NORMAL * _ces_spread(fitted.model_, horizon)[:, None]


def mstl(values: np.ndarray, horizon: int, day: int) -> np.ndarray:
    """STL decomposition by day and week, exponential smoothing of the rest. Bandara, Hyndman and Bergmeir (2021).

    Raises:
        NothingToAdd: without a rhythm nothing is decomposed, and the rest is what `ets` smooths.
    """
    from statsforecast.models import AutoETS

    seasons = [day] if has_daily_rhythm(values, day) else []
    seasons += [7 * day] if has_weekly_rhythm(values, day) else []
    if not seasons:
        raise NothingToAdd
    return _deseasoned(AutoETS(model="AZN"), values, horizon, seasons)


def has_daily_rhythm(values: np.ndarray, day: int) -> bool:
    """Whether a day repeats the day before it more than it repeats its own hours. False without two days."""
    if day < 2 or len(values) < 2 * day:
        return False
    within = [_mean_change(values, max(1, day * quarter // 4)) for quarter in (1, 2, 3)]
    return _mean_change(values, day) < RHYTHM * float(np.mean(within))


def has_weekly_rhythm(values: np.ndarray, day: int) -> bool:
    """Whether the newest week is nearer to the week before it than to the day before each. False without two weeks."""
    if day < 2 or len(values) < 14 * day:
        return False
    return _mean_change(values[-14 * day :], 7 * day) < _mean_change(values[-8 * day :], day)


def _mean_change(values: np.ndarray, distance: int) -> float:
    return float(np.abs(values[distance:] - values[:-distance]).mean())


def _forecast(fit: Fit, values: np.ndarray, horizon: int, day: int) -> np.ndarray:
    """Quantiles (horizon, levels) of one series with gaps."""
    known = np.flatnonzero(np.isfinite(values))
    low, high = values[known].min(), values[known].max()
    if low == high:
        return np.full((horizon, len(QUANTILES)), low)
    filled = np.interp(np.arange(known[0], len(values)), known, values[known])
    quantiles = _in_bins(fit, filled, horizon, day)
    # Intervals that the library simulates can cross its point forecast by chance.
    quantiles[:, : MEDIAN + 1] = np.minimum.accumulate(quantiles[:, MEDIAN::-1], axis=1)[:, ::-1]
    quantiles[:, MEDIAN:] = np.maximum.accumulate(quantiles[:, MEDIAN:], axis=1)
    reach = MAXIMUM_EXCURSION * (high - low)
    return np.clip(quantiles, low - reach, high + reach)


def _in_bins(fit: Fit, values: np.ndarray, horizon: int, day: int) -> np.ndarray:
    """Fit the means of bins that are as short as `LONGEST_SEASON` allows, and lay the forecast out on the steps.

    On simulated 15-minute data it takes a half to a fifth of the time of fitting the steps, and the pinball loss is a
    fifth to a third lower; the points of series without rhythm are up to a sixth worse. Between the middles of bins the
    forecast goes straight; what varied within bins widens its intervals. Without two days there is no season to fit,
    and the steps themselves are fitted.
    """
    if len(values) < 2 * day:
        return fit(values, horizon, 0)
    width = next(k for k in range(1, day + 1) if day % k == 0 and day // k <= LONGEST_SEASON)
    bins = values[len(values) % width :].reshape(-1, width)
    means = bins.mean(axis=1)
    quantiles = fit(means, -(-horizon // width), day // width)
    if width == 1:
        return quantiles
    middles = (np.arange(len(quantiles)) + 0.5) * width - 0.5
    steps = np.stack([np.interp(np.arange(horizon), middles, level) for level in quantiles.T], axis=1)
    # The standard deviation by a quantile, so that a few bursts do not widen every interval.
    within = np.quantile(np.abs(bins - means[:, None]), 0.8) / _NORMAL[QUANTILES.index(0.9)]
    points = steps[:, MEDIAN : MEDIAN + 1]
    return points + np.sign(_NORMAL) * np.hypot(steps - points, _NORMAL * within)


def _deseasoned(trend: Any, values: np.ndarray, horizon: int, seasons: list[int]) -> np.ndarray:
    from statsforecast.models import MSTL

    if not seasons:
        return _quantiles(trend, values, horizon)
    # The smooth parts are computed at every so many steps, straight between: the same figures in half the time.
    jump = max(1, seasons[0] // 4)
    smoother = {"trend_jump": jump, "low_pass_jump": jump}
    return _quantiles(MSTL(seasons, trend_forecaster=trend, stl_kwargs=smoother), values, horizon)


def _ces_spread(fitted: Mapping[str, Any], horizon: int) -> np.ndarray:
    """The standard deviation of a CES forecast, (horizon,): what errors add to later steps, squared and summed.

    The recursions are those of Svetunkov et al. (2022): a level and its potential, lagged by one step or, where they
    are the season (sort S), by a season; beside them a season of one part (P) or of two (F).
    """
    sort, season, by = fitted["seasontype"], fitted["m"], fitted["par"]
    response = _ces_response(by["alpha_0"], by["alpha_1"], season if sort == "S" else 1, horizon)
    if sort == "P":
        response[season::season] += by["beta_0"]
    if sort == "F":
        response += _ces_response(by["beta_0"], by["beta_1"], season, horizon)
    response[0] = 1.0
    return np.asarray(np.sqrt(fitted["sigma2"] * np.cumsum(response**2)))


def _ces_response(real: float, imaginary: float, lag: int, horizon: int) -> np.ndarray:
    """What an error of 1 changes so many steps later, (horizon,), by complex smoothing at multiples of the lag."""
    turn = np.array([[1.0, imaginary - 1.0], [1.0, 1.0 - real]])
    state = np.array([real - imaginary, real + imaginary])
    response = np.zeros(horizon)
    for ahead in range(lag, horizon, lag):
        response[ahead], state = state[0], turn @ state
    return response


def _quantiles(model: Any, values: np.ndarray, horizon: int) -> np.ndarray:
    forecast = model.forecast(values, horizon, level=_LEVELS)
    return np.stack([forecast[column] for column in _COLUMNS], axis=1)
