"""`parse_landing_file` against a slow, obvious reading of the same rules, on generated and on damaged files."""

import hashlib
import math
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bts_assets.contracts.catalogue import load_catalogue
from bts_assets.contracts.schemas import Readings, validate
from bts_assets.landing.dialect import LandingRules
from bts_assets.landing.files import ParsedFile, parse_landing_file
from bts_assets.landing.reasons import Reason
from bts_assets.landing.records import blocks
from examples import examples

CATALOGUE = load_catalogue()
NOW = datetime(2019, 11, 5, tzinfo=UTC)
SKEW = timedelta(hours=6)
VIENNA = ZoneInfo("Europe/Vienna")
HEADER = b"id,value,station_id,parameter_id,reading_time"
Row = tuple[int | None, int, int, datetime, float]
#: Marks a cell that is no number.
BROKEN = None
NOTHING = {"", "-", "--", "?", "null", "none", "nil", "nan", "na", "n/a", "#n/a", "inf", "infinity", "\\n", "unknown"}


def slow_records(text: str, delimiter: str, fields: int) -> list[tuple[int, list[str] | None]]:
    """(line, cells) of every record that is not blank; no cells where their number is wrong."""
    pieces = re.split("(\r\n|\r|\n)", text)
    lines, ends = pieces[::2], [*pieces[1::2], ""]
    records: list[tuple[int, list[str] | None]] = []
    at = 0
    while at < len(lines):
        odd = lines[at].count('"') % 2
        closing = next((j for j in range(at + 1, len(lines)) if lines[j].count('"') % 2), None) if odd else None
        if closing is not None and closing - at <= 100:
            joined = "".join(line + end for line, end in zip(lines[at:closing], ends[at:closing], strict=True))
            cells = slow_split(joined + lines[closing], delimiter)
            if len(cells) == fields:
                records.append((at, cells))
                at = closing + 1
                continue
        if lines[at].strip(" " if delimiter == "\t" else " \t"):
            cells = slow_split(lines[at], delimiter)
            if odd or len(cells) != fields:
                cells = lines[at].split(delimiter)
            records.append((at, cells if len(cells) == fields else None))
        at += 1
    return records


def slow_split(record: str, delimiter: str) -> list[str]:
    cells, quoted = [""], False
    for letter in record:
        quoted ^= letter == '"'
        if letter == delimiter and not quoted:
            cells.append("")
        else:
            cells[-1] += letter
    return cells


def slowly(
    data: bytes, zone: ZoneInfo, delimiter: str = ",", dayfirst: bool | None = None
) -> tuple[Counter[Row], list[tuple[int, str]], int]:
    """(accepted rows with how often each occurs, (line, reason) of rejected rows, rows)."""
    text = data.decode("utf-8", "backslashreplace")
    records = [r for r in slow_records(text, delimiter, 5) if r[0] > 0]
    trimmed = [(line, cells and [cell.strip(' \t"') for cell in cells]) for line, cells in records]
    decimal = slow_decimal([cells[1] for _, cells in trimmed if cells])
    accepted: Counter[Row] = Counter()
    rejected = []
    for line, cells in trimmed:
        outcome = slowly_judged(cells, zone, decimal, dayfirst) if cells else Reason.COLUMNS
        if isinstance(outcome, tuple):
            accepted[outcome] += 1
        else:
            rejected.append((line + 1, str(outcome)))
    return accepted, rejected, len(records)


def slow_decimal(values: list[str]) -> str:
    """What commas in numbers are: `comma`, `point` or `either`."""
    grouped = [v for v in values if re.fullmatch(r"[+-]?[1-9][0-9]{0,2}(,[0-9]{3})+", v)]
    commas = [
        v for v in values if v.count(",") == 1 and slow_number(v.replace(",", ".")) is not BROKEN and "." not in v
    ]
    if any("." in v and slow_number(v) is not BROKEN for v in values) or not commas + grouped:
        return "point"
    return "either" if set(commas) <= set(grouped) else "comma"


