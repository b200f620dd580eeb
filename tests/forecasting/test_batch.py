import dataclasses
import json
from collections.abc import Collection

import numpy as np
import pandas as pd
import pytest
from small_panels import CATALOGUE, GRID, daily_values, make_panel

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.contracts.grid import DAY
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.quantiles import QUANTILES, STORED_QUANTILES
from bts_assets.contracts.schemas import Forecasts, validate
from bts_assets.forecasting import batch as batch_room
from bts_assets.forecasting.batch import load_forecasters, make_batch
from bts_assets.forecasting.bundle import Bundle
from bts_assets.forecasting.calibration import Calibration
from bts_assets.forecasting.candidates import STATISTICAL
from bts_assets.forecasting.ensemble_weights import Weights
from bts_assets.forecasting.fit import FittedBundle
from bts_assets.forecasting.forecasters import LastValue
from bts_assets.forecasting.pooling import pool
from bts_assets.forecasting.reining import Reach
from bts_assets.forecasting.windows import latest_context, take_series

GAUGE, HUMIDITY, RUN_TIME, DOOR = 1, 2, 3, 4

#: The catalogue, but with forecasts of its switch too.
WITH_DOORS = Catalogue(tuple(dataclasses.replace(p, forecast=True) for p in CATALOGUE))


def weighing(fitted: FittedBundle, calibration: Calibration | None = None, **shares: float) -> Bundle:
    """The model version with these weights for every series; candidates that are not named were not tried."""
    names = fitted.bundle.weights.candidates
    weights = Weights(names, np.array([shares.get(name, np.nan) for name in names]))
    return dataclasses.replace(fitted.bundle, weights=weights, calibration=calibration or Calibration())


class FailsOn:
    """The last value under another's name, but it raises whenever one of some stations is to be forecast."""

    def __init__(self, name: str, stations: Collection[int]) -> None:
        self.name, self.stations = name, stations

    def forecast(self, panel: Panel) -> np.ndarray:
        if bad := sorted(set(self.stations) & set(panel.station_id.tolist())):
            raise ValueError(f"cannot do {bad[0]}")
        return LastValue().forecast(panel)


class SaysWhy(FailsOn):
    """As `FailsOn`, but it keeps failures to their series."""

    def forecast(self, panel: Panel) -> np.ndarray:
        return self.forecast_each(panel)[0]

    def forecast_each(self, panel: Panel) -> tuple[np.ndarray, dict[int, str]]:
        quantiles = LastValue().forecast(panel)
        rows = np.flatnonzero(np.isin(panel.station_id, list(self.stations)))
        quantiles[rows] = np.nan
        return quantiles, {int(row): "FloatingPointError: no finite forecast" for row in rows}


def cheap(patch: pytest.MonkeyPatch, *stand_ins: FailsOn) -> None:
    """Let these serve in the place of the cheap candidates of their names."""
    by_name = {f.name: f for f in stand_ins}
    patch.setattr(batch_room, "CHEAP", tuple(by_name.get(f.name, f) for f in batch_room.CHEAP))


# The ledger


def test_every_series_has_a_ledger_row_and_every_forecast_the_schema(fitted: FittedBundle, panel: Panel) -> None:
    batch = make_batch(fitted.bundle, panel, CATALOGUE)
    assert batch.ledger["station_id"].tolist() == panel.station_id.tolist()
    assert batch.ledger["status"].tolist() == ["forecast"] * 3 + ["excluded"] + ["forecast"] * 2
    assert batch.ledger["reason"][3] == "the catalogue does not forecast this switch"
    assert batch.station_id.tolist() == [1, 2, 3, 5, 6]
    frame = validate(Forecasts, batch.to_frame())
    assert len(frame) == 5 * GRID.horizon_steps
    assert frame["target_at"].iloc[0] == frame["issued_at"].iloc[0] == panel.end
    np.testing.assert_array_equal(frame[["q05", "q10", "q50", "q90", "q95"]].to_numpy(), batch.quantiles.reshape(-1, 5))


