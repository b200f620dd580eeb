from zoneinfo import ZoneInfo

import numpy as np
import pytest
from small_panels import CATALOGUE, GRID, daily_values, make_panel
from threadpoolctl import threadpool_limits

from bts_assets.contracts.hyperparameters import Hyperparameters
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.quantiles import MEDIAN, QUANTILES
from bts_assets.forecasting import fit
from bts_assets.forecasting.batch import make_batch
from bts_assets.forecasting.bundle import Bundle
from bts_assets.forecasting.counters import as_shown
from bts_assets.forecasting.efforts import Work
from bts_assets.forecasting.fit import FittedBundle
from bts_assets.forecasting.linear import LinearForecaster, fit_linear
from bts_assets.forecasting.lstm_training import LstmTraining
from bts_assets.forecasting.scaling import AsinhScales
from bts_assets.forecasting.windows import holdout_origins, take_series, training_windows

HORIZON = GRID.horizon_steps


# One thread, as in training: the last bits depend on it.
@threadpool_limits.wrap(limits=1, user_api="blas")
def fitted_on(panel: Panel, cut: int, count: int = 20_000, seed: int = 0) -> LinearForecaster:
    windows = training_windows(panel, cut, np.random.default_rng(seed))
    return fit_linear(panel, windows, cut, count, seed, AsinhScales.of(panel, cut))


def beats(count: int, days: int = 30) -> np.ndarray:
    """Two rhythms, one of them no whole day long: no seasonal candidate has them, a linear map does."""
    hour = np.arange(24 * days)
    shift = np.random.default_rng(3).uniform(0, 6, (count, 2, 1))
    return 20 + 3 * np.sin(2 * np.pi * hour / 24 + shift[:, 0]) + 3 * np.sin(2 * np.pi * hour / 17 + shift[:, 1])


def test_what_is_linear_is_forecast_nearly_exactly() -> None:
    panel = make_panel(beats(5), [1] * 5)
    cut = panel.steps - HORIZON
    given = fitted_on(panel, cut).forecast(panel.until(HORIZON))
    error = np.abs(given[:, :, MEDIAN] - panel.values[:, cut:])
    assert error.mean() < 0.25  # of a swing of 6


def test_what_comes_after_the_cut_changes_nothing() -> None:
    values = beats(3)
    cut = values.shape[1] - 100
    other = values.copy()
    other[:, cut:] = 1e6
    mine, its = (fitted_on(make_panel(v, [1, 1, 2]), cut).arrays() for v in (values, other))
    assert all(np.array_equal(mine[name], its[name]) for name in mine)
    other[:, cut - 1] = 1e6
    changed = fitted_on(make_panel(other, [1, 1, 2]), cut).arrays()
    assert not np.array_equal(mine["weights"], changed["weights"])


def test_each_parameter_has_weights_of_its_own_and_an_unknown_one_those_of_all() -> None:
    # One parameter repeats its day, the other turns it over every day: one map cannot serve both.
    days = np.random.default_rng(0).normal(size=(8, 1, 24)) + np.zeros((8, 40, 1))
    days[4:, ::2] *= -1
    values = 10 + days.reshape(8, -1)
    panel = make_panel(values, [1, 1, 1, 1, 2, 2, 2, 2])
    cut = panel.steps - HORIZON
    forecaster = fitted_on(panel, cut)
    error = np.abs(forecaster.forecast(panel.until(HORIZON))[:, :, MEDIAN] - values[:, cut:]).mean(axis=1)
    assert error.max() < 0.2
    strange = make_panel(values, [7] * 8)
    assert np.abs(forecaster.forecast(strange.until(HORIZON))[:, :, MEDIAN] - values[:, cut:]).mean() > 2 * error.mean()


def test_units_do_not_matter() -> None:
    panel = make_panel(daily_values(4, 20), [1] * 4)
    forecaster = fitted_on(panel, panel.steps)
    larger = make_panel(1000 * panel.values + 5e6, [1] * 4)
    mine, its = forecaster.forecast(panel), forecaster.forecast(larger)
    np.testing.assert_allclose((its - 5e6) / 1000, mine, rtol=1e-4)


