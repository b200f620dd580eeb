"""An operator's alarm log in the ledger, the limits taken from it, and breaches scored against what was alarmed."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from nights import HomeMaker
from small_nights import LOAD, SMALL, rows_of
from walked_nights import NIGHTS, Walk, origin_of, walk

from bts_assets.services.alarms import AlarmLogRefused, AlarmReport, take_in_alarms
from bts_assets.services.home import Home, open_home
from bts_assets.services.outages import add_one
from bts_assets.services.scoring import score_matured
from bts_assets.settings import load_settings
from bts_assets.storage.alerts import remove_outages

HEADER = "id,station_id,alarm_id,parameter_id,start_time,end_time,value,threshold"
NOW = datetime(2026, 3, 20, tzinfo=UTC)


def take(home: Home, folder: Path, *rows: str, name: str = "alarms.csv") -> AlarmReport:
    file = folder / name
    file.write_text("\n".join([HEADER, *rows]) + "\n")
    return take_in_alarms(home, file, NOW)


def row(
    number: int, value: float, threshold: float, station: int = 7, parameter: int = 116,
    start: str = "2026-03-09 01:00", end: str = "2026-03-09 02:00",
) -> str:  # fmt: skip
    return f"{number},{station},325,{parameter},{start},{end},{value},{threshold}"


def test_the_ledger_of_alarm_logs_knows_copies_and_corrections(make_home: HomeMaker, tmp_path: Path) -> None:
    home = make_home()
    assert take(home, tmp_path, row(1, 41, 40), row(2, 41, 40, start="x")).accepted == 1
    assert take(home, tmp_path, row(1, 41, 40), row(2, 41, 40, start="x")).status == "unchanged"
    assert take(home, tmp_path, row(1, 41, 40), row(2, 41, 40, start="x"), name="again.csv").status == "copy"
    assert take(home, tmp_path, row(3, 41, 40)).status == "accepted"  # corrects the first
    ledger = rows_of(home, "SELECT * FROM bts.alarm_ledger ORDER BY alarm_seq")
    assert [(r["path"], r["status"], r["superseded_by"]) for r in ledger] == [
        ("alarms.csv", "accepted", 3), ("again.csv", "copy", None), ("alarms.csv", "accepted", None)
    ]  # fmt: skip
    assert all(r["accepted"] + r["rejected"] + r["duplicate"] == r["rows"] for r in ledger)
    assert [r["reported_id"] for r in rows_of(home, "SELECT reported_id FROM bts.operator_alarm")] == [3]
    assert rows_of(home, "SELECT line, reason FROM bts.alarm_rejection") == [{"line": 3, "reason": "broken start_time"}]


def test_a_log_written_over_the_last_one_takes_no_alarm_away(make_home: HomeMaker, tmp_path: Path) -> None:
    home = make_home()
    take(home, tmp_path, row(1, 41, 40), row(2, 42, 40, start="2026-03-09 03:00", end="2026-03-09 04:00"))
    take(
        home,
        tmp_path,
        row(2, 42, 40, start="2026-03-09 03:00", end="2026-03-09 04:00"),
        row(3, 43, 40, start="2026-03-09 05:00", end="2026-03-09 06:00"),
    )
    assert take(home, tmp_path).rows == 0  # an hour without an alarm
    assert take(home, tmp_path, row(9, 41, 40, start="x")).accepted == 0
    told = rows_of(home, "SELECT reported_id FROM bts.operator_alarm ORDER BY 1")
    assert [alarm["reported_id"] for alarm in told] == [1, 2, 3]


def test_a_copy_of_a_log_takes_away_what_it_covers_alone_and_is_entered_once(
    make_home: HomeMaker, tmp_path: Path
) -> None:
    home = make_home()
    first, second = row(1, 41, 40), row(2, 41, 40, start="2026-03-10 01:00", end="2026-03-10 02:00")
    take(home, tmp_path, first, name="y.csv")
    take(home, tmp_path, second, name="x.csv")
    assert [take(home, tmp_path, first, name="x.csv").status for _ in range(2)] == ["copy", "unchanged"]
    told = rows_of(home, "SELECT reported_id FROM bts.operator_alarm ORDER BY 1")
    assert [alarm["reported_id"] for alarm in told] == [1, 2]


def test_an_alarm_that_a_later_log_ends_is_one(make_home: HomeMaker, tmp_path: Path) -> None:
    home = make_home()
    take(home, tmp_path, row(1, 41, 40, end=""), name="12.csv")
    take(home, tmp_path, row(1, 41, 40), name="13.csv")
    (alarm,) = rows_of(home, "SELECT ended_at FROM bts.operator_alarm")
    assert alarm["ended_at"] == datetime(2026, 3, 9, 2, tzinfo=UTC)


def test_limits_are_taken_where_there_are_none_and_mistakes_told_in_a_line_each(
    make_home: HomeMaker, tmp_path: Path
) -> None:
    home = make_home()
    report = take(
        home,
        tmp_path,
        row(1, 28.5, 28, parameter=143),  # a battery of 24 V: the catalogue's low limit is 46
        row(2, 30, 25, parameter=112),  # has no limit in the catalogue
        row(3, 30, 25, parameter=112, start="2026-03-09 03:00"),
        row(4, 5, 6, parameter=999),
        row(5, 41, 39, parameter=116),  # has one, of 40
    )
    assert rows_of(home, "SELECT * FROM bts.station_limit") == [
        {"station_id": 7, "parameter_id": 112, "low_limit": None, "high_limit": 25.0}
    ]
    assert report.limits == 1
    assert [note.split(":")[0] for note in report.notes] == [
        "station 7, parameter 143",
        "station 7",
        "1 stations of the log are known neither from landing files nor from BTS_STATIONS_FILE",
    ]
    assert "28, the high limit of its alarms, is below its low limit 46, and is not taken" in report.notes[0]
    assert "parameter 999 of its alarms is not in the catalogue" in report.notes[1]


def test_what_is_no_alarm_log_is_refused_and_kept_in_the_ledger(make_home: HomeMaker, tmp_path: Path) -> None:
    home = make_home()
    (tmp_path / "readings.csv").write_text("id,value\n1,2\n")
    with pytest.raises(AlarmLogRefused, match=r"is refused: column station_id is missing from the alarm log"):
        take_in_alarms(home, tmp_path / "readings.csv", NOW)
    with pytest.raises(AlarmLogRefused, match=r"cannot be read: No such file"):
        take_in_alarms(home, tmp_path / "nothing.csv", NOW)
    (entry,) = rows_of(home, "SELECT status, reason FROM bts.alarm_ledger")
    assert entry["status"] == "refused"


def test_the_recorded_log_seeds_no_limit_that_contradicts_the_catalogue(
    make_home: HomeMaker, shared_data: Path
) -> None:
    home = make_home(landing_timezone="Asia/Ho_Chi_Minh")
    report = take_in_alarms(home, shared_data / "bts" / "alarms-2017-10-23-12-vn.csv", NOW)
    assert (report.rows, report.accepted, report.limits) == (194, 194, 0)
    contradicted = "station 1161114002, parameter 143: 28, the high limit of its alarms, is below its low limit 46"
    assert any(note.startswith(contradicted) for note in report.notes)


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]) -> Iterator[Walk]:
    """Six nights walked through; station 1 has a limit of its own that its load passes now and then."""
    folder = tmp_path_factory.mktemp("alarmed")
    settings = load_settings(home=folder / "home", database_url=new_database(), file_stable_for=timedelta(0), **SMALL)
    home = open_home(settings)
    with home.engine.begin() as connection:
        limit = "INSERT INTO bts.station_limit (station_id, parameter_id, high_limit) VALUES (1, :load, 44)"
        connection.execute(sa.text(limit), {"load": LOAD})
    yield walk(home, folder / "landing")
    home.engine.dispose()


#: Which limits were passed within six hours, asked row by row.
BY_HAND = """
    SELECT l.batch_id, count(*) AS sides, sum(o.beyond::int) AS happened,
           sum(coalesce(f.probability_6h, 0)) AS expected
    FROM bts.forecast_ledger AS l
    JOIN bts.batch AS b USING (batch_id)
    JOIN bts.parameter AS p USING (parameter_id)
    LEFT JOIN bts.station_limit AS own USING (station_id, parameter_id)
    CROSS JOIN LATERAL (VALUES ('high', 1, coalesce(own.high_limit, p.high_limit)),
                               ('low', -1, coalesce(own.low_limit, p.low_limit))) AS x (side, sign, value)
    LEFT JOIN bts.breach_forecast AS f USING (batch_id, station_id, parameter_id, side)
    CROSS JOIN LATERAL (
        SELECT count(*) AS seen, coalesce(bool_or(x.sign * (n.value - x.value) > 0), false) AS beyond
        FROM bts.observation AS n WHERE (n.station_id, n.parameter_id) = (l.station_id, l.parameter_id)
          AND n.observed_at >= b.issued_at AND n.observed_at < b.issued_at + interval '6 hours'
    ) AS o
    WHERE x.value IS NOT NULL AND (o.beyond OR o.seen = 6) AND l.status <> 'excluded'
      AND l.station_id <> ALL(CAST(:without AS bigint[]))
    GROUP BY 1 ORDER BY 1
