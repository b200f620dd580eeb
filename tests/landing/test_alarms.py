"""Alarm logs: what is taken, what is rejected and why, and what is odd and told in one line each."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from bts_assets.landing.alarms import AlarmLog, parse_alarm_log
from bts_assets.landing.errors import LandingFileRefused

HEADER = "id,station_id,alarm_id,parameter_id,start_time,end_time,value,threshold"
NOW = datetime(2026, 3, 10, tzinfo=UTC)


def parse(*rows: str, header: str = HEADER, zone: str = "UTC") -> AlarmLog:
    return parse_bytes("\n".join([header, *rows]).encode() + b"\n", zone)


def parse_bytes(data: bytes, zone: str = "UTC") -> AlarmLog:
    log = parse_alarm_log(data, zone=ZoneInfo(zone), now=NOW, max_skew=timedelta(days=1), max_bytes=1 << 20)
    assert len(log.alarms) + sum(log.reasons.values()) + log.duplicates == log.rows
    assert len(log.rejected) == sum(log.reasons.values())
    return log


def row(start: str = "00:00", end: str = "01:00", station: str = "7", value: str = "241", number: int = 1) -> str:
    return f"{number},{station},308,121,2026-03-09 {start},{f'2026-03-09 {end}' if end else ''},{value},240"


def test_a_recorded_log_is_taken_whole(shared_data: Path) -> None:
    data = (shared_data / "bts" / "alarms-2017-10-23-12-vn.csv").read_bytes()
    log = parse_bytes(data, "Asia/Ho_Chi_Minh")
    assert (log.rows, len(log.alarms), log.reasons) == (194, 194, {})
    sides = log.alarms.groupby(["alarm_kind", "side"]).size().to_dict()
    assert sides == {(304, "high"): 1, (308, "high"): 59, (309, "low"): 43, (310, "high"): 3, (312, "high"): 9}
    assert str(log.alarms["started_at"].min()) == "2017-10-23 04:50:03+00:00"
    assert log.notes == (
        "6 alarms without an end count until the newest time of the log: lines 46, 57, 73, ...",
    )  # fmt: skip


def test_sides_are_read_off_value_and_threshold_and_codes_are_no_measurements() -> None:
    log = parse(row(value="241"), row(value="199", number=2), row(value="999999", number=3), row(value="", number=4))
    assert log.alarms["side"].tolist() == ["high", "low", None, None]
    assert log.alarms["value"].isna().tolist() == [False, False, True, True]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (row(station="BTS-7"), "broken station_id"),
        (row(start="25:00"), "broken start_time"),
        (row(end="noon"), "broken end_time"),
        (row("02:00", "01:00"), "end_time before start_time"),
        (row().replace("2026-03-09 00", "2027-03-09 00"), "start_time in the future"),
        (row().replace("2026-03-09 00", "1970-01-01 00"), "start_time before 2000"),
        ("1,7", "broken alarm_id"),
    ],
    ids=lambda value: value if " " in value and "," not in value else "",
)
def test_a_broken_row_is_rejected_with_its_reason_and_no_other(bad: str, reason: str) -> None:
    log = parse(row(), bad, row("02:00", "03:00"))
    assert log.reasons == {reason: 1}
    assert log.rejected["line"].tolist() == [3]
    assert log.alarms["line"].tolist() == [2, 4]


def test_rows_that_say_the_same_count_once() -> None:
    log = parse(row(), row(), row("02:00", "03:00"))
    assert (len(log.alarms), log.duplicates) == (2, 1)


def test_overlapping_and_endless_alarms_are_taken_and_told_in_a_line_each() -> None:
    log = parse(
        row("00:00", "03:00", number=1),
        row("01:00", "02:00", number=2),
        row("02:30", "04:00", number=3),
        row("02:30", "04:00", station="8", number=4),
        row("05:00", "", number=5),
        row("06:00", "07:00", number=6),
    )
    assert log.notes == (
        "1 alarms without an end count until the newest time of the log: line 6",
        "3 alarms begin before an earlier one of their kind and station ends, and count as one with it: lines 3, 4, 7",
    )
    assert str(log.alarms.loc[log.alarms["line"] == 6, "until"].item()) == "2026-03-09 07:00:00+00:00"


def test_times_without_an_offset_are_of_the_landing_zone() -> None:
    log = parse(row("07:00", "08:00"), zone="Asia/Ho_Chi_Minh")
    assert str(log.alarms["started_at"].item()) == "2026-03-09 00:00:00+00:00"


def test_a_log_of_semicolons_blank_lines_and_a_mark_is_read() -> None:
    text = f"\ufeff{HEADER}\r\n\r\n{row()}\r\n".replace(",", ";")
    assert len(parse_bytes(text.encode()).alarms) == 1
    assert parse().rows == 0


@pytest.mark.parametrize("header", ["", "id,value,station_id,parameter_id,reading_time"])
def test_a_file_that_is_no_alarm_log_is_refused_in_one_line(header: str) -> None:
    with pytest.raises(LandingFileRefused, match=r"column \w+ is missing from the alarm log") as refused:
        parse(header=header)
    assert "\n" not in str(refused.value)
