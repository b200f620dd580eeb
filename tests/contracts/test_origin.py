"""Which origin a run takes, by what it was asked, by its clock and by what was observed."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from bts_assets.contracts.grid import Grid
from bts_assets.contracts.origin import Origin, OriginError, choose_origin

HOUR = timedelta(hours=1)
MICROSECOND = timedelta(microseconds=1)
GRID = Grid(HOUR, 24 * HOUR, 12 * HOUR)
NOW = datetime(2026, 3, 10, 2, 30, tzinfo=UTC)
TWO = datetime(2026, 3, 10, 2, tzinfo=UTC)


def origin(as_of: datetime | None = None, observed_until: datetime | None = TWO, now: datetime = NOW) -> Origin:
    return choose_origin(GRID, now, as_of, observed_until)


def test_origin_asked_for_is_taken() -> None:
    assert origin(as_of=TWO) == Origin(TWO, "live", "as asked")


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(TWO + 59 * timedelta(minutes=1) / 2, id="within_a_step"),
        pytest.param(NOW, id="now"),
        pytest.param(NOW.astimezone(ZoneInfo("Asia/Kathmandu")), id="in_another_zone"),
    ],
)
def test_origin_asked_for_is_taken_down_to_the_grid(asked: datetime) -> None:
    assert origin(as_of=asked).issued_at == TWO
    assert origin(as_of=asked).issued_at.tzinfo is UTC


def test_origin_asked_for_wins_over_an_old_recording() -> None:
    asked = TWO - 100 * HOUR
    assert origin(as_of=asked, observed_until=TWO - 2000 * HOUR).issued_at == asked


def test_nothing_asked_takes_the_newest_grid_instant() -> None:
    assert origin() == Origin(TWO, "live", "the newest grid instant")
    assert origin(now=TWO).issued_at == TWO
    assert origin(now=TWO - MICROSECOND).issued_at == TWO - HOUR


@pytest.mark.parametrize("late", [HOUR, 11 * HOUR, 12 * HOUR], ids=str)
def test_missing_hours_within_a_horizon_are_forecast_through(late: timedelta) -> None:
    assert origin(observed_until=TWO - late).issued_at == TWO


def test_readings_ahead_of_the_clock_do_not_move_the_origin() -> None:
    assert origin(observed_until=TWO + 9 * HOUR).issued_at == TWO


def test_recording_older_than_a_horizon_is_forecast_from_its_end() -> None:
    end = TWO - 13 * HOUR
    chosen = origin(observed_until=end)
    assert (chosen.issued_at, chosen.kind) == (end, "retrospective")
    assert "recording" in chosen.why


def test_future_is_refused_in_one_line() -> None:
    with pytest.raises(OriginError) as refusal:
        origin(as_of=NOW + MICROSECOND)
    assert str(refusal.value).startswith(
        "--as-of 2026-03-10T02:30:00.000001+00:00 lies in the future; now is 2026-03-10"
    )
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("as_of", [None, TWO], ids=["nothing_asked", "as_asked"])
def test_nothing_observed_is_refused_in_one_line(as_of: datetime | None) -> None:
    with pytest.raises(OriginError, match=r"nothing has been observed yet: .*bts\.ingest_ledger$"):
        origin(as_of=as_of, observed_until=None)


def test_retrospective_is_what_is_made_more_than_a_horizon_after_its_origin() -> None:
    assert origin(as_of=TWO, now=TWO + GRID.horizon).kind == "live"
    assert origin(as_of=TWO, now=TWO + GRID.horizon + MICROSECOND).kind == "retrospective"