def slow_number(text: str) -> float | None:
    if not re.fullmatch(r"[+-]?([0-9]+|[0-9]+\.[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text):
        return BROKEN
    return float(text) if math.isfinite(float(text)) else BROKEN


def slowly_judged(row: list[str], zone: ZoneInfo, decimal: str, dayfirst: bool | None) -> Row | Reason:
    station, parameter = slow_whole(row[2], 2**63), slow_whole(row[3], 2**31)
    if station is BROKEN:
        return Reason.STATION
    if parameter is BROKEN:
        return Reason.PARAMETER
    text = row[1]
    if decimal == "comma":
        text = "no number" if "." in text else text.replace(",", ".")
    value = slow_number(text)
    if value is BROKEN:
        is_unclear = decimal == "either" and re.fullmatch(r"[+-]?[1-9][0-9]{0,2}(,[0-9]{3})+", text)
        return Reason.DECIMAL if is_unclear else Reason.VALUE
    entry = CATALOGUE.of(parameter)
    if value in entry.sentinels:
        return Reason.SENTINEL
    if not entry.valid_min <= value <= entry.valid_max:
        return Reason.RANGE
    time = slow_time(row[4], zone, dayfirst)
    return time if isinstance(time, Reason) else (slow_identity(row[0]), station, parameter, time, value)


def slow_identity(text: str) -> int | None:
    if text.lower() in NOTHING:
        return None
    number = slow_whole(text, 2**63)
    return int(hashlib.sha256(text.encode()).hexdigest()[:16], 16) // 2 if number is BROKEN else number


def slow_whole(text: str, bound: int) -> int | None:
    if not re.fullmatch(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]{1,2})?", text):
        return BROKEN
    value = Fraction(text + "0" if text.endswith(".") else text.replace(".e", ".0e").replace(".E", ".0E"))
    return int(value) if value.denominator == 1 and 0 <= value < bound else BROKEN


def slow_time(text: str, zone: ZoneInfo, dayfirst: bool | None) -> datetime | Reason:
    if re.fullmatch(r"[0-9]{9,19}(\.[0-9]{1,9})?", text):
        return slow_epoch(text)
    match = re.fullmatch(
        r"(\d{1,4})([-/.])(\d{1,2})\2(\d{2,4})[ Tt](\d{1,2}):(\d\d)(:\d\d)?([.,]\d{1,9})?( ?[ap]m)?"
        r"( ?(z|utc|gmt|([+-])(\d\d)(:?\d\d)?))?",
        text,
        re.ASCII | re.IGNORECASE,
    )
    if not match or (match[8] and not match[7]) or match[6] > "59" or (match[7] or "") > ":59":
        return Reason.TIME
    shape = tuple(len(match[i]) for i in (1, 3, 4))
    if shape == (4, 2, 2):
        year, month, day = (int(match[i]) for i in (1, 3, 4))
    elif shape[0] < 3 and shape[2] == 4:
        if dayfirst is None:
            return Reason.DAY_ORDER
        year, month, day = int(match[4]), *(int(match[i]) for i in ((3, 1) if dayfirst else (1, 3)))
    else:
        return Reason.TIME
    hour, half = int(match[5]), (match[9] or "").strip().lower()
    if half and not 1 <= hour <= 12:
        return Reason.TIME
    hour = hour % 12 + (12 if half == "pm" else 0) if half else hour
    fraction = int((match[8] or ".")[1:].ljust(6, "0")[:6])
    hours, minutes = int(match[13] or 0), int((match[14] or "0").strip(":"))
    if hours > 23 or minutes > 59:
        return Reason.TIME
    days = 0
    if (
        not half
        and hour == 24
        and int(match[6]) == 0 == int((match[7] or ":0")[1:])
        and not int((match[8] or ".0")[1:])
    ):
        hour, days = 0, 1
    try:
        # Python knows no year 0; it was a leap year, like 4.
        wall = datetime(year or 4, month, day, hour, int(match[6]), int((match[7] or ":0")[1:]), fraction)  # noqa: DTZ001
    except ValueError:
        return Reason.TIME
    if wall.year < 1999 or wall.year > 2100:
        return Reason.ANCIENT if wall.year < 1999 else Reason.FUTURE
    wall += timedelta(days=days)
    if match[10]:
        offset = timedelta(hours=hours, minutes=minutes)
        instant = wall.replace(tzinfo=UTC) - (-offset if match[12] == "-" else offset)
    else:
        placed = wall.replace(tzinfo=zone)
        if placed.utcoffset() != placed.replace(fold=1).utcoffset():
            return Reason.UNPLACED
        instant = placed.astimezone(UTC)
    return slow_bounds(instant)


