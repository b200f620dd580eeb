"""Forecasts of candidates at holdout origins, beside the actuals."""

import dataclasses
from collections.abc import Collection
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from small_panels import GRID, daily_values, make_panel

from bts_assets.contracts.panel import Panel
from bts_assets.contracts.quantiles import MEDIAN, QUANTILES
from bts_assets.forecasting import out_of_sample as room
from bts_assets.forecasting.forecasters import LastValue, SeasonalNaive
from bts_assets.forecasting.metrics import actuals_of, mase_scale, score, together
from bts_assets.forecasting.out_of_sample import gather
from bts_assets.forecasting.windows import at_origin

LAST, DAY = LastValue(), SeasonalNaive("seasonal_naive_day", 1)
ORIGINS = (150, 170, 200, 228)
RUN_TIME = 3


@dataclasses.dataclass(frozen=True)
class Failing:
    """The last value, but not of some stations: of these it says why."""

    stations: Collection[int]
    name: str = "failing"

    def forecast(self, panel: Panel) -> np.ndarray:
        return self.forecast_each(panel)[0]

    def forecast_each(self, panel: Panel) -> tuple[np.ndarray, dict[int, str]]:
        quantiles = LAST.forecast(panel)
        rows = np.flatnonzero(np.isin(panel.station_id, list(self.stations)))
        quantiles[rows] = np.nan
        return quantiles, {int(row): f"cannot do {panel.station_id[row]}" for row in rows}


class Raising:
    name = "raising"

    def forecast(self, panel: Panel) -> np.ndarray:
        raise ZeroDivisionError("of no use\nat all")


def test_evidence_holds_forecasts_and_actuals() -> None:
    panel = make_panel(daily_values(3), [1, 1, 2])
    found, failures = gather(panel, [LAST, DAY], ORIGINS)
    assert failures == {}
    assert found.candidates == ("last_value", "seasonal_naive_day")
    assert found.quantiles.shape == (2, 3, 4, GRID.horizon_steps, len(QUANTILES))
    for k, origin in enumerate(ORIGINS):
        came = panel.values[:, origin : origin + GRID.horizon_steps]
        np.testing.assert_array_equal(found.centre[:, k], panel.values[:, origin - 1])
        np.testing.assert_allclose(found.truth[:, k] + found.centre[:, [k]], came, rtol=1e-6)
        for c, forecaster in enumerate((LAST, DAY)):
            expected = forecaster.forecast(at_origin(panel, origin))
            np.testing.assert_allclose(found.quantiles[c, :, k] + found.centre[:, [k], None], expected, rtol=1e-6)


def test_its_scores_are_those_of_the_backtest() -> None:
    panel = make_panel(daily_values(3), [1, 1, 2])
    panel.values[1, 205:209] = np.nan
    found, _ = gather(panel, [LAST, DAY], ORIGINS)
    keys = ["candidate", "station_id", "parameter_id", "origin"]
    mine = pd.concat([found.scores(name, found.quantiles[k]) for k, name in enumerate(found.candidates)])
    scale = mase_scale(panel.values[:, : ORIGINS[0]], GRID.steps_per_day)
    its = together(
        [
            score(actuals_of(panel, o), f.name, f.forecast(at_origin(panel, o)), scale)
            for o in ORIGINS
            for f in (LAST, DAY)
        ]
    )
    mine, its = (scores.sort_values(keys).reset_index(drop=True) for scores in (mine, its))
    pd.testing.assert_frame_equal(mine, its[mine.columns], rtol=1e-4, check_dtype=False)


def test_a_candidate_that_raises_is_named_and_left_out() -> None:
    found, failures = gather(make_panel(daily_values(2), [1, 1]), [LAST, Raising(), DAY], ORIGINS)
    assert found.candidates == ("last_value", "seasonal_naive_day")
    assert failures == {"raising": "ZeroDivisionError: of no use"}
    assert np.isfinite(found.quantiles).all()


def test_a_failure_that_can_be_kept_to_a_series_is() -> None:
    found, failures = gather(make_panel(daily_values(3), [1, 1, 1]), [LAST, Failing((2,))], ORIGINS)
    assert failures == {"failing": "cannot do 2"}
    np.testing.assert_array_equal(np.isfinite(found.quantiles[1]).all(axis=(1, 2, 3)), [True, False, True])
    np.testing.assert_array_equal(found.quantiles[1, [0, 2]], found.quantiles[0, [0, 2]])


def test_without_an_origin_or_a_candidate_there_is_nothing_but_its_shape() -> None:
    panel = make_panel(daily_values(2), [1, 1])
    nothing, _ = gather(panel, [LAST], ())
    assert nothing.quantiles.shape == (1, 2, 0, GRID.horizon_steps, len(QUANTILES))
    assert nothing.independent_nights() == 0
    assert nothing.scores("last_value", nothing.quantiles[0]).empty
    nobody, failures = gather(panel, [Raising()], ORIGINS)
    assert nobody.quantiles.shape == (0, 2, 4, GRID.horizon_steps, len(QUANTILES))
    assert set(failures) == {"raising"}