"""
SUMMED = """
    SELECT batch_id, sum(sides) AS sides, sum(happened) AS happened, sum(expected) AS expected
    FROM bts.breach_score WHERE truth = :truth AND hours = 6 GROUP BY 1 ORDER BY 1
"""


def sums(home: Home, query: str, **values: object) -> list[tuple[float, ...]]:
    return [tuple(round(float(v), 4) for v in row.values()) for row in rows_of(home, query, **values)]


def test_breaches_are_scored_against_observations_and_planned_outages_left_out(walked: Walk) -> None:
    home = walked.home
    score_matured(home)
    by_hand = sums(home, BY_HAND, without=[])
    assert sums(home, SUMMED, truth="observed") == by_hand
    assert sum(row[2] for row in by_hand) > 0
    targets = rows_of(home, "SELECT sum(targets) AS n FROM bts.forecast_score WHERE station_id = 1")[0]["n"]
    add_one(home, "1", origin_of(0).isoformat(), origin_of(NIGHTS).isoformat(), "test")
    score_matured(home)
    assert sums(home, SUMMED, truth="observed") == sums(home, BY_HAND, without=[1])
    assert rows_of(home, "SELECT count(*) AS n FROM bts.forecast_score WHERE station_id = 1") == [{"n": 0}]
    with home.engine.begin() as connection:
        remove_outages(connection, [1])
    score_matured(home)
    assert rows_of(home, "SELECT sum(targets) AS n FROM bts.forecast_score WHERE station_id = 1")[0]["n"] == targets
    (accuracy,) = rows_of(
        home, "SELECT * FROM bts.breach_accuracy WHERE days = 28 AND truth = 'observed' AND hours = 6"
    )
    assert 0 <= accuracy["reliability"] <= accuracy["brier"] < 1


def test_breaches_are_scored_against_what_was_alarmed_where_the_log_knows(walked: Walk, tmp_path: Path) -> None:
    home, start = walked.home, origin_of(1)
    at = [f"{start + timedelta(hours=h):%Y-%m-%d %H:%M}" for h in range(8)]
    # From the second origin on for seven hours; station 1 was alarmed above its limit, station 2 not of a limit.
    take(
        home,
        tmp_path,
        row(1, 45, 44, station=1, parameter=LOAD, start=at[0], end=at[2]),
        row(2, 999999, 999999, station=2, parameter=LOAD, start=at[1], end=at[7]),
    )
    score_matured(home)
    ((batch, sides, happened, _),) = sums(home, SUMMED, truth="alarmed")
    assert (batch, happened) == (walked.batches[1], 1)
    assert sides > 1
