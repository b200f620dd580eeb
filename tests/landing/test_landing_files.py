"""Headers, encodings, duplicates and the shape of what `parse_landing_file` gives. Cells: test_landing_oracle.py."""

import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from bts_assets.contracts.catalogue import Catalogue, Parameter, load_catalogue
from bts_assets.contracts.schemas import Readings, validate
from bts_assets.landing.errors import LandingFileRefused
from bts_assets.landing.files import ParsedFile, parse_landing_file
from bts_assets.landing.text import printable_line

CATALOGUE = load_catalogue()
HEADER = "id,value,station_id,parameter_id,reading_time"
ROW = "5,11.5,1161114004,122,2017-04-18 04:00:21"
RECORDING = Path(__file__).parents[2].parent / "shared" / "data" / "bts" / "landing"


def parse(data: bytes | str, zone: str = "UTC") -> ParsedFile:
    data = data.encode() if isinstance(data, str) else data
    now = datetime(2017, 4, 19, tzinfo=UTC)
    parsed = parse_landing_file(data, CATALOGUE, landing_timezone=ZoneInfo(zone), now=now, max_skew=timedelta(days=1))
    assert parsed.accepted + parsed.rejected_rows + parsed.duplicates == parsed.rows
    assert parsed.readings.index.equals(pd.RangeIndex(parsed.accepted))
    validate(Readings, parsed.readings)
    return parsed