def test_quantiles_ascend_and_cover_what_was_missed() -> None:
    values = daily_values(40, 30, seed=5)
    panel = make_panel(values, [1] * 40)
    cut = panel.steps - HORIZON
    given = fitted_on(panel, cut).forecast(panel.until(HORIZON))
    assert (np.diff(given, axis=2) >= 0).all()
    low, high = (given[:, :, QUANTILES.index(q)] for q in (0.1, 0.9))
    came = values[:, cut:]
    assert 0.7 < ((low <= came) & (came <= high)).mean() < 0.9


def test_gaps_and_short_contexts_are_forecast_and_hardly_anything_is_not() -> None:
    values = daily_values(3, 20)
    panel = make_panel(values, [1] * 3)
    forecaster = fitted_on(panel, panel.steps)
    gappy = values.copy()
    gappy[0, -30:-10] = np.nan
    gappy[1, :-8] = np.nan
    gappy[2, :-3] = np.nan
    given = forecaster.forecast(make_panel(gappy, [1] * 3))
    assert np.isfinite(given[:2]).all()
    assert np.isnan(given[2]).all()


def test_series_are_forecast_as_they_are_alone() -> None:
    panel = make_panel(daily_values(6, 20), [1, 2, 1, 2, 9, 1])
    forecaster = fitted_on(panel, panel.steps)
    together = forecaster.forecast(panel)
    for row in range(6):
        np.testing.assert_array_equal(forecaster.forecast(take_series(panel, np.array([row])))[0], together[row])


def test_windows_without_a_whole_horizon_observed_are_left_out_and_none_left_is_said() -> None:
    values = daily_values(2, 10)
    values[:, ::7] = np.nan
    panel = make_panel(values, [1, 1])
    with pytest.raises(ValueError, match="no window has all of its targets observed"):
        fitted_on(panel, panel.steps)


@pytest.mark.slow
def test_a_linear_map_that_cannot_be_fitted_costs_no_other_candidate(
    panel: Panel, tiny_effort: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise np.linalg.LinAlgError("Singular matrix")

    monkeypatch.setattr(fit, "fit_linear", fails)
    fitted = fit.fit_bundle(panel, CATALOGUE, effort="quick", seed=7)
    assert fitted.failures["linear"] == "LinAlgError: Singular matrix"
    assert "linear" not in fitted.bundle.weights.candidates
    assert Bundle.from_files(fitted.bundle.files()).linear == {}
    ledger = make_batch(fitted.bundle, panel, CATALOGUE).ledger
    assert ledger.loc[ledger["status"] != "excluded", "status"].eq("forecast").all()


def test_the_linear_map_is_judged_before_and_refitted_with_the_holdout_window(
    fitted: FittedBundle, panel: Panel
) -> None:
    assert "linear" in fitted.bundle.weights.candidates
    origins = holdout_origins(panel)
    changed = panel.values.copy()
    changed[:, origins[0] :] = 1e4

    def fitted_both(values: np.ndarray) -> tuple[LinearForecaster, LinearForecaster]:
        work, whole = Work(1, 1, 1, 1000), make_panel(values, panel.parameter_id.tolist())
        return fit._fit_linear(LstmTraining(whole, origins, work, 7, ZoneInfo("UTC"), Hyperparameters(), None))

    judged, _ = fitted_both(panel.values)
    again, after = fitted_both(changed)
    np.testing.assert_array_equal(judged.weights, again.weights)
    assert not np.array_equal(judged.weights, after.weights)
    served = LinearForecaster.from_arrays(fitted.bundle.linear, fitted.bundle.scales)
    shown = as_shown(panel, panel.parameter_id == 3)
    learned = np.flatnonzero(panel.parameter_id != 4)
    again, before = (fitted_on(take_series(shown, learned), cut, 1000, 7) for cut in (panel.steps, panel.steps - 24))
    np.testing.assert_array_equal(served.weights, again.weights)
    assert not np.array_equal(served.weights, before.weights)
