"""Blocks of a landing file as tables of cells: whichever way a block is cut, it holds the same."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bts_assets.contracts.catalogue import load_catalogue
from bts_assets.landing import table
from bts_assets.landing.dialect import Dialect
from bts_assets.landing.files import parse_landing_file
from bts_assets.landing.header import Header
from bts_assets.landing.table import read_tables
from examples import examples

plain_lines = st.lists(
    st.lists(st.sampled_from([",", ",", "7", " ", "\r", "ä", "\ufeff"]), max_size=7).map("".join), max_size=12
)


@given(plain_lines, st.sampled_from(["\n", "\r\n"]), st.booleans(), st.integers(1, 80), st.integers(0, 3))
@example(["7,7,7,7"], "\n", False, 80, 0)
@example(["7,7,7,7", ""], "\r\n", True, 80, 0)
@example(["7", "\ufeff7,7,7,7", "7,7,7,7"], "\n", True, 80, 3)
@example(["", "7,7,7,7"], "\n", True, 80, 3)
@example(["", "7,7,7,7"], "\r\n", True, 80, 3)
@example(["7,7,7,7", " ,", "7,7,7,7", "7", "7"], "\n", True, 80, 3)
@examples(200)
def test_blocks_that_are_cut_at_once_hold_what_those_hold_that_are_looked_at_before(
    rows: list[str], end: str, is_ended: bool, size: int, few: int
) -> None:
    text = (end.join(rows) + end * is_ended).encode()
    header = Header(Dialect("utf-8", "none", ","), 4, {"value": 0, "station_id": 1}, 2, 0)

    def told() -> list[tuple[int, bytes, list[str]]]:
        found = []
        for one in read_tables(text, header):
            cells = zip(*(texts.to_pylist() for texts in one.columns.values()), strict=True)
            found += [
                (one.first_line + at, one.block.raw(at), list(row))
                for at, row in zip(one.block.lines, cells, strict=True)
            ]
            found += [(one.first_line + at, one.block.raw(at), []) for at in one.block.ragged]
        return sorted(found)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "BLOCK", size)
        patch.setattr(table, "_FEW", few)
        at_once = told()
        patch.setattr(table, "plain_stretch", lambda *_: None)
        assert at_once == told()


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_empty_lines_take_no_memory_of_columns(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cells: list[int] = []
    cut = table._cells
    monkeypatch.setattr(table, "_cells", lambda records, *of: cells.append(len(records)) or cut(records, *of))
    header = b"id,value,station_id,parameter_id,reading_time," + b",".join(b"c%d" % n for n in range(300))
    row = b"1,11.5,1161114004,122,2019-10-20 04:00:21" + b"," * 300
    data = end.encode().join([header, row, *[b""] * 10_000, row, b"ragged", b""])
    parsed = parse_landing_file(
        data,
        load_catalogue(),
        landing_timezone=ZoneInfo("UTC"),
        now=datetime(2019, 11, 5, tzinfo=UTC),
        max_skew=timedelta(0),
    )
    assert (parsed.accepted, parsed.duplicates, parsed.rows) == (1, 1, 3)
    assert sum(cells) < 3 * len(row)