def slow_bounds(instant: datetime) -> datetime | Reason:
    if instant > NOW + SKEW:
        return Reason.FUTURE
    return Reason.ANCIENT if instant < datetime(2000, 1, 1, tzinfo=UTC) else instant


def slow_epoch(text: str) -> datetime | Reason:
    number = Fraction(text)
    for per_second in (1, 10**3, 10**6, 10**9):
        seconds = Fraction(int(number), per_second)
        if 946_684_800 <= seconds < 4_102_444_800 and ("." not in text or per_second <= 1000):
            return slow_bounds(
                datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(number * 10**6 / per_second))
            )
    return Reason.TIME


def parse(data: bytes, zone: ZoneInfo = VIENNA, dayfirst: bool | None = None) -> ParsedFile:
    rules = LandingRules(dayfirst=dayfirst)
    return parse_landing_file(data, CATALOGUE, landing_timezone=zone, now=NOW, max_skew=SKEW, rules=rules)


def check(data: bytes, zone: ZoneInfo = VIENNA, delimiter: str = ",", dayfirst: bool | None = None) -> None:
    parsed = parse(data, zone, dayfirst)
    accepted, rejected, rows = slowly(data, zone, delimiter, dayfirst)
    frame = parsed.readings
    found = list(
        zip(
            [None if i < 0 else i for i in frame["reading_id"].fillna(-1).tolist()],
            frame["station_id"].tolist(),
            frame["parameter_id"].tolist(),
            frame["reading_time"].dt.to_pydatetime().tolist(),
            frame["value"].tolist(),
            strict=True,
        )
    )
    assert found == sorted(accepted, key=lambda r: (r[1], r[2], r[3], -1 if r[0] is None else r[0], r[4]))
    assert list(zip(parsed.rejected["line"].tolist(), parsed.rejected["reason"].tolist(), strict=True)) == rejected
    assert parsed.reasons == dict(Counter(reason for _, reason in rejected))
    assert parsed.duplicates == accepted.total() - len(accepted)
    assert parsed.accepted + parsed.rejected_rows + parsed.duplicates == parsed.rows == rows
    assert (parsed.cause is None) == (parsed.accepted > 0)


