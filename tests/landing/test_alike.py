"""Small files parsed together give what each gives by itself, whichever files are beside it."""

import re
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bts_assets.contracts.catalogue import load_catalogue
from bts_assets.landing import table
from bts_assets.landing.alike import parse_alike
from bts_assets.landing.dialect import LandingRules
from bts_assets.landing.errors import LandingFileRefused
from bts_assets.landing.files import ParsedFile, parse_landing_file
from examples import examples

CATALOGUE: Final = load_catalogue()
RULES: Final = {
    "landing_timezone": ZoneInfo("Europe/Vienna"),
    "now": datetime(2019, 11, 5, tzinfo=UTC),
    "max_skew": timedelta(hours=6),
}
NO_RULES: Final = LandingRules()
HEADER: Final = "id,value,station_id,parameter_id,reading_time"
CELLS: Final = [
    ["1", "2", "3", "", "7f3a", "-1", "NULL", "12.0"],
    ["11.5", "12", "-0.0", "0", "999999", "n/a", "", "1e400", "-1e5", "1.2.3", "5;5", " 5 ", '"6.25"', '"6,5"', '"x"'],
    ["1161114004", "1161114002", "1161114004.0", "x", "-4", "", "BTS-1"],
    ["122", "111", "777", "load", "99999999999", ""],
    [
        *["2019-10-20 04:00:21", "2019-10-20T04:00:22", "2019-10-20 04:00:21.250000", "2019-10-20 04:00:21.1234567"],
        *["2019-10-20 04:00:21Z", "2019-10-20 04:00:21+07:00", "2019-10-20 04:00:21-0330", "2019-10-20 04:00"],
        *["2019/10/20 04:00:21", "03/04/2019 04:00:21", "1571544021", "1571544021000", "2019-13-01 00:00:00"],
        *["2019-10-27 02:30:00", "2019-11-07 07:00:00", "1999-12-31 23:59:59", "now", "", "2019-10-20 4:00:21 PM"],
    ],
]
SOUND: Final = [cells[:2] for cells in CELLS]
LINES: Final = ["", " ", ",", ",,,,", "garbage", "1,2,3", "1,11.5,1161114004,122,2019-10-20 04:00:21,", '"', "\0", "é"]

#: What stands where a file is not as its like: a cell of a column, a line, how lines end, what comes before the header.
sound_row = st.tuples(*map(st.sampled_from, SOUND)).map(list)


@st.composite
def odd_row(draw: st.DrawFn) -> list[str]:
    cells = draw(sound_row)
    for column in draw(st.sampled_from([(0,), (1,), (1,), (2,), (3,), (4,), (1, 4), (2, 4), (1, 3)])):
        cells[column] = draw(st.sampled_from(CELLS[column]))
    return cells


row = st.one_of(sound_row, sound_row, sound_row, odd_row()).map(",".join)
lines = st.lists(st.one_of(row, row, row, row, row, row, st.sampled_from(LINES)), max_size=5)


@st.composite
def landing_file(draw: st.DrawFn) -> bytes:
    end = draw(st.sampled_from(["\n"] * 6 + ["\r\n", "\r"]))
    before = draw(st.sampled_from([""] * 12 + ["sep=,\n", "\ufeff", "\n", "# note\n"]))
    delimiter = draw(st.sampled_from([","] * 8 + [";"]))
    text = end.join([HEADER, *draw(lines)]).replace(",", delimiter) + draw(st.sampled_from([end, end, ""]))
    return (before + text).encode(draw(st.sampled_from(["utf-8"] * 12 + ["utf-16"])))


def alone(data: bytes, rules: LandingRules = NO_RULES, kept: int | None = None) -> ParsedFile | None:
    number_of = lambda kind, names: {name: -1 - i for i, name in enumerate(names)}  # noqa: E731
    try:
        return parse_landing_file(data, CATALOGUE, rules=rules, rejected_kept=kept, number_of=number_of, **RULES)  # type: ignore[arg-type]
    except LandingFileRefused:
        return None


