"""Every way of writing the same twelve readings: taken as the control is, or refused with the sentence that helps."""

import gzip
import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest

from bts_assets.contracts.catalogue import load_catalogue
from bts_assets.landing import table, text
from bts_assets.landing.dialect import LandingRules
from bts_assets.landing.errors import LandingFileRefused
from bts_assets.landing.files import ParsedFile, parse_landing_file
from bts_assets.landing.names import hashed_id, is_name, number_proposed, unquoted
from bts_assets.landing.text import decoded

CATALOGUE = load_catalogue()
NOW = datetime(2026, 11, 25, tzinfo=UTC)
NAMES = ("id", "value", "station_id", "parameter_id", "reading_time")


def parse(data: bytes | str, number_of: Any = None, **rules: Any) -> ParsedFile:
    data = data.encode() if isinstance(data, str) else data
    skew = timedelta(days=1)
    zone = ZoneInfo("UTC")
    return parse_landing_file(
        data,
        CATALOGUE,
        landing_timezone=zone,
        now=NOW,
        max_skew=skew,
        rules=LandingRules(**rules),
        number_of=number_of,
        max_bytes=1 << 20,
    )


def written(
    time: str = "%Y-%m-%d %H:%M:%S",
    delimiter: str = ",",
    header: Sequence[str] = NAMES,
    row: str = "{id},{value:.1f},{station},{parameter},{time}",
    end: str = "\n",
) -> str:
    """Twelve readings, 20.0, 20.1 ..., every five minutes from ten."""
    lines = [delimiter.join(header)]
    for i in range(12):
        at = datetime(2026, 11, 24, 10, tzinfo=UTC) + timedelta(minutes=5 * i)
        epoch = int(at.timestamp())
        told = at.strftime(time).format(s=epoch, ms=epoch * 1000, us=epoch * 10**6, ns=epoch * 10**9)
        cells = {"id": 100 + i, "value": 20 + i / 10, "station": 101, "parameter": 111, "time": told}
        lines.append(row.format(**cells).replace(",", delimiter).replace("~", ","))
    return end.join(lines) + end