def test_the_ledger_says_who_made_each_forecast_with_which_weights(fitted: FittedBundle, panel: Panel) -> None:
    ledger = make_batch(fitted.bundle, panel, CATALOGUE).ledger
    for row in ledger[ledger["status"] == "forecast"].to_dict("records"):
        told = json.loads(json.dumps(row["components"]))
        counting = {name: weight for name, weight in told.items() if weight is not None}
        assert sum(counting.values()) == pytest.approx(1, abs=1e-5)
        assert min(counting.values()) > 0
        assert row["source"] == ("mixture" if len(counting) > 1 else next(iter(counting)))
        assert pd.isna(row["reason"])
        # No statistical candidate was tried.
        assert {name for name in told if told[name] is None} == {f.name for f in STATISTICAL}
    assert "mixture" in set(ledger["source"])
    excluded = ledger[ledger["status"] == "excluded"]
    assert excluded[["source", "components"]].isna().all(axis=None)


def test_what_is_served_is_the_pool_of_the_candidates(fitted: FittedBundle) -> None:
    panel = make_panel(daily_values(3), [GAUGE] * 3)
    bundle = weighing(fitted, lstm=0.5, last_value=0.2, seasonal_naive_day=0.3)
    alone = {name: f.forecast(panel) for name, f in load_forecasters(bundle, CATALOGUE).items()}
    members = np.stack([alone[name] for name in ("lstm", "last_value", "seasonal_naive_day")])
    expected = Reach.of(latest_context(panel)).reined(pool(members, np.repeat([[0.5, 0.2, 0.3]], 3, axis=0)))
    batch = make_batch(bundle, panel, CATALOGUE, levels=QUANTILES)
    np.testing.assert_allclose(batch.quantiles, expected, rtol=1e-6)
    assert batch.ledger["source"].tolist() == ["mixture"] * 3
    told = batch.ledger["components"][0]
    assert {n: w for n, w in told.items() if w} == {"lstm": 0.5, "last_value": 0.2, "seasonal_naive_day": 0.3}
    assert told["window_median"] is None
    # It would serve no gauge, tried or not.
    assert "mean_increment" not in told


def test_what_is_served_is_calibrated(fitted: FittedBundle) -> None:
    panel = make_panel(daily_values(2), [GAUGE, HUMIDITY])
    factors = np.ones((6, len(QUANTILES)))
    factors[:, QUANTILES.index(0.9) :] = 2.0
    wider = Calibration(by_parameter={GAUGE: factors}, by_series={(1, GAUGE): np.full(len(QUANTILES), 1.5)})
    alone = load_forecasters(weighing(fitted, last_value=1.0), CATALOGUE)["last_value"].forecast(panel)
    plain = make_batch(weighing(fitted, last_value=1.0), panel, CATALOGUE).quantiles
    given = make_batch(weighing(fitted, wider, last_value=1.0), panel, CATALOGUE).quantiles
    middle = alone[:1, :, [QUANTILES.index(0.5)]]
    calibrated = middle + (alone[:1] - middle) * np.array([1.5] * 4 + [1] + [1.5] + [3] * 3)
    kept = [QUANTILES.index(q) for q in STORED_QUANTILES]
    expected = Reach.of(latest_context(take_series(panel, np.array([0])))).reined(calibrated)[:, :, kept]
    np.testing.assert_allclose(given[:1], expected, rtol=1e-9)
    np.testing.assert_array_equal(given[1], plain[1])


def test_the_same_input_gives_the_same_batch_whatever_came_before_the_context(
    fitted: FittedBundle, panel: Panel
) -> None:
    batch = make_batch(fitted.bundle, panel, CATALOGUE)
    values = panel.values[:, -GRID.context_steps :]
    again = make_batch(Bundle.from_files(fitted.bundle.files()), make_panel(values, [1, 2, 3, 4, 1, 9]), CATALOGUE)
    np.testing.assert_array_equal(again.quantiles, batch.quantiles)
    assert again.ledger.equals(batch.ledger)


# What a series never did


@pytest.mark.parametrize("value", [0.0, 42.0, -7.5, 1e-12, 1e12])
def test_a_series_that_never_moved_is_forecast_as_what_it_is_exactly(fitted: FittedBundle, value: float) -> None:
    values = daily_values(3)
    values[0], values[1, ::3] = value, np.nan
    batch = make_batch(fitted.bundle, make_panel(values, [77, 77, 77]), CATALOGUE, levels=QUANTILES)
    assert (batch.quantiles[0] == value).all()
    assert (batch.ledger["status"][0], batch.ledger["source"][0]) == ("forecast", "last_value")
    assert (np.ptp(batch.quantiles[1:], axis=2) > 0).all()


