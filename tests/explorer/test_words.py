"""How values are said, how fresh the forecasts are said to be, and what is kept of dear answers."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from bts_assets.explorer import words
from bts_assets.explorer.answer_cache import AnswerCache
from bts_assets.explorer.question import Question
from bts_assets.explorer.request import Freshness

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (46_330.0, "46,330"),
        (24.123456, "24.12"),
        (0.0, "0"),
        (-0.0, "0"),
        (-0.00312, "-0.0031"),
        (1234567.0, "1,234,567"),
        (3e-9, "3e-09"),
        (float("nan"), "–"),
        (None, "–"),
    ],
)
def test_numbers_are_plain_digits(value: float | None, said: str) -> None:
    assert words.number(value) == said


def test_units_shares_counts_and_times() -> None:
    assert words.with_unit(3.14159, "A", 3) == "3.14 A"
    assert words.with_unit(2.0, "") == "2"
    assert [words.fixed(v) for v in (0.6, 1.0, 1234.5, None)] == ["0.60", "1.00", "1,234.50", "–"]
    assert [words.long(n * HOUR) for n in (0.5, 3.73, 11.2)] == ["30 min", "3.7 h", "11 h"]
    assert words.with_unit(None, "A") == "–"
    assert [words.share(v) for v in (0, 0.001, 0.5, 1, None)] == ["0 %", "<1 %", "50 %", "100 %", "–"]
    assert words.between(49.984, 50.0161, "Hz") == "49.984 to 50.016 Hz"
    assert words.between(19_527.2, 19_546.9, None) == "19,527 to 19,547"
    assert [words.between(v, v, "A") for v in (0.0, -0.0, 231.25)] == ["0 A", "0 A", "231.2 A"]
    assert words.beyond(51.0212, 51.0, "Hz") == "51.021 Hz"
    assert [words.beyond(v, 230.5, "V") for v in (231.0, 244.81, None)] == ["231 V", "245 V", "–"]
    assert [words.sized(v, 0.177, "°C") for v in (0.1771, -0.05, None)] == ["0.177 °C", "-0.050 °C", "–"]
    assert words.together(-0.0001, 12.0) == ["0", "12"]
    assert [words.count(n, "night") for n in (1, 1200)] == ["1 night", "1,200 nights"]
    assert words.at(datetime(2020, 1, 2, 3, 4, tzinfo=UTC), ZoneInfo("Asia/Ho_Chi_Minh")) == "2 Jan 2020 10:04"
    assert words.iso(datetime(2020, 1, 2, 3, 4, tzinfo=UTC)) == "2020-01-02T03:04:00Z"
    assert [words.age(n * HOUR) for n in (0.5, 3, 72)] == ["less than 1 h", "3 h", "3 days"]
    assert words.shown("\x1b[31mred") == "\\x1b[31mred"


def freshness(state: str, issued: timedelta, observed: timedelta, ends: timedelta) -> Freshness:
    batch = {
        "state": state,
        "issued_at": NOW - issued,
        "last_observed_at": NOW - observed,
        "forecasts_end_at": NOW + ends,
    }
    return Freshness(batch, {"last_observed_at": NOW - observed}, NOW)


def test_a_missed_night_is_late_while_its_forecasts_reach_ahead() -> None:
    assert freshness("current", 2 * HOUR, 2 * HOUR, 46 * HOUR).state == "current"
    assert freshness("stale", 30 * HOUR, 31 * HOUR, 18 * HOUR).state == "late"
    assert freshness("stale", 60 * HOUR, 61 * HOUR, -12 * HOUR).state == "stale"
    assert freshness("stale", 30 * HOUR, 100 * HOUR, 18 * HOUR).state == "stale"  # readings had stopped before it
    assert freshness("retrospective", 90 * HOUR, 91 * HOUR, -42 * HOUR).kind == "note"
    assert Freshness(None, {"last_observed_at": None}, NOW).state == "none"


def test_a_dear_answer_is_asked_again_only_when_something_new_is_there(server_url: str) -> None:
    engine = sa.create_engine(server_url.replace("postgresql://", "postgresql+psycopg2://"))
    kept, question = AnswerCache(), Question("an instant", "SELECT clock_timestamp() AS at")
    with engine.connect() as connection:
        first = kept.answer(connection, question, 1)
        assert kept.answer(connection, question, 1) == first
        assert kept.answer(connection, question, 2) != first
    engine.dispose()