COMMA = "{id},{value:.0f}~{tenth},{station},{parameter},{time}"
TAKEN: Final[dict[str, bytes | str]] = {
    "control": written(),
    "bom, crlf": "\ufeff" + written(end="\r\n"),
    "utf-16": written().encode("utf-16"),
    "utf-16 without mark": written().encode("utf-16-le"),
    "utf-16 with tabs": written(delimiter="\t").encode("utf-16"),
    "semicolon": written(delimiter=";"),
    "semicolon, decimal comma": written(delimiter=";").replace("20.", "20,").replace("21.", "21,"),
    "sep line": "sep=,\r\n" + written(end="\r\n"),
    "quoted": written(row='"{id}","{value:.1f}","{station}","{parameter}","{time}"'),
    "quoted decimal comma": written(row='{id},"{value:.1f}",{station},{parameter},{time}')
    .replace('"20.', '"20,')
    .replace('"21.', '"21,'),
    "empty columns": written(header=(*NAMES, "", ""), row="{id},{value:.1f},{station},{parameter},{time},,"),
    "case and blanks": written(header=("ID", " Value ", "Station_ID", "PARAMETER_ID", "Reading_Time")),
    "T, Z": written("%Y-%m-%dT%H:%M:%SZ"),
    "t, z": written("%Y-%m-%dt%H:%M:%Sz"),
    "milliseconds": written("%Y-%m-%dT%H:%M:%S.000Z"),
    "nanoseconds": written("%Y-%m-%dT%H:%M:%S.123456789Z"),
    "comma fraction": written("%Y-%m-%d %H:%M:%S~5", delimiter=";"),
    "quoted comma fraction": written('"%Y-%m-%d %H:%M:%S~5"'),
    "offset": written("%Y-%m-%d %H:%M:%S+0000"),
    "blank before the offset": written("%Y-%m-%d %H:%M:%S +00:00"),
    "UTC": written("%Y-%m-%d %H:%M:%S UTC"),
    "no seconds": written("%Y-%m-%d %H:%M"),
    "year first with slashes": written("%Y/%m/%d %H:%M"),
    "12 hours": written("%Y-%m-%d %I:%M:%S %p"),
    "epoch s": written("{s}"),
    "epoch s, fraction": written("{s}.25"),
    "epoch ms": written("{ms}"),
    "epoch us": written("{us}"),
    "epoch ns": written("{ns}"),
    "uuid": written(row="6f9619ff-8b86-d011-b42d-{id:012d},{value:.1f},{station},{parameter},{time}"),
    "big ids": written(row="9223372036854775{id},{value:.1f},{station},{parameter},{time}"),
    "whole ids": written(row="{id}.0,{value:.1f},{station}.0,1.11E+02,{time}"),
    "negative ids": written(row="-{id},{value:.1f},{station},{parameter},{time}"),
    "no ids": written(header=NAMES[1:], row="{value:.1f},{station},{parameter},{time}"),
    "cr": written(end="\r"),
    "ctrl-z": written(end="\r\n") + "\x1a",
    "psql footer": written() + "(12 rows)\n\n",
    "quoted delimiter": written(header=(*NAMES, "site"), row='{id},{value:.1f},{station},{parameter},{time},"a~ b"'),
    "quoted line end": written(header=(*NAMES, "n"), row='{id},{value:.1f},{station},{parameter},{time},"a\nb"'),
    "latin-1": written(header=(*NAMES, "x"), row="{id},{value:.1f},{station},{parameter},{time},æ").encode("latin-1"),
    "gzip": gzip.compress(written().encode()),
}
#: How the field's files are named where something is to be set or is refused; each with what its sentence says.
REFUSED: Final = {
    "a09": "a row 6",
    "a11": "set BTS_LANDING_COLUMNS=station_id=station id",
    "a18": "set BTS_LANDING_DAYFIRST=true or false (true",
    "a20": "set BTS_LANDING_DAYFIRST=true or false (false",
    "a37": "a comment above the header",
    "a43": "the file is empty",
    "a44": "a header and no rows",
}
#: Not twelve readings by design: a header within, values and times of every kind.
OTHER_COUNTS: Final = {"a36": 24, "a48": 11, "a49": 8}
FOLDER: Final = "data/field/01-csv-variants/landing"
SHARED: Final = Path(__file__).parents[3] / "shared" / FOLDER
FIELD: Final = sorted(SHARED.iterdir()) if SHARED.is_dir() else []


def is_control(parsed: ParsedFile) -> bool:
    frame = parsed.readings
    steps = (frame["reading_time"] - datetime(2026, 11, 24, 10, tzinfo=UTC)).dt.floor("s").dt.total_seconds()
    return (
        parsed.accepted == 12
        and frame["value"].sum() == pytest.approx(246.6)
        and steps.tolist() == [300.0 * i for i in range(12)]
    )


@pytest.mark.parametrize("name", TAKEN)
def test_spelling_is_taken_as_the_control(name: str) -> None:
    parsed = parse(TAKEN[name])
    assert is_control(parsed), (parsed.reasons, parsed.cause)
    assert parsed.readings["station_id"].unique().tolist() == [101]
    assert parsed.readings["parameter_id"].unique().tolist() == [111]


@pytest.mark.parametrize("file", FIELD, ids=lambda file: file.name)
def test_spelling_met_in_the_field_is_taken_as_the_control_or_refused_in_one_sentence(file: Path) -> None:
    kind = file.name[:3]
    if kind not in REFUSED:
        parsed = parse(file.read_bytes())
        assert parsed.accepted == OTHER_COUNTS[kind] if kind in OTHER_COUNTS else is_control(parsed)
        return
    try:
        told = parse(file.read_bytes()).cause or ""
    except LandingFileRefused as refusal:
        told = str(refusal)
    assert REFUSED[kind] in told
    assert told.isprintable()


def test_field_folder_is_there_with_the_shared_data(shared_data: Path) -> None:
    assert len(FIELD) == 49


