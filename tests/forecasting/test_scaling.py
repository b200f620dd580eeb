"""Series in units of their own, and back."""

import numpy as np
import pytest
from small_panels import make_panel

from bts_assets.contracts.panel import Panel
from bts_assets.forecasting.scaling import AsinhScales, Scaling, centre_and_spread, daily_change

HOUR = np.arange(240)
RHYTHM = np.sin(2 * np.pi * HOUR / 24)
TRAFFIC = np.clip(100 * (1 + RHYTHM), 0, None)

SERIES = {
    "wide-positive": TRAFFIC,
    "narrow-positive": 40 + 4 * RHYTHM,
    "negative": -70 + 30 * RHYTHM,
    "both-signs": 5 + 10 * RHYTHM,
    "constant": np.full(240, 7.0),
    "zero": np.zeros(240),
    "mostly-zero": np.where(HOUR % 37 == 0, 5.0, 0.0),
    "tiny": 1e-300 * TRAFFIC,
    "huge": 1e305 * TRAFFIC,
    "huge-negative": -1e305 * (3 + RHYTHM),
    "small-change-of-a-large-level": 5e6 + RHYTHM,
    "with-gaps": np.where(HOUR % 5 == 0, np.nan, TRAFFIC),
    "bursts": np.where(HOUR == 100, 1e12, TRAFFIC),
}
each_series = pytest.mark.parametrize("values", SERIES.values(), ids=SERIES)


@each_series
def test_what_is_scaled_comes_back(values: np.ndarray) -> None:
    scaling = Scaling.of(values[None])
    back = scaling.undo(scaling.apply(values[None])[:, :, None])[0, :, 0]
    assert np.array_equal(np.isnan(back), np.isnan(values))
    known = np.isfinite(values)
    largest = np.abs(values[known]).max()
    np.testing.assert_allclose(back[known], values[known], rtol=1e-9, atol=1e-12 * largest)


@each_series
def test_scaled_values_are_of_the_size_that_a_network_reads(values: np.ndarray) -> None:
    scaled = Scaling.of(values[None]).apply(values[None])
    known = scaled[np.isfinite(values)[None]]
    assert np.isfinite(known).all()
    usual = known[np.abs(known) < np.quantile(np.abs(known), 0.99) * 3 + 1]
    assert np.abs(usual).mean() <= 1.02
    assert np.abs(usual.mean()) < 0.03


def test_one_reading_beyond_all_measure_moves_no_scale() -> None:
    for name in ("wide-positive", "narrow-positive", "negative", "both-signs"):
        values = SERIES[name][None]
        struck = values.copy()
        struck[0, 100] = 1e9
        for was, now in zip(centre_and_spread(values), centre_and_spread(struck), strict=True):
            assert now == pytest.approx(was, rel=0.05, abs=0.05 * centre_and_spread(values)[1][0]), name
        assert daily_change(struck, 24) == pytest.approx(daily_change(values, 24), rel=0.1), name
        assert Scaling.of(struck).asinh_scale == pytest.approx(Scaling.of(values).asinh_scale, rel=0.05), name


@each_series
def test_single_precision_loses_nothing_that_counts(values: np.ndarray) -> None:
    scaling = Scaling.of(values[None])
    narrow = scaling.apply(values[None]).astype(np.float32).astype(np.float64)
    back = scaling.undo(narrow[:, :, None])[0, :, 0]
    change = np.nanmax(values) / 2 - np.nanmin(values) / 2
    assert np.nanmax(np.abs(back - values)) <= 1e-5 * change


def test_only_wide_series_that_are_never_negative_are_asinh_transformed() -> None:
    transformed = {name for name, values in SERIES.items() if Scaling.of(values[None]).asinh_scale[0] > 0}
    assert transformed == {"wide-positive", "mostly-zero", "tiny", "huge", "with-gaps", "bursts"}


