"""The quantile levels that forecasters give, those that are stored, and what their columns are called."""

from typing import Final

#: What forecasters give. The forecast table keeps the subset `STORED_QUANTILES`.
QUANTILES: Final = (0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975)
STORED_QUANTILES: Final = (0.05, 0.1, 0.5, 0.9, 0.95)
#: What the columns of those are called, in frames, tables and views.
QUANTILE_COLUMNS: Final = tuple(f"q{round(q * 100):02}" for q in STORED_QUANTILES)
MEDIAN: Final = QUANTILES.index(0.5)
