"""`parse_landing_file` against a slow, obvious reading of the same rules, on generated and on damaged files."""

import math
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bts_assets.contracts.catalogue import load_catalogue
from bts_assets.contracts.schemas import Readings, validate
from bts_assets.landing.files import ParsedFile, Reason, parse_landing_file

CATALOGUE = load_catalogue()
NOW = datetime(2019, 11, 5, tzinfo=UTC)
SKEW = timedelta(hours=6)
VIENNA = ZoneInfo("Europe/Vienna")
HEADER = b"id,value,station_id,parameter_id,reading_time"
Row = tuple[int | None, int, int, datetime, float]


def slowly(data: bytes, zone: ZoneInfo) -> tuple[Counter[Row], list[tuple[int, str]], int]:
    """(accepted rows with how often each occurs, (line, reason) of rejected rows, rows)."""
    lines = re.split(rb"\r\n|\r|\n", data)
    accepted: Counter[Row] = Counter()
    rejected = []
    rows = 0
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip(b" \t"):
            continue
        rows += 1
        outcome = slowly_judged([cell.strip(b' \t"') for cell in line.split(b",")], zone)
        if isinstance(outcome, tuple):
            accepted[outcome] += 1
        else:
            rejected.append((number, str(outcome)))
    return accepted, rejected, rows


def slowly_judged(row: list[bytes], zone: ZoneInfo) -> Row | Reason:
    if len(row) != 5:
        return Reason.COLUMNS
    identity = None if row[0] == b"" else slow_integer(row[0], 2**63)
    if identity == -1:
        return Reason.ID
    station, parameter = slow_integer(row[2], 2**63), slow_integer(row[3], 2**31)
    if station == -1:
        return Reason.STATION
    if parameter == -1:
        return Reason.PARAMETER
    if not re.fullmatch(rb"[+-]?(\d+|\d+\.\d*|\.\d+)([eE][+-]?\d+)?", row[1]) or not math.isfinite(float(row[1])):
        return Reason.VALUE
    value = float(row[1])
    entry = CATALOGUE.of(parameter)
    if value in entry.sentinels:
        return Reason.SENTINEL
    if not entry.valid_min <= value <= entry.valid_max:
        return Reason.RANGE
    time = slow_time(row[4], zone)
    if isinstance(time, Reason):
        return time
    return identity, station, parameter, time, value


def slow_integer(text: bytes, bound: int) -> int:
    if not re.fullmatch(rb"[+-]?[0-9]+", text):
        return -1
    value = int(text)
    return value if 0 <= value < bound else -1


def slow_time(text: bytes, zone: ZoneInfo) -> datetime | Reason:
    match = re.fullmatch(
        rb"(\d{4})-(\d\d)-(\d\d)[ T](\d\d):(\d\d):(\d\d)(\.\d{1,9})?(Z|([+-])(\d\d):?(\d\d)?(?<!:))?", text
    )
    if not match:
        return Reason.TIME
    year, *rest = (int(match[i]) for i in range(1, 7))
    fraction = int((match[7] or b".")[1:].ljust(6, b"0")[:6])
    if match[9] and (int(match[10]) > 23 or int(match[11] or 0) > 59):
        return Reason.TIME
    try:
        # Python knows no year 0; it was a leap year, like 4.
        wall = datetime(year or 4, *rest, fraction)  # noqa: DTZ001
    except ValueError:
        return Reason.TIME
    if wall.year < 1999 or wall.year > 2100:
        return Reason.ANCIENT if wall.year < 1999 else Reason.FUTURE
    if match[8]:
        offset = timedelta(hours=int(match[10] or 0), minutes=int(match[11] or 0))
        instant = wall.replace(tzinfo=UTC) - (-offset if match[9] == b"-" else offset)
    else:
        placed = wall.replace(tzinfo=zone)
        if placed.utcoffset() != placed.replace(fold=1).utcoffset():
            return Reason.UNPLACED
        instant = placed.astimezone(UTC)
    if instant > NOW + SKEW:
        return Reason.FUTURE
    return Reason.ANCIENT if instant < datetime(2000, 1, 1, tzinfo=UTC) else instant


def parse(data: bytes, zone: ZoneInfo = VIENNA) -> ParsedFile:
    return parse_landing_file(data, CATALOGUE, landing_timezone=zone, now=NOW, max_skew=SKEW)


def check(data: bytes, zone: ZoneInfo = VIENNA) -> None:
    parsed = parse(data, zone)
    accepted, rejected, rows = slowly(data, zone)
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
    assert parsed.accepted + len(parsed.rejected) + parsed.duplicates == parsed.rows == rows


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
]
STATIONS = [*["1161114004"] * 6, "1161114002", "-5", "-0", "", "NULL", str(2**63), "5e3", " 1161114002 "]
PARAMETERS = [*["122"] * 6, "111", "151", "777", str(2**31 - 1), str(2**31), "-1", "", "nan", "+122"]
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
        "2019-10-20 23:59:60",
        "",
        "now",
    ],
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
dirty_line = st.one_of(sound, one_dirty_cell, all_dirty).map(",".join) | st.sampled_from(BROKEN_LINES)
clean_lines = st.lists(sound.map(",".join), max_size=12)
lines = st.one_of(clean_lines, st.lists(dirty_line, max_size=12))
ending = st.sampled_from(["\n", "\r\n", "\r"])


@given(lines, ending, st.booleans(), st.sampled_from([VIENNA, ZoneInfo("UTC"), ZoneInfo("Asia/Ho_Chi_Minh")]))
@settings(max_examples=300, deadline=None)
def test_generated_dirt_is_judged_as_the_oracle_judges_it(
    rows: list[str], end: str, closed: bool, zone: ZoneInfo
) -> None:
    check((end.join([HEADER.decode(), *rows]) + (end if closed else "")).encode(), zone)


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
@settings(max_examples=400, deadline=None)
def test_damaged_bytes_are_judged_as_the_oracle_judges_them(hits: list[tuple[int, int, bytes]]) -> None:
    data = SOUND_FILE
    for where, removed, inserted in hits:
        data = data[:where] + inserted + data[max(where, len(HEADER) + 1) + removed :]
    if data[len(HEADER) : len(HEADER) + 1] == b"\n":
        check(data)


@pytest.mark.parametrize("column", range(5), ids=["id", "value", "station", "parameter", "time"])
def test_every_listed_oddity_alone_in_a_sound_file(column: int) -> None:
    for oddity in pools[column]:
        cells = ["1", "11.5", "1161114004", "122", "2019-10-20 04:00:21"]
        cells[column] = oddity
        data = b"\n".join([SOUND_FILE, ",".join(cells).encode()])
        check(data)
        validate(Readings, parse(data).readings)