@each_series
@pytest.mark.parametrize("scale", [0.0, 3.0])
def test_a_scale_that_is_given_is_kept(values: np.ndarray, scale: float) -> None:
    scaling = Scaling.of(values[None], np.array([scale]))
    assert scaling.asinh_scale == [scale]
    some = values[None, np.abs(values) < 1e12]
    back = scaling.undo(scaling.apply(some)[:, :, None])[:, :, 0]
    np.testing.assert_allclose(back, some, rtol=1e-6, atol=1e-9 * np.abs(some).max(initial=0))


def test_scales_are_of_each_series_that_can_be_learned_from() -> None:
    late = np.where(HOUR < 230, np.nan, TRAFFIC)
    kinds = [TRAFFIC, SERIES["negative"], np.full(240, np.nan), SERIES["constant"], late]
    panel = make_panel(np.stack(kinds * 300), [7] * 1500)
    scales = AsinhScales.of(panel, 240)
    assert scales.by_series.keys() == {(k + 1, 7) for k in range(1500) if k % 5 < 2}
    np.testing.assert_array_equal(scales.at(panel), [Scaling.of(TRAFFIC[None]).asinh_scale[0], 0, *[np.nan] * 3] * 300)
    other = Panel(panel.grid, panel.station_id, panel.parameter_id + 1, panel.end, panel.values)
    assert np.isnan(scales.at(other)).all()


def test_scales_are_of_what_precedes_alone() -> None:
    values = np.stack([TRAFFIC, TRAFFIC])
    values[1, 120:] = -1e6
    scales = AsinhScales.of(make_panel(values, [7, 7]), 120)
    assert scales.by_series[1, 7] == scales.by_series[2, 7] == Scaling.of(TRAFFIC[None, :120]).asinh_scale[0]


def test_an_asinh_transformed_series_weighs_small_values_like_large_ones() -> None:
    day = np.array([[10.0, 100.0, 1000.0, 2000.0] * 60])
    (scaled,) = Scaling.of(day).apply(day)
    assert scaled[1] - scaled[0] > 0.25 * (scaled[3] - scaled[0])
    assert day[0, 1] - day[0, 0] < 0.05 * (day[0, 3] - day[0, 0])


def test_order_is_kept_and_nothing_overflows() -> None:
    values = np.stack([SERIES[name] for name in ("wide-positive", "narrow-positive", "negative", "zero")])
    quantiles = np.broadcast_to(np.array([-1e3, -5, -1, 0, 1, 5, 40, 1e3]), (4, 12, 8))
    served = Scaling.of(values).undo(quantiles)
    assert np.isfinite(served).all()
    assert (np.diff(served, axis=2) >= 0).all()
    assert (np.diff(served[:, :, 1:6], axis=2) > 0).all()


def test_an_asinh_transformed_series_is_not_negative_within_its_observed_range() -> None:
    scaling = Scaling.of(TRAFFIC[None])
    scaled = scaling.apply(TRAFFIC[None])
    between = np.linspace(scaled.min(), scaled.max(), 50)[None, None]
    assert scaling.undo(between).min() >= -1e-9


def test_a_series_is_scaled_by_itself_alone() -> None:
    values = np.stack(list(SERIES.values()))
    together = Scaling.of(values).apply(values)
    for row, one in zip(together, values, strict=True):
        np.testing.assert_array_equal(Scaling.of(one[None]).apply(one[None])[0], row)


def test_a_series_without_observations_is_left_unknown() -> None:
    values = np.full((1, 10), np.nan)
    scaling = Scaling.of(values)
    assert np.isnan(scaling.apply(values)).all()
    assert scaling.spread[0] > 0
    assert np.isfinite(scaling.undo(np.zeros((1, 2, 3)))).all()


@pytest.mark.parametrize(
    "values", [[5.0, 5.0, 5.0], [np.nan] * 3, [1e300, -1e300, 0.0], [1.7e308, -1.7e308, 1.0], [1e6, 1e6 + 1e-3, 1e6]]
)
def test_centre_and_spread_survive_any_values(values: list[float]) -> None:
    centre, spread = centre_and_spread(np.array([values]))
    assert np.isfinite(centre).all()
    assert np.isfinite(spread).all()
    assert (spread > 0).all()