def together(files: list[bytes], rules: LandingRules = NO_RULES, kept: int | None = None) -> list[ParsedFile | None]:
    return parse_alike(files, CATALOGUE, rules=rules, rejected_kept=kept, **RULES)  # type: ignore[arg-type]


def assert_same(found: ParsedFile, expected: ParsedFile | None) -> None:
    assert expected is not None
    for name in (field.name for field in fields(ParsedFile)):
        ours, theirs = getattr(found, name), getattr(expected, name)
        if name == "ordered":
            for column in (field.name for field in fields(ours)):
                a, b = getattr(ours, column), getattr(theirs, column)
                assert (a.dtype, a.tobytes()) == (b.dtype, b.tobytes())
        elif name == "rejected":
            pd.testing.assert_frame_equal(ours, theirs)
        else:
            assert ours == theirs, name


@given(
    st.lists(landing_file(), min_size=2, max_size=8),
    st.sampled_from([None, True, False]),
    st.sampled_from([None, "point", "comma"]),
    st.sampled_from([None, 0, 1, 100]),
)
@examples(600)
def test_what_is_parsed_together_is_what_each_file_is_alone(
    files: list[bytes], dayfirst: bool | None, decimal: str | None, kept: int | None
) -> None:
    rules = LandingRules(dayfirst=dayfirst, decimal=decimal)  # type: ignore[arg-type]
    for data, found in zip(files, together(files, rules, kept), strict=True):
        if found is not None:
            assert_same(found, alone(data, rules, kept))


def sound_file(number: int, *more: str, time: str = "2019-10-20 04:{:02}:21") -> bytes:
    rows = [f"{number}{i},{number}.5,{number},122,{time.format(10 * i)}" for i in range(4)]
    return "\n".join([HEADER, *rows, *more, ""]).encode()


@pytest.mark.parametrize(
    "time",
    ["2019-10-20 04:{:02}:21", "2019-10-20T04:{:02}:21Z", "2019-10-20 04:{:02}:21+07:00", "2019/10/20 04:{:02}:21",
     "15715440{:02}", "20/10/2019 04:{:02}:21"],
)  # fmt: skip
def test_files_of_every_form_of_time_are_parsed_together_and_other_forms_beside_them_too(time: str) -> None:
    files = [sound_file(n, time=time) for n in range(5)] + [sound_file(n) for n in range(5, 9)]
    found = together(files, LandingRules(dayfirst=True))
    for data, one in zip(files, found, strict=True):
        assert one is not None
        assert_same(one, alone(data, LandingRules(dayfirst=True)))


@pytest.mark.parametrize(
    "line",
    ["1,2,BTS-1,122,2019-10-20 04:00:21", '1,"1,5",1,122,2019-10-20 04:00:21', "1,2,1,122,now",
     "1,2,1,122,03.04.2019 04:00:21", '"1,2,1,122,2019-10-20 04:00:21', "é"],
)  # fmt: skip
def test_a_file_with_a_row_that_has_a_say_in_how_it_is_read_is_left_out_and_no_other(line: str) -> None:
    files = [sound_file(n, line) if n in (2, 3) else sound_file(n) for n in range(6)]
    assert [one is None for one in together(files)] == [n in (2, 3) for n in range(6)]


@pytest.mark.parametrize(
    "lines",
    [("1,n/a,1,122,2019-10-20 04:00:21",), ("1,999999,1,122,2019-10-20 04:00:21",), ("1,2,3", "", "\0"),
     ("1,2,1,122,2019-12-20 04:00:21", "1,2,1,122,1999-12-20 04:00:21"),
     ('1,"2","1",122,2019-10-20 04:00:21', '"1,2",3')],
)  # fmt: skip
def test_files_with_rejected_rows_and_quotes_are_parsed_together(lines: tuple[str, ...]) -> None:
    files = [sound_file(n, *lines) if n % 2 else sound_file(n) for n in range(6)]
    for data, one in zip(files, together(files), strict=True):
        assert one is not None
        assert_same(one, alone(data))