IDS = [
    "1",
    "2",
    "7",
    "",
    "-1",
    "+3",
    "007",
    "x",
    "0x1F",
    "1.0",
    str(2**63 - 1),
    str(2**63),
    "9" * 30,
    "0" * 40 + "5",
    '"4"',
    "1_0",
    "٣",
    *["12.", "1.2e1", "1.5", "1e99", "6f9619ff-8b86-d011-b42d-00c04fc96000", "N/A", "5e-1", "50e-1"],
]
STATIONS = [*["1161114004"] * 6, "1161114002", "-5", "-0", "", "NULL", str(2**63), "5e3", " 1161114002 "]
STATIONS += ["1161114004.0", "1.161114004E9", "1.1", "1161114004.", "12e-1", "120e-1", "9" * 30, "0x1F"]
PARAMETERS = [*["122"] * 6, "111", "151", "777", str(2**31 - 1), str(2**31), "-1", "", "nan", "+122", "122.0", "1.22e2"]
VALUES = [
    *["11.5", "12", "0", "-0", "-0.0", "0.5", "1"],
    *[
        "999999",
        "999991.0",
        "9.99999e5",
        "nan",
        "NaN",
        "inf",
        "-Infinity",
        "",
        "NULL",
        "12;5",
        "1e400",
        "1e-400",
        "-1e5",
    ],
    *[
        "+5",
        ".5",
        "5.",
        ".",
        "-",
        "1e",
        "1e5",
        "0x10",
        "1_0",
        " 5 ",
        '"6.25"',
        "1.2.3",
        "--5",
        "5" * 400,
        "0." + "3" * 60,
        "1d5",
        "５",
    ],
]
TIMES = [
    *["2019-10-20 04:00:21"] * 5,
    *[
        "2019-10-20 04:00:21",
        "2019-10-20T04:00:21",
        "2019-10-20 04:00:21.5",
        "2019-10-20 04:00:21.1234567",
        "2019-10-20 04:00:21.123456789",
    ],
    *[
        "2019-10-20 04:00:21.",
        "2019-10-20 04:00:21.1234567891",
        "2019-10-20t04:00:21",
        "2019-10-20  04:00:21",
        " 2019-10-20 04:00:21 ",
    ],
    *[
        "2019-10-20 04:00:21Z",
        "2019-10-20T04:00:21+07:00",
        "2019-10-20 04:00:21.25-0330",
        "2019-10-20 04:00:21+07",
        "2019-10-20 04:00:21+24:00",
    ],
    *[
        "2019-10-20 04:00:21+07:",
        "2019-10-20 04:00+0700",
        "2019-10-20 04:00",
        "2019-10-20 04+07:00",
        "2019-10-20",
        "04:00:21",
        "20191020T040021",
    ],
    *[
        "2019-10-27 02:30:00",
        "2019-10-27 02:00:00",
        "2019-10-27 03:00:00",
        "2019-10-27 01:59:59",
        "2019-10-27 02:30:00+02:00",
    ],
    *["2019-03-31 02:00:00", "2019-03-31 02:59:59", "2019-03-31 03:00:00", "2019-03-31 01:59:59"],
    *[
        "2019-11-05 05:59:00Z",
        "2019-11-05 06:00:00Z",
        "2019-11-05 06:00:01Z",
        "2019-11-05 07:00:00",
        "2019-11-05 07:00:00.000001",
    ],
    *[
        "2000-01-01 00:59:59",
        "2000-01-01 01:00:00",
        "1999-12-31T23:59:59Z",
        "2000-01-01T00:00:00Z",
        "1975-10-26 02:30:00",
        "0000-02-29 00:00:00",
    ],
    *[
        "9999-12-31 23:59:59",
        "9999-12-31 23:59:59-23:59",
        "2019-02-29 00:00:00",
        "2020-02-29 00:00:00",
        "2016-02-29 00:00:00",
        "1900-02-29 00:00:00",
    ],
    *[
        "2019-04-31 00:00:00",
        "2019-13-01 00:00:00",
        "2019-00-01 00:00:00",
        "2019-01-00 00:00:00",
        "2019-10-20 24:00:00",
        "2019-12-31T24:00:00.000Z",
        "2019-10-20 24:00:00.000000001",
        "2019-10-20 24:00:01",
        "2019-10-20 24:01",
        "2019-10-20 24:00 AM",
        "2019-10-27 24:00+02",
        "2019-10-20 23:59:60",
        "",
        "now",
    ],
    *["2019-10-20 04:00 UTC", "2019-10-20t04:00:21z", "2019-10-20 04:00:21 +0700", "2019-10-20 04:00:21 GMT"],
    *["2019/10/20 04:00:21", "2019/10-20 04:00:21", "2019.10.20 4:05", "2019-10-20 4:00:21 PM", "2019-10-20 12:00 am"],
    *["2019-10-20 13:00 PM", "2019-10-20 0:00 AM", "2019-02-29 04:00", "2000-02-29 04:00", "2019-10-27 02:30"],
    *["2019-10-20 04:00.5", "2019-10-20 04:00:21 +24", "2019-10-20 24:00", "2019-1-2 04:00", "19-10-20 04:00"],
    *["20/10/2019 04:00:21", "10/20/2019 04:00:21", "3/4/2019 04:00", "3.4.2019 04:00Z", "31/02/2019 04:00"],
    *["3/4/19 04:00", "3/4.2019 04:00", "04/03/2019 11:59:59 PM", "1571544021", "1571544021.25", "1571544021000"],
    *["1571544021000.5", "1571544021000000", "1571544021000000000", "1571544021000000.5", "157154402", "15715440210"],
    *["2019-10-20 04:00-03:30", "2019-10-20 04:00:21 -05", "20/10/2019 04:00:21-0059", "2019-10-20 04:00+23:59"],
    *["946684799", "946684800", "1572933600", "1572933601", "9999999999", "9" * 19, "-1571544021", "1571544021."],
]
BROKEN_LINES = [
    "",
    " ",
    "\t",
    ",",
    ",,,,",
    "garbage",
    "1,2,3",
    "1,11.5,1161114004,122,2019-10-20 04:00:21,",
    '"',
    "\0\0\0",
    "\x0b",
    ",,,,,,,,",
]