def test_a_counter_that_stands_still_does_not_move(fitted: FittedBundle) -> None:
    values = np.full((1, 240), 5168.0)
    batch = make_batch(fitted.bundle, make_panel(values, [RUN_TIME]), CATALOGUE)
    assert (batch.quantiles == 5168.0).all()


@pytest.mark.parametrize("known", [1, 2, 4, 8])
@pytest.mark.parametrize("parameter", [GAUGE, 777])
def test_a_series_that_knows_too_little_is_lent_a_width(fitted: FittedBundle, known: int, parameter: int) -> None:
    values = np.full((1, 240), np.nan)
    values[0, -1 - np.arange(known) * 5] = 40.0
    spreads = fitted.bundle.spreads
    batch = make_batch(fitted.bundle, make_panel(values, [parameter]), CATALOGUE, levels=QUANTILES)
    lent = spreads.by_parameter[GAUGE] if parameter == GAUGE else 40 * spreads.default
    width = batch.quantiles[0, :, QUANTILES.index(0.95)] - batch.quantiles[0, :, QUANTILES.index(0.05)]
    assert (width > 0.9 * (lent[QUANTILES.index(0.95)] - lent[QUANTILES.index(0.05)])).all()
    assert width.min() > 1


def test_a_reading_a_day_has_the_width_of_what_it_changed_by(fitted: FittedBundle) -> None:
    values = np.full((1, 240), np.nan)
    values[0, 5::24] = 1000 + np.random.default_rng(0).normal(0, 50, 10)
    grid = dataclasses.replace(GRID, context=10 * DAY)
    given = LastValue().forecast(make_panel(values, [77], grid))
    assert given[0, 0, QUANTILES.index(0.95)] - given[0, 0, QUANTILES.index(0.05)] > 60


# What could not run


def test_a_series_too_short_for_the_lstm_falls_back_and_says_so(fitted: FittedBundle) -> None:
    values = daily_values(3)
    values[0, :-5] = np.nan
    values[1] = np.nan
    values[2, -3:] = np.nan
    batch = make_batch(weighing(fitted, lstm=1.0), make_panel(values, [1, 1, 1]), CATALOGUE)
    ledger = batch.ledger
    assert ledger["status"].tolist() == ["fallback", "excluded", "forecast"]
    assert ledger["source"].fillna("").tolist() == ["last_value", "", "lstm"]
    assert ledger["reason"].tolist()[:2] == [
        "lstm: too little in the context",
        "no observation in the context",
    ]
    assert ledger["history_steps"].tolist() == [5, 0, 45]
    assert ledger["context_steps"].tolist() == [5, 0, 48]
    assert ledger["last_observed_at"][2] == batch.issued_at - 4 * GRID.step


def test_stand_ins_serve_in_order_where_nothing_of_the_mixture_can(fitted: FittedBundle) -> None:
    values = daily_values(2)
    values[0, :-30] = np.nan
    values[0, -30:-4] = np.nan
    # A week does not fit into this context.
    bundle = weighing(fitted, seasonal_naive_week=1.0)
    ledger = make_batch(bundle, make_panel(values, [1, 1]), CATALOGUE).ledger
    assert ledger["status"].tolist() == ["fallback"] * 2
    assert ledger["source"].tolist() == ["last_value", "seasonal_naive_day"]
    assert ledger["reason"].tolist() == ["seasonal_naive_week: too little in the context"] * 2
    assert ledger["components"].isna().all()