@pytest.mark.parametrize(
    ("time", "order", "form"),
    [
        ("%d/%m/%Y %H:%M:%S", True, "day first"),
        ("%d.%m.%Y %H:%M", True, "day first"),
        ("%m/%d/%Y %I:%M:%S %p", False, "month first"),
        ("%m-%d-%Y %H:%M Z", False, "month first"),
    ],
)
def test_order_of_day_and_month_is_never_guessed(time: str, order: bool, form: str) -> None:
    unset = parse(written(time))
    assert unset.reasons == {"reading_time whose day could be its month": 12}
    assert f"BTS_LANDING_DAYFIRST=true or false ({str(order).lower()}, by this one)" in (unset.cause or "")
    assert is_control(told := parse(written(time), dayfirst=order))
    assert form in told.dialect.times
    # The 24th is no month: nothing is read the other way round.
    wrong = parse(written(time), dayfirst=not order)
    assert wrong.reasons == {"broken reading_time": 12}
    assert "(BTS_LANDING_DAYFIRST the other way round?)" in (wrong.cause or "")


FORMS: Final = {
    "%Y-%m-%d %H:%M:%S": {"iso"},
    "%Y-%m-%d %H:%M:%S~25Z": {"iso with offset"},
    "%Y/%m/%d %H:%M:%S": {"iso"},
    "%Y/%m/%d %H:%M UTC": {"iso with offset", "without seconds"},
    "%Y-%m-%d %I:%M:%S %p": {"iso", "12 hours"},
    "%m/%d/%Y %H:%M:%S": {"month first"},
    "%m/%d/%Y %H:%M:%S Z": {"month first"},
    "%m/%d/%Y %I:%M %p": {"month first", "without seconds", "12 hours"},
    "{s}": {"epoch s"},
    "{ms}": {"epoch ms"},
    "{us}": {"epoch us"},
    "{ns}": {"epoch ns"},
    "yesterday": set(),
}


def test_a_dialect_names_the_forms_of_its_times_and_is_told_as_json() -> None:
    for time, forms in FORMS.items():
        dialect = parse(written(time, delimiter=";"), dayfirst=False).dialect
        assert dialect.times == tuple(sorted(forms)), time
        assert json.loads(json.dumps(dialect.as_json())) == vars(dialect) | {"times": sorted(forms)}
    mixed = [written(time, delimiter=";").split("\n", 1)[1] for time in FORMS]
    assert set(parse(";".join(NAMES) + "\n" + "".join(mixed), dayfirst=False).dialect.times) == set[str]().union(
        *FORMS.values()
    )


def test_commas_that_could_group_thousands_wait_for_the_setting() -> None:
    text = "\n".join(
        ["value;station_id;parameter_id;reading_time", *[f"1,23{i};1;900;2026-11-24 10:00" for i in range(3)]]
    )
    unset = parse(text)
    assert unset.accepted == 0
    assert "BTS_LANDING_DECIMAL=comma or point" in (unset.cause or "")
    assert parse(text, decimal="comma").readings["value"].tolist() == [1.23, 1.231, 1.232]
    assert parse(text, decimal="point").readings["value"].tolist() == [1230.0, 1231.0, 1232.0]
    # One value that can only be decimal decides for its file, as one with a point does.
    assert parse(text + "\n20,5;1;900;2026-11-24 10:00").accepted == 4
    assert parse(text + "\n20.5;1;900;2026-11-24 10:00").accepted == 1


def test_columns_of_other_names_are_mapped() -> None:
    header = ("Metric Id", "ts", "site", "val", "value")
    text = written(header=header, row="{parameter},{time},{station},{value:.1f},x")
    names = {"value": "VAL", "station_id": "site", "parameter_id": "metric id", "reading_time": "ts"}
    assert is_control(parse(text, columns=names))
    with pytest.raises(LandingFileRefused, match="column 'station_id' is missing"):
        parse(text)
    assert is_control(parse(written(), columns={"station_id": "site"})), "our own names hold where theirs are absent"


