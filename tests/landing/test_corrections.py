"""Which files replace those of their name: by the times of their readings."""

from datetime import UTC, date, datetime, timedelta

import pytest

from bts_assets.landing.corrections import Span, corrects

NOON = datetime(2026, 3, 9, 12, tzinfo=UTC)
TODAY, YEARS_AGO = date(2026, 3, 9), date(2000, 1, 1)


def span(first: int, last: int, *days: date) -> Span:
    return Span(NOON + timedelta(minutes=first), NOON + timedelta(minutes=last), days)


@pytest.mark.parametrize(
    ("newer", "corrected"),
    [
        ((0, 59), True),
        ((0, 80), True),
        ((0, 40), True),
        ((0, 0), True),
        ((-20, 59), True),
        ((-20, 80), True),
        ((10, 50), False),
        ((10, 59), False),
        ((59, 59), False),
        ((-20, 40), False),
        ((-20, 0), False),
        ((1, 60), False),
        ((59, 118), False),
        ((60, 119), False),
        ((90, 90), False),
        ((-60, -1), False),
    ],
)
def test_a_file_of_an_hour_is_replaced_by_what_begins_with_it_or_covers_it(
    newer: tuple[int, int], corrected: bool
) -> None:
    assert corrects(span(*newer), span(0, 59)) is corrected


def test_a_single_reading_is_corrected_at_its_time_alone() -> None:
    assert [corrects(span(at, at), span(0, 0)) for at in (-1, 0, 1)] == [False, True, False]


def test_one_reading_of_a_clock_that_is_far_off_covers_nothing() -> None:
    years = -26 * 365 * 24 * 60
    yesterday = span(-24 * 60, -60, date(2026, 3, 8))
    assert not corrects(span(years, 60, YEARS_AGO, TODAY), yesterday)
    assert corrects(span(years, 60, YEARS_AGO, date(2026, 3, 8), TODAY), yesterday)
