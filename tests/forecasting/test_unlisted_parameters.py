"""Parameters that the catalogue does not list: what their data make of them, and what a model does with them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from small_panels import CATALOGUE, bundle, daily_values, make_panel

from bts_assets.contracts.catalogue import Catalogue, Parameter, format_catalogue, load_catalogue, parse_catalogue
from bts_assets.forecasting.batch import make_batch
from bts_assets.forecasting.unlisted_parameters import SeriesValues, propose, with_inferred_counters
from bts_assets.landing.files import parse_landing_file
from bts_assets.simulation.simulate import NetworkSpec, simulate_network

DAYS = 3 * 86400.0
RNG = np.random.default_rng(5)
METER = np.cumsum(RNG.exponential(0.3, 300).round(2))


def proposed(*series: np.ndarray, parameter: int = 901, seconds: float = DAYS) -> Parameter:
    return propose(parameter, [SeriesValues(np.asarray(s, float), seconds) for s in series]).parameter


@pytest.mark.parametrize(
    ("series", "kind"),
    [
        pytest.param([METER, METER + 1000], "counter", id="meters"),
        pytest.param([np.concatenate([METER, METER])], "counter", id="meter_that_began_again"),
        pytest.param([METER, np.full(300, 7.0)], "counter", id="meter_beside_an_idle_one"),
        pytest.param([RNG.integers(0, 2, 300)], "switch", id="zero_and_one"),
        pytest.param([np.zeros(300)], "gauge", id="zero_alone"),
        pytest.param([20 + RNG.normal(size=300)], "gauge", id="noise"),
        pytest.param([METER, 20 + RNG.normal(size=300), METER], "gauge", id="meters_and_noise"),
        pytest.param([np.linspace(20, 25, 40)], "gauge", id="too_few_to_tell"),
        pytest.param([np.repeat([0.0, 40.0], 150)], "gauge", id="rose_once"),
        pytest.param([METER - 50], "gauge", id="rises_from_below_zero"),
        pytest.param([np.tile(np.repeat([0.0, 40.0, 0.0], [30, 20, 30]), 15)], "gauge", id="on_and_off_once_a_day"),
        pytest.param([np.tile(np.append(np.arange(24.0), 0.0), 4)], "counter", id="meter_that_begins_again_each_day"),
        pytest.param([], "gauge", id="nothing"),
    ],
)
def test_kind_is_read_off_the_data(series: list[np.ndarray], kind: str) -> None:
    assert proposed(*series).kind == kind


def test_rise_within_hours_is_no_counter() -> None:
    assert proposed(np.linspace(5, 25, 300), seconds=7200).kind == "gauge"


def test_codes_far_from_all_measurements_are_sentinels_and_do_not_widen_the_range() -> None:
    values = 20 + RNG.normal(size=300)
    values[[5, 90, 200]] = -9999
    values[[6, 91]] = 65535
    row = proposed(values)
    assert row.sentinels == (999991, 999999, -9999, 65535)
    assert -20 < row.valid_min < values[np.abs(values) < 100].min()
    assert values[np.abs(values) < 100].max() < row.valid_max < 60
    assert proposed(np.where(values < 0, 999, 200 + values)).sentinels == (999991, 999999)


@pytest.mark.parametrize("values", [np.full(50, 7.0), np.array([-3.0, 1e-12, 4.0]), np.arange(100) * 1e9], ids=str)
def test_range_holds_all_values_and_the_row_can_be_given_back(values: np.ndarray) -> None:
    row = proposed(values)
    assert row.valid_min <= values.min()
    assert values.max() <= row.valid_max
    (again,) = parse_catalogue(format_catalogue([row]))
    assert again == row


def test_simulated_run_times_and_doors_are_found_to_be_what_the_catalogue_says(tmp_path: Path) -> None:
    end = datetime(2026, 3, 10, tzinfo=UTC)
    truth = simulate_network(
        NetworkSpec(stations=3, days=3, end=end, seed=7, readings_per_hour=6), tmp_path / "landing"
    )
    readings = pd.concat([
        parse_landing_file(f.read_bytes(), Catalogue(()), landing_timezone=ZoneInfo("UTC"), now=end,
                           max_skew=timedelta(days=1)).readings
        for f in sorted(truth.landing.rglob("*.csv")) if b"value" in f.read_bytes()[:200]
    ]).sort_values(["parameter_id", "station_id", "reading_time"])  # fmt: skip
    kinds = {}
    for parameter, mine in readings.groupby("parameter_id"):
        series = [SeriesValues(own["value"].to_numpy(), DAYS) for _, own in mine.groupby("station_id")]
        kinds[int(parameter)] = propose(int(parameter), series).parameter.kind
    listed = {p: load_catalogue().of(p).kind for p in kinds}
    assert {p for p, kind in kinds.items() if kind == "counter"} <= {p for p, k in listed.items() if k == "counter"}
    assert {p for p, kind in kinds.items() if kind == "switch"} <= {p for p, k in listed.items() if k == "switch"}
    assert "counter" in kinds.values()


def test_unlisted_meter_is_inferred_from_a_panel_and_a_gauge_is_not() -> None:
    values = daily_values(3)
    values[1] = np.cumsum(np.abs(values[1] - 40))
    found = with_inferred_counters(CATALOGUE, make_panel(values, [1, 77, 78]))
    assert [p.parameter_id for p in found if not p.known] == [77]
    assert (found.of(77).kind, found.of(77).aggregation) == ("counter", "mean")
    assert with_inferred_counters(found, make_panel(values, [1, 77, 78])) == found


def test_unlisted_switch_that_goes_on_once_a_day_is_no_counter_to_a_version() -> None:
    days = np.tile(np.repeat([0.0, 1.0, 0.0], [8, 8, 8]), 14)
    panel = make_panel(np.stack([days, days]), [77, 77])
    assert with_inferred_counters(CATALOGUE, panel) == CATALOGUE


def test_unlisted_meter_that_idles_does_not_fall_where_the_version_found_that_it_counts() -> None:
    values = daily_values(2)
    values[1] = np.cumsum(np.abs(values[1] - 40))
    values[1, -48:] = values[1, -49] + np.repeat([0.0, 300.0], [30, 18])  # two days that rose once tell nothing alone
    panel = make_panel(values, [1, 77])
    version = replace(bundle("seasonal_naive_day"), catalogue=with_inferred_counters(CATALOGUE, panel))
    served = make_batch(version, panel, CATALOGUE).quantiles[1]
    assert (np.diff(served[:, 2]) >= 0).all()
    assert served.min() >= values[1, -1]
    assert make_batch(bundle("seasonal_naive_day"), panel, CATALOGUE).quantiles[1].min() < values[1, -1]


def test_unlisted_meter_that_rises_does_not_fall_whatever_the_version_knows() -> None:
    values = daily_values(2)
    values[1] = np.cumsum(np.abs(values[1] - 40))
    served = make_batch(bundle("seasonal_naive_day"), make_panel(values, [1, 77]), CATALOGUE).quantiles[1]
    assert (np.diff(served[:, 2]) >= 0).all()
    assert served.min() >= values[1, -1]


def test_parameter_learned_as_another_kind_is_served_by_a_stand_in_that_says_retrain() -> None:
    values = daily_values(2)
    values[1] = np.cumsum(np.abs(values[1] - 40))
    panel = make_panel(values, [1, 2])
    now = Catalogue(tuple(replace(p, kind="counter", valid_max=1e9) if p.parameter_id == 2 else p for p in CATALOGUE))
    batch = make_batch(bundle("last_value"), panel, now)
    ledger = batch.ledger.set_index("parameter_id")
    assert ledger["status"].tolist() == ["forecast", "fallback"]
    assert ledger["source"].tolist() == ["last_value", "seasonal_naive_day"]
    assert "parameter 2 is a counter, and this model version learned it as a gauge: retrain" in ledger.loc[2, "reason"]
    assert (np.diff(batch.quantiles[1][:, 2]) >= 0).all()