def test_names_are_numbered_where_the_column_is_of_names() -> None:
    asked: list[tuple[str, tuple[str, ...]]] = []

    def number_of(kind: Any, names: Sequence[str]) -> dict[str, int]:
        asked.append((kind, tuple(names)))
        return {name: number_proposed(kind, name) for name in names}

    rows = [
        '1,"Tower, ""north""",temp',
        "2, Hill ,temp",
        "3,7,temp",
        "4,,temp",
        "5,NULL,temp",
        "6,Hill,111",
        "7,Hill,temp",
    ]
    text = "value,station_id,parameter_id,reading_time\n" + "".join(f"{row},2026-11-24 10:00\n" for row in rows)
    parsed = parse(text, number_of)
    assert asked == [("station", ("Hill", 'Tower, "north"')), ("parameter", ("temp",))]
    assert parsed.reasons == {"broken station_id": 2}
    assert (parsed.dialect.stations, parsed.dialect.parameters) == ("names", "names")
    stations = dict(zip(parsed.readings["value"], parsed.readings["station_id"], strict=True))
    assert stations[3.0] == 7
    assert stations[2.0] == stations[6.0] == number_proposed("station", "Hill") < 0
    # Without whoever numbers them, and where most cells are ids, a name is a broken id.
    assert parse(text).reasons["broken station_id"] == 6
    one_odd = written().replace(",101,", ",Tower,", 1)
    assert parse(one_odd, number_of).reasons == {"broken station_id": 1}


def test_numbers_of_names_lie_below_zero_and_within_what_their_columns_and_clients_hold() -> None:
    for kind, lowest in (("station", -(2**53)), ("parameter", -(2**31))):
        proposed = [number_proposed(kind, f"name {i}", attempt) for i in range(200) for attempt in (0, 1)]
        assert all(lowest < number < 0 for number in proposed)
        assert len(set(proposed)) == 400


@pytest.mark.parametrize(("names", "of", "accepted"), [(2, 4, 2), (3, 5, 5)])
def test_a_column_is_of_names_where_more_than_half_of_it_is(names: int, of: int, accepted: int) -> None:
    rows = "".join(f"1,{'Hill' if k < names else k + 1},122,2026-11-24 10:00\n" for k in range(of))
    parsed = parse("value,station_id,parameter_id,reading_time\n" + rows, lambda kind, found: dict.fromkeys(found, -1))
    assert parsed.rows - parsed.rejected_rows == accepted


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("x" * 200, True), ("x" * 201, False), ("Hill 7", True), ("é", True), ("7", False), ("1e5", False),
        ("0x1F", False), ("a\tb", False), ("N/A", False), ("7-7", False),
    ],
)  # fmt: skip
def test_a_name_has_a_letter_can_be_printed_and_is_no_number(text: str, is_one: bool) -> None:
    assert is_name(text) is is_one


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ('"a b"', "a b"), ('"say ""b"""', 'say "b"'), (' " a "\t', "a"), ('"a', "a"), ('a"', "a"),
        ('a "b" c', 'a "b" c'),
        ('b""', "b"), ('""', ""), ('"', ""), ("", ""),
    ],
)  # fmt: skip
def test_a_cell_is_taken_out_of_its_quotes(cell: str, text: str) -> None:
    assert unquoted(cell) == text


@pytest.mark.parametrize(("names", "accepted"), [(50_000, 50_000), (50_001, 0)])
def test_more_names_than_a_network_could_have_are_none(names: int, accepted: int) -> None:
    rows = "".join(f"1,Mast {k},122,2026-11-24 10:00\n" for k in range(names))
    parsed = parse("value,station_id,parameter_id,reading_time\n" + rows, lambda kind, found: dict.fromkeys(found, -1))
    assert parsed.rows - parsed.rejected_rows == accepted


@pytest.mark.parametrize(("kind", "span"), [("station", 2**52), ("parameter", 2**30)])
def test_numbers_of_names_are_of_their_sha_256_and_so_the_same_in_every_home(kind: Any, span: int) -> None:
    first = int(hashlib.sha256(f"{kind} Hill".encode()).hexdigest()[:16], 16)
    proposed = [number_proposed(kind, "Hill"), *(number_proposed(kind, "Hill", taken) for taken in (0, 1))]
    assert proposed == [-1 - (first + k) % span for k in (0, 0, 1)]