@pytest.mark.parametrize(
    "data",
    [
        f"{HEADER}\n{ROW}\n",
        f"{HEADER}\n{ROW}",
        f"{HEADER}\r\n{ROW}\r\n",
        f"{HEADER}\r{ROW}\r",
        f"\ufeff{HEADER}\n{ROW}\n",
        f"\n \n{HEADER}\n\n{ROW}\n\n",
        f"{HEADER}\n{ROW}\n".encode("utf-16"),
        b"\xfe\xff" + f"{HEADER}\n{ROW}\n".encode("utf-16-be"),
        f'"ID", Value ,"station_id",PARAMETER_ID,reading_time\n{ROW}\n',
        '"' + f"{HEADER}\n{ROW}".replace(",", '","').replace("\n", '"\n"') + '"',
        "reading_time,parameter_id,station_id,value,id\n2017-04-18 04:00:21,122,1161114004,11.5,5\n",
        HEADER.encode("utf-16-le") + f"\n{ROW}".encode("utf-16-le"),
        gzip.compress(f"{HEADER}\n{ROW}\n".encode()),
        gzip.compress(f"{HEADER}\n".encode()) + gzip.compress(ROW.encode()) + b"\0" * 9,
        gzip.compress(f"{HEADER}\n{ROW}\n".encode("utf-16")),
        f"sep=;\r\n{HEADER}\r\n{ROW}\r\n".replace(",", ";"),
        f'"sep=^"\n{HEADER}\n{ROW}'.replace(",", "^"),
        f"{HEADER}\n{ROW}".replace(",", "\t"),
        f"{HEADER}\n{ROW}".replace(",", "|"),
        f"{HEADER}\n{ROW}".replace(",", ";").replace("11.5", "11,5"),
        f"{HEADER}\n{ROW}".replace("11.5", '"11,5"'),
        f'{HEADER},note\n{ROW},"Tower, ""north"""',
        f'{HEADER},note\n{ROW},"door open\nchecked\r\n\n"\n',
        f"{HEADER}\n{ROW}".replace("1161114004", "1161114004.0").replace(",122,", ",1.22e2,").replace("5,", "5.0,", 1),
        "ä,id,x,value,station_id,parameter_id,reading_time,x\nö,5,xx,11.5,1161114004,122,2017-04-18 04:00:21,\n",
        "ä,id,value,station_id,parameter_id,reading_time\nö,5,11.5,1161114004,122,2017-04-18 04:00:21\n".encode(
            "latin-1"
        ),
    ],
    ids=[
        "plain",
        "open",
        "crlf",
        "cr",
        "bom",
        "blank",
        "utf16",
        "utf16be",
        "case",
        "quoted",
        "reordered",
        *("bare-utf16", "gzip", "gzip-members", "gzip-utf16", "sep", "sep-any", "tab", "bar", "semicolon"),
        *("quoted-decimal", "quoted-comma", "quoted-lines", "whole-numbers"),
        "extra",
        "latin1",
    ],
)
def test_one_reading_is_read_from_every_dialect(data: bytes | str) -> None:
    parsed = parse(data)
    assert (parsed.rows, parsed.accepted) == (1, 1)
    (reading,) = parsed.readings.to_dict("records")
    assert reading == {
        "reading_id": 5,
        "station_id": 1161114004,
        "parameter_id": 122,
        "reading_time": pd.Timestamp("2017-04-18 04:00:21", tz="UTC"),
        "value": 11.5,
    }


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "the file is empty"),
        ("\n \r\n", "the file is empty"),
        (b"\xef\xbb\xbf", "the file is empty"),
        (
            HEADER.replace("station_id", "site") + "\n" + ROW,
            "column 'station_id' is missing; the header is: id,value,site,parameter_id,reading_time;"
            " set BTS_LANDING_COLUMNS, for example station_id=NAME, if it has another name$",
        ),
        (ROW, "column 'value' is missing"),
        (HEADER + ",Value\n", "column 'value' stands twice"),
        ("id,ID,value,station_id,parameter_id,reading_time", "column 'id' stands twice"),
        (b"\xff\xfea", "marked as UTF-16 and is not"),
        (HEADER.encode("utf-16-le") + b"\xd8", "begins as UTF-16 and does not go on so"),
        (b"PK\3\4\0\0" + HEADER.encode(), "NUL bytes"),
        (b"i\1" + HEADER.encode("utf-16-le")[2:], "NUL bytes"),
        (gzip.compress(HEADER.encode() * 9)[:-12], "cut short"),
        (gzip.compress(HEADER.encode())[:10] + b"\xff" * 20, "damaged"),
        (b"x" * 500_000, "over 65536 bytes, so it is no header: x{199}…$"),
        (",".join(["x" * 70_000, HEADER]) + "\n" + ROW, "over 65536 bytes, so it is no header"),
        ("# made by a collector\n" + HEADER, "a comment above the header"),
        ("5,11.5,1,122,2017-04-18 04:00:21", "a first line without names"),
        (HEADER.replace("station_id", "station id").replace("parameter_id", "kind"), "example station_id=NAME, if"),
        (HEADER.replace("_id", " ID"), "set BTS_LANDING_COLUMNS=station_id=station id,parameter_id=parameter id$"),
    ],
    ids=[
        "empty",
        "blank",
        "bom",
        "missing",
        "headless",
        "twice",
        "id-twice",
        "not-utf16",
        "bare-utf16-cut",
        "zip",
        "nearly-utf16",
        "gzip-cut",
        "gzip-damaged",
        "one-long-line",
        "long-header",
        "comment",
        "no-header",
        "header-of-one-word",
        "header-of-words",
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(data: bytes | str, message: str) -> None:
    with pytest.raises(LandingFileRefused, match=message) as refusal:
        parse(data)
    assert str(refusal.value).isprintable()


def test_a_header_may_have_65536_bytes_and_not_one_more() -> None:
    header = f"{HEADER},{'x' * (65536 - len(HEADER) - 1)}"
    assert parse(f"{header}\n{ROW},").accepted == 1
    with pytest.raises(LandingFileRefused, match="over 65536 bytes"):
        parse(f"{header}x\n{ROW},")


def test_a_header_alone_is_a_file_without_rows() -> None:
    for data in (HEADER, HEADER + "\n", HEADER + "\r\n\r\n"):
        parsed = parse(data)
        assert (parsed.rows, parsed.accepted, parsed.duplicates, len(parsed.rejected)) == (0, 0, 0, 0)
        assert parsed.rejected.dtypes.to_dict() == parse(f"{HEADER}\nbroken").rejected.dtypes.to_dict()


def test_rejected_rows_name_their_physical_line_and_text() -> None:
    lines = ["abc", "6,x\0y,1,122,2017-04-18 04:00:21", "  ", f"{ROW},", "7,999999,1,122,2017-04-18 04:00:21"]
    parsed = parse(f"\n{HEADER}\r\n{ROW}\r\n\r\n" + "\r\n".join(lines))
    assert parsed.rejected.to_dict("list") == {
        "line": [5, 6, 8, 9],
        "raw": ["abc", "6,x\\x00y,1,122,2017-04-18 04:00:21", f"{ROW},", "7,999999,1,122,2017-04-18 04:00:21"],
        "reason": ["wrong number of columns", "broken value", "wrong number of columns", "sentinel value"],
    }
    assert parsed.rejected["line"].dtype == "int64"
    assert parsed.reasons == {"broken value": 1, "sentinel value": 1, "wrong number of columns": 2}


def test_bytes_that_are_not_utf8_are_shown_as_escapes() -> None:
    assert parse(HEADER.encode() + b"\nab\xe4\n").rejected["raw"].tolist() == ["ab\\xe4"]


def test_a_sentinel_is_one_for_its_own_parameter_only() -> None:
    catalogue = Catalogue((Parameter(1, "coded", sentinels=(5.0,)), Parameter(2, "plain", sentinels=())))
    data = "\n".join(
        [HEADER, *(f"{i},{v},1,{p},2017-04-18 04:00:21" for i, (p, v) in enumerate([(1, 5), (2, 5), (1, 999999)]))]
    )
    now = datetime(2017, 4, 19, tzinfo=UTC)
    parsed = parse_landing_file(
        data.encode(), catalogue, landing_timezone=ZoneInfo("UTC"), now=now, max_skew=timedelta(0)
    )
    assert parsed.rejected["line"].tolist() == [2]


def test_a_range_has_its_ends_and_nothing_beyond_them() -> None:
    ends = [
        (f"{value!r},{p.parameter_id}", value == end)
        for p in CATALOGUE
        for end, beyond in ((p.valid_min, -np.inf), (p.valid_max, np.inf))
        if np.isfinite(end)
        for value in (end, float(np.nextafter(end, beyond)))
    ]
    assert ends
    rows = [f"{value},1,{parameter},2017-04-18 04:00:21" for value, parameter in (e.split(",") for e, _ in ends)]
    parsed = parse("\n".join([HEADER.removeprefix("id,"), *rows]))
    assert parsed.rejected["line"].tolist() == [2 + k for k, (_, within) in enumerate(ends) if not within]
    assert parsed.reasons.keys() == {"value outside the valid range"}


def test_a_huge_line_is_one_rejected_row_kept_short() -> None:
    parsed = parse(f"{HEADER}\n{ROW}\n{'x' * 3_000_000}\n{ROW.replace('5,', '6,', 1)}\n")
    assert (parsed.accepted, parsed.rejected["raw"].str.len().tolist()) == (2, [1000])


def test_a_rejected_line_is_printed_whole_up_to_a_thousand_letters() -> None:
    for line, shown in (("x" * 1000, "x" * 1000), ("x" * 1001, "x" * 999 + "…"), ("é" * 1001, "é" * 999 + "…")):
        assert printable_line(line.encode()) == shown
    assert printable_line(b"a\rb\nc\0d\xff") == "a\\rb\\nc\\x00d\\xff"


def test_identical_rows_collapse_and_two_ids_in_one_second_are_both_real() -> None:
    other_id = ROW.replace("5,", "6,", 1)
    parsed = parse("\n".join([HEADER, ROW, other_id, ROW, ROW + ".000", ROW.replace("11.5", "11.50")]))
    assert (parsed.accepted, parsed.duplicates) == (2, 3)
    assert parsed.readings["reading_id"].tolist() == [5, 6]


def test_negative_zero_is_zero_to_the_bit() -> None:
    for rows in (
        ["5,-0,1,122,2017-04-18 04:00:21"],
        ["5,-0.0,1,122,2017-04-18 04:00:21", "5,n/a,1,122,2017-04-18 04:00:21"],
    ):
        assert not np.signbit(parse("\n".join([HEADER, *rows])).readings["value"]).any()


@pytest.mark.parametrize("empty_id", [False, True], ids=["no-column", "empty-cells"])
def test_rows_without_ids_collapse_when_identical(empty_id: bool) -> None:
    header = HEADER if empty_id else HEADER.removeprefix("id,")
    row = ROW[1:] if empty_id else ROW[2:]
    parsed = parse("\n".join([header, row, row, row.replace("11.5", "12.5")]))
    assert (parsed.accepted, parsed.duplicates) == (2, 1)
    assert parsed.readings["reading_id"].isna().all()


def test_readings_come_in_canonical_order_whatever_the_order_of_rows() -> None:
    rows = [
        f"{i},{v},{s},{p},2017-04-18 04:00:0{t}"
        for s in (3, 20)
        for p in (111, 122)
        for t in (1, 2)
        for i in (4, 5, 30)
        for v in (-1, 0, 7)
    ]
    expected = parse("\n".join([HEADER, *rows])).readings
    assert expected.equals(parse("\n".join([HEADER, *rows[::-1]])).readings)
    assert expected.equals(parse("\n".join([HEADER, *rows[::2], *rows[1::2]])).readings)
    keys = ["station_id", "parameter_id", "reading_time", "reading_id", "value"]
    assert expected.equals(expected.sort_values(keys, ignore_index=True))


@pytest.mark.parametrize("late", [0, 1], ids=["in-order", "late-row"])
def test_time_decides_within_a_series_and_stations_and_parameters_before_it(late: int) -> None:
    # More than 2^16 possible series; a late row takes another way through the sort.
    rows = [f"{i},1,{i * 7919 % 400},{500 + i * 31 % 300},2017-04-18 04:{i // 60:02}:{i % 60:02}" for i in range(1500)]
    frame = parse("\n".join([HEADER, *rows, "9,1,0,500,2017-04-18 03:00:00"][: len(rows) + 1 + late])).readings
    assert frame.equals(frame.sort_values(["station_id", "parameter_id", "reading_time"], ignore_index=True))


def test_naive_times_are_in_the_landing_zone_and_offsets_are_honoured() -> None:
    rows = ["1,1,1,122,2017-04-18 04:00:00", "2,1,1,122,2017-04-18T04:00:00+02:00", "3,1,1,122,2017-04-18T04:00:00Z"]
    times = parse("\n".join([HEADER, *rows]), zone="Asia/Ho_Chi_Minh").readings.set_index("reading_id")["reading_time"]
    assert times.dt.strftime("%d %H").to_dict() == {1: "17 21", 2: "18 02", 3: "18 04"}


@pytest.mark.skipif(not RECORDING.exists(), reason="the recording is not beside this checkout")
def test_the_real_recording_is_taken_whole() -> None:
    parsed = [parse(path.read_bytes()) for path in sorted(RECORDING.glob("*.csv"))]
    assert sum(p.rows for p in parsed) == 5772
    assert sum(p.accepted for p in parsed) == 5772
    assert {s for p in parsed for s in p.readings["station_id"]} == {1161114002, 1161114004}
