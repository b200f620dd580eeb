"""Replay of what a batch foresaw: with the limits and the rule of then, whatever they are now."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from nights import HomeMaker
from small_nights import LOAD, ORIGIN, SMALL, observe_due, rows_of, serving_version, simple_bundle, take_in, write

from bts_assets.contracts.origin import Origin
from bts_assets.monitoring.terms import limits_digest, limits_of_rows
from bts_assets.services.home import Home
from bts_assets.services.nightly import forecast_and_publish
from bts_assets.services.replay import Replayed, replay
from bts_assets.storage.model_versions import champion_for

HOUR = timedelta(hours=1)
HUMIDITY = 115
NIGHT = Origin(ORIGIN, "live", "the test says so")


def restless(station: int, parameter: int, level: float) -> Iterator[str]:
    """A reading an hour of a series that strays as none of the others does."""
    walk = np.cumsum(np.random.default_rng(station + parameter).standard_normal(24)) * (station + 2) / 4
    values = level + walk - walk[-1]
    for hour, value in enumerate(values):
        at = ORIGIN - (24 - hour) * HOUR
        yield f"{parameter}{station}{hour:02},{value:.4f},{station},{parameter},{at:%Y-%m-%d %H:%M:%S}"


@pytest.fixture
def home(make_home: HomeMaker, tmp_path: Path) -> Home:
    """A champion, and a day of four stations whose load comes near its limit of 30, one of which has its own."""
    made = make_home(**SMALL)
    serving_version(made, simple_bundle())
    series = [(station, LOAD, 28.8) for station in (1, 2, 3, 4)] + [(1, HUMIDITY, 89.5)]
    write(tmp_path / "landing", "a.csv", *(row for one in series for row in restless(*one)))
    take_in(made, tmp_path / "landing")
    observe_due(made)
    execute(made, "INSERT INTO bts.station_limit VALUES (2, :load, NULL, 29), (3, :load, '-Infinity', NULL)", load=LOAD)
    return made


def execute(home: Home, statement: str, **values: Any) -> None:
    with home.engine.begin() as connection:
        assert connection.execute(sa.text(statement), values).rowcount > 0


def night(home: Home) -> int:
    champion = champion_for(home.engine, home.settings.grid)
    assert champion is not None
    return forecast_and_publish(home, NIGHT, champion, None).batch_id


def agrees(found: Replayed) -> bool:
    return (found.differs, found.first, found.breaches.differing, found.breaches.why_not) == (None, None, 0, None)


def foreseen(home: Home) -> list[dict[str, Any]]:
    return rows_of(home, "SELECT * FROM bts.breach_forecast ORDER BY station_id, parameter_id, side")


def test_limits_and_rule_of_later_neither_change_nor_break_the_replay(home: Home) -> None:
    batch = night(home)
    before = foreseen(home)
    assert len(before) >= 5
    assert {row["limit_value"] for row in before if row["station_id"] == 2} == {29.0}
    execute(home, "UPDATE bts.station_limit SET high_limit = 5 WHERE station_id = 2")
    execute(home, "DELETE FROM bts.station_limit WHERE station_id = 3")
    later = home.settings.model_copy(update={"breach_persistence": 3 * HOUR, "breach_recovery": 0.5})
    changed = replace(home, settings=later)
    whole = replay(changed, batch)
    assert agrees(whole)
    assert whole.breaches.rows == len(before)
    for station, parameter in ((1, LOAD), (1, HUMIDITY), (2, LOAD), (4, LOAD)):
        one = replay(changed, batch, (station, parameter))
        assert agrees(one)
        mine = [row for row in before if (row["station_id"], row["parameter_id"]) == (station, parameter)]
        assert one.breaches.rows == len(mine) > 0
    assert foreseen(home) == before


def test_a_batch_keeps_its_limits_and_its_rule(home: Home) -> None:
    strict = home.settings.model_copy(update={"breach_persistence": timedelta(minutes=90), "breach_recovery": 0.25})
    batch = night(replace(home, settings=strict))
    (kept,) = rows_of(
        home,
        "SELECT s.digest, s.limits, b.breach_terms, b.settings FROM bts.batch AS b"
        " JOIN bts.limit_set AS s ON s.digest = b.limits_digest WHERE batch_id = :batch",
        batch=batch,
    )
    limits = {(2, LOAD): (None, 29.0), (3, LOAD): (-np.inf, None)}
    assert limits_of_rows(kept["limits"]) == limits
    assert limits_digest(limits) == kept["digest"]
    assert (kept["breach_terms"]["persistence"], kept["breach_terms"]["recovery"]) == (2, 0.25)
    assert set(kept["breach_terms"]["dependence"]) == {str(LOAD), str(HUMIDITY)}
    assert kept["settings"]["BTS_BREACH_PERSISTENCE"] == "90min"
    assert kept["settings"]["BTS_ALERT_PROBABILITY"] == "0.75"
    assert agrees(replay(home, batch))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("UPDATE bts.breach_forecast SET probability_24h = probability_24h + 0.001", "probability_24h is stored as"),
        ("UPDATE bts.breach_forecast SET expected_worst = expected_worst + 1e-9", "expected_worst is stored as"),
        (
            "UPDATE bts.breach_forecast SET first_likely_at = '2026-03-11'",
            "first_likely_at is stored as 2026-03-11 00:",
        ),
        ("DELETE FROM bts.breach_forecast", "is rebuilt, but not stored"),
        ("UPDATE bts.breach_forecast SET station_id = 9", "is rebuilt, but not stored"),
    ],
)
def test_an_altered_row_is_found_and_named(home: Home, change: str, told: str) -> None:
    batch = night(home)
    execute(home, f"{change} WHERE station_id = 2 AND side = 'high'")
    for found in (replay(home, batch), replay(home, batch, (2, LOAD))):
        assert found.differs == "breaches"
        assert found.forecasts.differing == found.ledger_differing == 0
        assert found.breaches.differing == 1 + ("station_id = 9" in change and found.breaches.rows > 2)
        assert found.first is not None
        assert found.first.startswith(f"the breach of station 2, parameter {LOAD}, high limit")
        assert told in found.first
    assert agrees(replay(home, batch, (1, LOAD)))


def test_limits_that_were_altered_are_found(home: Home) -> None:
    batch = night(home)
    execute(home, """UPDATE bts.limit_set SET limits = '[[2, 122, null, 29.5]]'""")
    found = replay(home, batch)
    assert found.differs == "breaches"
    assert found.first == "the limits that its breaches were computed with were deleted or altered (bts.limit_set)"


def test_a_batch_of_earlier_code_is_replayed_without_its_breaches_and_says_so(home: Home) -> None:
    batch = night(home)
    execute(home, "UPDATE bts.batch SET limits_digest = NULL, breach_terms = NULL")
    found = replay(home, batch)
    assert found.differs is None
    assert found.breaches.why_not == "the limits that it was made with were not kept then"


@pytest.mark.parametrize(("steps", "beyond"), [(1, True), (3, True), (4, False)])
def test_so_many_steps_in_a_row_as_the_batch_counts_are_a_breach_now(
    home: Home, tmp_path: Path, steps: int, beyond: bool
) -> None:
    rows = (
        f"7{hour},{40 if hour > 20 else 20},7,{LOAD},{ORIGIN - (24 - hour) * HOUR:%Y-%m-%d %H:%M:%S}"
        for hour in range(24)
    )
    write(tmp_path / "landing", "b.csv", *rows)
    take_in(home, tmp_path / "landing")
    observe_due(home)
    night(replace(home, settings=home.settings.model_copy(update={"breach_persistence": steps * HOUR})))
    now = rows_of(home, "SELECT station_id FROM bts.current_breach WHERE station_id = 7")
    assert bool(now) == beyond