def test_an_id_never_rejects_a_reading_and_the_same_text_is_the_same_id() -> None:
    ids = ["12.0", "12", "1.2e1", "abc", ' "abc" ', "-1", "", "NULL", "9" * 30]
    text = ",".join(NAMES) + "\n" + "".join(f"{id_},{i},1,900,2026-11-24 10:00:00\n" for i, id_ in enumerate(ids))
    parsed = parse(text)
    found = parsed.readings.sort_values("value")["reading_id"].tolist()
    assert found[:3] == [12, 12, 12]
    assert found[3] == found[4] == hashed_id("abc")
    assert found[5] == hashed_id("-1")
    assert parsed.readings["reading_id"].isna().sum() == 2
    assert 0 <= found[8] < 2**63


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (written(), ("utf-8", "none", False)),
        (written() + "é", ("utf-8", "none", False)),
        ("\ufeff" + written(), ("utf-8-bom", "none", False)),
        (
            b"\xe4," + written(row="{id},{value:.1f},{station},{parameter},{time},").encode(),
            ("not utf-8", "none", False),
        ),
        (written().encode() + b"\xff", ("not utf-8", "none", False)),
        (written().encode("utf-16-be"), ("utf-16", "none", False)),
        (
            gzip.compress(written(row='"{id}",{value:.1f},{station},{parameter},{time}').encode()),
            ("utf-8", "gzip", True),
        ),
    ],
)
def test_a_dialect_says_what_the_bytes_of_a_file_were(data: bytes | str, told: tuple[str, str, bool]) -> None:
    dialect = parse(data).dialect
    assert (dialect.encoding, dialect.compression, dialect.quoted) == told


def test_what_quotes_protect_comes_back_as_it_was() -> None:
    ids = ["a,b", "a\nb", "a\r\nb", "a\rb", ",\n,", "a,b\nc,d\ne,f", "a\x1db", "a\x1eb", "a\x1fb", "ÿ,þ,ý"]
    rows = "".join(f'"{own}",{k},1,900,2026-11-24 10:00:00\n' for k, own in enumerate(ids))
    found = parse(",".join(NAMES) + "\n" + rows).readings.sort_values("value")["reading_id"]
    assert found.tolist() == [hashed_id(own) for own in ids]


