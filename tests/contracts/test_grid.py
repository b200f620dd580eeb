"""The grid: where steps begin, what is refused and in which words, and durations written and read back."""

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bts_assets.contracts.errors import BtsError
from bts_assets.contracts.grid import Grid, context_for, format_duration
from bts_assets.contracts.quantiles import QUANTILES, STORED_QUANTILES
from bts_assets.settings import load_settings, parse_duration

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
STEPS = [timedelta(seconds=1), MINUTE, 15 * MINUTE, HOUR, 8 * HOUR, DAY]
by_step = pytest.mark.parametrize("step", STEPS, ids=format_duration)
instants = st.datetimes(datetime(1950, 1, 1), datetime(2100, 1, 1), timezones=st.timezones())  # noqa: DTZ001


def grid(step: timedelta = 15 * MINUTE, context: timedelta = 7 * DAY, horizon: timedelta = 2 * DAY) -> Grid:
    return Grid(step, context, horizon)


@by_step
def test_every_utc_day_begins_on_the_grid(step: timedelta) -> None:
    for midnight in (
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(1969, 7, 20, tzinfo=UTC),
        datetime(2026, 3, 29, tzinfo=UTC),
    ):
        assert grid(step).floor(midnight) == midnight


def test_steps_are_counted_from_the_epoch() -> None:
    hourly = grid(HOUR)
    assert hourly.instant(0) == datetime(1970, 1, 1, tzinfo=UTC)
    assert hourly.index(datetime(1970, 1, 2, 1, 59, tzinfo=UTC)) == 25
    assert hourly.index(datetime(1969, 12, 31, 23, 59, tzinfo=UTC)) == -1
    assert (grid().steps_per_day, grid().context_steps, grid().horizon_steps) == (96, 672, 192)


@given(instants, st.sampled_from(STEPS))
def test_floor_is_the_newest_grid_instant_not_after(instant: datetime, step: timedelta) -> None:
    floor = grid(step).floor(instant)
    assert floor <= instant < floor + step
    assert floor.tzinfo is UTC
    assert grid(step).floor(floor) == floor == grid(step).instant(grid(step).index(instant))


@pytest.mark.parametrize(
    ("instant", "floor"),
    [
        pytest.param(
            datetime(2026, 3, 10, 2, 14, 59, 999999, UTC), datetime(2026, 3, 10, 2, tzinfo=UTC), id="before_the_end"
        ),
        pytest.param(
            datetime(2026, 3, 10, 2, 15, tzinfo=UTC), datetime(2026, 3, 10, 2, 15, tzinfo=UTC), id="on_the_grid"
        ),
        pytest.param(
            datetime(2026, 3, 10, 2, 20, tzinfo=timezone(timedelta(hours=5, minutes=45))),
            datetime(2026, 3, 9, 20, 30, tzinfo=UTC),
            id="a_zone_of_quarter_hours",
        ),
        pytest.param(
            datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
            datetime(2026, 10, 25, 1, 30, tzinfo=UTC),
            id="the_second_half_past_two_of_a_night",
        ),
    ],
)
def test_floor_at_the_edges(instant: datetime, floor: datetime) -> None:
    assert grid().floor(instant) == floor


@pytest.mark.parametrize(("minutes", "weeks"), [(1, 1), (15, 1), (20, 2), (30, 3), (60, 6), (240, 6)])
def test_a_context_that_is_not_set_has_whole_weeks_and_as_many_as_the_step_is_long(minutes: int, weeks: int) -> None:
    assert context_for(minutes * MINUTE) == weeks * 7 * DAY
    assert load_settings(step=f"{minutes}min").context == weeks * 7 * DAY
    assert load_settings(step=f"{minutes}min", context="3d").context == 3 * DAY


def test_naive_instant_is_not_guessed_at() -> None:
    with pytest.raises(TypeError):
        grid().floor(datetime(2026, 3, 10))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"step": 7 * MINUTE}, "BTS_STEP=7min does not divide a day; use for example 5min, 15min or 1h"),
        ({"step": 2 * DAY}, "BTS_STEP=48h does not divide a day; use for example 5min, 15min or 1h"),
        ({"step": timedelta(0)}, "BTS_STEP=0s does not divide a day; use for example 5min, 15min or 1h"),
        ({"step": timedelta(seconds=0.5)}, "BTS_STEP=0.5s does not divide a day; use for example 5min, 15min or 1h"),
        ({"step": timedelta(seconds=1.5)}, "BTS_STEP=1.5s does not divide a day; use for example 5min, 15min or 1h"),
        ({"step": -HOUR}, "BTS_STEP=-3600s does not divide a day; use for example 5min, 15min or 1h"),
        ({"context": 100 * MINUTE}, "BTS_CONTEXT=100min is not a whole number of steps of BTS_STEP=15min"),
        ({"horizon": 5 * MINUTE}, "BTS_HORIZON=5min is not a whole number of steps of BTS_STEP=15min"),
        ({"horizon": timedelta(0)}, "BTS_HORIZON=0s is not a whole number of steps of BTS_STEP=15min"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_makes_no_grid_is_refused_in_one_line(given: dict[str, timedelta], line: str) -> None:
    with pytest.raises(BtsError) as refusal:
        grid(**given)
    assert str(refusal.value) == line


@pytest.mark.parametrize("text", ["15min", "1h", "24h", "48h", "3d", "7d", "56d", "1s", "90s", "0.5s", "90min", "0s"])
def test_durations_are_written_as_people_write_them(text: str) -> None:
    assert format_duration(parse_duration(text)) == text


@given(st.timedeltas(timedelta(0), timedelta(days=36_500)))
def test_written_duration_is_read_back(span: timedelta) -> None:
    assert parse_duration(format_duration(span)) == span


def test_stored_quantiles_are_among_those_forecast() -> None:
    assert set(STORED_QUANTILES) < set(QUANTILES)
    assert list(QUANTILES) == sorted(QUANTILES)
