"""Small files parsed together: what parsing costs beside the rows is then paid once for all that are written alike.

Decided here are only files in one form of time, of which no row has a say in how another is read: none has a name where
an id should be, a value with a comma or a time that is none, and no quoted cell goes on over a line end. Any other file
is left to `files.parse_landing_file`, which says the same of these.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.landing.dialect import LandingRules
from bts_assets.landing.errors import LandingFileRefused
from bts_assets.landing.files import ParsedFile, latest_of
from bts_assets.landing.header import Header, read_header
from bts_assets.landing.judge import Judge
from bts_assets.landing.reading_arrays import canonical_order, repeats_previous
from bts_assets.landing.reasons import Reason, Rejections
from bts_assets.landing.records import has_lone_returns
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
    rejected_kept: int | None = None,
) -> list[ParsedFile | None]:
    """Of each file what `parse_landing_file` says of it; None where that has to be asked: the file is not plain, or no
    other one is written like it. What else is among `files` decides only which are None.
    """
    latest = latest_of(now, max_skew)
    parsed: list[ParsedFile | None] = [None] * len(files)
    for header, bodies in _written_alike(files, rules):
        if len(bodies) > 1:
            judge = Judge(header.dialect, rules, landing_timezone, catalogue, latest, None, decided=True)
            found = _parse(header, list(bodies.values()), judge, rules, rejected_kept)
            for number, one in zip(bodies, found, strict=True):
                parsed[number] = one
    return parsed


def _written_alike(files: Sequence[bytes], rules: LandingRules) -> Iterator[tuple[Header, dict[int, bytes]]]:
    """The records of plain files, by the file's number, together where headers and forms of time are the same."""
    headers: dict[bytes, Header | None] = {}
    alike: dict[tuple[bytes, bool, bytes], dict[int, bytes]] = {}
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
            alike.setdefault((first, b'"' in body, form), {})[number] = body if body.endswith(b"\n") else body + b"\n"
    for (first, *_), bodies in alike.items():
        if header := headers[first]:
            yield header, bodies


def _is_plain(data: bytes) -> bool:
    """Whether bytes are their own text (of UTF-16 without a mark the header says so), and every line feed, and nothing
    else, ends a record: quotes protect none.
    """
    if not data.isascii() or has_lone_returns(data, 0, len(data)):
        return False
    return b'"' not in data or not any(line.count(b'"') % 2 for line in data.split(b"\n"))


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


def _parse(
    header: Header, bodies: Sequence[bytes], judge: Judge, rules: LandingRules, kept: int | None
) -> list[ParsedFile | None]:
    tables = list(read_tables(b"".join(bodies), replace(header, start=0)))
    if len(tables) > 1:
        return [None] * len(bodies)
    (table,) = tables
    readings, reason = judge(table)
    if len(judge.forms) != 1:
        return [None] * len(bodies)
    files = _Files.of(table, bodies, header)
    # Of a file without a time nothing says which form it is written in.
    is_ours = np.zeros(len(bodies), bool)
    is_ours[files.file[judge.has_time]] = True
    is_ours[files.file[_has_a_say(table, reason, rules)]] = False
    # Within a file the order is canonical; rows that are equal are interchangeable.
    accepted = np.flatnonzero(reason == 0)
    order = accepted[canonical_order(readings.take(accepted))]
    order = order[np.argsort(files.file[order], kind="stable")]
    ordered, of_file = readings.take(order), files.file[order]
    repeated = repeats_previous(ordered)
    repeated[1:] &= of_file[1:] == of_file[:-1]
    rows = (np.diff(files.rows) + np.diff(files.ragged)).tolist()
    duplicates = np.bincount(of_file[repeated], minlength=len(bodies)).tolist()
    unique, of_file = ordered.take(~repeated), of_file[~repeated]
    edges = np.searchsorted(of_file, np.arange(len(bodies) + 1)).tolist()
    dialect = replace(judge.dialect, times=judge.forms, quoted=table.block.quoted)
    has_rejections = np.diff(files.ragged) > 0
    has_rejections[files.file[reason != 0]] = True

    def parsed(i: int) -> ParsedFile:
        rejections = files.rejections(i, reason, kept) if has_rejections[i] else None
        accepts = edges[i] < edges[i + 1]
        return ParsedFile(
            ordered=unique.take(slice(edges[i], edges[i + 1])),
            rejected=rejections.frame() if rejections else _NO_REJECTIONS,
            rows=rows[i],
            duplicates=duplicates[i],
            reasons=rejections.counts() if rejections else {},
            dialect=dialect,
            cause=rejections.cause(header) if rejections and not accepts else None,
        )

    return [parsed(i) if is_ours[i] else None for i in range(len(bodies))]


@dataclass(frozen=True)
class _Files:
    """Which rows of a table are which file's. file: of each row; lines, rows, ragged: where the lines, rows and ragged
    lines of each file begin, and where those of the last end.
    """

    table: Table
    header: Header
    file: np.ndarray
    lines: np.ndarray
    rows: np.ndarray
    ragged: np.ndarray

    @staticmethod
    def of(table: Table, bodies: Sequence[bytes], header: Header) -> "_Files":
        lines = np.cumsum([0, *(body.count(b"\n") for body in bodies)])
        block = table.block
        rows, ragged = (np.searchsorted(each, lines) for each in (block.lines, block.ragged))
        return _Files(table, header, np.repeat(np.arange(len(bodies)), np.diff(rows)), lines, rows, ragged)

    def rejections(self, i: int, reason: np.ndarray, kept: int | None) -> Rejections:
        """What was rejected of a file, with the lines as they are counted in it."""
        block, rows = self.table.block, slice(self.rows[i], self.rows[i + 1])
        ragged = block.ragged[self.ragged[i] : self.ragged[i + 1]]
        part = Table(
            replace(block, lines=block.lines[rows], ragged=ragged),
            self.header.first_line - int(self.lines[i]),
            {name: texts[rows] for name, texts in self.table.columns.items()},
        )
        rejections = Rejections(kept)
        rejections.add(part, reason[rows])
        return rejections


def _has_a_say(table: Table, reason: np.ndarray, rules: LandingRules) -> np.ndarray:
    """Which rows were rejected for something that could change how their file is read."""
    say = (reason != 0) & ~np.isin(reason, [why.number for why in _OF_THE_ROW_ALONE])
    broken = np.flatnonzero(reason == Reason.VALUE.number)
    if len(broken) and not rules.decimal:
        with_comma = pc.match_substring(table.columns["value"].take(pa.array(broken)), ",")
        say[broken] |= with_comma.to_numpy(zero_copy_only=False)
    return say


_OF_THE_ROW_ALONE: Final = (Reason.VALUE, Reason.SENTINEL, Reason.RANGE, Reason.FUTURE, Reason.ANCIENT)
_NO_REJECTIONS: Final = Rejections(None).frame()
