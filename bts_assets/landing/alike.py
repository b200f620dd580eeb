"""Small files parsed together: what parsing costs beside the rows is then paid once for all that are written alike.

Decided here are only files of which every row is a reading, without quotes and in one form of time: of these no row
has a say in how another is read. Any other file is left to `files.parse_landing_file`, which says the same of these.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.landing.dialect import LandingRules
from bts_assets.landing.errors import LandingFileRefused
from bts_assets.landing.files import ParsedFile, latest_of
from bts_assets.landing.header import Header, read_header
from bts_assets.landing.judge import Judge
from bts_assets.landing.reading_arrays import canonical_order, repeats_previous
from bts_assets.landing.reasons import Rejections
from bts_assets.landing.table import Table, read_tables
from bts_assets.landing.text import Text

_NO_RULES: Final = LandingRules()
_DIGITS: Final = b"0123456789"


def parse_alike(
    files: Sequence[bytes],
    catalogue: Catalogue,
    *,
    landing_timezone: ZoneInfo,
    now: datetime,
    max_skew: timedelta,
    rules: LandingRules = _NO_RULES,
) -> list[ParsedFile | None]:
    """Of each file what `parse_landing_file` says of it; None where that has to be asked: the file is not plain, or no
    other one is written like it. What else is among `files` decides only which are None.
    """
    latest = latest_of(now, max_skew)
    parsed: list[ParsedFile | None] = [None] * len(files)

    def judge_of(header: Header) -> Judge:
        return Judge(header.dialect, rules, landing_timezone, catalogue, latest, None, decided=True)

    for header, bodies in _written_alike(files, rules):
        if len(bodies) > 1:
            for number, one in zip(bodies, _parse(header, list(bodies.values()), judge_of), strict=True):
                parsed[number] = one
    return parsed


def _written_alike(files: Sequence[bytes], rules: LandingRules) -> Iterator[tuple[Header, dict[int, bytes]]]:
    """The records of plain files, by the file's number, together where headers and forms of time are the same."""
    headers: dict[bytes, Header | None] = {}
    alike: dict[tuple[bytes, bytes], dict[int, bytes]] = {}
    for number, data in enumerate(files):
        start = data.find(b"\n") + 1
        first, body = data[:start], data[start:]
        if not body or not _is_plain(data):
            continue
        if first not in headers:
            headers[first] = _header(first, rules)
        header = headers[first]
        if header and (form := _form_of_time(body, header)) is not None:
            # An end of line that the last record lacks is no record.
            alike.setdefault((first, form), {})[number] = body if body.endswith(b"\n") else body + b"\n"
    for (first, _), bodies in alike.items():
        if header := headers[first]:
            yield header, bodies


def _is_plain(data: bytes) -> bool:
    """Whether bytes are their own text (of UTF-16 without a mark the header says so), and every line feed, and nothing
    else, ends a record: quotes protect none.
    """
    return data.isascii() and b'"' not in data and (b"\r" not in data or data.count(b"\r") == data.count(b"\r\n"))


def _header(first: bytes, rules: LandingRules) -> Header | None:
    """The header, if the first line is one: no blank line, and none that names the delimiter."""
    try:
        return read_header(Text(first, "utf-8", "none"), rules.columns)
    except LandingFileRefused:
        return None


def _form_of_time(body: bytes, header: Header) -> bytes | None:
    """What is no digit in the first record's time: a guess, so that a file of another form keeps to its like."""
    cells = body[: body.find(b"\n")].split(header.dialect.delimiter.encode("latin-1"))
    at = header.positions["reading_time"]
    return cells[at].translate(None, _DIGITS) if at < len(cells) else None


def _parse(header: Header, bodies: Sequence[bytes], judge_of: Callable[[Header], Judge]) -> list[ParsedFile | None]:
    tables = list(read_tables(b"".join(bodies), replace(header, start=0)))
    if len(tables) > 1:
        return [None] * len(bodies)
    (table,), judge = tables, judge_of(header)
    readings, reason = judge(table)
    if len(judge.forms) != 1:
        return [None] * len(bodies)
    file, is_sound = _files_of_rows(table, bodies, reason)
    # Within a file the order is canonical; rows that are equal are interchangeable.
    order = canonical_order(readings)
    order = order[np.argsort(file[order], kind="stable")]
    ordered, of_file = readings.take(order), file[order]
    repeated = repeats_previous(ordered)
    repeated[1:] &= of_file[1:] == of_file[:-1]
    rows = np.bincount(file, minlength=len(bodies)).tolist()
    duplicates = np.bincount(of_file[repeated], minlength=len(bodies)).tolist()
    accepted, of_file = ordered.take(~repeated), of_file[~repeated]
    edges = np.searchsorted(of_file, np.arange(len(bodies) + 1)).tolist()
    dialect = replace(judge.dialect, times=judge.forms)
    return [
        ParsedFile(
            arrays=accepted.take(slice(edges[i], edges[i + 1])),
            rejected=_NO_REJECTIONS,
            rows=rows[i],
            duplicates=duplicates[i],
            reasons={},
            dialect=dialect,
            cause=None,
        )
        if is_sound[i]
        else None
        for i in range(len(bodies))
    ]


def _files_of_rows(table: Table, bodies: Sequence[bytes], reason: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The file of each row, and which files have rows and only such as are readings."""
    ends = np.cumsum([body.count(b"\n") for body in bodies])
    file = np.searchsorted(ends, table.block.lines, side="right")
    is_sound = np.zeros(len(bodies), bool)
    is_sound[file] = True
    is_sound[file[reason != 0]] = False
    is_sound[np.searchsorted(ends, table.block.ragged, side="right")] = False
    return file, is_sound


_NO_REJECTIONS: Final = Rejections(None).frame()
