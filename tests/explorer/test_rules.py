"""Rules that pages go by, each without a database: what is worse than its baselines."""

import pytest

from bts_assets.explorer.pages.accuracy import beside_baselines


@pytest.mark.parametrize(
    ("served", "baselines", "worse"),
    [
        (1.03, {"seasonal_naive_day": 1.27, "last_value": 2.5}, False),  # above 1, as are all of them
        (0.95, {"seasonal_naive_day": 1.2, "window_median": 0.9}, True),
        (0.9049, {"last_value": 0.901}, False),  # the page shows 0.90 of both
        (0.9, {"last_value": None}, False),
        (None, {"last_value": 1.0}, False),
    ],
)
def test_a_forecast_is_worse_than_the_best_baseline_and_not_than_1(
    served: float | None, baselines: dict[str, float | None], worse: bool
) -> None:
    rows = [{"hour": 3, "candidate": name, "mase": mase} for name, mase in {"served": served, **baselines}.items()]
    (line,) = beside_baselines(rows, "hour")
    assert line["worse"] is worse
