"""Pictures per data set for `benchmarks.accuracy`: served forecasts beside the actuals, chosen by rule.

Of all forecasts, in the order of how wrong they were for their series (MASE), six at even distances are shown: a good
one, a bad one and four between; and the worst of the ten worst series. Nothing is forecast here.
"""

from collections.abc import Sequence
from io import BytesIO
from typing import Final

import numpy as np

from benchmarks.accuracy_data import BacktestCase
from bts_assets.contracts.catalogue import load_catalogue
from bts_assets.contracts.quantiles import MEDIAN
from bts_assets.forecasting.backtest import Issued
from bts_assets.forecasting.metrics import mase_scale
from bts_assets.plots import forecast as forecast_plots

SHOWN: Final = 6
WORST: Final = 10
#: How much of the past is shown, in horizons.
PAST: Final = 3
COLOURS: Final = 64


Served = Sequence[tuple[BacktestCase, Sequence[Issued]]]
_Place = tuple[float, BacktestCase, Issued, int]


def forecasts(served: Served) -> bytes:
    """Six forecasts, from good to bad."""
    places = _ordered(served)
    ranks = ((2 * np.arange(SHOWN) + 1) * len(places)) // (2 * SHOWN)
    return _drawn([places[rank] for rank in ranks])


def worst(served: Served) -> bytes:
    """The worst forecast of each of the ten series that have the worst, worst first."""
    found: dict[tuple[int, int], _Place] = {}
    for place in reversed(_ordered(served)):
        _, case, issued, k = place
        found.setdefault((id(case.panel), int(issued.rows[k])), place)
    return _drawn(list(found.values())[:WORST])


def _ordered(served: Served) -> list[_Place]:
    places = [(mase, case, issued, k) for case, some in served for issued in some for k, mase in _errors(case, issued)]
    return sorted(places, key=lambda place: place[0])


def _drawn(places: Sequence[_Place]) -> bytes:
    """A PNG of few colours, so that it is small enough to be kept with the documentation."""
    from PIL import Image

    png = forecast_plots.forecasts([_forecast(*place) for place in places])
    out = BytesIO()
    Image.open(BytesIO(png)).convert("RGB").quantize(COLOURS).save(out, format="png", optimize=True)
    return out.getvalue()


def _errors(case: BacktestCase, issued: Issued) -> list[tuple[int, float]]:
    """Which of the forecasts, and its MASE; those that have one."""
    origin = (issued.origin - case.panel.start) // case.panel.grid.step
    came = case.panel.values[issued.rows, origin : origin + case.panel.grid.horizon_steps]
    scale = mase_scale(case.known[issued.rows], case.panel.grid.steps_per_day)
    known = np.isfinite(came) & np.isfinite(issued.quantiles[:, :, MEDIAN])
    wrong = np.where(known, np.abs(came - issued.quantiles[:, :, MEDIAN]), 0).sum(axis=1)
    mase = wrong / np.where(known.any(axis=1), known.sum(axis=1), np.nan) / scale
    return [(int(k), float(mase[k])) for k in np.flatnonzero(np.isfinite(mase))]


def _forecast(mase: float, case: BacktestCase, issued: Issued, k: int) -> forecast_plots.Forecast:
    panel, row = case.panel, int(issued.rows[k])
    horizon = panel.grid.horizon_steps
    origin = (issued.origin - panel.start) // panel.grid.step
    parameter = load_catalogue().of(int(panel.parameter_id[row]))
    return forecast_plots.Forecast(
        title=f"station {panel.station_id[row]}, {parameter.name}: MASE {mase:.2f}",
        unit=parameter.unit,
        step=panel.grid.step,
        issued_at=issued.origin,
        history=panel.values[row, max(0, origin - PAST * horizon) : origin],
        quantiles=issued.quantiles[k],
        truth=panel.values[row, origin : origin + horizon],
    )
