"""The header of a landing file: where our columns stand in it, and which delimiter it is written with.

What our columns are called: contracts/landing_columns.py, unless the setting BTS_LANDING_COLUMNS gives other names.
"""

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from bts_assets.contracts.landing_columns import LANDING_COLUMNS
from bts_assets.landing.cells import PADDING
from bts_assets.landing.dialect import Dialect
from bts_assets.landing.errors import LandingFileRefused
from bts_assets.landing.scratch import Bytes, count
from bts_assets.landing.text import Text, printable_line

#: The id of a reading is optional.
_REQUIRED: Final = LANDING_COLUMNS[1:]

#: A longer first line is no header.
LONGEST_HEADER: Final = 1 << 16
#: Tried in this order; a line `sep=` above the header names any other.
_DELIMITERS: Final = (",", ";", "\t", "|")
_SEPARATOR_LINE: Final = re.compile(rb'"?sep=(.)"?[ \t]*', re.IGNORECASE)
_NOT_BLANK: Final = re.compile(rb"[^ \t\r\n]")


@dataclass(frozen=True)
class Header:
    """The columns of a file: how many, where ours are; the line of the first record, from 1, and where it begins."""

    dialect: Dialect
    fields: int
    positions: dict[str, int]
    first_line: int
    start: int


def read_header(text: Text, columns: Mapping[str, str]) -> Header:
    """Find the header, and by it the delimiter: the one that gives every needed column.

    Raises:
        LandingFileRefused: if there is no header, or it lacks a column or names one twice.
    """
    line, number, start = _first_line(text.data, 0, 1)
    dialect = Dialect(text.encoding, text.compression, ",")
    if match := _SEPARATOR_LINE.fullmatch(line):
        line, number, start = _first_line(text.data, start, number)
        dialect = replace(dialect, delimiter=match[1].decode("latin-1"), separator_line=True)
    wanted = {name: _plain(columns.get(name, name)) for name in LANDING_COLUMNS}
    tried = (dialect.delimiter,) if dialect.separator_line else _DELIMITERS
    names, delimiter = max(
        ((_split(line, delimiter), delimiter) for delimiter in tried),
        # Where delimiters give equally many, `max` takes the first.
        key=lambda found: len([name for name in wanted if _find(found[0], wanted[name], name) is not None]),
    )
    positions = _choose(names, wanted, line, delimiter)
    return Header(replace(dialect, delimiter=delimiter), len(names), positions, number, start)


def _first_line(text: Bytes, start: int, number: int) -> tuple[bytes, int, int]:
    """The first line that is not blank, the number of the line after it, and where that one begins."""
    found = _NOT_BLANK.search(text, start)
    if not found:
        raise LandingFileRefused("the file is empty" if not start else "the file has no header")
    begin = found.start()
    # A tab before the first name belongs to the header.
    line_start = max(start, text.rfind(b"\n", start, begin) + 1, text.rfind(b"\r", start, begin) + 1)
    line = text[line_start : line_start + LONGEST_HEADER + 1].splitlines()[0]
    if b"\0" in line:
        raise LandingFileRefused("the file is not text: its first line holds NUL bytes")
    if len(line) > LONGEST_HEADER:
        why = f"the first line has over {LONGEST_HEADER} bytes, so it is no header: {_shown(line.decode()[:300])}"
        raise LandingFileRefused(why)
    end = line_start + len(line)
    end += 2 if text[end : end + 2] == b"\r\n" else len(text[end : end + 1])
    return line, number + _count_lines(text, start, line_start) + 1, end


def _count_lines(text: Bytes, start: int, end: int) -> int:
    lines, returns, both = (count(text, wanted, start, end) for wanted in (b"\n", b"\r", b"\r\n"))
    return lines + returns - both


def _split(line: bytes, delimiter: str) -> list[str]:
    try:
        names = next(csv.reader([line.decode()], delimiter=delimiter, skipinitialspace=True))
    except (csv.Error, TypeError):
        names = line.decode().split(delimiter)
    return [_plain(name) for name in names]


def _shown(header: str) -> str:
    text = printable_line(header.encode(), longest=200)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _plain(name: str) -> str:
    return name.strip(PADDING).lower()


def _find(names: list[str], wanted: str, ours: str) -> int | None:
    """The position of a column: by the name that a setting gives it, else by ours."""
    return names.index(wanted) if wanted in names else names.index(ours) if ours in names else None


def _choose(names: list[str], wanted: Mapping[str, str], line: bytes, delimiter: str) -> dict[str, int]:
    shown = _shown(delimiter.join(names))
    positions = {ours: _find(names, name, ours) for ours, name in wanted.items()}
    for position in positions.values():
        if position is not None and names.count(names[position]) > 1:
            raise LandingFileRefused(f"column '{names[position]}' stands twice; the header is: {shown}")
    for ours in _REQUIRED:
        if positions[ours] is None:
            hint = _hint(names, [n for n in _REQUIRED if positions[n] is None], line)
            raise LandingFileRefused(f"column '{wanted[ours]}' is missing; the header is: {shown}{hint}")
    return {ours: position for ours, position in positions.items() if position is not None}


def _hint(names: list[str], missing: list[str], line: bytes) -> str:
    if line.startswith((b"#", b"//", b"%", b"--")):
        return "; a comment above the header? remove it"
    alike = {re.sub(r"[^a-z0-9]+", "_", name).strip("_"): name for name in names}
    if all(name in alike for name in missing):
        return f"; set BTS_LANDING_COLUMNS={','.join(f'{name}={alike[name]}' for name in missing)}"
    if not any(letter.isalpha() for name in names for letter in name):
        return "; a first line without names? put the header above it"
    return f"; set BTS_LANDING_COLUMNS, for example {missing[0]}=NAME, if it has another name"
