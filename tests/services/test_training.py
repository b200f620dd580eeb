"""How far back a training reads, and when the next one is due."""

from datetime import timedelta
from typing import Any

import dagster as dg
import pytest
from small_nights import ORIGIN, SMALL, simple_bundle
from walked_nights import enter

from bts_assets.contracts.grid import DAY, format_duration
from bts_assets.defs.schedules import by_age, night_config
from bts_assets.services.training import MOST_NUMBERS, training_start, why_not_retrain
from bts_assets.settings import load_settings

YEAR = 365 * DAY


def test_training_reads_all_that_is_stored_as_far_as_memory_is_bounded() -> None:
    hourly = load_settings(step="1h", context="7d", horizon="48h")
    assert training_start(hourly, ORIGIN - 9 * YEAR, ORIGIN, 200) == ORIGIN - 9 * YEAR
    many = training_start(hourly, ORIGIN - 9 * YEAR, ORIGIN, 10_000)
    assert (ORIGIN - many) % DAY == timedelta(0)
    assert 0.98 * MOST_NUMBERS < 10_000 * ((ORIGIN - many) / hourly.step) <= MOST_NUMBERS
    least = training_start(hourly, ORIGIN - 9 * YEAR, ORIGIN, 10**7)
    assert ORIGIN - least == 6 * (hourly.context + hourly.horizon)
    assert training_start(hourly, ORIGIN - DAY, ORIGIN, 10**7) == ORIGIN - hourly.context


def test_a_span_that_is_set_is_what_is_read() -> None:
    set_to = load_settings(step="1h", context="7d", horizon="48h", training_span="30d")
    assert training_start(set_to, ORIGIN - YEAR, ORIGIN, 10**7) == ORIGIN - 30 * DAY
    assert training_start(set_to, ORIGIN - 9 * DAY, ORIGIN, 1) == ORIGIN - 9 * DAY


def test_a_challenger_is_due_by_the_age_of_the_newest_version_whatever_was_decided(make_home: Any) -> None:
    home = make_home(**SMALL)
    assert why_not_retrain(home, ORIGIN) == "no model version fits the grid yet: the night trains the first"
    enter(home, simple_bundle(), ORIGIN)
    assert "is due after 7d" in str(why_not_retrain(home, ORIGIN + 6 * DAY))
    assert why_not_retrain(home, ORIGIN + 7 * DAY) is None
    home.settings.__dict__["retrain_after"] = timedelta(0)
    assert why_not_retrain(home, ORIGIN + 700 * DAY) == "BTS_RETRAIN_AFTER is 0: versions are trained by hand"


def test_the_schedule_asks_for_a_challenger_once_one_is_due(make_home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    home = make_home(**SMALL)
    enter(home, simple_bundle(), ORIGIN)
    for name in ("home", "database_url"):
        monkeypatch.setenv(f"BTS_{name.upper()}", str(getattr(home.settings, name)))
    for name in ("step", "context", "horizon"):
        monkeypatch.setenv(f"BTS_{name.upper()}", format_duration(getattr(home.settings, name)))
    assert by_age.job_name == "retrain"
    assert by_age.default_status == dg.DefaultScheduleStatus.RUNNING
    early, due = (
        by_age.evaluate_tick(dg.build_schedule_context(scheduled_execution_time=ORIGIN + timedelta(days=days, hours=4)))
        for days in (6, 7)
    )
    assert "is due after 7d" in str(early.skip_message)
    (request,) = due.run_requests or ()
    assert request.run_config == night_config(as_of="2026-03-17T02:00:00+00:00")
