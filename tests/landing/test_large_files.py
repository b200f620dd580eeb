"""A file that does not fit into memory is found to hold what it holds when it does: bit for bit, with every count."""

import codecs
import gzip
from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bts_assets.contracts.catalogue import load_catalogue
from bts_assets.landing import scratch as scratch_module
from bts_assets.landing import table, text
from bts_assets.landing.dialect import LandingRules
from bts_assets.landing.errors import LandingFileRefused, StillChanging
from bts_assets.landing.files import ParsedFile, parse_landing_file
from bts_assets.landing.inbox import copy_settled, digest_of, look, read_settled
from bts_assets.landing.reading_arrays import NO_ID, Facts, ReadingArrays, columns_of, concatenated
from bts_assets.landing.scratch import Scratch, count, kept
from bts_assets.landing.spill import Spill, ranges
from bts_assets.landing.text import decoded
from examples import examples

CATALOGUE: Final = load_catalogue()
NAMES: Final = {"Nord": -1, "Süd": -2, "Ost, 2": -3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


def parsed(data: object, kept_rows: int | None, rules: LandingRules, scratch: Scratch | None) -> ParsedFile | str:
    try:
        return parse_landing_file(
            data,  # type: ignore[arg-type]
            CATALOGUE,
            landing_timezone=ZoneInfo("Europe/Vienna"),
            now=datetime(2019, 11, 5, tzinfo=UTC),
            max_skew=timedelta(hours=6),
            rules=rules,
            number_of=lambda kind, names: {name: NAMES[name] for name in names if name in NAMES},
            max_bytes=4000,
            rejected_kept=kept_rows,
            scratch=scratch,
        )
    except LandingFileRefused as refusal:
        return str(refusal)


def assert_same(found: ParsedFile | str, expected: ParsedFile | str) -> None:
    if isinstance(expected, str) or isinstance(found, str):
        assert found == expected
        return
    for name in (field.name for field in fields(ParsedFile)):
        if name == "rejected":
            pd.testing.assert_frame_equal(found.rejected, expected.rejected)
        elif name != "ordered":
            assert getattr(found, name) == getattr(expected, name), name
    for ours, theirs in zip(columns_of(found.arrays), columns_of(expected.arrays), strict=True):
        assert (ours.dtype, ours.tobytes()) == (theirs.dtype, theirs.tobytes())
    assert_same_facts(found.ordered.facts(), expected.ordered.facts())


def assert_same_facts(ours: Facts, theirs: Facts) -> None:
    assert (ours.first, ours.last) == (theirs.first, theirs.last)
    assert ours.days.tolist() == theirs.days.tolist()
    assert set(ours.stations.tolist()) == set(theirs.stations.tolist())
    assert set(ours.parameters.tolist()) == set(theirs.parameters.tolist())


def one_of(*cells: str) -> st.SearchStrategy[str]:
    return st.sampled_from(cells)


rows = st.tuples(
    one_of("1", "2", "3", "", "x"),
    one_of("11.5", "11.5", "12", "-0", "999999", "n/a", '"12,5"', "1,234", '"1,234.5"', "0"),
    one_of("7", "7", "8", "9", "-4", "Nord", '"Süd"', '"Ost, 2"', '"9\n'),
    one_of("122", "122", "123", "900", "x"),
    one_of(
        "2019-10-20 04:00:21",
        "2019-10-20 04:00:22",
        "2019-10-27 02:30:00",
        "2019-10-21T04:00:21Z",
        "20/10/2019 04:00",
        "03/04/2019 04:00",
        "2031-01-01",
        "1970-01-01",
        "",
    ),
).map(",".join)
others = one_of(
    "", " ", "\t", "1,2", "1,2,3,4,5,6", '"', "\r", "ä,,,,", "\ufeff", "\udcff,11.5,7,122,2019-10-20 04:00:21"
)
lines = st.lists(st.one_of(rows, rows, rows, others), max_size=40)


@st.composite
def files(draw: st.DrawFn) -> bytes:
    end = draw(one_of("\n", "\r\n", "\r"))
    header = draw(one_of("id,value,station_id,parameter_id,reading_time", "\n \n\r\nsep=,\nreading_time,value,id"))
    header = header.replace(",id", ",id,station_id,parameter_id") if header.endswith(",id") else header
    body = draw(lines)
    if draw(st.booleans()):
        body = [*body, *draw(st.permutations(body))]
    whole = end.join([header, *body]) + end * draw(st.integers(0, 2))
    encoding = draw(one_of("utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1"))
    errors = "surrogateescape" if encoding.startswith("utf-8") else "replace"
    data = whole.encode(encoding, errors)
    if draw(st.booleans()):
        data = gzip.compress(data[: len(data) // 2]) + gzip.compress(data[len(data) // 2 :]) + bytes(7)
    return data[: draw(st.integers(0, 12)) - 13] if draw(st.integers(0, 9)) == 9 else data


@given(
    files(),
    st.integers(1, 60),
    st.integers(1, 20),
    st.integers(1, 400),
    st.integers(1, 50),
    st.sampled_from([None, 0, 3]),
    st.sampled_from([None, True]),
    st.sampled_from([None, "comma"]),
)
@examples(200)
def test_what_does_not_fit_into_memory_is_found_to_be_the_same(
    folder: Path,
    data: bytes,
    text_bytes: int,
    run: int,
    block: int,
    piece: int,
    kept_rows: int | None,
    dayfirst: bool | None,
    decimal: str | None,
) -> None:
    rules, scratch = LandingRules(dayfirst=dayfirst, decimal=decimal), Scratch(folder, text_bytes, run)  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "BLOCK", block)
        expected = parsed(data, kept_rows, rules, None)
        patch.setattr(text, "_PIECE", piece)
        patch.setattr(scratch_module, "_PIECE", piece)
        copy = kept((data[at : at + piece] for at in range(0, len(data), piece)), scratch)
        assert (copy[:], isinstance(copy, bytes)) == (data, len(data) <= text_bytes)
        assert_same(parsed(copy, kept_rows, rules, scratch), expected)
    assert list(folder.iterdir()) == []


def a_row(number: int, station: int = 7, value: str = "11.5", second: int = 0) -> str:
    return f"{number},{value},{station},122,2019-10-20 04:00:{second:02}"


MANY: Final = {
    "one station": [a_row(n, second=n % 60) for n in range(300)],
    "one key": [a_row(n % 97, value=str(n % 5)) for n in range(300)],
    "one reading": [a_row(1)] * 300,
    "in order of time": [a_row(n, station=n % 7, second=n // 6) for n in range(300)],
    "half of it again": [a_row(n % 150, station=n % 7) for n in range(300)],
    "all rejected": [a_row(n, value="n/a") for n in range(300)],
}


@pytest.mark.parametrize("run", [1, 7, 64, 299, 300, 1000])
@pytest.mark.parametrize("case", MANY)
def test_runs_of_any_size_give_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch, case: str, run: int) -> None:
    monkeypatch.setattr(table, "BLOCK", 500)
    data = "\n".join(["id,value,station_id,parameter_id,reading_time", *MANY[case], ""]).encode()
    monkeypatch.setattr(text, "_PIECE", 1000)
    scratch = Scratch(folder, 100, run)
    large = parsed(kept([data], scratch), 5, LandingRules(), scratch)
    assert_same(large, parsed(data, 5, LandingRules(), None))
    assert isinstance(large, ParsedFile)
    assert isinstance(large.ordered, Spill) == (run < 300 and case != "all rejected")
    bounded = [len(part) for part in large.ordered.parts()]
    assert max(bounded, default=0) <= max(run, 300 / run + 15, 15) or run >= 300


@given(st.lists(st.lists(st.tuples(*[st.integers(0, 2)] * 5), max_size=30), min_size=1, max_size=6), st.integers(1, 40))
@examples(150)
def test_ranges_split_no_order_and_hold_no_more_than_is_sorted_together(
    drawn: list[list[tuple[int, ...]]], most: int
) -> None:
    runs = [run_of(sorted(set(own))) for own in drawn]
    found = list(ranges(runs, most))
    for number, run in enumerate(runs):
        assert rows_of([slices[number] for slices in found]) == rows_of([run])
    spans = [rows_of(slices) for slices in found]
    filled = [span for span in spans if span]
    assert all(max(before) < min(after) for before, after in pairwise(filled))
    assert max(map(len, spans)) <= max(most, 2 * len(runs))


def run_of(keys: Sequence[tuple[int, ...]]) -> ReadingArrays:
    """Of (station, parameter, time, id, value)."""
    station, parameter, time, reading, value = np.array(keys, "int64").reshape(-1, 5).T.copy()
    return ReadingArrays(reading - (reading == 0), station, parameter.astype("int32"), time, value.astype("float64"))


def rows_of(parts: Sequence[ReadingArrays]) -> list[tuple[float, ...]]:
    whole = concatenated(parts)
    by_rank = (whole.station_id, whole.parameter_id, whole.time, whole.reading_id, whole.value)
    return list(zip(*(column.tolist() for column in by_rank), strict=True))


def test_a_spill_gives_back_what_was_added_and_what_the_ledger_is_told(folder: Path) -> None:
    spill = Spill(Scratch(folder, 1, 1))
    assert (len(spill), list(spill.parts())) == (0, [])
    assert_same_facts(spill.facts(), Facts())
    parts = [run_of([(1, 2, 3, 0, 1)]), run_of([]), run_of([(1, 2, 5, 1, 1), (4, 9, 86_400_000_000, 2, 2)])]
    for part in parts:
        spill.add(part)
    assert [rows_of([part]) for part in spill.parts()] == [rows_of([part]) for part in parts]
    assert_same_facts(spill.facts(), concatenated(parts).facts())
    assert NO_ID in next(iter(spill.parts())).reading_id


@given(st.binary(max_size=60), st.binary(min_size=1, max_size=2), st.integers(1, 9), st.integers(0, 60))
@example(b"\r\n\r\n\r\n", b"\r\n", 1, 0)
@examples(150)
def test_what_is_mapped_is_counted_as_bytes_are(
    folder: Path, data: bytes, wanted: bytes, piece: int, start: int
) -> None:
    text = kept([data, b"."], Scratch(folder, 0, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scratch_module, "_PIECE", piece)
        if len(set(wanted)) == len(wanted):
            assert count(text, wanted, start, len(data)) == data.count(wanted, start, len(data))


def test_gzip_that_unpacks_to_more_than_memory_is_kept_on_disk_and_has_the_same_bound(folder: Path) -> None:
    packed, scratch = gzip.compress(b"x" * 5000), Scratch(folder, 100, 1)
    assert isinstance(decoded(packed, 5000, scratch).data, bytes) is False
    assert decoded(packed, 5000, scratch).data[:] == b"x" * 5000
    with pytest.raises(LandingFileRefused, match=r"more bytes than BTS_MAX_FILE_BYTES allows \(4999\)"):
        decoded(packed, 4999, scratch)


@pytest.mark.parametrize("size", [10, 99, 100, 101, 1 << 21])
def test_a_copy_has_the_bytes_and_the_digest_of_the_file(tmp_path: Path, folder: Path, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    (tmp_path / "a.csv").write_bytes(data)
    (file,) = look(tmp_path).files
    copy, digest = copy_settled(tmp_path, file, size, Scratch(folder, 100, 1))
    assert (copy[:], digest) == (data, digest_of(data))
    assert isinstance(copy, bytes) == (size <= 100)
    (tmp_path / "a.csv").write_bytes(data + b".")
    for read in (lambda: copy_settled(tmp_path, file, size, Scratch(folder, 100, 1)),
                 lambda: read_settled(tmp_path, file, size)):  # fmt: skip
        with pytest.raises(StillChanging):
            read()


def test_a_copy_outlives_a_landing_file_that_is_cut_short(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"x" * 100_000)
    (file,) = look(tmp_path).files
    copy, _ = copy_settled(tmp_path, file, 1 << 20, Scratch(folder, 1, 1))
    (tmp_path / "a.csv").write_bytes(b"")
    assert copy[99_999:] == b"x"


@given(st.binary(max_size=40), st.integers(1, 5))
@examples(200)
def test_bytes_in_pieces_decode_as_a_whole(data: bytes, piece: int) -> None:
    for begin in (b"", codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        whole = outcome(begin + data)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(text, "_PIECE", piece)
            assert outcome(begin + data) == whole == by_the_book(begin + data)


def outcome(data: bytes) -> object:
    try:
        found = decoded(data)
    except LandingFileRefused:
        return None
    return found.data, found.encoding


def by_the_book(data: bytes) -> object:
    if data.startswith(b"\x1f\x8b"):
        return outcome(data)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return data.decode("utf-16").encode(), "utf-16"
        except UnicodeError:
            return None
    rest = data.removeprefix(codecs.BOM_UTF8)
    try:
        rest.decode()
    except UnicodeError:
        return rest.decode("utf-8", "backslashreplace").encode(), "not utf-8"
    return rest, "utf-8" if rest is data else "utf-8-bom"