sound = st.tuples(
    st.sampled_from(["1", "2", "3"]),
    st.sampled_from(["11.5", "12", "-0.0", "0"]),
    st.sampled_from(["1161114004", "1161114002"]),
    st.sampled_from(["122", "111"]),
    st.sampled_from(["2019-10-20 04:00:21", "2019-10-20 04:00:22", "2019-10-20 04:00:21.250000"]),
)
# Whole columns take the shortcut only where every cell is plain, so few columns of a file are dirty at a time.
pools = [IDS, VALUES, STATIONS, PARAMETERS, TIMES]
one_dirty_cell = st.integers(0, 4).flatmap(
    lambda i: st.tuples(sound, st.sampled_from(pools[i])).map(lambda pair: (*pair[0][:i], pair[1], *pair[0][i + 1 :]))
)
all_dirty = st.tuples(*map(st.sampled_from, pools))
dirty_row = st.one_of(sound, one_dirty_cell, all_dirty)
ending = st.sampled_from(["\n", "\r\n", "\r"])
zones = st.sampled_from([VIENNA, ZoneInfo("UTC"), ZoneInfo("Asia/Ho_Chi_Minh")])
dayfirst = st.sampled_from([None, True, False])


@given(
    st.lists(dirty_row, max_size=12) | st.lists(sound, max_size=12),
    st.lists(st.tuples(st.integers(0, 12), st.sampled_from(BROKEN_LINES)), max_size=3),
    ending,
    st.booleans(),
    zones,
    st.sampled_from(",;\t|"),
    dayfirst,
)
@examples(250)
def test_generated_dirt_is_judged_as_the_oracle_judges_it(
    rows: list[tuple[str, ...]],
    broken: list[tuple[int, str]],
    end: str,
    closed: bool,
    zone: ZoneInfo,
    delimiter: str,
    dayfirst: bool | None,
) -> None:
    lines = [delimiter.join(row) for row in rows]
    for at, line in broken:
        lines.insert(at, line.replace(",", delimiter))
    text = end.join([HEADER.decode().replace(",", delimiter), *lines]) + (end if closed else "")
    check(text.encode(), zone, delimiter, dayfirst)


#: Values and times that hold a comma, as files with other delimiters write them.
with_commas = st.sampled_from(
    ["20,5", "1,234", "0,25", "-1,5", ",5", "5,", "1,234,567", "1.5", "7", "1,2,3", "1,5e1", "x,y"]
)
comma_rows = st.tuples(
    st.sampled_from(["1", "a,b", ""]), with_commas, st.just("1161114004"), st.just("777"),
    st.sampled_from(["2019-10-20 04:00:21,5", "2019-10-20 04:00:21", "2019-10-20, 04:00:21"]),
)  # fmt: skip


