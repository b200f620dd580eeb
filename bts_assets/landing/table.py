"""The sound records of a landing file cut into cells of text, by column. What the cells mean is for `cells`."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from bts_assets.landing.errors import LandingFileRefused
from bts_assets.landing.header import Header
from bts_assets.landing.records import MARKS, Block, blocks

#: Arrow counts the bytes of a block in an int32, and a block may be one record.
_LARGEST: Final = (1 << 31) - 2


@dataclass(frozen=True)
class Table:
    """Cells as text by column name, of the block's sound records; `first_line`: of the file, where the block begins."""

    block: Block
    first_line: int
    columns: dict[str, pa.StringArray]


def read_tables(text: bytes, header: Header) -> Iterator[Table]:
    """The records after the header, block by block.

    Raises:
        LandingFileRefused: if a single record is too long to be cut.
    """
    line = header.first_line
    for block in blocks(text, header.start, header.dialect.delimiter, header.fields):
        if block.sound.nbytes > _LARGEST:
            raise LandingFileRefused(f"one row has over {_LARGEST} bytes")
        yield Table(block, line, _cells(block, header))
        line += block.count


def _cells(block: Block, header: Header) -> dict[str, pa.StringArray]:
    if not block.sound.nbytes:
        return {name: pa.array([], pa.string()) for name in header.positions}
    names = [f"column {i}" for i in range(header.fields)]
    table = pa.csv.read_csv(
        pa.BufferReader(pa.py_buffer(block.sound)),
        # One block: a record can then never be longer than its block. Callers run files side by side instead.
        read_options=pa.csv.ReadOptions(use_threads=False, block_size=block.sound.nbytes + 1, column_names=names),
        parse_options=pa.csv.ParseOptions(
            delimiter=header.dialect.delimiter, quote_char=False, ignore_empty_lines=False
        ),
        convert_options=pa.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            include_columns=[names[i] for i in header.positions.values()],
            strings_can_be_null=False,
            check_utf8=False,
        ),
    )
    columns = {name: table[names[i]].combine_chunks() for name, i in header.positions.items()}
    if not block.marked:
        return columns
    return {name: _unmarked(texts, header.dialect.delimiter) for name, texts in columns.items()}


def _unmarked(texts: pa.StringArray, delimiter: str) -> pa.StringArray:
    """The cells with the delimiters and line ends that stood within their quotes."""
    for mark, letter in MARKS.items():
        texts = pc.replace_substring(texts, mark, letter or delimiter)
    return texts