def test_nothing_counts_of_a_counter_from_its_reset_on() -> None:
    hours = np.arange(240.0)
    levels = np.stack([hours, np.where(hours < 205, hours, hours - 205)])
    found, _ = gather(make_panel(levels, [1, RUN_TIME]), [LAST], ORIGINS, counters=(RUN_TIME,))
    known = np.isfinite(found.truth)
    assert known[0].all()
    assert known[1, [0, 1, 3]].all()
    assert known[1, 2].tolist() == [True] * 5 + [False] * 7
    as_gauge, _ = gather(make_panel(levels, [1, 1]), [LAST], ORIGINS, counters=(RUN_TIME,))
    assert np.isfinite(as_gauge.truth).all()


def test_a_small_change_of_a_large_level_survives_single_precision() -> None:
    values = daily_values(1)
    found, _ = gather(make_panel(values * 1e-3 + 5e9, [1]), [LAST], ORIGINS)
    plain, _ = gather(make_panel(values * 1e-3, [1]), [LAST], ORIGINS)
    error, expected = (f.quantiles[0, ..., MEDIAN] - f.truth for f in (found, plain))
    np.testing.assert_allclose(error, expected, atol=1e-5)
    assert np.abs(expected).mean() > 1e-3


def test_what_did_not_change_is_no_error_at_all() -> None:
    values = np.repeat([[0.1], [7e9], [1 / 3]], 240, axis=1)
    values[2, 100:120] = np.nan
    found, _ = gather(make_panel(values, [1, 1, 1]), [LAST, DAY], ORIGINS)
    assert (found.truth == 0).all()
    assert (found.quantiles == 0).all()


def test_a_series_that_was_silent_before_an_origin_is_only_not_served_there() -> None:
    values = daily_values(2)
    values[1, :160] = np.nan
    found, _ = gather(make_panel(values, [1, RUN_TIME]), [LAST], ORIGINS, counters=(RUN_TIME,))
    assert np.isfinite(found.centre).all()
    assert np.isnan(found.quantiles[0, 1, 0]).all()
    assert np.isfinite(found.quantiles[0, 1, 1:]).all()


def test_too_much_evidence_is_thinned_to_every_nth_step_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    panel = make_panel(daily_values(3), [1, 1, 2])
    whole, _ = gather(panel, [LAST, DAY], ORIGINS)
    monkeypatch.setattr(room, "_NUMBERS", whole.quantiles.size // 3)
    thinned, _ = gather(panel, [LAST, DAY], ORIGINS)
    assert thinned.steps.tolist() == [0, 3, 6, 9]
    np.testing.assert_array_equal(thinned.quantiles, whole.quantiles[:, :, :, ::3])
    np.testing.assert_array_equal(thinned.truth, whole.truth[:, :, ::3])


def test_the_size_of_a_portion_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    panel = make_panel(daily_values(5), [1, 1, 2, 2, 9])
    whole, _ = gather(panel, [LAST, DAY], ORIGINS)
    monkeypatch.setattr(room, "_CHUNK", 2)
    portions, _ = gather(panel, [LAST, DAY], ORIGINS)
    np.testing.assert_array_equal(portions.quantiles, whole.quantiles)


@pytest.mark.parametrize(
    ("origins", "nights"),
    [
        pytest.param((100, 112, 124), 3, id="a-horizon-apart"),
        pytest.param((100, 148, 196), 3, id="further-apart"),
        pytest.param((100, 106, 112, 118, 124), 3, id="half-a-horizon-apart"),
        pytest.param((100,), 1, id="one"),
    ],
)
def test_nights_that_overlap_count_by_what_they_have_of_their_own(origins: tuple[int, ...], nights: float) -> None:
    found, _ = gather(make_panel(daily_values(1), [1]), [LAST], origins)
    assert found.independent_nights() == nights
    assert found.independent_nights(np.zeros(len(origins), dtype=bool)) == 0


def test_parts_of_it_are_what_those_parts_would_give() -> None:
    panel = make_panel(daily_values(4), [1, 1, 2, 2])
    found, _ = gather(panel, [LAST, DAY], ORIGINS)
    use = np.array([True, False, False, True])
    part = found.of_series(np.array([1, 3])).of_origins(use)
    assert part.station_id.tolist() == [2, 4]
    assert part.origins == (150, 228)
    np.testing.assert_array_equal(part.centre, found.centre[[1, 3]][:, use])
    np.testing.assert_array_equal(part.truth, found.truth[[1, 3]][:, use])
    np.testing.assert_array_equal(part.quantiles, found.quantiles[:, [1, 3]][:, :, use])
    assert part.scores("x", part.quantiles[0])["mae"].tolist() == [
        found.scores("x", found.quantiles[0]).set_index(["station_id", "origin"])["mae"][station, origin]
        for origin in part.scores("x", part.quantiles[0])["origin"].unique()
        for station in (2, 4)
    ]


def test_progress_is_told_of_every_origin_of_every_candidate() -> None:
    told: list[tuple[str, int, int]] = []
    gather(make_panel(daily_values(1), [1]), [LAST, DAY], ORIGINS, on_progress=lambda *said: told.append(said))
    assert told[-1] == ("backtest", 8, 8)
    assert all(later[1] == earlier[1] + 1 for earlier, later in pairwise(told))