def test_files_of_a_sensor_that_is_dead_are_parsed_together() -> None:
    dead = "1,999999,1,122,2019-10-20 04:00:21"
    files = ["\n".join([HEADER, *[dead] * n]).encode() for n in (1, 2, 3)]
    for data, one in zip(files, together(files), strict=True):
        assert one is not None
        assert "sentinel" in (one.cause or "")
        assert_same(one, alone(data))


@pytest.mark.parametrize("letter", ["\x1d", "\x1e", "\x1f", "\x1a"])
def test_letters_that_no_text_has_are_the_same_beside_quotes_of_another_file(letter: str) -> None:
    files = [sound_file(n, f'"7{letter}f",2,900,122,2019-10-20 04:00:21') for n in (1, 2)]
    files.append(sound_file(3, '"7,f",2,900,122,2019-10-20 04:00:21'))
    for data, one in zip(files, together(files), strict=True):
        assert one is not None
        assert_same(one, alone(data))


def test_a_file_of_which_no_time_has_a_form_gets_none_from_another() -> None:
    odd = f"{HEADER}\n1,n/a,900,122,20.10.2019 04:00:21\n".encode()
    files = [odd, odd + b"2,2,900,122,2019-10-20 04:00:21+07:00\n"]
    without, other = together(files)
    assert without is None
    assert other is not None
    assert_same(other, alone(files[1]))


def test_files_whose_times_only_look_alike_are_left_out() -> None:
    times = "15715440{:02}", "15715440{:02}000"
    files = [sound_file(n, time=time) for n, time in enumerate(times * 2)]
    assert together(files) == [None] * 4
    parsed = [alone(data) for data in files[:2]]
    assert [one.dialect.times for one in parsed if one] == [("epoch s",), ("epoch ms",)]


@pytest.mark.parametrize(("size", "whole"), [(700, True), (600, False), (200, False)])  # one, two, twelve blocks
def test_files_that_fill_more_than_a_block_are_left_out(
    size: int, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "BLOCK", size)
    assert [one is not None for one in together([sound_file(n) for n in range(4)])] == [whole] * 4


def test_repeated_rows_are_duplicates_within_their_file_alone() -> None:
    repeated = "20,2.5,2,122,2019-10-20 04:00:21"
    files = [sound_file(1, repeated), sound_file(2, repeated), sound_file(2)]
    found = together(files)
    assert [(one.rows, one.duplicates, one.accepted) for one in found if one] == [(5, 0, 5), (5, 1, 4), (4, 0, 4)]
    assert np.array_equal(found[1].arrays.time, found[2].arrays.time)  # type: ignore[union-attr]


def test_a_file_without_its_like_and_one_without_rows_are_left_out() -> None:
    other = sound_file(3).replace(b",", b";")
    assert [one is None for one in together([sound_file(1), other, sound_file(2), f"{HEADER}\n".encode(), b""])] == [
        False, True, False, True, True,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "odd",
    [
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: re.sub(rb"\n(\d+2,)", rb"\r\1", data),
        lambda data: data.replace(b"reading_time\n", b"reading_time\r"),
        lambda data: data.decode().encode("utf-16"),
        lambda data: b"\n" + data,
    ],
    ids=["byte order mark", "a lone carriage return", "one after the header", "UTF-16", "blank line first"],
)
def test_files_that_are_written_in_another_way_are_left_out_or_the_same(odd: Callable[[bytes], bytes]) -> None:
    files = [odd(sound_file(n)) for n in (31, 32, 33)] + [sound_file(n) for n in (34, 35)]
    found = together(files)
    assert None not in found[3:]
    for data, one in zip(files, found, strict=True):
        if one is not None:
            assert_same(one, alone(data))


def test_a_decimal_comma_in_one_file_changes_no_other() -> None:
    whole = [sound_file(n).replace(b".5,", b",").replace(b",", b";") for n in range(3)]
    found = together([*whole, whole[0].replace(b";0;0;", b";0,5;0;")])
    assert [one.dialect.decimal if one else None for one in found] == ["point", "point", "point", None]
