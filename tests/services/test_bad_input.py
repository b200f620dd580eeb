"""What comes that should not: limits that contradict, nights without data, stations and series that stop."""

import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from nights import HomeMaker
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

from bts_assets.contracts.grid import DAY
from bts_assets.contracts.origin import Origin, OriginError
from bts_assets.services.alerts import check
from bts_assets.services.data_warnings import coarse_warning, limits_warning
from bts_assets.services.home import Home
from bts_assets.services.ingest import ingest
from bts_assets.services.night_origin import origin_at
from bts_assets.services.nightly import forecast_and_publish
from bts_assets.storage.loading import PublishRefused
from bts_assets.storage.model_versions import champion_for


@pytest.fixture
def home(make_home: HomeMaker, tmp_path: Path) -> Home:
    """A champion, and a day of two stations whose load rises by 1 an hour, from 10."""
    made = make_home(**SMALL)
    serving_version(made, simple_bundle())
    write(tmp_path / "landing", "a.csv", *hourly(range(24)), *hourly(range(24), station=2, first_id=100))
    take_in(made, tmp_path / "landing")
    observe_due(made)
    return made


def night(home: Home, at: Any = ORIGIN) -> int:
    champion = champion_for(home.engine, home.settings.grid)
    assert champion is not None
    return forecast_and_publish(home, Origin(at, "live", "the test says so"), champion, None).batch_id


def limit(home: Home, station: int, parameter: int, low: float | None, high: float | None) -> None:
    values = {"station": station, "parameter": parameter, "low": low, "high": high}
    with home.engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO bts.station_limit VALUES (:station, :parameter, :low, :high)"), values)


def limits_of(home: Home, view: str) -> list[tuple[int, str, float]]:
    found = rows_of(home, f"SELECT station_id, side, limit_value FROM bts.{view} ORDER BY 1, 2")
    return [(row["station_id"], row["side"], row["limit_value"]) for row in found]


def test_a_limit_that_is_not_below_its_opposite_does_not_hold_and_is_told(home: Home) -> None:
    assert limits_warning(home) is None
    limit(home, 2, LOAD, None, 20.0)
    limit(home, 1, LOAD, 40.0, None)  # the catalogue's high limit is 30
    assert limits_warning(home) == (
        "bts.station_limit: for parameter 122 of station 1 the low limit 40 is not below the high limit 30:"
        " the parameter's own limits hold instead; mend the row"
    )
    night(home)
    # By hour 23 both loads are at 33: above the catalogue's 30, and above the 20 of station 2.
    assert limits_of(home, "current_breach") == [(1, "high", 30.0), (2, "high", 20.0)]
    assert limits_of(home, "predicted_breach") == [(1, "high", 30.0), (2, "high", 20.0)]


def test_a_limit_of_an_unknown_parameter_is_told_and_changes_nothing(home: Home) -> None:
    before = night(home)
    found = limits_of(home, "predicted_breach")
    limit(home, 1, 987654, 1.0, 2.0)
    limit(home, 2, 987655, 1.0, 2.0)
    assert limits_warning(home) == (
        "bts.station_limit has a limit for parameter 987654 of station 1, which neither the catalogue nor any reading"
        " knows (1 more are like it): it holds for nothing; mend the row"
    )
    assert night(home) == before
    assert limits_of(home, "predicted_breach") == found


def test_a_night_without_data_is_refused_in_one_line_and_the_batch_before_it_serves(home: Home) -> None:
    before = night(home)
    with pytest.raises(PublishRefused, match="none of 2 series could be forecast; newest observation: 2026-03-09"):
        night(home, ORIGIN + 3 * DAY)
    assert [row["batch_id"] for row in rows_of(home, "SELECT batch_id FROM bts.latest_batch")] == [before]


def test_a_station_that_vanished_is_told_of_once_and_its_series_stay_accounted_for(home: Home, tmp_path: Path) -> None:
    night(home)
    at = ORIGIN + 2 * DAY
    write(tmp_path / "landing", "b.csv", *hourly(range(24, 72), station=2, first_id=100))
    ingest(home, tmp_path / "landing", now=at)
    observe_due(home)
    night(home, at)
    for later in range(2):
        check(home, at + timedelta(minutes=30 + later))
    silent = rows_of(home, "SELECT station_id, perceived_severity, cleared_at FROM bts.alert WHERE kind = 'silent'")
    assert silent == [{"station_id": 1, "perceived_severity": "major", "cleared_at": None}]
    (gone,) = rows_of(home, "SELECT status, reason, last_observed_at FROM bts.series_status WHERE station_id = 1")
    assert gone["status"] == "excluded"
    assert gone["reason"]
    assert gone["last_observed_at"] == ORIGIN - timedelta(hours=1)
    assert not [row for row in limits_of(home, "current_breach") if row[0] == 1]


