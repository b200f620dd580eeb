"""What the text of a cell counts as: whole numbers, ids, decimal numbers, decimal commas; column by column."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bts_assets.landing.cells import (
    Cells,
    cast_or_none,
    cast_whole,
    decimal_marks,
    decimal_of_grouped,
    holds,
    identities,
    integers,
    matches,
    numbers,
    trimmed,
    whole_number,
)
from bts_assets.landing.names import hashed_id

LARGEST = 2**31 - 1
NONE = -1


def texts(*cells: str) -> pa.StringArray:
    return pa.array(cells, pa.string())


def read(cells: Cells) -> list[float | None]:
    """The values, and nothing where a cell is broken."""
    return [
        None if broken else value for value, broken in zip(cells.values.tolist(), cells.broken.tolist(), strict=True)
    ]


WHOLE = {
    "0": 0,
    "007": 7,
    "+7": 7,
    "12.0": 12,
    "12.": 12,
    "1.2e3": 1200,
    "1200e-2": 12,
    " 12\t": 12,
    '"12"': 12,
    "-0": 0,
    "-0.0": 0,
    "2147483647": LARGEST,
    "9" * 400 + "e1": None,
    "2147483648": None,
    "9223372036854775808": None,
    "-1": None,
    "1.5": None,
    "1e99": None,
    "1e-1": None,
    "1e100": None,
    ".5": None,
    "": None,
    "  ": None,
    '""': None,
    "0x1F": None,
    "1_000": None,
    "1,000": None,
    "1 2": None,
    "nan": None,
    "٣": None,
    "twelve": None,
}


@pytest.mark.parametrize(("text", "value"), WHOLE.items())
def test_an_integer_is_a_whole_number_within_bounds_however_it_is_written(text: str, value: int | None) -> None:
    assert read(integers(texts(text), LARGEST)) == [value]


def test_a_column_of_all_forms_is_read_as_its_cells_are() -> None:
    assert read(integers(texts(*WHOLE), LARGEST)) == list(WHOLE.values())


def test_a_clean_column_of_integers_is_bounded_too() -> None:
    assert read(integers(texts("5", "-1", "6", "7"), 6)) == [5, None, 6, None]


NUMBERS = {
    "1.5": 1.5,
    "-1.5": -1.5,
    "+1.5": 1.5,
    ".5": 0.5,
    "5.": 5.0,
    "1e3": 1000.0,
    "1E-3": 0.001,
    " 1.5 ": 1.5,
    '"1.5"': 1.5,
    "1" * 40: float("1" * 40),
    "0.1234567890123456789012345678901234567890": 0.12345678901234568,
    "5e-324": 5e-324,
    "1e-400": 0.0,
    "1e400": None,
    "inf": None,
    "-Infinity": None,
    "nan": None,
    "": None,
    '""': None,
    ".": None,
    "-": None,
    "1.2.3": None,
    "--1": None,
    "1-2": None,
    "1,5": None,
    "0x1F": None,
    "1_0": None,
    "1 5": None,
    "٣": None,
    "1.5 V": None,
}


@pytest.mark.parametrize(("text", "value"), NUMBERS.items())
def test_a_number_is_a_finite_decimal_with_or_without_exponent(text: str, value: float | None) -> None:
    assert read(numbers(texts(text))) == [value]


def test_a_column_of_all_forms_of_numbers_is_read_as_its_cells_are() -> None:
    assert read(numbers(texts(*NUMBERS))) == list(NUMBERS.values())


@pytest.mark.parametrize("column", [("-0.0",), ("-0", '"-0"'), ("-1e-400",)])
def test_zero_has_no_sign(column: tuple[str, ...]) -> None:
    assert not np.signbit(numbers(texts(*column)).values).any()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.234,56", 1234.56), ("-12.345.678,5", -12345678.5), ("1.234", 1234.0), ("999,5", 999.5), ("1234,5", 1234.5),
        ('"1.234,5"', 1234.5), ("1.23,4", None), ("0.123", None), ("1.2345", None), ("1,234.5", None), ("1.5", None),
    ],
)  # fmt: skip
def test_where_the_comma_is_the_decimal_mark_points_may_group_thousands(text: str, value: float | None) -> None:
    found = numbers(texts(text, "7"), "comma", grouped=True)
    assert found.broken.tolist() == [value is None, False]
    assert value is None or found.values[0] == value


@pytest.mark.parametrize(
    ("text", "mark"),
    [("1.234,56", "comma"), ("1,257.15", "point"), ("1.234", None), ("1,234", None), ("1.2,3", None), ("x", None)],
)
def test_a_number_with_both_marks_tells_which_is_the_decimal_one(text: str, mark: str | None) -> None:
    assert decimal_of_grouped(text) == mark


def test_with_decimal_commas_a_point_is_no_part_of_a_number() -> None:
    assert read(numbers(texts("1,5", "2", "-,5", "1.5", "1.000,5"), "comma")) == [1.5, 2.0, -0.5, None, None]


def test_commas_between_thousands_are_left_out_where_they_may_stand() -> None:
    cells = ("1,000", "-12,345.5", '"1,234,567"', "0,123", "12,34", "1,0000", "5")
    assert read(numbers(texts(*cells), grouped=True)) == [1000, -12345.5, 1234567, None, None, None, 5]
    assert read(numbers(texts("1,000", "5"))) == [None, 5]


@pytest.mark.parametrize(
    ("column", "mark"),
    [
        (["1.5", "2"], "point"),
        (["1,5", "2"], "comma"),
        (["1,500", "2,000"], "either"),
        (["1,500", "2,5"], "comma"),
        (["0,500"], "comma"),
        (["1,500,000"], "either"),
        (["1,5", "2.5"], "point"),
        (["1,500", "2.5"], "point"),
        (["x,y"], "point"),
        ([], "point"),
    ],
)
def test_a_column_tells_what_its_commas_are(column: list[str], mark: str) -> None:
    read_as_they_are = numbers(texts(*column))
    found, with_comma = decimal_marks(texts(*column), ~read_as_they_are.broken)
    assert found == mark
    assert with_comma.tolist() == ["," in cell and cell != "x,y" for cell in column]


def test_a_point_in_a_cell_that_is_no_number_tells_nothing() -> None:
    found, with_comma = decimal_marks(texts("n.a.", "1,5"), np.array([False, False]))
    assert (found, with_comma.tolist()) == ("comma", [False, True])


def test_ids_of_readings_are_numbers_or_hashes_of_text() -> None:
    column = ("12", "12.0", "a-1", '"a-1"', "", "NULL", "-5", str(2**63), "0x1F")
    named = [hashed_id(text) for text in ("a-1", "a-1")]
    expected = [12, 12, *named, NONE, NONE, hashed_id("-5"), hashed_id(str(2**63)), hashed_id("0x1F")]
    assert identities(texts(*column), NONE).tolist() == expected


def test_negative_ids_in_a_clean_column_are_hashed() -> None:
    assert identities(texts("3", "-3"), NONE).tolist() == [3, hashed_id("-3")]
    assert identities(texts(), NONE).tolist() == []


@pytest.mark.parametrize(
    ("text", "number"), [("1e18", 10**18), ("1e19", None), ("-5", -5), (" 5", None), ("5e999", None)]
)
def test_whole_numbers_have_at_most_63_bits(text: str, number: int | None) -> None:
    assert whole_number(text) == number


def test_the_plain_cast_takes_all_cells_or_none() -> None:
    assert cast_or_none(texts("1", "2"), pa.int64()).tolist() == [1, 2]  # type: ignore[union-attr]
    assert cast_or_none(texts("1", "x"), pa.int64()) is None
    assert cast_or_none(texts(*["1"] * 300, "x", *["1"] * 300), pa.int64()) is None
    assert cast_whole(texts("1", "0x1F")) is None
    assert cast_or_none(texts("2026-11-24"), pa.timestamp("us")).tolist() == [1795478400000000]  # type: ignore[union-attr]


def test_helpers_look_at_the_cells_of_a_slice_alone() -> None:
    column = texts("zz", " 5", '"6" ', "x7").slice(1, 2)
    assert trimmed(column).to_pylist() == ["5", "6"]
    assert matches(trimmed(column), "^[0-9]$").all()
    assert read(integers(column, LARGEST)) == [5, 6]
    assert holds(texts("ab"), b"xb")
    assert not holds(texts("ab", ""), b"x")
    assert not holds(texts(), b"x")


cell = (
    st.integers(-(2**70), 2**70).map(str)
    | st.floats().map(repr)
    | st.decimals(allow_nan=False, allow_infinity=False, places=3).map(str)
    | st.text('0123456789.,+-eE \t"x', max_size=8)
    | st.text(max_size=4)
)


@given(st.lists(cell, max_size=12), st.integers(0, 12), st.integers(0, 12))
@example(["", "1"], 1, 1)
@example(["é1", "1"], 0, 2)
def test_a_cell_is_read_alike_alone_and_in_any_column(cells: list[str], start: int, length: int) -> None:
    column = texts(*cells).slice(start, length)
    of_column = [read(numbers(column)), read(integers(column, LARGEST)), identities(column, NONE).tolist()]
    alone = [texts(text) for text in column.to_pylist()]
    assert of_column == [
        [read(numbers(one))[0] for one in alone],
        [read(integers(one, LARGEST))[0] for one in alone],
        [int(identities(one, NONE)[0]) for one in alone],
    ]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_written_out_is_read_back_to_the_bit(value: float) -> None:
    assert read(numbers(texts(repr(value), "1.0"))) == [value, 1.0]
    assert read(numbers(texts(repr(value), "odd"))) == [value, None]


@given(st.lists(cell, max_size=12))
def test_every_number_that_is_not_broken_is_finite(cells: list[str]) -> None:
    assert all(value is None or math.isfinite(value) for value in read(numbers(texts(*cells))))
