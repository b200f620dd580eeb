"""Readings as arrays: their canonical order, what repeats in it, and the way to frames and back."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bts_assets.contracts.schemas import Readings, validate
from bts_assets.landing.reading_arrays import (
    NO_ID,
    ReadingArrays,
    canonical_order,
    concatenated,
    from_frame,
    repeats_previous,
    series_codes,
)

#: Station, parameter, time, id, value: as their order is.
Row = tuple[int, int, int, int, float]
rows = st.tuples(
    st.sampled_from([3, 20, 2**40]),
    st.sampled_from([7, 8]),
    st.sampled_from([0, 1, 10**15]),
    st.sampled_from([NO_ID, 0, 5]),
    st.sampled_from([-1.5, 0.0, 2.0]),
)


def columns(given_rows: Sequence[Row]) -> ReadingArrays:
    station, parameter, time, identity, value = np.array(given_rows, "float64").reshape(-1, 5).T
    whole = (identity.astype("int64"), station.astype("int64"), parameter.astype("int32"), time.astype("int64"))
    return ReadingArrays(*whole, value)


def rows_of(readings: ReadingArrays) -> list[Row]:
    arrays = (readings.station_id, readings.parameter_id, readings.time, readings.reading_id, readings.value)
    return list(zip(*(a.tolist() for a in arrays), strict=True))


@given(st.lists(rows, max_size=12))
@example([(3, 7, 1, NO_ID, 0.0), (3, 7, 0, NO_ID, 0.0)])
def test_canonical_order_is_by_series_time_id_and_value_and_shows_what_repeats(given_rows: list[Row]) -> None:
    readings = columns(given_rows)
    ordered = readings.take(canonical_order(readings))
    found = rows_of(ordered)
    assert found == sorted(given_rows)
    assert repeats_previous(ordered).tolist() == [k > 0 and found[k] == found[k - 1] for k in range(len(found))]


@pytest.mark.parametrize("series", [2**16, 2**16 + 1])
def test_canonical_order_holds_for_more_series_than_sixteen_bits_count(series: int) -> None:
    given_rows = [(1, parameter, 0, NO_ID, 0.0) for parameter in range(series)]
    readings = columns(given_rows[::-1])
    assert rows_of(readings.take(canonical_order(readings))) == given_rows


@given(st.lists(rows, max_size=12))
def test_series_are_numbered_as_they_are_ordered(given_rows: list[Row]) -> None:
    codes = series_codes(*(np.array([row[k] for row in given_rows], "int64") for k in (0, 1)))
    for k, one in enumerate(given_rows):
        for other, code in zip(given_rows, codes, strict=True):
            assert (codes[k] < code, codes[k] == code) == (one[:2] < other[:2], one[:2] == other[:2])


@given(st.lists(rows, max_size=6), st.lists(rows, max_size=6))
def test_readings_come_back_from_a_frame_as_they_went_and_zero_has_no_sign(one: list[Row], two: list[Row]) -> None:
    both = concatenated([columns(one), columns(two)])
    assert rows_of(both) == [*one, *two]
    frame = both.frame()
    validate(Readings, frame)
    assert frame["reading_id"].isna().tolist() == [row[3] == NO_ID for row in (*one, *two)]
    assert rows_of(from_frame(frame)) == rows_of(both)
    assert not np.signbit(from_frame(frame.assign(value=-0.0)).value).any()
