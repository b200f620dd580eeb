"""The sound records of a landing file cut into cells of text, by column. What the cells mean is for `cells`."""

from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from bts_assets.landing.errors import LandingFileRefused
from bts_assets.landing.header import Header
from bts_assets.landing.records import BLOCK, MARKS, Block, blocks, plain_block, plain_stretch
from bts_assets.landing.scratch import Bytes

#: Arrow counts the bytes of a block in an int32, and a block may be one record.
_LARGEST: Final = (1 << 31) - 2

#: A block of which more records are ragged is looked at before it is cut.
_FEW: Final = 1000


@dataclass(frozen=True)
class Table:
    """Cells as text by column name, of the block's sound records; `first_line`: of the file, where the block begins."""

    block: Block
    first_line: int
    columns: dict[str, pa.StringArray]


def read_tables(text: Bytes, header: Header) -> Iterator[Table]:
    """The records after the header, block by block.

    Raises:
        LandingFileRefused: if a single record is too long to be cut.
    """
    line, start, delimiter = header.first_line, header.start, header.dialect.delimiter
    while start < len(text):
        stretch = plain_stretch(text, start, delimiter, header.fields, BLOCK)
        table = _cut_at_once(stretch, header, line) if stretch is not None else None
        table = table or _cut_after_a_look(text, start, header, line)
        yield table
        line += table.block.count
        start += len(table.block.bounds.data)


def _cut_at_once(stretch: np.ndarray, header: Header, line: int) -> Table | None:
    """A plain stretch, cut before anything is known of its lines: Arrow says which have another number of fields.
    Nothing where those are more than a few, or some empty, of which it makes empty cells; or where it gives up.
    """
    if stretch.nbytes > _LARGEST:
        return None
    unsound: list[int] = []

    def left_out(row: pa.csv.InvalidRow) -> str:
        unsound.append(row.number - 1)
        # Each costs as much as looking at a hundred rows.
        return "skip" if len(unsound) <= _FEW else "error"

    try:
        columns = _cells(stretch, header, left_out)
    except (pa.ArrowException, MemoryError):
        return None
    if pc.min(pc.binary_length(columns["station_id"])).as_py() == 0:
        return None
    count = len(next(iter(columns.values()))) + len(unsound)
    block = plain_block(stretch, header.dialect.delimiter, count, np.array(unsound, "int64"))
    return Table(block, line, columns)


def _cut_after_a_look(text: Bytes, start: int, header: Header, line: int) -> Table:
    block = next(blocks(text, start, header.dialect.delimiter, header.fields, BLOCK))
    if block.sound.nbytes > _LARGEST:
        raise LandingFileRefused(f"one row has over {_LARGEST} bytes")
    if not block.sound.nbytes:
        return Table(block, line, {name: pa.array([], pa.string()) for name in header.positions})
    columns = _cells(block.sound, header)
    if block.marked:
        columns = {name: _unmarked(texts, header.dialect.delimiter) for name, texts in columns.items()}
    return Table(block, line, columns)


def _cells(
    records: np.ndarray, header: Header, of_others: Callable[[pa.csv.InvalidRow], str] | None = None
) -> dict[str, pa.StringArray]:
    """The cells of records, cut at every delimiter and line end; `of_others` is asked about those with other numbers of
    fields.
    """
    names = [f"column {i}" for i in range(header.fields)]
    if records[: len(BOM_UTF8)].tobytes() == BOM_UTF8:
        # Arrow drops the one that a text begins with; this one is of a cell.
        records = np.concatenate([records[: len(BOM_UTF8)], records])
    table = pa.csv.read_csv(
        pa.BufferReader(pa.py_buffer(records)),
        # One block: a record can then never be longer than its block. Callers run files side by side instead.
        read_options=pa.csv.ReadOptions(use_threads=False, block_size=records.nbytes + 1, column_names=names),
        parse_options=pa.csv.ParseOptions(
            delimiter=header.dialect.delimiter,
            quote_char=False,
            ignore_empty_lines=False,
            invalid_row_handler=of_others,
        ),
        convert_options=pa.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            include_columns=[names[i] for i in header.positions.values()],
            strings_can_be_null=False,
            check_utf8=False,
        ),
    )
    return {name: table[names[i]].combine_chunks() for name, i in header.positions.items()}


def _unmarked(texts: pa.StringArray, delimiter: str) -> pa.StringArray:
    """The cells with the delimiters and line ends that stood within their quotes."""
    for mark, letter in MARKS.items():
        texts = pc.replace_substring(texts, mark, letter or delimiter)
    return texts