@pytest.mark.parametrize(
    ("missing", "status", "source"),
    [
        pytest.param(0.2, "forecast", "mixture", id="a-small-part"),
        pytest.param(0.5, "forecast", "mixture", id="half"),
        pytest.param(0.51, "fallback", "mixture", id="more-than-half"),
        pytest.param(0.8, "fallback", "seasonal_naive_day", id="most"),
    ],
)
def test_a_series_is_a_fallback_if_more_than_half_of_its_mixture_could_not_run(
    fitted: FittedBundle, monkeypatch: pytest.MonkeyPatch, missing: float, status: str, source: str
) -> None:
    cheap(monkeypatch, FailsOn("last_value", (2,)))
    others = {"seasonal_naive_day": 1 - missing} | ({"window_median": 0.1} if source == "mixture" else {})
    others["seasonal_naive_day"] -= others.get("window_median", 0)
    bundle = weighing(fitted, last_value=missing, **others)
    ledger = make_batch(bundle, make_panel(daily_values(3), [1] * 3), CATALOGUE).ledger
    assert ledger["status"].tolist() == ["forecast", status, "forecast"]
    assert ledger["source"].tolist() == ["mixture", source, "mixture"]
    assert ledger["reason"].isna().tolist() == [True, False, True]
    assert ledger["reason"][1] == "last_value: ValueError: cannot do 2"
    told = {n: w for n, w in ledger["components"][1].items() if w is not None}
    assert told == pytest.approx({name: share / (1 - missing) for name, share in others.items()}, abs=1e-5)


