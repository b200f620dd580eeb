"""Why rows are rejected: the reasons, the rows that are kept to be looked at, and what most likely is behind a file of
which no row could be used. Which row has which reason is judged in `judge.py`.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import pandas as pd

from bts_assets.landing import cells
from bts_assets.landing.header import Header
from bts_assets.landing.names import is_undecoded
from bts_assets.landing.table import Table
from bts_assets.landing.text import printable_line

#: The most characters of a cell that a message shows.
_LONGEST_SHOWN: Final = 60


class Reason(StrEnum):
    """Why a row is rejected; a row with several faults has the first of these. Stored and counted: keep the words."""

    COLUMNS = "wrong number of columns"
    STATION = "broken station_id"
    PARAMETER = "broken parameter_id"
    DECIMAL = "value with a comma that could be decimal or group thousands"
    VALUE = "broken value"
    SENTINEL = "sentinel value"
    RANGE = "value outside the valid range"
    TIME = "broken reading_time"
    DAY_ORDER = "reading_time whose day could be its month"
    UNPLACED = "reading_time ambiguous or non-existent in the landing zone"
    FUTURE = "reading_time in the future"
    ANCIENT = "reading_time before 2000"

    @property
    def number(self) -> int:
        """From 1; 0 stands for none."""
        return _REASONS.index(self) + 1


_REASONS: Final = tuple(Reason)

#: The column whose cell says most about a reason.
_COLUMN: Final = {
    Reason.STATION: "station_id",
    Reason.PARAMETER: "parameter_id",
    Reason.TIME: "reading_time",
    Reason.DAY_ORDER: "reading_time",
    Reason.UNPLACED: "reading_time",
    Reason.FUTURE: "reading_time",
    Reason.ANCIENT: "reading_time",
    Reason.DECIMAL: "value",
    Reason.VALUE: "value",
    Reason.SENTINEL: "value",
    Reason.RANGE: "value",
}


@dataclass(frozen=True)
class _Kept:
    line: int
    raw: str
    reason: str


class Rejections:
    """The rejected rows of a file, gathered block by block; text only of the first `kept` (None: of all)."""

    def __init__(self, kept: int | None) -> None:
        self._room = kept
        self._counts = np.zeros(len(_REASONS) + 1, "int64")
        self._kept: list[_Kept] = []
        self._example: dict[Reason, str] = {}

    def add(self, table: Table, reason: np.ndarray) -> None:
        """The rows of a table that have a reason, and those that were never cut."""
        block = table.block
        self._counts += np.bincount(reason, minlength=len(self._counts))
        self._counts[Reason.COLUMNS.number] += len(block.ragged)
        for why in _COLUMN:
            if why not in self._example and len(rows := np.flatnonzero(reason == why.number)[:1]):
                self._example[why] = _shown(table.columns[_COLUMN[why]][int(rows[0])].as_py())
        if len(block.ragged) and Reason.COLUMNS not in self._example:
            self._example[Reason.COLUMNS] = printable_line(block.raw(int(block.ragged[0])), longest=2000)
        self._keep(table, np.flatnonzero(reason), reason)

    def _keep(self, table: Table, rows: np.ndarray, reason: np.ndarray) -> None:
        block, room = table.block, self._room
        rows, ragged = rows[:room], block.ragged[:room]
        lines = np.concatenate([block.lines[rows], ragged])
        numbers = np.concatenate([reason[rows], np.full(len(ragged), Reason.COLUMNS.number, "uint8")])
        for i in np.argsort(lines)[:room]:
            line = int(lines[i])
            text = printable_line(block.raw(line))
            self._kept.append(_Kept(table.first_line + line, text, str(_REASONS[numbers[i] - 1])))
        if room is not None:
            self._room = max(room - len(lines), 0)

    def counts(self) -> dict[str, int]:
        """How many rows were rejected for each reason that occurs, in order of the words."""
        return dict(sorted((str(r), int(self._counts[r.number])) for r in Reason if self._counts[r.number]))

    def frame(self) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "line": np.array([k.line for k in self._kept], "int64"),
                "raw": pd.Series([k.raw for k in self._kept], dtype="str"),
                "reason": pd.Series([k.reason for k in self._kept], dtype="str"),
            }
        )

    def cause(self, header: Header) -> str:
        """In one sentence, why a file gave no reading, by the reason of most of its rows."""
        if not self._counts[1:].any():
            return "it has a header and no rows"
        most = max(Reason, key=lambda r: self._counts[r.number])
        rows = int(self._counts[1:].sum())
        of = f"all {rows:,}" if self._counts[most.number] == rows else f"{self._counts[most.number]:,} of {rows:,}"
        return f"{of} rows: {most}; {_likely(most, self._example[most], header)}"


def _likely(reason: Reason, example: str, header: Header) -> str:
    if reason is Reason.COLUMNS:
        return _of_columns(example, header)
    if reason is Reason.DAY_ORDER:
        return f"is '{example}' day/month or month/day? set BTS_LANDING_DAYFIRST=true or false{_proof(example)}"
    if reason is Reason.DECIMAL:
        return f"is '{example}' a decimal comma? set BTS_LANDING_DECIMAL=comma or point"
    if reason is Reason.TIME:
        return f"'{example}' is not a time that can be read{_of_time(example)}; write it like 2026-11-24T10:00:00Z"
    if reason is Reason.VALUE and (mark := cells.decimal_of_grouped(example)):
        return f"'{example}' has its thousands grouped; set BTS_LANDING_DECIMAL={mark}"
    if reason is Reason.VALUE:
        return f"'{example}' is not a number; is the column right? (BTS_LANDING_COLUMNS=value=NAME)"
    if reason in (Reason.FUTURE, Reason.UNPLACED):
        return f"'{example}': are times without an offset in BTS_LANDING_TIMEZONE?"
    if reason is Reason.ANCIENT:
        return f"'{example}': a clock that was never set, or another column (BTS_LANDING_COLUMNS=reading_time=NAME)?"
    if reason in (Reason.SENTINEL, Reason.RANGE):
        return f"value {example}: is the parameter what the catalogue says, in its unit?"
    if is_undecoded(example):
        return f"'{example}' holds bytes that are no UTF-8; write the file in UTF-8"
    column = f"is the column right? (BTS_LANDING_COLUMNS={_COLUMN[reason]}=NAME)"
    return f"'{example}' is neither a number from 0 nor a name; {column}"


def _of_columns(line: str, header: Header) -> str:
    delimiter = header.dialect.delimiter
    fields = line.count(delimiter) + 1
    others = {d: n for d, n in (("semicolon", ";"), ("comma", ","), ("tab", "\t")) if n != delimiter}
    for name, other in others.items():
        if line.count(other) + 1 == header.fields:
            return f"the header is cut at {_word(delimiter)} and its rows at {name}?"
    return f"the header has {header.fields} fields, a row {fields}: {_shown(line)}"


def _word(delimiter: str) -> str:
    return {";": "semicolon", ",": "comma", "\t": "tab"}.get(delimiter, delimiter)


def _of_time(example: str) -> str:
    if re.fullmatch(r"[0-9.]+", example):
        return " (an epoch is one between 2000 and 2100, in s, ms, us or ns)"
    if re.match(r"[0-9]{1,2}[/.-][0-9]{1,2}[/.-][0-9]{4}", example):
        return " (BTS_LANDING_DAYFIRST the other way round?)"
    return ""


def _proof(example: str) -> str:
    """What a date such as 24/11/2026 says of itself."""
    first, second = (int(n) for n in re.findall(r"[0-9]+", example)[:2])
    return " (true, by this one)" if first > 12 else " (false, by this one)" if second > 12 else ""


def _shown(cell: str) -> str:
    text = cell.strip(' \t"')
    text = text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
