"""Which files replace those of their name: by the times of their readings."""

from datetime import UTC, datetime, timedelta

import pytest

from bts_assets.landing.corrections import Span, corrects, drops

NOON = datetime(2026, 3, 9, 12, tzinfo=UTC)


def span(first: int, last: int) -> Span:
    return Span(NOON + timedelta(minutes=first), NOON + timedelta(minutes=last))


@pytest.mark.parametrize(
    ("newer", "corrected", "dropped"),
    [
        ((0, 59), True, False),
        ((0, 80), True, False),
        ((-20, 59), True, False),
        ((-20, 80), True, False),
        ((10, 50), True, True),
        ((10, 59), True, True),
        ((0, 40), True, True),
        ((30, 30), True, True),
        ((-20, 40), False, None),
        ((-20, 0), False, None),
        ((1, 60), False, None),
        ((59, 118), False, None),
        ((60, 119), False, None),
        ((90, 90), False, None),
        ((-60, -1), False, None),
    ],
)
def test_a_file_of_an_hour_is_replaced_by_what_covers_it_or_lies_within_it(
    newer: tuple[int, int], corrected: bool, dropped: bool | None
) -> None:
    assert corrects(span(*newer), span(0, 59)) is corrected
    if corrected:
        assert drops(span(*newer), span(0, 59)) is dropped


def test_a_single_reading_is_corrected_at_its_time_alone() -> None:
    assert [corrects(span(at, at), span(0, 0)) for at in (-1, 0, 1)] == [False, True, False]
