"""What a forecast may be: what the quantity can be, and how far a series can come. It learns nothing."""

from typing import Final

import numpy as np

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.forecasting.counters import Shown, newest_levels

#: As a share of the largest value in the context.
_NEXT_TO_NOTHING: Final = 0.002


def bounded(quantiles: np.ndarray, panel: Shown, catalogue: Catalogue) -> np.ndarray:
    """Quantiles (series, horizon, levels) that ascend and keep to what the quantity can be.

    Within the catalogue's valid range; of a gauge within reach of what it ever did (`reining`); not negative where the
    parameter's range is open below and the context never was negative; 0 instead of next to nothing where the context
    has zeros; a counter neither below its newest level nor falling.
    """
    quantiles, values, is_counter = np.sort(quantiles, axis=2), panel.settled, panel.is_counter
    parameters = {int(p): catalogue.of(int(p)) for p in np.unique(panel.parameter_id)}
    low = np.array([parameters[int(p)].valid_min for p in panel.parameter_id])
    high = np.array([parameters[int(p)].valid_max for p in panel.parameter_id])
    if len(panel):
        gauge = np.array([parameters[int(p)].kind == "gauge" for p in panel.parameter_id]) & ~is_counter
        quantiles = panel.reach.reined(quantiles, gauge)
        lowest = np.nanmin(values, axis=1)
        never_negative = lowest >= 0
        low = np.where(np.isneginf(low) & never_negative, 0.0, low)
        low[is_counter] = np.maximum(low[is_counter], newest_levels(values[is_counter]))
        # Equipment that is off reads 0 exactly: next to nothing means off.
        rests = (lowest == 0) & gauge
        least = np.where(rests, _NEXT_TO_NOTHING * np.nanmax(values, axis=1), -np.inf)[:, None, None]
        quantiles = np.where(np.abs(quantiles) < least, 0.0, quantiles)
    # A level beyond the range that the catalogue gives today is kept from turning the range inside out.
    quantiles = np.clip(quantiles, np.minimum(low, high)[:, None, None], high[:, None, None])
    quantiles[is_counter] = np.maximum.accumulate(quantiles[is_counter], axis=1)
    return quantiles