def test_the_rest_of_a_mixture_serves_as_if_what_failed_had_no_weight(
    fitted: FittedBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel = make_panel(daily_values(3), [1] * 3)
    without = make_batch(weighing(fitted, lstm=0.6, seasonal_naive_day=0.4), panel, CATALOGUE)
    cheap(monkeypatch, FailsOn("last_value", (1, 2, 3)))
    bundle = weighing(fitted, lstm=0.45, seasonal_naive_day=0.3, last_value=0.25)
    batch = make_batch(bundle, panel, CATALOGUE)
    np.testing.assert_allclose(batch.quantiles, without.quantiles, rtol=1e-9)
    assert set(batch.ledger["status"]) == {"forecast"}


def test_every_reason_is_told(fitted: FittedBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    cheap(monkeypatch, FailsOn("last_value", (1,)), SaysWhy("window_median", (1,)))
    bundle = weighing(fitted, last_value=0.3, window_median=0.3, seasonal_naive_day=0.4)
    ledger = make_batch(bundle, make_panel(daily_values(2), [1, 1]), CATALOGUE).ledger
    assert ledger["reason"][0] == (
        "last_value: ValueError: cannot do 1; window_median: FloatingPointError: no finite forecast"
    )
    assert ledger["status"].tolist() == ["fallback", "forecast"]


def test_without_an_lstm_every_series_that_it_would_serve_is_a_fallback_with_the_reason(
    fitted: FittedBundle, panel: Panel
) -> None:
    bundle = dataclasses.replace(
        weighing(fitted, seasonal_naive_day=1.0), lstm=(), architecture=None, lstm_failure="the loss is nan"
    )
    ledger = make_batch(bundle, panel, WITH_DOORS).ledger.set_index("parameter_id")
    door, served = ledger.loc[DOOR], ledger.drop(DOOR)
    assert set(served["status"]) == {"fallback"}
    assert set(served["reason"]) == {"lstm: the loss is nan"}
    assert set(served["source"]) == {"seasonal_naive_day"}
    # A switch never was the LSTM's.
    assert (door["status"], door["source"]) == ("forecast", "event_rate")
    assert pd.isna(door["reason"])


def test_a_parameter_that_training_did_not_see_is_served_without_complaint(fitted: FittedBundle) -> None:
    ledger = make_batch(fitted.bundle, make_panel(daily_values(2), [555, 555]), CATALOGUE).ledger
    assert ledger["status"].tolist() == ["forecast"] * 2
    assert ledger["reason"].isna().all()
    assert fitted.bundle.weights.default[fitted.bundle.weights.candidates.index("mean_increment")] > 0
    for components in ledger["components"]:
        assert "mean_increment" not in components
        assert sum(w for w in components.values() if w) == pytest.approx(1, abs=1e-5)


# Company


def test_a_series_that_makes_its_candidate_raise_spoils_no_other(
    fitted: FittedBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    cheap(monkeypatch, FailsOn("last_value", (7,)))
    panel = make_panel(daily_values(20), [1] * 20)
    ledger = make_batch(weighing(fitted, last_value=1.0), panel, CATALOGUE).ledger
    assert ledger.loc[ledger["status"] == "fallback", "station_id"].tolist() == [7]
    assert ledger["reason"][6] == "last_value: ValueError: cannot do 7"
    assert ledger["source"][6] == "seasonal_naive_day"


def test_a_series_alone_is_served_as_in_company(fitted: FittedBundle) -> None:
    values = daily_values(9)
    values[2] = np.cumsum(np.random.default_rng(1).integers(0, 2, values.shape[1]))
    values[3] = np.random.default_rng(2).random(values.shape[1]) < 0.2
    values[4, 200:220] = np.nan
    values[5, :-5] = np.nan
    values[6] = 0.0
    values[7] = np.cumsum(np.random.default_rng(3).random(values.shape[1]))
    panel = make_panel(values, [GAUGE, HUMIDITY, RUN_TIME, DOOR, GAUGE, GAUGE, HUMIDITY, RUN_TIME, 555])
    whole = make_batch(fitted.bundle, panel, WITH_DOORS)
    assert len(whole.station_id) == 9
    for row in range(9):
        alone = make_batch(fitted.bundle, take_series(panel, np.array([row])), WITH_DOORS)
        np.testing.assert_array_equal(alone.quantiles[0], whole.quantiles[row])
        pd.testing.assert_frame_equal(alone.ledger, whole.ledger.iloc[[row]].reset_index(drop=True))


@pytest.mark.parametrize("wild", [1e300, -1e300, 1.7e308])
def test_a_wild_value_spoils_its_own_series_alone(fitted: FittedBundle, wild: float) -> None:
    values = daily_values(3)
    values[1, -3] = wild
    for shares in ({"lstm": 1.0}, {"lstm": 0.5, "last_value": 0.3, "seasonal_naive_day": 0.2}):
        bundle = weighing(fitted, **shares)
        calm = make_batch(bundle, make_panel(daily_values(3), [9, 9, 9]), CATALOGUE)
        batch = make_batch(bundle, make_panel(values, [9, 9, 9]), CATALOGUE)
        assert len(batch.ledger) == 3
        assert np.isfinite(batch.quantiles).all()
        mine = np.isin(batch.station_id, [1, 3])
        np.testing.assert_array_equal(batch.quantiles[mine], calm.quantiles[[0, 2]])


def test_the_size_of_a_portion_changes_nothing(fitted: FittedBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    panel = make_panel(daily_values(7), [1, 2, 3, 1, 2, 3, 9])
    whole = make_batch(fitted.bundle, panel, CATALOGUE)
    monkeypatch.setattr(batch_room, "_CHUNK", 3)
    portions = make_batch(fitted.bundle, panel, CATALOGUE)
    np.testing.assert_array_equal(portions.quantiles, whole.quantiles)
    assert portions.ledger.equals(whole.ledger)


# What the quantity can be


def test_forecasts_keep_to_what_the_quantity_can_be(fitted: FittedBundle) -> None:
    values = daily_values(4)
    values[0] = np.clip(values[0] + 55, None, 100)
    values[1] = np.abs(np.random.default_rng(0).normal(size=values.shape[1])) * (np.arange(values.shape[1]) % 7 == 0)
    values[2] = 5000 + np.cumsum(np.random.default_rng(1).integers(0, 3, values.shape[1]))
    values[3] -= 40
    panel = make_panel(values, [2, 9, 3, 9])
    for shares in ({"lstm": 1.0}, {"last_value": 1.0}, {"seasonal_naive_day": 0.5, "window_median": 0.5}):
        batch = make_batch(weighing(fitted, **shares), panel, CATALOGUE)
        assert batch.quantiles[0].max() <= 100
        assert batch.quantiles[1].min() >= 0
        assert batch.quantiles[2].min() >= values[2, -1]
        assert (np.diff(batch.quantiles[2], axis=0) >= 0).all()
        assert batch.quantiles[3].min() < 0
        assert (np.diff(batch.quantiles, axis=2) >= 0).all()


def test_widened_intervals_keep_to_it_too(fitted: FittedBundle) -> None:
    values = daily_values(3)
    values[1] = np.clip(values[1] - 38, 0, None)
    values[2] = np.cumsum(np.random.default_rng(1).random(values.shape[1]))
    # Wide at first and narrow later: what a counter had reached, it must not lose again.
    wide = Calibration(np.repeat([[4.0], [0.25]], 3, axis=0) * np.ones(len(QUANTILES)))
    batch = make_batch(weighing(fitted, wide, lstm=0.5, last_value=0.5), make_panel(values, [2, 9, 3]), CATALOGUE)
    assert batch.quantiles[0].min() >= 0
    assert batch.quantiles[0].max() <= 100
    assert batch.quantiles[1].min() == 0
    assert batch.quantiles[2].min() >= values[2, -1]
    assert (np.diff(batch.quantiles[2], axis=0) >= 0).all()


def test_next_to_nothing_is_off_where_the_series_is_off_at_times(fitted: FittedBundle) -> None:
    values = np.full((2, 240), 0.05)
    values[:, -20:-10] = 100.0
    values[0, -30:-20] = 0.0
    batch = make_batch(weighing(fitted, last_value=1.0), make_panel(values, [9, 9]), CATALOGUE)
    middle = batch.quantiles[:, :, STORED_QUANTILES.index(0.5)]
    assert (middle[0] == 0).all()
    np.testing.assert_allclose(middle[1], 0.05)


def test_a_counter_goes_on_from_its_newest_level_also_after_a_gap_or_a_reset(fitted: FittedBundle) -> None:
    added = np.random.default_rng(1).random((3, 240))
    values = 7000 + np.cumsum(added, axis=1)
    values[1, -6:] = np.nan
    values[2, -20:] -= values[2, -21]
    newest = [values[0, -1], values[1, -7], values[2, -1]]
    for bundle in (fitted.bundle, weighing(fitted, last_value=0.5, seasonal_naive_day=0.5)):
        batch = make_batch(bundle, make_panel(values, [3, 3, 3]), CATALOGUE)
        assert (batch.quantiles.min(axis=(1, 2)) >= newest).all()
        assert (np.diff(batch.quantiles, axis=1) >= 0).all()
        # It adds half an hour each hour: no candidate holds or repeats a level.
        gained = batch.quantiles[:, -1, STORED_QUANTILES.index(0.5)] - newest
        assert (gained > 2).all()
        assert (gained < 14).all()


def test_switches_that_are_to_be_forecast_get_the_probability_of_an_event(fitted: FittedBundle) -> None:
    values = (np.random.default_rng(0).random((3, 240)) < 0.2).astype(float)
    values[2] = np.nan
    panel = make_panel(values, [DOOR, GAUGE, DOOR])
    batch = make_batch(fitted.bundle, panel, WITH_DOORS)
    door = batch.ledger.iloc[0]
    assert (door["status"], door["source"]) == ("forecast", "event_rate")
    assert door[["reason", "components"]].isna().all()
    assert batch.quantiles[0].min() > 0
    assert batch.quantiles[0].max() < 1
    assert batch.quantiles[0, :, STORED_QUANTILES.index(0.5)].mean() == pytest.approx(values[0, -48:].mean(), abs=0.05)
    assert batch.ledger["source"][1] != "event_rate"
    assert (batch.ledger["status"][2], batch.ledger["reason"][2]) == ("excluded", "no observation in the context")


# Edges


def test_an_empty_panel_gives_an_empty_batch(fitted: FittedBundle) -> None:
    batch = make_batch(fitted.bundle, make_panel(np.empty((0, 48)), []), CATALOGUE)
    assert len(batch.ledger) == 0
    assert len(validate(Forecasts, batch.to_frame())) == 0


def test_a_panel_without_steps_excludes_every_series(fitted: FittedBundle) -> None:
    batch = make_batch(fitted.bundle, make_panel(np.empty((2, 0)), [1, 2]), CATALOGUE)
    assert batch.ledger["status"].tolist() == ["excluded", "excluded"]


def test_another_grid_is_refused(fitted: FittedBundle, panel: Panel) -> None:
    other = Panel(
        dataclasses.replace(GRID, horizon=GRID.step),
        *(getattr(panel, n) for n in ("station_id", "parameter_id", "end", "values")),
    )
    with pytest.raises(ValueError, match="the model version is for"):
        make_batch(fitted.bundle, other, CATALOGUE)
