"""What is scored beside the forecasts that serve: every baseline, a challenger in shadow; and what is left out."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from nights import HomeMaker
from rivals import FAR, FAR_MAE, HOUR, NEAR, NEAR_MAE, STATIONS, entered, night, observe, promoted
from small_nights import LOAD, ORIGIN, SMALL, observe_due, rows_of, serving_version, simple_bundle, take_in, write

from bts_assets.contracts.grid import DAY, Grid
from bts_assets.contracts.origin import Origin
from bts_assets.services.home import Home
from bts_assets.services.known_at_origin import what_is_given
from bts_assets.services.nightly import forecast_and_publish
from bts_assets.services.outages import add_one
from bts_assets.services.probation import begin, run_beside
from bts_assets.services.scoring import BASELINES, score_matured
from bts_assets.storage.decisions import Decision

ERRORS = """
    SELECT candidate, sum(absolute_error) AS error, sum(targets) AS targets FROM bts.scored_forecast
    WHERE batch_id = :batch AND station_id = :station GROUP BY candidate ORDER BY candidate
"""


@pytest.fixture
def home(make_home: HomeMaker, tmp_path: Path) -> Home:
    """Readings that rise by one an hour, until all targets of the night at `ORIGIN` have come."""
    made = make_home(**SMALL)
    observe(made, tmp_path / "landing", hours=36)
    return made


def errors(home: Home, batch: int, station: int = 1) -> dict[str, tuple[float, int]]:
    rows = rows_of(home, ERRORS, batch=batch, station=station)
    return {row["candidate"]: (row["error"], row["targets"]) for row in rows}


def test_a_challenger_in_shadow_is_scored_on_the_targets_of_what_serves(home: Home) -> None:
    champion, challenger = promoted(home, entered(home, 1, FAR)), entered(home, 2, NEAR)
    probation = begin(home, challenger, 2, 0.0, Decision("probation", "hand", "a test"))
    batch = night(home, champion)
    with what_is_given(home, Origin(ORIGIN, "live", "the test says so")) as given:
        shadow = run_beside(home, probation, given, batch, "a run")
    assert shadow is not None
    assert score_matured(home).batches == (batch, shadow)
    served = "SELECT role, model_version_id, sum(targets) AS targets, sum(absolute_error) AS error"
    served += " FROM bts.scored_forecast WHERE batch_id = :batch AND candidate = 'served' GROUP BY 1, 2"
    targets = 6 * len(STATIONS)
    for number, role, version, mae in (
        (batch, "served", champion, FAR_MAE),
        (shadow, "shadow", challenger, NEAR_MAE),
    ):
        assert rows_of(home, served, batch=number) == [
            {
                "role": role,
                "model_version_id": version.model_version_id,
                "targets": targets,
                "error": pytest.approx(mae * targets),
            }
        ]
    rows = rows_of(home, "SELECT role, mae FROM bts.forecast_accuracy WHERE days = 7 AND candidate = 'served'")
    assert {row["role"]: row["mae"] for row in rows} == pytest.approx({"served": FAR_MAE, "shadow": NEAR_MAE})


def test_targets_within_a_planned_outage_are_left_out_of_every_candidates_scores(home: Home) -> None:
    batch = night(home, promoted(home, entered(home, 1, NEAR)))
    score_matured(home)
    whole = errors(home, batch)
    assert whole["served"] == (pytest.approx(6 * NEAR_MAE), 6)
    # From within the second step until within the third: both are left out, whose errors are 2 and 3.
    add_one(home, "1", (ORIGIN + 1.5 * HOUR).isoformat(), (ORIGIN + 2.5 * HOUR).isoformat(), "new rectifier")
    assert score_matured(home).batches == (batch,)
    left = errors(home, batch)
    assert left["served"] == left["last_value"] == (pytest.approx(6 * NEAR_MAE - 5), 4)
    assert {name: targets for name, (_, targets) in left.items()} == dict.fromkeys(whole, 4)
    assert errors(home, batch, station=2)["served"] == whole["served"]


def test_every_baseline_is_scored_by_its_own_forecast(make_home: HomeMaker, tmp_path: Path) -> None:
    grid = Grid(timedelta(hours=6), 7 * DAY, DAY)
    home = make_home(step=grid.step, context=grid.context, horizon=grid.horizon)
    champion = serving_version(home, simple_bundle(grid=grid))
    values = np.random.default_rng(5).normal(20, 3, 32).round(3)  # of eight days, four a day
    at = [ORIGIN - grid.context + k * grid.step for k in range(len(values))]
    rows = (f"{k},{value},1,{LOAD},{at[k]:%Y-%m-%d %H:%M:%S}" for k, value in enumerate(values))
    write(tmp_path / "landing", "a.csv", *rows)
    take_in(home, tmp_path / "landing")
    observe_due(home)
    batch = forecast_and_publish(home, Origin(ORIGIN, "live", "the test says so"), champion, None).batch_id
    score_matured(home)
    past, truth = values[:28], values[28:]
    held = {
        "last_value": past[-1],
        "seasonal_naive_day": past[-4:],
        "seasonal_naive_week": past[:4],
        "window_median": np.median(past[-4:]),
    }
    assert held.keys() == set(BASELINES)
    found = errors(home, batch)
    for name, points in held.items():
        assert found[name] == (pytest.approx(np.abs(truth - points).sum()), 4), name
