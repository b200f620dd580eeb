"""The lines of a landing file cut into cells of text, by column. What the cells mean is for `cells` and `files`."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from bts_assets.landing.cells import PADDING
from bts_assets.landing.errors import LandingFileRefused
from bts_assets.landing.text import lines_of, printable_line

REQUIRED_COLUMNS: Final = ("value", "station_id", "parameter_id", "reading_time")
OPTIONAL_COLUMNS: Final = ("id",)
#: Arrow counts the bytes of a block in an int32.
_LARGEST: Final = (1 << 31) - 2


@dataclass(frozen=True)
class Table:
    """Cells as text by column name; where rows and lines of the wrong width stand, counted from the first data line."""

    text: bytes
    first_line: int
    columns: dict[str, pa.StringArray]
    ragged: np.ndarray
    blank: np.ndarray

    def lines(self, rows: np.ndarray) -> np.ndarray:
        """The data lines that rows come from."""
        absent = np.sort(np.concatenate([self.ragged, self.blank]))
        return rows + np.searchsorted(absent - np.arange(len(absent)), rows, side="right")


def read_table(text: bytes) -> Table:
    """Cut UTF-8 text into cells; names in the header may differ in case, blanks and quotes.

    Raises:
        LandingFileRefused: if there is no header, or it lacks a column or names one twice.
    """
    header, first_line, start = _header(text)
    chosen = _choose(header)
    body = pa.py_buffer(text).slice(start)
    if body.size > _LARGEST:
        raise LandingFileRefused(f"{body.size} bytes are more than one file may have ({_LARGEST}); split it")
    ragged: list[int] = []
    blank: list[int] = []

    def note(row: pa.csv.InvalidRow) -> str:
        (ragged if row.text.strip(" \t") else blank).append(row.number - 1)
        return "skip"

    names = [f"column {i}" for i in range(len(header))]
    if not body.size:
        return Table(text, first_line, {name: pa.array([], pa.string()) for name in chosen}, *_positions([], []))
    table = pa.csv.read_csv(
        pa.BufferReader(body),
        # One block: a line can then never be longer than its block. Callers run files side by side instead.
        read_options=pa.csv.ReadOptions(use_threads=False, block_size=body.size + 1, column_names=names),
        parse_options=pa.csv.ParseOptions(quote_char=False, ignore_empty_lines=False, invalid_row_handler=note),
        convert_options=pa.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            include_columns=[names[i] for i in chosen.values()],
            strings_can_be_null=False,
            check_utf8=False,
        ),
    )
    columns = {name: table[names[i]].combine_chunks() for name, i in chosen.items()}
    return _without_empty_lines(Table(text, first_line, columns, *_positions(ragged, blank)))


def _positions(*lines: list[int]) -> list[np.ndarray]:
    return [np.array(numbers, "int64") for numbers in lines]


def _without_empty_lines(table: Table) -> Table:
    """Arrow makes a row of empty cells of an empty line, which only the line itself tells from a row of commas."""
    empty = np.flatnonzero(pc.equal(pc.binary_length(table.columns["station_id"]), 0).to_numpy(zero_copy_only=False))
    lines = table.lines(empty)
    is_blank = np.array([not line for line in lines_of(table.text, lines + table.first_line)], bool)
    if not is_blank.any():
        return table
    kept = np.ones(len(table.columns["station_id"]), bool)
    kept[empty[is_blank]] = False
    columns = {name: texts.filter(pa.array(kept)) for name, texts in table.columns.items()}
    return replace(table, columns=columns, blank=np.concatenate([table.blank, lines[is_blank]]))


def _header(text: bytes) -> tuple[list[str], int, int]:
    """The column names, the physical line of the first data line, and where it begins."""
    stripped = text.lstrip(b" \t\r\n")
    if not stripped:
        raise LandingFileRefused("the file is empty")
    line = stripped.splitlines()[0] if len(stripped) < 1 << 16 else stripped[: 1 << 16].splitlines()[0]
    if b"\0" in line:
        raise LandingFileRefused("the file is not text: its first line holds NUL bytes")
    before = text[: len(text) - len(stripped)] + line
    rest = stripped[len(line) : len(line) + 2]
    ending = 2 if rest == b"\r\n" else len(rest[:1])
    names = [name.strip(PADDING).lower() for name in line.decode().split(",")]
    return names, len(before.splitlines()) + 1, len(before) + ending


def _choose(header: list[str]) -> dict[str, int]:
    shown = printable_line(",".join(header).encode(), longest=200)
    for name in (*OPTIONAL_COLUMNS, *REQUIRED_COLUMNS):
        if header.count(name) > 1:
            raise LandingFileRefused(f"column '{name}' stands twice; the header is: {shown}")
    for name in REQUIRED_COLUMNS:
        if name not in header:
            raise LandingFileRefused(f"column '{name}' is missing; the header is: {shown}")
    return {name: header.index(name) for name in (*OPTIONAL_COLUMNS, *REQUIRED_COLUMNS) if name in header}
