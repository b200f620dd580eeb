"""Which notices tell of which planted fault, which are false alarms, and how early a breach was expected."""

from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from bts_assets.contracts.grid import DAY
from bts_assets.monitoring.rehearsal import BREACH, DRIFT, EXPECTED, Judged, Notice, Planted, judge, lasts

NIGHT: Final = datetime(2026, 3, 1, tzinfo=UTC)
HOUR: Final = timedelta(hours=1)
COOLING: Final = Planted("dying_air_conditioner", 1, None, NIGHT, NIGHT + 3 * DAY)
STUCK: Final = Planted("stuck_sensor", 2, 115, NIGHT, NIGHT)
SEASON: Final = Planted("change_of_season", None, None, NIGHT, NIGHT)


def one(notice: Notice, *planted: Planted, beyond: dict[tuple[int, int, str], list[datetime]] | None = None) -> Judged:
    (judged,) = judge(planted or (COOLING, STUCK, SEASON), [notice], beyond or {}, 1000).judged
    return judged


@pytest.mark.parametrize(
    ("notice", "fault"),
    [
        (Notice(NIGHT, "cooling", 1, None, ""), COOLING),
        (Notice(NIGHT, DRIFT, 1, 111, ""), COOLING),
        (Notice(NIGHT, DRIFT, 1, None, ""), COOLING),
        (Notice(NIGHT, "stuck", 2, 115, ""), STUCK),
        (Notice(NIGHT, "stuck", 2, 114, ""), None),  # another sensor
        (Notice(NIGHT, DRIFT, 2, 115, ""), STUCK),
        (Notice(NIGHT, DRIFT, 3, 114, ""), SEASON),
        (Notice(NIGHT, DRIFT, None, 114, ""), SEASON),
        (Notice(NIGHT, DRIFT, 3, 141, ""), None),  # no weather moves a battery's voltage
        (Notice(NIGHT, "cooling", 3, None, ""), None),  # at the same outdoor temperature
        (Notice(NIGHT - DAY, "cooling", 1, None, ""), None),  # before it began
        (Notice(NIGHT, "battery", 1, None, ""), None),
    ],
)
def test_a_notice_tells_of_the_fault_that_explains_it(notice: Notice, fault: Planted | None) -> None:
    judged = one(notice)
    assert judged.fault == fault
    assert judged.false == (fault is None)


def test_a_breach_is_false_if_it_did_not_come_and_its_station_has_no_fault_that_explains_it() -> None:
    expected = Notice(NIGHT, EXPECTED, 1, 111, "", "high")
    assert (one(expected).false, one(expected).fault) == (False, COOLING)
    elsewhere = Notice(NIGHT, EXPECTED, 3, 111, "", "high")
    assert one(elsewhere).false  # the season excuses none
    late = {(3, 111, "high"): [NIGHT - HOUR, NIGHT + 48 * HOUR]}
    assert one(elsewhere, beyond=late).false
    assert one(elsewhere, beyond={(3, 111, "high"): [NIGHT]}).fault == SEASON
    came = one(expected, beyond={(1, 111, "high"): [NIGHT + 30 * HOUR, NIGHT + 31 * HOUR]})
    assert (came.false, came.lead, came.fault) == (False, 30 * HOUR, COOLING)
    # It came, and no fault explains it: a grid fails without one.
    unplanted = one(Notice(NIGHT, EXPECTED, 9, 121, "", "low"), beyond={(9, 121, "low"): [NIGHT + HOUR]})
    assert (unplanted.false, unplanted.fault) == (False, None)
    now = one(Notice(NIGHT, BREACH, 9, 121, "", "low"))
    assert (now.false, now.lead) == (False, None)


def test_a_report_has_the_first_notice_of_each_fault_and_the_median_lead_of_what_came() -> None:
    notices = [
        Notice(NIGHT + 2 * DAY, EXPECTED, 1, 111, "", "high"),
        Notice(NIGHT + DAY, "cooling", 1, None, ""),
        Notice(NIGHT + DAY, EXPECTED, 9, 121, "", "low"),
        Notice(NIGHT + DAY, DRIFT, 3, 141, ""),
    ]
    beyond = {(1, 111, "high"): [NIGHT + 2 * DAY + 10 * HOUR], (9, 121, "low"): [NIGHT + DAY + 4 * HOUR]}
    report = judge([COOLING, STUCK], notices, beyond, 2000)
    cooling, stuck = report.faults
    assert cooling.first is not None
    assert cooling.first.how == "cooling"
    assert cooling.expected is not None
    assert cooling.expected.lead == 10 * HOUR
    assert (stuck.first, stuck.expected) == (None, None)
    assert report.median_lead == 7 * HOUR
    assert [j.notice for j in report.false_alarms] == [notices[3]]
    assert report.false_per_1000 == 0.5


@pytest.mark.parametrize(
    ("levels", "lasting"),
    [
        ([-0.4, -0.3, -0.5, -0.4], True),
        ([0.4, 0.1, 0.3, 0.3], True),
        ([5.0, 0.1, 0.2, -0.1], False),  # an outage of one night
        ([0.4, -0.4, -0.4], False),
        ([0.4, 0.4], False),  # the last night but one: too soon to know
        ([0.4, float("nan"), 0.4, 0.4], True),
        ([0.0, 0.0, 0.0], False),
    ],
)
def test_drift_lasts_where_half_of_it_is_left_in_the_nights_after(levels: list[float], lasting: bool) -> None:
    assert lasts(levels) == lasting


def test_drift_that_lasted_is_not_false_though_nothing_was_planted() -> None:
    notices = [Notice(NIGHT, DRIFT, station, 141, "", figure="level") for station in (3, 4)]
    report = judge([COOLING], notices, {}, 1000, {notices[0]})
    assert [j.notice for j in report.false_alarms] == notices[1:]
    assert [j.notice for j in report.unplanted_drift] == notices[:1]
