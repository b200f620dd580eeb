"""Whether a challenger is due, by what a home has stored; what the schedule asks for, and where the reason is kept."""

from datetime import timedelta
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from small_nights import (
    LOAD,
    ORIGIN,
    SMALL,
    hourly,
    observe_due,
    rows_of,
    serving_version,
    simple_bundle,
    take_in,
    write,
)
from walked_nights import enter

from bts_assets.contracts.grid import DAY, format_duration
from bts_assets.contracts.origin import Origin
from bts_assets.defs.schedules import night_config, on_evidence
from bts_assets.services import champions
from bts_assets.services.nightly import forecast_and_publish
from bts_assets.services.retraining import due_by_age, read_evidence, whether_to_retrain
from bts_assets.services.scoring import score_matured
from bts_assets.storage.model_versions import champion_for


def served(home: Any, days: int) -> None:
    """A champion trained on so many days before ORIGIN."""
    version = enter(home, simple_bundle(), ORIGIN)
    with home.engine.begin() as connection:
        connection.execute(
            sa.text("UPDATE bts.model_version SET training_start = training_end - make_interval(days => :days)"),
            {"days": days},
        )
    champions.decide(home, version, champions.Decision("promoted", "hand", "the test says so"))


def test_a_challenger_is_due_by_the_age_of_the_newest_version_whatever_was_decided(make_home: Any) -> None:
    home = make_home(**SMALL)
    assert "the night trains the first" in whether_to_retrain(home, ORIGIN).words
    served(home, days=30)
    early = whether_to_retrain(home, ORIGIN + 6 * DAY)
    assert not early.due
    assert "the next is due after 7d, or on evidence after 3d" in early.words
    due = whether_to_retrain(home, ORIGIN + 7 * DAY)
    assert (due.due, due.words) == (True, "age: 7.0 days")
    assert due_by_age(home, ORIGIN + 7 * DAY) == due
    assert not due_by_age(home, ORIGIN + 6 * DAY).due
    home.settings.__dict__["retrain_after"] = timedelta(0)
    assert "by hand" in whether_to_retrain(home, ORIGIN + 700 * DAY).words
    assert not due_by_age(home, ORIGIN + 700 * DAY).due


def test_evidence_is_the_champions_own_and_faulty_sensors_are_none(make_home: Any, tmp_path: Any) -> None:
    home = make_home(**SMALL)
    champion = serving_version(home, simple_bundle())
    for station in (1, 2, 3):
        rows = hourly(range(60), station=station, first_id=100 * station)
        write(tmp_path, f"{station}.csv", *rows)
    take_in(home, tmp_path)
    observe_due(home)
    for kind, days in (("retrospective", 1), ("live", 0)):
        at = ORIGIN + days * DAY
        forecast_and_publish(home, Origin(at, kind, ""), champion, None)  # type: ignore[arg-type]
    score_matured(home)
    origin = ORIGIN + 2 * DAY
    with home.engine.begin() as connection:
        night = {"at": ORIGIN + DAY, "version": champion.model_version_id, "load": LOAD}
        for statement in (
            "INSERT INTO bts.drift_night VALUES (:at, :version, 1, 20, 1, 20, now())",
            "INSERT INTO bts.found_fault (issued_at, fault, station_id, parameter_id) VALUES (:at, 'stuck', 2, :load)",
            "INSERT INTO bts.drift_figure (issued_at, station_id, parameter_id)"
            " SELECT :at, station, :load FROM generate_series(1, 3) AS station",
        ):
            connection.execute(sa.text(statement), {k: v for k, v in night.items() if f":{k}" in statement})
        for scope, station, parameter in (("station", 1, -1), ("series", 2, LOAD), ("parameter", -1, LOAD)):
            connection.execute(
                sa.text(
                    "INSERT INTO bts.drift_evidence (issued_at, scope, station_id, parameter_id, figure, kind, alarm,"
                    " evidence, bound, nights) VALUES (:at, :scope, :station, :parameter, 'error', 'concept', true,"
                    " 9, 8, 1)"
                ),
                {"at": ORIGIN + DAY, "scope": scope, "station": station, "parameter": parameter},
            )
    newest = champion_for(home.engine, home.settings.grid)
    assert newest is not None
    found = read_evidence(home, newest, champion, origin)
    assert found.drifting_parameters == ("Load of Power Grid",)
    assert (found.drifting_stations, found.stations) == (1, 3)
    assert found.targets == 2 * 3 * 6
    # A series that rises by 1 an hour: the last value is all that this version knows.
    assert found.mase is not None
    assert found.baseline_mase is not None
    assert found.mase == pytest.approx(rows_of(home, _OF_LAST_VALUE)[0]["mase"])
    assert found.baseline_mase <= found.mase
    assert found.series == 3
    other = read_evidence(home, newest, newest.__class__(**{**vars(newest), "model_version_id": 99}), origin)
    assert (other.drifting_parameters, other.drifting_stations, other.mase) == ((), 0, None)


_OF_LAST_VALUE = """
    SELECT sum(absolute_error / scale) / sum(targets) AS mase FROM bts.scored_forecast
    WHERE candidate = 'last_value' AND scale > 0
"""


def test_the_schedule_asks_for_a_challenger_with_its_reason_as_a_tag(
    make_home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_home(**SMALL)
    served(home, days=30)
    for name in ("home", "database_url"):
        monkeypatch.setenv(f"BTS_{name.upper()}", str(getattr(home.settings, name)))
    for name in ("step", "context", "horizon"):
        monkeypatch.setenv(f"BTS_{name.upper()}", format_duration(getattr(home.settings, name)))
    assert on_evidence.job_name == "retrain"
    assert on_evidence.default_status == dg.DefaultScheduleStatus.RUNNING
    early, due = (
        on_evidence.evaluate_tick(
            dg.build_schedule_context(scheduled_execution_time=ORIGIN + timedelta(days=days, hours=4))
        )
        for days in (6, 7)
    )
    assert "is due after 7d" in str(early.skip_message)
    (request,) = due.run_requests or ()
    assert request.run_config == night_config(as_of="2026-03-17T02:00:00+00:00")
    assert request.tags["bts/reason"] == "age: 7.1 days"
    assert "dagster/partition" not in request.tags