@given(st.lists(comma_rows, max_size=8), st.booleans(), ending)
@examples(200)
def test_commas_within_cells_are_judged_as_the_oracle_judges_them(
    rows: list[tuple[str, ...]], quoted: bool, end: str
) -> None:
    delimiter = "," if quoted else ";"
    cells = [[f'"{cell}"' for cell in row] if quoted else row for row in rows]
    check(end.join([HEADER.decode().replace(",", delimiter), *map(delimiter.join, cells)]).encode(), VIENNA, delimiter)


pieces = st.sampled_from(
    ['"', '""', '"a,b"', '"a\nb"', '"a\r\nb"', "\n", "\r\n", ",", "a", 'a"b', '"\n"', '" "', "\x1f", '"open', " ", "\t"]
)
quoted_lines = st.lists(st.lists(pieces, max_size=6).map("".join), max_size=12)


@given(quoted_lines, st.integers(8, 60), st.booleans())
@example(['"' + "\n" * 99, 'b",,,'], 1000, True)
@example(['"' + "\n" * 100, 'b",,,'], 1000, True)
@examples(200)
def test_quotes_are_followed_as_the_oracle_follows_them_whatever_the_blocks(
    rows: list[str], size: int, fields_wanted: bool
) -> None:
    text = "\n".join(rows)
    fields = 4 if fields_wanted else 2
    found: list[tuple[int, bool]] = []
    line = 0
    for block in blocks(text.encode(), 0, ",", fields, size):
        found += [(line + int(at), True) for at in block.lines] + [(line + int(at), False) for at in block.ragged]
        line += block.count
    assert sorted(found) == [(at, cells is not None) for at, cells in slow_records(text, ",", fields)]


SOUND_FILE = b"\n".join(
    [
        HEADER,
        b"1,11.5,1161114004,122,2019-10-20 04:00:21",
        b"2,12.5,1161114004,122,2019-10-20 04:00:21",
        b"3,-1,1161114002,111,2019-10-20T04:00:22.5",
        b"3,-1,1161114002,111,2019-10-20T04:00:22.5",
        b"4,0.25,1161114002,122,2019-10-20 04:00:23Z\n",
    ]
)
damage = st.tuples(
    st.integers(len(HEADER) + 1, len(SOUND_FILE)),
    st.integers(0, 3),
    st.binary(max_size=3)
    | st.sampled_from(
        [b"\n", b"\r", b",", b'"', b"\0", b"\xff", b"\xc3\xa4", b"-", b".", b"e", b"x", b" ", b"+", b"9"]
    ),
)


@given(st.lists(damage, min_size=1, max_size=4))
@example([(len(HEADER) + 1, 0, b"\xff\xfe")])
@example([(len(SOUND_FILE), 0, b"\r")])
@example([(len(HEADER) + 1, 0, b"\x1d")])
@examples(250)
def test_damaged_bytes_are_judged_as_the_oracle_judges_them(hits: list[tuple[int, int, bytes]]) -> None:
    data = SOUND_FILE
    for where, removed, inserted in hits:
        data = data[:where] + inserted + data[max(where, len(HEADER) + 1) + removed :]
    if data[len(HEADER) : len(HEADER) + 1] == b"\n":
        check(data)


@pytest.mark.parametrize("form", ["{}-{:02}-{:02} 04:00", "{}-{:02}-{:02} 04:00:21"])
def test_months_end_where_they_end(form: str) -> None:
    dates = [(year, month, day) for year in (2000, 2016, 2018) for month in range(14) for day in (0, 1, *range(27, 33))]
    check(b"\n".join([HEADER, *(f"1,11.5,1,122,{form.format(*date)}".encode() for date in dates)]))


@pytest.mark.parametrize("column", range(5), ids=["id", "value", "station", "parameter", "time"])
def test_every_listed_oddity_alone_in_a_sound_file(column: int) -> None:
    for oddity in pools[column]:
        cells = ["1", "11.5", "1161114004", "122", "2019-10-20 04:00:21"]
        cells[column] = oddity
        data = b"\n".join([SOUND_FILE, ",".join(cells).encode()])
        check(data)
        validate(Readings, parse(data).readings)
