import dataclasses

import numpy as np
import pytest
from small_panels import CATALOGUE, GRID, daily_values, make_panel

from bts_assets.contracts.panel import Panel
from bts_assets.contracts.schemas import Forecasts, validate
from bts_assets.forecasting import batch as batch_room
from bts_assets.forecasting.batch import make_batch
from bts_assets.forecasting.bundle import Bundle
from bts_assets.forecasting.fit import FittedBundle
from bts_assets.forecasting.forecasters import LastValue
from bts_assets.forecasting.mixture import Choice


def choosing(fitted: FittedBundle, name: str) -> Bundle:
    return dataclasses.replace(fitted.bundle, choice=Choice(name))


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


def test_the_same_input_gives_the_same_batch_whatever_came_before_the_context(
    fitted: FittedBundle, panel: Panel
) -> None:
    batch = make_batch(fitted.bundle, panel, CATALOGUE)
    values = panel.values[:, -GRID.context_steps :]
    again = make_batch(Bundle.from_files(fitted.bundle.files()), make_panel(values, [1, 2, 3, 4, 1, 9]), CATALOGUE)
    np.testing.assert_array_equal(again.quantiles, batch.quantiles)
    assert again.ledger.equals(batch.ledger)


def test_a_series_too_short_for_the_lstm_falls_back_and_says_so(fitted: FittedBundle) -> None:
    values = daily_values(3)
    values[0, :-5] = np.nan
    values[1] = np.nan
    values[2, -3:] = np.nan
    batch = make_batch(choosing(fitted, "lstm"), make_panel(values, [1, 1, 1]), CATALOGUE)
    ledger = batch.ledger
    assert ledger["status"].tolist() == ["fallback", "excluded", "forecast"]
    assert ledger["source"].fillna("").tolist() == ["last_value", "", "lstm"]
    assert ledger["reason"].tolist()[:2] == [
        "lstm: too few observations in the context",
        "no observation in the context",
    ]
    assert ledger["history_steps"].tolist() == [5, 0, 45]
    assert ledger["context_steps"].tolist() == [5, 0, 48]
    assert ledger["last_observed_at"][2] == batch.issued_at - 4 * GRID.step


def test_without_an_lstm_every_series_is_a_fallback_with_the_reason(fitted: FittedBundle, panel: Panel) -> None:
    bundle = dataclasses.replace(
        fitted.bundle, lstm=(), architecture=None, lstm_failure="the loss is nan", choice=Choice("seasonal_naive_day")
    )
    ledger = make_batch(bundle, panel, CATALOGUE).ledger
    served = ledger[ledger["status"] != "excluded"]
    assert set(served["status"]) == {"fallback"}
    assert set(served["reason"]) == {"lstm: the loss is nan"}
    assert set(served["source"]) == {"seasonal_naive_day"}


class RaisesOn:
    """Raises whenever a certain station is among those to forecast."""

    name = "last_value"

    def __init__(self, station_id: int) -> None:
        self.station_id = station_id

    def forecast(self, panel: Panel) -> np.ndarray:
        if self.station_id in panel.station_id:
            raise ValueError(f"cannot do {self.station_id}")
        return LastValue().forecast(panel)


def test_a_series_that_makes_its_candidate_raise_spoils_no_other(
    fitted: FittedBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_room, "SIMPLE", (RaisesOn(7), *batch_room.SIMPLE[1:]))
    panel = make_panel(daily_values(20), [1] * 20)
    ledger = make_batch(choosing(fitted, "last_value"), panel, CATALOGUE).ledger
    assert ledger.loc[ledger["status"] == "fallback", "station_id"].tolist() == [7]
    assert ledger["reason"][6] == "last_value: ValueError: cannot do 7"
    assert ledger["source"][6] == "seasonal_naive_day"


def test_forecasts_keep_to_what_the_quantity_can_be(fitted: FittedBundle) -> None:
    values = daily_values(4)
    values[0] = np.clip(values[0] + 55, None, 100)
    values[1] = np.abs(np.random.default_rng(0).normal(size=values.shape[1])) * (np.arange(values.shape[1]) % 7 == 0)
    values[2] = np.cumsum(np.random.default_rng(1).integers(0, 3, values.shape[1]))
    values[3] -= 40
    for name in ("lstm", "last_value", "seasonal_naive_day"):
        batch = make_batch(choosing(fitted, name), make_panel(values, [2, 9, 3, 9]), CATALOGUE)
        assert batch.quantiles[0].max() <= 100
        assert batch.quantiles[1].min() >= 0
        assert batch.quantiles[2].min() >= values[2, -1]
        assert (np.diff(batch.quantiles[2], axis=0) >= 0).all()
        assert batch.quantiles[3].min() < 0
        assert (np.diff(batch.quantiles, axis=2) >= 0).all()


@pytest.mark.parametrize("wild", [1e300, -1e300, 1.7e308])
def test_a_wild_value_spoils_its_own_series_alone(fitted: FittedBundle, wild: float) -> None:
    values = daily_values(3)
    values[1, -3] = wild
    calm = make_batch(choosing(fitted, "lstm"), make_panel(daily_values(3), [9, 9, 9]), CATALOGUE)
    batch = make_batch(choosing(fitted, "lstm"), make_panel(values, [9, 9, 9]), CATALOGUE)
    assert len(batch.ledger) == 3
    assert np.isfinite(batch.quantiles).all()
    mine = np.isin(batch.station_id, [1, 3])
    np.testing.assert_array_equal(batch.quantiles[mine], calm.quantiles[[0, 2]])


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
