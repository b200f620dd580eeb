"""Every candidate but the LSTM, as data: another one is another line. Who serves which series is not decided here."""

from typing import Final

from bts_assets.forecasting import statistical
from bts_assets.forecasting.forecasters import (
    DailyProfile,
    Forecaster,
    LastValue,
    SeasonalNaive,
    WeekdayProfile,
    WindowMedian,
)
from bts_assets.forecasting.statistical import Statistical

#: Microseconds a series: they forecast every series of every night.
CHEAP: Final[tuple[Forecaster, ...]] = (
    LastValue(),
    WindowMedian(),
    SeasonalNaive("seasonal_naive_day", 1),
    SeasonalNaive("seasonal_naive_week", 7),
    DailyProfile(),
    WeekdayProfile(),
)

#: Tens of milliseconds a series and more: they forecast a bounded number of series.
STATISTICAL: Final[tuple[Forecaster, ...]] = (
    Statistical("auto_ets", statistical.ets),
    Statistical("auto_theta", statistical.theta),
    Statistical("auto_ces", statistical.ces),
    Statistical("mstl", statistical.mstl, whole=True),
)
