"""Text as it is shown: numbers with their nouns, durations that other programs read back."""

from datetime import timedelta

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bts_assets.contracts.text import counted, iso_duration, percent, printable


@pytest.mark.parametrize(
    ("number", "words", "told"),
    [
        (0, ("night",), "0 nights"),
        (1, ("night",), "1 night"),
        (1_234, ("night",), "1,234 nights"),
        (2, ("batch", "batches"), "2 batches"),
        (1, ("batch", "batches"), "1 batch"),
    ],
)
def test_a_number_has_its_noun(number: int, words: tuple[str, ...], told: str) -> None:
    assert counted(number, *words) == told


@pytest.mark.parametrize(
    ("span", "told"),
    [
        (timedelta(0), "PT0S"),
        (timedelta(days=1, hours=2), "P1DT2H"),
        (timedelta(hours=36, minutes=30), "P1DT12H30M"),
        (timedelta(seconds=1.5), "PT1.5S"),
        (timedelta(days=-1, hours=1), "-PT23H"),
    ],
)
def test_a_duration_is_told_as_iso_8601(span: timedelta, told: str) -> None:
    assert iso_duration(span) == told


@given(st.timedeltas(timedelta(0), timedelta(days=10_000)))
def test_a_duration_is_read_back(span: timedelta) -> None:
    assert pd.Timedelta(iso_duration(span)).to_pytimedelta() == span


def test_shares_are_told_one_way_and_none_that_is_possible_is_nothing() -> None:
    assert [percent(share) for share in (0, 0.001, 0.434, 1)] == ["0 %", "<1 %", "43 %", "100 %"]
    assert percent(0.001, 1) == "0.1 %"


def test_what_steers_a_terminal_is_written_out() -> None:
    assert printable("a\x1b[2Jb\tc\u202e") == "a\\x1b[2Jb\tc\\u202e"