def test_a_series_that_turned_constant_is_forecast_as_such_and_within_its_limits(home: Home, tmp_path: Path) -> None:
    at = ORIGIN + 2 * DAY
    rows = [f"{500 + h},12,1,{LOAD},{ORIGIN + timedelta(hours=h):%Y-%m-%d %H:%M:%S}" for h in range(48)]
    write(tmp_path / "landing", "b.csv", *rows)
    ingest(home, tmp_path / "landing", now=at)
    observe_due(home)
    night(home, at)
    found = rows_of(home, "SELECT DISTINCT q05, q50, q95 FROM bts.latest_forecast WHERE station_id = 1")
    assert len(found) == 1
    assert found[0]["q50"] == 12
    assert limits_of(home, "predicted_breach") == []


def test_a_clock_that_was_set_back_gives_each_step_the_readings_that_name_it(home: Home, tmp_path: Path) -> None:
    # After 12:00 the clock of station 1 is put back by six hours: the same hours come again, under new ids.
    rows = [f"{900 + h},{50 + h},1,{LOAD},{ORIGIN + timedelta(hours=6 + h):%Y-%m-%d %H:%M:%S}" for h in range(6)]
    write(tmp_path / "landing", "b.csv", *hourly(range(24, 36)))
    write(tmp_path / "landing", "c.csv", *rows)
    report = ingest(home, tmp_path / "landing", now=ORIGIN + timedelta(hours=18))
    assert report.taken == 2
    observe_due(home)
    query = (
        "SELECT value, readings FROM bts.observation WHERE station_id = 1 AND observed_at >= :at ORDER BY observed_at"
    )
    found = rows_of(home, query, at=ORIGIN)
    first, again = [10 + h for h in range(24, 36)], [50 + h for h in range(6)]
    twice = [(a + b) / 2 for a, b in zip(first[6:], again, strict=True)]
    assert [row["value"] for row in found] == [*first[:6], *twice]
    assert [row["readings"] for row in found] == [1] * 6 + [2] * 6


def test_where_nothing_could_be_read_the_largest_file_says_why(make_home: HomeMaker, tmp_path: Path) -> None:
    made = make_home(**SMALL)
    with pytest.raises(OriginError, match=r"^nothing has been observed yet: no landing file has come$"):
        origin_at(made, ORIGIN)
    landing = tmp_path / "unreadable"
    write(landing, "a.csv", *hourly(range(3)))
    (landing / "a.csv").write_text(re.sub(r"\d{4}-\d\d-\d\d.", "03/04/2017 ", (landing / "a.csv").read_text()))
    (landing / "b.csv").write_text("id,value,station_id,parameter_id,reading_time\n")
    take_in(made, landing)
    told = r"nothing has been observed yet: 2 landing files of 2 gave no reading; a\.csv: .*BTS_LANDING_DAYFIRST"
    with pytest.raises(OriginError, match=told):
        origin_at(made, ORIGIN)


@pytest.mark.parametrize(
    ("hours", "told"),
    [
        (range(0, 48, 3), "every 3h in most series.* a step every 1h.* set BTS_STEP=3h"),
        (range(48), None),
        ([0, 3, 4, 9, 11, 14, 20, 21, 26, 29, 31, 36, 40, 47], None),  # as events come
    ],
)
def test_readings_that_come_less_often_than_the_grid_are_warned_of(
    hours: Sequence[int], told: str | None, make_home: HomeMaker, tmp_path: Path
) -> None:
    made = make_home(**SMALL)
    assert coarse_warning(made) is None
    write(tmp_path / "coarse", "a.csv", *hourly(hours))
    take_in(made, tmp_path / "coarse")
    observe_due(made)
    warning = coarse_warning(made)
    assert warning is None if told is None else re.search(told, warning or "")
