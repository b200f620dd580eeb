"""When a night is, on nights of clock changes too."""

from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from bts_assets.contracts.nights import FILES_LAND, may_start, origin_of, successor_due

BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK, ZoneInfo("UTC"), ZoneInfo("Australia/Lord_Howe")])
def test_every_night_of_a_year_has_one_origin_and_files_have_half_an_hour(zone: ZoneInfo) -> None:
    days = [date(2026, 1, 1) + timedelta(days=k) for k in range(366)]
    origins = [origin_of(day, zone).astimezone(UTC) for day in days]
    gaps = {later - earlier for earlier, later in pairwise(origins)}
    assert gaps <= {timedelta(hours=h) for h in (23, 23.5, 24, 24.5, 25)}
    for origin in origins:
        assert not may_start(origin, zone)
        assert not may_start(origin + FILES_LAND - timedelta(seconds=1), zone)
        assert may_start((origin + FILES_LAND).astimezone(zone), zone)


@pytest.mark.parametrize(
    ("zone", "issued_at", "due"),
    [
        (BERLIN, "2026-03-28T01:00", "2026-03-29T02:00"),  # four in summer time, 25 hours later by the sun
        (BERLIN, "2026-03-29T01:00", "2026-03-30T02:00"),
        (BERLIN, "2026-10-24T00:00", "2026-10-25T03:00"),
        (BERLIN, "2026-10-25T00:00", "2026-10-25T03:00"),  # the first of two twos is before the origin
        (BERLIN, "2026-10-25T01:00", "2026-10-26T03:00"),
        (NEW_YORK, "2026-03-07T07:00", "2026-03-08T08:00"),
        (NEW_YORK, "2026-10-31T06:00", "2026-11-01T09:00"),
        (ZoneInfo("UTC"), "2026-05-01T18:30", "2026-05-02T04:00"),  # asked for by hand in the evening
        (ZoneInfo("UTC"), "2026-05-01T01:59", "2026-05-01T04:00"),  # by hand, just before the night's own
        (ZoneInfo("Asia/Ho_Chi_Minh"), "2026-05-01T19:00", "2026-05-02T21:00"),
    ],
)
def test_the_successor_is_due_by_the_clock_of_the_first_night_after(zone: ZoneInfo, issued_at: str, due: str) -> None:
    assert successor_due(utc(issued_at), zone, time(4)) == utc(due)