def test_gzip_is_unpacked_no_further_than_a_file_may_be_large(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = gzip.compress(b"x" * 1000)
    assert len(decoded(largest, 1000).data) == len(decoded(largest).data) == 1000
    with pytest.raises(LandingFileRefused, match="allows \\(999"):
        decoded(largest, 999)
    for piece in (1, 7, 1000):
        monkeypatch.setattr(text, "_PIECE", piece)
        assert decoded(largest + largest + b"\0").data == b"x" * 2000
        for kept in range(2, len(largest)):
            with pytest.raises(LandingFileRefused, match="cut short"):
                decoded(largest[:kept])
    bomb = gzip.compress(b"\n" * (8 << 20))
    assert len(bomb) < 10_000
    with pytest.raises(LandingFileRefused, match=r"more bytes than BTS_MAX_FILE_BYTES allows \(1048576\)"):
        parse(bomb)


@pytest.mark.parametrize(
    ("rows", "cause"),
    [
        (["1;2;3;4"], "the header is cut at comma and its rows at semicolon?"),
        (["1,2,3"], "the header has 4 fields, a row 3: 1,2,3"),
        (["12V,1,122,2026-11-24 10:00"], "'12V' is not a number"),
        (["1,1,122,17"], "an epoch is one between 2000 and 2100"),
        (["1,1,122,yesterday"], "'yesterday' is not a time that can be read; write it like 2026-11-24T10:00:00Z"),
        ([f"1,1,122,{'x' * 2500},,"], "the header has 4 fields, a row"),
        (["1,1,122,2026-11-29 10:00"] * 2, "all 2 rows: reading_time in the future; '2026-11-29 10:00': are times"),
        (["999999,1,122,2026-11-24 10:00"], "is the parameter what the catalogue says"),
        (["1,?,122,2026-11-24 10:00", "1,1,x,2026-11-24 10:00", "1,!,1,"], "2 of 3 rows: broken station_id; '?' is"),
    ],
)
def test_a_file_without_a_reading_says_the_likely_cause(rows: list[str], cause: str) -> None:
    parsed = parse("\n".join(["value,station_id,parameter_id,reading_time", *rows]))
    assert parsed.accepted == 0
    assert cause in (parsed.cause or "")


@pytest.mark.parametrize(
    ("date", "proof"),
    [("13/12/2026", " (true, by this one)"), ("12/13/2026", " (false, by this one)"), ("12/12/2026", "true or false")],
)
def test_a_date_that_can_be_read_in_one_way_alone_says_in_which(date: str, proof: str) -> None:
    cause = parse(f"value,station_id,parameter_id,reading_time\n1,1,122,{date} 10:00").cause
    assert (cause or "").endswith(proof)


def test_cells_that_a_cause_shows_are_cut_to_sixty_letters() -> None:
    for length, shown in ((60, "x" * 60), (61, "x" * 59 + "…")):
        cause = parse(f"value,station_id,parameter_id,reading_time\n{'x' * length},1,122,2026-11-24 10:00").cause
        assert f"'{shown}' is not a number" in (cause or "")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_what_a_file_holds_is_the_same_whatever_the_size_of_its_blocks(
    end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = [f"{i},{cell},1,900,2026-11-24 10:00:00\n" for i, cell in enumerate(["x", "9,9", "", "1"] * 9)]
    header, sound = written().split("\n", 1)
    text = "\n".join([header, *["ragged"] * 30, sound, *broken, sound]).replace("\n", end)

    def told() -> list[Any]:
        parsed = parse_landing_file(
            text.encode(), CATALOGUE, landing_timezone=ZoneInfo("UTC"), now=NOW, max_skew=timedelta(0), rejected_kept=40
        )
        frames = parsed.readings.to_dict("list"), parsed.rejected.to_dict("list")
        return [*frames, parsed.rows, parsed.duplicates, parsed.reasons, parsed.dialect]

    whole = told()
    assert whole[3] == 12
    a_line = text.index(end, 700) - len(header)  # a block of the next size ends within the line end
    for size in (30, a_line - len(end), a_line - len(end) + 1, 2000, 3000):
        monkeypatch.setattr(table, "BLOCK", size)
        assert told() == whole


@pytest.mark.parametrize(
    ("first", "later", "reasons"),
    [
        ("1.5", "20,5", {"broken value": 10}),
        ("1.5", "1,234", {"broken value": 10}),
        ("1,5", "1.5", {"broken value": 10}),
        ("1,234", "1,234", {"value with a comma that could be decimal or group thousands": 20}),
    ],
)
def test_the_first_rows_decide_what_commas_are(
    monkeypatch: pytest.MonkeyPatch, first: str, later: str, reasons: dict[str, int]
) -> None:
    monkeypatch.setattr(table, "BLOCK", 60)
    rows = [f"{value};1;900;2026-11-24 10:00" for value in [first] * 10 + [later] * 10]
    assert parse("\n".join(["value;station_id;parameter_id;reading_time", *rows])).reasons == reasons


@pytest.mark.parametrize("at", [0, 70, 129])
def test_a_ragged_row_among_many_spoils_no_other(at: int) -> None:
    rows = [f"{k},1,900,2026-11-24 10:00" for k in range(130)]
    parsed = parse("\n".join(["value,station_id,parameter_id,reading_time", *rows[:at], "ragged", *rows[at + 1 :]]))
    assert sorted(parsed.readings["value"]) == [k for k in range(130) if k != at]


def test_row_that_is_too_long_to_be_cut_refuses_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    row = written().split("\n")[1] + "\n"
    monkeypatch.setattr(table, "_LARGEST", 12 * len(row))
    assert is_control(parse(written()))
    monkeypatch.setattr(table, "_LARGEST", 12 * len(row) - 1)
    with pytest.raises(LandingFileRefused, match="one row has over"):
        parse(written())


def test_rejected_text_is_kept_for_the_first_rows_alone_and_all_are_counted() -> None:
    rows = [f"x,1,1,2026-11-24 10:00,{i}" if i % 2 else f"x{i},1,1,2026-11-24 10:00" for i in range(1000)]
    text = "\n".join(["value,station_id,parameter_id,reading_time", *rows])
    parsed = parse_landing_file(
        text.encode(),
        CATALOGUE,
        landing_timezone=ZoneInfo("UTC"),
        now=NOW,
        max_skew=timedelta(0),
        rejected_kept=3,
    )
    assert parsed.rejected["line"].tolist() == [2, 3, 4]
    assert parsed.rejected["raw"].tolist() == rows[:3]
    assert parsed.reasons == {"broken value": 500, "wrong number of columns": 500}
    assert parsed.rejected_rows == parsed.rows == 1000


#: What a small file of 4 MB costs beyond an empty one; each was a hundred times its size.
GREEDY: Final = {
    "line ends": b"\n",
    "commas": b",\n",
    "empty rows": b",,,\n",
    "quotes": b'"\n',
    "pairs of quotes": b'""\n',
    "no text": b"\xff\n",
}
_MEASURE: Final = """
import resource, sys
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo
from bts_assets.contracts.catalogue import load_catalogue
from bts_assets.landing.files import parse_landing_file
header, size = b"value,station_id,parameter_id,reading_time\\n", int(sys.argv[1])
def parse(data):
    return parse_landing_file(data, load_catalogue(), landing_timezone=ZoneInfo("UTC"), rejected_kept=1000,
        now=datetime(2026, 11, 25, tzinfo=UTC), max_skew=timedelta(0))
parse(header + b"1,1,1,2026-11-24 10:00\\nx,y,z,a\\n1\\n")
for piece in sys.argv[2:]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    piece = bytes.fromhex(piece)
    parsed = parse(header + piece * (size // len(piece)))
    assert parsed.accepted == 0 and parsed.rejected_rows == parsed.rows
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_memory_follows_the_bytes_of_a_file_whatever_they_are() -> None:
    size = 4 << 20
    command = [sys.executable, "-c", _MEASURE, str(size), *(piece.hex() for piece in GREEDY.values())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    grown = dict(zip(GREEDY, map(int, done.stdout.split()), strict=True))
    # Peaks only ever rise, so each is what it costs beyond all before it.
    assert sum(grown.values()) < 10 * (size >> 20) + 200, grown


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("before", [["", " "], ["", "sep=,", ""], [" \t", "", "sep=,"]])
def test_lines_before_the_header_are_counted_whatever_ends_them(before: list[str], end: str) -> None:
    lines = [*before, *written().strip().split("\n"), "1,x,1,900,2026-11-24 10:00:00"]
    rejected = parse(end.join(lines)).rejected
    assert rejected["line"].tolist() == [len(lines)]


def test_a_file_of_which_every_time_is_long_gone_asks_for_the_clock_or_the_column() -> None:
    cause = parse("value,station_id,parameter_id,reading_time\n1,1,900,1980-01-06 00:00:00\n").cause
    assert "'1980-01-06 00:00:00': a clock that was never set" in (cause or "")


def test_a_name_in_another_encoding_is_no_other_station() -> None:
    header = "value,station_id,parameter_id,reading_time"
    rows = [f"{k},München,Load,2026-11-24 10:0{k}:00" for k in range(3)]
    parsed = parse("\n".join([header, *rows]).encode("cp1252"))
    assert parsed.reasons == {"broken station_id": 3}
    assert "'M\\xfcnchen' holds bytes that are no UTF-8; write the file in UTF-8" in (parsed.cause or "")
    numbers = {"München": -1, "Load": -2}
    assert parse("\n".join([header, *rows]), lambda _, names: {name: numbers[name] for name in names}).accepted == 3


def test_grouped_thousands_name_the_setting_and_are_taken_with_it() -> None:
    text = "value;station_id;parameter_id;reading_time\n" + "".join(
        f"1.{k}00,5;1;900;2026-11-24 10:0{k}:00\n" for k in range(3)
    )
    assert "'1.000,5' has its thousands grouped; set BTS_LANDING_DECIMAL=comma" in (parse(text).cause or "")
    assert parse(text, decimal="comma").readings["value"].tolist() == [1000.5, 1100.5, 1200.5]
